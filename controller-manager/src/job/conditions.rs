//! The conditions of a job: suspended, about to end, and ended. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{JobCondition, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const SUSPENDED: &str = "Suspended";

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
}

impl Outcome {
    /// The condition that says so while pods still end.
    fn interim(self) -> &'static str {
        match self {
            Self::Success => "SuccessCriteriaMet",
            Self::Failure => "FailureTarget",
        }
    }

    /// The condition that says so when all is over.
    fn terminal(self) -> &'static str {
        match self {
            Self::Success => "Complete",
            Self::Failure => "Failed",
        }
    }
}

/// That, and why a job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub outcome: Outcome,
    reason: String,
    message: String,
}

impl End {
    pub fn new(outcome: Outcome, reason: &str, message: &str) -> Self {
        Self { outcome, reason: reason.to_owned(), message: message.to_owned() }
    }
}

fn find<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// The condition with which a job ended, if it has.
pub fn finished(status: &JobStatus) -> Option<&JobCondition> {
    find(status, Outcome::Success.terminal()).or_else(|| find(status, Outcome::Failure.terminal()))
}

pub fn is_finished(status: &JobStatus) -> bool {
    finished(status).is_some()
}

/// How the job ends, if that was decided before.
pub fn interim(status: &JobStatus) -> Option<End> {
    [Outcome::Failure, Outcome::Success].into_iter().find_map(|outcome| {
        let condition = find(status, outcome.interim())?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Some(End { outcome, reason: text(&condition.reason), message: text(&condition.message) })
    })
}

fn set(conditions: &mut Vec<JobCondition>, type_: &str, status: &str, reason: &str, message: &str, now: Timestamp) {
    if conditions.iter().any(|condition| condition.type_ == type_ && condition.status == status) {
        return;
    }
    let condition = JobCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    conditions.retain(|condition| condition.type_ != type_);
    conditions.push(condition);
}

/// Says how the job is going to end.
pub fn announce(conditions: &mut Vec<JobCondition>, end: &End, now: Timestamp) {
    set(conditions, end.outcome.interim(), "True", &end.reason, &end.message, now);
}

/// Says that the job has ended.
pub fn finish(conditions: &mut Vec<JobCondition>, end: &End, now: Timestamp) {
    set(conditions, end.outcome.terminal(), "True", &end.reason, &end.message, now);
}

/// The conditions with what they should say of suspension.
pub fn suspension(spec: &JobSpec, mut conditions: Vec<JobCondition>, now: Timestamp) -> Vec<JobCondition> {
    if spec.suspend == Some(true) {
        set(&mut conditions, SUSPENDED, "True", "JobSuspended", "Job suspended", now);
    } else if conditions.iter().any(|condition| condition.type_ == SUSPENDED) {
        set(&mut conditions, SUSPENDED, "False", "JobResumed", "Job resumed", now);
    }
    conditions
}

/// Since when the job runs; anew after it was suspended.
pub fn start_time(spec: &JobSpec, old: &JobStatus, now: Timestamp) -> Option<Time> {
    if spec.suspend == Some(true) {
        return old.start_time.clone();
    }
    let was_suspended = find(old, SUSPENDED).is_some();
    old.start_time.clone().filter(|_| !was_suspended).or(Some(Time(now)))
}

/// How long the job may still run, if that is limited.
pub fn until_deadline(spec: &JobSpec, status: &JobStatus, now: Timestamp) -> Option<Duration> {
    let seconds = spec.active_deadline_seconds.filter(|_| spec.suspend != Some(true))?;
    let start = status.start_time.as_ref().filter(|_| find(status, SUSPENDED).is_none()).map_or(now, |time| time.0);
    let end = start.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn suspension_comes_and_goes_and_starts_the_clock_anew() {
        let spec = |suspend: bool| -> JobSpec {
            serde_json::from_value(json!({ "template": {}, "suspend": suspend, "activeDeadlineSeconds": 60 })).unwrap()
        };
        let status = |conditions: Vec<JobCondition>, start: i64| JobStatus {
            conditions: Some(conditions),
            start_time: Some(Time(at(start))),
            ..JobStatus::default()
        };
        assert!(suspension(&spec(false), Vec::new(), at(1)).is_empty(), "it never was suspended");
        let suspended = suspension(&spec(true), Vec::new(), at(1));
        assert_eq!(suspension(&spec(true), suspended.clone(), at(2)), suspended);
        let then = status(suspended.clone(), 0);
        assert_eq!(until_deadline(&spec(true), &then, at(100)), None);
        assert_eq!(start_time(&spec(true), &then, at(5)), Some(Time(at(0))));
        assert_eq!(start_time(&spec(false), &then, at(5)), Some(Time(at(5))));
        assert_eq!(until_deadline(&spec(false), &then, at(500)), Some(Duration::from_secs(60)));
        let resumed = suspension(&spec(false), suspended, at(5));
        assert_eq!(
            (resumed.len(), &*resumed[0].status, resumed[0].reason.as_deref()),
            (1, "False", Some("JobResumed"))
        );
        assert_eq!(start_time(&spec(false), &status(resumed, 5), at(9)), Some(Time(at(5))));
    }

    #[test]
    fn an_end_is_announced_before_it_is_reached() {
        let end = End::new(Outcome::Failure, "BackoffLimitExceeded", "why");
        let mut conditions = Vec::new();
        announce(&mut conditions, &end, at(1));
        let status = JobStatus { conditions: Some(conditions.clone()), ..JobStatus::default() };
        assert_eq!(interim(&status), Some(end.clone()));
        assert!(!is_finished(&status));
        finish(&mut conditions, &end, at(2));
        let status = JobStatus { conditions: Some(conditions), ..JobStatus::default() };
        assert_eq!(finished(&status).unwrap().type_, "Failed");
    }
}
