//! What to do about a cron job now: pure.

use std::sync::Arc;
use std::time::Duration;

use component_base::events::EventType;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;

use super::schedule::Schedule;
use crate::{job, ownership};

/// From this many missed times on a person is told that something is wrong.
const MANY_MISSED: usize = 100;
/// A little later than the time itself, so that clocks that differ a little do not make it early.
const SLACK: Duration = Duration::from_millis(100);
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What to do, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Jobs that go: beyond the history, or replaced.
    pub delete: Vec<Arc<Job>>,
    /// The job whose time has come.
    pub create: Option<Box<Job>>,
    /// The status, with the new job in it if that can be made.
    pub status: CronJobStatus,
    /// What to tell people.
    pub events: Vec<(EventType, &'static str, String)>,
    /// When the next time is.
    pub recheck: Option<Duration>,
}

/// Decides. `jobs` are those that the cron job controls.
pub fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let spec = cron.spec.clone();
    let mut plan = Plan { status: cron.status.clone().unwrap_or_default(), ..Plan::default() };
    plan.settle(jobs);
    plan.delete = excess(&spec, jobs);
    if cron.metadata.deletion_timestamp.is_some() || spec.suspend == Some(true) {
        return plan;
    }
    let (schedule, zone) = match read(&spec) {
        Ok(read) => read,
        Err(event) => {
            plan.events.push(event);
            return plan;
        }
    };
    let next = schedule.next(now, &zone);
    plan.recheck = next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default() + SLACK);
    plan.start(cron, &spec, jobs, now, (&schedule, &zone));
    plan
}

type Event = (EventType, &'static str, String);

fn read(spec: &CronJobSpec) -> Result<(Schedule, TimeZone), Event> {
    let zone = match &spec.time_zone {
        Some(name) => TimeZone::get(name)
            .map_err(|error| (EventType::Warning, "UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}")))?,
        None => TimeZone::UTC,
    };
    let unparseable = |error| (EventType::Warning, "UnparseableSchedule", format!("unparseable schedule: {error}"));
    Ok((spec.schedule.parse().map_err(unparseable)?, zone))
}

fn is_finished(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|status| job::finished(status).is_some())
}

