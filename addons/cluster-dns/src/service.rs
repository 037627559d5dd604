//! The running server: informers fill the zone, sockets ask it, health and metrics stand beside.

use crate::answer::Resolver;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::server::Server;
use crate::upstream::{Upstream, servers_in};
use crate::zone::{Service, ServiceName, Slice, Zone};
use component_base::client;
use component_base::informer::Informers;
use component_base::metrics::Registry;
use component_base::serving::{self, Handler, Routes, text};
use component_base::shutdown::{Shutdown, Tasks};
use component_base::version;
use http::StatusCode;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use parking_lot::RwLock;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long tasks have to end.
const DRAIN: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Bind(#[from] serving::BindError),
}

/// Runs until shutdown, and `lameduck` longer, in which it answers but does not call itself ready.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<(), Error> {
    let config = client::config(options.kubeconfig.as_deref(), None).await?;
    let client = client::from_config(config, &version::user_agent("cluster-dns"))?;
    let end = Shutdown::new();
    let registry = Registry::new();
    let zone = Arc::new(RwLock::new(Zone::new(&options.domain, options.ttl)));
    let upstream = Upstream::new(upstream_servers(&options));
    tracing::info!(domain = options.domain, upstream = ?upstream.servers(), "starting");
    let resolver = Arc::new(Resolver { zone: zone.clone(), upstream, metrics: Metrics::register(&registry) });
    let ready = Arc::new(AtomicBool::new(false));
    let mut tasks = Tasks::new();
    let pages = [
        ("health", options.health_address, page("/health", Arc::new(AtomicBool::new(true)))),
        ("ready", options.ready_address, page("/ready", ready.clone())),
        ("metrics", options.metrics_address, Routes::new(registry).into_handler()),
    ];
    for (name, address, handler) in pages {
        let listener = serving::bind(address).await?;
        tasks.spawn(name, serving::serve(listener, None, handler, end.clone()));
    }
    let informers = Informers::new(client, end.clone());
    // Nothing is answered before the zone is complete: a wrong "there is no such name" would be remembered.
    tokio::select! {
        () = fill(&informers, &zone) => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    for address in &options.listen {
        let bound = Server::bind(*address, resolver.clone()).await;
        let server = bound.map_err(|source| serving::BindError { address: *address, source })?;
        tasks.spawn(format!("dns {address}"), server.run(end.clone()));
    }
    ready.store(true, Ordering::Release);
    shutdown.cancelled().await;
    ready.store(false, Ordering::Release);
    tokio::time::sleep(options.lameduck.into()).await;
    end.cancel();
    let cut = tasks.drain(DRAIN).await;
    if !cut.is_empty() {
        tracing::warn!(tasks = ?cut, "tasks were cut at shutdown");
    }
    Ok(())
}

/// Follows Services and EndpointSlices. Ends when all have been seen once.
async fn fill(informers: &Informers, zone: &Arc<RwLock<Zone>>) {
    informers.prune::<core::Service>(|s| {
        s.metadata.annotations = None;
        s.status = None;
    });
    informers.prune::<discovery::EndpointSlice>(|s| s.metadata.annotations = None);
    let services = informers.get::<core::Service>();
    let slices = informers.get::<discovery::EndpointSlice>();
    let target = zone.clone();
    services.on_change(move |change| {
        let key = change.key();
        let service = change.new.as_deref().and_then(Service::from_api);
        target.write().set_service(&ServiceName::new(key.namespace, key.name), service);
    });
    let target = zone.clone();
    slices.on_change(move |change| {
        let key = change.key();
        let slice = change.new.as_deref().and_then(Slice::from_api);
        target.write().set_slice(&(key.namespace, key.name), slice);
    });
    services.synced().await;
    slices.synced().await;
}

/// Those that were given, or those of the file, without ourselves.
fn upstream_servers(options: &Options) -> Vec<SocketAddr> {
    if !options.upstream.is_empty() {
        return options.upstream.clone();
    }
    let own: Vec<IpAddr> = options.listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect();
    match std::fs::read_to_string(&options.resolv_conf) {
        Ok(text) => servers_in(&text, &own),
        Err(error) => {
            tracing::warn!(%error, path = %options.resolv_conf.display(), "only the cluster's own names are answered");
            Vec::new()
        }
    }
}

fn page(path: &'static str, good: Arc<AtomicBool>) -> Handler {
    Arc::new(move |request| {
        let found = request.uri().path() == path;
        let good = good.load(Ordering::Acquire);
        Box::pin(async move {
            match (found, good) {
                (false, _) => text(StatusCode::NOT_FOUND, "404 page not found\n"),
                (true, true) => text(StatusCode::OK, "OK"),
                (true, false) => text(StatusCode::SERVICE_UNAVAILABLE, "not ready"),
            }
        })
    })
}
