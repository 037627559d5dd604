//! One queue of a set.

use std::collections::VecDeque;

use super::{Key, Work};

/// The requests of a queue that wait, and what those take that do not.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Key>,
    pub executing: u32,
    pub seats_in_use: u32,
    /// The work that waits, in seconds times seats.
    pub work: f64,
    /// The seats of what waits.
    pub seats_waiting: u32,
    /// When the next request would be dispatched, in virtual time.
    pub next_dispatch: f64,
}

impl Queue {
    /// Whether it has a request that is not answered.
    pub fn is_active(&self) -> bool {
        self.executing > 0 || !self.waiting.is_empty()
    }

    /// Whether nobody knows of it.
    pub fn is_unused(&self) -> bool {
        !self.is_active() && self.seats_in_use == 0
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The request that waits longest.
    pub fn head(&self) -> Option<Key> {
        self.waiting.front().copied()
    }

    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.waiting.iter().copied()
    }

    pub fn position(&self, key: Key) -> Option<usize> {
        self.waiting.iter().position(|other| *other == key)
    }

    pub fn push(&mut self, key: Key, work: &Work) {
        self.waiting.push_back(key);
        self.work += work.total();
        self.seats_waiting += work.max_seats();
    }

    pub fn remove(&mut self, key: Key, work: &Work) {
        self.waiting.retain(|other| *other != key);
        // An empty queue has no work, also where sums of fractions are not exact.
        self.work = if self.waiting.is_empty() { 0.0 } else { self.work - work.total() };
        self.seats_waiting -= work.max_seats();
    }

    pub fn start(&mut self, work: &Work) {
        self.executing += 1;
        self.seats_in_use += work.max_seats();
        self.next_dispatch += work.total();
    }

    /// `excess`: the work that was taken for it and was not done.
    pub fn finish(&mut self, excess: f64) {
        self.executing -= 1;
        self.next_dispatch -= excess;
    }
}
