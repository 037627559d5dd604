//! The worker of one pod: observes, plans, applies, tells the status, and waits for the next change. One task per pod, so that nothing
//! of a pod ever happens twice at a time.

mod apply;
mod hooks;
mod observe;
mod resize;
mod start;
mod tell;
mod terminate;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use component_base::shutdown::Shutdown;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::cgroups::Limits;
use crate::pod;
use crate::pod::backoff::Backoff;
use crate::pod::plan::{Observed, plan_pod};
use crate::pod::resize::Pending;
use crate::pod::status::{Failure, Waiting};
use crate::probes::Probes;
use crate::runtime::PodView;
use crate::runtime::relist::Listed;
use crate::volumes::PodVolumes;

pub use apply::chain;
pub use observe::state_of;

/// Wait after something failed, doubled up to the longest.
const RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(20);

/// What a worker is told.
#[derive(Clone, Debug)]
pub struct Input {
    pub pod: Arc<Pod>,
    /// The pod is gone from its source: end it, whatever its object says.
    pub removed: bool,
    /// The kubelet itself ends the pod, or never lets it begin.
    pub failure: Option<Failure>,
    /// Overrides the grace period, for evictions and shutdowns.
    pub grace: Option<Duration>,
}

impl Input {
    /// The pod is to be ended, by whoever wants it.
    fn ends(&self) -> bool {
        self.leaves() || self.failure.is_some()
    }

    /// The pod's object goes, or has gone.
    fn leaves(&self) -> bool {
        self.removed || self.pod.metadata.deletion_timestamp.is_some()
    }
}

/// What others see of a worker, and what they leave for it.
#[derive(Debug, Default)]
pub struct Shared {
    pub view: Mutex<PodView>,
    pub status: Mutex<PodStatus>,
    news: Mutex<News>,
}

/// What the runtime told since the worker last looked.
#[derive(Debug, Default)]
struct News {
    listed: Option<Listed>,
    /// Containers and sandboxes that ended.
    ended: Vec<String>,
}

/// The handle of a worker.
#[derive(Clone)]
pub struct Handle {
    pub input: watch::Sender<Input>,
    pub shared: Arc<Shared>,
    news: Arc<Notify>,
    pub statuses: watch::Receiver<Told>,
    /// Set off when the mirror of a static pod changed in the API.
    pub mirror_changed: Arc<Notify>,
}

impl Handle {
    /// The pod, unless it is over and takes nothing of the node.
    pub fn takes_place(&self) -> Option<Arc<Pod>> {
        let input = self.input.borrow();
        let over = matches!(self.shared.status.lock().phase.as_deref(), Some("Succeeded" | "Failed"));
        (input.failure.is_none() && !over).then(|| Arc::clone(&input.pod))
    }

    /// The runtime has something else than the worker last saw.
    pub fn look_at(&self, listed: Listed) {
        self.shared.news.lock().listed = Some(listed);
        self.news.notify_one();
    }

    /// A container or sandbox of the pod ended.
    pub fn ended(&self, id: &str) {
        self.shared.news.lock().ended.push(id.to_owned());
        self.news.notify_one();
    }
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
    news: Arc<Notify>,
    told: watch::Sender<Told>,
    view: PodView,
    probes: Probes,
    probed: Arc<Notify>,
    backoffs: BTreeMap<String, Backoff>,
    waiting: BTreeMap<String, Waiting>,
    volumes: Option<PodVolumes>,
    /// Set off when a ConfigMap or Secret is not what the pod was given.
    objects_changed: Arc<Notify>,
    /// The pod whose objects are followed.
    followed: Option<Arc<Pod>>,
    /// The volumes may not show what they should.
    stale: bool,
    status: PodStatus,
    /// Why the kubelet ended the pod, once it did.
    failure: Option<Failure>,
    finished: bool,
    /// The pod was over before this worker began: its status stands.
    over: bool,
    prepared: bool,
    resize: resize::Resize,
    /// What the pod's cgroup is limited to.
    cgroup_limits: Option<Limits>,
    /// Containers whose preStop hook was run.
    hooked: Mutex<HashSet<String>>,
    /// Sandboxes that were stopped, network and all.
    torn_down: HashSet<String>,
    /// When the runtime was last made to do something: what it listed before is old.
    acted: Instant,
    retry: Duration,
    /// Before this nothing is gained by trying again.
    not_before: Option<Timestamp>,
    shutdown: Shutdown,
}

