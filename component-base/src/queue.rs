//! A work queue of keys, with client-go's semantics: a key waits at most once, is never given to two workers at a time, can be
//! added after a delay, and failing keys come back with exponential backoff.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Backoff after the first failure of a key; doubles with each further one.
pub const BASE_DELAY: Duration = Duration::from_millis(5);
/// Longest backoff of a failing key.
pub const MAX_DELAY: Duration = Duration::from_secs(1000);

/// The backoff after `failures` failures in a row (from 1): 5 ms, 10 ms, 20 ms … 1000 s.
pub fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    BASE_DELAY.saturating_mul(1 << doublings).min(MAX_DELAY)
}

/// A queue of keys. Clones share the queue. It holds each key at most once, so it is bounded by the number of keys.
pub struct WorkQueue<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    state: Mutex<State<K>>,
    ready: Notify,
}

struct State<K> {
    /// Keys to hand out, in order.
    queue: VecDeque<K>,
    /// Keys that need work: in `queue`, or being processed and added meanwhile.
    dirty: HashSet<K>,
    /// Keys handed out and not yet done.
    processing: HashSet<K>,
    /// Keys that become ready later, by time and order of arrival.
    delayed: BTreeMap<(Instant, u64), K>,
    delayed_at: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    sequence: u64,
    closed: bool,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K: Clone + Eq + Hash> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            queue: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            delayed: BTreeMap::new(),
            delayed_at: HashMap::new(),
            failures: HashMap::new(),
            sequence: 0,
            closed: false,
        };
        Self { inner: Arc::new(Inner { state: Mutex::new(state), ready: Notify::new() }) }
    }

    /// Adds a key. If it waits already, nothing changes; if it is being processed, it comes again when that is done.
    pub fn add(&self, key: K) {
        if self.inner.state.lock().add(key) {
            self.inner.ready.notify_one();
        }
    }

    /// Adds a key after a delay. Of several delays for one key the earliest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.inner.state.lock().add_delayed(key, Instant::now() + delay);
        self.inner.ready.notify_one();
    }

    /// Adds a key that failed, after its [`backoff`].
    pub fn add_rate_limited(&self, key: K) {
        let failures = {
            let mut state = self.inner.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            *failures
        };
        self.add_after(key, backoff(failures));
    }

    /// Forgets a key's failures, after it succeeded.
    pub fn forget(&self, key: &K) {
        self.inner.state.lock().failures.remove(key);
    }

    /// How often a key has failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.inner.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Number of keys that are ready and wait for a worker.
    pub fn len(&self) -> usize {
        self.inner.state.lock().queue.len()
    }

    /// Whether no key is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the queue: keys that are ready are still handed out, delayed ones are not, then [`get`](Self::get) gives `None`.
    pub fn close(&self) {
        self.inner.state.lock().closed = true;
        self.inner.ready.notify_waiters();
        self.inner.ready.notify_one();
    }

    /// Waits for the next key, which must be given back with [`done`](Self::done). `None` when the queue is closed and empty.
    /// Cancelling this future loses no key.
    pub async fn get(&self) -> Option<K> {
        loop {
            let notified = self.inner.ready.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let deadline = {
                let mut state = self.inner.state.lock();
                state.promote(Instant::now());
                if let Some(key) = state.take() {
                    if !state.queue.is_empty() {
                        self.inner.ready.notify_one();
                    }
                    return Some(key);
                }
                if state.closed {
                    self.inner.ready.notify_one();
                    return None;
                }
                state.delayed.first_key_value().map(|((at, _), _)| *at)
            };
            match deadline {
                Some(at) => tokio::select! {
                    () = &mut notified => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => notified.await,
            }
        }
    }

    /// Says that the work on a key is over. If the key was added meanwhile, it is ready again.
    pub fn done(&self, key: &K) {
        let mut state = self.inner.state.lock();
        state.processing.remove(key);
        if state.dirty.contains(key) {
            state.queue.push_back(key.clone());
            drop(state);
            self.inner.ready.notify_one();
        }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Whether a worker should be woken.
    fn add(&mut self, key: K) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) || self.processing.contains(&key) {
            return false;
        }
        self.queue.push_back(key);
        true
    }

    fn add_delayed(&mut self, key: K, at: Instant) {
        if self.closed {
            return;
        }
        if let Some(known) = self.delayed_at.get(&key) {
            if known.0 <= at {
                return;
            }
            self.delayed.remove(known);
        }
        self.sequence += 1;
        let slot = (at, self.sequence);
        self.delayed_at.insert(key.clone(), slot);
        self.delayed.insert(slot, key);
    }

    /// Makes the delayed keys ready whose time has come.
    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.delayed_at.remove(&key);
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<K> {
        let key = self.queue.pop_front()?;
        self.dirty.remove(&key);
        self.processing.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_idle(queue: &WorkQueue<&'static str>) -> bool {
        tokio::time::timeout(Duration::from_micros(1), queue.get()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_is_processed_once_at_a_time() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.get().await, Some("a"));
        queue.add("a");
        assert!(is_idle(&queue).await, "a is being processed");
        queue.done(&"a");
        assert_eq!(queue.get().await, Some("a"));
        queue.done(&"a");
        assert!(is_idle(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_key_is_ready_at_its_earliest_time() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(30));
        assert_eq!(queue.get().await, Some("a"));
        assert_eq!(start.elapsed().as_secs(), 10);
        queue.done(&"a");
        let idle = tokio::time::timeout(Duration::from_secs(100), queue.get()).await;
        assert!(idle.is_err(), "the later delays were dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_key_backs_off_until_it_is_forgotten() {
        let queue = WorkQueue::new();
        for expected in [5, 10, 20, 40] {
            let start = Instant::now();
            queue.add_rate_limited("a");
            assert_eq!(queue.get().await, Some("a"));
            assert_eq!(start.elapsed().as_millis(), expected);
            queue.done(&"a");
        }
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
        assert_eq!(backoff(1), BASE_DELAY);
        assert_eq!(backoff(100), MAX_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_queue_hands_out_what_is_ready_and_ends_all_workers() {
        let queue = WorkQueue::new();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut keys = Vec::new();
                    while let Some(key) = queue.get().await {
                        queue.done(&key);
                        keys.push(key);
                    }
                    keys
                })
            })
            .collect();
        tokio::task::yield_now().await;
        for key in ["a", "b", "c", "d"] {
            queue.add(key);
        }
        queue.add_after("late", Duration::from_secs(9));
        queue.close();
        let mut seen = Vec::new();
        for worker in workers {
            seen.extend(worker.await.unwrap());
        }
        seen.sort_unstable();
        assert_eq!(seen, ["a", "b", "c", "d"]);
    }
}
