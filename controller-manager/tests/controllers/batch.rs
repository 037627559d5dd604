//! Jobs, their pods' accounting, cron jobs, and what cleans up after them.

use std::sync::Arc;

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::fixture::{control_plane, create, template, until};
use crate::fleet::{Fleet, is_ready};

const INDEX: &str = "batch.kubernetes.io/job-completion-index";

fn job(spec: Value) -> Value {
    let mut template = template("work", "one");
    template["spec"]["restartPolicy"] = json!("Never");
    let mut all = json!({ "template": template });
    all.as_object_mut().expect("it is an object").extend(spec.as_object().cloned().unwrap_or_default());
    json!({ "metadata": { "name": "work" }, "spec": all })
}

fn jobs(client: &Client) -> Api<Job> {
    Api::namespaced(client.clone(), "default")
}

/// The status of a pod whose container ended with a code.
fn ended(exit_code: i32) -> Value {
    let state = json!({ "terminated": { "exitCode": exit_code, "finishedAt": Time(Timestamp::now()) } });
    let container =
        json!({ "name": "c", "image": "one", "imageID": "", "ready": false, "restartCount": 0, "state": state });
    json!({
        "phase": if exit_code == 0 { "Succeeded" } else { "Failed" },
        "conditions": [{ "type": "Ready", "status": "False" }],
        "containerStatuses": [container],
    })
}

fn index_of(pod: &Pod) -> Option<&str> {
    pod.annotations().get(INDEX).map(String::as_str)
}

/// The running pod of an index.
async fn running(fleet: &Fleet, index: &str) -> Result<Arc<Pod>> {
    let is_it = |pod: &&Arc<Pod>| index_of(pod) == Some(index) && is_ready(pod);
    fleet.until(&format!("a pod of index {index} runs"), "work", |pods| pods.iter().any(|pod| is_it(&pod))).await?;
    fleet.pods("work").iter().find(is_it).cloned().context("it was there")
}

