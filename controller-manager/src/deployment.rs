//! Deployments: replica sets per revision of the template, scaled so that a rollout keeps to its strategy.

mod annotations;
mod hash;
mod plan;
mod rolling;
mod scale;
mod sets;
mod status;

#[cfg(test)]
mod testing;

use std::sync::Arc;

use async_trait::async_trait;
use component_base::client;
use component_base::events::{EventType, Recorder, reference};
use component_base::informer::{Change, Key, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ObjectMeta, PostParams};
use kube::core::Selector;
use kube::{Api, Client};

use crate::children::{self, Changes, Owner, owner_key};
use crate::context::Context;
use crate::ownership::{self, Claim};
use crate::podcontrol::message;
use crate::{pods, writes};
pub use hash::template_hash;
use plan::{Action, plan};

/// The source of events.
const COMPONENT: &str = "deployment-controller";

struct Deployments {
    client: Client,
    recorder: Recorder,
    deployments: Store<Deployment>,
    sets: Store<ReplicaSet>,
    pods: Store<Pod>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("deployment-controller").await?;
    let recorder = ctx.recorder(&client, COMPONENT);
    let (deployments, sets) = (ctx.informers.get::<Deployment>(), ctx.informers.get::<ReplicaSet>());
    let pods = ctx.informers.get::<Pod>();
    children::index(&pods);
    children::index(&sets);
    let queue = ctx.keys_of(&deployments);
    let changes = Changes { owners: deployments.store(), queue: queue.clone(), expectations: Arc::default() };
    sets.on_change(move |change| changes.take(change));
    let (keys, known, owners) = (queue.clone(), deployments.store(), sets.store());
    pods.on_change(move |change| enqueue_recreate(change, &owners, &known, &keys));
    futures::join!(deployments.synced(), sets.synced(), pods.synced());
    let controller =
        Deployments { client, recorder, deployments: deployments.store(), sets: sets.store(), pods: pods.store() };
    ctx.run(controller, queue, ctx.options.controllers.concurrent_deployment_syncs).await;
    Ok(())
}

/// A Recreate rollout waits for the last old pod to be gone.
fn enqueue_recreate(
    change: &Change<Pod>,
    sets: &Store<ReplicaSet>,
    deployments: &Store<Deployment>,
    queue: &WorkQueue<Key>,
) {
    let over = change.new.as_deref().is_none_or(pods::is_terminal);
    let pod = change.object();
    let Some(set_owner) = ownership::controller_of(&pod.metadata).filter(|owner| over && owner.kind == "ReplicaSet")
    else {
        return;
    };
    let set = sets.find(pod.metadata.namespace.as_deref().unwrap_or_default(), &set_owner.name);
    if let Some(key) = set.and_then(|set| owner_key(&set.metadata, deployments))
        && deployments.get(&key).is_some_and(|deployment| rolling::is_recreate(&deployment))
    {
        queue.add(key);
    }
}

#[async_trait]
impl Controller for Deployments {
    type Key = Key;

    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(Requeue::No) };
        let Some(selector) = deployment.selector() else {
            self.recorder.warning(
                &reference(deployment.as_ref()),
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            );
            return Ok(Requeue::No);
        };
        let sets = self.claim(&deployment, &selector, key).await?;
        let old_pods_run = rolling::is_recreate(&deployment) && self.has_old_pods(&deployment, &sets);
        let now = Timestamp::from_second(Timestamp::now().as_second())?;
        let planned = plan(&deployment, &sets, old_pods_run, now);
        for action in planned.actions {
            self.apply(&deployment, action).await?;
        }
        Ok(planned.requeue.map_or(Requeue::No, Requeue::After))
    }
}

