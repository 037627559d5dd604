//! What to do about a job now: pure.
//!
//! Pods are counted once each, whatever happens between: a pod that ended is first named in the status (`uncountedTerminatedPods`), then its finalizer is
//! taken off, and when that is seen, it becomes a number. Indexed jobs name indexes instead, and need no such list for those that succeeded.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::{self, End, Outcome};
use super::indexes::Indexes;
use super::pods::{self as job_pods, NewPod};
use super::policy::{self, Verdict};
use crate::pods;

/// Most pods that one sync makes, deletes or lets go.
const BURST: usize = 500;

/// What is known.
pub struct Observed<'a> {
    pub job: &'a Job,
    /// The job's pods.
    pub pods: &'a [Arc<Pod>],
    /// Uids of pods whose finalizer was taken off, which the cache has not shown yet.
    pub released: &'a HashSet<String>,
    /// Whether all that was asked for has been seen.
    pub may_act: bool,
    /// Failures in a row, and when the last was.
    pub failures: Failures,
    pub now: Timestamp,
}

/// What failed since something last succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    pub count: u32,
    pub last: Option<Timestamp>,
}

/// What to do, in this order: write the status, let pods go, make and delete pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub status: JobStatus,
    /// Pods whose finalizer goes, now that they are named in the status.
    pub release: Vec<Arc<Pod>>,
    /// Pods that are the job's and have no finalizer yet.
    pub track: Vec<Arc<Pod>>,
    /// Pods that the job ends with: they count.
    pub delete: Vec<Arc<Pod>>,
    /// Pods that are too many: they go without being counted.
    pub discard: Vec<Arc<Pod>>,
    pub create: Vec<NewPod>,
    pub failures: Failures,
    /// When to look again without a change.
    pub recheck: Option<Duration>,
}

/// The pods of a job, told apart, and what they add up to.
struct Account {
    active: Vec<Arc<Pod>>,
    terminating: usize,
    /// Named in the status, and not numbers yet.
    uncounted: (BTreeSet<String>, BTreeSet<String>),
    counted: (i32, i32),
    completed: Indexes,
    failed_indexes: Indexes,
    /// Failed pods that stand for how often their index failed, until another does.
    kept: usize,
    release: Vec<Arc<Pod>>,
    failures: Failures,
    fails_job: Option<String>,
}

/// Decides.
pub fn plan(observed: &Observed<'_>) -> Plan {
    let spec = job_pods::spec(observed.job);
    let old = observed.job.status.clone().unwrap_or_default();
    let is_over = conditions::is_finished(&old);
    let mut account = Account::take(observed, &spec, &old, is_over);
    if is_over {
        let status = JobStatus { uncounted_terminated_pods: None, ..old };
        let release = observed.pods.iter().filter(|pod| is_held(observed, pod) && !pods::is_active(pod)).cloned();
        return Plan { status, release: release.collect(), failures: observed.failures, ..Plan::default() };
    }
    let mut plan = Plan { failures: account.failures, ..Plan::default() };
    let end = conditions::interim(&old).or_else(|| account.end(&spec, &old, observed));
    if end.is_some() {
        plan.delete.clone_from(&account.active);
    } else if observed.job.metadata.deletion_timestamp.is_none() && observed.may_act {
        account.manage(&mut plan, &spec, observed);
    }
    if end.is_none() {
        plan.recheck =
            [plan.recheck, conditions::until_deadline(&spec, &old, observed.now)].into_iter().flatten().min();
        plan.track = account.active.iter().filter(|pod| !job_pods::is_tracked(pod)).cloned().collect();
    }
    plan.delete.truncate(BURST);
    plan.discard.truncate(BURST);
    plan.release = std::mem::take(&mut account.release);
    plan.release.truncate(BURST);
    plan.status = account.status(&spec, old, end, observed);
    plan
}

/// Whether a pod's finalizer is still to be taken off.
fn is_held(observed: &Observed<'_>, pod: &Pod) -> bool {
    job_pods::is_tracked(pod) && !observed.released.contains(pod.metadata.uid.as_deref().unwrap_or_default())
}

