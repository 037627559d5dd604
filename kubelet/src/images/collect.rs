//! Removing images that nobody uses: when their disk is nearly full, when they were not used for long, or when the node needs the room.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use proto::cri as api;

use crate::agent::Agent;
use crate::pods::Pods;
use crate::runtime::Listing;

/// What is remembered of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    first_seen: Timestamp,
    last_used: Option<Timestamp>,
}

/// Which images go.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    /// So many bytes of those that have been there for that long.
    Free(u64, Duration),
    /// Those that were not used for that long.
    Unused(Duration),
}

/// Looks after the node's images.
#[derive(Default)]
pub struct Collector {
    known: HashMap<String, Known>,
}

impl Collector {
    /// Looks which images there are and which are used, and removes some if the settings ask for it.
    pub async fn collect(&mut self, pods: &Pods) {
        let agent = pods.agent();
        let (minimum, maximum) = (agent.config.image_minimum_gc_age.0, agent.config.image_maximum_gc_age.0);
        if !maximum.is_zero() {
            self.remove(pods, Rule::Unused(maximum)).await;
        }
        let excess = self.excess(agent).await;
        self.remove(pods, Rule::Free(excess, minimum)).await;
    }

    /// Removes every image that is not used now.
    pub async fn remove_unused(&mut self, pods: &Pods) {
        self.remove(pods, Rule::Free(u64::MAX, Duration::ZERO)).await;
    }

    /// Bytes to free: from above the high mark down to the low one.
    async fn excess(&self, agent: &Agent) -> u64 {
        let usage = agent.runtime.image_filesystem().await.ok().flatten();
        let Some(mountpoint) = usage.and_then(|usage| usage.fs_id).map(|id| id.mountpoint) else { return 0 };
        let Ok(disk) = nix::sys::statvfs::statvfs(Path::new(&mountpoint)) else { return 0 };
        let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
        let (high, low) = (agent.config.image_gc_high_threshold_percent, agent.config.image_gc_low_threshold_percent);
        excess(bytes(disk.blocks()), bytes(disk.blocks_available()), high, low)
    }

    async fn remove(&mut self, pods: &Pods, rule: Rule) {
        let agent = pods.agent();
        let images = match agent.runtime.images().await {
            Ok(images) => images,
            Err(error) => return tracing::warn!(%error, "images cannot be listed"),
        };
        // Asked of the runtime: a kubelet that has just started does not know its pods yet.
        let mut used = match agent.runtime.list(None).await {
            Ok(listing) => in_use(&listing),
            Err(error) => return tracing::warn!(%error, "which images are used is not known"),
        };
        used.extend(agent.sandbox_image.clone());
        let now = agent.clock.now();
        self.note(&images, &used, now);
        for id in self.choose(images, &used, rule, now) {
            tracing::info!(id, "an image that nobody uses is removed");
            if let Err(error) = agent.runtime.remove_image(&id).await {
                tracing::warn!(id, %error, "an image cannot be removed");
            }
        }
    }

    fn note(&mut self, images: &[api::Image], used: &HashSet<String>, now: Timestamp) {
        self.known.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let known = self.known.entry(image.id.clone()).or_insert(Known { first_seen: now, last_used: None });
            if is_used(image, used) {
                known.last_used = Some(now);
            }
        }
    }

    /// The images to remove, those unused for longest first. Pure.
    fn choose(&self, images: Vec<api::Image>, used: &HashSet<String>, rule: Rule, now: Timestamp) -> Vec<String> {
        let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let known = |image: &api::Image| self.known.get(&image.id).copied();
        let mut free: Vec<(Known, api::Image)> = images
            .into_iter()
            .filter(|image| !is_used(image, used))
            .filter_map(|image| Some((known(&image)?, image)))
            .filter(|(known, _)| match rule {
                Rule::Free(_, least) => age(known.first_seen) >= least,
                Rule::Unused(most) => age(known.last_used.unwrap_or(known.first_seen)) > most,
            })
            .collect();
        free.sort_by_key(|(known, _)| (known.last_used, known.first_seen));
        let mut freed = 0_u64;
        let needed = |image: &(Known, api::Image)| {
            let more = match rule {
                Rule::Free(bytes, _) => freed < bytes,
                Rule::Unused(_) => true,
            };
            freed = freed.saturating_add(image.1.size);
            more
        };
        free.into_iter().take_while(needed).map(|(_, image)| image.id).collect()
    }
}

