//! The process: health and metrics from the start, the controllers while it leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use component_base::informer::Informers;
use component_base::leader_election;
use component_base::metrics::Registry;
use component_base::runner::{Metrics, chain};
use component_base::serving::{self, Routes};
use component_base::shutdown::{Shutdown, Tasks};
use component_base::{client, version};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Client, Config};

use crate::context::Context;
use crate::controllers::{self, Descriptor};
use crate::credentials::Clients;
use crate::options::Options;
use crate::pods;

/// The component's name, as its lease and the API server know it.
pub const COMPONENT: &str = "kube-controller-manager";

/// Why the process ends with a failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag's value does not do.
    #[error(transparent)]
    Selection(#[from] controllers::SelectionError),
    /// There is no way to the API server.
    #[error("API client")]
    Client(#[from] client::Error),
    /// Health and metrics cannot be served.
    #[error(transparent)]
    Serving(#[from] serving::Error),
    /// The lead was lost, or its flags do not fit.
    #[error(transparent)]
    Election(#[from] leader_election::Error),
    /// A controller ended, which none does.
    #[error("controller {0} ended unexpectedly")]
    Controller(String),
}

/// Runs kube-controller-manager until shutdown.
///
/// # Errors
/// When it cannot start, loses the lead, or a controller fails for good.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<(), Error> {
    let selected = controllers::select(&options.selection)?;
    let registry = Registry::new();
    let config = options.client.config().await?;
    let process = options.client.client(config.clone(), COMPONENT)?;
    options.serving.serve(COMPONENT, &process, Routes::new(registry.clone()), &shutdown).await?;
    tracing::info!(version = version::GIT_VERSION, controllers = selected.len(), "starting");
    if !options.leader_election.leader_elect {
        return lead(options, config, process, registry, selected, shutdown).await;
    }
    let election = options.leader_election.config(COMPONENT, leader_election::identity())?;
    let mut outcome = Ok(());
    let leading = process.clone();
    let metrics = registry.clone();
    leader_election::run(process, election, &metrics, shutdown, |token| {
        let outcome = &mut outcome;
        async move { *outcome = lead(options, config, leading, registry, selected, token).await }
    })
    .await?;
    outcome
}

/// Runs the selected controllers until shutdown.
async fn lead(
    options: Options,
    config: Config,
    process: Client,
    registry: Registry,
    selected: Vec<&'static Descriptor>,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let drain = options.controller_shutdown_timeout.0;
    let ctx = context(options, config, process, registry, shutdown.clone())?;
    let mut tasks = Tasks::new();
    for row in selected {
        let ctx = ctx.clone();
        let failed = Arc::new(AtomicBool::new(false));
        tasks.spawn(row.name, async move {
            if let Err(error) = row.start(ctx).await {
                failed.store(true, Ordering::Relaxed);
                tracing::error!(controller = row.name, error = chain(error.as_ref()), "controller failed");
            }
        });
    }
    let ended = tokio::select! {
        () = shutdown.cancelled() => None,
        Some((name, _)) = tasks.next_ended() => Some(name),
        else => { shutdown.cancelled().await; None }
    };
    let unexpected = ended.filter(|_| !shutdown.is_cancelled());
    shutdown.cancel();
    tasks.drain(drain).await;
    unexpected.map_or(Ok(()), |name| Err(Error::Controller(name)))
}

fn context(
    options: Options,
    config: Config,
    process: Client,
    registry: Registry,
    shutdown: Shutdown,
) -> Result<Context, Error> {
    let clients = Clients::new(&options, config, process.clone(), shutdown.clone())?;
    let informers = Informers::new(process, shutdown.clone());
    informers.prune::<Pod>(pods::prune);
    // The images of a node are a third of it; nodes are changed by patch only.
    informers.prune::<Node>(|node| {
        if let Some(status) = &mut node.status {
            status.images = None;
        }
    });
    Ok(Context {
        options: Arc::new(options),
        informers,
        metrics: Metrics::register(&registry),
        registry,
        shutdown,
        clients: Arc::new(clients),
    })
}
