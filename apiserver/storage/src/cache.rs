//! The watch cache: every object of the store in one ordered, persistent map, fed by one etcd watch in revision order.
//!
//! Invariant: a [`Snapshot`] is the state of the store at exactly one revision. A resource is a range of keys; cloning a
//! snapshot copies two pointers.
//!
//! Invariant: events are in the logs before their revision is announced, so that whoever has waited for a revision finds
//! all of its events.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use imbl::OrdMap;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::event::{Event, Lagged, Logs, Scope, Watcher};
use crate::keys;
use crate::object::Object;
use crate::reader::{Change, GroupResource, Observer};

/// What an index can answer without a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Term<'a> {
    Label(&'a str, &'a str),
    /// The name and value of a [`keys::indexed_field`].
    Field(&'a str, &'a str),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct IndexKey {
    /// The hash of resource and term; a collision only costs a comparison, since readers check what they get.
    term: u64,
    key: Arc<str>,
}

fn term_hash(prefix: &str, term: Term<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (prefix, term).hash(&mut hasher);
    hasher.finish()
}

/// The store at one revision.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub revision: i64,
    objects: OrdMap<Arc<str>, Arc<Object>>,
    index: OrdMap<IndexKey, Arc<Object>>,
    /// How many objects there are below the prefix of each resource, and of each namespace in it.
    counts: OrdMap<Arc<str>, usize>,
}

impl Snapshot {
    /// The object at a key.
    pub fn get(&self, key: &str) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// The objects whose key starts with `prefix`, in key order, from `start` on where it is given.
    pub fn range<'a>(&'a self, prefix: &str, start: Option<&str>) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let end = keys::range_end(prefix);
        let from = start.unwrap_or(prefix).to_owned();
        let bounds: (Bound<&str>, Bound<&str>) = (Bound::Included(&from), Bound::Excluded(&end));
        self.objects.range::<_, str>(bounds).map(|(_, object)| object)
    }

    /// As [`Snapshot::range`], only the objects that the index has for a term of the resource; a superset by hash collisions.
    pub fn indexed<'a>(
        &'a self,
        resource_prefix: &str,
        term: Term<'_>,
        prefix: &str,
        start: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let term = term_hash(resource_prefix, term);
        let from = IndexKey { term, key: start.unwrap_or(prefix).into() };
        let to = IndexKey { term, key: keys::range_end(prefix).into() };
        self.index.range(from..to).map(|(_, object)| object)
    }

    /// How many objects there are of a resource, or of a resource in a namespace.
    pub fn count(&self, prefix: &str) -> usize {
        self.counts.get(prefix).copied().unwrap_or(0)
    }

    fn recount(&mut self, key: &str, step: isize) {
        let (resource, parent) = (keys::resource_prefix(key), keys::parent(key));
        for prefix in [Some(resource), (parent != resource).then_some(parent)].into_iter().flatten() {
            match self.count(prefix).saturating_add_signed(step) {
                0 => self.counts.remove(prefix),
                count => self.counts.insert(prefix.into(), count),
            };
        }
    }

    /// How many objects are stored.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    fn put(&mut self, object: &Arc<Object>) -> Option<Arc<Object>> {
        let previous = self.objects.insert(object.key.clone(), object.clone());
        match &previous {
            Some(previous) => self.unindex(previous),
            None => self.recount(&object.key, 1),
        }
        each_term(object, |term| {
            self.index.insert(IndexKey { term, key: object.key.clone() }, object.clone());
        });
        previous
    }

    fn remove(&mut self, key: &str) -> Option<Arc<Object>> {
        let previous = self.objects.remove(key)?;
        self.recount(key, -1);
        self.unindex(&previous);
        Some(previous)
    }

    fn unindex(&mut self, object: &Object) {
        each_term(object, |term| {
            self.index.remove(&IndexKey { term, key: object.key.clone() });
        });
    }
}

fn each_term(object: &Object, mut visit: impl FnMut(u64)) {
    let prefix = keys::resource_prefix(&object.key);
    crate::scan::each_label(object.labels(), |key, value| visit(term_hash(prefix, Term::Label(&key, &value))));
    if let Some((name, value)) = field_of(object) {
        visit(term_hash(prefix, Term::Field(name, &value)));
    }
}

