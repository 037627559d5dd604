//! What becomes of an event: a new object, a higher count on a known one, or nothing. Pure, with the event's time as the clock.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use jiff::Timestamp;

use super::{EventType, Record};

/// Objects whose spam budget is remembered, and kinds of events whose count is.
const REMEMBERED: usize = 4096;
/// Events that an object may have at once…
const BURST: f64 = 25.0;
/// …and the time after which it may have one more.
const REFILL: Duration = Duration::from_secs(300);
/// From this many differing notes within [`SIMILAR_WINDOW`] on they are combined.
const SIMILAR: usize = 10;
/// How long differing notes count as similar.
const SIMILAR_WINDOW: Duration = Duration::from_secs(600);

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    /// The event object to count up; a new one otherwise.
    pub known: Option<String>,
    /// How often it happened, with this time.
    pub count: i32,
    /// The note, possibly of combined events.
    pub note: String,
}

/// Object, type, reason, and the note unless combined.
pub(super) type EventKey = (String, EventType, String, Option<String>);

#[derive(Default)]
pub(super) struct Correlator {
    budgets: Remembered<String, (f64, Timestamp)>,
    notes: Remembered<(String, EventType, String), (HashSet<String>, Timestamp)>,
    counts: Remembered<EventKey, (String, i32)>,
}

impl Correlator {
    /// Decides about an event; `None` when its object has had too many.
    pub fn observe(&mut self, record: &Record) -> Option<(EventKey, Verdict)> {
        let object = object_id(record);
        if !self.within_budget(&object, record.at) {
            tracing::debug!(object, reason = record.reason, "event dropped: too many about this object");
            return None;
        }
        let kind = (object, record.event_type, record.reason.clone());
        let combined = self.is_combined(&kind, record);
        let (object, event_type, reason) = kind;
        let key = (object, event_type, reason, (!combined).then(|| record.note.clone()));
        let note =
            if combined { format!("(combined from similar events): {}", record.note) } else { record.note.clone() };
        let known = self.counts.get(&key);
        let verdict = Verdict {
            count: known.map_or(1, |(_, count)| count.saturating_add(1)),
            known: known.map(|(name, _)| name.clone()),
            note,
        };
        Some((key, verdict))
    }

    /// Remembers the object that an event was written to.
    pub fn sent(&mut self, key: EventKey, name: String, count: i32) {
        if !name.is_empty() {
            self.counts.insert(key, (name, count));
        }
    }

    /// A token bucket per object.
    fn within_budget(&mut self, object: &String, now: Timestamp) -> bool {
        let (tokens, since) = self.budgets.get(object).copied().unwrap_or((BURST, now));
        let refilled = (tokens + seconds_between(since, now) / REFILL.as_secs_f64()).min(BURST);
        let allowed = refilled >= 1.0;
        self.budgets.insert(object.clone(), (if allowed { refilled - 1.0 } else { refilled }, now));
        allowed
    }

    /// Whether there are so many differing notes that they are shown as one event.
    fn is_combined(&mut self, kind: &(String, EventType, String), record: &Record) -> bool {
        let known =
            self.notes.get(kind).filter(|(_, last)| seconds_between(*last, record.at) <= SIMILAR_WINDOW.as_secs_f64());
        let mut notes = known.map(|(notes, _)| notes.clone()).unwrap_or_default();
        if notes.len() < SIMILAR {
            notes.insert(record.note.clone());
        }
        let combined = notes.len() >= SIMILAR;
        self.notes.insert(kind.clone(), (notes, record.at));
        combined
    }
}

fn object_id(record: &Record) -> String {
    let object = &record.regarding;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    [&object.kind, &object.namespace, &object.name, &object.uid, &object.field_path].map(part).join("/")
}

fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// A map of bounded size that forgets what came first.
struct Remembered<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Remembered<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.map.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;

    fn record(name: &str, note: &str, at: i64) -> Record {
        Record {
            regarding: ObjectReference { name: Some(name.into()), ..ObjectReference::default() },
            event_type: EventType::Normal,
            reason: "Pulled".into(),
            action: String::new(),
            note: note.into(),
            at: Timestamp::from_second(at).unwrap(),
        }
    }

    #[test]
    fn a_repeat_counts_up_the_known_event() {
        let mut correlator = Correlator::default();
        for expected in 1..=3 {
            let (key, verdict) = correlator.observe(&record("a", "same", 0)).unwrap();
            assert_eq!(verdict.count, expected);
            assert_eq!(verdict.known.is_some(), expected > 1);
            correlator.sent(key, "a.1".into(), verdict.count);
        }
    }

    #[test]
    fn many_differing_notes_become_one_event() {
        let mut correlator = Correlator::default();
        let mut combined = 0;
        for n in 0..15 {
            let (key, verdict) = correlator.observe(&record("a", &format!("note {n}"), n)).unwrap();
            combined += i32::from(verdict.note.starts_with("(combined from similar events): "));
            correlator.sent(key, format!("a.{n}"), verdict.count);
        }
        assert_eq!(combined, 6);
        let later = correlator.observe(&record("a", "note", 1000)).unwrap().1;
        assert_eq!(later.note, "note");
    }

    #[test]
    fn an_object_that_floods_is_cut_and_gets_its_budget_back() {
        let mut correlator = Correlator::default();
        let passed = (0..40).filter(|_| correlator.observe(&record("a", "n", 0)).is_some()).count();
        assert_eq!(passed, 25);
        assert!(correlator.observe(&record("b", "n", 0)).is_some());
        assert!(correlator.observe(&record("a", "n", 301)).is_some());
        assert!(correlator.observe(&record("a", "n", 302)).is_none());
    }
}
