//! The API client of a component: `kube::Client` from a kubeconfig file or from inside a pod, with a user agent, aws-lc-rs TLS, and one HTTP/2
//! connection for all its requests and watches (see `transport`). A client certificate and authorities that are files may be replaced while
//! the client is in use.

mod flags;
mod limit;
mod transport;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use http::header::{AUTHORIZATION, USER_AGENT};
use kube::client::ConfigExt;
use kube::client::retry::RetryPolicy;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use tokio::sync::Notify;
use tower::ServiceBuilder;
use tower::retry::RetryLayer;

use crate::tls::{self, ReloadingCertificate, ServingCertificate};
pub use flags::Flags;
pub use limit::{Limiter, Limits};
use transport::{KeepAlive, Transport, WeakTransport};

/// First and longest wait before a request is made again that the server had no time for (429, 503, 504); what the server asks for counts first.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often such a request is made again.
const RETRIES: u32 = 10;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig file is missing or not well formed.
    #[error("cannot use kubeconfig {path}")]
    Kubeconfig {
        /// The file's path.
        path: String,
        /// What is wrong with it.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// There is no service account in this process's environment.
    #[error("no --kubeconfig given, and not inside a pod")]
    InCluster(#[source] kube::config::InClusterError),
    /// The server's address is not a URL.
    #[error("invalid API server address {0:?}")]
    Address(String),
    /// The server's name cannot be in a certificate.
    #[error("invalid TLS server name {0:?}")]
    ServerName(String),
    /// The user agent cannot be a header.
    #[error("invalid user agent {0:?}")]
    UserAgent(String),
    /// Certificates or keys cannot be used.
    #[error("cannot build the API client")]
    Build(#[source] Box<kube::Error>),
    /// The files of the client certificate cannot be used.
    #[error("client certificate")]
    Certificate(#[from] tls::Error),
}

/// Makes aws-lc-rs the process's TLS provider. Call it first in `main`; more calls do nothing.
pub fn install_crypto_provider() {
    if CryptoProvider::get_default().is_none() && provider().install_default().is_err() {
        tracing::debug!("another thread installed the TLS provider first");
    }
}

/// AES-128 comes first, as with Go: large lists are mostly encryption, and the longer key costs two fifths more of it.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let is_preferred = |suite: CipherSuite| {
        matches!(
            suite,
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    provider.cipher_suites.sort_by_key(|suite| !is_preferred(suite.suite()));
    provider
}

/// The configuration in a kubeconfig file's current context.
pub async fn config_from_kubeconfig(path: &Path) -> Result<Config, Error> {
    let failed = |source| Error::Kubeconfig { path: path.display().to_string(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    let authority = authority_file(&kubeconfig);
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)?;
    config.root_cert_file = authority;
    Ok(config)
}

/// The file with the authorities of the current context's cluster, if they are not in the kubeconfig itself.
fn authority_file(kubeconfig: &Kubeconfig) -> Option<PathBuf> {
    let name = kubeconfig.current_context.as_ref()?;
    let context = kubeconfig.contexts.iter().find(|context| context.name == *name)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster)?.cluster.as_ref()?;
    let file = cluster.certificate_authority.as_ref().filter(|_| cluster.certificate_authority_data.is_none());
    file.map(PathBuf::from)
}

/// The configuration from `--kubeconfig`, or of the pod when that is `None`, with `--master` overriding the server.
pub async fn config(kubeconfig: Option<&Path>, master: Option<&str>) -> Result<Config, Error> {
    install_crypto_provider();
    let mut config = match kubeconfig {
        Some(path) => config_from_kubeconfig(path).await?,
        None => Config::incluster().map_err(Error::InCluster)?,
    };
    if let Some(master) = master {
        config.cluster_url = master.parse().map_err(|_| Error::Address(master.to_owned()))?;
    }
    Ok(config)
}

/// A client from a configuration. `user_agent` as from [`crate::version::user_agent`]. Must be called within a tokio runtime.
pub fn from_config(config: Config, user_agent: &str) -> Result<Client, Error> {
    from_config_with(config, user_agent, &Limits::default())
}

/// As [`from_config`], with limits of the caller's own.
pub fn from_config_with(mut config: Config, user_agent: &str, limits: &Limits) -> Result<Client, Error> {
    install_crypto_provider();
    let value = HeaderValue::from_str(user_agent).map_err(|_| Error::UserAgent(user_agent.to_owned()))?;
    config.headers.retain(|(name, _)| name != USER_AGENT);
    config.headers.push((USER_AGENT, value));
    let failed = |source| Error::Build(Box::new(source));
    if config.proxy_url.is_some() {
        return Client::try_from(config).map_err(failed);
    }
    let retries =
        RetryPolicy::new(RETRY.0, RETRY.1, RETRIES, true).expect("the first wait is not longer than the longest");
    let transport = connect(&config, limits)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(RetryLayer::new(retries))
        .option_layer(config.auth_layer().map_err(failed)?)
        .layer(config.extra_headers_layer().map_err(failed)?)
        .service(transport);
    Ok(Client::new(service, config.default_namespace))
}

/// The connections to a configuration's server, which follow changes of the client certificate's files.
fn connect(config: &Config, limits: &Limits) -> Result<Transport, Error> {
    let mut tls = config.rustls_client_config().map_err(|source| Error::Build(Box::new(source)))?;
    let auth = &config.auth_info;
    let identity = match (&auth.client_certificate, &auth.client_key) {
        (Some(certificate), Some(key)) if auth.client_certificate_data.is_none() && auth.client_key_data.is_none() => {
            let files = ServingCertificate::Files { certificate: certificate.into(), key: key.into() };
            Some(Arc::new(ReloadingCertificate::new(files)?))
        }
        _ => None,
    };
    if let Some(identity) = &identity {
        tls.client_auth_cert_resolver = Arc::clone(identity) as Arc<dyn rustls::client::ResolvesClientCert>;
    }
    let server_name = config.tls_server_name.as_deref();
    let transport = Transport::new(&tls, server_name, limits.limiter(), KeepAlive::default())?;
    if let Some(identity) = identity {
        tokio::spawn(follow(identity, transport.downgrade()));
    }
    Ok(transport)
}

/// Makes new connections when the client certificate was replaced: the server knows a client by the certificate with which it connected.
/// Ends when the client is no longer in use.
async fn follow(identity: Arc<ReloadingCertificate>, transport: WeakTransport) {
    loop {
        tokio::time::sleep(tls::RELOAD_PERIOD).await;
        let Some(transport) = transport.upgrade() else { return };
        match identity.reload() {
            Ok(true) => transport.renew(),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "client certificate cannot be reloaded, keeping the old one"),
        }
    }
}

/// A client from a kubeconfig file's current context.
pub async fn from_kubeconfig(path: &Path, user_agent: &str) -> Result<Client, Error> {
    from_config(config(Some(path), None).await?, user_agent)
}

/// A bearer token that can be replaced while clients use it.
#[derive(Clone, Default)]
pub struct SharedToken {
    header: Arc<ArcSwapOption<HeaderValue>>,
    refused: Arc<Notify>,
}

impl SharedToken {
    /// Replaces the token.
    ///
    /// # Errors
    /// When the token cannot be a header.
    pub fn set(&self, token: &str) -> Result<(), http::Error> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        value.set_sensitive(true);
        self.header.store(Some(Arc::new(value)));
        Ok(())
    }

    /// Waits until a request with the token is answered with 401.
    pub async fn refused(&self) {
        self.refused.notified().await;
    }
}

/// A client that sends its requests over the connections of `base`, which must have no credentials of its own, with this token and user agent.
pub fn with_token(base: &Client, token: SharedToken, user_agent: &str) -> Result<Client, Error> {
    let agent = HeaderValue::from_str(user_agent).map_err(|_| Error::UserAgent(user_agent.to_owned()))?;
    let (base, namespace) = (base.clone(), base.default_namespace().to_owned());
    let service = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
        let (base, token) = (base.clone(), token.clone());
        request.headers_mut().insert(USER_AGENT, agent.clone());
        if let Some(value) = token.header.load_full() {
            request.headers_mut().insert(AUTHORIZATION, (*value).clone());
        }
        async move {
            let response = base.send(request).await?;
            if response.status() == http::StatusCode::UNAUTHORIZED {
                token.refused.notify_one();
            }
            Ok::<_, kube::Error>(response)
        }
    });
    Ok(Client::new(service, namespace))
}

/// What a write came to, where it is fine that its object is gone: `None` then.
pub fn unless_gone<T>(outcome: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match outcome {
        Ok(done) => Ok(Some(done)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error is the server's answer that the object does not exist.
pub fn is_not_found(error: &kube::Error) -> bool {
    has_code(error, 404)
}

/// Whether an error is a conflict: the object changed since it was read (reason `Conflict`).
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_conflict())
}

/// Whether an error says that an object of that name exists already.
pub fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_already_exists())
}

/// Whether the error is the server's answer with this HTTP status.
pub fn has_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// Whether a create was refused because its namespace is being deleted.
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.code == 403
        && status
            .details
            .as_ref()
            .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}
