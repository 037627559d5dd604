//! The shared log of recent events: a watcher is a cursor in it, so publishing costs the same for one watcher as for ten thousand.
//!
//! A slow watcher only lags; one that falls behind the log's window is told so and ends (it lists again).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::keys;
use crate::object::Object;

/// The most events of one resource that are kept.
pub const MAX_EVENTS: usize = 16_384;
/// Events younger than this are kept as long as [`MAX_EVENTS`] allows; older ones make room beyond [`MIN_EVENTS`].
pub const FRESH: Duration = Duration::from_secs(150);
/// So many events of one resource are kept whatever their age.
pub const MIN_EVENTS: usize = 512;

/// One change of one object.
pub struct Event {
    /// The object after the change; for a deletion its last state, as of the revision of the deletion.
    pub object: Arc<Object>,
    /// The object before the change; none for a creation.
    pub previous: Option<Arc<Object>>,
    /// Whether the change is a deletion.
    pub deleted: bool,
}

impl Event {
    /// The revision of the change.
    pub fn revision(&self) -> i64 {
        self.object.revision
    }
}

/// Which events of a resource a watcher wakes for. Everything but `All` has a log of its own while it is watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    All,
    Namespace(Box<str>),
    /// One object, by its key.
    Key(Box<str>),
    /// Objects with this value of the resource's indexed field.
    Field(Box<str>),
}

/// The watcher fell behind the log's window, or the cache was read anew: it must list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watcher fell behind the window of recent events")]
pub struct Lagged;

#[derive(Default)]
struct Ring {
    events: VecDeque<(Instant, Arc<Event>)>,
    /// The sequence number of the first event in the ring.
    first: u64,
    closed: bool,
}

impl Ring {
    fn push(&mut self, now: Instant, event: Arc<Event>) -> Option<i64> {
        self.events.push_back((now, event));
        let mut evicted = None;
        while self.events.len() > MIN_EVENTS {
            let stale = self.events.front().is_some_and(|(at, _)| now.duration_since(*at) > FRESH);
            if !stale && self.events.len() <= MAX_EVENTS {
                break;
            }
            evicted = self.events.pop_front().map(|(_, event)| event.revision());
            self.first += 1;
        }
        evicted
    }

    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

/// A log of events and the bell that rings when one is added.
#[derive(Default)]
struct Log {
    ring: Mutex<Ring>,
    bell: Notify,
}

/// The logs of one resource.
struct ResourceLogs {
    all: Arc<Log>,
    /// Events after this revision are in `all`.
    complete_after: i64,
    scoped: HashMap<Scope, Weak<Log>>,
}

/// The logs of all resources, written by the cache's one writer.
pub struct Logs {
    by_prefix: HashMap<Box<str>, ResourceLogs>,
    /// Events after this revision are complete for resources that have no log yet.
    complete_after: i64,
}

impl Logs {
    /// Logs that begin after `revision`.
    pub fn new(revision: i64) -> Self {
        Logs { by_prefix: HashMap::new(), complete_after: revision }
    }

    /// Adds an event; `fields` are the values of the resource's indexed field before and after the change.
    pub fn publish(&mut self, now: Instant, event: Arc<Event>, fields: [Option<&str>; 2]) {
        let parts = keys::split(&event.object.key);
        let logs = self.resource(parts.prefix);
        if let Some(evicted) = logs.all.ring.lock().push(now, event.clone()) {
            logs.complete_after = evicted;
        }
        if !logs.scoped.is_empty() {
            logs.publish_scoped(now, &event, parts, fields);
        }
    }

    /// Wakes the watchers of the resources that got events since the last call.
    pub fn ring(&self, prefixes: &[Box<str>]) {
        for logs in prefixes.iter().filter_map(|prefix| self.by_prefix.get(prefix)) {
            logs.all.bell.notify_waiters();
        }
    }

    /// Wakes every watcher, for those that wait for a bookmark or are closed.
    pub fn close_all(&mut self, revision: i64) {
        for (_, logs) in self.by_prefix.drain() {
            let scoped = logs.scoped.into_values().filter_map(|log| log.upgrade());
            for log in scoped.chain([logs.all]) {
                log.ring.lock().closed = true;
                log.bell.notify_waiters();
            }
        }
        self.complete_after = revision;
    }

    /// A watcher of all events of the resource after `revision`.
    pub fn subscribe(&mut self, prefix: &str, scope: Scope, revision: i64) -> Result<Watcher, Lagged> {
        let logs = self.resource(prefix);
        if revision < logs.complete_after {
            return Err(Lagged);
        }
        let backlog = logs.after(revision);
        let log = logs.log(scope);
        let cursor = log.ring.lock().next();
        Ok(Watcher { log, position: Position { cursor, backlog, after: revision } })
    }

