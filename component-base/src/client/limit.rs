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

impl Default for Limits {
    /// More than a server answers, so that a component is held back only when it is asked to be.
    fn default() -> Self {
        Self { kube_api_qps: 5000.0, kube_api_burst: 10_000 }
    }
}

/// A token bucket, kept as the time at which it would be full.
#[derive(Debug)]
pub(super) struct Limiter {
    /// Time between two requests.
    interval: Duration,
    /// Time in which an empty bucket fills.
    capacity: Duration,
    full_at: Mutex<Instant>,
}

impl Limiter {
    /// `None` if there is no limit.
    pub(super) fn new(limits: &Limits) -> Option<Self> {
        if limits.kube_api_qps <= 0.0 {
            return None;
        }
        let interval = Duration::from_secs_f64(1.0 / f64::from(limits.kube_api_qps));
        let capacity = interval * limits.kube_api_burst.max(1);
        Some(Self { interval, capacity, full_at: Mutex::new(Instant::now()) })
    }

    /// Waits until another request may be made. Those who wait go in the order in which they came.
    pub(super) async fn wait(&self) {
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
        let limiter = Limiter::new(&Limits { kube_api_qps: 10.0, kube_api_burst: 3 }).unwrap();
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

    #[test]
    fn nothing_is_limited_by_zero() {
        assert!(Limiter::new(&Limits { kube_api_qps: 0.0, kube_api_burst: 1 }).is_none());
        assert!(Limiter::new(&Limits { kube_api_qps: -1.0, kube_api_burst: 1 }).is_none());
    }
}
