//! Delays that double: CrashLoopBackOff of containers and ImagePullBackOff of images.

use std::time::Duration;

use jiff::Timestamp;

/// First delay after a failure that follows another.
pub const INITIAL: Duration = Duration::from_secs(10);
/// Longest delay.
pub const MAX: Duration = Duration::from_secs(300);
/// After running this long since the last delay began, the next failure counts as the first.
pub const RESET: Duration = Duration::from_secs(600);

/// The delay in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub delay: Duration,
    pub updated: Timestamp,
}

fn since(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or(Duration::ZERO)
}

/// Until when a restart must wait, if it must: `failed` is when the last try ended.
pub fn blocked_until(entry: Option<&Backoff>, failed: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let entry = entry.filter(|entry| since(entry.updated, failed) <= RESET)?;
    let until = failed + entry.delay;
    (until > now).then_some(until)
}

/// The entry after another try that follows a failure at `failed`.
pub fn next(entry: Option<&Backoff>, failed: Timestamp, now: Timestamp, max: Duration) -> Backoff {
    match entry.filter(|entry| since(entry.updated, failed) <= RESET) {
        Some(entry) => Backoff { delay: (entry.delay * 2).min(max), updated: now },
        None => Backoff { delay: INITIAL.min(max), updated: now },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crashing_container_waits_10_20_40_up_to_300_seconds() {
        let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut entry = None;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let failed = now;
            let until = blocked_until(entry.as_ref(), failed, now).unwrap_or(now);
            waits.push(since(now, until).as_secs());
            now = until;
            entry = Some(next(entry.as_ref(), failed, now, MAX));
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_quiet_minutes_forget_the_past() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let entry = Backoff { delay: MAX, updated: start };
        let failed = start + Duration::from_secs(601);
        assert_eq!(blocked_until(Some(&entry), failed, failed), None);
        assert_eq!(next(Some(&entry), failed, failed, MAX).delay, INITIAL);
        assert!(blocked_until(Some(&entry), start + RESET, start + RESET).is_some());
    }
}
