//! The API client of a component: `kube::Client` from a kubeconfig file or from inside a pod, with a user agent and aws-lc-rs TLS.
//!
//! There is no limit of requests per second on the client's side: the server's priority and fairness is the limit.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use http::header::{AUTHORIZATION, USER_AGENT};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::Notify;

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
    /// The user agent cannot be a header.
    #[error("invalid user agent {0:?}")]
    UserAgent(String),
    /// Certificates or keys cannot be used.
    #[error("cannot build the API client")]
    Build(#[source] Box<kube::Error>),
}

/// Makes aws-lc-rs the process's TLS provider. Call it first in `main`; more calls do nothing.
pub fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none()
        && rustls::crypto::aws_lc_rs::default_provider().install_default().is_err()
    {
        tracing::debug!("another thread installed the TLS provider first");
    }
}

/// The configuration in a kubeconfig file's current context.
pub async fn config_from_kubeconfig(path: &Path) -> Result<Config, Error> {
    let failed = |source| Error::Kubeconfig { path: path.display().to_string(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)
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

/// A client from a configuration. `user_agent` as from [`crate::version::user_agent`].
pub fn from_config(mut config: Config, user_agent: &str) -> Result<Client, Error> {
    install_crypto_provider();
    let value = HeaderValue::from_str(user_agent).map_err(|_| Error::UserAgent(user_agent.to_owned()))?;
    config.headers.retain(|(name, _)| name != USER_AGENT);
    config.headers.push((USER_AGENT, value));
    Client::try_from(config).map_err(|source| Error::Build(Box::new(source)))
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
