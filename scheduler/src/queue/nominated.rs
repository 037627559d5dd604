//! Pods that have been promised a node which is still being freed for them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::labels::Str;
use crate::pod::Pod;

#[derive(Debug, Default)]
pub struct Nominated {
    by_node: HashMap<Str, Vec<Arc<Pod>>>,
    node_of: HashMap<Str, Str>,
}

impl Nominated {
    /// Records what the pod is promised now: `node`, or nothing.
    pub fn set(&mut self, pod: &Arc<Pod>, node: Option<&Str>) {
        self.remove(&pod.uid);
        if let Some(node) = node {
            self.by_node.entry(node.clone()).or_default().push(pod.clone());
            self.node_of.insert(pod.uid.clone(), node.clone());
        }
    }

    pub fn remove(&mut self, uid: &str) {
        let Some(node) = self.node_of.remove(uid) else { return };
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.retain(|p| &*p.uid != uid);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    /// The other pods promised to the node that come before or with `pod`.
    pub fn ahead_of<'a>(&'a self, pod: &'a Pod, node: &str) -> impl Iterator<Item = &'a Arc<Pod>> {
        let pods = if self.by_node.is_empty() { None } else { self.by_node.get(node) };
        pods.into_iter().flatten().filter(|other| other.priority >= pod.priority && other.uid != pod.uid)
    }

    /// Takes the promise of a node back from pods of lower priority; gives them.
    pub fn take_below(&mut self, node: &str, priority: i32) -> Vec<Arc<Pod>> {
        let below: Vec<Arc<Pod>> =
            self.by_node.get(node).into_iter().flatten().filter(|pod| pod.priority < priority).cloned().collect();
        below.iter().for_each(|pod| self.remove(&pod.uid));
        below
    }

    pub fn node_of(&self, uid: &str) -> Option<&Str> {
        self.node_of.get(uid)
    }
}
