//! The pods of a job: how they are made, and what those that are there say. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodTemplateSpec};
use kube::ResourceExt;

use crate::{ownership, pods};

/// Keeps a pod there until it is counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Wait before a pod is replaced that failed; doubles with each further failure.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

pub fn spec(job: &Job) -> JobSpec {
    job.spec.clone().unwrap_or_default()
}

pub fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

pub fn is_tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

pub fn is_succeeded(pod: &Pod) -> bool {
    pods::is_terminal(pod) && !pods::is_failed(pod)
}

/// Whether only pods that have failed for good are replaced and counted, and not those that are going.
pub fn only_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

/// Whether a pod counts as failed.
pub fn is_failed(spec: &JobSpec, pod: &Pod) -> bool {
    pods::is_failed(pod) || (pod.metadata.deletion_timestamp.is_some() && !only_failed(spec) && !is_succeeded(pod))
}

/// The completion index of a pod, if it has one that the job has.
pub fn index(spec: &JobSpec, pod: &Pod) -> Option<i32> {
    let index = pod.annotations().get(INDEX)?.parse().ok()?;
    (0..spec.completions.unwrap_or(0)).contains(&index).then_some(index)
}

/// How often the pods of an index failed before this one: counted, and ignored.
pub fn earlier_failures(pod: &Pod) -> (i32, i32) {
    let count = |name: &str| pod.annotations().get(name).and_then(|count| count.parse().ok()).unwrap_or(0);
    (count(FAILURES), count(IGNORED_FAILURES))
}

/// When a pod ended, as far as it says.
pub fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ended = statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    let latest = ended.map(|time| time.0).max();
    latest.or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|time| time.0))
}

/// How long a pod that takes the place of one that failed must wait, after so many failures in a row, the last at that time.
pub fn backoff(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let delay = BACKOFF.0.saturating_mul(1 << (failures - 1).min(16)).min(BACKOFF.1);
    let passed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    delay.saturating_sub(passed)
}

/// A pod that is to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewPod {
    /// Its completion index.
    pub index: Option<i32>,
    /// How often the index failed, where that is limited: counted, and ignored.
    pub failures: Option<(i32, i32)>,
}

/// The pod as its job wants it.
pub fn build(job: &Job, new: NewPod) -> Pod {
    let template = spec(job).template;
    let (name, namespace) = (job.name_any(), job.namespace().unwrap_or_default());
    let prefix = new.index.map_or_else(|| name.clone(), |index| format!("{name}-{index}"));
    let template = match new.index {
        Some(index) => with_index(template, index, &name),
        None => template,
    };
    let mut pod = pods::from_template(&template, &namespace, &prefix, ownership::owner_reference(job));
    pod.finalizers_mut().push(FINALIZER.to_owned());
    if let Some((counted, ignored)) = new.failures {
        pod.annotations_mut().insert(FAILURES.to_owned(), counted.to_string());
        if ignored > 0 {
            pod.annotations_mut().insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
        }
    }
    pod
}

fn with_index(mut template: PodTemplateSpec, index: i32, job: &str) -> PodTemplateSpec {
    let meta = template.metadata.get_or_insert_default();
    meta.annotations.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    meta.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let spec = template.spec.get_or_insert_default();
    spec.hostname = Some(format!("{job}-{index}"));
    let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
    containers.for_each(add_variable);
    template
}

fn add_variable(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), api_version: None };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    env.push(EnvVar { name: INDEX_VARIABLE.to_owned(), value_from: Some(source), ..EnvVar::default() });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_indexed_pod_knows_its_index() {
        let job: Job = serde_json::from_value(json!({
            "metadata": { "name": "sum", "namespace": "default", "uid": "u" },
            "spec": { "completionMode": "Indexed", "completions": 3, "template": { "spec": { "containers": [{ "name": "c" }] } } },
        }))
        .unwrap();
        let pod = build(&job, NewPod { index: Some(2), failures: Some((1, 0)) });
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("sum-2-"));
        assert_eq!((index(&spec(&job), &pod), earlier_failures(&pod)), (Some(2), (1, 0)));
        assert!(is_tracked(&pod));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.hostname.as_deref(), Some("sum-2"));
        assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
        let plain = build(&job, NewPod::default());
        assert_eq!((plain.metadata.generate_name.as_deref(), index(&self::spec(&job), &plain)), (Some("sum-"), None));
    }

    #[test]
    fn waiting_doubles_with_each_failure() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (failures, now, seconds) in [(0, 0, 0), (1, 0, 10), (1, 4, 6), (2, 0, 20), (3, 100, 0), (20, 0, 600)] {
            assert_eq!(backoff(failures, at(0), at(now)).as_secs(), seconds, "{failures} {now}");
        }
    }
}
