//! A priority level at work: its set of queues, who waits in them, and the tickets of those that have seats.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use apiserver_auth::UserInfo;
use http::uri::PathAndQuery;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::sync::oneshot;

use super::configuration::Flow;
use super::demand::Demand;
use super::fair_queue::{Arrival, Key, QueueSet, Queuing, Reason, Shape, Work};
use super::retry_after::RetryAfter;
use super::shares::{Bounds, Item, Terms};
use crate::request::RequestInfo;

/// The widest that the work of a request is taken to be.
const MAX_SEATS: u32 = 10;

/// Who asked for what, as long as the request is here.
pub struct Detail {
    pub flow: Arc<Flow>,
    pub user: Arc<UserInfo>,
    pub info: Arc<RequestInfo>,
    pub path: Option<PathAndQuery>,
}

/// The seats of a level, and why it has so many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seats {
    pub terms: Terms,
    pub bounds: Bounds,
    pub current: u32,
    pub demand: Demand,
    pub target: f64,
}

pub struct State {
    pub set: QueueSet<Detail>,
    /// Those that wait are told when they have seats.
    waiters: HashMap<Key, oneshot::Sender<()>>,
}

impl State {
    fn tell_dispatched(&mut self) {
        for key in self.set.take_dispatched() {
            // One that has just stopped waiting gives its seats back by itself.
            if let Some(waiter) = self.waiters.remove(&key) {
                let _gone = waiter.send(());
            }
        }
    }
}

/// What a level's specification says of requests that find no seat.
pub fn shape(spec: &Value) -> Shape {
    if spec["type"] == "Exempt" {
        return Shape::Exempt;
    }
    let response = &spec["limited"]["limitResponse"];
    let number = |field: &str| response["queuing"][field].as_u64().and_then(|number| usize::try_from(number).ok());
    match response["type"].as_str() {
        Some("Queue") => Shape::Queue(Queuing {
            queues: number("queues").unwrap_or(1).max(1),
            hand_size: number("handSize").unwrap_or(1).max(1),
            length_limit: number("queueLengthLimit").unwrap_or(0),
        }),
        _ => Shape::Reject,
    }
}

/// A priority level.
pub struct Level {
    pub name: String,
    /// Whether its object is gone, and requests are not.
    pub quiescing: AtomicBool,
    exempt: AtomicBool,
    max_seats: AtomicU32,
    began: (Instant, SystemTime),
    state: Mutex<State>,
    seats: Mutex<Seats>,
    refused: Mutex<RetryAfter>,
}

