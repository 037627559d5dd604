//! What a node's agent tidies: logs that grew too large, images that nobody uses, volumes of pods that are gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use component_base::shutdown::Shutdown;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tokio::sync::Mutex;

use crate::images::collect::Collector;
use crate::pods::Pods;
use crate::runtime::State;
use crate::{logs, quantity, volumes};

const LOGS_PERIOD: Duration = Duration::from_secs(10);
/// Images and orphans are looked at once for so many looks at the logs.
const ROUNDS: u32 = 6;

/// Tidies until shutdown. `ready` says whether all sources have told their pods.
pub async fn run(pods: Pods, images: Arc<Mutex<Collector>>, ready: impl Fn() -> bool, shutdown: Shutdown) {
    let burstable = Arc::new(AtomicBool::new(true));
    for round in 1_u32.. {
        tokio::select! {
            () = tokio::time::sleep(LOGS_PERIOD) => {}
            () = shutdown.cancelled() => return,
        }
        rotate_logs(&pods).await;
        share_processors(&pods, &burstable);
        if round % ROUNDS == 0 {
            images.lock().await.collect(&pods).await;
            if ready() {
                remove_orphans(&pods);
            }
        }
    }
}

async fn rotate_logs(pods: &Pods) {
    let agent = pods.agent();
    let size = quantity::value(&Quantity(agent.config.container_log_max_size.clone()));
    let Some(size) = size.and_then(|size| u64::try_from(size).ok()) else { return };
    let running: Vec<(String, String)> = pods
        .handles()
        .iter()
        .flat_map(|handle| {
            let view = handle.shared.view.lock();
            let running = view.containers.iter().filter(|c| c.state == State::Running && !c.log_path.is_empty());
            running.map(|c| (c.id.clone(), c.log_path.clone())).collect::<Vec<_>>()
        })
        .collect();
    for (id, path) in running {
        let rotated = logs::rotate::rotate(
            agent.runtime.as_ref(),
            &id,
            path.as_ref(),
            size,
            agent.config.container_log_max_files,
        );
        if let Err(error) = rotated.await {
            tracing::warn!(path, %error, "a log cannot be rotated");
        }
    }
}

/// Burstable pods together get as much weight as they ask for.
fn share_processors(pods: &Pods, working: &AtomicBool) {
    let agent = pods.agent();
    if !agent.config.cgroups_per_qos || !working.load(Ordering::Relaxed) {
        return;
    }
    let of = |pod: &k8s_openapi::api::core::v1::Pod| {
        use crate::pod::qos;
        let burstable = qos::class(pod) == qos::Class::Burstable;
        let millis = || qos::pod_total(pod, "cpu", |c, r| qos::request(c, r).and_then(quantity::millis), false);
        if burstable { millis().unwrap_or(0) } else { 0 }
    };
    let millis = pods.handles().iter().map(|handle| of(&handle.input.borrow().pod)).sum();
    if let Err(error) = agent.cgroups.set_burstable(millis) {
        tracing::warn!(%error, "the cgroup of burstable pods cannot be set; it is left alone from now on");
        working.store(false, Ordering::Relaxed);
    }
}

/// Removes volumes of pods that no worker knows any more.
fn remove_orphans(pods: &Pods) {
    let agent = pods.agent();
    let Ok(entries) = std::fs::read_dir(agent.root.join("pods")) else { return };
    for entry in entries.flatten() {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if pods.get(&uid).is_some() {
            continue;
        }
        match volumes::remove_pod(&agent.root, &uid) {
            Ok(()) => {
                agent.cgroups.remove_pod(&uid);
                tracing::info!(uid, "what was left of a pod is removed");
            }
            Err(error) => tracing::warn!(uid, %error, "what is left of a pod cannot be removed"),
        }
    }
}
