//! Jobs: pods that run until enough of them have succeeded.

mod conditions;
mod indexes;
mod plan;
mod pods;
mod policy;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use component_base::client::unless_gone;
use component_base::events::{EventType, Recorder, reference};
use component_base::informer::{Change, Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::children::{self, Changes, Owner, owner_key};
use crate::context::Context;
use crate::expectations::Expectations;
use crate::ownership;
use crate::podcontrol::PodControl;
pub use conditions::finished;
use plan::{Failures, Observed, Plan, plan};

const COMPONENT: &str = "job-controller";
/// Who keeps a job, if that is not us.
const MANAGED_BY: &str = "kubernetes.io/job-controller";
/// Pods whose finalizer is changed at a time.
const PARALLEL: usize = 64;

struct Jobs {
    client: Client,
    recorder: Recorder,
    control: PodControl,
    jobs: Store<Job>,
    pods: Store<Pod>,
    expectations: Arc<Expectations>,
    /// Uids of pods whose finalizer was taken off, until the cache shows it.
    released: Arc<Mutex<HashSet<String>>>,
    memory: Mutex<HashMap<Key, Memory>>,
}

/// What is remembered of a job from one sync to the next.
#[derive(Clone, Debug, Default)]
struct Memory {
    failures: Failures,
    /// The version in which the status was written last.
    written: Option<u64>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client(COMPONENT).await?;
    let recorder = ctx.recorder(&client, COMPONENT);
    let (jobs, pods) = (ctx.informers.get::<Job>(), ctx.informers.get::<Pod>());
    children::index(&pods);
    let queue = ctx.keys_of(&jobs);
    let expectations = Arc::new(Expectations::default());
    let changes = Changes { owners: jobs.store(), queue: queue.clone(), expectations: Arc::clone(&expectations) };
    let (released, strays) = (Arc::new(Mutex::new(HashSet::new())), WorkQueue::new());
    let (seen, known, keys) = (Arc::clone(&released), jobs.store(), strays.clone());
    pods.on_change(move |change| {
        forget_released(change, &seen);
        if change.new.as_deref().is_some_and(|pod| is_stray(pod, &known)) {
            keys.add(change.key());
        }
        changes.take(change);
    });
    let (owned, keys) = (pods.store(), strays.clone());
    jobs.on_change(move |change| {
        if change.is_deleted() {
            let left = children::controlled(&owned, &change.object().metadata);
            left.iter().for_each(|pod| keys.add(Key::of(pod.as_ref())));
        }
    });
    futures::join!(jobs.synced(), pods.synced());
    let workers = ctx.options.controllers.concurrent_job_syncs;
    let releaser = Strays { client: client.clone(), jobs: jobs.store(), pods: pods.store() };
    let controller = Jobs {
        control: PodControl::new(client.clone(), recorder.clone()),
        client,
        recorder,
        jobs: jobs.store(),
        pods: pods.store(),
        expectations,
        released,
        memory: Mutex::default(),
    };
    futures::join!(ctx.run(controller, queue, workers), ctx.run(releaser, strays, workers));
    Ok(())
}

/// The cache shows that a finalizer is off, or that the pod is gone.
fn forget_released(change: &Change<Pod>, released: &Mutex<HashSet<String>>) {
    if change.new.as_deref().is_none_or(|pod| !pods::is_tracked(pod)) {
        released.lock().remove(change.object().metadata.uid.as_deref().unwrap_or_default());
    }
}

/// Whether a pod waits to be counted by a job that is not there.
fn is_stray(pod: &Pod, jobs: &Store<Job>) -> bool {
    pods::is_tracked(pod) && owner_key(&pod.metadata, jobs).and_then(|key| jobs.get(&key)).is_none()
}

/// The patch that takes the finalizer off exactly this pod, or puts it on.
fn finalizer_patch(pod: &Pod, is_on: bool) -> Patch<Value> {
    let meta = match is_on {
        true => json!({ "uid": pod.metadata.uid, "finalizers": [pods::FINALIZER] }),
        false => json!({ "uid": pod.metadata.uid, "$deleteFromPrimitiveList/finalizers": [pods::FINALIZER] }),
    };
    Patch::Strategic(json!({ "metadata": meta }))
}

async fn set_finalizer(client: &Client, pod: &Pod, is_on: bool) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let outcome = api.patch(&pod.name_any(), &PatchParams::default(), &finalizer_patch(pod, is_on)).await;
    unless_gone(outcome).map(drop)
}

#[async_trait]
impl Controller for Jobs {
    type Key = Key;

