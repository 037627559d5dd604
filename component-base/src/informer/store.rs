//! The cached objects of one informer, ordered by key, with indexes by function.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Change, Key};

type IndexFn<K> = Arc<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// A read handle on an informer's objects. Clones share them. Objects are shared and must not be changed: clone what you change.
pub struct Store<K> {
    content: Arc<RwLock<Content<K>>>,
}

struct Content<K> {
    objects: BTreeMap<Key, Arc<K>>,
    indexes: HashMap<&'static str, Index<K>>,
}

struct Index<K> {
    values: IndexFn<K>,
    found: HashMap<String, BTreeMap<Key, Arc<K>>>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self { content: Arc::clone(&self.content) }
    }
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { content: Arc::new(RwLock::new(Content { objects: BTreeMap::new(), indexes: HashMap::new() })) }
    }
}

impl<K: kube::Resource> Store<K> {
    /// A store with these objects, for tests of what reads stores.
    pub fn from_objects(objects: impl IntoIterator<Item = K>) -> Self {
        let store = Self::default();
        for object in objects {
            store.upsert(Arc::new(object));
        }
        store
    }

    /// The object with this key.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.content.read().objects.get(key).cloned()
    }

    /// The object with this namespace (empty if cluster-scoped) and name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get(&Key::new(namespace, name))
    }

    /// All objects, ordered by key.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.content.read().objects.values().cloned().collect()
    }

    /// The objects of one namespace, ordered by name.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let content = self.content.read();
        let from = content.objects.range(Key::new(namespace, "")..);
        from.take_while(|(key, _)| key.namespace == namespace).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// The objects for which the index of that name has this value, ordered by key. Empty if there is no such index.
    pub fn indexed(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        let content = self.content.read();
        let found = content.indexes.get(index).and_then(|index| index.found.get(value));
        found.into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.content.read().objects.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<Key> {
        self.content.read().objects.keys().cloned().collect()
    }

    /// Adds an index: `values` gives the values under which an object is found. If the name is taken, the first index stays.
    pub fn add_index(&self, name: &'static str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        let mut content = self.content.write();
        if content.indexes.contains_key(name) {
            return;
        }
        let mut index = Index { values: Arc::new(values), found: HashMap::new() };
        for (key, object) in &content.objects {
            index.insert(key, object);
        }
        content.indexes.insert(name, index);
    }

    /// Stores an object; gives the change.
    pub(super) fn upsert(&self, object: Arc<K>) -> Change<K> {
        let key = Key::of(object.as_ref());
        let mut content = self.content.write();
        let old = content.objects.insert(key.clone(), Arc::clone(&object));
        for index in content.indexes.values_mut() {
            if let Some(old) = &old {
                index.remove(&key, old);
            }
            index.insert(&key, &object);
        }
        Change { old, new: Some(object) }
    }

    /// Drops an object; gives the change, or `None` if there was none.
    pub(super) fn remove(&self, key: &Key) -> Option<Change<K>> {
        let mut content = self.content.write();
        let old = content.objects.remove(key)?;
        for index in content.indexes.values_mut() {
            index.remove(key, &old);
        }
        Some(Change { old: Some(old), new: None })
    }
}

impl<K> Index<K> {
    fn insert(&mut self, key: &Key, object: &Arc<K>) {
        for value in (self.values)(object) {
            self.found.entry(value).or_default().insert(key.clone(), Arc::clone(object));
        }
    }

    fn remove(&mut self, key: &Key, object: &K) {
        for value in (self.values)(object) {
            if let Some(found) = self.found.get_mut(&value) {
                found.remove(key);
                if found.is_empty() {
                    self.found.remove(&value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, PodSpec};
    use kube::api::ObjectMeta;

    use super::*;

    fn pod(namespace: &str, name: &str, node: &str) -> Arc<Pod> {
        let metadata = ObjectMeta { namespace: Some(namespace.into()), name: Some(name.into()), ..Default::default() };
        let spec = PodSpec { node_name: Some(node.into()), ..Default::default() };
        Arc::new(Pod { metadata, spec: Some(spec), status: None })
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<String> {
        pods.iter().map(|pod| Key::of(pod.as_ref()).to_string()).collect()
    }

    #[test]
    fn indexes_follow_changes_and_cover_what_was_there_before() {
        let store = Store::default();
        store.upsert(pod("a", "x", "n1"));
        store.add_index("node", |pod: &Pod| pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect());
        store.upsert(pod("a", "y", "n1"));
        assert_eq!(names(&store.indexed("node", "n1")), ["a/x", "a/y"]);
        store.upsert(pod("a", "x", "n2"));
        assert_eq!(names(&store.indexed("node", "n1")), ["a/y"]);
        store.remove(&Key::new("a", "y"));
        assert!(store.indexed("node", "n1").is_empty());
        assert_eq!(names(&store.indexed("node", "n2")), ["a/x"]);
    }

    #[test]
    fn a_namespace_is_listed_without_its_neighbours() {
        let store = Store::from_objects(
            [("a", "z"), ("ab", "x"), ("b", "y"), ("ab", "y")]
                .map(|(ns, name)| Arc::unwrap_or_clone(pod(ns, name, "n"))),
        );
        assert_eq!(names(&store.list_namespace("ab")), ["ab/x", "ab/y"]);
        assert_eq!(store.len(), 4);
    }
}
