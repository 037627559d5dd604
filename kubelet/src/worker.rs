//! The worker of one pod: observes, plans, applies, tells the status, and waits for the next change. One task per pod, so that nothing
//! of a pod ever happens twice at a time.

mod apply;
mod hooks;
mod observe;
pub use apply::chain;
pub use observe::state_of;
mod start;
mod terminate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use component_base::shutdown::Shutdown;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::agent::Agent;
use crate::pod;
use crate::pod::backoff::Backoff;
use crate::pod::plan::{Observed, PodPlan, plan_pod};
use crate::pod::status::{self, Failure, Waiting};
use crate::probes::Probes;
use crate::runtime::PodView;
use crate::volumes::PodVolumes;

/// Wait after something failed, doubled up to the longest.
const RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(20);
/// How often volumes that follow the API are looked at.
const REFRESH: Duration = Duration::from_secs(45);

/// What a worker is told.
#[derive(Clone, Debug)]
pub struct Input {
    pub pod: Arc<Pod>,
    /// The pod is gone from its source: end it, whatever its object says.
    pub removed: bool,
    /// The kubelet itself ends the pod.
    pub failure: Option<Failure>,
    /// Overrides the grace period, for evictions and shutdowns.
    pub grace: Option<Duration>,
}

impl Input {
    fn ends(&self) -> bool {
        self.removed || self.failure.is_some() || self.pod.metadata.deletion_timestamp.is_some()
    }
}

/// What others see of a worker.
#[derive(Debug, Default)]
pub struct Shared {
    pub view: Mutex<PodView>,
    pub status: Mutex<PodStatus>,
}

/// The handle of a worker.
#[derive(Clone)]
pub struct Handle {
    pub input: watch::Sender<Input>,
    pub shared: Arc<Shared>,
    /// Set off when the runtime's state of the pod changed.
    pub resync: Arc<Notify>,
    pub statuses: watch::Receiver<Told>,
    /// Set off when the mirror of a static pod changed in the API.
    pub mirror_changed: Arc<Notify>,
}

/// What a worker tells about its pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub status: PodStatus,
    /// Everything has stopped and is cleaned up: the object may go.
    pub done: bool,
}

pub struct Worker {
    agent: Arc<Agent>,
    input: watch::Receiver<Input>,
    shared: Arc<Shared>,
    resync: Arc<Notify>,
    told: watch::Sender<Told>,
    view: PodView,
    probes: Probes,
    probed: Arc<Notify>,
    backoffs: BTreeMap<String, Backoff>,
    waiting: BTreeMap<String, Waiting>,
    volumes: Option<PodVolumes>,
    status: PodStatus,
    finished: bool,
    /// The pod was over before this worker began: its status stands.
    over: bool,
    prepared: bool,
    retry: Duration,
    shutdown: Shutdown,
}

/// When to go on though nothing changed.
enum Next {
    Wait(Option<Timestamp>),
    Retry,
}

