//! Which pods are of a kind, for those that do not say it themselves: what Services, ReplicationControllers, ReplicaSets and
//! StatefulSets select by.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::labels::{Str, intern};
use crate::pod::Pod;
use crate::selector::Selector;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Service,
    ReplicationController,
    ReplicaSet,
    StatefulSet,
}

impl Kind {
    /// The kind of a controller that is known here.
    pub fn of_owner(api_version: &str, kind: &str) -> Option<Self> {
        match (api_version, kind) {
            ("v1", "ReplicationController") => Some(Self::ReplicationController),
            ("apps/v1", "ReplicaSet") => Some(Self::ReplicaSet),
            ("apps/v1", "StatefulSet") => Some(Self::StatefulSet),
            _ => None,
        }
    }
}

/// Names one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub kind: Kind,
    pub namespace: Str,
    pub name: Str,
}

impl Key {
    pub fn new(kind: Kind, meta: &ObjectMeta) -> Option<Self> {
        Some(Self { kind, namespace: intern(meta.namespace.as_deref()?), name: meta.name.as_deref()?.into() })
    }
}

/// The selector of a Service or a ReplicationController, which is a map. Without one it selects nothing.
pub fn of_map(map: Option<&BTreeMap<String, String>>) -> Selector {
    let map = map.filter(|map| !map.is_empty());
    let selector = map.map(|map| LabelSelector { match_labels: Some(map.clone()), ..LabelSelector::default() });
    Selector::new(selector.as_ref())
}

/// All of them, by namespace.
#[derive(Debug, Default)]
pub struct Groups(HashMap<Str, BTreeMap<(Kind, Str), Selector>>);

impl Groups {
    pub fn set(&mut self, key: Key, selector: Selector) {
        self.0.entry(key.namespace).or_default().insert((key.kind, key.name), selector);
    }

    pub fn remove(&mut self, key: &Key) {
        let Some(all) = self.0.get_mut(&key.namespace) else { return };
        all.remove(&(key.kind, key.name.clone()));
        if all.is_empty() {
            self.0.remove(&key.namespace);
        }
    }

    /// Replaces all of a kind.
    pub fn replace(&mut self, kind: Kind, all: Vec<(Key, Selector)>) {
        self.0.values_mut().for_each(|group| group.retain(|(known, _), _| *known != kind));
        self.0.retain(|_, group| !group.is_empty());
        all.into_iter().for_each(|(key, selector)| self.set(key, selector));
    }

    /// What selects the pods of a pod's kind: all that its Services and its controller select by. `None` if there are none.
    pub fn selector_of(&self, pod: &Pod) -> Option<Selector> {
        let all = self.0.get(&pod.namespace)?;
        let services = all.range((Kind::Service, Str::default())..).take_while(|((kind, _), _)| *kind == Kind::Service);
        let services = services.map(|(_, selector)| selector).filter(|selector| selector.matches(&pod.labels));
        let controller = pod.controller.as_ref().and_then(|owner| all.get(owner));
        let requirements: Vec<_> =
            services.chain(controller).flat_map(|selector| selector.requirements().iter().cloned()).collect();
        (!requirements.is_empty()).then(|| Selector::All(requirements.into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::labels::Labels;
    use crate::testing::PodBuilder;

    #[test]
    fn services_and_the_controller_say_what_is_of_a_kind() {
        let mut groups = Groups::default();
        let key = |kind, name: &str| Key { kind, namespace: intern("default"), name: name.into() };
        let selector = |key: &str, value: &str| of_map(Some(&BTreeMap::from([(key.to_owned(), value.to_owned())])));
        let owner =
            json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u", "controller": true }]);
        let pod = PodBuilder::new("p").labels(json!({ "app": "web", "hash": "1" }));
        let pod = pod.with("/metadata", json!({ "ownerReferences": owner })).build();
        assert_eq!(groups.selector_of(&pod), None);

        groups.set(key(Kind::Service, "other"), selector("app", "db"));
        groups.set(key(Kind::Service, "by-hand"), of_map(None));
        groups.set(key(Kind::ReplicaSet, "web-2"), selector("hash", "2"));
        assert_eq!(groups.selector_of(&pod), None, "none of them is the pod's");

        groups.set(key(Kind::Service, "web"), selector("app", "web"));
        groups.set(key(Kind::ReplicaSet, "web-1"), selector("hash", "1"));
        let both = groups.selector_of(&pod).unwrap();
        assert!(both.matches(&pod.labels));
        assert!(!both.matches(&Labels::from([("app", "web")])) && !both.matches(&Labels::from([("hash", "1")])));

        groups.remove(&key(Kind::Service, "web"));
        assert!(groups.selector_of(&pod).unwrap().matches(&Labels::from([("hash", "1")])));
        groups.replace(Kind::ReplicaSet, vec![]);
        assert_eq!(groups.selector_of(&pod), None);
    }
}
