//! One informer: the task that lists and watches, and the handle on its cache.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::runtime::watcher;
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::watch;

use super::subscription::Pending;
use super::{Change, Key, Object, Store, Subscription};
use crate::runner::chain;
use crate::shutdown::Shutdown;

/// Wait before the first retry of a failed list or watch; doubles up to [`MAX_RETRY`].
const MIN_RETRY: Duration = Duration::from_millis(200);
/// Longest wait between retries; short, so that a restarted server is found soon.
const MAX_RETRY: Duration = Duration::from_secs(5);
/// From this many failures in a row on they are logged as warnings.
const WARN_FAILURES: u32 = 3;

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// A handle on one shared cache. Clones share it.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    store: Store<K>,
    /// Held while a change is stored and handed to all, so that a new consumer misses nothing and sees nothing twice.
    consumers: Mutex<Consumers<K>>,
    synced: watch::Sender<bool>,
}

struct Consumers<K> {
    handlers: Vec<Handler<K>>,
    subscriptions: Vec<Arc<Pending<K>>>,
    closed: bool,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K: Object> Informer<K> {
    pub(super) fn new() -> Self {
        let consumers = Consumers { handlers: Vec::new(), subscriptions: Vec::new(), closed: false };
        let (synced, _) = watch::channel(false);
        Self { shared: Arc::new(Shared { store: Store::default(), consumers: Mutex::new(consumers), synced }) }
    }

    /// The cached objects.
    pub fn store(&self) -> Store<K> {
        self.shared.store.clone()
    }

    /// Adds an index to the store, see [`Store::add_index`].
    pub fn add_index(&self, name: &'static str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        self.shared.store.add_index(name, values);
    }

    /// Calls `handler` for all that is cached, as added, and then for every change, in order, after the store has it. The handler runs on
    /// the informer's task: it must be quick (put a key on a queue), must not block, and must not add consumers to the same informer.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut consumers = self.shared.consumers.lock();
        for object in self.shared.store.list() {
            handler(&Change { old: None, new: Some(object) });
        }
        consumers.handlers.push(Box::new(handler));
    }

    /// The changes for a consumer that works at its own pace, see [`Subscription`].
    pub fn subscribe(&self) -> Subscription<K> {
        let (subscription, pending) = Subscription::new();
        let mut consumers = self.shared.consumers.lock();
        for object in self.shared.store.list() {
            pending.push(&Change { old: None, new: Some(object) });
        }
        if consumers.closed {
            pending.close();
        } else {
            consumers.subscriptions.push(pending);
        }
        subscription
    }

    /// Waits until the first list is in the store. Waits for ever if the server never answers.
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // The sender lives in `self`, so this ends only by being synced.
        if synced.wait_for(|synced| *synced).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the first list is in the store.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Follows the watcher's events until shutdown.
    pub(super) async fn run(
        &self,
        kind: &str,
        events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
        prune: impl Fn(&mut K),
        shutdown: Shutdown,
    ) {
        let mut events = std::pin::pin!(events);
        let mut listing: Option<HashSet<Key>> = None;
        let mut failures: u32 = 0;
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => break,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    failures = 0;
                    self.apply(event.modify(&prune), &mut listing);
                }
                Some(Err(error)) => {
                    failures = failures.saturating_add(1);
                    report(kind, failures, &error);
                    tokio::select! {
                        () = shutdown.cancelled() => break,
                        () = tokio::time::sleep(retry_delay(failures)) => {}
                    }
                }
                None => break,
            }
        }
        self.close();
    }

    fn apply(&self, event: watcher::Event<K>, listing: &mut Option<HashSet<Key>>) {
        match event {
            watcher::Event::Apply(object) => self.upsert(object),
            watcher::Event::Delete(object) => {
                // The watch gives the last state, which can be newer than the stored one.
                self.delete(&Key::of(&object), Some(object));
            }
            watcher::Event::Init => *listing = Some(HashSet::new()),
            watcher::Event::InitApply(object) => {
                if let Some(seen) = listing {
                    seen.insert(Key::of(&object));
                }
                self.upsert(object);
            }
            watcher::Event::InitDone => {
                if let Some(seen) = listing.take() {
                    for key in self.shared.store.keys().into_iter().filter(|key| !seen.contains(key)) {
                        self.delete(&key, None);
                    }
                }
                self.shared.synced.send_replace(true);
            }
        }
    }

    /// Stores an object, unless it is what is stored already (a list repeats what is known).
    fn upsert(&self, object: K) {
        let known = self.shared.store.get(&Key::of(&object));
        let version = &object.meta().resource_version;
        if version.is_some() && known.is_some_and(|known| known.meta().resource_version == *version) {
            return;
        }
        let mut consumers = self.shared.consumers.lock();
        let new = Arc::new(object);
        let replaced = self.shared.store.get(&Key::of(new.as_ref())).filter(|old| old.meta().uid != new.meta().uid);
        if let Some(old) = replaced {
            // Another object of the same name: the end of the old one was missed while the watch was away.
            consumers.tell(&Change { old: Some(old), new: None });
            let change = self.shared.store.upsert(new);
            consumers.tell(&Change { old: None, new: change.new });
            return;
        }
        let change = self.shared.store.upsert(new);
        consumers.tell(&change);
    }

    fn delete(&self, key: &Key, last: Option<K>) {
        let mut consumers = self.shared.consumers.lock();
        let Some(mut change) = self.shared.store.remove(key) else { return };
        if let Some(last) = last {
            change.old = Some(Arc::new(last));
        }
        consumers.tell(&change);
    }

    fn close(&self) {
        let mut consumers = self.shared.consumers.lock();
        consumers.closed = true;
        for pending in consumers.subscriptions.drain(..) {
            pending.close();
        }
    }
}

