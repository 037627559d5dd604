//! The end of a pod: containers get their preStop hook and their grace, then the sandbox goes, then what lies on the node.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;

use super::apply::Error;
use super::{Input, Worker};
use crate::pod::plan::termination_order;
use crate::runtime::State;
use crate::{pod, volumes};

/// The least time between SIGTERM and SIGKILL, even when a hook used up the grace.
const MIN_GRACE: Duration = Duration::from_secs(2);

impl Worker {
    /// Stops everything; done when the runtime says that nothing of the pod runs.
    pub(super) async fn terminate(&mut self, input: &Input) -> Result<(), Error> {
        self.probes.stop_startup_and_liveness();
        let running: Vec<String> = self.view.running().map(|container| container.name.clone()).collect();
        for name in running {
            let note = format!("Stopping container {name}");
            self.agent.recorder.normal(&pod::reference(&input.pod), "Killing", note);
        }
        let grace = input.grace.or_else(|| u64::try_from(pod::grace_period(&input.pod)).ok().map(Duration::from_secs));
        self.stop_all(&input.pod, grace).await?;
        self.probes.stop_all();
        let uid = pod::uid(&input.pod).to_owned();
        volumes::remove_pod(&self.agent.root, &uid)
            .map_err(|source| Error::Volume(volumes::Failed { name: "of the pod".into(), source }))
    }

    /// Stops containers in their order, and the sandbox.
    pub(super) async fn stop_all(&mut self, pod: &Arc<Pod>, grace: Option<Duration>) -> Result<(), Error> {
        let grace = grace.unwrap_or_else(|| Duration::from_secs(u64::try_from(pod::grace_period(pod)).unwrap_or(0)));
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
        let sandboxes: Vec<String> = self.view.sandboxes.iter().filter(|s| s.ready).map(|s| s.id.clone()).collect();
        for id in sandboxes {
            self.agent.runtime.stop_sandbox(&id).await?;
        }
        for sandbox in &mut self.view.sandboxes {
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
                }
            }
        }
    }

    async fn try_clean_up(&mut self, input: &Input, uid: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let listing = self.agent.runtime.list(Some(uid)).await?;
        for container in &listing.containers {
            self.agent.runtime.remove_container(&container.id).await?;
        }
        for sandbox in &listing.sandboxes {
            self.agent.runtime.stop_sandbox(&sandbox.id).await?;
            self.agent.runtime.remove_sandbox(&sandbox.id).await?;
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
