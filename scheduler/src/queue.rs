//! The pods that wait for a node: active (to be tried now), backing off (to be tried when their backoff has passed), and unschedulable
//! (to be tried when something happens that may help). Time is an argument everywhere.

mod nominated;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::framework::{Event, Profile, SortKey};
use crate::labels::Str;
use crate::pod::Pod;
pub use nominated::Nominated;

/// Between two looks for pods that have been unschedulable for too long.
const LEFTOVER_CHECK: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub initial_backoff: Duration,
    pub max_backoff: Duration,
    /// After this long a pod is tried again, whatever happened.
    pub max_in_unschedulable: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            max_in_unschedulable: Duration::from_secs(5 * 60),
        }
    }
}

/// The profiles by scheduler name.
pub type Profiles = HashMap<Str, Arc<Profile>>;

/// A waiting pod and its history.
#[derive(Clone, Debug)]
pub struct QueuedPod {
    pub pod: Arc<Pod>,
    /// Since when it waits in its present place.
    pub since: Instant,
    /// When it first came.
    pub came: Instant,
    pub attempts: u32,
    /// How often it did not fit, and how often in a row something went wrong: each backs off by its own count.
    pub times_unschedulable: u32,
    pub errors_in_a_row: u32,
    pub rejected_by: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Active(SortKey),
    Backoff {
        until: Instant,
    },
    Unschedulable,
    /// Held back by pre-enqueue.
    Gated,
}

#[derive(Debug)]
struct Entry {
    queued: QueuedPod,
    place: Place,
    /// Breaks ties in the order of arrival.
    turn: u64,
}

/// How many pods are in each part, under the names of the metric `scheduler_pending_pods`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

/// Why a pod comes back from a cycle.
#[derive(Clone, Debug)]
pub enum Setback {
    Rejected { by: Vec<&'static str> },
    Error,
}

#[derive(Debug, Default)]
pub struct Queue {
    settings: Settings,
    entries: HashMap<Str, Entry>,
    active: BTreeSet<(SortKey, u64, Str)>,
    backoff: BTreeSet<(Instant, u64, Str)>,
    next_leftover_check: Option<Instant>,
    turns: u64,
    gated: usize,
}

impl Queue {
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    pub fn sizes(&self) -> Sizes {
        let (active, backoff) = (self.active.len(), self.backoff.len());
        let unschedulable = self.entries.len() - active - backoff - self.gated;
        Sizes { active, backoff, unschedulable, gated: self.gated }
    }

    pub fn contains(&self, uid: &str) -> bool {
        self.entries.contains_key(uid)
    }

    pub fn uids(&self) -> impl Iterator<Item = &Str> {
        self.entries.keys()
    }

    pub fn get(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.entries.get(uid).map(|e| &e.queued.pod)
    }

    /// Takes a pod that is new, or a newer version of one that waits.
    pub fn set(&mut self, pod: Arc<Pod>, profiles: &Profiles, now: Instant) {
        let Some(entry) = self.entries.get_mut(&pod.uid) else {
            let queued = QueuedPod {
                pod,
                since: now,
                came: now,
                attempts: 0,
                times_unschedulable: 0,
                errors_in_a_row: 0,
                rejected_by: Vec::new(),
            };
            return self.activate(queued, profiles, now);
        };
        let old = std::mem::replace(&mut entry.queued.pod, pod.clone());
        if old.schedules_like(&pod) {
            return;
        }
        match entry.place {
            // Its place among the active may be another now.
            Place::Active(_) | Place::Gated => {
                self.take(&pod.uid).into_iter().for_each(|q| self.activate(q, profiles, now))
            }
            Place::Backoff { .. } => {}
            Place::Unschedulable => {
                let event = Event::PodUpdated { old, new: pod.clone() };
                self.move_if_worth(&pod.uid, &event, profiles, now);
            }
        }
    }

    pub fn remove(&mut self, uid: &str) -> Option<Arc<Pod>> {
        self.take(uid).map(|q| q.pod)
    }

    fn take(&mut self, uid: &str) -> Option<QueuedPod> {
        let (uid, entry) = self.entries.remove_entry(uid)?;
        match entry.place {
            Place::Active(key) => drop(self.active.remove(&(key, entry.turn, uid))),
            Place::Backoff { until } => drop(self.backoff.remove(&(until, entry.turn, uid))),
            Place::Gated => self.gated -= 1,
            Place::Unschedulable => {}
        }
        Some(entry.queued)
    }

    fn put(&mut self, queued: QueuedPod, place: Place) {
        self.turns += 1;
        let (uid, turn) = (queued.pod.uid.clone(), self.turns);
        match &place {
            Place::Active(key) => drop(self.active.insert((*key, turn, uid.clone()))),
            Place::Backoff { until } => drop(self.backoff.insert((*until, turn, uid.clone()))),
            Place::Gated => self.gated += 1,
            Place::Unschedulable => {}
        }
        self.entries.insert(uid, Entry { queued, place, turn });
    }

