//! Static pods from a URL, asked for now and then: a Pod, or a list of them.

use std::time::Duration;

use component_base::shutdown::Shutdown;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Pod;

use super::static_pod;
use crate::pods::Pods;

/// Largest answer.
const MAX_BODY: usize = 10 << 20;

/// Asks until shutdown.
pub async fn run(pods: Pods, url: String, period: Duration, shutdown: Shutdown) {
    let node = pods.agent().node_name.clone();
    loop {
        match fetch(&url, &node).await {
            Ok(found) => pods.set_static("http", found),
            Err(error) => tracing::warn!(url, error, "static pods cannot be fetched"),
        }
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn fetch(url: &str, node: &str) -> Result<Vec<Pod>, String> {
    let client: Client<HttpConnector, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let uri: http::Uri = url.parse().map_err(|error| format!("{error}"))?;
    let answer = client.get(uri).await.map_err(|error| error.to_string())?;
    if answer.status() != 200 {
        return Err(format!("status {}", answer.status()));
    }
    let body =
        Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(|error| error.to_string())?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    let value: serde_json::Value = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
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
