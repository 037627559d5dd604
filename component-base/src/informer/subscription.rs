//! Changes of an informer as a stream for one consumer that works at its own pace.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Change, Key};

/// The changes of an informer for one consumer, first all that is cached as added objects, then in the order in which they happened.
///
/// It is bounded by the number of objects: when the consumer is behind, changes of one object that it has not seen yet become one
/// (the `old` of the first, the `new` of the last; none at all when the object came and went). No object's last state is lost, and nobody waits.
pub struct Subscription<K> {
    pending: Arc<Pending<K>>,
}

pub(super) struct Pending<K> {
    state: Mutex<State<K>>,
    ready: Notify,
}

struct State<K> {
    order: VecDeque<Key>,
    changes: HashMap<Key, Change<K>>,
    closed: bool,
}

impl<K: kube::Resource> Subscription<K> {
    pub(super) fn new() -> (Self, Arc<Pending<K>>) {
        let state = State { order: VecDeque::new(), changes: HashMap::new(), closed: false };
        let pending = Arc::new(Pending { state: Mutex::new(state), ready: Notify::new() });
        (Self { pending: Arc::clone(&pending) }, pending)
    }

    /// Waits for the next change; `None` when the informer has ended and all is consumed. Cancelling this future loses nothing.
    pub async fn next(&mut self) -> Option<Change<K>> {
        loop {
            let notified = self.pending.ready.notified();
            {
                let mut state = self.pending.state.lock();
                if let Some(change) = state.pop() {
                    return Some(change);
                }
                if state.closed {
                    return None;
                }
            }
            notified.await;
        }
    }
}

impl<K: kube::Resource> Pending<K> {
    pub(super) fn push(&self, change: &Change<K>) {
        self.state.lock().push(change);
        self.ready.notify_one();
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_one();
    }
}

impl<K: kube::Resource> State<K> {
    fn pop(&mut self) -> Option<Change<K>> {
        while let Some(key) = self.order.pop_front() {
            if let Some(change) = self.changes.remove(&key) {
                return Some(change);
            }
        }
        None
    }

    fn push(&mut self, change: &Change<K>) {
        let key = change.key();
        match self.changes.get_mut(&key) {
            None => {
                self.changes.insert(key.clone(), Change { old: change.old.clone(), new: change.new.clone() });
                self.order.push_back(key);
            }
            Some(known) => {
                known.new.clone_from(&change.new);
                if known.old.is_none() && known.new.is_none() {
                    self.changes.remove(&key);
                    self.order.retain(|waiting| *waiting != key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;

    use super::*;

    fn map(name: &str, version: &str) -> Option<Arc<ConfigMap>> {
        let metadata =
            ObjectMeta { name: Some(name.into()), resource_version: Some(version.into()), ..Default::default() };
        Some(Arc::new(ConfigMap { metadata, ..Default::default() }))
    }

    fn version(object: &Option<Arc<ConfigMap>>) -> &str {
        object.as_ref().map_or("-", |map| map.metadata.resource_version.as_deref().unwrap())
    }

    #[tokio::test]
    async fn unseen_changes_of_an_object_become_one_in_order() {
        let (mut subscription, pending) = Subscription::<ConfigMap>::new();
        for (old, new) in [
            (None, map("a", "1")),
            (None, map("b", "2")),
            (map("a", "1"), map("a", "3")),
            (None, map("gone", "4")),
            (map("gone", "4"), None),
            (map("c", "0"), None),
        ] {
            pending.push(&Change { old, new });
        }
        pending.close();
        let mut seen = Vec::new();
        while let Some(change) = subscription.next().await {
            seen.push(format!("{} {}>{}", change.key(), version(&change.old), version(&change.new)));
        }
        assert_eq!(seen, ["a ->3", "b ->2", "c 0>-"]);
    }
}