impl Level {
    pub fn new(name: &str) -> Self {
        Level {
            name: name.to_owned(),
            quiescing: AtomicBool::new(false),
            exempt: AtomicBool::new(false),
            max_seats: AtomicU32::new(MAX_SEATS),
            began: (Instant::now(), SystemTime::now()),
            state: Mutex::new(State { set: QueueSet::new(Shape::Reject, 0), waiters: HashMap::new() }),
            seats: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    fn now(&self) -> Duration {
        self.began.0.elapsed()
    }

    /// The time of the day of one of this level's times.
    pub fn time(&self, at: Duration) -> SystemTime {
        self.began.1 + at
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub fn seats(&self) -> Seats {
        *self.seats.lock()
    }

    /// The virtual time of the queues.
    pub fn progress(&self) -> f64 {
        self.state.lock().set.progress()
    }

    pub fn is_exempt(&self) -> bool {
        self.exempt.load(Ordering::Relaxed)
    }

    pub fn is_idle(&self) -> bool {
        self.state.lock().set.is_idle()
    }

    /// The widest that the work of a request of this level is taken to be.
    pub fn max_seats(&self) -> u32 {
        self.max_seats.load(Ordering::Relaxed)
    }

    /// Follows the level's specification.
    pub fn configure(&self, spec: &Value) {
        let shape = shape(spec);
        self.exempt.store(shape == Shape::Exempt, Ordering::Relaxed);
        self.seats.lock().terms = Terms::of(spec);
        let mut state = self.state.lock();
        if state.set.shape() != shape {
            state.set.configure(self.now(), shape);
            state.tell_dispatched();
        }
    }

    /// Follows a change of the number of seats; a new level has its initial number.
    pub fn set_bounds(&self, bounds: Bounds, new: bool) {
        let widest = match self.state.lock().set.shape() {
            Shape::Queue(queuing) => bounds.max_seats(u32::try_from(queuing.hand_size).unwrap_or(u32::MAX)),
            _ => MAX_SEATS,
        };
        self.max_seats.store(widest.min(MAX_SEATS), Ordering::Relaxed);
        let mut seats = self.seats.lock();
        seats.bounds = bounds;
        if new {
            seats.current = bounds.initial();
        }
    }

    /// Ends a period of observation: what the level may get in the next.
    pub fn end_period(&self) -> Item {
        let period = self.state.lock().set.demand.take(self.now());
        let mut seats = self.seats.lock();
        seats.demand.update(period);
        let item = Item::of(seats.bounds, seats.demand.period.highest, seats.demand.smoothed);
        seats.target = item.target;
        item
    }

    /// Gives the level so many seats.
    pub fn set_current(&self, current: u32) {
        self.seats.lock().current = current;
        let mut state = self.state.lock();
        state.set.set_limit(self.now(), current);
        state.tell_dispatched();
    }

    /// Counts a refusal, and says in how many seconds the client may come back.
    pub fn refuse(&self) -> u64 {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.refused.lock().refuse(unix.as_secs())
    }

    /// Waits for seats, at most as long as `patience` says.
    pub async fn enter(
        &self,
        hash: u64,
        work: Work,
        detail: Detail,
        patience: impl FnOnce() -> Duration,
    ) -> Result<Ticket, Reason> {
        let flow = detail.flow.clone();
        flow.metrics.estimated.observe(work.max_seats().into());
        let (arrival, granted) = self.arrive(hash, work, detail);
        let key = match arrival {
            Arrival::Refused(reason) => {
                flow.metrics.reject(reason);
                return Err(reason);
            }
            Arrival::Executing(key) | Arrival::Waiting(key) => key,
        };
        let ticket = Ticket { flow, key: Some(key) };
        match granted {
            Some(granted) => ticket.wait(granted, patience()).await,
            None => {
                ticket.dispatched(Duration::ZERO);
                Ok(ticket)
            }
        }
    }

    fn arrive(&self, hash: u64, work: Work, detail: Detail) -> (Arrival, Option<oneshot::Receiver<()>>) {
        let now = self.now();
        let mut state = self.state.lock();
        let arrival = state.set.arrive(now, hash, work, detail);
        state.tell_dispatched();
        let Arrival::Waiting(key) = arrival else { return (arrival, None) };
        let (sender, granted) = oneshot::channel();
        state.waiters.insert(key, sender);
        if let Some(request) = state.set.get(key)
            && let Some(index) = request.queue
        {
            let length = state.set.queues()[index].len();
            request.detail.flow.metrics.queue_length.observe(length as f64);
        }
        (arrival, Some(granted))
    }

    /// Ends the waiting of a request, where it waits still.
    fn cancel(&self, state: &mut State, now: Duration, key: Key, reason: Reason) -> bool {
        let Some(request) = state.set.cancel(now, key, reason) else { return false };
        state.waiters.remove(&key);
        state.tell_dispatched();
        let metrics = &request.detail.flow.metrics;
        metrics.reject(reason);
        metrics.waited_in_vain.observe(now.saturating_sub(request.arrived).as_secs_f64());
        true
    }

    fn give_up(&self, key: Key) -> bool {
        let now = self.now();
        self.cancel(&mut self.state.lock(), now, key, Reason::TimeOut)
    }

    fn leave(self: &Arc<Self>, flow: &Flow, key: Key) {
        let now = self.now();
        let mut state = self.state.lock();
        if self.cancel(&mut state, now, key, Reason::Cancelled) {
            return;
        }
        let is_watch = state.set.get(key).is_some_and(|request| request.detail.info.verb == "watch");
        let finished = state.set.finish(now, key);
        state.tell_dispatched();
        drop(state);
        let histogram = if is_watch { &flow.metrics.initialized } else { &flow.metrics.executed };
        histogram.observe(finished.executed.as_secs_f64());
        if let Some(lingering) = finished.lingering {
            release_after(self.clone(), key, lingering);
        }
    }

    fn release(&self, key: Key) {
        let mut state = self.state.lock();
        state.set.release(self.now(), key);
        state.tell_dispatched();
    }
}

/// A request's place in its level, first in a queue and then on seats. It is given up when it is dropped.
pub struct Ticket {
    pub flow: Arc<Flow>,
    /// None when the request has left.
    key: Option<Key>,
}

impl Ticket {
    async fn wait(mut self, granted: oneshot::Receiver<()>, patience: Duration) -> Result<Ticket, Reason> {
        let started = Instant::now();
        if tokio::time::timeout(patience, granted).await.is_err()
            && let Some(key) = self.key
            && self.flow.level.give_up(key)
        {
            self.key = None;
            return Err(Reason::TimeOut);
        }
        self.dispatched(started.elapsed());
        Ok(self)
    }

    fn dispatched(&self, waited: Duration) {
        self.flow.metrics.dispatched.inc();
        if !self.flow.level.is_exempt() {
            self.flow.metrics.waited.observe(waited.as_secs_f64());
        }
    }
}

/// Frees seats later. Without a runtime the server is ending, and nobody waits for them.
fn release_after(level: Arc<Level>, key: Key, lingering: Duration) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            tokio::time::sleep(lingering).await;
            level.release(key);
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.flow.level.leave(&self.flow, key);
        }
    }
}