impl Account {
    fn take(observed: &Observed<'_>, spec: &JobSpec, old: &JobStatus, is_over: bool) -> Self {
        let completions = spec.completions.unwrap_or(0);
        let read = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
        let named = old.uncounted_terminated_pods.clone().unwrap_or_default();
        let held: HashSet<&str> = observed
            .pods
            .iter()
            .filter(|pod| is_held(observed, pod))
            .filter_map(|pod| pod.metadata.uid.as_deref())
            .collect();
        // Those that are named and have no finalizer any more become numbers.
        let split = |uids: Option<Vec<String>>| -> (BTreeSet<String>, i32) {
            let (stay, done): (BTreeSet<_>, Vec<_>) =
                uids.into_iter().flatten().fold((BTreeSet::new(), Vec::new()), |(mut stay, mut done), uid| {
                    if held.contains(uid.as_str()) {
                        stay.insert(uid);
                    } else {
                        done.push(uid);
                    }
                    (stay, done)
                });
            (stay, i32::try_from(done.len()).unwrap_or(i32::MAX))
        };
        let ((succeeded, more_succeeded), (failed, more_failed)) = (split(named.succeeded), split(named.failed));
        let mut account = Self {
            active: observed.pods.iter().filter(|pod| pods::is_active(pod)).cloned().collect(),
            terminating: observed.pods.iter().filter(|pod| pods::is_terminating(pod)).count(),
            uncounted: (succeeded, failed),
            counted: (old.succeeded.unwrap_or(0) + more_succeeded, old.failed.unwrap_or(0) + more_failed),
            completed: read(&old.completed_indexes),
            failed_indexes: read(&old.failed_indexes),
            kept: 0,
            release: Vec::new(),
            failures: observed.failures,
            fails_job: None,
        };
        if !is_over {
            account.count_ended(observed, spec, old);
        }
        account
    }

    /// Takes the pods that have ended into account, oldest first.
    fn count_ended(&mut self, observed: &Observed<'_>, spec: &JobSpec, old: &JobStatus) {
        let mut ended: Vec<&Arc<Pod>> = observed
            .pods
            .iter()
            .filter(|pod| is_held(observed, pod) && (job_pods::is_succeeded(pod) || job_pods::is_failed(spec, pod)))
            .collect();
        ended.sort_by_key(|pod| job_pods::finished_at(pod));
        for pod in ended.iter().filter(|pod| job_pods::is_succeeded(pod)) {
            self.succeeded(spec, pod);
        }
        let failed: Vec<&Arc<Pod>> = ended.into_iter().filter(|pod| !job_pods::is_succeeded(pod)).collect();
        if spec.backoff_limit_per_index.is_some() {
            self.fail_indexes(spec, &failed);
        }
        let ends = conditions::interim(old).is_some() || observed.job.metadata.deletion_timestamp.is_some();
        for pod in failed {
            self.failed(observed, spec, pod, ends);
        }
    }

    fn succeeded(&mut self, spec: &JobSpec, pod: &Arc<Pod>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let is_new = match job_pods::is_indexed(spec) {
            true => job_pods::index(spec, pod).is_some_and(|index| self.completed.insert(index)),
            false => self.uncounted.0.insert(uid),
        };
        if is_new {
            self.failures = Failures::default();
        }
        self.release.push(Arc::clone(pod));
    }

