//! A deployment's status and conditions: pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{rolling, sets};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";

const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// This number stands for no deadline.
const NO_DEADLINE: i32 = i32::MAX;

/// A progress deadline, if there is one.
fn deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    (seconds != NO_DEADLINE).then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn non_zero(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}

fn get<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

fn condition(type_: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Sets a condition. With the same status and reason nothing changes; with the same status the transition's time stays.
fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    let conditions = status.conditions.get_or_insert_default();
    if let Some(old) = conditions.iter().find(|old| old.type_ == new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    conditions.retain(|old| old.type_ != new.type_);
    conditions.push(new);
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

/// Counts, and the Available condition.
pub fn calculate(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    all: &[Arc<ReplicaSet>],
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let sum = |count: fn(&ReplicaSet) -> i32| all.iter().map(|set| count(set)).sum::<i32>();
    let available = sum(sets::available);
    let ready = sum(|set| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0));
    let terminating: Option<i32> =
        all.iter().map(|set| set.status.as_ref().and_then(|status| status.terminating_replicas)).sum();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: non_zero(sum(sets::actual)),
        updated_replicas: non_zero(new.map_or(0, sets::actual)),
        ready_replicas: non_zero(ready),
        available_replicas: non_zero(available),
        unavailable_replicas: non_zero((sum(sets::replicas) - available).max(0)),
        terminating_replicas: terminating,
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let enough = available >= rolling::replicas(deployment) - rolling::max_unavailable(deployment);
    let condition = if enough {
        condition(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".into(), now)
    } else {
        let message = "Deployment does not have minimum availability.".into();
        condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message, now)
    };
    set(&mut status, condition);
    status
}

/// Whether the rollout has come to its end, by these counts.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = rolling::replicas(deployment);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |value: Option<i32>| value.unwrap_or(0);
    let olds = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || olds(new) < olds(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

fn has_timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let (Some(deadline), Some(progressing)) = (deadline(deployment), get(status, PROGRESSING)) else { return false };
    match progressing.reason.as_deref() {
        Some(COMPLETE) => false,
        Some(TIMED_OUT) => true,
        _ => progressing.last_update_time.as_ref().is_some_and(|time| seconds(time.0, now) > deadline.as_secs_f64()),
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// Counts and all conditions of a rollout that goes on.
pub fn of_rollout(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    all: &[Arc<ReplicaSet>],
    now: Timestamp,
) -> DeploymentStatus {
    let before = deployment.status.clone().unwrap_or_default();
    let mut status = calculate(deployment, new, all, now);
    let subject = match new {
        Some(set) => format!("ReplicaSet {:?}", rolling::name(set)),
        None => format!("Deployment {:?}", deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    if deadline(deployment).is_none() {
        remove(&mut status, PROGRESSING);
    }
    let current = get(&before, PROGRESSING).cloned();
    let was_complete = status.replicas == status.updated_replicas
        && current.as_ref().is_some_and(|current| current.reason.as_deref() == Some(COMPLETE));
    if deadline(deployment).is_some() && !was_complete {
        if is_complete(deployment, &status) {
            let message = format!("{subject} has successfully progressed.");
            set(&mut status, condition(PROGRESSING, "True", COMPLETE, message, now));
        } else if has_progressed(&before, &status) {
            let message = format!("{subject} is progressing.");
            let mut progress = condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
            if let Some(current) = current.filter(|current| current.status == "True") {
                progress.last_transition_time = current.last_transition_time;
            }
            remove(&mut status, PROGRESSING);
            set(&mut status, progress);
        } else if has_timed_out(deployment, &status, now) {
            let message = format!("{subject} has timed out progressing.");
            set(&mut status, condition(PROGRESSING, "False", TIMED_OUT, message, now));
        }
    }
    copy_failure(&mut status, new, all);
    status
}

/// A failure to make pods, of the new set first, is the deployment's too.
fn copy_failure(status: &mut DeploymentStatus, new: Option<&ReplicaSet>, all: &[Arc<ReplicaSet>]) {
    let sets = new.into_iter().chain(all.iter().map(Arc::as_ref));
    let conditions = sets.flat_map(|set| set.status.iter().flat_map(|status| status.conditions.iter().flatten()));
    match conditions.into_iter().find(|condition| condition.type_ == REPLICA_FAILURE) {
        None => remove(status, REPLICA_FAILURE),
        Some(failure) => set(
            status,
            DeploymentCondition {
                type_: REPLICA_FAILURE.to_owned(),
                status: failure.status.clone(),
                reason: failure.reason.clone(),
                message: failure.message.clone(),
                last_update_time: failure.last_transition_time.clone(),
                last_transition_time: failure.last_transition_time.clone(),
            },
        ),
    }
}

/// When to look again so that a rollout that does not move is noticed.
pub fn recheck(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let deadline = deadline(deployment)?;
    let progressing = get(status, PROGRESSING)?;
    if is_complete(deployment, status) || matches!(progressing.reason.as_deref(), Some(COMPLETE | TIMED_OUT | PAUSED)) {
        return None;
    }
    let since = progressing.last_update_time.as_ref()?.0;
    let left = (deadline.as_secs_f64() - seconds(since, now)).max(0.0);
    Some(Duration::from_secs_f64(left) + Duration::from_secs(1))
}

/// The progress that pausing or resuming makes; `None` if it is known already. A deployment that has timed out stays so.
pub fn with_pause(deployment: &Deployment, now: Timestamp) -> Option<DeploymentStatus> {
    deadline(deployment)?;
    let status = deployment.status.clone().unwrap_or_default();
    let current = get(&status, PROGRESSING).and_then(|condition| condition.reason.as_deref());
    if current == Some(TIMED_OUT) {
        return None;
    }
    let is_paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    let new = match (is_paused, current == Some(PAUSED)) {
        (true, false) => condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused".into(), now),
        (false, true) => condition(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".into(), now),
        _ => return None,
    };
    let mut changed = status;
    set(&mut changed, new);
    Some(changed)
}

/// The progress that a found or made set is.
pub fn with_new_set(
    mut status: DeploymentStatus,
    deployment: &Deployment,
    set_name: &str,
    made: bool,
    now: Timestamp,
) -> DeploymentStatus {
    if deadline(deployment).is_some() {
        let (reason, message) = if made {
            ("NewReplicaSetCreated", format!("Created new replica set {set_name:?}"))
        } else {
            ("FoundNewReplicaSet", format!("Found new replica set {set_name:?}"))
        };
        set(&mut status, condition(PROGRESSING, "True", reason, message, now));
    }
    status
}

/// Whether there is a Progressing condition.
pub fn has_progress(status: &DeploymentStatus) -> bool {
    get(status, PROGRESSING).is_some()
}

/// One collision more: the next set gets another name.
pub fn with_collision(deployment: &Deployment) -> DeploymentStatus {
    let mut status = deployment.status.clone().unwrap_or_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    status
}

/// The new set cannot be made; `None` if nothing changes by that.
pub fn with_create_failure(deployment: &Deployment, message: String, now: Timestamp) -> Option<DeploymentStatus> {
    deadline(deployment)?;
    let before = deployment.status.clone().unwrap_or_default();
    let mut status = before.clone();
    set(&mut status, condition(PROGRESSING, "False", "ReplicaSetCreateError", message, now));
    (status != before).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::testing::{deployment, set as replica_set};

    fn reason(status: &DeploymentStatus, type_: &str) -> String {
        get(status, type_).map_or_else(
            || "-".into(),
            |condition| format!("{}/{}", condition.status, condition.reason.as_deref().unwrap()),
        )
    }

    #[test]
    fn a_rollout_progresses_completes_or_times_out() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut d = deployment("web:2", 3, "1", "0");
        let new = replica_set(&d, "new", 1, 0);
        let all = [Arc::clone(&new), replica_set(&d, "old", 3, 3)];
        let status = with_new_set(of_rollout(&d, Some(&new), &all, at(0)), &d, "new", true, at(0));
        assert_eq!(reason(&status, PROGRESSING), "True/NewReplicaSetCreated");
        assert_eq!(reason(&status, AVAILABLE), "True/MinimumReplicasAvailable");
        d.status = Some(status.clone());
        assert_eq!(recheck(&d, &status, at(10)), Some(Duration::from_secs(591)));
        let waiting = of_rollout(&d, Some(&new), &all, at(600));
        assert_eq!(waiting, status);
        let late = of_rollout(&d, Some(&new), &all, at(601));
        assert_eq!(reason(&late, PROGRESSING), "False/ProgressDeadlineExceeded");
        assert_eq!(recheck(&d, &late, at(601)), None);
        d.status = Some(late);
        let done = replica_set(&d, "new", 3, 3);
        let complete = of_rollout(&d, Some(&done), std::slice::from_ref(&done), at(700));
        assert_eq!(reason(&complete, PROGRESSING), "True/NewReplicaSetAvailable");
        assert_eq!(
            (complete.replicas, complete.updated_replicas, complete.unavailable_replicas),
            (Some(3), Some(3), None)
        );
    }

    #[test]
    fn progress_renews_its_time_but_not_its_transition() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut d = deployment("web:2", 3, "1", "0");
        d.status = Some(with_new_set(DeploymentStatus::default(), &d, "new", true, at(0)));
        let new = replica_set(&d, "new", 2, 1);
        let status = of_rollout(&d, Some(&new), &[Arc::clone(&new)], at(50));
        let progressing = get(&status, PROGRESSING).unwrap();
        assert_eq!(progressing.last_update_time.as_ref().unwrap().0, at(50));
        assert_eq!(progressing.last_transition_time.as_ref().unwrap().0, at(0));
    }

    #[test]
    fn pausing_and_resuming_are_seen_once() {
        let now = Timestamp::from_second(9).unwrap();
        let mut d = deployment("web:2", 3, "1", "0");
        assert_eq!(with_pause(&d, now), None);
        d.spec.as_mut().unwrap().paused = Some(true);
        d.status = with_pause(&d, now);
        assert_eq!(reason(d.status.as_ref().unwrap(), PROGRESSING), "Unknown/DeploymentPaused");
        assert_eq!(with_pause(&d, now), None);
        d.spec.as_mut().unwrap().paused = Some(false);
        assert_eq!(reason(&with_pause(&d, now).unwrap(), PROGRESSING), "Unknown/DeploymentResumed");
    }

    #[test]
    fn unavailability_and_failures_show() {
        let now = Timestamp::from_second(9).unwrap();
        let d = deployment("web:2", 3, "1", "0");
        let mut new = Arc::unwrap_or_clone(replica_set(&d, "new", 3, 1));
        new.status.as_mut().unwrap().conditions = Some(vec![k8s_openapi::api::apps::v1::ReplicaSetCondition {
            type_: REPLICA_FAILURE.into(),
            status: "True".into(),
            reason: Some("FailedCreate".into()),
            ..Default::default()
        }]);
        let status = of_rollout(&d, Some(&new), &[Arc::new(new.clone())], now);
        assert_eq!(reason(&status, AVAILABLE), "False/MinimumReplicasUnavailable");
        assert_eq!(reason(&status, REPLICA_FAILURE), "True/FailedCreate");
        assert_eq!(status.unavailable_replicas, Some(2));
    }
}
