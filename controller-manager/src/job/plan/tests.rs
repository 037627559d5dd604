use kube::ResourceExt;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn job(spec: Value, status: Value) -> Job {
    let mut all = json!({ "template": { "spec": { "containers": [], "restartPolicy": "Never" } } });
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let job =
        json!({ "metadata": { "name": "sum", "namespace": "default", "uid": "job" }, "spec": all, "status": status });
    serde_json::from_value(job).unwrap()
}

/// A pod as `name state [index [failures]]`: `running`, `succeeded`, `failed`, `going`, with a `-` behind if it has no finalizer (any more).
fn pod(text: &str) -> Arc<Pod> {
    let mut words = text.split(' ');
    let (name, state) = (words.next().unwrap(), words.next().unwrap());
    let (state, is_tracked) = state.strip_suffix('-').map_or((state, true), |state| (state, false));
    let phase = match state {
        "succeeded" => "Succeeded",
        "failed" => "Failed",
        _ => "Running",
    };
    let mut annotations = serde_json::Map::new();
    for (key, word) in
        ["batch.kubernetes.io/job-completion-index", "batch.kubernetes.io/job-index-failure-count"].iter().zip(words)
    {
        annotations.insert((*key).to_owned(), word.into());
    }
    let finalizers = if is_tracked { vec![job_pods::FINALIZER] } else { Vec::new() };
    let terminated =
        json!({ "terminated": { "exitCode": i32::from(state == "failed"), "finishedAt": at(NOW - 5).to_string() } });
    let ended =
        json!([{ "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": terminated }]);
    let pod = json!({
        "metadata": {
            "name": name, "uid": name, "annotations": annotations, "finalizers": finalizers,
            "deletionTimestamp": (state == "going").then(|| at(NOW - 5).to_string()),
        },
        "status": { "phase": phase, "containerStatuses": if phase == "Running" { json!([]) } else { ended } },
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn run(job: &Job, pods: &[&str], failures: Failures) -> Plan {
    let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
    let released = HashSet::new();
    plan(&Observed { job, pods: &pods, released: &released, may_act: true, failures, now: at(NOW) })
}

fn names(pods: &[Arc<Pod>]) -> Vec<String> {
    pods.iter().map(|pod| pod.name_any()).collect()
}

fn indexes(plan: &Plan) -> Vec<i32> {
    plan.create.iter().filter_map(|new| new.index).collect()
}

/// The conditions that hold, with their reasons.
fn conditions(plan: &Plan) -> Vec<String> {
    let all = plan.status.conditions.iter().flatten().filter(|one| one.status == "True");
    all.map(|one| format!("{} {}", one.type_, one.reason.clone().unwrap_or_default())).collect()
}

fn quiet() -> Failures {
    Failures::default()
}

#[test]
fn as_many_pods_run_as_are_wanted_and_still_needed() {
    for (spec, pods, created, discarded) in [
        (json!({ "parallelism": 3 }), &[][..], 3, 0),
        (json!({ "parallelism": 3, "completions": 2 }), &[], 2, 0),
        (json!({ "parallelism": 2, "completions": 5 }), &["a running"], 1, 0),
        (json!({ "parallelism": 1, "completions": 5 }), &["a running", "b running"], 0, 1),
        (json!({ "parallelism": 2, "completions": 2 }), &["a succeeded", "b running"], 0, 0),
        (json!({ "parallelism": 2 }), &["a succeeded", "b running"], 0, 0),
        (json!({ "parallelism": 2, "suspend": true }), &["a running"], 0, 1),
        (json!({ "parallelism": 2, "podReplacementPolicy": "Failed" }), &["a going"], 1, 0),
        (json!({ "parallelism": 0 }), &[], 0, 0),
    ] {
        let plan = run(&job(spec.clone(), json!({})), pods, quiet());
        assert_eq!((plan.create.len(), plan.discard.len()), (created, discarded), "{spec} {pods:?}");
        assert!(plan.delete.is_empty());
    }
}

#[test]
fn a_pod_is_counted_once_over_its_three_steps() {
    let spec = json!({ "completions": 3, "parallelism": 1 });
    let first = run(&job(spec.clone(), json!({})), &["a succeeded", "b failed"], quiet());
    let named = first.status.uncounted_terminated_pods.clone().unwrap();
    assert_eq!((named.succeeded, named.failed), (Some(vec!["a".into()]), Some(vec!["b".into()])));
    assert_eq!((first.status.succeeded, first.status.failed), (None, None));
    assert_eq!(names(&first.release), ["a", "b"]);
    assert_eq!(first.failures, Failures { count: 1, last: Some(at(NOW - 5)) });

    let status = serde_json::to_value(&first.status).unwrap();
    let again = run(&job(spec.clone(), status.clone()), &["a succeeded", "b failed"], first.failures);
    assert_eq!(again.status.uncounted_terminated_pods, first.status.uncounted_terminated_pods);
    assert_eq!(again.failures, first.failures, "it is known already");

    let second = run(&job(spec.clone(), status), &["a succeeded-"], first.failures);
    assert_eq!((second.status.succeeded, second.status.failed), (Some(1), Some(1)));
    assert_eq!(second.status.uncounted_terminated_pods, Some(UncountedTerminatedPods::default()));

    let status = serde_json::to_value(&second.status).unwrap();
    let third = run(&job(spec, status), &["a succeeded-"], first.failures);
    assert_eq!((third.status.succeeded, third.status.failed), (Some(1), Some(1)));
    assert!(third.release.is_empty());
}

#[test]
fn what_the_cache_has_not_shown_yet_is_not_counted_twice() {
    let job = job(json!({ "completions": 2 }), json!({ "succeeded": 1, "uncountedTerminatedPods": {} }));
    let pods = [pod("a succeeded")];
    let released = HashSet::from(["a".to_owned()]);
    let plan =
        plan(&Observed { job: &job, pods: &pods, released: &released, may_act: true, failures: quiet(), now: at(NOW) });
    assert_eq!((plan.status.succeeded, plan.release.len()), (Some(1), 0));
}

#[test]
fn a_job_completes_when_all_is_counted_and_gone() {
    let spec = json!({ "completions": 1 });
    let plan = run(&job(spec.clone(), json!({})), &["a succeeded"], quiet());
    assert_eq!(conditions(&plan), ["SuccessCriteriaMet CompletionsReached"]);
    let status = serde_json::to_value(&plan.status).unwrap();
    let plan = run(&job(spec, status), &["a succeeded-"], quiet());
    assert_eq!(conditions(&plan), ["SuccessCriteriaMet CompletionsReached", "Complete CompletionsReached"]);
    assert_eq!((plan.status.succeeded, plan.status.completion_time.clone()), (Some(1), Some(Time(at(NOW)))));
    let over = job(json!({}), serde_json::to_value(&plan.status).unwrap());
    assert_eq!(run(&over, &["a succeeded-"], quiet()).create, []);
    assert_eq!(names(&run(&over, &["late failed"], quiet()).release), ["late"], "nothing is held any more");
}

#[test]
fn limits_end_a_job_and_its_pods() {
    let started = |seconds_ago: i64| json!({ "startTime": at(NOW - seconds_ago).to_string() });
    for (spec, status, pods, reason) in [
        (json!({ "backoffLimit": 1 }), json!({ "failed": 1 }), &["a failed", "b running"][..], "BackoffLimitExceeded"),
        (json!({ "activeDeadlineSeconds": 60 }), started(60), &["b running"], "DeadlineExceeded"),
    ] {
        let plan = run(&job(spec, status), pods, quiet());
        assert_eq!(conditions(&plan), [format!("FailureTarget {reason}")]);
        assert_eq!(names(&plan.delete), ["b"]);
        assert!(plan.create.is_empty());
    }
    let plan = run(&job(json!({ "activeDeadlineSeconds": 60 }), started(20)), &["b running"], quiet());
    assert_eq!(plan.recheck, Some(Duration::from_secs(40)));
    let ending = json!({ "conditions": [{ "type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded", "message": "m" }], "failed": 2 });
    let plan = run(&job(json!({}), ending), &[], quiet());
    assert_eq!(conditions(&plan), ["FailureTarget BackoffLimitExceeded", "Failed BackoffLimitExceeded"]);
}

#[test]
fn failures_wait_longer_and_longer() {
    let job = job(json!({ "parallelism": 1 }), json!({ "failed": 1 }));
    let failures = Failures { count: 2, last: Some(at(NOW - 5)) };
    let plan = run(&job, &[], failures);
    assert_eq!((plan.create.len(), plan.recheck), (0, Some(Duration::from_secs(15))));
    let later = Failures { count: 2, last: Some(at(NOW - 20)) };
    assert_eq!(run(&job, &[], later).create.len(), 1);
}

#[test]
fn restarts_within_a_pod_count_where_they_happen() {
    let spec = json!({ "backoffLimit": 2, "template": { "spec": { "containers": [], "restartPolicy": "OnFailure" } } });
    let mut restarted = Arc::unwrap_or_clone(pod("a running"));
    let status = json!([{ "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 2 }]);
    restarted.status.as_mut().unwrap().container_statuses = serde_json::from_value(status).unwrap();
    let (job, pods, released) = (job(spec, json!({})), [Arc::new(restarted)], HashSet::new());
    let plan =
        plan(&Observed { job: &job, pods: &pods, released: &released, may_act: true, failures: quiet(), now: at(NOW) });
    assert_eq!(conditions(&plan), ["FailureTarget BackoffLimitExceeded"]);
}

#[test]
fn every_index_gets_its_pod_and_is_completed_once() {
    let spec = json!({ "completionMode": "Indexed", "completions": 5, "parallelism": 2 });
    let plan = run(&job(spec.clone(), json!({})), &[], quiet());
    assert_eq!(indexes(&plan), [0, 1]);
    let plan = run(&job(spec.clone(), json!({ "completedIndexes": "0" })), &["b running 1"], quiet());
    assert_eq!(indexes(&plan), [2]);
    let plan = run(&job(spec.clone(), json!({})), &["a succeeded 0", "b succeeded 1", "twin running 1"], quiet());
    assert_eq!((plan.status.completed_indexes.as_deref(), plan.status.succeeded), (Some("0,1"), Some(2)));
    assert_eq!(names(&plan.discard), ["twin"]);
    let plan = run(&job(spec.clone(), json!({})), &["a running 0", "b running 0"], quiet());
    assert_eq!(plan.discard.len(), 1, "one of two of an index is too many");
    let plan = run(&job(spec, json!({})), &["a failed", "b failed 9"], quiet());
    assert_eq!(plan.status.uncounted_terminated_pods, Some(UncountedTerminatedPods::default()), "they have no index");
    assert_eq!(plan.release.len(), 2);
}

#[test]
fn an_index_may_fail_as_often_as_allowed_and_then_is_given_up() {
    let spec = json!({ "completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimit": 99, "backoffLimitPerIndex": 1 });
    let plan = run(&job(spec.clone(), json!({})), &["a failed 0 0", "b running 1 0", "c succeeded 2 0"], quiet());
    assert_eq!(plan.recheck, Some(Duration::from_secs(5)), "ten seconds from when it failed");
    assert_eq!(names(&plan.release), ["c"], "the failed one stays until its successor is there");
    assert_eq!(plan.status.failed_indexes.as_deref(), Some(""));
    let plan = run(
        &job(spec.clone(), json!({ "completedIndexes": "2" })),
        &["a failed 0 0", "a2 running 0 1", "b running 1 0"],
        quiet(),
    );
    assert_eq!(names(&plan.release), ["a"]);
    let plan = run(
        &job(spec.clone(), json!({ "completedIndexes": "2", "failed": 1 })),
        &["a2 failed 0 1", "b running 1 0"],
        quiet(),
    );
    assert_eq!((plan.status.failed_indexes.as_deref(), names(&plan.release)), (Some("0"), vec!["a2".to_owned()]));
    assert!(plan.create.is_empty());
    let plan =
        run(&job(spec.clone(), json!({ "completedIndexes": "1,2", "failedIndexes": "0", "failed": 2 })), &[], quiet());
    assert_eq!(conditions(&plan), ["FailureTarget FailedIndexes", "Failed FailedIndexes"]);
    let mut strict = spec;
    strict["maxFailedIndexes"] = json!(0);
    let plan = run(&job(strict, json!({})), &["a failed 0 1", "b running 1 0"], quiet());
    assert_eq!(conditions(&plan), ["FailureTarget MaxFailedIndexesExceeded"]);
    assert_eq!(names(&plan.delete), ["b"]);
}

#[test]
fn policies_decide_over_failure_and_success() {
    let rule =
        |action: &str| json!({ "rules": [{ "action": action, "onExitCodes": { "operator": "In", "values": [1] } }] });
    let plan =
        run(&job(json!({ "podFailurePolicy": rule("FailJob") }), json!({})), &["a failed", "b running"], quiet());
    assert_eq!(conditions(&plan), ["FailureTarget PodFailurePolicy"]);
    let plan =
        run(&job(json!({ "podFailurePolicy": rule("Ignore"), "backoffLimit": 0 }), json!({})), &["a failed"], quiet());
    assert!(conditions(&plan).is_empty());
    assert_eq!((names(&plan.release), plan.failures.count), (vec!["a".to_owned()], 0));
    let indexed = json!({ "completionMode": "Indexed", "completions": 3, "successPolicy": { "rules": [{ "succeededIndexes": "1" }] } });
    let plan = run(&job(indexed, json!({})), &["a running 0", "b succeeded 1"], quiet());
    assert_eq!(conditions(&plan), ["SuccessCriteriaMet SuccessPolicy"]);
    assert_eq!(names(&plan.delete), ["a"]);
}

#[test]
fn a_pod_that_is_going_counts_as_failed_unless_only_failed_ones_do() {
    let plan = run(&job(json!({}), json!({})), &["a going"], quiet());
    assert_eq!(names(&plan.release), ["a"]);
    assert_eq!(plan.status.uncounted_terminated_pods.unwrap().failed, Some(vec!["a".into()]));
    let plan = run(&job(json!({ "podReplacementPolicy": "Failed" }), json!({})), &["a going"], quiet());
    assert!(plan.release.is_empty());
    assert_eq!((plan.status.terminating, plan.create.len()), (Some(1), 0));
}
