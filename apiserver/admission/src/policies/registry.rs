//! Every policy and binding there is, compiled when it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use apiserver_storage::reader::{Change, GroupResource, Observer};
use parking_lot::RwLock;

use super::{Binding, Body, Policy};

/// Policies and bindings by name.
pub(crate) struct Known<B> {
    pub policies: BTreeMap<String, Arc<Policy<B>>>,
    bindings: BTreeMap<String, Arc<Binding>>,
}

impl<B> Default for Known<B> {
    fn default() -> Self {
        Known { policies: BTreeMap::new(), bindings: BTreeMap::new() }
    }
}

impl<B> Clone for Known<B> {
    fn clone(&self) -> Self {
        Known { policies: self.policies.clone(), bindings: self.bindings.clone() }
    }
}

impl<B> Known<B> {
    /// The bindings of a policy.
    pub(crate) fn bindings_of<'k>(&'k self, policy: &'k str) -> impl Iterator<Item = &'k Binding> {
        self.bindings.values().filter(move |binding| binding.policy == policy).map(|binding| &**binding)
    }

    /// Whether a failure may have this consequence.
    pub(crate) fn has_action(&self, action: &str) -> bool {
        self.bindings.values().any(|binding| binding.has(action))
    }
}

/// The policies of one kind. They are empty where the server has none, and a request costs one look at that.
pub(crate) struct Policies<B: 'static> {
    /// Of the policies, and of the bindings.
    resources: &'static [GroupResource<'static>; 2],
    known: RwLock<Arc<Known<B>>>,
}

impl<B: Body> Policies<B> {
    pub(crate) fn new(resources: &'static [GroupResource<'static>; 2]) -> Self {
        Policies { resources, known: RwLock::default() }
    }

    /// Those that there are now.
    pub(crate) fn known(&self) -> Arc<Known<B>> {
        self.known.read().clone()
    }

    /// Whether none can have an effect.
    pub(crate) fn is_empty(&self) -> bool {
        let known = self.known.read();
        known.policies.is_empty() || known.bindings.is_empty()
    }
}

impl<B: Body> Observer for Policies<B> {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        self.resources
    }

    fn members(&self, _: GroupResource<'_>) -> &'static [&'static [&'static str]] {
        &[&["spec"]]
    }

    fn observe(&self, change: &Change<'_>) {
        let mut known = self.known.write();
        let known = Arc::make_mut(&mut known);
        let name = change.name.to_owned();
        match &change.new {
            Some(object) if change.resource == self.resources[0] => {
                known.policies.insert(name, Arc::new(Policy::of(object)));
            }
            Some(object) => {
                known.bindings.insert(name, Arc::new(Binding::of(object)));
            }
            None if change.resource == self.resources[0] => {
                known.policies.remove(&name);
            }
            None => {
                known.bindings.remove(&name);
            }
        }
    }
}
