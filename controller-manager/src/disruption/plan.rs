//! How many pods of a budget may be disrupted now: pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::intstr::{Round, scaled};
use crate::pods;

/// A pod whose eviction was allowed is expected to be deleted within this time.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);
const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

/// Whether the budget counts from how many pods their controllers are to have.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.clone().unwrap_or_default();
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// The status of a budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub status: PodDisruptionBudgetStatus,
    /// Pods that were evicted, and not deleted in time.
    pub not_deleted: Vec<String>,
    /// When the next of those is overdue.
    pub recheck: Option<Duration>,
}

/// Decides. `scale` is how many pods the controllers of the budget's pods are to have, where that is needed.
pub fn plan(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scale: i32, now: Timestamp) -> Plan {
    let spec = budget.spec.clone().unwrap_or_default();
    let old = budget.status.clone().unwrap_or_default();
    let (disrupted, not_deleted) = disrupted(&old, pods, now);
    let overdue = disrupted.values().filter_map(|time| time.0.checked_add(DELETION_TIMEOUT).ok()).min();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let is_healthy = |pod: &&Arc<Pod>| {
        pod.metadata.deletion_timestamp.is_none() && pods::is_ready(pod) && !disrupted.contains_key(&pod.name_any())
    };
    let healthy = count(pods.iter().filter(is_healthy).count());
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (scale, (scale - scaled(most, scale, Round::Up)).max(0)),
        (None, Some(IntOrString::Int(least))) => (count(pods.len()), *least),
        (None, Some(share)) => (scale, scaled(share, scale, Round::Up)),
        (None, None) => (count(pods.len()), 1),
    };
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: budget.metadata.generation,
        conditions: old.conditions,
    };
    let (holds, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set_condition(&mut status, holds, reason, "", now);
    Plan {
        status,
        not_deleted,
        recheck: overdue.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default()),
    }
}

/// The status of a budget that cannot be worked out: nothing may be disrupted.
pub fn failed(budget: &PodDisruptionBudget, message: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    status.observed_generation = budget.metadata.generation;
    set_condition(&mut status, "False", "SyncFailed", message, now);
    status
}

/// The pods whose eviction was allowed and that are still to be deleted, and those that should have been.
fn disrupted(
    old: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Vec<String>) {
    let mut waiting = BTreeMap::new();
    let mut overdue = Vec::new();
    for (name, time) in old.disrupted_pods.iter().flatten() {
        let Some(pod) = pods.iter().find(|pod| pod.name_any() == *name) else { continue };
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        if time.0.checked_add(DELETION_TIMEOUT).is_ok_and(|end| end > now) {
            waiting.insert(name.clone(), time.clone());
        } else {
            overdue.push(name.clone());
        }
    }
    (waiting, overdue)
}

fn set_condition(status: &mut PodDisruptionBudgetStatus, holds: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().find(|condition| condition.type_ == DISRUPTION_ALLOWED);
    let since = old.filter(|old| old.status == holds).map_or(Time(now), |old| old.last_transition_time.clone());
    let condition = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: holds.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: status.observed_generation,
        last_transition_time: since,
    };
    conditions.retain(|condition| condition.type_ != DISRUPTION_ALLOWED);
    conditions.push(condition);
}

/// How long until a pod counts as not disrupted after all, which was said to be a target and is not being deleted; `None` if it is none.
pub fn stale_in(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let target = pods::condition(pod, "DisruptionTarget").filter(|condition| condition.status == "True")?;
    if pods::is_terminal(pod) || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let end = target.last_transition_time.as_ref()?.0.checked_add(DELETION_TIMEOUT).ok()?;
    Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::testing::pod;

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        let status = {
            let mut all =
                json!({ "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0, "disruptionsAllowed": 0 });
            all.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
            all
        };
        serde_json::from_value(json!({ "metadata": { "name": "b", "generation": 2 }, "spec": spec, "status": status }))
            .unwrap()
    }

    fn ready(count: usize, unready: usize) -> Vec<Arc<Pod>> {
        (0..count + unready).map(|n| Arc::new(pod(&format!("p{n}"), "n", (n < count).then_some(1)))).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_healthy_beyond_what_must_be_may_go() {
        for (spec, pods, scale, expected) in [
            (json!({ "minAvailable": 2 }), ready(3, 0), 0, [3, 3, 2, 1]),
            (json!({ "minAvailable": 2 }), ready(1, 2), 0, [3, 1, 2, 0]),
            (json!({ "minAvailable": 0 }), ready(0, 0), 0, [0, 0, 0, 0]),
            (json!({ "minAvailable": "50%" }), ready(3, 0), 5, [5, 3, 3, 0]),
            (json!({ "maxUnavailable": 1 }), ready(3, 0), 3, [3, 3, 2, 1]),
            (json!({ "maxUnavailable": "30%" }), ready(9, 1), 10, [10, 9, 7, 2]),
            (json!({ "maxUnavailable": 9 }), ready(3, 0), 3, [3, 3, 0, 3]),
            (json!({}), ready(2, 0), 0, [2, 2, 1, 1]),
        ] {
            let status = plan(&budget(spec.clone(), json!({})), &pods, scale, at(100)).status;
            let counted =
                [status.expected_pods, status.current_healthy, status.desired_healthy, status.disruptions_allowed];
            assert_eq!(counted, expected.map(Some), "{spec}");
            let condition = &status.conditions.unwrap()[0];
            assert_eq!(condition.status == "True", status.disruptions_allowed > Some(0));
            assert_eq!(status.observed_generation, Some(2));
        }
    }

    #[test]
    fn what_was_allowed_is_waited_for() {
        let listed = json!({ "disruptedPods": { "p0": at(90).to_string(), "p1": at(-200).to_string(), "gone": at(90).to_string() } });
        let plan = plan(&budget(json!({ "minAvailable": 1 }), listed), &ready(3, 0), 0, at(100));
        assert_eq!(plan.status.disrupted_pods.unwrap().keys().collect::<Vec<_>>(), ["p0"]);
        assert_eq!((plan.status.current_healthy, plan.status.disruptions_allowed), (Some(2), Some(1)));
        assert_eq!((plan.not_deleted, plan.recheck), (vec!["p1".to_owned()], Some(Duration::from_secs(110))));
    }

    #[test]
    fn a_failure_allows_nothing() {
        let status = failed(&budget(json!({}), json!({ "disruptionsAllowed": 4 })), "why", at(1));
        assert_eq!((status.disruptions_allowed, &*status.conditions.unwrap()[0].reason), (Some(0), "SyncFailed"));
    }
}
