//! PodDisruptionBudgets: how many pods may be evicted at a time. The API server lets evictions through as the status allows.

mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use component_base::client::unless_gone;
use component_base::events::{EventType, Recorder, reference};
use component_base::informer::{Change, Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::{Patch, PatchParams};
use kube::core::{Selector, SelectorExt};
use kube::discovery::ApiResource;
use kube::{Api, Client, Resource, ResourceExt};

use crate::context::Context;
use crate::{discovery, ownership, writes};
use plan::{Plan, needs_scale, plan};

const WORKERS: usize = 2;

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Budget(Key),
    /// A pod that was said to be disrupted.
    Target(Key),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(key) => write!(f, "budget {key}"),
            Self::Target(key) => write!(f, "pod {key}"),
        }
    }
}

struct Disruptions {
    client: Client,
    recorder: Recorder,
    budgets: Store<PodDisruptionBudget>,
    pods: Store<Pod>,
    scales: Scales,
}

/// Where it is said how many pods a controller is to have.
struct Scales {
    client: Client,
    deployments: Store<Deployment>,
    replica_sets: Store<ReplicaSet>,
    stateful_sets: Store<StatefulSet>,
    replication_controllers: Store<ReplicationController>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("disruption-controller").await?;
    let recorder = ctx.recorder(&client, "controllermanager");
    let (budgets, pods) = (ctx.informers.get::<PodDisruptionBudget>(), ctx.informers.get::<Pod>());
    let (deployments, replica_sets) = (ctx.informers.get::<Deployment>(), ctx.informers.get::<ReplicaSet>());
    let (stateful_sets, replication_controllers) =
        (ctx.informers.get::<StatefulSet>(), ctx.informers.get::<ReplicationController>());
    let queue = WorkQueue::new();
    let keys = queue.clone();
    budgets.on_change(move |change| keys.add(Work::Budget(change.key())));
    let (keys, known) = (queue.clone(), budgets.store());
    pods.on_change(move |change| enqueue(change, &known, &keys));
    futures::join!(
        budgets.synced(),
        pods.synced(),
        deployments.synced(),
        replica_sets.synced(),
        stateful_sets.synced(),
        replication_controllers.synced()
    );
    let scales = Scales {
        client: client.clone(),
        deployments: deployments.store(),
        replica_sets: replica_sets.store(),
        stateful_sets: stateful_sets.store(),
        replication_controllers: replication_controllers.store(),
    };
    let controller = Disruptions { client, recorder, budgets: budgets.store(), pods: pods.store(), scales };
    ctx.run(controller, queue, WORKERS).await;
    Ok(())
}

fn enqueue(change: &Change<Pod>, budgets: &Store<PodDisruptionBudget>, queue: &WorkQueue<Work>) {
    let pod = change.object();
    for budget in budgets.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default()) {
        if [&change.old, &change.new].into_iter().flatten().any(|pod| selects(&budget, pod)) {
            queue.add(Work::Budget(Key::of(budget.as_ref())));
        }
    }
    if !change.is_deleted() && plan::stale_in(pod, Timestamp::now()).is_some() {
        queue.add(Work::Target(change.key()));
    }
}

/// Whether a budget is for a pod. An empty selector is for all, none for nothing.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    let selector = selector.and_then(|selector| Selector::try_from(selector).ok());
    let none = BTreeMap::new();
    selector.is_some_and(|selector| selector.matches(pod.metadata.labels.as_ref().unwrap_or(&none)))
}

#[async_trait]
impl Controller for Disruptions {
    type Key = Work;

    fn name(&self) -> &'static str {
        "disruption-controller"
    }

    async fn reconcile(&self, work: &Work) -> Result<Requeue, Error> {
        match work {
            Work::Budget(key) => self.budget(key).await,
            Work::Target(key) => self.target(key).await,
        }
    }
}

