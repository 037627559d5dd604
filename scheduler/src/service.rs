//! kube-scheduler as a service: watches feed the scheduler, its decisions are carried out against the API.

mod effects;
mod watches;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use component_base::metrics::Registry;
use component_base::serving::{self, Check, Routes};
use component_base::shutdown::Shutdown;
use component_base::{client, leader_election, version};
use kube::Client;
use tokio::sync::mpsc;

use crate::config::{self, Configuration};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::queue::Profiles;
use crate::scheduler::{self, Input, Scheduler};
use effects::Effects;

/// Reports that wait for the scheduler; past it the watches and bindings wait.
const INPUTS: usize = 4096;

/// The component's name, as its lease and the API server know it.
const COMPONENT: &str = "kube-scheduler";

/// Why kube-scheduler ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--config")]
    Config(#[from] config::Error),
    #[error("no client of the API server")]
    Client(#[from] client::Error),
    #[error(transparent)]
    Serving(#[from] serving::Error),
    #[error(transparent)]
    Election(#[from] leader_election::Error),
}

/// Runs kube-scheduler until shutdown, or until the lead is lost.
///
/// # Errors
/// When it cannot start, or loses the lead.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<(), Error> {
    let configuration = match &options.config {
        Some(path) => Configuration::from_file(path)?,
        None => Configuration::default(),
    };
    let process = connect(&options, &configuration).await?;
    let profiles = configuration.profiles(Some(&process))?;
    let registry = Registry::new();
    let metrics = Metrics::register(&registry);
    let ready = Arc::new(AtomicBool::new(false));
    let routes = Routes::new(registry.clone()).with_ready_check(synced(ready.clone()));
    options.serving.serve(COMPONENT, &process, routes, &shutdown).await?;
    tracing::info!(version = version::GIT_VERSION, profiles = profiles.len(), "starting");
    // The caches fill while another leads, so that taking over costs no list.
    let (sender, inputs) = mpsc::channel(INPUTS);
    watches::start(&process, &sender, &shutdown);
    let scheduler = Scheduler::new(profiles.clone(), scheduler_options(&options, &configuration));
    let core = Core { scheduler, inputs, synced: Synced { flag: ready, ..Synced::default() }, metrics };
    let effects = Effects::new(process.clone(), &profiles, sender, core.metrics.clone());
    match election(&options, &configuration)? {
        None => core.run(Some(effects), &shutdown).await,
        Some(election) => lead(process, election, &registry, core, effects, shutdown).await?,
    }
    Ok(())
}

/// The client; what the file says of it counts before the flags.
async fn connect(options: &Options, configuration: &Configuration) -> Result<Client, Error> {
    let (mut flags, file) = (options.client.clone(), &configuration.client_connection);
    if let Some(path) = file.kubeconfig.as_ref().filter(|path| !path.is_empty()) {
        flags.kubeconfig = Some(path.into());
    }
    flags.limits.kube_api_qps = file.qps.filter(|qps| *qps != 0.0).unwrap_or(flags.limits.kube_api_qps);
    flags.limits.kube_api_burst = file.burst.filter(|burst| *burst != 0).unwrap_or(flags.limits.kube_api_burst);
    Ok(flags.client(flags.config().await?, COMPONENT)?)
}

fn scheduler_options(options: &Options, configuration: &Configuration) -> scheduler::Options {
    let mut queue = configuration.queue_settings();
    queue.max_in_unschedulable = options.pod_max_in_unschedulable_pods_duration.0;
    scheduler::Options {
        queue,
        percentage_of_nodes_to_score: configuration.percentage_of_nodes_to_score.unwrap_or(0),
        // As in Kubernetes: a binding that the API accepted is believed until the watch shows the pod.
        assumed_lifetime: None,
    }
}

/// The election that the file and the flags ask for; what the file says counts first.
fn election(options: &Options, file: &Configuration) -> Result<Option<leader_election::Config>, Error> {
    let (mut flags, file) = (options.leader_election.clone(), file.leader_election.clone());
    if !file.leader_elect.unwrap_or(flags.leader_elect) {
        return Ok(None);
    }
    flags.leader_elect_lease_duration = file.lease_duration.unwrap_or(flags.leader_elect_lease_duration);
    flags.leader_elect_renew_deadline = file.renew_deadline.unwrap_or(flags.leader_elect_renew_deadline);
    flags.leader_elect_retry_period = file.retry_period.unwrap_or(flags.leader_elect_retry_period);
    flags.leader_elect_resource_lock = file.resource_lock.unwrap_or(flags.leader_elect_resource_lock);
    flags.leader_elect_resource_name = file.resource_name.or(flags.leader_elect_resource_name);
    flags.leader_elect_resource_namespace = file.resource_namespace.unwrap_or(flags.leader_elect_resource_namespace);
    Ok(Some(flags.config(COMPONENT, leader_election::identity())?))
}

async fn lead(
    process: Client,
    election: leader_election::Config,
    registry: &Registry,
    mut core: Core,
    effects: Effects,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let stop_standby = shutdown.child_token();
    let (hand_over, core_when_leading) = tokio::sync::oneshot::channel();
    let standby = stop_standby.clone();
    tokio::spawn(async move {
        core.run_until(None, &standby).await;
        if hand_over.send(core).is_err() {
            tracing::debug!("the process ends before it led");
        }
    });
    leader_election::run(process, election, registry, shutdown, |token| async move {
        stop_standby.cancel();
        if let Ok(core) = core_when_leading.await {
            core.run(Some(effects), &token).await;
        }
    })
    .await?;
    Ok(())
}

/// Whether the first lists have arrived.
#[derive(Default)]
struct Synced {
    pods: bool,
    nodes: bool,
    flag: Arc<AtomicBool>,
}

impl Synced {
    fn observe(&mut self, input: &Input) {
        self.pods |= matches!(input, Input::AllPods(_));
        self.nodes |= matches!(input, Input::AllNodes(_));
        if self.all() {
            self.flag.store(true, Ordering::Relaxed);
        }
    }

    fn all(&self) -> bool {
        self.pods && self.nodes
    }
}

/// The task that owns the scheduler.
struct Core {
    scheduler: Scheduler,
    inputs: mpsc::Receiver<Input>,
    synced: Synced,
    metrics: Metrics,
}

impl Core {
    async fn run(mut self, effects: Option<Effects>, shutdown: &Shutdown) {
        self.run_until(effects.as_ref(), shutdown).await;
    }

    /// Takes reports, and between them schedules while there is something to schedule; without `effects` it only takes reports.
    async fn run_until(&mut self, effects: Option<&Effects>, shutdown: &Shutdown) {
        while !shutdown.is_cancelled() {
            while let Ok(input) = self.inputs.try_recv() {
                self.take(input, effects);
            }
            if let Some(effects) = effects.filter(|_| self.synced.all())
                && self.schedule_one(effects)
            {
                tokio::task::yield_now().await;
                continue;
            }
            self.metrics.observe(&self.scheduler);
            let due = self.scheduler.next_due().filter(|_| effects.is_some());
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(input) = self.inputs.recv() => self.take(input, effects),
                () = sleep_until(due) => {}
            }
        }
    }

    fn take(&mut self, input: Input, effects: Option<&Effects>) {
        self.synced.observe(&input);
        if let (Input::PodGone { uid }, Some(effects)) = (&input, effects) {
            effects.pod_gone(uid);
        }
        self.scheduler.apply(input, Instant::now());
    }

    /// Runs a cycle; `false` if there was no pod to try.
    fn schedule_one(&mut self, effects: &Effects) -> bool {
        let start = Instant::now();
        let Some(outcome) = self.scheduler.next(start) else { return false };
        self.metrics.cycle(&outcome, start.elapsed());
        effects.carry_out(outcome, start);
        true
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Ready is who has seen all pods and nodes.
fn synced(ready: Arc<AtomicBool>) -> Check {
    Check::quick("sched-handler-sync", move || match ready.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err("waiting for handlers to sync".to_owned()),
    })
}

/// The names of the profiles' schedulers.
fn names(profiles: &Profiles) -> impl Iterator<Item = &crate::labels::Str> {
    profiles.keys()
}
