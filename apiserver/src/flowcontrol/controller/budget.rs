//! How often one object is written: servers that disagree about it must not write it over and over.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// So many writes of one object ...
const WRITES: usize = 6;
/// ... in this time.
const WINDOW: Duration = Duration::from_secs(60);

/// The writes of the last minute.
#[derive(Debug, Default)]
pub struct Budget(BTreeMap<String, VecDeque<Instant>>);

impl Budget {
    /// Whether the object may be written now; then it is taken as written.
    pub fn take(&mut self, name: &str, now: Instant) -> bool {
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= WINDOW;
        self.0.retain(|_, writes| writes.back().is_some_and(|last| !is_old(last)));
        let writes = self.0.entry(name.to_owned()).or_default();
        while writes.front().is_some_and(is_old) {
            writes.pop_front();
        }
        let may = writes.len() < WRITES;
        if may {
            writes.push_back(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_written_a_few_times_a_minute() {
        let mut budget = Budget::default();
        let start = Instant::now();
        assert!((0..WRITES).all(|_| budget.take("a", start)));
        assert!(!budget.take("a", start) && budget.take("b", start));
        assert!(budget.take("a", start + WINDOW));
    }
}
