//! `/livez`, `/readyz`, `/healthz` and their single checks (Kubernetes documentation, "Kubernetes API health endpoints").

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use apiserver_storage::Store;
use http::{Response, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::request::Query;
use crate::respond;

/// What the server is asked about its health.
pub struct Health {
    pub store: Store,
    pub shutdown: CancellationToken,
    /// Set when the objects of a new cluster are there.
    pub bootstrapped: Arc<AtomicBool>,
}

/// The checks of an endpoint, in order.
const LIVE: &[&str] = &["ping", "log", "etcd", "poststarthook/rbac/bootstrap-roles"];
const READY: &[&str] =
    &["ping", "log", "etcd", "etcd-readiness", "informer-sync", "poststarthook/rbac/bootstrap-roles", "shutdown"];

impl Health {
    /// Answers `/livez[/<check>]` and the like; none when the path is not one of them.
    pub async fn answer(&self, path: &str, query: &Query) -> Option<Response<Body>> {
        let (endpoint, check) = match path.trim_start_matches('/').split_once('/') {
            Some((endpoint, check)) => (endpoint, Some(check)),
            None => (path.trim_start_matches('/'), None),
        };
        let checks = match endpoint {
            "livez" | "healthz" => LIVE,
            "readyz" => READY,
            _ => return None,
        };
        Some(match check.filter(|check| !check.is_empty()) {
            Some(name) if checks.contains(&name) => match self.check(name).await {
                Ok(()) => respond::text(StatusCode::OK, "ok"),
                Err(reason) => {
                    respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {reason}\n"))
                }
            },
            Some(_) => crate::server::unknown_path(),
            None => self.all(endpoint, checks, query).await,
        })
    }

    async fn all(&self, endpoint: &str, checks: &[&str], query: &Query) -> Response<Body> {
        let mut report = String::new();
        let mut failed = false;
        for name in checks {
            if query.all("exclude").any(|excluded| excluded == *name) {
                report.push_str(&format!("[+]{name} excluded: ok\n"));
                continue;
            }
            match self.check(name).await {
                Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
                Err(_) => {
                    failed = true;
                    report.push_str(&format!("[-]{name} failed: reason withheld\n"));
                }
            }
        }
        if failed {
            report.push_str(&format!("{endpoint} check failed\n"));
            return respond::text(StatusCode::INTERNAL_SERVER_ERROR, report);
        }
        if query.has("verbose") {
            report.push_str(&format!("{endpoint} check passed\n"));
            return respond::text(StatusCode::OK, report);
        }
        respond::text(StatusCode::OK, "ok")
    }

    async fn check(&self, name: &str) -> Result<(), String> {
        match name {
            "etcd" | "etcd-readiness" => {
                self.store.etcd().revision().await.map(|_| ()).map_err(|error| error.to_string())
            }
            "informer-sync" if self.store.cache().revision() == 0 => Err("the watch cache is not filled yet".into()),
            "poststarthook/rbac/bootstrap-roles" if !self.bootstrapped.load(Ordering::Acquire) => {
                Err("not finished".into())
            }
            "shutdown" if self.shutdown.is_cancelled() => Err("process is shutting down".into()),
            _ => Ok(()),
        }
    }
}
