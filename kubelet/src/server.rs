//! The kubelet's HTTP server: health and metrics, pods, logs, and the streams into containers. On 10250 over TLS, where every request is
//! authenticated and authorized; on the read-only port the little that anyone may see.

mod auth;
mod logs;
mod stats;
mod stream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use component_base::metrics::CONTENT_TYPE;
use component_base::serving::{self, Body, Handler, respond, text};
use component_base::shutdown::Shutdown;
use component_base::tls;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::pods::Pods;
use crate::runtime::relist::Health;

/// Age of the last listing of the runtime at which the kubelet is not healthy.
const STALE: i64 = 180;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error(transparent)]
    Listen(#[from] serving::BindError),
}

/// What the server answers from.
pub struct Server {
    pods: Pods,
    health: Arc<Health>,
    auth: auth::Auth,
    registry: component_base::metrics::Registry,
}

/// Starts the servers that the configuration asks for.
pub async fn run(
    pods: Pods,
    health: Arc<Health>,
    certificate: tls::ServingCertificate,
    shutdown: Shutdown,
) -> Result<Vec<(&'static str, futures::future::BoxFuture<'static, ()>)>, Error> {
    let config = pods.agent().config.clone();
    let server = Arc::new(Server {
        auth: auth::Auth::new(pods.agent()),
        registry: component_base::metrics::Registry::new(),
        pods,
        health,
    });
    let mut running: Vec<(&'static str, futures::future::BoxFuture<'static, ()>)> = Vec::new();
    let ip = |text: &str| text.parse().unwrap_or(std::net::IpAddr::from([0, 0, 0, 0]));
    if config.enable_server {
        let ca: Option<PathBuf> = config.authentication.x509.client_ca_file.clone();
        let tls = tls::Server::new(certificate, ca.as_deref(), shutdown.clone())?;
        let listener = serving::bind(SocketAddr::new(ip(&config.address), config.port)).await?;
        let handler = guarded(Arc::clone(&server));
        running.push(("server", Box::pin(serving::serve(listener, Some(tls), handler, shutdown.clone()))));
    }
    if config.read_only_port != 0 {
        let listener = serving::bind(SocketAddr::new(ip(&config.address), config.read_only_port)).await?;
        let handler = open(Arc::clone(&server), &["/healthz", "/pods", "/spec"]);
        running.push(("read-only server", Box::pin(serving::serve(listener, None, handler, shutdown.clone()))));
    }
    if config.healthz_port != 0 {
        let listener = serving::bind(SocketAddr::new(ip(&config.healthz_bind_address), config.healthz_port)).await?;
        let handler = open(server, &["/healthz"]);
        running.push(("health server", Box::pin(serving::serve(listener, None, handler, shutdown))));
    }
    Ok(running)
}

fn guarded(server: Arc<Server>) -> Handler {
    Arc::new(move |request| {
        let server = Arc::clone(&server);
        Box::pin(async move {
            match server.auth.check(&request).await {
                Ok(()) => server.answer(request).await,
                Err(refusal) => refusal,
            }
        })
    })
}

fn open(server: Arc<Server>, paths: &'static [&'static str]) -> Handler {
    Arc::new(move |request| {
        let server = Arc::clone(&server);
        Box::pin(async move {
            if paths.contains(&request.uri().path()) { server.answer(request).await } else { not_found() }
        })
    })
}

fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn json(value: &serde_json::Value) -> Response<Body> {
    respond(StatusCode::OK, "application/json", value.to_string())
}

/// The query's value of a key, percent-decoded.
pub fn query(uri: &http::Uri, key: &str) -> Option<String> {
    queries(uri, key).into_iter().next()
}

/// All values of a key.
pub fn queries(uri: &http::Uri, key: &str) -> Vec<String> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(name, _)| decode(name) == key).map(|(_, value)| decode(value)).collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether a flag of the query is on.
pub fn flag(uri: &http::Uri, key: &str) -> bool {
    query(uri, key).is_some_and(|value| matches!(value.as_str(), "1" | "true" | "True"))
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let read = request.method() == Method::GET || request.method() == Method::HEAD;
        match parts.as_slice() {
            ["healthz", ..] if read => self.healthz(),
            ["pods"] if read => self.pods_list(|_| true),
            ["spec"] if read => self.spec(),
            ["configz"] if read => json(&serde_json::json!({ "kubeletconfig": self.pods.agent().config })),
            ["metrics"] if read => stats::metrics(&self.registry, &self.pods),
            ["metrics", "resource"] if read => stats::resource(&self.pods).await,
            ["metrics", "cadvisor"] if read => stats::cadvisor(&self.pods).await,
            ["metrics", "probes"] if read => {
                respond(StatusCode::OK, CONTENT_TYPE, self.pods.agent().metrics.of_probes.encode())
            }
            ["stats", "summary"] if read => stats::summary(&self.pods).await,
            ["exec" | "attach" | "portForward" | "run" | "containerLogs" | "runningpods", ..]
                if !self.pods.agent().config.enable_debugging_handlers =>
            {
                text(StatusCode::METHOD_NOT_ALLOWED, "Debug endpoints are disabled.\n")
            }
            ["runningpods"] if read => self.pods_list(|phase| phase == Some("Running")),
            ["containerLogs", namespace, pod, container] if read => {
                logs::answer(&self.pods, request.uri(), namespace, pod, container)
            }
            ["exec", rest @ ..] => stream::exec(&self.pods, request, rest).await,
            ["attach", rest @ ..] => stream::attach(&self.pods, request, rest).await,
            ["portForward", rest @ ..] => stream::port_forward(&self.pods, request, rest).await,
            ["run", rest @ ..] => stream::run(&self.pods, &request, rest).await,
            _ => not_found(),
        }
    }

    fn healthz(&self) -> Response<Body> {
        let age = self.health.age();
        if age > STALE {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the container runtime was last listed {age} seconds ago\n"),
            );
        }
        text(StatusCode::OK, "ok")
    }

    fn pods_list(&self, wanted: impl Fn(Option<&str>) -> bool) -> Response<Body> {
        let all = self.pods.list().into_iter();
        let items: Vec<_> =
            all.filter(|pod| wanted(pod.status.as_ref().and_then(|status| status.phase.as_deref()))).collect();
        json(&serde_json::json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items }))
    }

    fn spec(&self) -> Response<Body> {
        let agent = self.pods.agent();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        json(&serde_json::json!({ "num_cores": cores, "memory_capacity": agent.container_limits.memory }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let uri: http::Uri = "/exec?command=a%20b&command=c+d&tty=1&x".parse().unwrap();
        assert_eq!(queries(&uri, "command"), ["a b", "c d"]);
        assert!(flag(&uri, "tty") && !flag(&uri, "x") && !flag(&uri, "stdin"));
    }
}