    /// How many watchers there are of a resource as a whole, of a namespace, and of an object.
    pub fn watchers(&self, prefix: &str, namespace: &str, name: &str) -> usize {
        let Some(logs) = self.by_prefix.get(prefix) else { return 0 };
        let key =
            || if namespace.is_empty() { format!("{prefix}{name}") } else { format!("{prefix}{namespace}/{name}") };
        let scopes = [
            (!namespace.is_empty()).then(|| Scope::Namespace(namespace.into())),
            (!name.is_empty()).then(|| Scope::Key(key().into())),
        ];
        // Each watcher holds its log; the log of all is held here too.
        let scoped = scopes.iter().flatten().filter_map(|scope| logs.scoped.get(scope)).map(Weak::strong_count);
        Arc::strong_count(&logs.all) - 1 + scoped.sum::<usize>()
    }

    fn resource(&mut self, prefix: &str) -> &mut ResourceLogs {
        if !self.by_prefix.contains_key(prefix) {
            let logs =
                ResourceLogs { all: Arc::default(), complete_after: self.complete_after, scoped: HashMap::new() };
            self.by_prefix.insert(prefix.into(), logs);
        }
        self.by_prefix.get_mut(prefix).expect("inserted above")
    }
}

impl ResourceLogs {
    fn after(&self, revision: i64) -> Vec<Arc<Event>> {
        let ring = self.all.ring.lock();
        let newer = ring.events.iter().rev().take_while(|(_, event)| event.revision() > revision);
        let mut events: Vec<_> = newer.map(|(_, event)| event.clone()).collect();
        events.reverse();
        events
    }

    fn log(&mut self, scope: Scope) -> Arc<Log> {
        if scope == Scope::All {
            return self.all.clone();
        }
        if let Some(log) = self.scoped.get(&scope).and_then(Weak::upgrade) {
            return log;
        }
        self.scoped.retain(|_, log| log.strong_count() > 0);
        let log = Arc::<Log>::default();
        self.scoped.insert(scope, Arc::downgrade(&log));
        log
    }

    fn publish_scoped(&mut self, now: Instant, event: &Arc<Event>, parts: keys::Parts<'_>, fields: [Option<&str>; 2]) {
        let [before, after] = fields;
        let changed = if before == after { None } else { before };
        let scopes = [
            Some(Scope::Key(event.object.key.as_ref().into())),
            (!parts.namespace.is_empty()).then(|| Scope::Namespace(parts.namespace.into())),
            after.map(|value| Scope::Field(value.into())),
            changed.map(|value| Scope::Field(value.into())),
        ];
        for scope in scopes.into_iter().flatten() {
            if let Some(log) = self.scoped.get(&scope).and_then(Weak::upgrade) {
                log.ring.lock().push(now, event.clone());
                log.bell.notify_waiters();
            }
        }
    }
}

/// A cursor in a log.
pub struct Watcher {
    log: Arc<Log>,
    position: Position,
}

/// Where a watcher is in its log.
struct Position {
    cursor: u64,
    backlog: Vec<Arc<Event>>,
    after: i64,
}

impl Position {
    fn take(&mut self, log: &Log, limit: usize) -> Result<Vec<Arc<Event>>, Lagged> {
        if !self.backlog.is_empty() {
            let rest = self.backlog.split_off(limit.min(self.backlog.len()));
            return Ok(std::mem::replace(&mut self.backlog, rest));
        }
        let ring = log.ring.lock();
        if ring.closed || self.cursor < ring.first {
            return Err(Lagged);
        }
        let from = (self.cursor - ring.first) as usize;
        let events: Vec<_> = ring.events.iter().skip(from).take(limit).map(|(_, event)| event.clone()).collect();
        drop(ring);
        self.cursor += events.len() as u64;
        // What was written between the snapshot that the client has and the start of this watcher.
        let after = self.after;
        Ok(events.into_iter().filter(|event| event.revision() > after).collect())
    }
}

impl Watcher {
    /// The events since the last call, at most `limit`; empty when there are none yet.
    pub fn take(&mut self, limit: usize) -> Result<Vec<Arc<Event>>, Lagged> {
        self.position.take(&self.log, limit)
    }

