//! ReplicaSets and ReplicationControllers, which differ in form only: as many pods of a template as asked for.

mod plan;
mod status;

use std::sync::Arc;

use async_trait::async_trait;
use component_base::events::reference;
use component_base::informer::{Key, Store};
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::Client;

use crate::children::{self, Changes, Owner};
use crate::context::Context;
use crate::expectations::Expectations;
use crate::podcontrol::{PodControl, message};
use crate::{ownership, pods, writes};
use plan::{Plan, plan};
use status::Failure;

/// Index of sets by the uid of their controller.
const BY_OWNER: &str = "owner";

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// How many pods.
    pub replicas: i32,
    /// How long a pod must be ready to count as available.
    pub min_ready_seconds: i32,
    /// What they are made of.
    pub template: PodTemplateSpec,
}

/// A set of equal pods.
pub trait Replicated: Owner + serde::Serialize {
    /// The controller's name.
    const CONTROLLER: &'static str;
    /// The source of its events, and its service account.
    const COMPONENT: &'static str;

    /// What is asked for.
    fn desired(&self) -> Desired;
    /// What its status says.
    fn status(&self) -> ReplicaSetStatus;
    /// The same with another status, as far as its status can say that.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Replicated for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";
    const COMPONENT: &'static str = "replicaset-controller";

    fn desired(&self) -> Desired {
        let spec = self.spec.clone().unwrap_or_default();
        Desired {
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            template: spec.template.unwrap_or_default(),
        }
    }

    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

struct Replicas<O> {
    client: Client,
    control: PodControl,
    sets: Store<O>,
    pods: Store<Pod>,
    expectations: Arc<Expectations>,
}

/// Runs the controller of replica sets.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let workers = ctx.options.controllers.concurrent_replicaset_syncs;
    start_for::<ReplicaSet>(ctx, workers).await
}

/// Runs the controller of a kind.
pub(crate) async fn start_for<O: Replicated>(ctx: Context, workers: usize) -> Result<(), Error> {
    let client = ctx.client(O::COMPONENT).await?;
    let recorder = ctx.recorder(&client, O::COMPONENT);
    let (sets, pods) = (ctx.informers.get::<O>(), ctx.informers.get::<Pod>());
    children::index(&pods);
    sets.add_index(BY_OWNER, |set| {
        ownership::controller_of(set.meta()).iter().map(|owner| owner.uid.clone()).collect()
    });
    let queue = ctx.keys_of(&sets);
    let expectations = Arc::new(Expectations::default());
    let changes = Changes { owners: sets.store(), queue: queue.clone(), expectations: Arc::clone(&expectations) };
    pods.on_change(move |change| changes.take(change));
    futures::join!(sets.synced(), pods.synced());
    let control = PodControl::new(client.clone(), recorder);
    let controller = Replicas { control, client, sets: sets.store(), pods: pods.store(), expectations };
    ctx.run(controller, queue, workers).await;
    Ok(())
}

#[async_trait]
impl<O: Replicated> Controller for Replicas<O> {
    type Key = Key;

    fn name(&self) -> &'static str {
        O::CONTROLLER
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(set) = self.sets.get(key) else {
            self.expectations.forget(key);
            return Ok(Requeue::No);
        };
        let Some(selector) = set.selector() else { return Ok(Requeue::No) };
        let meta = set.meta();
        // Asked before the pods are read: what is met now is in the cache.
        let may_act = self.expectations.are_met(key) && meta.deletion_timestamp.is_none();
        let candidates = children::candidates(&self.pods, meta);
        let living: Vec<Arc<Pod>> = candidates.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
        let active = ownership::claim_pods(&self.client, set.as_ref(), &selector, &living).await?;
        let is_ours = |pod: &&Arc<Pod>| ownership::is_controlled_by(&pod.metadata, meta);
        let terminating = candidates.iter().filter(is_ours).filter(|pod| pods::is_terminating(pod)).count();
        let (desired, now) = (set.desired(), Timestamp::now());
        let failure = if may_act { self.manage(key, &set, &desired, &active, now).await? } else { None };
        let counts = status::Counts { active: &active, terminating, now };
        let wanted = status::calculate(&set.status(), meta.generation, &desired, &counts, failure.as_ref());
        let changed = set.with_status(wanted);
        if changed.status() != set.status() {
            writes::replace_status(&self.client, &changed).await?;
        }
        if let Some(Failure { error: Some(error), .. }) = failure {
            return Err(error.into());
        }
        Ok(status::next_available(desired.min_ready_seconds, &active, now).map_or(Requeue::No, Requeue::After))
    }
}

impl<O: Replicated> Replicas<O> {
    /// Makes or deletes pods as planned; gives what failed.
    async fn manage(
        &self,
        key: &Key,
        set: &O,
        desired: &Desired,
        active: &[Arc<Pod>],
        now: Timestamp,
    ) -> Result<Option<Failure>, Error> {
        let owner = reference(set);
        match plan(desired.replicas, active, || self.related(set), now) {
            Plan::Nothing => Ok(None),
            Plan::Create(count) => {
                let reference = ownership::owner_reference(set);
                let pod = pods::from_template(&desired.template, &key.namespace, &key.name, reference);
                let error = self.control.apply(key, &owner, vec![pod; count], &[], &self.expectations).await;
                Ok(error.map(|error| Failure::create(message(&error), Some(error))))
            }
            Plan::Delete(doomed) => {
                let error = self.control.apply(key, &owner, Vec::new(), &doomed, &self.expectations).await;
                Ok(error.map(|error| Failure::delete(message(&error), Some(error))))
            }
        }
    }

    /// The active pods of all sets with the same owner, which say how crowded nodes are.
    fn related(&self, set: &O) -> Vec<Arc<Pod>> {
        let own = || vec![Arc::new(set.clone())];
        let siblings = ownership::controller_of(set.meta()).map(|owner| self.sets.indexed(BY_OWNER, &owner.uid));
        let siblings = siblings.unwrap_or_else(own);
        let all = siblings.iter().flat_map(|sibling| children::controlled(&self.pods, sibling.meta()));
        all.filter(|pod| pods::is_active(pod)).collect()
    }
}
