//! DaemonSets: one pod of a template on every node that fits.

mod history;
mod nodes;
mod plan;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use component_base::client;
use component_base::events::{EventType, Recorder, reference};
use component_base::informer::{Change, Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::context::Context;
use crate::expectations::Expectations;
use crate::ownership;
use crate::podcontrol::{PodControl, message};
use crate::replicaset::{candidates, index_pods};
use plan::{Plan, plan};

/// The source of events.
const COMPONENT: &str = "daemonset-controller";
/// First and longest wait before a failed pod is replaced.
const FAILED_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15 * 60));

struct DaemonSets {
    client: Client,
    recorder: Recorder,
    control: PodControl,
    sets: Store<DaemonSet>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    revisions: Store<ControllerRevision>,
    expectations: Arc<Expectations>,
    failures: Mutex<HashMap<(String, String), (Duration, Timestamp)>>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("daemon-set-controller").await?;
    let recorder = ctx.recorder(&client, COMPONENT);
    let (sets, pods) = (ctx.informers.get::<DaemonSet>(), ctx.informers.get::<Pod>());
    let (nodes, revisions) = (ctx.informers.get::<Node>(), ctx.informers.get::<ControllerRevision>());
    index_pods(&pods);
    let queue = WorkQueue::new();
    let expectations = Arc::new(Expectations::default());
    let keys = queue.clone();
    sets.on_change(move |change| keys.add(change.key()));
    let handler = PodHandler { sets: sets.store(), queue: queue.clone(), expectations: Arc::clone(&expectations) };
    pods.on_change(move |change| handler.handle(change));
    let (keys, known) = (queue.clone(), sets.store());
    nodes.on_change(move |change| {
        if change.old.as_deref().map(nodes::fitness) != change.new.as_deref().map(nodes::fitness) {
            known.keys().into_iter().for_each(|key| keys.add(key));
        }
    });
    let (keys, known) = (queue.clone(), sets.store());
    revisions.on_change(move |change| {
        if let Some(key) = owner(&change.object().metadata, &known) {
            keys.add(key);
        }
    });
    futures::join!(sets.synced(), pods.synced(), nodes.synced(), revisions.synced());
    let controller = DaemonSets {
        control: PodControl::new(client.clone(), recorder.clone()),
        client,
        recorder,
        sets: sets.store(),
        pods: pods.store(),
        nodes: nodes.store(),
        revisions: revisions.store(),
        expectations,
        failures: Mutex::default(),
    };
    ctx.run(controller, queue, ctx.options.controllers.concurrent_daemonset_syncs).await;
    Ok(())
}

/// The daemon set that controls an object, as far as it is known.
fn owner(meta: &kube::api::ObjectMeta, sets: &Store<DaemonSet>) -> Option<Key> {
    let owner = ownership::controller_of(meta).filter(|owner| owner.kind == "DaemonSet")?;
    let key = Key::new(meta.namespace.clone().unwrap_or_default(), owner.name.clone());
    let known = sets.get(&key);
    known.is_none_or(|set| set.metadata.uid.as_ref() == Some(&owner.uid)).then_some(key)
}

/// Turns changes of pods into keys of daemon sets.
struct PodHandler {
    sets: Store<DaemonSet>,
    queue: WorkQueue<Key>,
    expectations: Arc<Expectations>,
}

impl PodHandler {
    fn handle(&self, change: &Change<Pod>) {
        let pod = change.object();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let going = change.is_deleted() || pod.metadata.deletion_timestamp.is_some();
        for (side, is_new) in [(&change.old, false), (&change.new, true)] {
            let Some(key) = side.as_deref().and_then(|pod| owner(&pod.metadata, &self.sets)) else { continue };
            if is_new && change.is_added() {
                self.expectations.creation_observed(&key);
            }
            if going {
                self.expectations.deletion_observed(&key, uid);
            }
            self.queue.add(key);
        }
        let orphan = change.new.as_deref().filter(|pod| ownership::controller_of(&pod.metadata).is_none());
        let Some(orphan) = orphan else { return };
        for set in self.sets.list_namespace(orphan.metadata.namespace.as_deref().unwrap_or_default()) {
            let selector = set.spec.as_ref().and_then(|spec| ownership::selector(Some(&spec.selector)));
            if selector.is_some_and(|selector| ownership::matches(&selector, &orphan.metadata)) {
                self.queue.add(Key::of(set.as_ref()));
            }
        }
    }
}

