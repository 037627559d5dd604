//! From flags to a running server.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use apiserver_admission::Chain;
use apiserver_auth::clock;
use apiserver_storage::{Etcd, Store};
use component_base::{shutdown, tls};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::allocators::Allocators;
use crate::allocators::plan::Families;
use crate::definitions::{self, Definitions};
use crate::flowcontrol::Limiter;
use crate::health::Health;
use crate::kubelet::KubeletClient;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::served::Resources;
use crate::server::Server;
use crate::stored::StoredValues;
use crate::{accept, compaction, hooks};

/// Pings on idle connections to etcd.
const ETCD_KEEP_ALIVE: Duration = Duration::from_secs(30);
const ETCD_KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs on a runtime of its own until a signal comes.
pub fn run_blocking(options: Options) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot be started")?;
    runtime.block_on(async {
        let shutdown = shutdown::on_signals().context("signals cannot be taken")?;
        run(options, shutdown).await
    })
}

/// Runs until shutdown.
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    options.validate()?;
    component_base::client::install_crypto_provider();
    let etcd = Etcd::new(connect_etcd(&options).await?);
    let store = Store::new(etcd, Arc::new(StoredValues));
    let authorization = options.auth.authorization.build()?;
    for observer in &authorization.observers {
        store.cache().observe(observer.clone());
    }
    let authentication = options.auth.authentication.build(Arc::new(store.clone()), clock::system())?;
    let metrics = Metrics::new();
    let admission =
        Chain::build(&options.admission, Arc::new(store.clone()), authorization.authorizer.clone(), &metrics.registry)?;
    for observer in admission.observers() {
        store.cache().observe(observer);
    }
    let resources = Arc::new(Resources::builtin());
    let definitions = Arc::new(Definitions::new(resources.clone(), shutdown.clone()));
    store.cache().observe(definitions.clone());
    let limiter = Limiter::new(&options, &metrics.registry);
    if let Some(flow_control) = limiter.flow_control() {
        store.cache().observe(flow_control.clone());
    }
    let listener = TcpListener::bind(SocketAddr::new(options.bind_address, options.secure_port))
        .await
        .with_context(|| format!("cannot listen on {}:{}", options.bind_address, options.secure_port))?;
    let address = listener.local_addr()?;
    let port = address.port();
    let advertise = options.advertise_address.unwrap_or_else(|| advertised(options.bind_address));
    let host = options.external_hostname.clone().unwrap_or_else(|| advertise.to_string());
    let hosts = ["localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc", host.as_str()];
    let certificate = tls::ServingCertificate::from_flags(
        options.tls_cert_file.as_deref(),
        options.tls_private_key_file.as_deref(),
        &hosts,
    );
    let tls = tls::Server::with_verifier(certificate, authentication.client_cert_verifier(), shutdown.clone())?;
    let server = Arc::new(Server {
        resources,
        definitions,
        rbac: authorization.rbac,
        authorizer: authorization.authorizer,
        admission,
        allocators: Allocators::new(
            store.clone(),
            Families(options.service_cluster_ip_range.clone()),
            options.service_node_port_range.clone(),
        ),
        kubelet: KubeletClient {
            store: store.clone(),
            tls: kubelet_tls(&options)?,
            address_types: options.kubelet_preferred_address_types.clone(),
        },
        metrics,
        limiter,
        health: Health {
            store: store.clone(),
            shutdown: shutdown.clone(),
            bootstrapped: Arc::new(AtomicBool::new(false)),
        },
        external_address: format!("{host}:{port}"),
        authentication,
        store: store.clone(),
        shutdown: shutdown.clone(),
    });
    let settings = hooks::Settings {
        advertise,
        port,
        authentication: options.auth.authentication.clone(),
        service_ranges: options.service_cluster_ip_range.iter().map(ToString::to_string).collect(),
    };
    // The cache outlives the connections that read from it.
    let end_of_storing = CancellationToken::new();
    let storing = tokio::spawn(store.run(process_name(address), end_of_storing.clone()));
    let hooks = tokio::spawn(hooks::run(server.clone(), settings, shutdown.clone()));
    let defining = tokio::spawn(definitions::run(server.clone(), shutdown.clone()));
    let interval = options.etcd_compaction_interval.into();
    tokio::spawn(compaction::run(server.store.etcd().client(), interval, shutdown.clone()));
    tracing::info!(%port, "serving");
    accept::serve(listener, tls.config, server, shutdown).await;
    hooks.await.context("the hooks panicked")?;
    defining.await.context("the controller of definitions panicked")?;
    end_of_storing.cancel();
    storing.await.context("the store panicked")
}

/// A name that no other process has while this one is alive: who listens on this port, in this network namespace, since this boot.
fn process_name(address: SocketAddr) -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::metadata("/proc/self/ns/net").map_or(0, |namespace| namespace.ino());
    format!("{address},{namespace},{}", boot.trim())
}

pub(crate) async fn connect_etcd(options: &Options) -> anyhow::Result<Client> {
    let mut connect = ConnectOptions::new().with_keep_alive(ETCD_KEEP_ALIVE, ETCD_KEEP_ALIVE_TIMEOUT);
    if let Some(ca) = &options.etcd_cafile {
        let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?));
        if let (Some(certificate), Some(key)) = (&options.etcd_certfile, &options.etcd_keyfile) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        connect = connect.with_tls(tls);
    }
    Client::connect(&options.etcd_servers, Some(connect)).await.context("cannot use --etcd-servers")
}

fn read(path: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The TLS side of connections to kubelets.
fn kubelet_tls(options: &Options) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let builder = rustls::ClientConfig::builder();
    let builder = match &options.kubelet_certificate_authority {
        Some(path) => builder.with_root_certificates(tls::roots(&read(path)?, &path.display().to_string())?),
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(tls::AcceptAnyServer::default())),
    };
    let config = match (&options.kubelet_client_certificate, &options.kubelet_client_key) {
        (Some(certificate), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&read(key)?)?)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// The address of this machine that others reach it at: that of the default route. Nothing is sent.
fn advertised(bind: IpAddr) -> IpAddr {
    if !bind.is_unspecified() {
        return bind;
    }
    let probe = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    };
    probe().map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip())
}
