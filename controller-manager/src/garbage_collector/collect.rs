//! Looking at one object: is it to be deleted, can it go at last, are its dependents to be let go?

use std::collections::HashSet;
use std::sync::Arc;

use component_base::queue::WorkQueue;
use component_base::runner::{Error, Requeue};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use parking_lot::Mutex;

use super::Work;
use super::graph::{FOREGROUND, Graph, ORPHAN, Object, Uid};
use super::live::{self, Written};
use super::monitors::Resources;
use super::plan::{OwnerState, Plan, plan};

/// Owners known to be absent; when there are more, all are asked for again.
const MAX_ABSENT: usize = 4096;

pub struct Collector {
    client: Client,
    graph: Arc<Mutex<Graph>>,
    resources: Resources,
    queue: WorkQueue<Work>,
    /// An object that is gone never comes back with its uid.
    absent: Mutex<HashSet<(Option<Arc<str>>, OwnerKey)>>,
}

/// All that says which object a reference means.
type OwnerKey = (String, String, String, String);

impl Collector {
    pub fn new(client: Client, graph: Arc<Mutex<Graph>>, resources: Resources, queue: WorkQueue<Work>) -> Self {
        Self { client, graph, resources, queue, absent: Mutex::default() }
    }

    fn object(&self, uid: &str) -> Option<Object> {
        self.graph.lock().object(uid).cloned()
    }

    fn enqueue(&self, work: Vec<Work>) {
        work.into_iter().for_each(|w| self.queue.add(w));
    }

    pub async fn attempt_to_delete(&self, uid: &Uid) -> Result<Requeue, Error> {
        let Some(object) = self.object(uid) else { return Ok(Requeue::No) };
        if object.is_going && !object.waits_for_dependents {
            return Ok(Requeue::No);
        }
        let api = live::api_of(&self.client, &object);
        let Some(meta) = live::get(&api, &object.name, uid).await? else {
            // Its end has not reached us yet.
            let work = self.graph.lock().remove(uid);
            self.enqueue(work);
            return Ok(Requeue::No);
        };
        if object.waits_for_dependents {
            return self.wait_for_dependents(uid, &object, &meta).await;
        }
        let mut owners = Vec::new();
        for reference in meta.owner_references.iter().flatten() {
            let Some(state) = self.owner_state(&object, reference).await? else { return Ok(Requeue::No) };
            owners.push((reference.clone(), state));
        }
        let written = match plan(&meta, &owners, &self.dependents_wait(uid)) {
            Plan::Nothing => Written::Done,
            Plan::Keep(left) => live::set_owners(&api, &meta, &left).await?,
            Plan::Delete { policy, unblock } => {
                tracing::debug!(
                    resource = object.resource.name(),
                    name = &*object.name,
                    ?policy,
                    "deleting: its owners are gone"
                );
                if unblock {
                    // The delete that follows names the state before this, so it is made on the next look.
                    let patched = live::set_owners(&api, &meta, &unblocked(&meta)).await?;
                    if is_blocking(&meta) {
                        Written::Changed
                    } else {
                        patched.and(live::delete(&api, &meta, policy).await?)
                    }
                } else {
                    live::delete(&api, &meta, policy).await?
                }
            }
        };
        Ok(requeue(written))
    }

    /// Lets an object go whose dependents have gone, or sees to it that they go.
    async fn wait_for_dependents(&self, uid: &Uid, object: &Object, meta: &ObjectMeta) -> Result<Requeue, Error> {
        let blocking = self.graph.lock().blocking_dependents(uid);
        if blocking.is_empty() {
            let api = live::api_of(&self.client, object);
            return Ok(requeue(live::remove_finalizer(&api, meta, FOREGROUND).await?));
        }
        let not_waiting = |d: &Uid| self.graph.lock().object(d).is_some_and(|o| !o.waits_for_dependents);
        self.enqueue(blocking.into_iter().filter(not_waiting).map(Work::Delete).collect());
        Ok(Requeue::No)
    }

    fn dependents_wait(&self, uid: &str) -> Vec<bool> {
        let graph = self.graph.lock();
        let dependents = graph.dependents(uid);
        dependents.iter().filter_map(|d| graph.object(d)).map(|o| o.waits_for_dependents).collect()
    }