fn field_of(object: &Object) -> Option<(&'static str, std::borrow::Cow<'_, str>)> {
    let field = keys::indexed_field(keys::resource_prefix(&object.key))?;
    object.indexed_text().map(|value| (field.name, value))
}

/// One write as etcd reports it.
pub enum Write {
    Put(Arc<Object>),
    Delete { key: Arc<str>, revision: i64 },
}

struct Subscription {
    prefixes: Vec<(String, GroupResource<'static>)>,
    observer: Arc<dyn Observer>,
}

/// The watch cache. Readers are never blocked by the writer.
pub struct Cache {
    snapshot: ArcSwap<Snapshot>,
    logs: Mutex<Logs>,
    revision: watch::Sender<i64>,
    observers: Mutex<Vec<Subscription>>,
}

impl Default for Cache {
    fn default() -> Self {
        Cache {
            snapshot: ArcSwap::default(),
            logs: Mutex::new(Logs::new(0)),
            revision: watch::Sender::new(0),
            observers: Mutex::default(),
        }
    }
}

impl Cache {
    /// The state now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The object at a key now.
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.snapshot.load().get(key).cloned()
    }

    /// The revision that readers see; 0 until the cache is first filled.
    pub fn revision(&self) -> i64 {
        *self.revision.borrow()
    }

    /// Announces every new revision.
    pub fn revisions(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    /// A watcher of the resource's events after `revision`.
    pub fn watch(&self, resource_prefix: &str, scope: Scope, revision: i64) -> Result<Watcher, Lagged> {
        self.logs.lock().subscribe(resource_prefix, scope, revision)
    }

    /// How many watchers a write to the resource is shown to: those of all, of its namespace, and of the object alone. Watchers of
    /// a field's value are few for each value.
    pub fn watchers(&self, resource_prefix: &str, namespace: &str, name: &str) -> usize {
        self.logs.lock().watchers(resource_prefix, namespace, name)
    }

    /// Adds an observer and shows it the objects that exist. Called while nothing writes: before the cache is filled.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let prefixes = observer.resources().iter().map(|r| (keys::builtin_prefix(r.group, r.resource), *r)).collect();
        self.observers.lock().push(Subscription { prefixes, observer });
    }

    /// Replaces the whole content, at the start and after the etcd watch was lost to compaction. Watchers end and list again.
    pub fn replace(&self, objects: impl IntoIterator<Item = Arc<Object>>, revision: i64) {
        let old = self.snapshot.load_full();
        let mut new = Snapshot { revision, ..Snapshot::default() };
        for object in objects {
            self.tell(old.get(&object.key), Some(&object));
            new.put(&object);
        }
        for gone in old.objects.values().filter(|object| new.get(&object.key).is_none()) {
            self.tell(Some(gone), None);
        }
        self.snapshot.store(Arc::new(new));
        self.logs.lock().close_all(revision);
        self.revision.send_replace(revision);
    }

    /// Takes writes into account, in revision order, up to and including `revision`.
    pub fn apply(&self, writes: Vec<Write>, revision: i64) {
        let mut next = Snapshot::clone(&self.snapshot.load());
        next.revision = revision;
        let events: Vec<Event> = writes.into_iter().filter_map(|write| Self::step(&mut next, write)).collect();
        for event in &events {
            self.tell(event.previous.as_ref(), (!event.deleted).then_some(&event.object));
        }
        self.snapshot.store(Arc::new(next));
        self.publish(events);
        self.revision.send_replace(revision);
    }

    fn step(next: &mut Snapshot, write: Write) -> Option<Event> {
        match write {
            Write::Put(object) => {
                let previous = next.put(&object);
                Some(Event { object, previous, deleted: false })
            }
            Write::Delete { key, revision } => {
                let previous = next.remove(&key)?;
                let object = Arc::new(previous.at_revision(revision));
                Some(Event { object, previous: Some(previous), deleted: true })
            }
        }
    }

    fn publish(&self, events: Vec<Event>) {
        let now = Instant::now();
        let mut touched: Vec<Box<str>> = Vec::new();
        let mut logs = self.logs.lock();
        for event in events {
            let prefix = keys::resource_prefix(&event.object.key);
            if !touched.iter().any(|known| **known == *prefix) {
                touched.push(prefix.into());
            }
            let event = Arc::new(event);
            let before = event.previous.as_deref().and_then(field_of).map(|(_, value)| value);
            let after = field_of(&event.object).map(|(_, value)| value);
            logs.publish(now, event.clone(), [before.as_deref(), after.as_deref()]);
        }
        logs.ring(&touched);
    }

