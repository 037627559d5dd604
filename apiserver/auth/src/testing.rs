//! A cluster state for unit tests: objects in a map.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_storage::reader::{GroupResource, Reader};
use async_trait::async_trait;
use parking_lot::RwLock;
use serde_json::Value;

type Key = (String, String, String);

/// Objects by resource (with its group, as `deployments.apps`), namespace and name.
#[derive(Default)]
pub(crate) struct State(RwLock<BTreeMap<Key, Arc<Value>>>);

impl State {
    pub(crate) fn put(&self, resource: &str, object: Value) {
        let part = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
        let key = (resource.to_owned(), part("namespace"), part("name"));
        self.0.write().insert(key, Arc::new(object));
    }

    pub(crate) fn remove(&self, resource: &str, namespace: &str, name: &str) {
        self.0.write().remove(&(resource.to_owned(), namespace.to_owned(), name.to_owned()));
    }
}

fn qualified(resource: GroupResource<'_>) -> String {
    match resource.group {
        "" => resource.resource.to_owned(),
        group => format!("{}.{group}", resource.resource),
    }
}

#[async_trait]
impl Reader for State {
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0.read().get(&(qualified(resource), namespace.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, resource: GroupResource<'_>, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let resource = qualified(resource);
        let matches = |key: &Key| key.0 == resource && namespace.is_none_or(|namespace| key.1 == namespace);
        self.0.read().iter().filter(|(key, _)| matches(key)).map(|(_, object)| Arc::clone(object)).collect()
    }

    async fn get_consistent(
        &self,
        resource: GroupResource<'_>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, ApiError> {
        Ok(self.get(resource, namespace, name))
    }
}
