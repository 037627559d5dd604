//! Learning that something changed in the runtime: from its events where it has them, and from one listing of everything each second.
//! Whoever differs from what its worker last saw is told to look; pods of no source are ended.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use component_base::shutdown::Shutdown;
use k8s_openapi::api::core::v1::Pod;
use proto::cri as api;

use super::{Listing, PodView, Runtime, State, labels};
use crate::pods::Pods;

/// Between listings when the runtime has no events.
const PERIOD: Duration = Duration::from_secs(1);
/// Between listings when it has.
const PERIOD_WITH_EVENTS: Duration = Duration::from_secs(20);
/// Wait before events are asked for again.
const RECONNECT: Duration = Duration::from_secs(5);

/// When the last listing succeeded, for `/healthz`: seconds since the epoch.
#[derive(Debug, Default)]
pub struct Health(AtomicI64);

impl Health {
    fn mark(&self) {
        self.0.store(jiff::Timestamp::now().as_second(), Ordering::Relaxed);
    }

    pub fn age(&self) -> i64 {
        jiff::Timestamp::now().as_second() - self.0.load(Ordering::Relaxed)
    }
}

/// Follows the runtime until shutdown. `sources_ready` says whether all sources have told their pods, so that others are orphans.
pub async fn run(pods: Pods, health: Arc<Health>, sources_ready: impl Fn() -> bool, shutdown: Shutdown) {
    let events = tokio::spawn(follow_events(pods.clone(), shutdown.clone()));
    let has_events = events_supported(pods.agent().runtime.as_ref()).await;
    let mut seen = HashSet::new();
    loop {
        let period = if has_events && health.age() < 60 { PERIOD_WITH_EVENTS } else { PERIOD };
        match pods.agent().runtime.list(None).await {
            Ok(listing) => {
                health.mark();
                compare(&pods, &listing, sources_ready(), &mut seen);
            }
            Err(error) => tracing::warn!(%error, "the runtime cannot be listed"),
        }
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = shutdown.cancelled() => break,
        }
    }
    events.abort();
}

async fn events_supported(runtime: &dyn Runtime) -> bool {
    runtime.events().await.is_ok()
}

async fn follow_events(pods: Pods, shutdown: Shutdown) {
    let mut wait = RECONNECT;
    while !shutdown.is_cancelled() {
        match pods.agent().runtime.events().await {
            Ok(mut stream) => {
                while let Ok(Some(event)) = stream.message().await {
                    let status = event.pod_sandbox_status.and_then(|status| status.metadata);
                    if let Some(handle) = status.and_then(|metadata| pods.get(&metadata.uid)) {
                        handle.resync.notify_one();
                    }
                }
            }
            Err(super::Error::Call(status)) if status.code() == tonic::Code::Unimplemented => return,
            Err(error) => {
                tracing::debug!(%error, "the runtime's events cannot be followed");
                wait = (wait * 2).min(Duration::from_secs(60));
            }
        }
        tokio::time::sleep(wait).await;
    }
}

fn uid_of(labels: &HashMap<String, String>) -> &str {
    labels.get(labels::POD_UID).map_or("", String::as_str)
}

/// Tells the workers whose view differs, and ends orphans that were there twice in a row.
fn compare(pods: &Pods, listing: &Listing, sources_ready: bool, seen: &mut HashSet<String>) {
    let mut by_pod: HashMap<&str, (Vec<&api::PodSandbox>, Vec<&api::Container>)> = HashMap::new();
    for sandbox in &listing.sandboxes {
        by_pod.entry(uid_of(&sandbox.labels)).or_default().0.push(sandbox);
    }
    for container in &listing.containers {
        by_pod.entry(uid_of(&container.labels)).or_default().1.push(container);
    }
    by_pod.remove("");
    for handle in pods.handles() {
        let uid = crate::pod::uid(&handle.input.borrow().pod).to_owned();
        let empty = (Vec::new(), Vec::new());
        let (sandboxes, containers) = by_pod.get(uid.as_str()).unwrap_or(&empty);
        if differs(&handle.shared.view.lock(), sandboxes, containers) {
            handle.resync.notify_one();
        }
    }
    let mut orphans = HashSet::new();
    if sources_ready {
        for (uid, (sandboxes, containers)) in by_pod.iter().filter(|(uid, _)| pods.get(uid).is_none()) {
            if seen.contains(*uid) {
                pods.adopt_to_end(orphan(uid, sandboxes, containers));
            }
            orphans.insert((*uid).to_owned());
        }
    }
    *seen = orphans;
}

/// Whether a worker's view is not what is listed. Pure.
fn differs(view: &PodView, sandboxes: &[&api::PodSandbox], containers: &[&api::Container]) -> bool {
    let ready = |sandbox: &api::PodSandbox| sandbox.state() == api::PodSandboxState::SandboxReady;
    let same_sandbox = |listed: &api::PodSandbox| {
        view.sandboxes.iter().any(|known| known.id == listed.id && known.ready == ready(listed))
    };
    let same_container = |listed: &api::Container| {
        let state = crate::worker::state_of(listed.state());
        view.containers.iter().any(|known| {
            // What failed to start counts as ended here, and as made in the runtime.
            known.id == listed.id && (known.state == state || state == State::Created && known.state == State::Exited)
        })
    };
    view.sandboxes.len() != sandboxes.len()
        || view.containers.len() != containers.len()
        || !sandboxes.iter().all(|sandbox| same_sandbox(sandbox))
        || !containers.iter().all(|container| same_container(container))
}

/// As much of the pod as its labels say: enough to end it.
fn orphan(uid: &str, sandboxes: &[&api::PodSandbox], containers: &[&api::Container]) -> Pod {
    let labels = sandboxes
        .first()
        .map(|sandbox| &sandbox.labels)
        .or_else(|| containers.first().map(|container| &container.labels));
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).cloned();
    let grace =
        containers.iter().find_map(|container| container.annotations.get(labels::POD_GRACE)?.parse::<i64>().ok());
    let mut pod = Pod::default();
    pod.metadata.uid = Some(uid.to_owned());
    pod.metadata.name = label(labels::POD_NAME);
    pod.metadata.namespace = label(labels::POD_NAMESPACE);
    pod.metadata.annotations = Some([(crate::pod::CONFIG_SOURCE.to_owned(), "orphan".to_owned())].into());
    pod.spec =
        Some(k8s_openapi::api::core::v1::PodSpec { termination_grace_period_seconds: grace, ..Default::default() });
    pod
}
