//! Learning that something changed in the runtime: from its events, and from a listing of everything now and then. Whoever differs from
//! what its worker last saw is told to look; pods of no source are ended.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use component_base::shutdown::Shutdown;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use proto::cri as api;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Listing, PodView, State, labels};
use crate::pods::Pods;

/// Between listings while the runtime's events cannot be followed.
const PERIOD: Duration = Duration::from_secs(1);
/// Between listings while they are: then a listing only finds what was done behind everyone's back.
const PERIOD_WITH_EVENTS: Duration = Duration::from_secs(10);
/// Within this time a runtime says that it has no events.
const ANSWER: Duration = Duration::from_secs(1);
/// Wait before events are asked for again; doubles up to the longest.
const RECONNECT: Duration = Duration::from_millis(500);
const MAX_RECONNECT: Duration = Duration::from_secs(30);

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

/// What one listing has of a pod, and when the runtime was asked.
#[derive(Clone, Debug)]
pub struct Listed {
    pub listing: Listing,
    pub at: Instant,
}

/// Follows the runtime until shutdown. `sources_ready` says whether all sources have told their pods, so that others are orphans.
pub async fn run(pods: Pods, health: Arc<Health>, sources_ready: impl Fn() -> bool, shutdown: Shutdown) {
    let events = Events::default();
    tokio::select! {
        () = list_always(&pods, &health, &sources_ready, &events) => {}
        () = events.follow(&pods) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn list_always(pods: &Pods, health: &Health, sources_ready: &impl Fn() -> bool, events: &Events) {
    let mut seen = HashSet::new();
    loop {
        let at = Instant::now();
        match pods.agent().runtime.list(None).await {
            Ok(listing) => {
                health.mark();
                compare(pods, &listing, at, sources_ready(), &mut seen);
            }
            Err(error) => tracing::warn!(%error, "the runtime cannot be listed"),
        }
        // Orphans are looked at a second time soon.
        let followed = events.followed.load(Ordering::Relaxed) && seen.is_empty();
        tokio::select! {
            () = tokio::time::sleep(if followed { PERIOD_WITH_EVENTS } else { PERIOD }) => {}
            () = events.began.notified() => {}
        }
    }
}

/// The runtime's events.
#[derive(Default)]
struct Events {
    followed: AtomicBool,
    /// Set off when following begins: what happened before is found by a listing.
    began: Notify,
}

impl Events {
    fn begin(&self) {
        if !self.followed.swap(true, Ordering::Relaxed) {
            tracing::info!("the runtime's events are followed");
            self.began.notify_one();
        }
    }

    async fn follow(&self, pods: &Pods) {
        let mut wait = RECONNECT;
        loop {
            let mut asked = pods.agent().runtime.ends();
            // Runtimes that have no events say so at once; others answer with the first event.
            let answer = tokio::select! {
                answer = &mut asked => answer,
                () = tokio::time::sleep(ANSWER) => {
                    self.begin();
                    asked.await
                }
            };
            match answer {
                Ok(mut ends) => {
                    wait = RECONNECT;
                    self.begin();
                    while let Some(id) = ends.next().await {
                        pods.container_ended(&id);
                    }
                    self.began.notify_one();
                }
                Err(super::Error::Call(status)) if status.code() == tonic::Code::Unimplemented => {
                    tracing::info!("the runtime has no events: it is listed every {PERIOD:?}");
                    return std::future::pending().await;
                }
                Err(error) => tracing::debug!(%error, "the runtime's events cannot be followed"),
            }
            self.followed.store(false, Ordering::Relaxed);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(MAX_RECONNECT);
        }
    }
}

fn uid_of(labels: &HashMap<String, String>) -> &str {
    labels.get(labels::POD_UID).map_or("", String::as_str)
}

/// Tells the workers whose view differs, and ends orphans that were there twice in a row.
fn compare(pods: &Pods, listing: &Listing, at: Instant, sources_ready: bool, seen: &mut HashSet<String>) {
    let mut by_pod: HashMap<&str, Listing> = HashMap::new();
    for sandbox in &listing.sandboxes {
        by_pod.entry(uid_of(&sandbox.labels)).or_default().sandboxes.push(sandbox.clone());
    }
    for container in &listing.containers {
        by_pod.entry(uid_of(&container.labels)).or_default().containers.push(container.clone());
    }
    by_pod.remove("");
    pods.agent().found.send_if_modified(|found| {
        let first = found.is_none();
        if first {
            *found = Some(by_pod.keys().map(|uid| (*uid).to_owned()).collect());
        }
        first
    });
    let mut orphans: HashSet<String> = by_pod.keys().map(|uid| (*uid).to_owned()).collect();
    for handle in pods.handles() {
        let uid = crate::pod::uid(&handle.input.borrow().pod).to_owned();
        orphans.remove(&uid);
        let listing = by_pod.remove(uid.as_str()).unwrap_or_default();
        if differs(&handle.shared.view.lock(), &listing) {
            handle.look_at(Listed { listing, at });
        }
    }
    if !sources_ready {
        seen.clear();
        return;
    }
    for (uid, listing) in by_pod.iter().filter(|(uid, _)| seen.contains(**uid)) {
        pods.adopt_to_end(orphan(uid, listing));
    }
    *seen = orphans;
}

/// Whether a worker's view is not what is listed. Pure.
fn differs(view: &PodView, listing: &Listing) -> bool {
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
    view.sandboxes.len() != listing.sandboxes.len()
        || view.containers.len() != listing.containers.len()
        || !listing.sandboxes.iter().all(same_sandbox)
        || !listing.containers.iter().all(same_container)
}

/// As much of the pod as its labels say: enough to end it.
fn orphan(uid: &str, listing: &Listing) -> Pod {
    let sandbox = listing.sandboxes.first().map(|sandbox| &sandbox.labels);
    let labels = sandbox.or_else(|| listing.containers.first().map(|container| &container.labels));
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).cloned();
    let grace = listing.containers.iter().find_map(|c| c.annotations.get(labels::POD_GRACE)?.parse::<i64>().ok());
    let mut pod = Pod::default();
    pod.metadata.uid = Some(uid.to_owned());
    pod.metadata.name = label(labels::POD_NAME);
    pod.metadata.namespace = label(labels::POD_NAMESPACE);
    pod.metadata.annotations = Some([(crate::pod::CONFIG_SOURCE.to_owned(), "orphan".to_owned())].into());
    pod.spec =
        Some(k8s_openapi::api::core::v1::PodSpec { termination_grace_period_seconds: grace, ..Default::default() });
    pod
}
