//! What all controllers of pods and other children share: which objects may be an owner's, and which owner a child's change concerns.

use std::sync::Arc;

use component_base::informer::{Change, Informer, Key, Object, Store};
use component_base::queue::WorkQueue;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::Selector;

use crate::expectations::Expectations;
use crate::ownership;

/// Index of children by the uid of their controller, or by namespace if they have none.
const BY_CONTROLLER: &str = "controller";

/// The value of [`BY_CONTROLLER`] for objects without a controller.
fn orphans_of(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

/// Adds the index that [`candidates`] and [`controlled`] need.
pub fn index<K: Object>(children: &Informer<K>) {
    children.add_index(BY_CONTROLLER, |child| {
        let meta = child.meta();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        vec![ownership::controller_of(meta).map_or_else(|| orphans_of(namespace), |owner| owner.uid.clone())]
    });
}

/// The objects that a controlling one controls.
pub fn controlled<K: Object>(children: &Store<K>, owner: &ObjectMeta) -> Vec<Arc<K>> {
    children.indexed(BY_CONTROLLER, owner.uid.as_deref().unwrap_or_default())
}

/// The objects that a controlling one may look at: those that it controls, and its namespace's orphans.
pub fn candidates<K: Object>(children: &Store<K>, owner: &ObjectMeta) -> Vec<Arc<K>> {
    let mut found = controlled(children, owner);
    found.extend(children.indexed(BY_CONTROLLER, &orphans_of(owner.namespace.as_deref().unwrap_or_default())));
    found
}

/// An object that controls children which its selector chooses.
pub trait Owner: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope> {
    /// Its selector; `None` if that is malformed or empty, which chooses nothing that a controller should touch.
    fn selector(&self) -> Option<Selector>;
}

/// Owners whose selector is a label selector in their spec.
macro_rules! owner {
    ($($kind:ty),+) => {
        $(impl Owner for $kind {
            fn selector(&self) -> Option<Selector> {
                ownership::selector(Some(&self.spec.as_ref()?.selector))
            }
        })+
    };
}
owner!(DaemonSet, Deployment, ReplicaSet, StatefulSet);

impl Owner for Job {
    fn selector(&self) -> Option<Selector> {
        ownership::selector(self.spec.as_ref()?.selector.as_ref())
    }
}

/// The owner of a kind that controls an object, as far as it is known.
pub fn owner_key<O: Owner>(child: &ObjectMeta, owners: &Store<O>) -> Option<Key> {
    let reference = ownership::controller_of(child)
        .filter(|owner| owner.kind == O::kind(&()) && owner.api_version == O::api_version(&()))?;
    let key = Key::new(child.namespace.clone().unwrap_or_default(), reference.name.clone());
    // An owner that the cache does not know yet may be the child's; another of the same name is not.
    let known = owners.get(&key);
    known.is_none_or(|owner| owner.meta().uid.as_ref() == Some(&reference.uid)).then_some(key)
}

/// Turns changes of children into keys of their owners, and tells expectations what has come and gone.
pub struct Changes<O> {
    /// The owners.
    pub owners: Store<O>,
    /// Their controller's queue.
    pub queue: WorkQueue<Key>,
    /// What their controller waits for.
    pub expectations: Arc<Expectations>,
}

impl<O: Owner> Changes<O> {
    /// Takes a change of a child.
    pub fn take<C: Resource>(&self, change: &Change<C>) {
        let meta = change.object().meta();
        let going = change.is_deleted() || meta.deletion_timestamp.is_some();
        for (side, is_new) in [(&change.old, false), (&change.new, true)] {
            let Some(key) = side.as_deref().and_then(|child| owner_key(child.meta(), &self.owners)) else { continue };
            if is_new && change.is_added() {
                self.expectations.creation_observed(&key);
            }
            if going {
                self.expectations.deletion_observed(&key, meta.uid.as_deref().unwrap_or_default());
            }
            self.queue.add(key);
        }
        if !change.is_deleted() && ownership::controller_of(meta).is_none() {
            self.orphan(meta);
        }
    }

    /// A child without a controller concerns all owners that could adopt it.
    fn orphan(&self, child: &ObjectMeta) {
        for owner in self.owners.list_namespace(child.namespace.as_deref().unwrap_or_default()) {
            if owner.selector().is_some_and(|selector| ownership::matches(&selector, child)) {
                self.queue.add(Key::of(owner.as_ref()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSetSpec;
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};

    use super::*;

    fn set(name: &str, app: &str) -> ReplicaSet {
        let selector = LabelSelector {
            match_labels: Some([("app".to_owned(), app.to_owned())].into()),
            ..LabelSelector::default()
        };
        let metadata = ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            uid: Some(format!("uid-{name}")),
            ..ObjectMeta::default()
        };
        ReplicaSet { metadata, spec: Some(ReplicaSetSpec { selector, ..ReplicaSetSpec::default() }), status: None }
    }

    fn pod(owner: Option<(&str, &str)>) -> Option<Arc<Pod>> {
        let mut pod = crate::pods::testing::pod("p", "n", None);
        pod.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
        pod.metadata.owner_references = owner.map(|(name, uid)| {
            vec![OwnerReference {
                api_version: "apps/v1".into(),
                kind: "ReplicaSet".into(),
                name: name.into(),
                uid: uid.into(),
                controller: Some(true),
                ..OwnerReference::default()
            }]
        });
        Some(Arc::new(pod))
    }

    #[test]
    fn a_childs_change_concerns_its_owners_before_and_after_and_those_who_could_adopt_it() {
        let owners = Store::from_objects([set("web", "web"), set("db", "db")]);
        for (old, new, expected) in [
            (None, pod(Some(("web", "uid-web"))), vec!["default/web"]),
            (pod(Some(("db", "uid-db"))), pod(Some(("web", "uid-web"))), vec!["default/db", "default/web"]),
            (pod(Some(("web", "uid-of-an-earlier-one"))), None, vec![]),
            (None, pod(Some(("unknown-yet", "u"))), vec!["default/unknown-yet"]),
            (pod(Some(("db", "uid-db"))), pod(None), vec!["default/db", "default/web"]),
        ] {
            let queue = WorkQueue::new();
            let changes = Changes { owners: owners.clone(), queue: queue.clone(), expectations: Arc::default() };
            changes.take(&Change { old, new });
            queue.close();
            let keys: Vec<String> = std::iter::from_fn(|| futures::executor::block_on(queue.get()))
                .map(|key| {
                    queue.done(&key);
                    key.to_string()
                })
                .collect();
            assert_eq!(keys, expected);
        }
    }

    #[test]
    fn what_comes_and_goes_is_no_longer_expected() {
        let expectations = Arc::new(Expectations::default());
        let changes =
            Changes { owners: Store::from_objects([set("web", "web")]), queue: WorkQueue::new(), expectations };
        let key = Key::new("default", "web");
        let owned = || pod(Some(("web", "uid-web")));
        changes.expectations.expect(&key, 1, []);
        changes.take(&Change { old: None, new: owned() });
        assert!(changes.expectations.are_met(&key));
        changes.expectations.expect(&key, 0, ["uid-p".to_owned()]);
        changes.take(&Change { old: owned(), new: None });
        assert!(changes.expectations.are_met(&key));
    }
}
