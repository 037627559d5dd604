//! Fair queuing of requests that take several seats for some time (KEP-1040, "Fair Queuing for Server Requests").
//!
//! A state machine without a clock: time is an argument, counted from any beginning and never going back. In the virtual world
//! every active queue progresses at the same rate, and the request is dispatched that would be finished there first.
//!
//! Invariant: requests leave only by [`QueueSet::cancel`] and [`QueueSet::release`]: none is lost.

mod model;
mod queue;
#[cfg(test)]
mod tests;

use std::time::Duration;

use slab::Slab;

use super::demand::Observation;
use super::shard;
use model::ESTIMATED_DURATION;
pub use model::{Arrival, Counts, Finished, Key, Queuing, Reason, Request, Shape, Totals, Work};
pub use queue::Queue;

/// The requests of one priority level.
#[derive(Debug)]
pub struct QueueSet<T> {
    shape: Shape,
    limit: u32,
    queues: Vec<Queue>,
    /// How many queues have a request.
    active: u32,
    requests: Slab<Request<T>>,
    /// Requests that were dispatched and do not know it yet.
    dispatched: Vec<Key>,
    /// The queue that was dispatched from last.
    robin: usize,
    /// How many hands were dealt: where looking at a hand begins.
    hands: usize,
    last: Duration,
    /// The virtual time.
    progress: f64,
    pub totals: Totals,
    pub counts: Counts,
    pub demand: Observation,
}

impl<T> QueueSet<T> {
    pub fn new(shape: Shape, limit: u32) -> Self {
        let mut set = QueueSet {
            shape,
            limit,
            queues: Vec::new(),
            active: 0,
            requests: Slab::new(),
            dispatched: Vec::new(),
            robin: 0,
            hands: 0,
            last: Duration::ZERO,
            progress: 0.0,
            totals: Totals::default(),
            counts: Counts::default(),
            demand: Observation::default(),
        };
        set.resize();
        set
    }

    /// Follows a change of the level's specification. Requests stay in their queues; those that are too many end when they are empty.
    pub fn configure(&mut self, now: Duration, shape: Shape) {
        self.advance(now);
        self.shape = shape;
        self.resize();
        self.dispatch(now);
    }

    /// Follows a change of the level's seats.
    pub fn set_limit(&mut self, now: Duration, limit: u32) {
        self.advance(now);
        self.limit = limit;
        self.dispatch(now);
    }

    fn desired_queues(&self) -> usize {
        if let Shape::Queue(queuing) = self.shape { queuing.queues } else { 0 }
    }

    fn resize(&mut self) {
        let desired = self.desired_queues();
        while self.queues.len() > desired && self.queues.last().is_some_and(Queue::is_unused) {
            self.queues.pop();
        }
        if self.queues.len() < desired {
            self.queues.resize_with(desired, Queue::default);
        }
    }

    /// Takes a request of a flow.
    pub fn arrive(&mut self, now: Duration, flow: u64, work: Work, detail: T) -> Arrival {
        self.advance(now);
        let Shape::Queue(queuing) = self.shape else {
            if self.shape == Shape::Reject && !self.fits(work.max_seats()) {
                self.counts.rejected += 1;
                return Arrival::Refused(Reason::ConcurrencyLimit);
            }
            let key = self.insert(now, None, work, detail);
            self.start(now, key);
            return Arrival::Executing(key);
        };
        let index = self.choose(flow, queuing);
        if self.totals.seats_in_use >= self.limit && self.queues[index].len() >= queuing.length_limit {
            self.counts.rejected += 1;
            return Arrival::Refused(Reason::QueueFull);
        }
        let key = self.insert(now, Some(index), work, detail);
        if self.totals.waiting == 0 && self.may_dispatch(work.max_seats()) {
            self.start(now, key);
            return Arrival::Executing(key);
        }
        self.enqueue(now, key, index);
        self.dispatch(now);
        match self.dispatched.iter().position(|other| *other == key) {
            Some(at) => {
                self.dispatched.swap_remove(at);
                Arrival::Executing(key)
            }
            None => Arrival::Waiting(key),
        }
    }

    fn insert(&mut self, now: Duration, queue: Option<usize>, work: Work, detail: T) -> Key {
        if let Some(index) = queue
            && !self.queues[index].is_active()
        {
            self.queues[index].next_dispatch = self.progress;
        }
        self.requests.insert(Request {
            detail,
            work,
            queue,
            arrived: now,
            arrived_at: self.progress,
            started: None,
            lingers: false,
        })
    }

    /// Of the flow's hand, the queue with the least work waiting.
    fn choose(&mut self, flow: u64, queuing: Queuing) -> usize {
        let hand = shard::deal(flow, queuing.queues, queuing.hand_size);
        self.hands = self.hands.wrapping_add(1);
        let (late, early) = hand.split_at(self.hands % hand.len().max(1));
        let mut chosen = None;
        for &index in early.iter().chain(late) {
            let work = self.queues[index].work;
            if chosen.is_none_or(|(_, least)| work < least) {
                chosen = Some((index, work));
            }
        }
        chosen.map_or(0, |(index, _)| index)
    }

