//! What plugins write themselves.

use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_storage::reader::GroupResource;
use apiserver_storage::{Object, Store, Written, keys};
use async_trait::async_trait;
use serde_json::Value;

/// How a write ended.
pub enum Outcome {
    /// The object as it is now.
    Done(Arc<Value>),
    /// It was not as expected; this is what is there, if anything.
    Conflict(Option<Arc<Value>>),
}

/// Conditional writes, past admission and validation.
#[async_trait]
pub trait Writer: Send + Sync {
    /// Writes an object if it is still at the revision that its `resourceVersion` says; without one, if it is not there.
    async fn write(&self, resource: GroupResource<'_>, object: &Value) -> Result<Outcome, ApiError>;
}

#[async_trait]
impl Writer for Store {
    async fn write(&self, resource: GroupResource<'_>, object: &Value) -> Result<Outcome, ApiError> {
        let (namespace, name) = (meta::namespace(object), meta::name(object));
        let prefix = keys::builtin_prefix(resource.group, resource.resource);
        let key = if namespace.is_empty() { format!("{prefix}{name}") } else { format!("{prefix}{namespace}/{name}") };
        let expected = match meta::resource_version(object) {
            "" => 0,
            version => version.parse().map_err(ApiError::internal)?,
        };
        let mut stored = object.clone();
        meta::metadata_mut(&mut stored).remove("resourceVersion");
        let json = serde_json::to_vec(&stored).map_err(ApiError::internal)?;
        let value = |object: Arc<Object>| Arc::new(object.to_value());
        Ok(match self.update(&key, json, expected, None).await? {
            Written::Done(object) => Outcome::Done(value(object)),
            Written::Conflict(current) => Outcome::Conflict(current.map(value)),
        })
    }
}
