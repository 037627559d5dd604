//! Shared caches of API objects: one list and watch per kind and selector in a process, however many controllers look at it.
//!
//! ```ignore
//! let informers = Informers::new(client, shutdown);
//! let pods = informers.get::<Pod>();
//! pods.on_change(move |change| queue.add(change.key()));
//! pods.synced().await;
//! let pod = pods.store().get(&Key::new("default", "web-0"));
//! ```
//!
//! `metadata.managedFields` is dropped from what is cached (an update without it leaves the server's as they are).

mod shared;
mod store;
mod subscription;
mod watch;

use std::fmt;
use std::sync::Arc;

pub use shared::{Informers, Selector};
pub use store::Store;
pub use subscription::Subscription;
pub use watch::Informer;

/// What can be cached: any Kubernetes type, `PartialObjectMeta` of one, or `DynamicObject`.
pub trait Object: kube::Resource + Clone + fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static {}
impl<K: kube::Resource + Clone + fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static> Object for K {}

/// Namespace and name of an object; the namespace is empty for cluster-scoped ones. Prints as `ns/name` or `name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace, or empty.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of a namespaced object.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of a cluster-scoped object.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self { namespace: String::new(), name: name.into() }
    }

    /// The key of an object.
    pub fn of(object: &impl kube::Resource) -> Self {
        let meta = object.meta();
        Self { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// What happened to one object: `old` is `None` when it was added, `new` is `None` when it was deleted (`old` is then its last known state).
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// The state before.
    pub old: Option<Arc<K>>,
    /// The state after.
    pub new: Option<Arc<K>>,
}

impl<K: kube::Resource> Change<K> {
    /// The object's newest known state.
    ///
    /// # Panics
    /// Never for a change that comes from an informer: one side is always there.
    pub fn object(&self) -> &Arc<K> {
        self.new.as_ref().or(self.old.as_ref()).expect("a change has an old or a new object")
    }

    /// The object's key.
    pub fn key(&self) -> Key {
        Key::of(self.object().as_ref())
    }

    /// Whether the object was added.
    pub fn is_added(&self) -> bool {
        self.old.is_none()
    }

    /// Whether the object was deleted.
    pub fn is_deleted(&self) -> bool {
        self.new.is_none()
    }
}
