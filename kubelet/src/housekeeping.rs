//! What a node's agent tidies: logs that grew too large, images that nobody uses when the disk is full, volumes of pods that are gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use component_base::shutdown::Shutdown;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use proto::cri as api;

use crate::pods::Pods;
use crate::runtime::State;
use crate::{logs, quantity, volumes};

const LOGS_PERIOD: Duration = Duration::from_secs(10);
/// Images and orphans are looked at once for so many looks at the logs.
const ROUNDS: u32 = 6;

/// Tidies until shutdown. `ready` says whether all sources have told their pods.
pub async fn run(pods: Pods, ready: impl Fn() -> bool, shutdown: Shutdown) {
    let mut first_seen = HashMap::new();
    let burstable = Arc::new(AtomicBool::new(true));
    for round in 1_u32.. {
        tokio::select! {
            () = tokio::time::sleep(LOGS_PERIOD) => {}
            () = shutdown.cancelled() => return,
        }
        rotate_logs(&pods).await;
        share_processors(&pods, &burstable);
        if round % ROUNDS == 0 {
            collect_images(&pods, &mut first_seen).await;
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

/// The images to remove, those unused for longest first, until enough is freed. Pure.
fn unused(
    images: Vec<api::Image>,
    in_use: &HashSet<String>,
    first_seen: &HashMap<String, Timestamp>,
    min_age: Duration,
    to_free: u64,
    now: Timestamp,
) -> Vec<String> {
    let age = |id: &str| {
        first_seen.get(id).and_then(|at| Duration::try_from(now.duration_since(*at)).ok()).unwrap_or_default()
    };
    let used = |image: &api::Image| {
        image.pinned
            || in_use.contains(&image.id)
            || image.repo_tags.iter().chain(&image.repo_digests).any(|name| in_use.contains(name))
    };
    let mut free: Vec<&api::Image> = images.iter().filter(|image| !used(image) && age(&image.id) >= min_age).collect();
    free.sort_by_key(|image| std::cmp::Reverse(age(&image.id)));
    let mut freed = 0;
    let enough = |image: &&api::Image| {
        let more = freed < to_free;
        freed += image.size;
        more
    };
    free.into_iter().take_while(enough).map(|image| image.id.clone()).collect()
}

async fn collect_images(pods: &Pods, first_seen: &mut HashMap<String, Timestamp>) {
    let agent = pods.agent();
    let images = match agent.runtime.images().await {
        Ok(images) => images,
        Err(error) => return tracing::debug!(%error, "images cannot be listed"),
    };
    let now = Timestamp::now();
    first_seen.retain(|id, _| images.iter().any(|image| image.id == *id));
    for image in &images {
        first_seen.entry(image.id.clone()).or_insert(now);
    }
    let Ok(Some(usage)) = agent.runtime.image_filesystem().await else { return };
    let Some(mountpoint) = usage.fs_id.map(|id| id.mountpoint) else { return };
    let Ok(disk) = nix::sys::statvfs::statvfs(mountpoint.as_str()) else { return };
    let capacity = disk.blocks().saturating_mul(disk.fragment_size());
    let used = capacity.saturating_sub(disk.blocks_available().saturating_mul(disk.fragment_size()));
    let part = |percent: u8| capacity / 100 * u64::from(percent);
    if capacity == 0 || used < part(agent.config.image_gc_high_threshold_percent) {
        return;
    }
    let to_free = used - part(agent.config.image_gc_low_threshold_percent);
    let in_use: HashSet<String> = pods
        .handles()
        .iter()
        .flat_map(|handle| {
            let view = handle.shared.view.lock();
            view.containers.iter().flat_map(|c| [c.image.clone(), c.image_id.clone()]).collect::<Vec<_>>()
        })
        .collect();
    for id in unused(images, &in_use, first_seen, agent.config.image_minimum_gc_age.0, to_free, now) {
        tracing::info!(id, "the disk is full: an unused image is removed");
        if let Err(error) = agent.runtime.remove_image(&id).await {
            tracing::warn!(id, %error, "an image cannot be removed");
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_go_oldest_first_until_enough_is_free() {
        let image =
            |id: &str, size: u64, pinned: bool| api::Image { id: id.into(), size, pinned, ..Default::default() };
        let images = vec![
            image("used", 10, false),
            image("new", 10, false),
            image("pinned", 10, true),
            image("a", 10, false),
            image("b", 10, false),
            image("c", 10, false),
        ];
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let seen = [("used", 0), ("new", 95), ("pinned", 0), ("a", 20), ("b", 10), ("c", 30)]
            .map(|(id, s)| (id.to_owned(), at(s)))
            .into();
        let in_use = HashSet::from(["used".to_owned()]);
        assert_eq!(unused(images.clone(), &in_use, &seen, Duration::from_secs(60), 15, at(100)), ["b", "a"]);
        assert_eq!(unused(images, &in_use, &seen, Duration::from_secs(60), 1000, at(100)), ["b", "a", "c"]);
    }
}
