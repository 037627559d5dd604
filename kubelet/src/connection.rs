//! The kubelet's way to the API server: one HTTP/2 connection for all requests and watches, however many pods there are. After the client
//! certificate was renewed, requests go over another one, and those under way are left alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use component_base::{client, version};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// An idle connection is tried so often, and given up when nothing comes back for so long.
const PING: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("the API client cannot be built")]
    Build(#[from] kube::Error),
    #[error("tls-server-name {0:?} is no name of a server")]
    ServerName(String),
}

/// A connection that can be replaced while clients use it.
#[derive(Clone)]
pub struct Connection {
    kubeconfig: PathBuf,
    current: Arc<ArcSwap<Client>>,
}

async fn connect(kubeconfig: &Path) -> Result<Client, Error> {
    let agent = version::user_agent("kubelet");
    let mut config = client::config(Some(kubeconfig), None).await?;
    if config.proxy_url.is_some() {
        return Ok(client::from_config(config, &agent)?);
    }
    let agent = agent.parse().map_err(|_| client::Error::UserAgent(agent))?;
    config.headers.push((http::header::USER_AGENT, agent));
    multiplexed(config)
}

fn multiplexed(config: Config) -> Result<Client, Error> {
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into().map_err(|_| Error::ServerName(name.clone()))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let mut tcp = hyper_util::client::legacy::connect::HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = builder.enable_http1().enable_http2().wrap_connector(tcp);
    let transport: hyper_util::client::legacy::Client<_, Body> =
        hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(transport);
    Ok(Client::new(service, config.default_namespace))
}

impl Connection {
    /// As the kubeconfig's current context says.
    pub async fn open(kubeconfig: &Path) -> Result<Self, Error> {
        let current = Arc::new(ArcSwap::from_pointee(connect(kubeconfig).await?));
        Ok(Self { kubeconfig: kubeconfig.to_owned(), current })
    }

    /// Reads the kubeconfig and its certificates again, for requests from now on.
    pub async fn reopen(&self) -> Result<(), Error> {
        self.current.store(Arc::new(connect(&self.kubeconfig).await?));
        Ok(())
    }

    /// A client whose requests go over what is the connection then. Must be called within a tokio runtime.
    pub fn client(&self) -> Client {
        let namespace = self.current.load().default_namespace().to_owned();
        let current = Arc::clone(&self.current);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let client = Client::clone(&current.load());
            async move { client.send(request).await }
        });
        Client::new(service, namespace)
    }
}