impl<K: Object> Consumers<K> {
    fn tell(&mut self, change: &Change<K>) {
        for handler in &self.handlers {
            handler(change);
        }
        // A subscription whose consumer was dropped is held only here.
        self.subscriptions.retain(|pending| Arc::strong_count(pending) > 1);
        for pending in &self.subscriptions {
            pending.push(change);
        }
    }
}

/// The wait after this many failures in a row, with up to half of it as jitter.
fn retry_delay(failures: u32) -> Duration {
    let base = MIN_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(MAX_RETRY);
    base.mul_f64(rand::rng().random_range(0.5..=1.0))
}

fn report(kind: &str, failures: u32, error: &watcher::Error) {
    if failures >= WARN_FAILURES {
        tracing::warn!(kind, failures, error = chain(error), "list or watch failed, will retry");
    } else {
        tracing::debug!(kind, failures, error = chain(error), "list or watch failed, will retry");
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;
    use kube::runtime::watcher::Event;

    use super::*;

    fn map(name: &str, version: &str, uid: &str) -> ConfigMap {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            resource_version: Some(version.into()),
            uid: Some(uid.into()),
            ..Default::default()
        };
        ConfigMap { metadata, ..Default::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_relist_tells_what_was_missed_and_nothing_else() {
        let informer = Informer::<ConfigMap>::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        informer.on_change(move |change| {
            let side = |side: &Option<Arc<ConfigMap>>| {
                side.as_ref().map_or("-".to_owned(), |map| map.metadata.resource_version.clone().unwrap())
            };
            log.lock().push(format!("{} {}>{}", change.key(), side(&change.old), side(&change.new)));
        });
        let broken = watcher::Error::NoResourceVersion;
        let events = futures::stream::iter([
            Ok(Event::Init),
            Ok(Event::InitApply(map("same", "1", "s"))),
            Ok(Event::InitApply(map("gone", "2", "g"))),
            Ok(Event::InitApply(map("new", "3", "n1"))),
            Ok(Event::InitDone),
            Ok(Event::Apply(map("same", "4", "s"))),
            Err(broken),
            Ok(Event::Init),
            Ok(Event::InitApply(map("same", "4", "s"))),
            Ok(Event::InitApply(map("new", "9", "n2"))),
            Ok(Event::InitDone),
            Ok(Event::Delete(map("same", "10", "s"))),
        ]);
        let mut subscription = informer.subscribe();
        informer.run("ConfigMap", events, |_| {}, Shutdown::new()).await;
        assert!(informer.is_synced());
        let expected = ["same ->1", "gone ->2", "new ->3", "same 1>4", "new 3>-", "new ->9", "gone 2>-", "same 10>-"];
        assert_eq!(*seen.lock(), expected);
        let merged = subscription.next().await.unwrap();
        assert_eq!(merged.key(), Key::cluster("new"));
        assert!(merged.is_added());
        assert!(subscription.next().await.is_none());
    }

    #[test]
    fn retries_stay_short() {
        assert!(retry_delay(1) <= MIN_RETRY);
        assert!(retry_delay(50) <= MAX_RETRY);
    }
}