    /// To the active part, unless pre-enqueue holds it back.
    fn activate(&mut self, mut queued: QueuedPod, profiles: &Profiles, now: Instant) {
        let Some(profile) = profiles.get(&queued.pod.scheduler_name) else { return };
        let answer = profile.pre_enqueue(&queued.pod);
        if !answer.is_success() {
            queued.rejected_by = vec![answer.plugin];
            queued.since = now;
            return self.put(queued, Place::Gated);
        }
        let key = profile.sort_key(&queued.pod, queued.came);
        self.put(queued, Place::Active(key));
    }

    /// The next pod to try. With nothing active, a pod that backs off because it did not fit is tried early: there is nothing better to do.
    pub fn pop(&mut self, profiles: &Profiles, now: Instant) -> Option<QueuedPod> {
        self.flush(profiles, now);
        let uid = match self.active.first() {
            Some((_, _, uid)) => uid.clone(),
            None => self.early_candidate()?,
        };
        let mut queued = self.take(&uid)?;
        queued.attempts += 1;
        Some(queued)
    }

    fn early_candidate(&self) -> Option<Str> {
        let no_error = |uid: &Str| self.entries.get(uid).is_some_and(|e| e.queued.errors_in_a_row == 0);
        self.backoff.iter().map(|(_, _, uid)| uid).find(|uid| no_error(uid)).cloned()
    }

    /// Takes back a pod that could not be placed.
    pub fn put_back(&mut self, mut queued: QueuedPod, setback: Setback, now: Instant) {
        queued.since = now;
        match setback {
            Setback::Rejected { by } if !by.is_empty() => {
                queued.times_unschedulable += 1;
                queued.errors_in_a_row = 0;
                queued.rejected_by = by;
                self.put(queued, Place::Unschedulable);
            }
            _ => {
                queued.errors_in_a_row += 1;
                queued.rejected_by.clear();
                let until = self.backoff_end(&queued);
                self.put(queued, Place::Backoff { until });
            }
        }
    }

    fn backoff_end(&self, queued: &QueuedPod) -> Instant {
        let count = if queued.errors_in_a_row > 0 { queued.errors_in_a_row } else { queued.times_unschedulable };
        queued.since + backoff(self.settings, count)
    }

    /// Lets every unschedulable pod try again that the event may help.
    pub fn on_event(&mut self, event: &Event, profiles: &Profiles, now: Instant) {
        if self.entries.len() == self.active.len() + self.backoff.len() {
            return;
        }
        let waits = |e: &&Entry| e.place == Place::Unschedulable;
        let helped = self.entries.values().filter(waits).filter(|e| is_worth(&e.queued, event, profiles));
        let uids: Vec<Str> = helped.map(|e| e.queued.pod.uid.clone()).collect();
        for uid in uids {
            self.requeue(&uid, profiles, now);
        }
    }

    fn move_if_worth(&mut self, uid: &str, event: &Event, profiles: &Profiles, now: Instant) {
        if self.entries.get(uid).is_some_and(|e| is_worth(&e.queued, event, profiles)) {
            self.requeue(uid, profiles, now);
        }
    }

    /// From unschedulable to backing off, or to active if the backoff has passed.
    fn requeue(&mut self, uid: &str, profiles: &Profiles, now: Instant) {
        let Some(queued) = self.take(uid) else { return };
        let until = self.backoff_end(&queued);
        if until > now { self.put(queued, Place::Backoff { until }) } else { self.activate(queued, profiles, now) }
    }

    /// Moves what is due: pods whose backoff has passed, and pods that have been unschedulable for too long.
    pub fn flush(&mut self, profiles: &Profiles, now: Instant) {
        while let Some((until, _, uid)) = self.backoff.first().cloned() {
            if until > now {
                break;
            }
            self.take(&uid).into_iter().for_each(|q| self.activate(q, profiles, now));
        }
        if self.next_leftover_check.is_some_and(|at| at > now) {
            return;
        }
        self.next_leftover_check = Some(now + LEFTOVER_CHECK);
        let longest = self.settings.max_in_unschedulable;
        let overdue = |e: &&Entry| e.place == Place::Unschedulable && now.duration_since(e.queued.since) >= longest;
        let uids: Vec<Str> = self.entries.values().filter(overdue).map(|e| e.queued.pod.uid.clone()).collect();
        for uid in uids {
            self.requeue(&uid, profiles, now);
        }
    }

    /// When `flush` has something to do next, if ever.
    pub fn next_due(&self) -> Option<Instant> {
        let backoff = self.backoff.first().map(|(until, _, _)| *until);
        let leftovers = (self.sizes().unschedulable > 0).then_some(self.next_leftover_check).flatten();
        backoff.into_iter().chain(leftovers).min()
    }
}

/// How long a pod waits after its `count`th failure: doubling from the initial to the longest.
pub fn backoff(settings: Settings, count: u32) -> Duration {
    let factor = 2u32.saturating_pow(count.saturating_sub(1));
    settings.initial_backoff.saturating_mul(factor).min(settings.max_backoff)
}

fn is_worth(queued: &QueuedPod, event: &Event, profiles: &Profiles) -> bool {
    let profile = profiles.get(&queued.pod.scheduler_name);
    profile.is_some_and(|p| p.is_worth_another_try(&queued.pod, &queued.rejected_by, event))
}

#[cfg(test)]
mod tests;
