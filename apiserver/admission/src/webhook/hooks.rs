//! The webhooks of all configurations of a kind, in the order in which they are asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use apiserver_storage::reader::{Change, GroupResource};
use arc_swap::{ArcSwap, Guard};
use component_base::webhook::Resolver;
use parking_lot::Mutex;

use super::hook::Hook;

type Compiled = Vec<Arc<Hook>>;

/// Follows the configurations of one kind.
pub struct Hooks {
    resource: GroupResource<'static>,
    resolver: Arc<dyn Resolver>,
    configurations: Mutex<BTreeMap<String, Compiled>>,
    all: ArcSwap<Compiled>,
}

impl Hooks {
    pub fn new(resource: GroupResource<'static>, resolver: Arc<dyn Resolver>) -> Self {
        Hooks { resource, resolver, configurations: Mutex::default(), all: ArcSwap::default() }
    }

    /// Every webhook: by the names of their configurations, and in the order that each of these has.
    pub fn all(&self) -> Guard<Arc<Compiled>> {
        self.all.load()
    }

    /// Takes a change of a configuration into account.
    pub fn observe(&self, change: &Change<'_>) {
        if change.resource != self.resource {
            return;
        }
        let mut configurations = self.configurations.lock();
        match &change.new {
            Some(new) => configurations.insert(change.name.to_owned(), Hook::all(new, &self.resolver)),
            None => configurations.remove(change.name),
        };
        self.all.store(Arc::new(configurations.values().flatten().cloned().collect()));
    }
}