    fn name(&self) -> &'static str {
        COMPONENT
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(job) = self.jobs.get(key) else {
            self.expectations.forget(key);
            self.memory.lock().remove(key);
            return Ok(Requeue::No);
        };
        let memory = self.memory.lock().get(key).cloned().unwrap_or_default();
        let is_ours = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref()).is_none_or(|by| by == MANAGED_BY);
        if !is_ours || is_behind(&job, memory.written) {
            // The newer state brings the key back.
            return Ok(Requeue::No);
        }
        let Some(selector) = job.selector() else { return Ok(Requeue::No) };
        // Asked before the pods are read: what is met now is in the cache.
        let may_act = self.expectations.are_met(key);
        let candidates = children::candidates(&self.pods, &job.metadata);
        let pods = ownership::claim_pods(&self.client, job.as_ref(), &selector, &candidates).await?;
        let released = self.released.lock().clone();
        let now = Timestamp::from_second(Timestamp::now().as_second())?;
        let observed =
            Observed { job: &job, pods: &pods, released: &released, may_act, failures: memory.failures, now };
        let planned = plan(&observed);
        self.memory.lock().entry(key.clone()).or_default().failures = planned.failures;
        let recheck = planned.recheck;
        self.apply(key, &job, planned).await?;
        Ok(recheck.map_or(Requeue::No, Requeue::After))
    }
}

/// Whether the cache has not shown yet what was written last. What was written must not be decided again without it.
fn is_behind(job: &Job, written: Option<u64>) -> bool {
    let version = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<u64>().ok());
    version(&job.metadata.resource_version).zip(written).is_some_and(|(seen, written)| seen < written)
}

impl Jobs {
    async fn apply(&self, key: &Key, job: &Job, planned: Plan) -> Result<(), Error> {
        if job.status.as_ref() != Some(&planned.status) {
            self.write_status(key, job, planned.status).await?;
        }
        let release = planned.release.iter().chain(&planned.discard);
        self.set_finalizers(release.filter(|pod| pods::is_tracked(pod)), false).await?;
        self.set_finalizers(planned.track.iter(), true).await?;
        let about = reference(job);
        let create: Vec<Pod> = planned.create.iter().map(|new| pods::build(job, *new)).collect();
        let delete: Vec<Arc<Pod>> = planned.delete.into_iter().chain(planned.discard).collect();
        if create.is_empty() && delete.is_empty() {
            return Ok(());
        }
        match self.control.apply(key, &about, create, &delete, &self.expectations).await {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    async fn write_status(&self, key: &Key, job: &Job, status: JobStatus) -> Result<(), Error> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        let changed = Job { status: Some(status), ..job.clone() };
        let outcome = api.replace_status(&key.name, &PostParams::default(), &changed).await;
        let Some(written) = unless_gone(outcome)? else { return Ok(()) };
        let version = written.metadata.resource_version.as_ref().and_then(|version| version.parse().ok());
        self.memory.lock().entry(key.clone()).or_default().written = version;
        self.tell(job, &changed);
        Ok(())
    }

    /// Events about what a status newly says.
    fn tell(&self, before: &Job, after: &Job) {
        let about = reference(after);
        let old = before.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let new = after.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let is_news = |type_: &str, status: &str| !old.iter().any(|one| one.type_ == type_ && one.status == status);
        for condition in new.filter(|one| is_news(&one.type_, &one.status)) {
            let message = condition.message.clone().unwrap_or_default();
            match (condition.type_.as_str(), condition.status.as_str()) {
                ("Complete", "True") => self.recorder.normal(&about, "Completed", "Job completed"),
                ("Failed", "True") => {
                    let reason = condition.reason.clone().unwrap_or_default();
                    self.recorder.event(&about, EventType::Warning, &reason, "", message);
                }
                ("Suspended", "True") => self.recorder.normal(&about, "Suspended", message),
                ("Suspended", _) => self.recorder.normal(&about, "Resumed", message),
                _ => {}
            }
        }
    }

    async fn set_finalizers<'a>(&self, pods: impl Iterator<Item = &'a Arc<Pod>>, is_on: bool) -> Result<(), Error> {
        let each = stream::iter(pods.cloned().collect::<Vec<_>>()).map(|pod| async move {
            set_finalizer(&self.client, &pod, is_on).await?;
            if !is_on && self.pods.get(&Key::of(pod.as_ref())).is_some_and(|known| pods::is_tracked(&known)) {
                self.released.lock().insert(pod.metadata.uid.clone().unwrap_or_default());
            }
            Ok::<_, kube::Error>(())
        });
        Ok(each.buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await.map(drop)?)
    }
}

/// Lets pods go that wait to be counted by a job that is not there any more.
struct Strays {
    client: Client,
    jobs: Store<Job>,
    pods: Store<Pod>,
}

#[async_trait]
impl Controller for Strays {
    type Key = Key;

    fn name(&self) -> &'static str {
        "job-orphan-pods"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| is_stray(pod, &self.jobs)) else { return Ok(Requeue::No) };
        if let Some(owner) = owner_key(&pod.metadata, &self.jobs) {
            // The cache may not know the job yet.
            let api: Api<Job> = Api::namespaced(self.client.clone(), &owner.namespace);
            let uid = ownership::controller_of(&pod.metadata).map(|owner| owner.uid.clone());
            if api.get_opt(&owner.name).await?.is_some_and(|job| job.metadata.uid == uid) {
                return Ok(Requeue::Backoff);
            }
        }
        set_finalizer(&self.client, &pod, false).await?;
        Ok(Requeue::No)
    }
}
