//! What resources the pod was given, which may be others than those its object asks for now. Once they are, they are kept in a file: a
//! kubelet that starts again must not give what it has already refused, and has to know what is in force.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use proto::cri as api;
use serde::{Deserialize, Serialize};

use super::Worker;
use super::apply::{Error, LimitsByName};
use crate::cgroups::{self, Limits};
use crate::pod::plan::Update;
use crate::pod::resize::{self, Difference, Pending, Resources};
use crate::runtime::State;
use crate::runtime::container_config;
use crate::{pod, volumes};

const FILE: &str = "resources.json";

/// What is kept of a pod whose resources have changed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
struct Kept {
    given: Resources,
    /// What was last applied to the containers that have other resources than at first; runtimes that do not tell are believed to have it.
    applied: Resources,
}

/// How the pod's resources stand.
#[derive(Debug, Default)]
pub(super) struct Resize {
    kept: Option<Kept>,
    pub(super) pending: Option<Pending>,
    /// Why the last change failed.
    pub(super) error: Option<String>,
}

impl Worker {
    fn resources_file(&self) -> PathBuf {
        volumes::pod_directory(&self.agent.root, pod::uid(&self.pod())).join(FILE)
    }

    /// Reads what a kubelet before this one kept.
    pub(super) fn remember_resources(&mut self) {
        let path = self.resources_file();
        let read = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            read => read.and_then(|text| serde_json::from_slice(&text).map_err(io::Error::from)),
        };
        match read {
            Ok(kept) => self.resize.kept = Some(kept),
            Err(error) => tracing::warn!(path = %path.display(), %error, "what the pod was given is not known"),
        }
    }

    /// The pod with the resources that it was given: those it asks for, if it may have them.
    pub(super) fn given(&mut self, pod: &Arc<Pod>) -> Arc<Pod> {
        let wanted = resize::wanted(pod);
        let kept = self.resize.kept.get_or_insert_with(|| Kept { given: wanted.clone(), applied: wanted.clone() });
        if kept.given == wanted {
            self.resize.pending = None;
            return Arc::clone(pod);
        }
        let before = Arc::new(resize::with(pod, &kept.given));
        let places = &self.agent.places;
        match places.take(pod, |others| resize::decide(pod, others, &self.agent.allocatable).err()) {
            Ok(()) => {
                self.resize.pending = None;
                kept.given = wanted;
                self.keep_resources();
                Arc::clone(pod)
            }
            Err(pending) => {
                self.resize.pending = Some(pending);
                places.hold(&before);
                before
            }
        }
    }

    fn keep_resources(&self) {
        let (path, Some(kept)) = (self.resources_file(), &self.resize.kept) else { return };
        let written = serde_json::to_vec(kept).map_err(io::Error::from).and_then(|text| {
            let fresh = path.with_extension("new");
            std::fs::write(&fresh, text)?;
            std::fs::rename(&fresh, &path)
        });
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "what the pod was given cannot be kept");
        }
    }

    /// The container has what it was given now.
    pub(super) fn note_applied(&mut self, name: &str) {
        let Some(kept) = &mut self.resize.kept else { return };
        let Some(given) = kept.given.get(name) else { return };
        if kept.applied.get(name) != Some(given) {
            kept.applied.insert(name.to_owned(), given.clone());
            self.keep_resources();
        }
    }

    /// The limits that a container has if the runtime does not tell.
    pub(super) fn believed(&self, pod: &Pod, name: &str) -> Option<api::LinuxContainerResources> {
        let pod = match &self.resize.kept {
            Some(kept) => Cow::Owned(resize::with(pod, &kept.applied)),
            None => Cow::Borrowed(pod),
        };
        pod::container(&pod, name).map(|(_, container)| self.limits_of(&pod, &container))
    }

    fn limits_of(&self, given: &Pod, container: &Spec) -> api::LinuxContainerResources {
        container_config::resources(given, container, &self.agent.container_limits)
    }

    /// What the runtime should apply, by container.
    pub(super) fn limits(&self, given: &Pod) -> LimitsByName {
        let containers = pod::containers(given);
        containers.iter().map(|(_, container)| (container.name.clone(), self.limits_of(given, container))).collect()
    }

    /// The containers that run with other resources than they were given.
    pub(super) fn differing(&self, limits: &LimitsByName) -> BTreeSet<String> {
        let running = self.view.containers.iter().filter(|container| container.state == State::Running);
        let differs = |container: &&crate::runtime::Container| {
            let (applied, wanted) = (container.applied.as_ref(), limits.get(&container.name));
            applied.zip(wanted).is_some_and(|(applied, wanted)| Difference::between(applied, wanted).any())
        };
        running.filter(differs).map(|container| container.name.clone()).collect()
    }

    /// Makes the pod's cgroup wide enough for its containers with their resources from before and with their new ones.
    pub(super) fn widen_cgroup(&self, given: &Pod) -> Result<(), Error> {
        let own = cgroups::pod_limits(given, self.agent.config.pod_pids_limit);
        match self.cgroup_limits.filter(|before| *before != own) {
            Some(before) => Ok(self.agent.cgroups.limit_pod(given, widest(before, own))?),
            None => Ok(()),
        }
    }

    /// Makes the pod's cgroup as narrow as it should be.
    pub(super) fn narrow_cgroup(&mut self, given: &Pod) -> Result<(), Error> {
        let own = cgroups::pod_limits(given, self.agent.config.pod_pids_limit);
        if self.cgroup_limits.is_some_and(|before| before != own) {
            self.agent.cgroups.limit_pod(given, own)?;
            self.cgroup_limits = Some(own);
        }
        Ok(())
    }

    /// Gives containers their new resources.
    pub(super) async fn update_all(&mut self, updates: &[Update], limits: &LimitsByName) -> Result<(), Error> {
        let outcome = self.try_update_all(updates, limits).await;
        self.resize.error = outcome.as_ref().err().map(|error| super::chain(error));
        outcome
    }

    async fn try_update_all(&mut self, updates: &[Update], limits: &LimitsByName) -> Result<(), Error> {
        for update in updates {
            let Some(wanted) = limits.get(&update.name) else { continue };
            self.agent.runtime.update_resources(&update.id, wanted.clone()).await?;
            self.note_applied(&update.name);
            self.refetch(&update.id).await?;
        }
        Ok(())
    }
}

/// Limits that allow what either of two allows.
fn widest(a: Limits, b: Limits) -> Limits {
    // None is no limit.
    let wider = |a: Option<i64>, b: Option<i64>| a.zip(b).map(|(a, b)| a.max(b));
    Limits {
        shares: a.shares.max(b.shares),
        quota: wider(a.quota, b.quota),
        memory: wider(a.memory, b.memory),
        pids: wider(a.pids, b.pids),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_limits_the_wider_one_holds() {
        let limits = |quota, memory| Limits { shares: Some(2), quota, memory, pids: None };
        assert_eq!(widest(limits(Some(1), Some(9)), limits(Some(2), Some(3))), limits(Some(2), Some(9)));
        assert_eq!(widest(limits(None, Some(1)), limits(Some(2), None)), limits(None, None));
    }
}
