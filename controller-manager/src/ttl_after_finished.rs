//! Jobs that have ended are deleted after the time that they ask for (`ttlSecondsAfterFinished`).

use std::time::Duration;

use async_trait::async_trait;
use component_base::client::{is_conflict, is_not_found};
use component_base::informer::{Key, Store};
use component_base::runner::{Controller, Error, Requeue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::{Api, Client};

use crate::context::Context;
use crate::job;

struct TtlAfterFinished {
    client: Client,
    jobs: Store<Job>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("ttl-after-finished-controller").await?;
    let jobs = ctx.informers.get::<Job>();
    let queue = ctx.keys_of(&jobs);
    jobs.synced().await;
    let controller = TtlAfterFinished { client, jobs: jobs.store() };
    ctx.run(controller, queue, ctx.options.controllers.concurrent_ttl_after_finished_syncs).await;
    Ok(())
}

/// How long a job may stay; `None` if it has not ended, or stays for ever.
fn time_left(job: &Job, now: Timestamp) -> Option<Duration> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let ended = job::finished(job.status.as_ref()?)?.last_transition_time.as_ref()?.0;
    let end = ended.saturating_add(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX);
    Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
}

#[async_trait]
impl Controller for TtlAfterFinished {
    type Key = Key;

    fn name(&self) -> &'static str {
        "ttl-after-finished-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(left) = self.jobs.get(key).and_then(|job| time_left(&job, Timestamp::now())) else {
            return Ok(Requeue::No);
        };
        if !left.is_zero() {
            return Ok(Requeue::After(left));
        }
        // The time may have been made longer since: what counts is what the server has.
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(job) = api.get_opt(&key.name).await? else { return Ok(Requeue::No) };
        match time_left(&job, Timestamp::now()) {
            None => return Ok(Requeue::No),
            Some(left) if !left.is_zero() => return Ok(Requeue::After(left)),
            Some(_) => {}
        }
        let preconditions =
            Preconditions { uid: job.metadata.uid.clone(), resource_version: job.metadata.resource_version.clone() };
        let params =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
        match api.delete(&key.name, &params.preconditions(preconditions)).await {
            Err(error) if is_conflict(&error) => Ok(Requeue::Backoff),
            Err(error) if !is_not_found(&error) => Err(error.into()),
            _ => Ok(Requeue::No),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn time_counts_from_the_end() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let job = |ttl: Option<i32>, condition: &str| -> Job {
            let condition = json!({ "type": condition, "status": "True", "lastTransitionTime": at(100).to_string() });
            let spec = json!({ "template": {}, "ttlSecondsAfterFinished": ttl });
            serde_json::from_value(json!({ "spec": spec, "status": { "conditions": [condition] } })).unwrap()
        };
        for (ttl, condition, now, expected) in [
            (None, "Complete", 500, None),
            (Some(60), "SuccessCriteriaMet", 500, None),
            (Some(60), "Complete", 130, Some(30)),
            (Some(60), "Failed", 500, Some(0)),
            (Some(0), "Failed", 100, Some(0)),
        ] {
            let left = time_left(&job(ttl, condition), at(now));
            assert_eq!(left, expected.map(Duration::from_secs), "{ttl:?} {condition} {now}");
        }
    }
}
