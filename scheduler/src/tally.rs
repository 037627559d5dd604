//! Sums over all nodes that are kept from one cycle to the next: a cycle costs what changed.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::Cache;
use crate::node::NodeInfo;

/// Sums that are kept at a time: those of the kinds of pods that were tried last.
const KEPT: usize = 64;

/// Something that is added up over nodes.
pub trait Tally: Clone + Default {
    /// What one node adds.
    type Part;

    fn add(&mut self, part: &Self::Part);
    fn remove(&mut self, part: &Self::Part);
}

struct Sum<T: Tally> {
    version: (u64, u64),
    /// By slot, what it added.
    parts: Vec<Option<T::Part>>,
    total: Arc<T>,
}

impl<T: Tally> Sum<T> {
    fn new() -> Self {
        Self { version: (0, 0), parts: Vec::new(), total: Arc::default() }
    }

    fn refresh(&mut self, cache: &Cache, part: &dyn Fn(&NodeInfo) -> Option<T::Part>) {
        let slots: Vec<usize> = match cache.changes_since(self.version) {
            Some(changed) => changed.collect(),
            None => {
                *self = Self::new();
                (0..cache.slots().len()).collect()
            }
        };
        self.version = cache.version();
        if slots.is_empty() {
            return;
        }
        self.parts.resize_with(cache.slots().len(), || None);
        let total = Arc::make_mut(&mut self.total);
        for slot in slots {
            if let Some(old) = self.parts[slot].take() {
                total.remove(&old);
            }
            self.parts[slot] = cache.slots()[slot].as_ref().and_then(part);
            if let Some(new) = &self.parts[slot] {
                total.add(new);
            }
        }
    }
}

/// Sums by what they are of. The one that was used longest ago gives way to a new one.
pub struct Sums<K, T: Tally>(Mutex<Vec<(K, Sum<T>)>>);

impl<K, T: Tally> Default for Sums<K, T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<K: PartialEq, T: Tally> Sums<K, T> {
    /// The sum over all nodes of what `part` gives for each; it must depend on the node and the key alone.
    pub fn get(&self, key: K, cache: &Cache, part: &dyn Fn(&NodeInfo) -> Option<T::Part>) -> Arc<T> {
        let mut kept = self.0.lock();
        let mut entry = match kept.iter().position(|(known, _)| *known == key) {
            Some(position) => kept.remove(position),
            None => (key, Sum::new()),
        };
        entry.1.refresh(cache, part);
        let total = Arc::clone(&entry.1.total);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(entry);
        total
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::labels::intern;
    use crate::testing::{NodeBuilder, PodBuilder};

    #[derive(Clone, Debug, Default, PartialEq)]
    struct Pods(usize);

    impl Tally for Pods {
        type Part = usize;

        fn add(&mut self, part: &usize) {
            self.0 += part;
        }

        fn remove(&mut self, part: &usize) {
            self.0 -= part;
        }
    }

    #[test]
    fn only_what_changed_is_looked_at_again() {
        let (sums, looked) = (Sums::<u8, Pods>::default(), Cell::new(0));
        let part = |node: &NodeInfo| {
            looked.set(looked.get() + 1);
            Some(node.pods.len())
        };
        let count = |cache: &Cache, expected: usize, looks: usize| {
            looked.set(0);
            assert_eq!((sums.get(1, cache, &part).0, looked.get()), (expected, looks));
        };
        let mut cache = Cache::new(None);
        for name in ["n1", "n2", "n3"] {
            cache.set_node(NodeBuilder::new(name).build());
        }
        cache.set_pod(PodBuilder::new("a").build(), &intern("n1"));
        count(&cache, 1, 3);
        count(&cache, 1, 0);
        cache.assume(PodBuilder::new("b").build(), &intern("n2"));
        count(&cache, 2, 1);
        cache.remove_pod("a");
        count(&cache, 1, 1);
        cache.remove_node("n2");
        count(&cache, 0, 0);
        cache.set_node(NodeBuilder::new("n2").build());
        count(&cache, 1, 1);
        for _ in 0..5000 {
            cache.set_node(NodeBuilder::new("n3").build());
        }
        count(&cache, 1, 3);
        count(&Cache::new(None), 0, 0);
    }

    #[test]
    fn a_sum_in_use_is_not_changed() {
        let sums = Sums::<u8, Pods>::default();
        let part = |node: &NodeInfo| Some(node.pods.len());
        let mut cache = Cache::new(None);
        cache.set_node(NodeBuilder::new("n1").build());
        let before = sums.get(1, &cache, &part);
        cache.set_pod(PodBuilder::new("a").build(), &intern("n1"));
        assert_eq!((sums.get(1, &cache, &part).0, before.0), (1, 0));
    }
}
