//! Health: of this process (`/healthz`, `/livez`), and of Services with a health check node port, for load balancers.

use crate::proxier::LocalHealth;
use bytes::Bytes;
use component_base::serving::{self, Body, Handler, respond, text};
use component_base::shutdown::Shutdown;
use http::{Response, StatusCode};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rules that wait for longer than this to reach the kernel make the proxy unhealthy.
const STALE: Duration = Duration::from_secs(60);

/// When the rules were last in the kernel, and since when they are not.
#[derive(Debug, Default)]
pub struct Status {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    updated: Option<Timestamp>,
    pending_since: Option<Instant>,
    node_deleted: bool,
}

impl Status {
    pub fn synced(&self) {
        let mut state = self.state.lock();
        state.updated = Some(Timestamp::now());
        state.pending_since = None;
    }

    pub fn pending(&self) {
        self.state.lock().pending_since.get_or_insert_with(Instant::now);
    }

    /// A node that is being deleted must not get new traffic from load balancers (KEP-3836).
    pub fn set_node_deleted(&self, deleted: bool) {
        self.state.lock().node_deleted = deleted;
    }

    pub fn healthy(&self) -> bool {
        let state = self.state.lock();
        state.updated.is_some() && state.pending_since.is_none_or(|since| since.elapsed() < STALE)
    }

    fn answer(&self, with_node: bool) -> Response<Body> {
        let healthy = self.healthy();
        let state = self.state.lock();
        let eligible = !state.node_deleted;
        let code = if healthy && (eligible || !with_node) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let now = Timestamp::now();
        let mut body = json!({
            "lastUpdated": state.updated.unwrap_or(Timestamp::UNIX_EPOCH).to_string(),
            "currentTime": now.to_string(),
        });
        if with_node {
            body["nodeEligible"] = eligible.into();
        }
        respond(code, "application/json", Bytes::from(body.to_string()))
    }
}

/// `/healthz` and `/livez`.
pub fn handler(status: Arc<Status>) -> Handler {
    Arc::new(move |request| {
        let status = status.clone();
        Box::pin(async move {
            match request.uri().path() {
                "/healthz" => status.answer(true),
                "/livez" => status.answer(false),
                _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
            }
        })
    })
}

/// The listeners for Services' health checks: one per port, opened and closed as Services come and go.
pub struct LocalServers {
    address: IpAddr,
    status: Arc<Status>,
    open: HashMap<u16, Server>,
    shutdown: Shutdown,
}

struct Server {
    state: Arc<Mutex<LocalHealth>>,
    stop: Shutdown,
}

impl LocalServers {
    pub fn new(address: IpAddr, status: Arc<Status>, shutdown: Shutdown) -> Self {
        Self { address, status, open: HashMap::new(), shutdown }
    }

    /// Makes the listeners those of `wanted`. A port that cannot be opened is tried again with the next change.
    pub async fn update(&mut self, wanted: Vec<LocalHealth>) {
        let ports: Vec<u16> = wanted.iter().map(|w| w.port).collect();
        self.open.retain(|port, server| {
            let keep = ports.contains(port);
            if !keep {
                server.stop.cancel();
            }
            keep
        });
        for health in wanted {
            match self.open.get(&health.port) {
                Some(server) => *server.state.lock() = health,
                None => self.start(health).await,
            }
        }
    }

    async fn start(&mut self, health: LocalHealth) {
        let port = health.port;
        let listener = match serving::bind(SocketAddr::new(self.address, port)).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, port, service = %health.service, "a health check port cannot be opened");
                return;
            }
        };
        let state = Arc::new(Mutex::new(health));
        let stop = self.shutdown.child_token();
        let handler = local_handler(state.clone(), self.status.clone());
        tokio::spawn(serving::serve(listener, None, handler, stop.clone()));
        self.open.insert(port, Server { state, stop });
    }
}

fn local_handler(state: Arc<Mutex<LocalHealth>>, status: Arc<Status>) -> Handler {
    Arc::new(move |_| {
        let (health, proxy) = (state.lock().clone(), status.healthy());
        let ok = health.local_endpoints > 0 && proxy;
        let code = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = json!({
            "service": {"namespace": health.service.namespace, "name": health.service.name},
            "localEndpoints": health.local_endpoints,
            "serviceProxyHealthy": proxy,
        });
        Box::pin(async move { respond(code, "application/json", Bytes::from(body.to_string())) })
    })
}
