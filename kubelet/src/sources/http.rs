//! Static pods from a URL, asked for now and then: a Pod, or a list of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use component_base::shutdown::Shutdown;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Pod;

use super::static_pod;
use crate::pods::Pods;

/// Largest answer.
const MAX_BODY: usize = 10 << 20;
/// Longest that an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

type Http = Client<HttpsConnector<HttpConnector>, Empty<bytes::Bytes>>;

/// Where static pods are asked for, and with which headers.
#[derive(Debug)]
pub struct Source {
    url: http::Uri,
    headers: HeaderMap,
}

/// Why a URL or its headers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("staticPodURL: {url:?} is not a URL")]
    Url {
        url: String,
        #[source]
        source: http::uri::InvalidUri,
    },
    #[error("staticPodURLHeader: {0:?} is not a header")]
    Header(String),
}

impl Source {
    pub fn new(url: &str, headers: &BTreeMap<String, Vec<String>>) -> Result<Self, Error> {
        let parsed = url.parse().map_err(|source| Error::Url { url: url.to_owned(), source })?;
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value))) {
            let wrong = || Error::Header(name.clone());
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            map.append(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
        }
        Ok(Self { url: parsed, headers: map })
    }
}

/// Asks until shutdown. `ready` is set once the pods are known.
pub async fn run(pods: Pods, source: Source, period: Duration, ready: Arc<AtomicBool>, shutdown: Shutdown) {
    let node = pods.agent().node_name.clone();
    let client = match client() {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "static pods cannot be fetched: no root certificates"),
    };
    loop {
        let fetched = tokio::time::timeout(TIMEOUT, fetch(&client, &source, &node)).await;
        match fetched.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}"))) {
            Ok(found) => {
                pods.set_static("http", found);
                ready.store(true, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(url = %source.url, error, "static pods cannot be fetched"),
        }
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

fn client() -> std::io::Result<Http> {
    let connector = HttpsConnectorBuilder::new().with_native_roots()?.https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

async fn fetch(client: &Http, source: &Source, node: &str) -> Result<Vec<Pod>, String> {
    let mut request = http::Request::get(&source.url).body(Empty::new()).map_err(|error| error.to_string())?;
    request.headers_mut().extend(source.headers.clone());
    let answer = client.request(request).await.map_err(|error| crate::worker::chain(&error))?;
    if answer.status() != 200 {
        return Err(format!("status {}", answer.status()));
    }
    let body =
        Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(|error| error.to_string())?.to_bytes();
    parse(&String::from_utf8_lossy(&body), &source.url.to_string(), node)
}

/// The pods of an answer, in YAML or JSON.
fn parse(text: &str, url: &str, node: &str) -> Result<Vec<Pod>, String> {
    let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let items = match value.get("items").and_then(serde_json::Value::as_array) {
        Some(items) => items.clone(),
        None => vec![value],
    };
    let parse = |mut item: serde_json::Value| {
        // The items of a list need not repeat what they are.
        if let Some(item) = item.as_object_mut() {
            item.entry("apiVersion").or_insert("v1".into());
            item.entry("kind").or_insert("Pod".into());
        }
        static_pod::parse(&item.to_string(), "http", node, url, jiff::Timestamp::now())
            .map_err(|error| error.to_string())
    };
    items.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_and_a_list_of_pods_are_understood() {
        let one = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: i}]}}";
        let list = "{apiVersion: v1, kind: PodList, items: [{metadata: {name: a}, spec: {containers: [{name: c}]}}]}";
        for text in [one, list] {
            let pods = parse(text, "http://x", "n").unwrap();
            assert_eq!(pods.iter().map(crate::pod::name).collect::<Vec<_>>(), ["a-n"]);
            assert_eq!(crate::pod::annotation(&pods[0], crate::pod::CONFIG_SOURCE), Some("http"));
        }
        assert!(parse("{apiVersion: v1, kind: Service}", "http://x", "n").is_err());
    }

    #[test]
    fn headers_are_checked_before_anything_is_asked() {
        let headers = |name: &str, value: &str| [(name.to_owned(), vec![value.to_owned()])].into();
        assert_eq!(Source::new("http://x/y", &headers("X-A", "b")).unwrap().headers["x-a"], "b");
        assert!(matches!(Source::new("http://x", &headers("a b", "c")), Err(Error::Header(_))));
        assert!(matches!(Source::new("http:// x", &BTreeMap::new()), Err(Error::Url { .. })));
    }
}
