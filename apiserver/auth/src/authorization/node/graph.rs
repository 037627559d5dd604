//! Which objects each node may reach: counted references from objects to nodes, kept up to date change by change.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use apiserver_storage::reader::Change;
use serde_json::Value;

use super::references::{Kind, ephemeral_claims, is_mirror, of_pod, of_volume_object};
use crate::object::text;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Vertex {
    kind: Kind,
    namespace: String,
    name: String,
}

impl Vertex {
    fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Vertex { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

#[derive(Default)]
pub(super) struct Graph {
    /// How many pods of a node need an object.
    nodes: HashMap<Vertex, HashMap<Arc<str>, usize>>,
    /// The claims whose volume needs a Secret, or is the volume itself: who reaches the claim reaches these.
    claims: HashMap<Vertex, HashMap<Vertex, usize>>,
    names: HashSet<Arc<str>>,
}

impl Graph {
    /// Whether something on the node needs the object.
    pub(super) fn reaches(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let vertex = Vertex::new(kind, namespace, name);
        self.direct(node, &vertex)
            || self.claims.get(&vertex).is_some_and(|claims| claims.keys().any(|claim| self.direct(node, claim)))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.claims.is_empty() && self.names.is_empty()
    }

    fn direct(&self, node: &str, vertex: &Vertex) -> bool {
        self.nodes.get(vertex).is_some_and(|nodes| nodes.contains_key(node))
    }

    pub(super) fn apply(&mut self, change: &Change<'_>) {
        // Adding before removing keeps what both need; readers wait on the lock meanwhile.
        for (object, add) in [(&change.new, true), (&change.old, false)] {
            let Some(object) = object.as_deref() else { continue };
            match change.resource.resource {
                "pods" => self.pod(change, object, add),
                "persistentvolumes" => self.volume(change, object, add),
                "volumeattachments" => {
                    self.count(Vertex::new(Kind::Attachment, "", change.name), text(object, "/spec/nodeName"), add);
                }
                _ => self.count(Vertex::new(Kind::ResourceSlice, "", change.name), text(object, "/spec/nodeName"), add),
            }
        }
    }

    fn pod(&mut self, change: &Change<'_>, pod: &Value, add: bool) {
        let node = text(pod, "/spec/nodeName");
        if node.is_empty() {
            return;
        }
        self.count(Vertex::new(Kind::Pod, change.namespace, change.name), node, add);
        // A kubelet makes mirror pods itself: what they name must give it no rights.
        if is_mirror(pod) {
            return;
        }
        of_pod(pod, &mut |kind, name| self.count(Vertex::new(kind, change.namespace, name), node, add));
        for claim in ephemeral_claims(pod) {
            self.count(Vertex::new(Kind::Claim, change.namespace, &claim), node, add);
        }
    }

    fn volume(&mut self, change: &Change<'_>, volume: &Value, add: bool) {
        let claim = text(volume, "/spec/claimRef/name");
        if claim.is_empty() {
            return;
        }
        let claim = Vertex::new(Kind::Claim, text(volume, "/spec/claimRef/namespace"), claim);
        self.link(Vertex::new(Kind::Volume, "", change.name), &claim, add);
        of_volume_object(volume, &mut |namespace, name| {
            self.link(Vertex::new(Kind::Secret, namespace, name), &claim, add);
        });
    }

    fn count(&mut self, vertex: Vertex, node: &str, add: bool) {
        if node.is_empty() {
            return;
        }
        if add {
            let node = self.intern(node);
            *self.nodes.entry(vertex).or_default().entry(node).or_default() += 1;
            return;
        }
        let Some(nodes) = self.nodes.get_mut(&vertex) else { return };
        if release(nodes, node) {
            self.forget(node);
        }
        if self.nodes.get(&vertex).is_some_and(HashMap::is_empty) {
            self.nodes.remove(&vertex);
        }
    }

    fn link(&mut self, vertex: Vertex, claim: &Vertex, add: bool) {
        if add {
            *self.claims.entry(vertex).or_default().entry(claim.clone()).or_default() += 1;
            return;
        }
        let Some(claims) = self.claims.get_mut(&vertex) else { return };
        release(claims, claim);
        if claims.is_empty() {
            self.claims.remove(&vertex);
        }
    }

    /// One string per node's name, however many references there are.
    fn intern(&mut self, node: &str) -> Arc<str> {
        if let Some(name) = self.names.get(node) {
            return Arc::clone(name);
        }
        let name: Arc<str> = node.into();
        self.names.insert(Arc::clone(&name));
        name
    }

    fn forget(&mut self, node: &str) {
        if let Some(name) = self.names.get(node)
            && Arc::strong_count(name) == 1
        {
            self.names.remove(node);
        }
    }
}

/// Counts one down; whether none is left.
fn release<K, Q>(counts: &mut HashMap<K, usize>, key: &Q) -> bool
where
    K: std::borrow::Borrow<Q> + Eq + std::hash::Hash,
    Q: Eq + std::hash::Hash + ?Sized,
{
    let Some(count) = counts.get_mut(key) else { return false };
    *count -= 1;
    if *count > 0 {
        return false;
    }
    counts.remove(key);
    true
}