    fn tell(&self, old: Option<&Arc<Object>>, new: Option<&Arc<Object>>) {
        let Some(object) = new.or(old) else { return };
        let parts = keys::split(&object.key);
        let observers = self.observers.lock();
        let interested = observers.iter().filter_map(|subscription| {
            let found = subscription.prefixes.iter().find(|(prefix, _)| prefix == parts.prefix);
            found.map(|(_, resource)| (&subscription.observer, *resource))
        });
        let mut parsed = None;
        for (observer, resource) in interested {
            let members = observer.members(resource);
            if let (Some(old), Some(new)) = (old, new)
                && !members.is_empty()
                && old.agrees_with(new, members)
            {
                continue;
            }
            let parse = |object: &Arc<Object>| Arc::new(object.to_unmanaged_value());
            let (old, new) = parsed.get_or_insert_with(|| (old.map(parse), new.map(parse))).clone();
            observer.observe(&Change { resource, namespace: parts.namespace, name: parts.name, old, new });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, labels: &str, node: &str, revision: i64) -> Arc<Object> {
        let json = format!(r#"{{"metadata":{{"labels":{labels},"name":"{name}"}},"spec":{{"nodeName":"{node}"}}}}"#);
        let key = format!("/registry/pods/ns/{name}");
        Arc::new(Object::new(key.as_str().into(), json.as_bytes(), revision).expect("an object"))
    }

    fn names<'a>(objects: impl Iterator<Item = &'a Arc<Object>>) -> Vec<String> {
        objects.map(|object| object.name().to_owned()).collect()
    }

    #[test]
    fn a_resource_is_a_range_and_a_snapshot_does_not_change() {
        let cache = Cache::default();
        cache.replace([pod("a", "{}", "n1", 1), pod("b", "{}", "n1", 2)], 2);
        let before = cache.snapshot();
        cache.apply(vec![Write::Put(pod("c", "{}", "n1", 3))], 3);
        assert_eq!(names(before.range("/registry/pods/", None)), ["a", "b"]);
        assert_eq!(names(cache.snapshot().range("/registry/pods/", Some("/registry/pods/ns/b"))), ["b", "c"]);
        assert!(cache.snapshot().range("/registry/pod/", None).next().is_none());
    }

    #[test]
    fn the_index_follows_updates_and_deletes() {
        let cache = Cache::default();
        cache.replace([pod("a", r#"{"app":"x"}"#, "n1", 1), pod("b", r#"{"app":"x"}"#, "n2", 2)], 2);
        let by = |term| names(cache.snapshot().indexed("/registry/pods/", term, "/registry/pods/", None));
        assert_eq!(by(Term::Label("app", "x")), ["a", "b"]);
        assert_eq!(by(Term::Field("spec.nodeName", "n2")), ["b"]);
        cache.apply(vec![Write::Put(pod("a", r#"{"app":"y"}"#, "n2", 3))], 3);
        assert_eq!(by(Term::Label("app", "x")), ["b"]);
        assert_eq!(by(Term::Field("spec.nodeName", "n2")), ["a", "b"]);
        cache.apply(vec![Write::Delete { key: "/registry/pods/ns/b".into(), revision: 4 }], 4);
        assert!(by(Term::Label("app", "x")).is_empty());
        assert_eq!(by(Term::Field("spec.nodeName", "n2")), ["a"]);
    }

    #[test]
    fn a_deletion_carries_the_last_state_at_its_own_revision() {
        let cache = Cache::default();
        cache.replace([pod("a", "{}", "n1", 1)], 1);
        let mut watcher = cache.watch("/registry/pods/", Scope::All, 1).expect("in the window");
        cache.apply(vec![Write::Delete { key: "/registry/pods/ns/a".into(), revision: 9 }], 9);
        let events = watcher.take(10).expect("kept up");
        assert!(events[0].deleted);
        assert_eq!(events[0].object.to_value()["metadata"]["resourceVersion"], "9");
        assert_eq!(cache.revision(), 9);
    }
}