/// When to go on though nothing changed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    At(Option<Timestamp>),
    /// After a failure: then the runtime is asked what there is.
    Retry(Timestamp),
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
        let (news, probed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handle = Handle {
            input: sender,
            shared: Arc::clone(&shared),
            news: Arc::clone(&news),
            statuses,
            mirror_changed: Arc::default(),
        };
        let probes = Probes::new(Arc::clone(&agent), Arc::clone(&probed));
        let worker = Self {
            agent,
            input: receiver,
            shared,
            news,
            told,
            view: PodView::default(),
            probes,
            probed,
            backoffs: BTreeMap::new(),
            waiting: BTreeMap::new(),
            volumes: None,
            objects_changed: Arc::default(),
            followed: None,
            stale: false,
            status,
            failure: None,
            finished: over,
            over,
            prepared: false,
            resize: resize::Resize::default(),
            cgroup_limits: None,
            hooked: Mutex::default(),
            torn_down: HashSet::new(),
            acted: Instant::now(),
            retry: RETRY,
            not_before: None,
            shutdown,
        };
        (worker, handle)
    }

    fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.input.borrow().pod)
    }

    fn now(&self) -> Timestamp {
        self.agent.clock.now()
    }

    /// Runs until the pod is gone, or the kubelet ends (which leaves the containers alone).
    pub async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.work() => {}
        }
        self.agent.objects.forget(&self.pod());
        self.agent.images.forget(pod::uid(&self.pod()));
    }

    async fn work(&mut self) {
        self.remember_resources();
        self.first_look().await;
        loop {
            let input = self.input.borrow_and_update().clone();
            self.follow(&input.pod);
            if self.failure.is_none() && !self.finished {
                self.failure = input.failure.clone().or_else(|| self.deadline(&input.pod));
            }
            if input.leaves() || self.failure.is_some() {
                if self.end(&input).await {
                    return;
                }
                continue;
            }
            let next = self.step(&input).await;
            self.wait(next).await;
        }
    }

    /// Follows the objects that the pod names, which change with its containers.
    fn follow(&mut self, pod: &Arc<Pod>) {
        let Some(followed) = self.followed.replace(Arc::clone(pod)) else {
            return self.agent.objects.follow(pod, &self.objects_changed);
        };
        let shown = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        self.stale |= shown(&followed) != shown(pod);
        if followed.spec != pod.spec {
            self.agent.objects.follow(pod, &self.objects_changed);
        }
    }

    /// Ends the pod; whether nothing is left to do for it.
    async fn end(&mut self, input: &Input) -> bool {
        match self.terminate(input).await {
            Ok(terminate::Outcome::Stopped) => {}
            Ok(terminate::Outcome::Sooner) => return false,
            Err(error) => {
                tracing::warn!(pod = pod::name(&input.pod), error = chain(&error), "the pod cannot be ended yet");
                self.pause().await;
                self.observe_until_known().await;
                return false;
            }
        }
        self.finished = true;
        self.tell(input, true);
        if input.leaves() {
            self.clean_up(input).await;
            return true;
        }
        // The kubelet ended it: the object stays until someone deletes it.
        self.input.changed().await.is_err()
    }

    async fn step(&mut self, input: &Input) -> Next {
        let pod = &self.given(&input.pod);
        self.probes.sync(pod, &self.view, &self.status);
        if self.finished {
            return self.stay_finished(input).await;
        }
        let (probes, limits) = (self.probes.view(), self.limits(pod));
        let observed = Observed { view: &self.view, probes: &probes, backoffs: &self.backoffs, limits: &limits };
        let plan = plan_pod(pod, observed, self.now());
        self.note_waits(pod, &plan);
        self.not_before = None;
        if plan.create_sandbox.is_some() {
            self.tell(input, false);
        }
        let outcome = self.apply(pod, &plan, &limits).await;
        self.probes.sync(pod, &self.view, &self.status);
        self.tell(input, false);
        match outcome {
            Ok(true) => {
                self.retry = RETRY;
                Next::At(Some(self.now()))
            }
            Ok(false) => Next::At(earliest([plan.wake_at(), self.deadline_at(pod), self.renewal()])),
            Err(error) => {
                let name = format!("{}/{}", pod::namespace(pod), pod::name(pod));
                tracing::warn!(pod = name, error = chain(&error), "the pod is not as wanted yet");
                let retry = self.not_before.unwrap_or_else(|| self.now() + self.longer());
                Next::Retry(earliest([Some(retry), plan.wake_at(), self.deadline_at(pod)]).unwrap_or(retry))
            }
        }
    }

    /// Nothing of a pod that is over runs.
    async fn stay_finished(&mut self, input: &Input) -> Next {
        if self.view.running().next().is_some()
            && let Err(error) = self.stop_all(&input.pod, None).await
        {
            let name = pod::name(&input.pod);
            tracing::warn!(pod = name, error = chain(&error), "what runs of a pod that is over cannot be stopped yet");
            return Next::Retry(self.now() + self.longer());
        }
        self.tell(input, false);
        Next::At(None)
    }

    /// The wait after this failure; the next one is longer.
    fn longer(&mut self) -> Duration {
        let retry = self.retry;
        self.retry = (retry * 2).min(MAX_RETRY);
        retry
    }

    /// When a volume's content has to be renewed.
    fn renewal(&self) -> Option<Timestamp> {
        self.volumes.as_ref().and_then(PodVolumes::renewal)
    }

    fn deadline_at(&self, pod: &Pod) -> Option<Timestamp> {
        let seconds = pod::spec(pod).active_deadline_seconds?;
        let start = self.status.start_time.as_ref()?.0;
        Some(start + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    /// The pod's end when `activeDeadlineSeconds` have passed.
    fn deadline(&self, pod: &Pod) -> Option<Failure> {
        if self.deadline_at(pod)? > self.now() {
            return None;
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        self.agent.recorder.normal(&pod::reference(&self.pod()), "DeadlineExceeded", message.clone());
        Some(Failure::new("DeadlineExceeded", message))
    }

    async fn wait(&mut self, next: Next) {
        let until = match next {
            Next::At(until) => until,
            Next::Retry(until) => Some(until),
        };
        let now = self.now();
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep(until.duration_since(now).try_into().unwrap_or_default()).await,
                None => std::future::pending().await,
            }
        };
        let (news, probed) = (Arc::clone(&self.news), Arc::clone(&self.probed));
        let mut freed = self.agent.places.freed();
        let deferred = matches!(self.resize.pending, Some(Pending::Deferred(_)));
        let objects_changed = Arc::clone(&self.objects_changed);
        tokio::select! {
            changed = self.input.changed() => if changed.is_err() {
                // The manager is gone: the kubelet ends.
                self.shutdown.clone().cancelled().await;
            },
            () = news.notified() => self.take_news().await,
            () = probed.notified() => {}
            () = objects_changed.notified() => {
                self.stale = true;
                self.retry = RETRY;
            }
            // The sender lives as long as the agent.
            _ = freed.changed(), if deferred => {}
            () = timer => match next {
                Next::Retry(_) => self.observe_until_known().await,
                Next::At(_) => self.stale |= self.renewal().is_some_and(|at| at <= self.now()),
            },
        }
    }

    async fn pause(&mut self) {
        let pause = self.longer();
        tokio::time::sleep(pause).await;
    }
}

fn earliest<const N: usize>(times: [Option<Timestamp>; N]) -> Option<Timestamp> {
    times.into_iter().flatten().min()
}

#[cfg(test)]
mod tests;
