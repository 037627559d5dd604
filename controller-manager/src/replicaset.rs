//! ReplicaSets: as many pods of a template as asked for.

mod plan;
mod status;

use std::sync::Arc;

use async_trait::async_trait;
use component_base::events::reference;
use component_base::informer::{Change, Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::context::Context;
use crate::expectations::Expectations;
use crate::ownership;
use crate::podcontrol::{PodControl, message};
use crate::pods;
use plan::{Plan, plan};
use status::Failure;

/// Index of pods by the uid of their controller, or by namespace if they have none.
const BY_CONTROLLER: &str = "controller";
/// Index of replica sets by the uid of their controller.
const BY_OWNER: &str = "owner";
/// The source of events.
const COMPONENT: &str = "replicaset-controller";

/// The value of [`BY_CONTROLLER`] for pods without a controller.
fn orphans_of(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

/// The index `BY_CONTROLLER`, which several controllers share.
pub fn by_controller(pod: &Pod) -> Vec<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    vec![ownership::controller_of(&pod.metadata).map_or_else(|| orphans_of(namespace), |owner| owner.uid.clone())]
}

/// The pods that a controlling object may look at: its own and its namespace's orphans.
pub fn candidates(pods: &Store<Pod>, uid: &str, namespace: &str) -> Vec<Arc<Pod>> {
    let mut found = pods.indexed(BY_CONTROLLER, uid);
    found.extend(pods.indexed(BY_CONTROLLER, &orphans_of(namespace)));
    found
}

/// Adds the index that [`candidates`] needs.
pub fn index_pods(pods: &component_base::informer::Informer<Pod>) {
    pods.add_index(BY_CONTROLLER, by_controller);
}

struct ReplicaSets {
    client: Client,
    control: PodControl,
    sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    expectations: Arc<Expectations>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("replicaset-controller").await?;
    let recorder = ctx.recorder(&client, COMPONENT);
    let (sets, pods) = (ctx.informers.get::<ReplicaSet>(), ctx.informers.get::<Pod>());
    index_pods(&pods);
    sets.add_index(BY_OWNER, |set| {
        ownership::controller_of(&set.metadata).iter().map(|owner| owner.uid.clone()).collect()
    });
    let queue = WorkQueue::new();
    let expectations = Arc::new(Expectations::default());
    let keys = queue.clone();
    sets.on_change(move |change| keys.add(change.key()));
    let handler = PodHandler { sets: sets.store(), queue: queue.clone(), expectations: Arc::clone(&expectations) };
    pods.on_change(move |change| handler.handle(change));
    futures::join!(sets.synced(), pods.synced());
    let controller = ReplicaSets {
        control: PodControl::new(client.clone(), recorder),
        client,
        sets: sets.store(),
        pods: pods.store(),
        expectations,
    };
    let workers = ctx.options.controllers.concurrent_replicaset_syncs;
    ctx.run(controller, queue, workers).await;
    Ok(())
}

/// Turns changes of pods into keys of replica sets.
struct PodHandler {
    sets: Store<ReplicaSet>,
    queue: WorkQueue<Key>,
    expectations: Arc<Expectations>,
}

impl PodHandler {
    fn handle(&self, change: &Change<Pod>) {
        let old_owner = change.old.as_deref().and_then(|pod| self.owner(pod));
        let new_owner = change.new.as_deref().and_then(|pod| self.owner(pod));
        let uid = change.object().metadata.uid.as_deref().unwrap_or_default();
        let going = change.is_deleted() || change.object().metadata.deletion_timestamp.is_some();
        if let Some(owner) = new_owner.as_ref().filter(|_| change.is_added()) {
            self.expectations.creation_observed(owner);
        }
        for owner in [old_owner, new_owner].into_iter().flatten() {
            if going {
                self.expectations.deletion_observed(&owner, uid);
            }
            self.queue.add(owner);
        }
        if let Some(pod) = change.new.as_deref().filter(|pod| ownership::controller_of(&pod.metadata).is_none()) {
            self.orphan(pod);
        }
    }

    /// The replica set that controls a pod, as far as it is known.
    fn owner(&self, pod: &Pod) -> Option<Key> {
        let owner = ownership::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
        let key = Key::new(pod.metadata.namespace.clone().unwrap_or_default(), owner.name.clone());
        // A set that the cache does not know yet may be the pod's; another of the same name is not.
        let known = self.sets.get(&key);
        known.is_none_or(|set| set.metadata.uid.as_ref() == Some(&owner.uid)).then_some(key)
    }

    /// A pod without a controller concerns all sets that could adopt it.
    fn orphan(&self, pod: &Pod) {
        for set in self.sets.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default()) {
            let selector = set.spec.as_ref().and_then(|spec| ownership::selector(Some(&spec.selector)));
            if selector.is_some_and(|selector| ownership::matches(&selector, &pod.metadata)) {
                self.queue.add(Key::of(set.as_ref()));
            }
        }
    }
}

