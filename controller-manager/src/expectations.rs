//! What a controller has asked for and its cache has not shown yet: until then it must not count again, or it would create twice.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use component_base::informer::Key;
use parking_lot::Mutex;
use tokio::time::Instant;

/// After this time the cache is believed whatever it shows, as upstream does: an event was then missed.
pub const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Expected {
    creations: usize,
    /// UIDs of objects whose deletion was asked for.
    deletions: HashSet<String>,
    since: Instant,
}

/// Expectations by the key of the controlling object.
#[derive(Default)]
pub struct Expectations {
    by_key: Mutex<HashMap<Key, Expected>>,
}

impl Expectations {
    /// Whether the cache shows everything that was asked for.
    pub fn are_met(&self, key: &Key) -> bool {
        self.by_key.lock().get(key).is_none_or(|expected| {
            (expected.creations == 0 && expected.deletions.is_empty()) || expected.since.elapsed() > TIMEOUT
        })
    }

    /// Sets what is about to be asked for. Call it before asking.
    pub fn expect(&self, key: &Key, creations: usize, deletions: impl IntoIterator<Item = String>) {
        let expected = Expected { creations, deletions: deletions.into_iter().collect(), since: Instant::now() };
        self.by_key.lock().insert(key.clone(), expected);
    }

    /// One creation was seen, or failed, or was not tried.
    pub fn creation_observed(&self, key: &Key) {
        if let Some(expected) = self.by_key.lock().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen, or failed.
    pub fn deletion_observed(&self, key: &Key, uid: &str) {
        if let Some(expected) = self.by_key.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &Key) {
        self.by_key.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn expectations_are_met_by_events_or_time() {
        let expectations = Expectations::default();
        let key = Key::new("ns", "rs");
        assert!(expectations.are_met(&key));
        expectations.expect(&key, 2, ["a".to_owned()]);
        expectations.creation_observed(&key);
        expectations.creation_observed(&key);
        assert!(!expectations.are_met(&key));
        expectations.deletion_observed(&key, "other");
        assert!(!expectations.are_met(&key));
        expectations.deletion_observed(&key, "a");
        assert!(expectations.are_met(&key));
        expectations.expect(&key, 1, []);
        assert!(!expectations.are_met(&key));
        tokio::time::sleep(TIMEOUT + Duration::from_secs(1)).await;
        assert!(expectations.are_met(&key));
    }
}
