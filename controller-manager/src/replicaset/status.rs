//! What a replica set's status says of its pods: pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Desired;
use crate::pods;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// What went wrong with making or deleting pods.
#[derive(Debug)]
pub struct Failure {
    reason: &'static str,
    message: String,
    /// To be returned, so that the key comes back.
    pub error: Option<kube::Error>,
}

impl Failure {
    /// Pods cannot be made.
    pub fn create(message: String, error: Option<kube::Error>) -> Self {
        Self { reason: "FailedCreate", message, error }
    }

    /// Pods cannot be deleted.
    pub fn delete(message: String, error: Option<kube::Error>) -> Self {
        Self { reason: "FailedDelete", message, error }
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// What there is.
pub struct Counts<'a> {
    /// The pods that are neither over nor going.
    pub active: &'a [Arc<Pod>],
    /// How many are going.
    pub terminating: usize,
    /// Now.
    pub now: Timestamp,
}

/// The status of a set with these pods, which was `old` before.
pub fn calculate(
    old: &ReplicaSetStatus,
    generation: Option<i64>,
    desired: &Desired,
    counts: &Counts<'_>,
    failure: Option<&Failure>,
) -> ReplicaSetStatus {
    let Counts { active, now, .. } = *counts;
    let template = desired.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    let labeled = |pod: &&Arc<Pod>| {
        let labels = pod.metadata.labels.as_ref();
        template.into_iter().flatten().all(|(key, value)| labels.and_then(|all| all.get(key)) == Some(value))
    };
    let available = |pod: &&Arc<Pod>| pods::is_available(pod, desired.min_ready_seconds, now);
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: non_zero(active.iter().filter(labeled).count()),
        ready_replicas: non_zero(active.iter().filter(|pod| pods::is_ready(pod)).count()),
        available_replicas: non_zero(active.iter().filter(available).count()),
        terminating_replicas: Some(count(counts.terminating)),
        observed_generation: generation,
        conditions: conditions(old.conditions.clone(), failure, now),
    }
}

/// Zero is left out of what the API server stores, so it is left out here: statuses are compared.
fn non_zero(number: usize) -> Option<i32> {
    (number > 0).then(|| count(number))
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    match failure {
        None => conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
        Some(failure) => {
            if !conditions.iter().any(|condition| condition.type_ == REPLICA_FAILURE) {
                conditions.push(ReplicaSetCondition {
                    type_: REPLICA_FAILURE.to_owned(),
                    status: "True".to_owned(),
                    reason: Some(failure.reason.to_owned()),
                    message: Some(failure.message.clone()),
                    last_transition_time: Some(Time(now)),
                });
            }
        }
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// When the next ready pod becomes available.
pub fn next_available(min_ready: i32, active: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let waits = active.iter().filter_map(|pod| pods::available_in(pod, min_ready, now));
    waits.filter(|wait| !wait.is_zero()).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn status_counts_pods_and_keeps_the_first_failure() {
        let now = Timestamp::from_second(100).unwrap();
        let desired = Desired { min_ready_seconds: 30, ..Desired::default() };
        let active: Vec<_> =
            [Some(10), Some(90), None].into_iter().map(|since| Arc::new(pod("p", "n", since))).collect();
        let counts = Counts { active: &active, terminating: 2, now };
        let calculate = |old: &ReplicaSetStatus, failure| calculate(old, Some(4), &desired, &counts, failure);
        let failure = Failure::create("quota".into(), None);
        let status = calculate(&ReplicaSetStatus::default(), Some(&failure));
        assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (3, Some(2), Some(1)));
        assert_eq!((status.terminating_replicas, status.observed_generation), (Some(2), Some(4)));
        let later = Failure::create("another".into(), None);
        assert_eq!(calculate(&status, Some(&later)).conditions, status.conditions);
        assert_eq!(calculate(&status, None).conditions, None);
        assert_eq!(next_available(30, &active, now), Some(Duration::from_secs(20)));
    }
}
