//! Pods that the API assigns to this node. Mirrors of static pods are left to those who write them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use component_base::informer::Informer;
use component_base::shutdown::Shutdown;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod;
use crate::pods::Pods;

/// Follows the informer until shutdown.
pub async fn run(pods: Pods, informer: Informer<Pod>, ready: Arc<AtomicBool>, shutdown: Shutdown) {
    let mut changes = informer.subscribe();
    let follow = async {
        informer.synced().await;
        if let Some(node) = &pods.agent().node {
            node.synced().await;
        }
        // What runs already takes its place first.
        let mut known = informer.store().list();
        known.sort_by_key(|pod| order(pod));
        known.into_iter().filter(|pod| !pod::is_mirror(pod)).for_each(|pod| pods.update(pod));
        ready.store(true, Ordering::Relaxed);
        while let Some(change) = changes.next().await {
            let object = Arc::clone(change.object());
            if pod::is_mirror(&object) {
                mirror_changed(&pods, &object);
            } else if change.is_deleted() {
                pods.remove(pod::uid(&object));
            } else {
                if let Some(old) = change.old.as_ref().filter(|old| pod::uid(old) != pod::uid(&object)) {
                    pods.remove(pod::uid(old));
                }
                pods.update(object);
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = shutdown.cancelled() => {}
    }
}

/// Pods that have begun come before those that have not, older ones before newer ones.
fn order(pod: &Pod) -> (bool, Option<Time>) {
    let began = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
    (!began, pod.metadata.creation_timestamp.clone())
}

/// The writer of the static pod looks at its mirror again.
fn mirror_changed(pods: &Pods, mirror: &Pod) {
    if let Some(handle) = pods.find(pod::namespace(mirror), pod::name(mirror)) {
        handle.mirror_changed.notify_one();
    }
}
