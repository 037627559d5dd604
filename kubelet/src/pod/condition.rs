//! Conditions of a pod: those the kubelet owns, laid over what others have set.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Conditions that are there only while they are true.
pub const RESIZE_PENDING: &str = "PodResizePending";
pub const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";

/// Why a pod is disrupted by its node.
pub const TERMINATION_BY_KUBELET: &str = "TerminationByKubelet";

/// Whether the kubelet decides about a condition; the others are someone else's.
pub fn is_own(condition: &PodCondition) -> bool {
    match condition.type_.as_str() {
        "PodReadyToStartContainers" | "Initialized" | "Ready" | "ContainersReady" | "PodScheduled" => true,
        "DisruptionTarget" => condition.reason.as_deref() == Some(TERMINATION_BY_KUBELET),
        _ => is_passing(condition),
    }
}

/// A condition as decided now; when it last changed is added by [`merge`].
pub fn new(kind: &str, status: bool, reason: Option<&str>, message: Option<String>) -> PodCondition {
    PodCondition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.map(str::to_owned),
        message,
        ..Default::default()
    }
}

/// The decided conditions with their times, then those of `previous` that are not ours.
pub fn merge(
    previous: &[PodCondition],
    decided: Vec<PodCondition>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<PodCondition> {
    let of = |kind: &str| previous.iter().find(|condition| condition.type_ == kind);
    let mut merged: Vec<PodCondition> = decided
        .into_iter()
        .map(|mut condition| {
            let unchanged = of(&condition.type_).filter(|old| old.status == condition.status);
            condition.last_transition_time =
                unchanged.and_then(|old| old.last_transition_time.clone()).or(Some(Time(whole_seconds(now))));
            condition.observed_generation = generation;
            condition
        })
        .collect();
    let others: Vec<PodCondition> = previous
        .iter()
        .filter(|old| !is_passing(old) && !merged.iter().any(|new| new.type_ == old.type_))
        .cloned()
        .collect();
    merged.extend(others);
    merged
}

fn is_passing(condition: &PodCondition) -> bool {
    matches!(condition.type_.as_str(), RESIZE_PENDING | RESIZE_IN_PROGRESS)
}

/// Times in the API have whole seconds; comparing a decided status with a stored one needs the same.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