#[async_trait]
impl Controller for DaemonSets {
    type Key = Key;

    fn name(&self) -> &'static str {
        "daemonset-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(set) = self.sets.get(key) else {
            self.expectations.forget(key);
            return Ok(Requeue::No);
        };
        let about = reference(set.as_ref());
        let Some(selector) = set.spec.as_ref().and_then(|spec| ownership::selector(Some(&spec.selector))) else {
            self.recorder.warning(
                &about,
                "SelectingAll",
                "This daemon set is selecting all pods. A non-empty selector is required.",
            );
            return Ok(Requeue::No);
        };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Requeue::No);
        }
        // Asked before the pods are read: what is met now is in the cache.
        let may_act = self.expectations.are_met(key);
        let revision = self.revision(&set, key).await?;
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let candidates = candidates(&self.pods, uid, &key.namespace);
        let pods = ownership::claim_pods(&self.client, set.as_ref(), &selector, &candidates).await?;
        let now = Timestamp::from_second(Timestamp::now().as_second())?;
        let nodes = self.nodes.list();
        let planned = plan(&set, &nodes, &pods, &revision, now);
        let mut requeue = planned.recheck;
        let mut outcome = Ok(());
        if may_act {
            let (error, wait) = self.apply(key, &set, &about, planned, &revision, now).await;
            requeue = [requeue, wait].into_iter().flatten().min();
            outcome = error.map_or(Ok(()), |error| Err(Error::from(error)));
            self.clean_history(&set, key, &pods, &revision).await?;
        }
        self.update_status(&set, status::calculate(&set, &nodes, &pods, &revision, now)).await?;
        outcome?;
        Ok(requeue.map_or(Requeue::No, Requeue::After))
    }
}