fn has_condition(found: Option<&Job>, type_: &str, reason: &str) -> bool {
    let conditions = found.and_then(|job| job.status.as_ref()?.conditions.clone()).unwrap_or_default();
    conditions.iter().any(|one| one.type_ == type_ && one.status == "True" && one.reason.as_deref() == Some(reason))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_indexed_job_completes_is_counted_and_cleaned_up() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1"]).await?;
    let spec = json!({ "completionMode": "Indexed", "completions": 3, "parallelism": 2, "backoffLimitPerIndex": 1 });
    create::<Job>(&client, job(spec)).await?;
    let (first, second) = (running(&fleet, "0").await?, running(&fleet, "1").await?);
    assert_eq!(fleet.pods("work").len(), 2, "no more than may run at a time");
    assert_eq!(first.spec.as_ref().and_then(|spec| spec.hostname.as_deref()), Some("work-0"));
    fleet.finish(&first, ended(0)).await?;
    let third = running(&fleet, "2").await?;
    until("the first is counted", jobs(&client), "work", |found| {
        let status = found.and_then(|found| found.status.clone()).unwrap_or_default();
        (status.succeeded, status.completed_indexes.as_deref()) == (Some(1), Some("0"))
    })
    .await?;
    fleet.finish(&second, ended(0)).await?;
    fleet.finish(&third, ended(0)).await?;
    let done =
        until("it completes", jobs(&client), "work", |found| has_condition(found, "Complete", "CompletionsReached"))
            .await?
            .context("it was looked at")?;
    let status = done.status.context("it has one")?;
    assert_eq!((status.succeeded, status.failed, status.completed_indexes.as_deref()), (Some(3), None, Some("0-2")));
    assert!(status.completion_time.is_some() && status.active.is_none());
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    for pod in pods.list(&ListParams::default()).await?.items {
        assert!(pod.finalizers().is_empty(), "{} is held", pod.name_any());
    }
    let soon = Patch::Merge(json!({ "spec": { "ttlSecondsAfterFinished": 0 } }));
    jobs(&client).patch("work", &PatchParams::default(), &soon).await?;
    until("its time is over", jobs(&client), "work", |found| found.is_none()).await?;
    fleet.until("its pods go with it", "work", |pods| pods.is_empty()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_fails_by_its_limits_and_policies_and_counts_each_pod_once() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1"]).await?;
    let rules = json!([
        { "action": "Ignore", "onExitCodes": { "operator": "In", "values": [9] } },
        { "action": "FailJob", "onExitCodes": { "operator": "In", "values": [42] } },
    ]);
    let spec = json!({ "parallelism": 2, "completions": 2, "backoffLimit": 0, "podFailurePolicy": { "rules": rules } });
    create::<Job>(&client, job(spec)).await?;
    fleet.until("both run", "work", |pods| pods.len() == 2 && pods.iter().all(|pod| is_ready(pod))).await?;
    let pods = fleet.pods("work");
    fleet.finish(&pods[0], ended(9)).await?;
    let is_new = |pod: &Arc<Pod>| is_ready(pod) && pods.iter().all(|old| old.uid() != pod.uid());
    fleet.until("the ignored one is replaced", "work", |pods| pods.iter().any(is_new)).await?;
    fleet.finish(&pods[1], ended(42)).await?;
    let failed =
        until("it fails", jobs(&client), "work", |found| has_condition(found, "Failed", "PodFailurePolicy")).await?;
    let status = failed.and_then(|failed| failed.status).context("it was looked at")?;
    let target =
        status.conditions.iter().flatten().find(|one| one.type_ == "FailureTarget").context("it is said first")?;
    let name = pods[1].name_any();
    let message =
        format!("Container c for pod default/{name} failed with exit code 42 matching FailJob rule at index 1");
    assert_eq!(target.message.as_deref(), Some(&*message));
    assert_eq!((status.succeeded, status.active, status.terminating), (None, None, Some(0)));
    fleet.until("the other pod is gone", "work", |pods| pods.iter().all(|pod| !is_ready(pod))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_suspended_and_resumed_and_lets_its_pods_go_when_it_is_deleted() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1"]).await?;
    create::<Job>(&client, job(json!({ "parallelism": 2, "suspend": true }))).await?;
    until("it is suspended", jobs(&client), "work", |found| has_condition(found, "Suspended", "JobSuspended")).await?;
    assert!(fleet.pods("work").is_empty());
    let suspend = |on: bool| Patch::Merge(json!({ "spec": { "suspend": on } }));
    jobs(&client).patch("work", &PatchParams::default(), &suspend(false)).await?;
    fleet.until("both run", "work", |pods| pods.len() == 2 && pods.iter().all(|pod| is_ready(pod))).await?;
    jobs(&client).patch("work", &PatchParams::default(), &suspend(true)).await?;
    fleet.until("they are taken away", "work", |pods| pods.is_empty()).await?;
    let paused = until("none is counted", jobs(&client), "work", |found| {
        let status = found.and_then(|found| found.status.clone()).unwrap_or_default();
        (status.active, status.terminating) == (None, Some(0)) && has_condition(found, "Suspended", "JobSuspended")
    });
    assert_eq!(paused.await?.and_then(|job| job.status?.failed), None);
    jobs(&client).patch("work", &PatchParams::default(), &suspend(false)).await?;
    fleet.until("two run again", "work", |pods| pods.len() == 2 && pods.iter().all(|pod| is_ready(pod))).await?;
    jobs(&client).delete("work", &DeleteParams::background()).await?;
    until("the job goes", jobs(&client), "work", |found| found.is_none()).await?;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    for pod in fleet.pods("work") {
        until("nothing holds its pods", pods.clone(), &pod.name_any(), |found| found.is_none()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_makes_its_jobs_and_takes_them_along() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1"]).await?;
    let spec = job(json!({}))["spec"].clone();
    let cron = json!({
        "metadata": { "name": "tick" },
        "spec": { "schedule": "@every 1s", "concurrencyPolicy": "Forbid", "jobTemplate": { "spec": spec } },
    });
    create::<CronJob>(&client, cron).await?;
    let crons: Api<CronJob> = Api::namespaced(client.clone(), "default");
    let made = until("a job is made", crons.clone(), "tick", |found| {
        let status = found.and_then(|found| found.status.clone()).unwrap_or_default();
        status.last_schedule_time.is_some() && status.active.is_some_and(|active| active.len() == 1)
    });
    let made = made.await?.and_then(|cron| cron.status?.active?.pop()?.name).context("it was looked at")?;
    let suspend = Patch::Merge(json!({ "spec": { "suspend": true } }));
    crons.patch("tick", &PatchParams::default(), &suspend).await?;
    fleet.until("its pod runs", "work", |pods| pods.iter().any(|pod| is_ready(pod))).await?;
    for pod in fleet.pods("work") {
        fleet.finish(&pod, ended(0)).await?;
    }
    until("its success is noted", crons.clone(), "tick", |found| {
        let status = found.and_then(|found| found.status.clone()).unwrap_or_default();
        status.last_successful_time.is_some() && status.active.is_none()
    })
    .await?;
    crons.delete("tick", &DeleteParams::background()).await?;
    until("the job goes with it", jobs(&client), &made, |found| found.is_none()).await?;
    fleet.until("and its pod", "work", |pods| pods.is_empty()).await
}