fn is_complete(job: &Job) -> bool {
    job.status.as_ref().and_then(job::finished).is_some_and(|condition| condition.type_ == "Complete")
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// The finished jobs beyond the history, oldest first.
fn excess(spec: &CronJobSpec, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let oldest = |complete: bool, limit: i32| {
        let mut all: Vec<&Arc<Job>> =
            jobs.iter().filter(|job| is_finished(job) && is_complete(job) == complete).collect();
        all.sort_by_key(|job| {
            (job.status.as_ref().and_then(|status| Some(status.start_time.as_ref()?.0)), job.name_any())
        });
        let count = all.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        all.into_iter().take(count).cloned().collect::<Vec<_>>()
    };
    let mut excess = oldest(true, spec.successful_jobs_history_limit.unwrap_or(3));
    excess.extend(oldest(false, spec.failed_jobs_history_limit.unwrap_or(1)));
    excess
}

/// The job of a time. Its name is that time's, so that it is made once.
fn job_at(cron: &CronJob, spec: &CronJobSpec, at: Timestamp, zone: &TimeZone) -> Job {
    let template = spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let shown = at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    annotations.insert(SCHEDULED_AT.to_owned(), shown.replace("+00:00", "Z"));
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron.name_any(), at.as_second() / 60)),
            namespace: cron.namespace(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![ownership::owner_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

impl Plan {
    fn event(&mut self, event_type: EventType, reason: &'static str, note: String) {
        self.events.push((event_type, reason, note));
    }

    /// Brings the list of active jobs up to date.
    fn settle(&mut self, jobs: &[Arc<Job>]) {
        let active = self.status.active.take().unwrap_or_default();
        let mut still = Vec::new();
        for listed in active {
            match jobs.iter().find(|job| job.metadata.uid == listed.uid) {
                Some(job) if !is_finished(job) => still.push(listed),
                Some(job) => {
                    let condition = if is_complete(job) { "Complete" } else { "Failed" };
                    let note = format!("Saw completed job: {}, condition: {condition}", job.name_any());
                    self.event(EventType::Normal, "SawCompletedJob", note);
                }
                None => {
                    let note = format!("Active job went missing: {}", listed.name.unwrap_or_default());
                    self.event(EventType::Normal, "MissingJob", note);
                }
            }
        }
        for job in jobs.iter().filter(|job| !is_finished(job)) {
            if !still.iter().any(|listed| listed.uid == job.metadata.uid) {
                still.push(reference(job));
            }
        }
        let completions = jobs.iter().filter(|job| is_complete(job));
        let latest = completions.filter_map(|job| Some(job.status.as_ref()?.completion_time.as_ref()?.0)).max();
        let known = self.status.last_successful_time.as_ref().map(|time| time.0);
        self.status.last_successful_time = latest.max(known).map(Time);
        self.status.active = (!still.is_empty()).then_some(still);
    }

    /// Makes the job of the last time that has come, if there is one that has none.
    fn start(
        &mut self,
        cron: &CronJob,
        spec: &CronJobSpec,
        jobs: &[Arc<Job>],
        now: Timestamp,
        (schedule, zone): (&Schedule, &TimeZone),
    ) {
        let created = cron.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let last = self.status.last_schedule_time.as_ref().map(|time| time.0);
        let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        let limit = deadline.and_then(|deadline| now.checked_sub(deadline).ok());
        let from = last.unwrap_or(created).max(limit.unwrap_or(Timestamp::MIN));
        let (Some(at), missed) = schedule.latest(from, now, zone, MANY_MISSED) else { return };
        if missed > MANY_MISSED {
            let note = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.event(EventType::Warning, "TooManyMissedTimes", note.to_owned());
        }
        if deadline.is_some_and(|deadline| at.checked_add(deadline).is_ok_and(|end| end < now)) {
            self.event(EventType::Warning, "MissSchedule", format!("Missed scheduled time to start a job: {at}"));
            return;
        }
        let new = job_at(cron, spec, at, zone);
        if last == Some(at) || jobs.iter().any(|job| job.metadata.name == new.metadata.name) {
            self.status.last_schedule_time = Some(Time(at));
            return;
        }
        let active: Vec<&Arc<Job>> = jobs.iter().filter(|job| !is_finished(job)).collect();
        match spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let note = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.event(EventType::Normal, "JobAlreadyActive", note.to_owned());
                return;
            }
            Some("Replace") => {
                self.delete.extend(active.into_iter().cloned());
                self.status.active = None;
            }
            _ => {}
        }
        self.status.last_schedule_time = Some(Time(at));
        self.create = Some(Box::new(new));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn cron(spec: Value, status: Value) -> CronJob {
        let mut all = json!({ "schedule": "*/10 * * * *", "jobTemplate": { "metadata": { "labels": { "a": "b" } }, "spec": { "template": {} } } });
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let meta =
            json!({ "name": "tick", "namespace": "default", "uid": "c", "creationTimestamp": "2026-01-01T00:05:00Z" });
        serde_json::from_value(json!({ "metadata": meta, "spec": all, "status": status })).unwrap()
    }

    /// A job of a minute past midnight: running, or ended with a condition.
    fn job(minute: i64, condition: Option<&str>) -> Arc<Job> {
        let start = at("2026-01-01T00:00:00Z").checked_add(SignedDuration::from_mins(minute)).unwrap();
        let conditions: Vec<Value> = condition.iter().map(|type_| json!({ "type": type_, "status": "True" })).collect();
        let status = json!({ "startTime": start.to_string(), "completionTime": condition.map(|_| start.to_string()), "conditions": conditions });
        let name = format!("tick-{}", start.as_second() / 60);
        Arc::new(
            serde_json::from_value(json!({ "metadata": { "name": name, "uid": name }, "status": status })).unwrap(),
        )
    }

    fn reasons(plan: &Plan) -> Vec<&str> {
        plan.events.iter().map(|(_, reason, _)| *reason).collect()
    }

    #[test]
    fn a_job_is_made_when_its_time_has_come_and_once() {
        let plan_at = |status: Value, jobs: &[Arc<Job>], now: &str| plan(&cron(json!({}), status), jobs, at(now));
        let early = plan_at(json!({}), &[], "2026-01-01T00:09:00Z");
        assert_eq!((early.create, early.recheck), (None, Some(Duration::from_millis(60_100))));
        let due = plan_at(json!({}), &[], "2026-01-01T00:10:00.2Z");
        let made = due.create.unwrap();
        assert_eq!(made.name_any(), format!("tick-{}", at("2026-01-01T00:10:00Z").as_second() / 60));
        assert_eq!(made.annotations()[SCHEDULED_AT], "2026-01-01T00:10:00Z");
        assert_eq!((made.labels()["a"].as_str(), made.owner_references()[0].name.as_str()), ("b", "tick"));
        assert_eq!(due.status.last_schedule_time, Some(Time(at("2026-01-01T00:10:00Z"))));
        let done = json!({ "lastScheduleTime": "2026-01-01T00:10:00Z" });
        assert_eq!(plan_at(done, &[], "2026-01-01T00:11:00Z").create, None);
        assert_eq!(
            plan_at(json!({}), &[job(10, None)], "2026-01-01T00:11:00Z").create,
            None,
            "it was made, and not noted"
        );
        let late = plan_at(json!({}), &[], "2026-01-01T00:45:00Z").create.unwrap();
        assert_eq!(late.annotations()[SCHEDULED_AT], "2026-01-01T00:40:00Z", "of those that were missed the last");
    }

    #[test]
    fn a_suspended_one_makes_none_and_a_late_one_may_be_too_late() {
        let none = |spec: Value, now: &str| {
            let plan = plan(&cron(spec, json!({})), &[], at(now));
            assert_eq!(plan.create, None);
            plan
        };
        assert_eq!(none(json!({ "suspend": true }), "2026-01-01T00:10:00Z").recheck, None);
        let late = none(json!({ "startingDeadlineSeconds": 20 }), "2026-01-01T00:10:30Z");
        assert!(late.recheck.is_some());
        assert_eq!(reasons(&none(json!({ "timeZone": "Nowhere/Land" }), "2026-01-01T00:10:00Z")), ["UnknownTimeZone"]);
        let many = plan(&cron(json!({ "schedule": "* * * * *" }), json!({})), &[], at("2026-01-02T00:00:00Z"));
        assert_eq!(reasons(&many), ["TooManyMissedTimes"]);
        assert!(many.create.is_some());
    }

    #[test]
    fn the_policy_decides_while_one_runs() {
        let with = |policy: &str| {
            let cron =
                cron(json!({ "concurrencyPolicy": policy }), json!({ "lastScheduleTime": "2026-01-01T00:10:00Z" }));
            let plan = plan(&cron, &[job(10, None)], at("2026-01-01T00:20:00Z"));
            (plan.create.is_some(), plan.delete.len(), plan.status.active.map_or(0, |active| active.len()))
        };
        assert_eq!(with("Allow"), (true, 0, 1));
        assert_eq!(with("Forbid"), (false, 0, 1));
        assert_eq!(with("Replace"), (true, 1, 0));
    }

    #[test]
    fn history_is_kept_short_and_active_jobs_are_listed() {
        let jobs = [
            job(10, Some("Complete")),
            job(20, Some("Failed")),
            job(30, Some("Complete")),
            job(40, Some("Failed")),
            job(50, None),
        ];
        let listed = json!([{ "kind": "Job", "name": "gone", "uid": "gone" }, { "kind": "Job", "uid": jobs[0].uid() }]);
        let status = json!({ "active": listed, "lastScheduleTime": "2026-01-01T00:50:00Z" });
        let plan = plan(&cron(json!({ "successfulJobsHistoryLimit": 1 }), status), &jobs, at("2026-01-01T00:51:00Z"));
        let names: Vec<_> = plan.delete.iter().map(|job| job.name_any()).collect();
        assert_eq!(names, [jobs[0].name_any(), jobs[1].name_any()]);
        assert_eq!(reasons(&plan), ["MissingJob", "SawCompletedJob"]);
        assert_eq!(plan.status.active.unwrap()[0].uid, jobs[4].uid());
        assert_eq!(plan.status.last_successful_time, Some(Time(at("2026-01-01T00:30:00Z"))));
    }
}