    /// Marks the indexes that have failed as often as they may.
    fn fail_indexes(&mut self, spec: &JobSpec, failed: &[&Arc<Pod>]) {
        let limit = spec.backoff_limit_per_index.unwrap_or(0);
        for pod in failed {
            let Some(index) = job_pods::index(spec, pod).filter(|index| !self.completed.contains(*index)) else {
                continue;
            };
            let gives_up = match policy::judge(spec, pod) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                Verdict::Count | Verdict::FailJob(_) => job_pods::earlier_failures(pod).0 >= limit,
            };
            if gives_up {
                self.failed_indexes.insert(index);
            }
        }
    }

    fn failed(&mut self, observed: &Observed<'_>, spec: &JobSpec, pod: &Arc<Pod>, ends: bool) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let verdict = if pods::is_failed(pod) { policy::judge(spec, pod) } else { Verdict::Count };
        if let Verdict::FailJob(reason) = &verdict {
            self.fails_job.get_or_insert_with(|| reason.clone());
        }
        let index = job_pods::index(spec, pod);
        // Only the pod says how often its index failed: it stays until another pod says so, or it matters no more.
        let is_needed = spec.backoff_limit_per_index.is_some()
            && !ends
            && self.fails_job.is_none()
            && index.is_some_and(|index| {
                !self.completed.contains(index)
                    && !self.failed_indexes.contains(index)
                    && !has_successor(spec, observed.pods, pod, index)
            });
        if is_needed {
            self.kept += usize::from(verdict != Verdict::Ignore);
            return;
        }
        let counts = verdict != Verdict::Ignore && (!job_pods::is_indexed(spec) || index.is_some());
        if counts && self.uncounted.1.insert(uid) {
            let at = job_pods::finished_at(pod).unwrap_or(observed.now);
            self.failures = Failures { count: self.failures.count + 1, last: self.failures.last.max(Some(at)) };
        }
        self.release.push(Arc::clone(pod));
    }

    fn totals(&self, spec: &JobSpec) -> (i32, i32) {
        let length = |set: &BTreeSet<String>| i32::try_from(set.len()).unwrap_or(i32::MAX);
        let succeeded = match job_pods::is_indexed(spec) {
            true => self.completed.len(),
            false => self.counted.0.saturating_add(length(&self.uncounted.0)),
        };
        let kept = i32::try_from(self.kept).unwrap_or(i32::MAX);
        (succeeded, self.counted.1.saturating_add(length(&self.uncounted.1)).saturating_add(kept))
    }

    /// Whether and how the job ends.
    fn end(&self, spec: &JobSpec, old: &JobStatus, observed: &Observed<'_>) -> Option<End> {
        let (succeeded, failed) = self.totals(spec);
        let failure = |reason: &str, message: &str| Some(End::new(Outcome::Failure, reason, message));
        if let Some(message) = &self.fails_job {
            return failure("PodFailurePolicy", message);
        }
        let limit = spec.backoff_limit.unwrap_or(6);
        if failed > limit || restarts_exceed(spec, &self.active, limit) {
            return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        if conditions::until_deadline(spec, old, observed.now).is_some_and(|left| left.is_zero()) {
            return failure("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        let completions = spec.completions;
        if spec.backoff_limit_per_index.is_some() {
            let failed = self.failed_indexes.len();
            if spec.max_failed_indexes.is_some_and(|most| failed > most) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return failure("MaxFailedIndexesExceeded", message);
            }
            if failed > 0 && failed.saturating_add(succeeded) >= completions.unwrap_or(0) {
                return failure("FailedIndexes", "Job has failed indexes");
            }
        }
        if let Some(rule) = policy::success(spec, &self.completed) {
            return Some(End::new(Outcome::Success, "SuccessPolicy", &format!("Matched rules at index {rule}")));
        }
        let is_complete = match completions {
            // Without a number, one that succeeds means that all are through when they end.
            None => succeeded > 0 && self.active.is_empty(),
            Some(completions) => succeeded >= completions && self.active.is_empty(),
        };
        let message = "Reached expected number of succeeded pods";
        is_complete.then(|| End::new(Outcome::Success, "CompletionsReached", message))
    }

    /// Brings the number of active pods to what is wanted.
    fn manage(&self, plan: &mut Plan, spec: &JobSpec, observed: &Observed<'_>) {
        if spec.suspend == Some(true) {
            plan.discard.clone_from(&self.active);
            return;
        }
        let count = |number: i32| usize::try_from(number).unwrap_or(0);
        let (succeeded, _) = self.totals(spec);
        let parallelism = count(spec.parallelism.unwrap_or(1));
        let wanted = match spec.completions {
            None if succeeded > 0 => self.active.len().min(parallelism),
            None => parallelism,
            Some(completions) => count(completions - succeeded - self.failed_indexes.len()).min(parallelism),
        };
        let surplus = self.surplus(spec, wanted);
        if !surplus.is_empty() {
            plan.discard = surplus;
            return;
        }
        let occupied = self.active.len() + if job_pods::only_failed(spec) { self.terminating } else { 0 };
        let missing = wanted.saturating_sub(occupied).min(BURST);
        if missing == 0 {
            return;
        }
        if job_pods::is_indexed(spec) {
            self.create_indexed(plan, spec, observed, missing);
        } else if let Some(wait) = self.global_backoff(observed) {
            plan.recheck = Some(wait);
        } else {
            plan.create = vec![NewPod::default(); missing];
        }
    }

    fn global_backoff(&self, observed: &Observed<'_>) -> Option<Duration> {
        let wait = job_pods::backoff(self.failures.count, self.failures.last?, observed.now);
        (!wait.is_zero()).then_some(wait)
    }

    /// The active pods that are too many: those of indexes that need none first, then the least useful.
    fn surplus(&self, spec: &JobSpec, wanted: usize) -> Vec<Arc<Pod>> {
        let mut surplus = Vec::new();
        let mut kept: Vec<&Arc<Pod>> = Vec::new();
        if job_pods::is_indexed(spec) {
            let mut seen = Indexes::default();
            let mut by_use: Vec<&Arc<Pod>> = self.active.iter().collect();
            by_use.sort_by_key(|pod| usefulness(pod));
            for pod in by_use.into_iter().rev() {
                let index = job_pods::index(spec, pod);
                let is_done = |index: i32| self.completed.contains(index) || self.failed_indexes.contains(index);
                match index.filter(|index| !is_done(*index) && seen.insert(*index)) {
                    Some(_) => kept.push(pod),
                    None => surplus.push(Arc::clone(pod)),
                }
            }
        } else {
            kept = self.active.iter().collect();
        }
        kept.sort_by_key(|pod| usefulness(pod));
        let excess = kept.len().saturating_sub(wanted);
        surplus.extend(kept.into_iter().take(excess).cloned());
        surplus
    }

    /// Pods for the lowest indexes that need one.
    fn create_indexed(&self, plan: &mut Plan, spec: &JobSpec, observed: &Observed<'_>, missing: usize) {
        let per_index = spec.backoff_limit_per_index.is_some();
        if !per_index && let Some(wait) = self.global_backoff(observed) {
            plan.recheck = Some(wait);
            return;
        }
        let busy = |pod: &&Arc<Pod>| pods::is_active(pod) || (job_pods::only_failed(spec) && pods::is_terminating(pod));
        let busy: Indexes = observed.pods.iter().filter(busy).filter_map(|pod| job_pods::index(spec, pod)).collect();
        let failed = if per_index { last_failures(spec, observed) } else { BTreeMap::new() };
        for index in 0..spec.completions.unwrap_or(0) {
            if plan.create.len() == missing {
                return;
            }
            if busy.contains(index) || self.completed.contains(index) || self.failed_indexes.contains(index) {
                continue;
            }
            let (counted, ignored, at) = failed.get(&index).copied().unwrap_or_default();
            let failures = u32::try_from(counted + ignored).unwrap_or(0);
            let wait = at.map_or(Duration::ZERO, |at| job_pods::backoff(failures, at, observed.now));
            if wait.is_zero() {
                plan.create.push(NewPod { index: Some(index), failures: per_index.then_some((counted, ignored)) });
            } else {
                plan.recheck = [plan.recheck, Some(wait)].into_iter().flatten().min();
            }
        }
    }

    fn status(self, spec: &JobSpec, old: JobStatus, end: Option<End>, observed: &Observed<'_>) -> JobStatus {
        let count = |number: usize| (number > 0).then(|| i32::try_from(number).unwrap_or(i32::MAX));
        let is_indexed = job_pods::is_indexed(spec);
        let ready = self.active.iter().filter(|pod| pods::is_ready(pod)).count();
        let is_settled = self.active.is_empty()
            && self.terminating == 0
            && self.uncounted.0.is_empty()
            && self.uncounted.1.is_empty()
            && self.kept == 0
            && !observed.pods.iter().any(|pod| is_held(observed, pod));
        let named = |uids: BTreeSet<String>| (!uids.is_empty()).then(|| uids.into_iter().collect::<Vec<_>>());
        let succeeded = if is_indexed { self.completed.len() } else { self.counted.0 };
        let number = |number: i32| (number > 0).then_some(number);
        let indexes = |set: &Indexes| is_indexed.then(|| set.to_string()).filter(|text| !text.is_empty());
        let status = JobStatus {
            active: count(self.active.len()),
            ready: Some(i32::try_from(ready).unwrap_or(i32::MAX)),
            terminating: Some(i32::try_from(self.terminating).unwrap_or(i32::MAX)),
            succeeded: number(succeeded),
            failed: number(self.counted.1),
            completed_indexes: indexes(&self.completed),
            failed_indexes: spec.backoff_limit_per_index.map(|_| self.failed_indexes.to_string()),
            uncounted_terminated_pods: Some(UncountedTerminatedPods {
                succeeded: named(self.uncounted.0),
                failed: named(self.uncounted.1),
            }),
            start_time: conditions::start_time(spec, &old, observed.now),
            completion_time: None,
            conditions: None,
        };
        let mut conditions = conditions::suspension(spec, old.conditions.unwrap_or_default(), observed.now);
        let mut completion_time = None;
        if let Some(end) = end {
            conditions::announce(&mut conditions, &end, observed.now);
            if is_settled {
                conditions::finish(&mut conditions, &end, observed.now);
                completion_time = (end.outcome == Outcome::Success).then_some(Time(observed.now));
            }
        }
        JobStatus { conditions: (!conditions.is_empty()).then_some(conditions), completion_time, ..status }
    }
}

/// Which of two pods is kept rather: the one that is ready, and the older one.
fn usefulness(pod: &Pod) -> (bool, bool, std::cmp::Reverse<Option<Timestamp>>) {
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (pods::is_ready(pod), pods::is_running(pod), std::cmp::Reverse(created))
}

/// Whether another pod of the index is there that knows of this one's failure.
fn has_successor(spec: &JobSpec, pods: &[Arc<Pod>], pod: &Pod, index: i32) -> bool {
    let (counted, ignored) = job_pods::earlier_failures(pod);
    pods.iter().filter(|other| other.metadata.uid != pod.metadata.uid).any(|other| {
        let (more_counted, more_ignored) = job_pods::earlier_failures(other);
        job_pods::index(spec, other) == Some(index) && more_counted + more_ignored > counted + ignored
    })
}

/// By index, how often it failed so far (counted and ignored) and when it last did.
fn last_failures(spec: &JobSpec, observed: &Observed<'_>) -> BTreeMap<i32, (i32, i32, Option<Timestamp>)> {
    let mut all: BTreeMap<i32, (i32, i32, Option<Timestamp>)> = BTreeMap::new();
    for pod in observed.pods.iter().filter(|pod| job_pods::is_failed(spec, pod)) {
        let Some(index) = job_pods::index(spec, pod) else { continue };
        let (mut counted, mut ignored) = job_pods::earlier_failures(pod);
        match policy::judge(spec, pod) {
            Verdict::Ignore => ignored += 1,
            _ => counted += 1,
        }
        let known = all.entry(index).or_default();
        if counted + ignored > known.0 + known.1 {
            *known = (counted, ignored, job_pods::finished_at(pod).or(Some(observed.now)));
        }
    }
    all
}

/// With the restart policy OnFailure containers fail within their pod.
fn restarts_exceed(spec: &JobSpec, active: &[Arc<Pod>], limit: i32) -> bool {
    let policy = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let statuses = active
        .iter()
        .filter_map(|pod| pod.status.as_ref())
        .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses).flatten());
    let restarts: i32 = statuses.map(|status| status.restart_count).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

#[cfg(test)]
mod tests;
