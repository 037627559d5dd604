//! The running proxy: informers on one side, the kernel on the other, health and metrics beside.

use crate::config::Settings;
use crate::conntrack;
use crate::health::{self, LocalServers, Status};
use crate::metrics::Metrics;
use crate::nft::{self, Nft};
use crate::proxier::Proxier;
use crate::sync::Syncer;
use crate::sysctl;
use crate::transaction;
use crate::view::{Family, Node, ServiceName, ServiceView, SliceView};
use component_base::client;
use component_base::informer::{Change, Informers, Selector};
use component_base::metrics::Registry;
use component_base::serving::{self, Handler, Routes, text};
use component_base::shutdown::{Shutdown, Tasks};
use component_base::version;
use http::StatusCode;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const OTHER_PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// How long tasks have to end.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Bind(#[from] serving::BindError),
    #[error("the host has no usable name")]
    Hostname(#[source] std::io::Error),
    #[error(transparent)]
    Nft(#[from] nft::Error),
}

/// Runs until shutdown. `master` overrides the server of the kubeconfig.
pub async fn run(settings: Settings, master: Option<&str>, shutdown: Shutdown) -> Result<(), Error> {
    let config = client::config(settings.kubeconfig.as_deref(), master).await?;
    let client = client::from_config(config, &version::user_agent("kube-proxy"))?;
    let name = node_name(&settings)?;
    sysctl::apply(&sysctl::settings(&settings.conntrack, cores()));
    set_oom_score(settings.oom_score_adj);

    let families = families();
    let node = Node { name: name.clone(), ..Node::default() };
    let proxier = Proxier::new(families.clone(), settings.policy.clone(), node, interface_addresses());
    let registry = Registry::new();
    let shared = Shared { proxier: Arc::new(Mutex::new(proxier)), wake: Arc::default(), status: Arc::default() };
    let mut tasks = Tasks::new();
    serve(&mut tasks, &settings, &shared, &registry, &shutdown).await?;

    let informers = Informers::new(client, shutdown.clone());
    let ready = shared.watch(&informers, &name);
    tokio::select! {
        () = ready => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    tracing::info!(node = name, size = ?shared.proxier.lock().size(), "the caches are filled");
    shared.start(&mut tasks, &settings, families, Metrics::register(&registry), &shutdown);
    shutdown.cancelled().await;
    let cut = tasks.drain(DRAIN).await;
    if !cut.is_empty() {
        tracing::warn!(tasks = ?cut, "tasks were cut at shutdown");
    }
    Ok(())
}

/// Removes the proxy's tables.
pub async fn cleanup() -> Result<(), Error> {
    for family in families() {
        nft::Program::default().apply(&transaction::remove_tables(&[family])).await?;
    }
    Ok(())
}

/// What informers, the loop and the servers have in common.
#[derive(Clone)]
struct Shared {
    proxier: Arc<Mutex<Proxier>>,
    wake: Arc<Notify>,
    status: Arc<Status>,
}

impl Shared {
    /// Follows the cluster. The future ends when all of it has been seen once.
    fn watch(&self, informers: &Informers, node: &str) -> impl Future<Output = ()> + use<> {
        informers.prune::<core::Service>(|s| s.metadata.annotations = None);
        informers.prune::<core::Node>(|n| {
            n.metadata.annotations = None;
            if let Some(status) = &mut n.status {
                status.images = None;
                status.conditions = None;
            }
        });
        let services =
            informers.get_with::<core::Service>(Selector::labels(format!("!{HEADLESS_LABEL},!{OTHER_PROXY_LABEL}")));
        let slices = informers.get_with::<discovery::EndpointSlice>(Selector::labels(format!("!{HEADLESS_LABEL}")));
        let nodes = informers.get_with::<core::Node>(Selector::fields(format!("metadata.name={node}")));
        let this = self.clone();
        services.on_change(move |change| this.service(change));
        let this = self.clone();
        slices.on_change(move |change| this.slice(change));
        let this = self.clone();
        nodes.on_change(move |change| this.node(change));
        async move {
            services.synced().await;
            slices.synced().await;
            nodes.synced().await;
        }
    }

    fn service(&self, change: &Change<core::Service>) {
        let key = change.key();
        let view = change.new.as_deref().and_then(ServiceView::from_api);
        let name = ServiceName::new(key.namespace, key.name);
        self.note(self.proxier.lock().set_service(&name, view));
    }

    fn slice(&self, change: &Change<discovery::EndpointSlice>) {
        let key = change.key();
        let view = change.new.as_deref().and_then(SliceView::from_api);
        self.note(self.proxier.lock().set_slice(&(key.namespace, key.name), view));
    }

    fn node(&self, change: &Change<core::Node>) {
        let deleted = change.new.as_ref().is_none_or(|n| n.metadata.deletion_timestamp.is_some());
        self.status.set_node_deleted(deleted);
        if let Some(node) = &change.new {
            self.note(self.proxier.lock().set_node(Node::from_api(node)));
        }
    }

    fn note(&self, changed: bool) {
        if changed {
            self.wake.notify_one();
        }
    }

    fn start(
        &self,
        tasks: &mut Tasks,
        settings: &Settings,
        families: Vec<Family>,
        metrics: Metrics,
        shutdown: &Shutdown,
    ) {
        let done = watch::Sender::new(0);
        let mut synced = done.subscribe();
        let syncer = Syncer {
            proxier: self.proxier.clone(),
            wake: self.wake.clone(),
            nft: Arc::new(nft::Program::default()),
            conntrack: Arc::new(conntrack::Program::default()),
            families,
            min_period: settings.min_sync_period,
            check_period: settings.sync_period,
            status: self.status.clone(),
            metrics,
            done,
        };
        tasks.spawn("sync", syncer.run(shutdown.clone()));
        let mut servers = LocalServers::new(settings.bind_address, self.status.clone(), shutdown.clone());
        let proxier = self.proxier.clone();
        tasks.spawn("health-check-node-ports", async move {
            // Ends with the loop that it follows.
            while synced.changed().await.is_ok() {
                let wanted = proxier.lock().local_health();
                servers.update(wanted).await;
            }
        });
    }
}

async fn serve(
    tasks: &mut Tasks,
    settings: &Settings,
    shared: &Shared,
    registry: &Registry,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let metrics = Routes::new(registry.clone()).with_extra(mode_handler()).into_handler();
    let servers =
        [("healthz", settings.healthz, health::handler(shared.status.clone())), ("metrics", settings.metrics, metrics)];
    for (name, address, handler) in servers {
        let Some(address) = address else { continue };
        match serving::bind(address).await {
            Ok(listener) => tasks.spawn(name, serving::serve(listener, None, handler, shutdown.clone())),
            Err(error) if settings.bind_hard_fail => return Err(error.into()),
            Err(error) => tracing::error!(%error, %address, name, "cannot listen"),
        }
    }
    Ok(())
}

/// `/proxyMode`, where people and tests ask which mode is in use.
fn mode_handler() -> Handler {
    Arc::new(|request| {
        Box::pin(async move {
            match request.uri().path() {
                "/proxyMode" => text(StatusCode::OK, "nftables"),
                _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
            }
        })
    })
}

fn node_name(settings: &Settings) -> Result<String, Error> {
    if let Some(name) = &settings.hostname_override {
        return Ok(name.trim().to_lowercase());
    }
    let name = nix::unistd::gethostname().map_err(|e| Error::Hostname(e.into()))?;
    Ok(name.to_string_lossy().trim().to_lowercase())
}

/// IPv4, and IPv6 where the kernel has it.
fn families() -> Vec<Family> {
    let v6 = std::path::Path::new("/proc/net/if_inet6").exists();
    Family::ALL.into_iter().filter(|f| *f == Family::V4 || v6).collect()
}

pub fn cores() -> u32 {
    std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok()).unwrap_or(1)
}

fn interface_addresses() -> Vec<IpAddr> {
    let all = match nix::ifaddrs::getifaddrs() {
        Ok(all) => all,
        Err(error) => {
            tracing::warn!(%error, "the machine's addresses cannot be read");
            return Vec::new();
        }
    };
    all.filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
        })
        .collect()
}

fn set_oom_score(score: Option<i32>) {
    let Some(score) = score else { return };
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::warn!(%error, score, "the out-of-memory score stays as it is");
    }
}
