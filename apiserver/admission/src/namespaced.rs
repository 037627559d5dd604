//! The objects of a resource by namespace, kept in memory by plugins that look at them at every request.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use apiserver_storage::reader::Change;
use parking_lot::RwLock;
use serde_json::Value;

/// Objects by namespace and name.
#[derive(Default)]
pub(crate) struct Namespaced(RwLock<HashMap<String, BTreeMap<String, Arc<Value>>>>);

impl Namespaced {
    /// Takes a change into account.
    pub(crate) fn observe(&self, change: &Change<'_>) {
        let mut all = self.0.write();
        let namespace = all.entry(change.namespace.to_owned()).or_default();
        match &change.new {
            Some(object) => namespace.insert(change.name.to_owned(), Arc::clone(object)),
            None => namespace.remove(change.name),
        };
        if namespace.is_empty() {
            all.remove(change.namespace);
        }
    }

    /// Whether the namespace has any.
    pub(crate) fn any(&self, namespace: &str) -> bool {
        self.0.read().contains_key(namespace)
    }

    /// Those of the namespace, in the order of their names.
    pub(crate) fn of(&self, namespace: &str) -> Vec<Arc<Value>> {
        self.0.read().get(namespace).map(|all| all.values().map(Arc::clone).collect()).unwrap_or_default()
    }
}