/// Bytes above the low mark once the high one is reached; a high mark of everything switches it off. Pure.
fn excess(capacity: u64, available: u64, high: u8, low: u8) -> u64 {
    let used = capacity.saturating_sub(available);
    let part = |percent: u8| capacity / 100 * u64::from(percent);
    if high >= 100 || used < part(high) { 0 } else { used - part(low).min(used) }
}

fn is_used(image: &api::Image, used: &HashSet<String>) -> bool {
    image.pinned
        || used.contains(&image.id)
        || image.repo_tags.iter().chain(&image.repo_digests).any(|name| used.contains(name))
}

/// The names and ids of images that containers have. Pure.
fn in_use(listing: &Listing) -> HashSet<String> {
    let of = |container: &api::Container| {
        let spec = container.image.clone().unwrap_or_default();
        [container.image_ref.clone(), container.image_id.clone(), spec.image, spec.user_specified_image]
    };
    listing.containers.iter().flat_map(of).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn images(ids: &[&str]) -> Vec<api::Image> {
        ids.iter()
            .map(|id| api::Image { id: (*id).into(), size: 10, pinned: *id == "pinned", ..Default::default() })
            .collect()
    }

    #[test]
    fn images_go_oldest_first_until_enough_is_freed() {
        let all = ["used", "new", "pinned", "a", "b", "was-used"];
        let mut collector = Collector::default();
        let used = HashSet::from(["used".to_owned(), "was-used".to_owned()]);
        collector.note(&images(&["b"]), &used, at(0));
        collector.note(&images(&["b", "a", "used", "pinned", "was-used"]), &used, at(10));
        let used = HashSet::from(["used".to_owned()]);
        collector.note(&images(&all), &used, at(95));
        let chosen = |rule| collector.choose(images(&all), &used, rule, at(100));
        let minute = Duration::from_secs(60);
        assert!(chosen(Rule::Free(0, minute)).is_empty());
        assert_eq!(chosen(Rule::Free(15, minute)), ["b", "a"]);
        assert_eq!(chosen(Rule::Free(1000, minute)), ["b", "a", "was-used"]);
        assert_eq!(chosen(Rule::Free(u64::MAX, Duration::ZERO)), ["b", "a", "new", "was-used"]);
        assert_eq!(chosen(Rule::Unused(Duration::from_secs(95))), ["b"]);
    }

    #[test]
    fn what_any_container_has_is_used() {
        let container = |image: &str, image_ref: &str| api::Container {
            image: Some(api::ImageSpec { image: image.into(), ..Default::default() }),
            image_ref: image_ref.into(),
            ..Default::default()
        };
        let listing = Listing { containers: vec![container("a:1", "sha-a"), container("", "b")], sandboxes: vec![] };
        let used = in_use(&listing);
        let by_name = api::Image { id: "x".into(), repo_tags: vec!["a:1".into()], ..Default::default() };
        assert!(is_used(&by_name, &used) && images(&["sha-a", "b"]).iter().all(|image| is_used(image, &used)));
        assert!(!is_used(&images(&["c"])[0], &used) && !used.contains(""));
    }

    #[test]
    fn the_disk_is_brought_from_above_the_high_mark_to_the_low_one() {
        assert_eq!(
            [(1000, 160, 85), (1000, 150, 85), (1000, 0, 85), (0, 0, 85), (1000, 0, 100)]
                .map(|(capacity, available, high)| excess(capacity, available, high, 80)),
            [0, 50, 200, 0, 0]
        );
    }
}
