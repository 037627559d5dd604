//! The scheduling framework: what a plugin is, and the points at which it is asked.

pub mod event;
pub mod points;
pub mod profile;
pub mod state;
pub mod status;
pub mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use crate::cache::Cache;
use crate::cycle::Cycle;
use crate::diagnosis::Diagnosis;
use crate::labels::Str;
use crate::node::NodeInfo;
use crate::pod::Pod;
pub use event::{Actions, Event, Hint};
pub use points::{Point, Points};
pub use profile::Profile;
pub use state::CycleState;
pub use status::{Code, Status};
pub use waiting::WaitingPods;

/// The best score a plugin may give a node; the worst is 0.
pub const MAX_NODE_SCORE: i64 = 100;

/// What pre-filter says: which nodes are worth a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreFilter {
    All,
    Only(Vec<Str>),
    /// This plugin has nothing to say about this pod: its filter is not asked.
    Skip,
}

/// What pre-score says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreScore {
    Score,
    Skip,
}

/// What post-filter says.
#[derive(Clone, Debug, Default)]
pub enum Remedy {
    /// There is none now; what the pod was promised stays.
    #[default]
    Wait,
    /// There is none: what the pod was promised is void.
    Hopeless,
    /// On this node the pod fits when these are gone.
    Preempt { node: Str, victims: Vec<Arc<Pod>> },
}

/// What permit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    Allow,
    /// The pod waits, reserved, until it is allowed or the time has passed.
    Wait(Duration),
}

/// The order in which pods leave the active queue: smaller first.
pub type SortKey = (std::cmp::Reverse<i32>, Instant);

/// A plugin, asked at the points that it names. Everything but `pre_bind` and `bind` runs inside the cycle and must not wait.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    fn points(&self) -> Points;

    /// The changes of the cluster that can make a pod schedulable which this plugin rejected.
    fn events(&self) -> Actions {
        Actions::NONE
    }

    /// Whether this event, one of `events`, is worth another try for this pod.
    fn hint(&self, _pod: &Pod, _event: &Event) -> Hint {
        Hint::Queue
    }

    fn sort_key(&self, pod: &Pod, queued_at: Instant) -> SortKey {
        (std::cmp::Reverse(pod.priority), queued_at)
    }

    fn pre_enqueue(&self, _pod: &Pod) -> Status {
        Status::success()
    }

    fn pre_filter(&self, _state: &mut CycleState, _pod: &Pod, _cache: &Cache) -> Result<PreFilter, Status> {
        Ok(PreFilter::All)
    }

    /// Takes a pod into account that is imagined on, or (`added` false) away from, `node`: nominated pods and preemption.
    fn imagine(
        &self,
        _state: &mut CycleState,
        _pod: &Pod,
        _other: &Pod,
        _node: &NodeInfo,
        _cache: &Cache,
        _added: bool,
    ) {
    }

    fn filter(&self, _state: &CycleState, _pod: &Pod, _node: &NodeInfo) -> Status {
        Status::success()
    }

    /// Asked when no node fits; the first plugin that knows an answer counts. What it finds in the way is said in `diagnosis`.
    fn post_filter(
        &self,
        _cycle: &Cycle<'_>,
        _state: &CycleState,
        _pod: &Pod,
        _diagnosis: &mut Diagnosis,
    ) -> Option<Remedy> {
        None
    }

    fn pre_score(&self, _state: &mut CycleState, _pod: &Pod, _cache: &Cache, _feasible: &[usize]) -> PreScore {
        PreScore::Score
    }

    fn score(&self, _state: &CycleState, _pod: &Pod, _node: &NodeInfo) -> i64 {
        0
    }

    /// Brings the scores of all nodes into 0..=100.
    fn normalize(&self, _state: &CycleState, _scores: &mut [i64]) {}

    fn reserve(&self, _state: &mut CycleState, _pod: &Pod, _node: &Str) -> Status {
        Status::success()
    }

    fn unreserve(&self, _pod: &Pod, _node: &Str) {}

    fn permit(&self, _state: &CycleState, _pod: &Pod, _node: &Str) -> Result<Permission, Status> {
        Ok(Permission::Allow)
    }

    fn pre_bind<'a>(&'a self, _pod: &'a Pod, _node: &'a Str) -> BoxFuture<'a, Status> {
        Box::pin(async { Status::success() })
    }

    /// Binds the pod. `Code::Skip` leaves it to the next plugin.
    fn bind<'a>(&'a self, _pod: &'a Pod, _node: &'a Str) -> BoxFuture<'a, Status> {
        Box::pin(async { Status::skip() })
    }

    fn post_bind(&self, _pod: &Pod, _node: &Str) {}
}

/// Spreads raw scores over 0..=100 by the largest; `reverse` makes the smallest raw score the best.
pub fn normalize_by_largest(scores: &mut [i64], reverse: bool) {
    let largest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        *score = match (largest, reverse) {
            (0, true) => MAX_NODE_SCORE,
            (0, false) => *score,
            (_, reverse) => {
                let share = MAX_NODE_SCORE * *score / largest;
                if reverse { MAX_NODE_SCORE - share } else { share }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_spread_by_the_largest() {
        for (reverse, raw, expected) in [
            (false, [0, 5, 10], [0, 50, 100]),
            (true, [0, 5, 10], [100, 50, 0]),
            (false, [0, 0, 0], [0, 0, 0]),
            (true, [0, 0, 0], [100, 100, 100]),
        ] {
            let mut scores = raw;
            normalize_by_largest(&mut scores, reverse);
            assert_eq!(scores, expected);
        }
    }
}
