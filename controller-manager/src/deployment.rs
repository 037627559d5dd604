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
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::Selector;
use kube::{Api, Client};

use crate::context::Context;
use crate::ownership::{self, Claim};
use crate::podcontrol::message;
use crate::{pods, replicaset};
pub use hash::template_hash;
use plan::{Action, plan};

/// Index of replica sets by the uid of their controller, or by namespace if they have none.
const BY_CONTROLLER: &str = "controller";
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
    replicaset::index_pods(&pods);
    sets.add_index(BY_CONTROLLER, |set| {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let owner = ownership::controller_of(&set.metadata);
        vec![owner.map_or_else(|| format!("orphans/{namespace}"), |owner| owner.uid.clone())]
    });
    let queue = WorkQueue::new();
    let keys = queue.clone();
    deployments.on_change(move |change| keys.add(change.key()));
    let (keys, known) = (queue.clone(), deployments.store());
    sets.on_change(move |change| enqueue_owners(change, &known, &keys));
    let (keys, known, owners) = (queue.clone(), deployments.store(), sets.store());
    pods.on_change(move |change| enqueue_recreate(change, &owners, &known, &keys));
    futures::join!(deployments.synced(), sets.synced(), pods.synced());
    let controller =
        Deployments { client, recorder, deployments: deployments.store(), sets: sets.store(), pods: pods.store() };
    ctx.run(controller, queue, ctx.options.controllers.concurrent_deployment_syncs).await;
    Ok(())
}

/// The deployment that controls a replica set, as far as it is known.
fn owner(set: &ReplicaSet, deployments: &Store<Deployment>) -> Option<Key> {
    let owner = ownership::controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment")?;
    let key = Key::new(set.metadata.namespace.clone().unwrap_or_default(), owner.name.clone());
    let known = deployments.get(&key);
    known.is_none_or(|deployment| deployment.metadata.uid.as_ref() == Some(&owner.uid)).then_some(key)
}

fn enqueue_owners(change: &Change<ReplicaSet>, deployments: &Store<Deployment>, queue: &WorkQueue<Key>) {
    for set in [&change.old, &change.new].into_iter().flatten() {
        if let Some(key) = owner(set, deployments) {
            queue.add(key);
        }
    }
    let Some(orphan) = change.new.as_deref().filter(|set| ownership::controller_of(&set.metadata).is_none()) else {
        return;
    };
    for deployment in deployments.list_namespace(orphan.metadata.namespace.as_deref().unwrap_or_default()) {
        let selector = deployment.spec.as_ref().and_then(|spec| ownership::selector(Some(&spec.selector)));
        if selector.is_some_and(|selector| ownership::matches(&selector, &orphan.metadata)) {
            queue.add(Key::of(deployment.as_ref()));
        }
    }
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
    if let Some(key) = set.and_then(|set| owner(&set, deployments))
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
        let Some(selector) = deployment.spec.as_ref().and_then(|spec| ownership::selector(Some(&spec.selector))) else {
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
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let mut candidates = self.sets.indexed(BY_CONTROLLER, uid);
        candidates.extend(self.sets.indexed(BY_CONTROLLER, &format!("orphans/{}", key.namespace)));
        let mut claimed = Vec::new();
        for set in candidates {
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
        let new = sets::find_new(deployment, sets).and_then(|set| set.metadata.uid.clone());
        let old = sets.iter().filter_map(|set| set.metadata.uid.clone()).filter(|uid| Some(uid) != new.as_ref());
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        old.into_iter().any(|uid| {
            let owned = |pod: &&Arc<Pod>| ownership::controller_of(&pod.metadata).is_some_and(|owner| owner.uid == uid);
            replicaset::candidates(&self.pods, &uid, namespace).iter().filter(owned).any(|pod| !pods::is_terminal(pod))
        })
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
                let preconditions = Preconditions { uid, resource_version: None };
                let params = DeleteParams::default().preconditions(preconditions);
                match self.set_api(namespace).delete(&name, &params).await {
                    Err(error) if !client::is_not_found(&error) => return Err(error.into()),
                    _ => {}
                }
            }
            Action::UpdateDeployment(changed) => {
                self.deployment_api(namespace).replace(name, &PostParams::default(), &changed).await?;
            }
            Action::UpdateStatus(status) => {
                let changed = Deployment { status: Some(*status), ..deployment.clone() };
                match self.deployment_api(namespace).replace_status(name, &PostParams::default(), &changed).await {
                    Err(error) if !client::is_not_found(&error) => return Err(error.into()),
                    _ => {}
                }
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