impl Worker {
    /// Makes a worker and its handle; [`Worker::run`] is then to be spawned.
    pub fn new(agent: Arc<Agent>, input: Input, shutdown: Shutdown) -> (Self, Handle) {
        let status = input.pod.status.clone().unwrap_or_default();
        let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let (sender, receiver) = watch::channel(input);
        let (told, statuses) = watch::channel(Told::default());
        let shared = Arc::new(Shared::default());
        *shared.status.lock() = status.clone();
        let (resync, probed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handle = Handle {
            input: sender,
            shared: Arc::clone(&shared),
            resync: Arc::clone(&resync),
            statuses,
            mirror_changed: Arc::default(),
        };
        let probes = Probes::new(Arc::clone(&agent), Arc::clone(&probed));
        let worker = Self {
            agent,
            input: receiver,
            shared,
            resync,
            told,
            view: PodView::default(),
            probes,
            probed,
            backoffs: BTreeMap::new(),
            waiting: BTreeMap::new(),
            volumes: None,
            status,
            finished: over,
            over,
            prepared: false,
            retry: RETRY,
            shutdown,
        };
        (worker, handle)
    }

    fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.input.borrow().pod)
    }

    /// Runs until the pod is gone, or the kubelet ends (which leaves the containers alone).
    pub async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        self.observe_until_known().await;
        loop {
            let mut input = self.input.borrow_and_update().clone();
            if !self.finished && input.failure.is_none() {
                input.failure = self.deadline(&input.pod);
            }
            if input.ends() {
                match self.terminate(&input).await {
                    Ok(()) => {
                        self.finished = true;
                        self.tell(&input, true);
                        if input.failure.is_none() || input.removed || input.pod.metadata.deletion_timestamp.is_some() {
                            return self.clean_up(&input).await;
                        }
                        // The kubelet ended it: the object stays until someone deletes it.
                        if self.input.changed().await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(pod = pod::name(&input.pod), %error, "the pod cannot be ended yet");
                        self.pause().await;
                        self.observe_until_known().await;
                    }
                }
                continue;
            }
            let next = self.step(&input).await;
            self.wait(next).await;
        }
    }

    async fn step(&mut self, input: &Input) -> Next {
        let pod = &input.pod;
        self.probes.sync(pod, &self.view);
        if self.finished {
            if self.view.running().next().is_some()
                && let Err(error) = self.stop_all(pod, None).await
            {
                tracing::warn!(pod = pod::name(pod), %error, "what still runs of a pod that is over cannot be stopped yet");
                return Next::Retry;
            }
            self.tell(input, false);
            return Next::Wait(None);
        }
        let probes = self.probes.view();
        let observed = Observed { view: &self.view, probes: &probes, backoffs: &self.backoffs };
        let plan = plan_pod(pod, observed, Timestamp::now());
        self.note_waits(pod, &plan);
        let outcome = self.apply(pod, &plan).await;
        self.probes.sync(pod, &self.view);
        self.tell(input, false);
        match outcome {
            Ok(again) => {
                if again {
                    self.retry = RETRY;
                }
                Next::Wait(if again { Some(Timestamp::now()) } else { earliest(plan.wake_at(), self.deadline_at(pod)) })
            }
            Err(error) => {
                tracing::warn!(pod = %format!("{}/{}", pod::namespace(pod), pod::name(pod)), %error, "the pod is not as wanted yet");
                Next::Retry
            }
        }
    }

    fn deadline_at(&self, pod: &Pod) -> Option<Timestamp> {
        let seconds = pod::spec(pod).active_deadline_seconds?;
        let start = self.status.start_time.as_ref()?.0;
        Some(start + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    /// The pod's end when `activeDeadlineSeconds` have passed.
    fn deadline(&self, pod: &Pod) -> Option<Failure> {
        if self.deadline_at(pod)? > Timestamp::now() {
            return None;
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        Some(Failure { reason: "DeadlineExceeded".into(), message })
    }

    fn note_waits(&mut self, pod: &Arc<Pod>, plan: &PodPlan) {
        for wait in &plan.wait {
            let delay = self.backoffs.get(&wait.name).map_or(0, |backoff| backoff.delay.as_secs());
            let text = format!(
                "{} restarting failed container={} pod={}_{}({})",
                go_seconds(delay),
                wait.name,
                pod::name(pod),
                pod::namespace(pod),
                pod::uid(pod)
            );
            let message = format!("back-off {text}");
            let waiting = Waiting { reason: "CrashLoopBackOff".into(), message };
            if self.waiting.insert(wait.name.clone(), waiting.clone()).as_ref() != Some(&waiting) {
                let note = format!(
                    "Back-off restarting failed container {} in pod {}_{}({})",
                    wait.name,
                    pod::name(pod),
                    pod::namespace(pod),
                    pod::uid(pod)
                );
                self.agent.recorder.warning(&pod::reference(pod), "BackOff", note);
            }
        }
    }

    /// Computes the status and hands it on when it changed.
    fn tell(&mut self, input: &Input, done: bool) {
        let host_ips = self.agent.host_ips.load_full();
        let probes = self.probes.view();
        let mut status = status::compute(status::Input {
            pod: &input.pod,
            view: &self.view,
            probes: &probes,
            waiting: &self.waiting,
            runtime: &self.agent.runtime_name,
            host_ips: &host_ips,
            failure: input.failure.as_ref(),
            finished: self.finished,
            previous: &self.status_with_foreign(input),
            now: Timestamp::now(),
        });
        if done && !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            // What was ended before its own end did not fail for its owner's sake.
            let failed = status.container_statuses.iter().flatten().any(|container| {
                container
                    .state
                    .as_ref()
                    .and_then(|state| state.terminated.as_ref())
                    .is_none_or(|end| end.exit_code != 0)
            });
            status.phase = Some(if failed { "Failed" } else { "Succeeded" }.into());
        }
        if self.over {
            status.clone_from(&self.status);
        }
        self.status = status.clone();
        *self.shared.status.lock() = status.clone();
        *self.shared.view.lock() = self.view.clone();
        let told = Told { status, done };
        self.told.send_if_modified(|current| {
            let changed = *current != told;
            *current = told;
            changed
        });
    }

    /// The last status, with the conditions that others have set since.
    fn status_with_foreign(&self, input: &Input) -> PodStatus {
        let mut previous = self.status.clone();
        let known: Vec<String> =
            previous.conditions.iter().flatten().map(|condition| condition.type_.clone()).collect();
        let theirs = input.pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let conditions = previous.conditions.get_or_insert_default();
        for condition in theirs {
            match conditions.iter_mut().find(|old| old.type_ == condition.type_) {
                Some(old) if !OWN.contains(&condition.type_.as_str()) => *old = condition,
                None if !known.contains(&condition.type_) => conditions.push(condition),
                _ => {}
            }
        }
        previous
    }

    async fn wait(&mut self, next: Next) {
        let until = match next {
            Next::Wait(Some(at)) => {
                let span = at.duration_since(Timestamp::now());
                Some(Duration::try_from(span).unwrap_or(Duration::ZERO))
            }
            Next::Wait(None) => None,
            Next::Retry => {
                let retry = self.retry;
                self.retry = (retry * 2).min(MAX_RETRY);
                Some(retry)
            }
        };
        let retry = async {
            match until {
                Some(until) => tokio::time::sleep(until).await,
                None => std::future::pending().await,
            }
        };
        let refresh = self.volumes.as_ref().is_some_and(PodVolumes::follow);
        let refresh = async {
            match refresh {
                true => tokio::time::sleep(REFRESH).await,
                false => std::future::pending().await,
            }
        };
        let resync = Arc::clone(&self.resync);
        let probed = Arc::clone(&self.probed);
        let gone = tokio::select! {
            changed = self.input.changed() => changed.is_err(),
            () = resync.notified() => { self.observe_until_known().await; false }
            () = probed.notified() => false,
            () = retry => { if matches!(next, Next::Retry) { self.observe_until_known().await; } false }
            () = refresh => { self.refresh_volumes().await; false }
        };
        if gone {
            // The manager is gone: the kubelet ends.
            self.shutdown.clone().cancelled().await;
        }
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.retry).await;
        self.retry = (self.retry * 2).min(MAX_RETRY);
    }

    async fn refresh_volumes(&mut self) {
        let pod = self.pod();
        let agent = Arc::clone(&self.agent);
        let ips = self.view.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
        let host_ips = agent.host_ips.load_full();
        let Some(volumes) = &mut self.volumes else { return };
        let context =
            crate::volumes::Context { pod: &pod, facts: agent.facts(&ips, &host_ips), objects: &agent.objects };
        if let Err(error) = volumes.refresh(context).await {
            tracing::warn!(pod = pod::name(&pod), %error, "a volume could not be brought up to date");
        }
    }
}

/// Conditions that the kubelet owns.
const OWN: &[&str] = &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// As Go prints a duration of whole seconds.
fn go_seconds(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
