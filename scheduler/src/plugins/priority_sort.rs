//! PrioritySort: pods of higher priority first, then those that have been in the queue for longer.

use std::cmp::Reverse;
use std::time::Instant;

use crate::framework::{Plugin, Point, Points, SortKey};
use crate::pod::Pod;

pub const NAME: &str = "PrioritySort";

pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::QueueSort])
    }

    fn sort_key(&self, pod: &Pod, queued_at: Instant) -> SortKey {
        (Reverse(pod.priority), queued_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::PodBuilder;
    use std::time::Duration;

    #[test]
    fn priority_comes_before_age() {
        let (early, late) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let key = |priority, at| PrioritySort.sort_key(&PodBuilder::new("p").priority(priority).build(), at);
        assert!(key(10, late) < key(0, early));
        assert!(key(0, early) < key(0, late));
    }
}
