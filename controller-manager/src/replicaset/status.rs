//! What a replica set's status says of its pods: pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

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

/// The status of a set with these active pods and this number of terminating ones.
pub fn calculate(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: usize,
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = set.spec.clone().unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let template_labels =
        spec.template.and_then(|template| template.metadata).and_then(|meta| meta.labels).unwrap_or_default();
    let labeled = |pod: &&Arc<Pod>| {
        let labels = pod.metadata.labels.as_ref();
        template_labels.iter().all(|(key, value)| labels.and_then(|all| all.get(key)) == Some(value))
    };
    let old = set.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: non_zero(active.iter().filter(labeled).count()),
        ready_replicas: non_zero(active.iter().filter(|pod| pods::is_ready(pod)).count()),
        available_replicas: non_zero(active.iter().filter(|pod| pods::is_available(pod, min_ready, now)).count()),
        terminating_replicas: Some(count(terminating)),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, failure, now),
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
pub fn next_available(set: &ReplicaSet, active: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let waits = active.iter().filter_map(|pod| pods::available_in(pod, min_ready, now));
    waits.filter(|wait| !wait.is_zero()).min()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSetSpec;

    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn status_counts_pods_and_keeps_the_first_failure() {
        let now = Timestamp::from_second(100).unwrap();
        let spec = ReplicaSetSpec { min_ready_seconds: Some(30), ..ReplicaSetSpec::default() };
        let mut set = ReplicaSet { spec: Some(spec), ..ReplicaSet::default() };
        set.metadata.generation = Some(4);
        let active: Vec<_> =
            [Some(10), Some(90), None].into_iter().map(|since| Arc::new(pod("p", "n", since))).collect();
        let failure = Failure::create("quota".into(), None);
        let status = calculate(&set, &active, 2, Some(&failure), now);
        assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (3, Some(2), Some(1)));
        assert_eq!((status.terminating_replicas, status.observed_generation), (Some(2), Some(4)));
        set.status = Some(status.clone());
        let later = Failure::create("another".into(), None);
        assert_eq!(calculate(&set, &active, 2, Some(&later), now).conditions, status.conditions);
        assert_eq!(calculate(&set, &active, 2, None, now).conditions, None);
        assert_eq!(next_available(&set, &active, now), Some(Duration::from_secs(20)));
    }
}
