//! DaemonSets: one pod of a template on every node that fits.

mod nodes;
mod plan;
mod status;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use component_base::events::{EventType, Recorder, reference};
use component_base::informer::{Key, Store};
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;

use crate::children::{self, Changes, Owner, owner_key};
use crate::context::Context;
use crate::expectations::Expectations;
use crate::history::{self, POD_LABEL, Source};
use crate::podcontrol::PodControl;
use crate::{ownership, writes};
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
    children::index(&pods);
    children::index(&revisions);
    let queue = ctx.keys_of(&sets);
    let expectations = Arc::new(Expectations::default());
    let changes = Changes { owners: sets.store(), queue: queue.clone(), expectations: Arc::clone(&expectations) };
    pods.on_change(move |change| changes.take(change));
    let (keys, known) = (queue.clone(), sets.store());
    nodes.on_change(move |change| {
        if change.old.as_deref().map(nodes::fitness) != change.new.as_deref().map(nodes::fitness) {
            known.keys().into_iter().for_each(|key| keys.add(key));
        }
    });
    let (keys, known) = (queue.clone(), sets.store());
    revisions.on_change(move |change| {
        if let Some(key) = owner_key(&change.object().metadata, &known) {
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
        let Some(selector) = set.selector() else {
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
        let history: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &key.namespace);
        let revision = self.revision(&set, &history).await?;
        let candidates = children::candidates(&self.pods, &set.metadata);
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
            self.clean_history(&set, &history, &pods, &revision).await?;
        }
        self.update_status(&set, status::calculate(&set, &nodes, &pods, &revision, now)).await?;
        outcome?;
        Ok(requeue.map_or(Requeue::No, Requeue::After))
    }
}

impl DaemonSets {
    /// The hash of the present revision, whose ControllerRevision is made or brought to the top.
    async fn revision(&self, set: &DaemonSet, api: &Api<ControllerRevision>) -> Result<String, Error> {
        let known = children::controlled(&self.revisions, &set.metadata);
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        let source = Source { template: &template, collisions, label: POD_LABEL };
        if let Some(revision) = history::apply(api, set, history::plan(set, &source, &known)).await? {
            return Ok(hash_of(&revision));
        }
        let mut changed = set.status.clone().unwrap_or_default();
        changed.collision_count = Some(collisions.unwrap_or(0) + 1);
        self.update_status(set, changed).await?;
        Err("the name of the new revision is taken, another will be tried".into())
    }

    /// Deletes old revisions beyond the limit that no pod is of.
    async fn clean_history(
        &self,
        set: &DaemonSet,
        api: &Api<ControllerRevision>,
        pods: &[Arc<Pod>],
        current: &str,
    ) -> Result<(), Error> {
        let live: HashSet<&str> =
            pods.iter().filter_map(|pod| labels_of(pod)?.get(POD_LABEL).map(String::as_str)).chain([current]).collect();
        let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let known = children::controlled(&self.revisions, &set.metadata);
        let excess = history::excess(&known, |revision| live.contains(hash_of(revision).as_str()), limit);
        Ok(history::clean(api, excess).await?)
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
        let pods = planned.create.iter().map(|node| plan::pod_for(set, node, revision)).collect();
        let error = self.control.apply(key, about, pods, &planned.delete, &self.expectations).await;
        (error, wait)
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

    async fn update_status(&self, set: &DaemonSet, wanted: DaemonSetStatus) -> Result<(), Error> {
        if set.status.as_ref() != Some(&wanted) {
            writes::replace_status(&self.client, &DaemonSet { status: Some(wanted), ..set.clone() }).await?;
        }
        Ok(())
    }
}

/// The hash by which a revision's pods are known.
fn hash_of(revision: &ControllerRevision) -> String {
    revision.labels().get(POD_LABEL).cloned().unwrap_or_default()
}

/// The labels that tell which revision a pod is of.
fn labels_of(pod: &Pod) -> Option<&BTreeMap<String, String>> {
    pod.metadata.labels.as_ref()
}
