//! Learning what the runtime has of the pod. Only what changed since the last look is asked for in detail.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use proto::cri as api;

use super::Worker;
use crate::pod;
use crate::runtime::container_config::termination_message_path;
use crate::runtime::{Container, Error, Listing, PodView, Sandbox, State, labels};

/// Longest last words of a container.
const MAX_MESSAGE: usize = 4096;
/// Most of the log that stands in for them.
const MAX_LOG_TAIL: usize = 2048;

/// Waits for the half of the runtime that speaks CRI, which learns of an end a little later than those who follow its events.
const SETTLE: [Duration; 6] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
];

fn from_nanos(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn some_nanos(nanos: i64) -> Option<Timestamp> {
    (nanos > 0).then(|| from_nanos(nanos))
}

pub fn state_of(state: api::ContainerState) -> State {
    match state {
        api::ContainerState::ContainerCreated => State::Created,
        api::ContainerState::ContainerRunning => State::Running,
        api::ContainerState::ContainerExited => State::Exited,
        api::ContainerState::ContainerUnknown => State::Unknown,
    }
}

/// A container from its status.
pub fn container(sandbox: &str, status: &api::ContainerStatus) -> Container {
    let metadata = status.metadata.clone().unwrap_or_default();
    let annotation = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    Container {
        id: status.id.clone(),
        sandbox_id: sandbox.to_owned(),
        name: metadata.name,
        attempt: metadata.attempt,
        hash: annotation(labels::CONTAINER_HASH),
        state: state_of(status.state()),
        created_at: from_nanos(status.created_at),
        started_at: some_nanos(status.started_at),
        finished_at: some_nanos(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason.clone(),
        message: status.message.clone(),
        image: status
            .image
            .as_ref()
            .map(|image| {
                if image.user_specified_image.is_empty() {
                    image.image.clone()
                } else {
                    image.user_specified_image.clone()
                }
            })
            .unwrap_or_default(),
        image_id: if status.image_id.is_empty() { status.image_ref.clone() } else { status.image_id.clone() },
        log_path: status.log_path.clone(),
        applied: status.resources.as_ref().and_then(|resources| resources.linux.clone()),
        unhealthy: false,
    }
}

impl Worker {
    /// The first look. Of a pod that is not among those which the runtime had at the kubelet's start there can be nothing.
    pub(super) async fn first_look(&mut self) {
        let mut found = self.agent.found.subscribe();
        let uid = pod::uid(&self.pod()).to_owned();
        let known = match found.wait_for(Option::is_some).await {
            Ok(found) => found.as_ref().is_some_and(|found| found.contains(&uid)),
            Err(_) => true,
        };
        if known {
            self.observe_until_known().await;
        }
    }

    /// Looks until the runtime answers: nothing can be decided without.
    pub(super) async fn observe_until_known(&mut self) {
        loop {
            match self.observe().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(pod = pod::name(&self.pod()), %error, "the runtime does not say what it has of the pod");
                    self.pause().await;
                }
            }
        }
    }

    /// Takes in what others left: ends of containers, and a listing unless the worker has done something since.
    pub(super) async fn take_news(&mut self) {
        let news = std::mem::take(&mut *self.shared.news.lock());
        for id in &news.ended {
            if let Err(error) = self.look_at_ended(id).await {
                tracing::debug!(id, %error, "a container that ended cannot be looked at");
                return self.observe_until_known().await;
            }
        }
        let Some(listed) = news.listed.filter(|listed| listed.at > self.acted) else { return };
        if let Err(error) = self.take_in(&listed.listing).await {
            tracing::debug!(%error, "what the runtime listed cannot be looked at");
            self.observe_until_known().await;
        }
    }

    async fn look_at_ended(&mut self, id: &str) -> Result<(), Error> {
        if self.view.sandboxes.iter().any(|sandbox| sandbox.id == id && sandbox.ready) {
            for wait in SETTLE {
                self.observe().await?;
                if !self.view.sandboxes.iter().any(|sandbox| sandbox.id == id && sandbox.ready) {
                    break;
                }
                tokio::time::sleep(wait).await;
            }
            return Ok(());
        }
        let runs = |view: &PodView| view.running().any(|container| container.id == id);
        for wait in SETTLE {
            if !runs(&self.view) {
                break;
            }
            self.refetch(id).await?;
            if runs(&self.view) {
                tokio::time::sleep(wait).await;
            }
        }
        self.publish();
        Ok(())
    }

    async fn observe(&mut self) -> Result<(), Error> {
        let listing = self.agent.runtime.list(Some(pod::uid(&self.pod()))).await?;
        self.take_in(&listing).await
    }

    async fn take_in(&mut self, listing: &Listing) -> Result<(), Error> {
        let mut view = PodView::default();
        for sandbox in &listing.sandboxes {
            view.sandboxes.push(self.sandbox(sandbox).await?);
        }
        let known: HashMap<String, Container> =
            self.view.containers.iter().map(|c| (c.id.clone(), c.clone())).collect();
        for listed in &listing.containers {
            let old = known.get(&listed.id).filter(|old| old.state == state_of(listed.state()));
            let container = match old {
                Some(old) => Some(old.clone()),
                None => self.fetch(&listed.pod_sandbox_id, &listed.id).await?,
            };
            view.containers.extend(container);
        }
        view.sort();
        self.view = view;
        self.publish();
        Ok(())
    }

    async fn sandbox(&self, listed: &api::PodSandbox) -> Result<Sandbox, Error> {
        let ready = listed.state() == api::PodSandboxState::SandboxReady;
        let known = self.view.sandboxes.iter().find(|sandbox| sandbox.id == listed.id);
        let ips = match known {
            Some(known) if !known.ips.is_empty() || !ready => known.ips.clone(),
            _ if ready && !pod::host_network(&self.pod()) => self.ips(&listed.id).await?,
            _ => Vec::new(),
        };
        Ok(Sandbox {
            id: listed.id.clone(),
            ready,
            created_at: from_nanos(listed.created_at),
            attempt: listed.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
            ips,
        })
    }

    pub(super) async fn ips(&self, sandbox: &str) -> Result<Vec<String>, Error> {
        let status = match self.agent.runtime.sandbox_status(sandbox).await {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            other => other?,
        };
        let network = status.network.unwrap_or_default();
        let first = (!network.ip.is_empty()).then_some(network.ip);
        Ok(first.into_iter().chain(network.additional_ips.into_iter().map(|ip| ip.ip)).collect())
    }

    /// The container in detail; `None` when it is gone by now.
    pub(super) async fn fetch(&self, sandbox: &str, id: &str) -> Result<Option<Container>, Error> {
        let status = match self.agent.runtime.container_status(id).await {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let mut container = container(sandbox, &status);
        let pod = self.pod();
        if container.applied.is_none() {
            container.applied = self.believed(&pod, &container.name);
        }
        if let Some((_, spec)) = pod::container(&pod, &container.name) {
            container.image = spec.image.clone().filter(|_| container.image.is_empty()).unwrap_or(container.image);
        }
        if container.state == State::Exited
            && let Some(words) = self.last_words(&status).await
        {
            container.message = words;
        }
        Ok(Some(container))
    }

    /// What the container left in its termination message file, or the end of its log where its policy says so.
    async fn last_words(&self, status: &api::ContainerStatus) -> Option<String> {
        let pod = self.pod();
        let name = &status.metadata.as_ref()?.name;
        let (_, spec) = pod::container(&pod, name)?;
        let path = termination_message_path(&spec);
        let host = status.mounts.iter().find(|mount| mount.container_path == path).map(|mount| mount.host_path.clone());
        if let Some(host) = host
            && let Ok(text) = tokio::fs::read(&host).await
            && !text.is_empty()
        {
            return Some(String::from_utf8_lossy(&text[..text.len().min(MAX_MESSAGE)]).into_owned());
        }
        let falls_back = spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if falls_back && (status.exit_code != 0 || status.reason == "OOMKilled") {
            return crate::logs::tail(std::path::Path::new(&status.log_path), 80, MAX_LOG_TAIL).ok();
        }
        None
    }
}
