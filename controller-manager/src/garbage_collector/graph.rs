//! Who owns whom, as far as the watches have shown.
//!
//! An owner that is named but was never seen, or is gone, stays as a node without an object while it has dependents.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::Work;
use crate::discovery::Resource;

pub type Uid = Arc<str>;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// One owner that an object names, as far as the graph needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    uid: Uid,
    blocks: bool,
}

/// Where an object is.
#[derive(Clone, Debug)]
pub struct Object {
    pub resource: Arc<Resource>,
    pub namespace: Option<Arc<str>>,
    pub name: Arc<str>,
    pub is_going: bool,
    /// It goes when its dependents have gone.
    pub waits_for_dependents: bool,
    /// It goes when its dependents have been let go.
    pub lets_dependents_go: bool,
}

#[derive(Debug, Default)]
struct Node {
    /// `None` for an owner that was not seen or is gone.
    object: Option<Object>,
    owners: Vec<Owner>,
    dependents: HashSet<Uid>,
}

#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    /// Before all first lists have arrived, an owner that was not seen may just not have been listed yet.
    is_complete: bool,
}

impl Object {
    pub fn new(resource: &Arc<Resource>, meta: &ObjectMeta) -> Self {
        let is_going = meta.deletion_timestamp.is_some();
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|f| f == finalizer);
        Self {
            resource: resource.clone(),
            namespace: meta.namespace.as_deref().map(Arc::from),
            name: meta.name.as_deref().unwrap_or_default().into(),
            is_going,
            waits_for_dependents: is_going && has(FOREGROUND),
            lets_dependents_go: is_going && has(ORPHAN),
        }
    }
}

impl Graph {
    pub fn object(&self, uid: &str) -> Option<&Object> {
        self.nodes.get(uid)?.object.as_ref()
    }

    pub fn dependents(&self, uid: &str) -> Vec<Uid> {
        self.nodes.get(uid).map(|n| n.dependents.iter().cloned().collect()).unwrap_or_default()
    }

    /// The dependents without which the owner must not go.
    pub fn blocking_dependents(&self, uid: &str) -> Vec<Uid> {
        let blocks = |dependent: &Uid| {
            let node = self.nodes.get(dependent);
            node.is_some_and(|n| n.object.is_some() && n.owners.iter().any(|o| *o.uid == *uid && o.blocks))
        };
        self.dependents(uid).into_iter().filter(blocks).collect()
    }

    /// All first lists have arrived: now an owner that was not seen is worth a look.
    pub fn complete(&mut self) -> Vec<Work> {
        self.is_complete = true;
        let mut work = Vec::new();
        for (uid, node) in &self.nodes {
            let Some(object) = &node.object else {
                work.extend(node.dependents.iter().cloned().map(Work::Delete));
                continue;
            };
            work.extend(transition(uid, object));
            if object.waits_for_dependents {
                work.extend(node.dependents.iter().cloned().map(Work::Delete));
            }
        }
        work
    }

    /// Takes what a watch shows of an object; gives what is to be looked at.
    pub fn set(&mut self, uid: &str, object: Object, owners: &[OwnerReference]) -> Vec<Work> {
        let uid: Uid = self.nodes.get_key_value(uid).map_or_else(|| uid.into(), |(known, _)| known.clone());
        let node = self.nodes.entry(uid.clone()).or_default();
        let before = node.object.replace(object.clone());
        let owners: Vec<Owner> = owners.iter().map(Owner::new).collect();
        let old_owners = std::mem::replace(&mut node.owners, owners.clone());
        let mut work = Vec::new();
        if old_owners != owners {
            work.extend(self.change_owners(&uid, &old_owners, &owners));
        }
        if object.waits_for_dependents && !before.is_some_and(|b| b.waits_for_dependents) {
            work.extend(self.dependents(&uid).into_iter().map(Work::Delete));
        }
        work.extend(transition(&uid, &object));
        if self.is_complete { work } else { Vec::new() }
    }

    fn change_owners(&mut self, uid: &Uid, old: &[Owner], new: &[Owner]) -> Vec<Work> {
        let mut work = Vec::new();
        for owner in new {
            let node = self.nodes.entry(owner.uid.clone()).or_default();
            let is_new = node.dependents.insert(uid.clone());
            // An owner that was not seen, or that takes its dependents along.
            if is_new && node.object.as_ref().is_none_or(|o| o.waits_for_dependents) {
                work.push(Work::Delete(uid.clone()));
            }
        }
        for owner in old {
            let kept = new.iter().find(|n| n.uid == owner.uid);
            let unblocked = owner.blocks && kept.is_none_or(|n| !n.blocks);
            let Some(node) = self.nodes.get_mut(&owner.uid) else { continue };
            if unblocked && node.object.as_ref().is_some_and(|o| o.waits_for_dependents) {
                work.push(Work::Delete(owner.uid.clone()));
            }
            if kept.is_none() {
                node.dependents.remove(uid);
                self.drop_if_empty(&owner.uid);
            }
        }
        work
    }

    /// Takes that an object is gone; gives what is to be looked at.
    pub fn remove(&mut self, uid: &str) -> Vec<Work> {
        let Some((uid, _)) = self.nodes.get_key_value(uid) else { return Vec::new() };
        let uid = uid.clone();
        let node = self.nodes.get_mut(&uid).expect("it was found a line above");
        node.object = None;
        let owners = std::mem::take(&mut node.owners);
        let mut work: Vec<Work> = node.dependents.iter().cloned().map(Work::Delete).collect();
        for owner in owners {
            let Some(node) = self.nodes.get_mut(&owner.uid) else { continue };
            node.dependents.remove(&uid);
            if node.object.as_ref().is_some_and(|o| o.waits_for_dependents) {
                work.push(Work::Delete(owner.uid.clone()));
            }
            self.drop_if_empty(&owner.uid);
        }
        self.drop_if_empty(&uid);
        if self.is_complete { work } else { Vec::new() }
    }

    fn drop_if_empty(&mut self, uid: &str) {
        if self.nodes.get(uid).is_some_and(|n| n.object.is_none() && n.dependents.is_empty()) {
            self.nodes.remove(uid);
        }
    }

    /// The objects of a resource that a complete list of it did not have.
    pub fn missing(&self, resource: &Resource, listed: &HashSet<String>) -> Vec<Uid> {
        let of_resource =
            |o: &Object| o.resource.api.group == resource.api.group && o.resource.api.plural == resource.api.plural;
        let here = self.nodes.iter().filter(|(_, n)| n.object.as_ref().is_some_and(of_resource));
        here.map(|(uid, _)| uid).filter(|uid| !listed.contains(&***uid)).cloned().collect()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.nodes.len()
    }
}

impl Owner {
    fn new(reference: &OwnerReference) -> Self {
        Self { uid: reference.uid.as_str().into(), blocks: reference.block_owner_deletion.unwrap_or(false) }
    }
}

/// What an object's own deletion asks for.
fn transition(uid: &Uid, object: &Object) -> Option<Work> {
    if object.lets_dependents_go {
        Some(Work::Orphan(uid.clone()))
    } else if object.waits_for_dependents {
        Some(Work::Delete(uid.clone()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