impl Disruptions {
    async fn budget(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(budget) = self.budgets.get(key) else { return Ok(Requeue::No) };
        let mut pods = self.pods.list_namespace(&key.namespace);
        pods.retain(|pod| selects(&budget, pod));
        let about = reference(budget.as_ref());
        let now = Timestamp::from_second(Timestamp::now().as_second())?;
        let scale = if needs_scale(&budget) { self.scales.total(&pods).await } else { Ok(0) };
        let scale = match scale {
            Ok(scale) => scale,
            Err(error) => {
                let note = format!("Failed to calculate the number of expected pods: {error}");
                self.recorder.event(&about, EventType::Warning, "CalculateExpectedPodCountFailed", "", &*note);
                self.write(&budget, plan::failed(&budget, &error.to_string(), now)).await?;
                return Err(error);
            }
        };
        let Plan { status, not_deleted, recheck } = plan(&budget, &pods, scale, now);
        for name in not_deleted {
            let pod = self.pods.find(&key.namespace, &name).map(|pod| reference(pod.as_ref()));
            let note = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
            self.recorder.event(&pod.unwrap_or_default(), EventType::Warning, "NotDeleted", "", note);
        }
        self.write(&budget, status).await?;
        Ok(recheck.map_or(Requeue::No, Requeue::After))
    }

    async fn write(&self, budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus) -> Result<(), Error> {
        if budget.status.as_ref() != Some(&status) {
            let changed = PodDisruptionBudget { status: Some(status), ..budget.clone() };
            writes::replace_status(&self.client, &changed).await?;
        }
        Ok(())
    }

    /// A pod that was to be disrupted and is not being deleted is not disrupted after all.
    async fn target(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(Requeue::No) };
        match plan::stale_in(&pod, Timestamp::now()) {
            None => return Ok(Requeue::No),
            Some(left) if !left.is_zero() => return Ok(Requeue::After(left)),
            Some(_) => {}
        }
        let condition = serde_json::json!({
            "type": "DisruptionTarget", "status": "False", "lastTransitionTime": Time(Timestamp::now()),
        });
        let patch =
            serde_json::json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [condition] } });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        unless_gone(api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await)?;
        Ok(Requeue::No)
    }
}

impl Scales {
    /// How many pods the controllers of these pods are to have. Pods without a controller do not count.
    async fn total(&self, pods: &[Arc<Pod>]) -> Result<i32, Error> {
        let mut controllers: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            let Some(owner) = ownership::controller_of(&pod.metadata) else { continue };
            if !controllers.contains_key(&owner.uid) {
                let (uid, scale) = self.of(&pod.namespace().unwrap_or_default(), owner).await?;
                controllers.insert(owner.uid.clone(), 0);
                controllers.insert(uid, scale);
            }
        }
        Ok(controllers.values().fold(0, |total, scale| total.saturating_add(*scale)))
    }

    /// The uid of what decides over the number, and the number.
    async fn of(&self, namespace: &str, owner: &OwnerReference) -> Result<(String, i32), Error> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let known = match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => self.of_replica_set(namespace, owner),
            ("apps", "StatefulSet") => {
                { self.stateful_sets.find(namespace, &owner.name).and_then(|set| set.spec.as_ref()?.replicas) }
                    .map(|replicas| (owner.uid.clone(), replicas))
            }
            ("", "ReplicationController") => {
                self.replication_controllers.find(namespace, &owner.name).and_then(|set| set.spec.as_ref()?.replicas)
            }
            .map(|replicas| (owner.uid.clone(), replicas)),
            _ => None,
        };
        match known {
            Some(known) => Ok(known),
            None => Ok((owner.uid.clone(), self.subresource(namespace, group, owner).await?)),
        }
    }

    fn of_replica_set(&self, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
        let set = self.replica_sets.find(namespace, &owner.name)?;
        match ownership::controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment") {
            Some(owner) => {
                let deployment = self.deployments.find(namespace, &owner.name)?;
                Some((owner.uid.clone(), deployment.spec.as_ref()?.replicas?))
            }
            None => Some((owner.uid.clone(), set.spec.as_ref()?.replicas?)),
        }
    }

    /// What any other controller says under `/scale`.
    async fn subresource(&self, namespace: &str, group: &str, owner: &OwnerReference) -> Result<i32, Error> {
        let resources = discovery::deletable(&self.client).await?;
        let is_it = |api: &ApiResource| api.group == group && api.kind == owner.kind;
        let resource = resources.into_iter().find(|resource| is_it(&resource.api));
        let resource =
            resource.ok_or_else(|| format!("no resource for the controller {} {}", owner.kind, owner.name))?;
        let path =
            format!("{}/{}/scale", kube::api::DynamicObject::url_path(&resource.api, Some(namespace)), owner.name);
        let request = http::Request::get(path).body(Vec::new())?;
        let scale: Scale = self.client.request(request).await?;
        Ok(scale.spec.and_then(|spec| spec.replicas).unwrap_or(0))
    }
}
