//! How other parts of the apiserver read the watch cache: by key, by resource, or as a stream of changes in revision order.

use std::sync::Arc;

use apimachinery::ApiError;
use async_trait::async_trait;
use serde_json::Value;

/// A resource without its version: group `apps`, resource `deployments`; the core group is the empty string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource<'a> {
    pub group: &'a str,
    pub resource: &'a str,
}

impl<'a> GroupResource<'a> {
    pub const fn new(group: &'a str, resource: &'a str) -> Self {
        GroupResource { group, resource }
    }
}

/// Read access to the watch cache. Objects are in their storage version, whole, with `metadata.resourceVersion` set.
#[async_trait]
pub trait Reader: Send + Sync {
    /// The object as the cache knows it now; `namespace` is empty for a cluster-scoped resource.
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>>;

    /// All objects of the resource as the cache knows them now, in one namespace or in all.
    fn list(&self, resource: GroupResource<'_>, namespace: Option<&str>) -> Vec<Arc<Value>>;

    /// As [`Reader::get`], after the cache has caught up with everything written before this call.
    async fn get_consistent(
        &self,
        resource: GroupResource<'_>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, ApiError>;
}

/// One object before and after a write: created (`old` is none), updated, or deleted (`new` is none).
pub struct Change<'a> {
    pub resource: GroupResource<'a>,
    pub namespace: &'a str,
    pub name: &'a str,
    pub old: Option<Arc<Value>>,
    pub new: Option<Arc<Value>>,
}

/// State derived from the cache (compiled RBAC rules, the node graph). The cache calls it in revision order from its one
/// writer, before the change is visible to readers; at the start, once per existing object. It must not block.
pub trait Observer: Send + Sync {
    /// The resources whose changes are wanted.
    fn resources(&self) -> &'static [GroupResource<'static>];

    /// The members of a resource's objects that matter, as paths: updates that leave their bytes as they are need not be shown.
    /// Empty means all.
    fn members(&self, _resource: GroupResource<'_>) -> &'static [&'static [&'static str]] {
        &[]
    }

    /// Takes one change into account. Their `metadata.managedFields` are null.
    fn observe(&self, change: &Change<'_>);
}