#[async_trait]
impl Controller for ReplicaSets {
    type Key = Key;

    fn name(&self) -> &'static str {
        "replicaset-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(set) = self.sets.get(key) else {
            self.expectations.forget(key);
            return Ok(Requeue::No);
        };
        let Some(selector) = set.spec.as_ref().and_then(|spec| ownership::selector(Some(&spec.selector))) else {
            return Ok(Requeue::No);
        };
        // Asked before the pods are read: what is met now is in the cache.
        let may_act = self.expectations.are_met(key) && set.metadata.deletion_timestamp.is_none();
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let candidates = candidates(&self.pods, uid, &key.namespace);
        let living: Vec<Arc<Pod>> = candidates.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
        let active = ownership::claim_pods(&self.client, set.as_ref(), &selector, &living).await?;
        let terminating = candidates
            .iter()
            .filter(|pod| ownership::is_controlled_by(&pod.metadata, &set.metadata) && pods::is_terminating(pod));
        let terminating = terminating.count();
        let now = Timestamp::now();
        let failure = if may_act { self.manage(key, &set, &active, now).await? } else { None };
        self.update_status(&set, &active, terminating, failure.as_ref(), now).await?;
        if let Some(Failure { error: Some(error), .. }) = failure {
            return Err(error.into());
        }
        Ok(status::next_available(&set, &active, now).map_or(Requeue::No, Requeue::After))
    }
}

impl ReplicaSets {
    /// Makes or deletes pods as planned; gives what failed.
    async fn manage(
        &self,
        key: &Key,
        set: &ReplicaSet,
        active: &[Arc<Pod>],
        now: Timestamp,
    ) -> Result<Option<Failure>, Error> {
        let owner = reference(set);
        match plan(set, active, &self.related(set), now) {
            Plan::Nothing => Ok(None),
            Plan::Create(count) => {
                let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
                let pod = pods::from_template(&template, &key.namespace, &key.name, ownership::owner_reference(set));
                self.expectations.expect(key, count, []);
                let observed = || self.expectations.creation_observed(key);
                let created = self.control.create(&key.namespace, &owner, vec![pod; count], observed).await;
                Ok(created.error.map(|error| Failure::create(message(&error), Some(error))))
            }
            Plan::Delete(doomed) => {
                let uids = doomed.iter().filter_map(|pod| pod.metadata.uid.clone());
                self.expectations.expect(key, 0, uids);
                let results = join_all(doomed.iter().map(|pod| async {
                    let deleted = self.control.delete(&owner, pod).await;
                    if !matches!(deleted, Ok(true)) {
                        self.expectations.deletion_observed(key, pod.metadata.uid.as_deref().unwrap_or_default());
                    }
                    deleted
                }));
                let error = results.await.into_iter().find_map(Result::err);
                Ok(error.map(|error| Failure::delete(message(&error), Some(error))))
            }
        }
    }

    /// The active pods of all sets with the same owner, which say how crowded nodes are.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let siblings = match ownership::controller_of(&set.metadata) {
            Some(owner) => self.sets.indexed(BY_OWNER, &owner.uid),
            None => vec![Arc::new(set.clone())],
        };
        let uids = siblings.iter().filter_map(|sibling| sibling.metadata.uid.clone());
        uids.flat_map(|uid| self.pods.indexed(BY_CONTROLLER, &uid)).filter(|pod| pods::is_active(pod)).collect()
    }

    async fn update_status(
        &self,
        set: &ReplicaSet,
        active: &[Arc<Pod>],
        terminating: usize,
        failure: Option<&Failure>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let wanted = status::calculate(set, active, terminating, failure, now);
        if set.status.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let api: Api<ReplicaSet> =
            Api::namespaced(self.client.clone(), set.metadata.namespace.as_deref().unwrap_or_default());
        let changed = ReplicaSet { status: Some(wanted), ..set.clone() };
        let name = set.metadata.name.as_deref().unwrap_or_default();
        match api.replace_status(name, &PostParams::default(), &changed).await {
            Err(error) if component_base::client::is_not_found(&error) => Ok(()),
            outcome => outcome.map(|_| ()).map_err(Error::from),
        }
    }
}
