//! `--kube-api-qps` and `--kube-api-burst`: how many requests a client makes at most. The server's priority and fairness is what protects the server;
//! this is for those who want to hold one component back.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Requests per second and at once, under the names and in the form of upstream's flags.
#[derive(Clone, Copy, Debug, PartialEq, clap::Args)]
#[group(id = "api-limits")]
pub struct Limits {
    /// Requests per second to the API server at most; 0 or less sets no limit
    #[arg(long, default_value_t = Limits::default().kube_api_qps, allow_negative_numbers = true)]
    pub kube_api_qps: f32,
    /// Requests to the API server that may be made at once after a pause
    #[arg(long, default_value_t = Limits::default().kube_api_burst)]
    pub kube_api_burst: u32,
}

impl Limits {
    pub(super) fn limiter(&self) -> Option<Limiter> {
        Limiter::new(self.kube_api_qps, self.kube_api_burst)
    }
}

impl Default for Limits {
    /// More than a server answers, so that a component is held back only when it is asked to be.
    fn default() -> Self {
        Self { kube_api_qps: 5000.0, kube_api_burst: 10_000 }
    }
}

/// A token bucket, kept as the time at which it would be full.
#[derive(Debug)]
pub struct Limiter {
    /// Time between two requests.
    interval: Duration,
    /// Time in which an empty bucket fills.
    capacity: Duration,
    full_at: Mutex<Instant>,
}

impl Limiter {
    /// So many tokens a second, and so many at once after a pause. `None` if there is no limit, which is said with 0 or less.
    pub fn new(per_second: f32, burst: u32) -> Option<Self> {
        if per_second <= 0.0 {
            return None;
        }
        let interval = Duration::from_secs_f64(1.0 / f64::from(per_second));
        let capacity = interval * burst.max(1);
        Some(Self { interval, capacity, full_at: Mutex::new(Instant::now()) })
    }

    /// Takes a token if there is one now.
    pub fn try_take(&self) -> bool {
        let now = Instant::now();
        let mut full_at = self.full_at.lock();
        let after = (*full_at).max(now) + self.interval;
        let allowed = after <= now + self.capacity;
        if allowed {
            *full_at = after;
        }
        allowed
    }

    /// Waits until there is a token. Those who wait go in the order in which they came.
    pub async fn wait(&self) {
        let allowed = self.take(Instant::now());
        if let Some(allowed) = allowed {
            tokio::time::sleep_until(allowed).await;
        }
    }

    /// Takes a token; gives when it is there, if that is not now.
    fn take(&self, now: Instant) -> Option<Instant> {
        let mut full_at = self.full_at.lock();
        *full_at = (*full_at).max(now) + self.interval;
        full_at.checked_sub(self.capacity).filter(|allowed| *allowed > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_the_rest_is_spread_over_time() {
        let limiter = Limiter::new(10.0, 3).unwrap();
        let start = Instant::now();
        let mut at = Vec::new();
        for _ in 0..5 {
            limiter.wait().await;
            at.push(start.elapsed().as_millis());
        }
        assert_eq!(at, [0, 0, 0, 100, 200]);
        tokio::time::sleep(Duration::from_secs(9)).await;
        let start = Instant::now();
        for _ in 0..3 {
            limiter.wait().await;
        }
        assert!(start.elapsed().is_zero(), "after a pause there is a burst again, and no more than that");
        limiter.wait().await;
        assert_eq!(start.elapsed().as_millis(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wait_is_refused_and_takes_nothing() {
        let limiter = Limiter::new(2.0, 2).unwrap();
        assert_eq!([(); 4].map(|()| limiter.try_take()), [true, true, false, false]);
        tokio::time::sleep(Duration::from_millis(499)).await;
        assert!(!limiter.try_take());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!([(); 2].map(|()| limiter.try_take()), [true, false]);
    }

    #[test]
    fn nothing_is_limited_by_zero() {
        assert!(Limiter::new(0.0, 1).is_none());
        assert!(Limiter::new(-1.0, 1).is_none());
    }
}