    fn enqueue(&mut self, now: Duration, key: Key, index: usize) {
        let work = self.requests[key].work;
        self.change(index, |queue| queue.push(key, &work));
        self.totals.waiting += 1;
        self.totals.seats_waiting += work.max_seats();
        self.bound(index);
        self.observe_demand(now);
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut Queue)) {
        let queue = &mut self.queues[index];
        let before = u32::from(queue.is_active());
        change(queue);
        self.active = self.active + u32::from(queue.is_active()) - before;
    }

    /// Virtual time goes on by what the active queues got of the seats, each the same.
    fn advance(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.last).as_secs_f64();
        self.last = self.last.max(now);
        if self.active > 0 {
            let wanted = self.totals.seats_in_use + self.totals.seats_waiting;
            self.progress += elapsed * f64::from(wanted.min(self.limit)) / f64::from(self.active);
        }
    }

    fn observe_demand(&mut self, now: Duration) {
        self.demand.set(now, f64::from(self.totals.seats_in_use + self.totals.seats_waiting));
    }

    /// Whether there are seats. What is wider than the level runs alone.
    fn fits(&self, seats: u32) -> bool {
        if seats > self.limit { self.totals.seats_in_use == 0 } else { self.totals.seats_in_use + seats <= self.limit }
    }

    fn may_dispatch(&self, seats: u32) -> bool {
        self.totals.seats_in_use < self.limit && self.fits(seats)
    }

    fn start(&mut self, now: Duration, key: Key) {
        let request = &mut self.requests[key];
        request.started = Some(now);
        if self.shape != Shape::Exempt {
            request.work = request.work.narrowed(self.limit);
        }
        let (work, queue) = (request.work, request.queue);
        self.counts.dispatched += 1;
        self.totals.executing += 1;
        self.totals.seats_in_use += work.max_seats();
        if let Some(index) = queue {
            self.change(index, |queue| queue.start(&work));
            self.bound(index);
        }
        self.observe_demand(now);
    }

    fn dispatch(&mut self, now: Duration) {
        while self.totals.waiting > 0 {
            let Some((index, key)) = self.next() else { break };
            let work = self.requests[key].work;
            if !self.may_dispatch(work.max_seats()) {
                break;
            }
            self.leave_queue(index, key, &work);
            self.robin = index;
            self.start(now, key);
            self.dispatched.push(key);
        }
    }

    /// The request that would be finished first in the virtual world. Of equals that of the queue whose turn it is.
    fn next(&self) -> Option<(usize, Key)> {
        let count = self.queues.len();
        let mut first: Option<(f64, usize, Key)> = None;
        for index in (1..=count).map(|step| (self.robin + step) % count) {
            let queue = &self.queues[index];
            let Some(key) = queue.head() else { continue };
            let end = queue.next_dispatch + self.requests[key].work.total();
            if first.is_none_or(|(least, ..)| end < least) {
                first = Some((end, index, key));
            }
        }
        first.map(|(_, index, key)| (index, key))
    }

    fn leave_queue(&mut self, index: usize, key: Key, work: &Work) {
        self.change(index, |queue| queue.remove(key, work));
        self.totals.waiting -= 1;
        self.totals.seats_waiting -= work.max_seats();
    }

    /// No queue saves up what it did not use: its next request does not start before it arrived.
    fn bound(&mut self, index: usize) {
        if let Some(head) = self.queues[index].head() {
            let queue = &mut self.queues[index];
            queue.next_dispatch = queue.next_dispatch.max(self.requests[head].arrived_at);
        }
    }

    /// Ends the waiting of a request, and gives it back; none where it does not wait any more.
    pub fn cancel(&mut self, now: Duration, key: Key, reason: Reason) -> Option<Request<T>> {
        self.advance(now);
        let index = self.requests[key].queue.filter(|_| self.requests[key].started.is_none())?;
        let request = self.requests.remove(key);
        self.leave_queue(index, key, &request.work);
        self.bound(index);
        self.counts.rejected += 1;
        match reason {
            Reason::TimeOut => self.counts.timed_out += 1,
            _ => self.counts.cancelled += 1,
        }
        self.observe_demand(now);
        self.resize();
        self.dispatch(now);
        Some(request)
    }

    /// A request is answered. The queue is told how long it really took.
    pub fn finish(&mut self, now: Duration, key: Key) -> Finished {
        self.advance(now);
        let request = &mut self.requests[key];
        let executed = now.saturating_sub(request.started.unwrap_or(now));
        let (work, queue) = (request.work, request.queue);
        request.lingers = !work.additional.is_zero();
        let lingering = request.lingers.then_some(work.additional);
        self.totals.executing -= 1;
        if let Some(index) = queue {
            let error = f64::from(work.initial_seats) * (ESTIMATED_DURATION - executed.as_secs_f64());
            self.change(index, |queue| queue.finish(error));
            self.bound(index);
        }
        if lingering.is_none() {
            self.release(now, key);
        }
        Finished { executed, lingering }
    }

    /// Frees the seats of a request that was answered.
    pub fn release(&mut self, now: Duration, key: Key) {
        self.advance(now);
        let request = self.requests.remove(key);
        let seats = request.work.max_seats();
        self.totals.seats_in_use -= seats;
        if let Some(index) = request.queue {
            self.queues[index].seats_in_use -= seats;
            self.resize();
        }
        self.observe_demand(now);
        self.dispatch(now);
    }

    /// The requests that were dispatched since the last call, but for those whose arrival told it.
    pub fn take_dispatched(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.dispatched)
    }

    /// A request by its key.
    pub fn get(&self, key: Key) -> Option<&Request<T>> {
        self.requests.get(key)
    }

    /// All requests, with the place in the queue of those that wait.
    pub fn requests(&self) -> impl Iterator<Item = (&Request<T>, Option<usize>)> {
        self.requests.iter().map(|(key, request)| {
            let waits = request.queue.filter(|_| request.started.is_none());
            (request, waits.and_then(|index| self.queues[index].position(key)))
        })
    }

    /// The seats that requests have waiting in a queue when they start.
    pub fn initial_seats_waiting(&self, index: usize) -> u32 {
        self.queues[index].keys().map(|key| self.requests[key].work.initial_seats).sum()
    }

    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The virtual time.
    pub fn progress(&self) -> f64 {
        self.progress
    }

    /// Whether nothing waits, runs or lingers.
    pub fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }
}
