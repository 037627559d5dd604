//! The time of day, as an argument: the machine's, or in tests one that follows tokio's clock, which may be paused.

use jiff::Timestamp;
use tokio::time::Instant;

/// Tells the time. Copies tell the same.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    System,
    /// It was this time when tokio's clock showed that.
    Tokio(Timestamp, Instant),
}

impl Clock {
    /// The machine's clock.
    pub const SYSTEM: Self = Self(Source::System);

    /// A clock that shows `start` now and goes with tokio's.
    pub fn following_tokio(start: Timestamp) -> Self {
        Self(Source::Tokio(start, Instant::now()))
    }

    pub fn now(&self) -> Timestamp {
        match self.0 {
            Source::System => Timestamp::now(),
            Source::Tokio(start, began) => start + began.elapsed(),
        }
    }
}
