//! What a set of queues speaks of: work, requests, and what becomes of them.

use std::time::Duration;

/// How long requests are taken to run until it is known, in seconds.
pub const ESTIMATED_DURATION: f64 = 0.003;

/// The work of a request: seats while it runs, and seats for some time after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    pub initial_seats: u32,
    pub final_seats: u32,
    pub additional: Duration,
}

impl Work {
    /// The work of a request that is over when it is answered.
    pub const fn seats(initial_seats: u32) -> Self {
        Work { initial_seats, final_seats: 0, additional: Duration::ZERO }
    }

    /// The seats that are taken from beginning to end.
    pub fn max_seats(&self) -> u32 {
        self.initial_seats.max(self.final_seats)
    }

    /// In seconds times seats.
    pub fn total(&self) -> f64 {
        f64::from(self.initial_seats) * ESTIMATED_DURATION + f64::from(self.final_seats) * self.additional.as_secs_f64()
    }

    /// The same work after the answer, with fewer seats.
    pub fn narrowed(self, seats: u32) -> Self {
        if self.final_seats <= seats || seats == 0 {
            return self;
        }
        let additional = self.additional.mul_f64(f64::from(self.final_seats) / f64::from(seats));
        Work { final_seats: seats, additional, ..self }
    }
}

/// What happens to requests that find no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// None is held up.
    Exempt,
    /// They are refused.
    Reject,
    /// They wait.
    Queue(Queuing),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queuing {
    pub queues: usize,
    pub hand_size: usize,
    pub length_limit: usize,
}

/// Why a request is not served, in the words of Kubernetes' metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
    Cancelled,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::QueueFull => "queue-full",
            Reason::ConcurrencyLimit => "concurrency-limit",
            Reason::TimeOut => "time-out",
            Reason::Cancelled => "cancelled",
        }
    }
}

/// Names a request of the set from its arrival until it leaves.
pub type Key = usize;

/// What became of a request that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    Executing(Key),
    Waiting(Key),
    Refused(Reason),
}

/// A request that waits or has seats.
#[derive(Debug)]
pub struct Request<T> {
    pub detail: T,
    pub work: Work,
    pub queue: Option<usize>,
    pub arrived: Duration,
    /// In virtual time.
    pub arrived_at: f64,
    /// None while it waits.
    pub started: Option<Duration>,
    /// Whether it is answered, and its seats are taken still.
    pub lingers: bool,
}

/// What a request did that was answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finished {
    pub executed: Duration,
    /// How long the seats are still taken; then [`release`](super::QueueSet::release) is due. None where they are free.
    pub lingering: Option<Duration>,
}

/// What is waiting and executing in a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub waiting: u32,
    pub seats_waiting: u32,
    pub executing: u32,
    pub seats_in_use: u32,
}

/// What has happened in a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub dispatched: u64,
    pub rejected: u64,
    pub timed_out: u64,
    pub cancelled: u64,
}
