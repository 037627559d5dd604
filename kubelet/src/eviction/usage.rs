//! What the node has left, and what pods use: from the kernel, the file systems and the runtime.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use proto::cri as api;

use super::{Measured, Seen, Signal};
use crate::agent::Agent;
use crate::runtime::labels;
use crate::{pod, volumes};

/// What one container uses, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    pub memory: i64,
    /// Its own layer and its logs.
    pub storage: i64,
}

/// What one pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodUsage {
    pub containers: BTreeMap<String, ContainerUsage>,
    /// Bytes in emptyDir volumes on disk, by volume.
    pub volumes: BTreeMap<String, i64>,
    pub inodes: i64,
    pub processes: i64,
}

impl PodUsage {
    pub fn memory(&self) -> i64 {
        self.containers.values().map(|container| container.memory).sum()
    }

    /// All that it keeps on the node's disks.
    pub fn storage(&self) -> i64 {
        self.containers.values().map(|container| container.storage).sum::<i64>() + self.volumes.values().sum::<i64>()
    }
}

fn seen(available: u64, capacity: u64) -> Seen {
    Seen {
        available: i64::try_from(available).unwrap_or(i64::MAX),
        capacity: i64::try_from(capacity).unwrap_or(i64::MAX),
    }
}

/// Memory that is not in use: all but the working set, which counts caches of files that were not looked at for long as free.
fn memory(meminfo: &str) -> Option<Seen> {
    let kib = |key: &str| {
        meminfo.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
    };
    let (total, free, inactive) = (kib("MemTotal:")?, kib("MemFree:")?, kib("Inactive(file):")?);
    Some(seen((free + inactive) * 1024, total * 1024))
}

fn processes() -> Option<Seen> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let most = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let running: u64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(seen(most.saturating_sub(running), most))
}

/// Bytes and inodes of the file system that a path is on.
fn file_system(path: &Path) -> Option<(Seen, Seen)> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    Some((seen(bytes(stat.blocks_available()), bytes(stat.blocks())), seen(stat.files_available(), stat.files())))
}

/// Measures all signals; one that cannot be measured is left out.
pub async fn of_node(agent: &Agent) -> Measured {
    let mut measured = Measured::new();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    measured.extend(memory(&meminfo).map(|seen| (Signal::MemoryAvailable, seen)));
    measured.extend(processes().map(|seen| (Signal::PidAvailable, seen)));
    if let Some((bytes, inodes)) = file_system(&agent.root) {
        measured.extend([(Signal::NodefsAvailable, bytes), (Signal::NodefsInodesFree, inodes)]);
    }
    let images = agent.runtime.image_filesystem().await;
    let images = images.ok().flatten().and_then(|usage| usage.fs_id).map(|id| id.mountpoint);
    if let Some((bytes, inodes)) = images.and_then(|path| file_system(Path::new(&path))) {
        measured.extend([(Signal::ImagefsAvailable, bytes), (Signal::ImagefsInodesFree, inodes)]);
    }
    // File systems without a number of inodes have no lack of them.
    measured.retain(|_, seen| seen.capacity > 0);
    measured
}

/// Bytes and files below a directory, on disk. What goes while it is looked at counts as gone.
fn below(directory: &Path) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt;
    let (mut bytes, mut files) = (0, 0);
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            bytes += i64::try_from(meta.blocks() * 512).unwrap_or(0);
            files += 1;
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    (bytes, files)
}

/// What a pod uses, with what the runtime says of its containers.
pub fn of_pod(agent: &Agent, pod: &Pod, stats: &[api::ContainerStats]) -> PodUsage {
    let mut usage = PodUsage::default();
    let uid = pod::uid(pod);
    let logs = agent.logs.join(pod::log_directory_name(pod));
    for container in stats {
        let Some(attributes) = &container.attributes else { continue };
        let label = |key: &str| attributes.labels.get(key).map_or("", String::as_str);
        if label(labels::POD_UID) != uid {
            continue;
        }
        let name = label(labels::CONTAINER_NAME);
        let number = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok()).unwrap_or(0);
        let memory = container.memory.as_ref().and_then(|memory| memory.working_set_bytes.as_ref());
        let layer = container.writable_layer.as_ref();
        let (written, files) = below(&logs.join(name));
        let own = usage.containers.entry(name.to_owned()).or_default();
        own.memory += number(memory.map(|bytes| bytes.value));
        own.storage = written + number(layer.and_then(|layer| layer.used_bytes.as_ref()).map(|bytes| bytes.value));
        usage.inodes += files + number(layer.and_then(|layer| layer.inodes_used.as_ref()).map(|inodes| inodes.value));
    }
    let on_disk = |volume: &&k8s_openapi::api::core::v1::Volume| {
        volume.empty_dir.as_ref().is_some_and(|source| source.medium.as_deref().unwrap_or_default().is_empty())
    };
    for volume in pod::spec(pod).volumes.iter().flatten().filter(on_disk) {
        let (bytes, files) = below(&volumes::empty_dir_of(&agent.root, uid, &volume.name));
        usage.volumes.insert(volume.name.clone(), bytes);
        usage.inodes += files;
    }
    usage.processes = agent.cgroups.processes(pod);
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_available_where_it_is_free_or_an_old_cache() {
        let text = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 900 kB\nInactive(file): 50 kB\n";
        assert_eq!(memory(text), Some(Seen { available: 150 * 1024, capacity: 1000 * 1024 }));
        assert_eq!(memory("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn a_directorys_size_is_what_it_takes_on_disk() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        std::fs::write(root.path().join("d/f"), vec![1; 100_000]).unwrap();
        let (bytes, files) = below(root.path());
        assert!((100_000..300_000).contains(&bytes), "{bytes}");
        assert_eq!((files, below(&root.path().join("absent"))), (2, (0, 0)));
    }

    #[test]
    fn the_node_is_measured() {
        assert!(processes().unwrap().available > 0);
        let (bytes, _) = file_system(Path::new("/")).unwrap();
        assert!(bytes.available > 0 && bytes.available <= bytes.capacity);
    }
}
