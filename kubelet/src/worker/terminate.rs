//! The end of a pod: containers get their preStop hook and their grace, then the sandbox goes, then what lies on the node.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;

use super::apply::Error;
use super::{Input, Worker};
use crate::pod::plan::termination_order;
use crate::runtime::{Container, State};
use crate::{pod, volumes};

/// The least time between SIGTERM and SIGKILL, even when a hook used up the grace.
const MIN_GRACE: Duration = Duration::from_secs(2);

/// How ending a pod went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing of it runs.
    Stopped,
    /// It is to end sooner than was planned.
    Sooner,
}

fn grace_of(input: &Input) -> Duration {
    input.grace.unwrap_or_else(|| pod::grace_period(&input.pod))
}

impl Worker {
    /// Stops everything; done when the runtime says that nothing of the pod runs.
    pub(super) async fn terminate(&mut self, input: &Input) -> Result<Outcome, Error> {
        self.probes.stop_startup_and_liveness();
        let running: Vec<String> = self.view.running().map(|container| container.name.clone()).collect();
        for name in running {
            let note = format!("Stopping container {name}");
            self.agent.recorder.normal(&pod::reference(&input.pod), "Killing", note);
        }
        let grace = grace_of(input);
        let deadline = tokio::time::Instant::now() + grace;
        let mut newer = self.input.clone();
        let sooner =
            |input: &Input| tokio::time::Instant::now() + grace_of(input) < deadline && grace_of(input) < grace;
        tokio::select! {
            stopped = self.stop_all(&input.pod, Some(grace)) => stopped?,
            _ = newer.wait_for(sooner) => return Ok(Outcome::Sooner),
        }
        self.probes.stop_all();
        let uid = pod::uid(&input.pod).to_owned();
        volumes::remove_pod(&self.agent.root, &uid)
            .map_err(|source| Error::Volume(volumes::Failed { name: "of the pod".into(), source }))?;
        Ok(Outcome::Stopped)
    }

    /// Stops containers in their order, and the sandbox.
    pub(super) async fn stop_all(&mut self, pod: &Arc<Pod>, grace: Option<Duration>) -> Result<(), Error> {
        let grace = grace.unwrap_or_else(|| pod::grace_period(pod));
        let deadline = tokio::time::Instant::now() + grace;
        let mut stopped = Vec::new();
        for group in termination_order(pod, &self.view) {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now()).max(MIN_GRACE.min(grace));
            let stops = group.iter().map(|container| self.stop_container(pod, &container.id, &container.name, left));
            join_all(stops).await.into_iter().collect::<Result<Vec<()>, _>>()?;
            stopped.extend(group.into_iter().map(|container| container.id));
        }
        for id in stopped {
            self.refetch(&id).await?;
        }
        let sandboxes: Vec<String> = self.view.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
        for id in sandboxes {
            self.stop_sandbox(&id).await?;
        }
        self.acted = tokio::time::Instant::now();
        Ok(())
    }

    /// Stops a sandbox and takes down its network, once.
    pub(super) async fn stop_sandbox(&mut self, id: &str) -> Result<(), Error> {
        if !self.torn_down.contains(id) {
            self.agent.runtime.stop_sandbox(id).await?;
            self.torn_down.insert(id.to_owned());
        }
        if let Some(sandbox) = self.view.sandboxes.iter_mut().find(|sandbox| sandbox.id == id) {
            sandbox.ready = false;
        }
        Ok(())
    }

    /// Runs the preStop hook and stops the container, both within the grace period.
    pub(super) async fn stop_container(
        &self,
        pod: &Arc<Pod>,
        id: &str,
        name: &str,
        grace: Duration,
    ) -> Result<(), Error> {
        let mut left = grace;
        if grace > Duration::ZERO
            && let Some((_, spec)) = pod::container(pod, name)
            && self.view.containers.iter().any(|c| c.id == id && c.state == State::Running)
        {
            let began = tokio::time::Instant::now();
            self.pre_stop(pod, &spec, id, grace).await;
            left = grace.saturating_sub(began.elapsed()).max(MIN_GRACE.min(grace));
        }
        Ok(self.agent.runtime.stop_container(id, left).await?)
    }

    /// Removes what the pod leaves on the node, once the API has been told of its end.
    pub(super) async fn clean_up(&mut self, input: &Input) {
        let uid = pod::uid(&input.pod).to_owned();
        loop {
            match self.try_clean_up(input, &uid).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(pod = pod::name(&input.pod), %error, "the pod's remains cannot be removed yet");
                    self.pause().await;
                    self.observe_until_known().await;
                }
            }
        }
    }

    async fn try_clean_up(&mut self, input: &Input, uid: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        for id in self.view.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect::<Vec<_>>() {
            self.stop_sandbox(&id).await?;
        }
        let runtime = &self.agent.runtime;
        // A sandbox takes its containers with it.
        let outside = |container: &&Container| !self.view.sandboxes.iter().any(|s| s.id == container.sandbox_id);
        for container in self.view.containers.iter().filter(outside) {
            runtime.remove_container(&container.id).await?;
        }
        for sandbox in &self.view.sandboxes {
            runtime.remove_sandbox(&sandbox.id).await?;
        }
        volumes::remove_pod(&self.agent.root, uid)?;
        self.agent.cgroups.remove_pod(uid);
        let logs = self.agent.logs.join(pod::log_directory_name(&input.pod));
        match std::fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}