impl DaemonSets {
    /// The hash of the present revision, whose ControllerRevision is made or brought to the top.
    async fn revision(&self, set: &DaemonSet, key: &Key) -> Result<String, Error> {
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &key.namespace);
        let known = self.history(set, key);
        match history::plan(set, &known) {
            history::Step::Current(hash) => Ok(hash),
            history::Step::Raise(revision) => {
                let name = revision.metadata.name.clone().unwrap_or_default();
                api.replace(&name, &PostParams::default(), &revision).await?;
                Ok(history::hash_of(&revision))
            }
            history::Step::Create(revision) => match api.create(&PostParams::default(), &revision).await {
                Ok(created) => Ok(history::hash_of(&created)),
                Err(error) if client::is_already_exists(&error) => {
                    let existing = api.get(revision.metadata.name.as_deref().unwrap_or_default()).await?;
                    if existing.data == revision.data && ownership::is_controlled_by(&existing.metadata, &set.metadata)
                    {
                        return Ok(history::hash_of(&existing));
                    }
                    let mut changed = set.status.clone().unwrap_or_default();
                    changed.collision_count = Some(changed.collision_count.unwrap_or(0) + 1);
                    self.update_status(set, changed).await?;
                    Err(error.into())
                }
                Err(error) => Err(error.into()),
            },
        }
    }

    fn history(&self, set: &DaemonSet, key: &Key) -> Vec<Arc<ControllerRevision>> {
        let all = self.revisions.list_namespace(&key.namespace);
        all.into_iter().filter(|revision| ownership::is_controlled_by(&revision.metadata, &set.metadata)).collect()
    }

    async fn clean_history(&self, set: &DaemonSet, key: &Key, pods: &[Arc<Pod>], current: &str) -> Result<(), Error> {
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &key.namespace);
        for name in history::excess(set, &self.history(set, key), pods, current) {
            match api.delete(&name, &DeleteParams::default()).await {
                Err(error) if !client::is_not_found(&error) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes and deletes pods; gives the first error, and when failed pods that wait may be replaced.
    async fn apply(
        &self,
        key: &Key,
        set: &DaemonSet,
        about: &ObjectReference,
        mut planned: Plan,
        revision: &str,
        now: Timestamp,
    ) -> (Option<kube::Error>, Option<Duration>) {
        let mut wait = None;
        for pod in planned.replace.drain(..) {
            match self.backoff(set, &pod, now) {
                Some(left) => wait = [wait, Some(left)].into_iter().flatten().min(),
                None => {
                    self.report_ended(about, &pod);
                    planned.delete.push(pod);
                }
            }
        }
        let uids = planned.delete.iter().filter_map(|pod| pod.metadata.uid.clone());
        self.expectations.expect(key, planned.create.len(), uids);
        let pods = planned.create.iter().map(|node| plan::pod_for(set, node, revision)).collect();
        let observed = || self.expectations.creation_observed(key);
        let created = self.control.create(&key.namespace, about, pods, observed).await;
        let deleted = join_all(planned.delete.iter().map(|pod| async {
            let deleted = self.control.delete(about, pod).await;
            if !matches!(deleted, Ok(true)) {
                self.expectations.deletion_observed(key, pod.metadata.uid.as_deref().unwrap_or_default());
            }
            deleted
        }));
        (created.error.or(deleted.await.into_iter().find_map(Result::err)), wait)
    }

    /// How long a failed pod must wait to be replaced; `None` if it may be now, which counts as a try.
    fn backoff(&self, set: &DaemonSet, pod: &Pod, now: Timestamp) -> Option<Duration> {
        let node = nodes::node_of(pod).unwrap_or_default();
        let key = (set.metadata.uid.clone().unwrap_or_default(), node);
        let mut failures = self.failures.lock();
        failures.retain(|_, (delay, until)| {
            now.duration_since(*until).as_secs_f64() < (*delay).max(FAILED_BACKOFF.1).as_secs_f64()
        });
        let (delay, until) = failures.get(&key).copied().unwrap_or((Duration::ZERO, now));
        let left = until.duration_since(now).as_secs_f64();
        if left > 0.0 {
            return Some(Duration::from_secs_f64(left));
        }
        let next = (delay * 2).clamp(FAILED_BACKOFF.0, FAILED_BACKOFF.1);
        failures.insert(key, (next, now.saturating_add(next).unwrap_or(now)));
        None
    }

    fn report_ended(&self, about: &ObjectReference, pod: &Pod) {
        let (namespace, name) =
            (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
        let node = nodes::node_of(pod).unwrap_or_default();
        let failed = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed");
        if failed {
            let note = format!("Found failed daemon pod {namespace}/{name} on node {node}, will try to kill it");
            self.recorder.event(about, EventType::Warning, "FailedDaemonPod", "", note);
        } else {
            let note = format!("Found succeeded daemon pod {namespace}/{name} on node {node}, will try to delete it");
            self.recorder.normal(about, "SucceededDaemonPod", note);
        }
    }

    async fn update_status(
        &self,
        set: &DaemonSet,
        wanted: k8s_openapi::api::apps::v1::DaemonSetStatus,
    ) -> Result<(), Error> {
        if set.status.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let api: Api<DaemonSet> =
            Api::namespaced(self.client.clone(), set.metadata.namespace.as_deref().unwrap_or_default());
        let changed = DaemonSet { status: Some(wanted), ..set.clone() };
        let name = set.metadata.name.as_deref().unwrap_or_default();
        match api.replace_status(name, &PostParams::default(), &changed).await {
            Err(error) if client::is_not_found(&error) => Ok(()),
            Err(error) => {
                tracing::debug!(set = name, error = message(&error), "status not written");
                Err(error.into())
            }
            Ok(_) => Ok(()),
        }
    }
}

/// The labels that tell which revision a pod is of.
fn labels_of(pod: &Pod) -> Option<&BTreeMap<String, String>> {
    pod.metadata.labels.as_ref()
}