impl Deployments {
    fn deployment_api(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn set_api(&self, namespace: &str) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The replica sets that are the deployment's, after adopting and releasing.
    async fn claim(
        &self,
        deployment: &Deployment,
        selector: &Selector,
        key: &Key,
    ) -> Result<Vec<Arc<ReplicaSet>>, Error> {
        let api = self.set_api(&key.namespace);
        let mut claimed = Vec::new();
        for set in children::candidates(&self.sets, &deployment.metadata) {
            match ownership::claim(&deployment.metadata, selector, &set.metadata) {
                Claim::Ours => claimed.push(set),
                Claim::Ignore => {}
                Claim::Release => ownership::release(&api, &deployment.metadata, &set.metadata).await?,
                Claim::Adopt => {
                    let live = self.deployment_api(&key.namespace).get_opt(&key.name).await?;
                    let lives = live.is_some_and(|live| {
                        live.metadata.uid == deployment.metadata.uid && live.metadata.deletion_timestamp.is_none()
                    });
                    if lives {
                        claimed.push(Arc::new(ownership::adopt(&api, deployment, &set.metadata).await?));
                    }
                }
            }
        }
        Ok(claimed)
    }

    /// Whether pods of old revisions still run.
    fn has_old_pods(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
        let new = sets::find_new(deployment, sets).map(|set| set.metadata.uid.clone());
        let mut old = sets.iter().filter(|set| Some(&set.metadata.uid) != new.as_ref());
        old.any(|set| children::controlled(&self.pods, &set.metadata).iter().any(|pod| !pods::is_terminal(pod)))
    }

    async fn apply(&self, deployment: &Deployment, action: Action) -> Result<(), Error> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        let about = reference(deployment);
        match action {
            Action::CreateSet(set) => self.create_set(deployment, *set).await?,
            Action::UpdateSet { set, note } => {
                let set_name = set.metadata.name.clone().unwrap_or_default();
                self.set_api(namespace).replace(&set_name, &PostParams::default(), &set).await?;
                if let Some(note) = note {
                    self.recorder.normal(&about, "ScalingReplicaSet", note);
                }
            }
            Action::DeleteSet { name, uid } => {
                let meta = ObjectMeta { name: Some(name), uid, ..ObjectMeta::default() };
                writes::delete(&self.set_api(namespace), &meta).await?;
            }
            Action::UpdateDeployment(changed) => {
                self.deployment_api(namespace).replace(name, &PostParams::default(), &changed).await?;
            }
            Action::UpdateStatus(status) => {
                let changed = Deployment { status: Some(*status), ..deployment.clone() };
                writes::replace_status(&self.client, &changed).await?;
            }
            Action::Event { event_type, reason, note } => self.recorder.event(&about, event_type, reason, "", note),
        }
        Ok(())
    }

    /// Makes the set of a new revision. A set of that name that is not ours makes the next name differ.
    async fn create_set(&self, deployment: &Deployment, set: ReplicaSet) -> Result<(), Error> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let name = set.metadata.name.clone().unwrap_or_default();
        let api = self.set_api(namespace);
        match api.create(&PostParams::default(), &set).await {
            Ok(created) => {
                if let Some(note) = created.spec.and_then(|spec| spec.replicas).filter(|&count| count > 0) {
                    let note = format!("Scaled up replica set {name} from 0 to {note}");
                    self.recorder.normal(&reference(deployment), "ScalingReplicaSet", note);
                }
                Ok(())
            }
            Err(error) if client::is_already_exists(&error) => {
                let existing = api.get(&name).await?;
                if sets::is_revision_of(&existing, deployment) {
                    // Made by an earlier sync, and not in the cache yet.
                    return Ok(());
                }
                let status = status::with_collision(deployment);
                Box::pin(self.apply(deployment, Action::UpdateStatus(Box::new(status)))).await?;
                Err(error.into())
            }
            Err(error) if client::is_namespace_terminating(&error) => Ok(()),
            Err(error) => {
                let note = format!("Failed to create new replica set {name:?}: {}", message(&error));
                self.recorder.event(
                    &reference(deployment),
                    EventType::Warning,
                    "ReplicaSetCreateError",
                    "",
                    note.clone(),
                );
                let now = Timestamp::from_second(Timestamp::now().as_second())?;
                if let Some(status) = status::with_create_failure(deployment, note, now) {
                    Box::pin(self.apply(deployment, Action::UpdateStatus(Box::new(status)))).await?;
                }
                Err(error.into())
            }
        }
    }
}
