//! CronJobs: jobs at times that a schedule gives.

mod plan;
mod schedule;

use async_trait::async_trait;
use component_base::client::{is_already_exists, is_namespace_terminating};
use component_base::events::{EventType, Recorder, reference};
use component_base::informer::{Key, Store};
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{DeleteParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, ResourceExt};

use crate::context::Context;
use crate::podcontrol::message;
use crate::{children, ownership, writes};
use plan::plan;

const COMPONENT: &str = "cronjob-controller";

struct CronJobs {
    client: Client,
    recorder: Recorder,
    crons: Store<CronJob>,
    jobs: Store<Job>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client(COMPONENT).await?;
    let recorder = ctx.recorder(&client, COMPONENT);
    let (crons, jobs) = (ctx.informers.get::<CronJob>(), ctx.informers.get::<Job>());
    children::index(&jobs);
    let queue = ctx.keys_of(&crons);
    let keys = queue.clone();
    jobs.on_change(move |change| {
        for job in [&change.old, &change.new].into_iter().flatten() {
            if let Some(owner) = ownership::controller_of(&job.metadata).filter(|owner| owner.kind == "CronJob") {
                keys.add(Key::new(job.namespace().unwrap_or_default(), owner.name.clone()));
            }
        }
    });
    futures::join!(crons.synced(), jobs.synced());
    let controller = CronJobs { client, recorder, crons: crons.store(), jobs: jobs.store() };
    ctx.run(controller, queue, ctx.options.controllers.concurrent_cron_job_syncs).await;
    Ok(())
}

#[async_trait]
impl Controller for CronJobs {
    type Key = Key;

    fn name(&self) -> &'static str {
        COMPONENT
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(cron) = self.crons.get(key) else { return Ok(Requeue::No) };
        let jobs = children::controlled(&self.jobs, &cron.metadata);
        let mut planned = plan(&cron, &jobs, Timestamp::now());
        let about = reference(cron.as_ref());
        for (event_type, reason, note) in planned.events {
            self.recorder.event(&about, event_type, reason, "", note);
        }
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        for job in &planned.delete {
            self.delete(&about, &api, job).await?;
        }
        if let Some(job) = planned.create
            && let Some(made) = self.create(&about, &api, &job).await?
        {
            planned.status.active.get_or_insert_default().push(reference(&made));
        }
        if cron.status.as_ref() != Some(&planned.status) {
            let changed = CronJob { status: Some(planned.status), ..(*cron).clone() };
            writes::replace_status(&self.client, &changed).await?;
        }
        Ok(planned.recheck.map_or(Requeue::No, Requeue::After))
    }
}

impl CronJobs {
    /// Makes a job; `None` if it is there already, or its namespace is going.
    async fn create(&self, about: &ObjectReference, api: &Api<Job>, job: &Job) -> Result<Option<Job>, Error> {
        match api.create(&PostParams::default(), job).await {
            Ok(made) => {
                self.recorder.normal(about, "SuccessfulCreate", format!("Created job {}", made.name_any()));
                Ok(Some(made))
            }
            Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) => Ok(None),
            Err(error) => {
                let note = format!("Error creating job: {}", message(&error));
                self.recorder.event(about, EventType::Warning, "FailedCreate", "", note);
                Err(error.into())
            }
        }
    }

    /// Deletes a job, with its pods.
    async fn delete(&self, about: &ObjectReference, api: &Api<Job>, job: &Job) -> Result<(), Error> {
        let preconditions = Preconditions { uid: job.metadata.uid.clone(), resource_version: None };
        let params =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
        match component_base::client::unless_gone(
            api.delete(&job.name_any(), &params.preconditions(preconditions)).await,
        ) {
            Ok(Some(_)) => {
                self.recorder.normal(about, "SuccessfulDelete", format!("Deleted job {}", job.name_any()));
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                let note = format!("Deleted job: {}", message(&error));
                self.recorder.event(about, EventType::Warning, "FailedDelete", "", note);
                Err(error.into())
            }
        }
    }
}