    /// How the owner is. What the graph has seen is enough to keep an object: should it be behind, the news will bring the object here again.
    /// That an owner is absent is believed only from the API server. `None`: the reference cannot be followed, and the object is left alone.
    async fn owner_state(&self, object: &Object, reference: &OwnerReference) -> Result<Option<OwnerState>, Error> {
        let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
        let Some(resource) = self.resources.find(group, &reference.kind) else {
            return Err(format!("no resource for owner {} {}", reference.api_version, reference.kind).into());
        };
        if resource.namespaced && object.namespace.is_none() {
            tracing::warn!(
                resource = object.resource.name(),
                name = &*object.name,
                owner = reference.kind,
                "an object outside of namespaces cannot be owned by one in a namespace; it is left alone"
            );
            return Ok(None);
        }
        let namespace = if resource.namespaced { object.namespace.clone() } else { None };
        if let Some(owner) = self.object(&reference.uid)
            && *owner.name == *reference.name
            && owner.namespace == namespace
            && owner.resource.api.kind == reference.kind
        {
            return Ok(Some(if owner.waits_for_dependents { OwnerState::Waiting } else { OwnerState::Solid }));
        }
        let key = (namespace.clone(), owner_key(reference));
        if self.absent.lock().contains(&key) {
            return Ok(Some(OwnerState::Absent));
        }
        let api = live::api(&self.client, &resource, namespace.as_deref());
        let state = match live::get(&api, &reference.name, &reference.uid).await? {
            Some(meta) if Object::new(&resource, &meta).waits_for_dependents => OwnerState::Waiting,
            Some(_) => OwnerState::Solid,
            None => {
                let mut absent = self.absent.lock();
                if absent.len() >= MAX_ABSENT {
                    absent.clear();
                }
                absent.insert(key);
                OwnerState::Absent
            }
        };
        Ok(Some(state))
    }

    /// Takes the owner out of its dependents, then lets it go.
    pub async fn attempt_to_orphan(&self, uid: &Uid) -> Result<Requeue, Error> {
        let (object, dependents) = {
            let graph = self.graph.lock();
            let Some(object) = graph.object(uid).cloned() else { return Ok(Requeue::No) };
            let dependents: Vec<_> =
                graph.dependents(uid).into_iter().filter_map(|d| Some((graph.object(&d)?.clone(), d))).collect();
            (object, dependents)
        };
        let mut again = false;
        for (dependent, dependent_uid) in &dependents {
            again |= self.release(dependent, dependent_uid, uid).await? == Written::Changed;
        }
        if again {
            return Ok(Requeue::Backoff);
        }
        let api = live::api_of(&self.client, &object);
        let Some(meta) = live::get(&api, &object.name, uid).await? else { return Ok(Requeue::No) };
        Ok(requeue(live::remove_finalizer(&api, &meta, ORPHAN).await?))
    }

    async fn release(&self, dependent: &Object, uid: &Uid, owner: &Uid) -> Result<Written, Error> {
        let api = live::api_of(&self.client, dependent);
        let Some(meta) = live::get(&api, &dependent.name, uid).await? else { return Ok(Written::Done) };
        let owners = meta.owner_references.as_deref().unwrap_or_default();
        let left: Vec<_> = owners.iter().filter(|o| o.uid != **owner).cloned().collect();
        if left.len() == owners.len() {
            return Ok(Written::Done);
        }
        Ok(live::set_owners(&api, &meta, &left).await?)
    }
}

impl Written {
    fn and(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }
}

fn requeue(written: Written) -> Requeue {
    match written {
        Written::Done => Requeue::No,
        Written::Changed => Requeue::Backoff,
    }
}

fn owner_key(reference: &OwnerReference) -> OwnerKey {
    (reference.uid.clone(), reference.api_version.clone(), reference.kind.clone(), reference.name.clone())
}

fn is_blocking(meta: &ObjectMeta) -> bool {
    meta.owner_references.iter().flatten().any(|o| o.block_owner_deletion == Some(true))
}

/// The references, none of which blocks its owner's deletion any more.
fn unblocked(meta: &ObjectMeta) -> Vec<OwnerReference> {
    let open = |o: &OwnerReference| OwnerReference { block_owner_deletion: Some(false), ..o.clone() };
    meta.owner_references.iter().flatten().map(open).collect()
}
