//! Carrying out a plan. Decides nothing: each step is one of the plan's, in its order; the first failure ends it, to be planned anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use proto::cri as api;

use super::Worker;
use crate::objects::Unavailable;
use crate::pod::plan::{Kill, PodPlan};
use crate::runtime::{Sandbox, State, sandbox_config};
use crate::volumes::{Context, PodVolumes};
use crate::{cgroups, pod, runtime, volumes};

/// Why a pod is not yet as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    #[error(transparent)]
    Cgroup(#[from] cgroups::Error),
    #[error(transparent)]
    Volume(#[from] volumes::Failed),
    #[error("{path}")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to create the pod's sandbox: {0}")]
    Sandbox(#[source] runtime::Error),
    #[error("failed to get the pod's runtime handler: {0}")]
    RuntimeClass(#[source] Unavailable),
    #[error("the container runtime does not support user namespaces (hostUsers: false)")]
    UserNamespaces,
    #[error("the pod is being ended")]
    Ending,
    #[error("container {name} does not start: {reason}: {message}")]
    Start { name: String, reason: String, message: String },
}

/// The limits that containers should have.
pub(super) type LimitsByName = BTreeMap<String, api::LinuxContainerResources>;

impl Worker {
    /// Carries out the plan; whether something was done, so that planning again may find more to do.
    pub(super) async fn apply(&mut self, pod: &Arc<Pod>, plan: &PodPlan, limits: &LimitsByName) -> Result<bool, Error> {
        let outcome = self.carry_out(pod, plan, limits).await;
        self.acted = tokio::time::Instant::now();
        outcome
    }

    async fn carry_out(&mut self, pod: &Arc<Pod>, plan: &PodPlan, limits: &LimitsByName) -> Result<bool, Error> {
        if plan.finished {
            self.stop_all(pod, None).await?;
            self.finished = true;
            return Ok(false);
        }
        let acts =
            !(plan.kill.is_empty() && plan.start.is_empty() && plan.update.is_empty()) || plan.create_sandbox.is_some();
        self.widen_cgroup(pod)?;
        self.kill_all(pod, &plan.kill).await?;
        // Also of a pod that only runs: after a restart of the kubelet its volumes have to be followed again.
        if acts || self.volumes.is_none() && self.view.ready_sandbox().is_some() {
            self.prepare(pod).await?;
        }
        if self.stale {
            self.refresh_volumes(pod).await?;
        }
        for id in &plan.stop_sandboxes {
            self.stop_sandbox(id).await?;
        }
        if let Some(attempt) = plan.create_sandbox {
            self.create_sandbox(pod, attempt).await?;
        }
        if !plan.update.is_empty() {
            self.update_all(&plan.update, limits).await?;
        }
        let mut first_failure = None;
        for start in &plan.start {
            if self.input.borrow().ends() {
                return Ok(false);
            }
            if let Err(error) = self.start(pod, start).await {
                first_failure.get_or_insert(error);
            }
        }
        match first_failure {
            Some(error) => Err(error),
            None => {
                self.narrow_cgroup(pod)?;
                if !acts {
                    self.remove_old_sandboxes().await?;
                }
                Ok(acts)
            }
        }
    }

    /// Sandboxes before the current one go with their last container.
    async fn remove_old_sandboxes(&mut self) -> Result<(), Error> {
        let is_empty = |id: &str| !self.view.containers.iter().any(|container| container.sandbox_id == id);
        let old = self.view.sandboxes.iter().skip(1).map(|sandbox| sandbox.id.clone());
        let old: Vec<String> = old.filter(|id| is_empty(id)).collect();
        for id in old {
            self.stop_sandbox(&id).await?;
            self.agent.runtime.remove_sandbox(&id).await?;
            self.view.sandboxes.retain(|sandbox| sandbox.id != id);
        }
        Ok(())
    }

    async fn kill_all(&mut self, pod: &Arc<Pod>, kills: &[Kill]) -> Result<(), Error> {
        let killed = join_all(kills.iter().map(|kill| self.kill(pod, kill))).await;
        for kill in kills {
            self.refetch(&kill.id).await?;
            if kill.unhealthy
                && let Some(dead) = self.view.containers.iter_mut().find(|container| container.id == kill.id)
            {
                dead.unhealthy = true;
            }
        }
        killed.into_iter().collect()
    }

    async fn kill(&self, pod: &Arc<Pod>, kill: &Kill) -> Result<(), Error> {
        self.agent.recorder.normal(&pod::reference(pod), "Killing", kill.message.clone());
        let grace = kill.grace.unwrap_or_else(|| pod::grace_period(pod));
        self.stop_container(pod, &kill.id, &kill.name, grace).await
    }

    /// Brings one container of the view up to date.
    pub(super) async fn refetch(&mut self, id: &str) -> Result<(), runtime::Error> {
        let Some(at) = self.view.containers.iter().position(|container| container.id == id) else { return Ok(()) };
        let sandbox = self.view.containers[at].sandbox_id.clone();
        match self.fetch(&sandbox, id).await? {
            Some(mut fresh) => {
                // A container that was made but never ran is as good as one that ended.
                if fresh.state == State::Created {
                    fresh.state = State::Exited;
                    fresh.exit_code = 128;
                    fresh.finished_at = Some(self.now());
                }
                self.view.containers[at] = fresh;
            }
            None => drop(self.view.containers.remove(at)),
        }
        Ok(())
    }

    /// Directories, cgroup and volumes: what has to be there before any container.
    async fn prepare(&mut self, pod: &Arc<Pod>) -> Result<(), Error> {
        if !self.prepared {
            let directory = volumes::pod_directory(&self.agent.root, pod::uid(pod));
            let logs = self.agent.logs.join(pod::log_directory_name(pod));
            for path in [&directory, &logs] {
                let failed = |source| Error::Io { path: path.display().to_string(), source };
                std::fs::create_dir_all(path).map_err(failed)?;
            }
            if self.agent.config.cgroups_per_qos {
                self.agent.cgroups.create_pod(pod)?;
                self.cgroup_limits = Some(cgroups::pod_limits(pod, self.agent.config.pod_pids_limit));
            }
            self.prepared = true;
        }
        self.set_up_volumes(pod).await
    }

    async fn set_up_volumes(&mut self, pod: &Arc<Pod>) -> Result<(), Error> {
        let made = match self.volumes.take() {
            Some(made) => Ok(made),
            None => PodVolumes::new(&self.agent.root, pod),
        };
        match made {
            Ok(made) => {
                self.volumes = Some(made);
                self.with_volumes(pod, false).await
            }
            Err(error) => Err(self.failed_mount(pod, error)),
        }
    }

    /// Brings the volumes that follow the API and the pod's own object up to date.
    async fn refresh_volumes(&mut self, pod: &Arc<Pod>) -> Result<(), Error> {
        self.with_volumes(pod, true).await?;
        self.stale = false;
        Ok(())
    }

    async fn with_volumes(&mut self, pod: &Arc<Pod>, refresh: bool) -> Result<(), Error> {
        let Some(mut volumes) = self.volumes.take() else { return Ok(()) };
        let agent = Arc::clone(&self.agent);
        let ips = self.view.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
        let host_ips = agent.host_ips.load_full();
        let facts = agent.facts(&ips, &host_ips);
        let context = Context { pod, facts, objects: &agent.objects, now: agent.clock.now() };
        let result = if refresh { volumes.refresh(context).await } else { volumes.set_up(context).await };
        self.volumes = Some(volumes);
        result.map_err(|error| self.failed_mount(pod, error))
    }

    fn failed_mount(&self, pod: &Arc<Pod>, error: volumes::Failed) -> Error {
        self.agent.recorder.warning(&pod::reference(pod), "FailedMount", chain(&error));
        Error::Volume(error)
    }

    pub(super) fn sandbox_config(&self, pod: &Pod, attempt: u32) -> api::PodSandboxConfig {
        let parent = if self.agent.config.cgroups_per_qos { self.agent.cgroups.parent_of(pod) } else { String::new() };
        let groups = sandbox_config::supplemental_groups(pod);
        sandbox_config::build(pod, attempt, &self.agent.sandbox_facts(), &parent, &groups)
    }

    async fn create_sandbox(&mut self, pod: &Arc<Pod>, attempt: u32) -> Result<(), Error> {
        if attempt > 0 {
            let note = "Pod sandbox changed, it will be killed and re-created.";
            self.agent.recorder.normal(&pod::reference(pod), "SandboxChanged", note);
        }
        let failed = |error: &dyn std::error::Error| {
            let note = format!("Failed to create pod sandbox: {}", chain(error));
            self.agent.recorder.warning(&pod::reference(pod), "FailedCreatePodSandBox", note);
        };
        let handler = match pod::spec(pod).runtime_class_name.as_deref().filter(|class| !class.is_empty()) {
            Some(class) => self.agent.objects.runtime_handler(class).await.map_err(|error| {
                failed(&error);
                Error::RuntimeClass(error)
            })?,
            None => String::new(),
        };
        if pod::spec(pod).host_users == Some(false) {
            failed(&Error::UserNamespaces);
            return Err(Error::UserNamespaces);
        }
        let config = self.sandbox_config(pod, attempt);
        let id = self.agent.runtime.run_sandbox(&config, &handler).await.map_err(|error| {
            failed(&error);
            Error::Sandbox(error)
        })?;
        self.view.sandboxes.insert(0, Sandbox { id, ready: true, created_at: self.now(), attempt, ips: Vec::new() });
        self.publish();
        if !pod::host_network(pod) {
            let id = self.view.sandboxes[0].id.clone();
            self.view.sandboxes[0].ips = self.ips(&id).await?;
        }
        Ok(())
    }
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