    /// The events since the last call, at most `limit` and at least one: waits for it.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<Arc<Event>>, Lagged> {
        loop {
            let bell = self.log.bell.notified();
            tokio::pin!(bell);
            bell.as_mut().enable();
            let events = self.position.take(&self.log, limit)?;
            if !events.is_empty() {
                return Ok(events);
            }
            bell.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, revision: i64) -> Arc<Event> {
        let key = format!("/registry/pods/ns/{name}");
        let object = Object::new(key.as_str().into(), br#"{"metadata":{}}"#, revision).expect("an object");
        Arc::new(Event { object: Arc::new(object), previous: None, deleted: false })
    }

    fn revisions(events: &[Arc<Event>]) -> Vec<i64> {
        events.iter().map(|event| event.revision()).collect()
    }

    #[test]
    fn a_watcher_starts_after_its_revision_and_misses_nothing() {
        let mut logs = Logs::new(1);
        let now = Instant::now();
        for revision in 2..6 {
            logs.publish(now, event("a", revision), [None, None]);
        }
        let mut watcher = logs.subscribe("/registry/pods/", Scope::All, 3).expect("in the window");
        logs.publish(now, event("a", 6), [None, None]);
        assert_eq!(revisions(&watcher.take(10).expect("kept up")), [4, 5]);
        assert_eq!(revisions(&watcher.take(10).expect("kept up")), [6]);
        assert!(watcher.take(10).expect("kept up").is_empty());
    }

    #[test]
    fn a_revision_before_the_window_is_refused() {
        let mut logs = Logs::new(10);
        assert!(logs.subscribe("/registry/pods/", Scope::All, 9).is_err());
        assert!(logs.subscribe("/registry/pods/", Scope::All, 10).is_ok());
    }

    #[test]
    fn a_watcher_that_falls_behind_is_told() {
        let mut logs = Logs::new(0);
        let mut watcher = logs.subscribe("/registry/pods/", Scope::All, 0).expect("in the window");
        let now = Instant::now();
        for revision in 1..=(MAX_EVENTS as i64 + 1) {
            logs.publish(now, event("a", revision), [None, None]);
        }
        assert!(matches!(watcher.take(10), Err(Lagged)));
        assert!(logs.subscribe("/registry/pods/", Scope::All, 0).is_err());
        assert!(logs.subscribe("/registry/pods/", Scope::All, 1).is_ok());
    }

    #[test]
    fn scoped_watchers_see_only_their_scope() {
        let mut logs = Logs::new(0);
        let now = Instant::now();
        let mut by_name =
            logs.subscribe("/registry/pods/", Scope::Key("/registry/pods/ns/a".into()), 0).expect("in the window");
        let mut by_node = logs.subscribe("/registry/pods/", Scope::Field("n1".into()), 0).expect("in the window");
        logs.publish(now, event("a", 1), [None, None]);
        logs.publish(now, event("b", 2), [None, Some("n1")]);
        logs.publish(now, event("b", 3), [Some("n1"), Some("n2")]);
        assert_eq!(revisions(&by_name.take(10).expect("kept up")), [1]);
        assert_eq!(revisions(&by_node.take(10).expect("kept up")), [2, 3]);
    }

    #[tokio::test]
    async fn those_are_counted_who_watch_an_object_its_namespace_or_all() {
        let mut logs = Logs::new(0);
        let mut watch = |scope| logs.subscribe("/registry/pods/", scope, 0).expect("in the window");
        let mut all = watch(Scope::All);
        let _scoped =
            [Scope::Namespace("ns".into()), Scope::Namespace("ns".into()), Scope::Key("/registry/pods/ns/a".into())]
                .map(watch);
        let count = |logs: &Logs, namespace: &str, name: &str| logs.watchers("/registry/pods/", namespace, name);
        assert_eq!([count(&logs, "ns", "a"), count(&logs, "ns", "b"), count(&logs, "x", "a")], [4, 3, 1]);
        // One that waits is still one.
        let mut waiting = Box::pin(all.next(1));
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(count(&logs, "ns", "b"), 3);
        drop(waiting);
        drop(all);
        assert_eq!(count(&logs, "ns", ""), 2);
        assert_eq!(logs.watchers("/registry/nodes/", "", "a"), 0);
    }

    #[tokio::test]
    async fn a_waiting_watcher_wakes_for_an_event_and_for_the_end() {
        let mut logs = Logs::new(0);
        let mut watcher = logs.subscribe("/registry/pods/", Scope::All, 0).expect("in the window");
        let waiting = tokio::spawn(async move {
            let first = watcher.next(10).await.expect("an event");
            (first.len(), watcher.next(10).await.is_err())
        });
        tokio::task::yield_now().await;
        logs.publish(Instant::now(), event("a", 1), [None, None]);
        logs.ring(&["/registry/pods/".into()]);
        tokio::task::yield_now().await;
        logs.close_all(1);
        assert_eq!(waiting.await.expect("no panic"), (1, true));
    }
}
