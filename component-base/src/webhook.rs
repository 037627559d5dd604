//! Calls of webhooks: a JSON document is posted over HTTPS, and the answer is one.
//!
//! Kubernetes documentation, "Dynamic Admission Control" ("Contacting the webhook"); the same holds for webhooks that
//! convert, authorize or take audit events. Connections are kept and used again by later calls of the same [`Client`].

mod dial;
mod error;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

use crate::client::install_crypto_provider;
use crate::tls;
use dial::Dial;
pub use error::Error;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(90);
const JSON: &str = "application/json";

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `https://host:port/path`.
    Url(String),
    /// A Service of the cluster. Its certificate is for `<name>.<namespace>.svc`.
    Service { namespace: String, name: String, path: String, port: u16 },
}

/// How a webhook is reached and known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: Address,
    /// The authorities in PEM that its certificate is signed by; empty means those that this machine trusts.
    pub authorities: Vec<u8>,
}

/// Where the packets for a Service go.
pub trait Resolver: Send + Sync {
    /// The host, a name or an address, and the port.
    ///
    /// # Errors
    /// Why there is no such Service, or none that can be reached.
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<(String, u16), String>;
}

impl Address {
    fn url(&self) -> String {
        match self {
            Address::Url(url) => url.clone(),
            Address::Service { namespace, name, path, port } => {
                format!("https://{name}.{namespace}.svc:{port}/{}", path.trim_start_matches('/'))
            }
        }
    }
}

/// Calls one webhook.
pub struct Client {
    http: legacy::Client<HttpsConnector<Dial>, Full<Bytes>>,
    url: String,
}

impl Client {
    /// A client without connections; the first call makes one.
    ///
    /// # Errors
    /// Authorities that cannot be used.
    pub fn new(target: &Target, resolver: Arc<dyn Resolver>) -> Result<Self, tls::Error> {
        install_crypto_provider();
        let roots = if target.authorities.is_empty() {
            NATIVE_ROOTS.clone()
        } else {
            tls::roots(&target.authorities, "caBundle")?
        };
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_all_versions()
            .wrap_connector(Dial::new(&target.address, resolver));
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Client { http, url: target.address.url() })
    }

    /// Posts a document and waits for the answer's body, no longer than the timeout.
    ///
    /// # Errors
    /// Everything but an answer of success.
    pub async fn post(&self, body: impl Into<Bytes>, timeout: Duration) -> Result<Bytes, Error> {
        // The webhook is told how long it has, as the API's own clients tell the API.
        let url = format!("{}?timeout={}s", self.url, timeout.as_secs());
        let failed = |reason: String| Error::Transport { url: url.clone(), reason };
        let request = Request::builder()
            .method(Method::POST)
            .uri(&url)
            .header(CONTENT_TYPE, JSON)
            .header(ACCEPT, JSON)
            .header(USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body.into()))
            .map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| failed(error::reason(&error)))?;
            answer(response, failed).await
        };
        let late = |_| failed("context deadline exceeded".to_owned());
        tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    }
}

async fn answer(response: Response<Incoming>, failed: impl Fn(String) -> Error) -> Result<Bytes, Error> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| failed(error::reason(&*error)))?.to_bytes();
    if status.is_success() {
        Ok(body)
    } else {
        Err(Error::Status { code: status.as_u16(), message: error::of_status(status, &body) })
    }
}

/// The authorities that this machine trusts, read once. What cannot be read is not trusted.
static NATIVE_ROOTS: LazyLock<RootCertStore> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
});

#[cfg(test)]
mod tests;
