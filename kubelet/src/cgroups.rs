//! The tree of cgroups for pods: `kubepods`, `kubepods/burstable`, `kubepods/besteffort`, and one per pod, on cgroup v1, hybrid and v2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::pod::qos::{self, Class};
use crate::quantity;

const ROOT: &str = "/sys/fs/cgroup";
/// Controllers whose limits a pod has; the others are left to the runtime.
const V1_CONTROLLERS: &[&str] = &["cpu", "memory", "pids"];
const CPU_PERIOD: i64 = 100_000;
/// A container that has no memory left is killed as a whole, and none swaps.
const ALL_AT_ONCE: (&str, &str) = ("memory.oom.group", "1");
const NO_SWAP: (&str, &str) = ("memory.swap.max", "0");

/// Whether the machine has cgroup v2 alone.
pub fn is_unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

#[derive(Debug, thiserror::Error)]
#[error("cgroup {path}")]
pub struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Cgroupfs,
    Systemd,
}

/// Limits of one cgroup; `None` leaves a value as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    pub shares: Option<i64>,
    /// Microseconds of each 100 ms.
    pub quota: Option<i64>,
    pub memory: Option<i64>,
    pub pids: Option<i64>,
}

/// Makes and removes cgroups.
#[derive(Clone, Debug)]
pub struct Manager {
    mount: PathBuf,
    parent: String,
    driver: Driver,
    unified: bool,
    pids_limit: i64,
}

impl Manager {
    /// `cgroup_root` is the cgroup below which `kubepods` goes; empty for the root.
    pub fn new(driver: &str, cgroup_root: &str, pids_limit: i64) -> Self {
        let (mount, unified) = (PathBuf::from(ROOT), is_unified());
        let driver = if driver == "systemd" { Driver::Systemd } else { Driver::Cgroupfs };
        let parent = cgroup_root.trim_matches('/').to_owned();
        Self { mount, parent, driver, unified, pids_limit }
    }

    /// The parent to name to the runtime.
    pub fn parent_of(&self, pod: &Pod) -> String {
        let (class, uid) = (qos::class(pod), crate::pod::uid(pod));
        match self.driver {
            Driver::Cgroupfs => format!("/{}", self.path(class, Some(uid))),
            Driver::Systemd => {
                let uid = uid.replace('-', "_");
                match class {
                    Class::Guaranteed => format!("kubepods-pod{uid}.slice"),
                    other => format!("kubepods-{}-pod{uid}.slice", directory(other)),
                }
            }
        }
    }

    fn path(&self, class: Class, uid: Option<&str>) -> String {
        let mut parts = vec![self.parent.clone(), "kubepods".to_owned(), directory(class).to_owned()];
        parts.extend(uid.map(|uid| format!("pod{uid}")));
        parts.retain(|part| !part.is_empty());
        parts.join("/")
    }

    /// The files that every container's cgroup has beside its limits, which there are only with cgroup v2.
    pub fn container_files(&self, single_process_oom_kill: bool) -> &'static [(&'static str, &'static str)] {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        match (self.unified, single_process_oom_kill, self.limits_swap(&own)) {
            (false, _, _) | (true, true, false) => &[],
            (true, true, true) => &[NO_SWAP],
            (true, false, false) => &[ALL_AT_ONCE],
            (true, false, true) => &[ALL_AT_ONCE, NO_SWAP],
        }
    }

    /// Whether the kernel limits swap; the root of the tree does not tell, but the kubelet's own cgroup.
    fn limits_swap(&self, own: &str) -> bool {
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
        path.is_some_and(|path| self.mount.join(path).join(NO_SWAP.0).exists())
    }

    /// Makes the tree above the pods, with limits for all of them together.
    pub fn prepare(&self, all: Limits) -> Result<(), Error> {
        if self.driver == Driver::Systemd {
            return Ok(());
        }
        let root = self.path(Class::Guaranteed, None);
        self.create(&root, Limits::default())?;
        // Pods that run already may use more than their new limit; that is no reason not to look after them.
        if let Err(error) = self.create(&root, all) {
            tracing::warn!(%error, cause = ?error.source, "the pods' cgroup has not the limits that it should have");
        }
        self.create(&self.path(Class::BestEffort, None), Limits { shares: Some(2), ..Default::default() })?;
        self.create(&self.path(Class::Burstable, None), Limits::default())
    }

    /// Gives the burstable pods together as much of the processors as they ask for.
    pub fn set_burstable(&self, millis: i64) -> Result<(), Error> {
        if self.driver == Driver::Systemd {
            return Ok(());
        }
        let limits = Limits { shares: Some(qos::shares(millis)), ..Default::default() };
        self.create(&self.path(Class::Burstable, None), limits)
    }

    /// Makes a pod's cgroup with its limits. With systemd the runtime makes the slice.
    pub fn create_pod(&self, pod: &Pod) -> Result<(), Error> {
        if self.driver == Driver::Systemd {
            return Ok(());
        }
        let path = self.path(qos::class(pod), Some(crate::pod::uid(pod)));
        self.create(&path, pod_limits(pod, self.pids_limit))
    }

    /// Sets other limits of a pod's cgroup.
    pub fn limit_pod(&self, pod: &Pod, limits: Limits) -> Result<(), Error> {
        if self.driver == Driver::Systemd {
            return Ok(());
        }
        let none = Limits { quota: limits.quota.or(Some(-1)), memory: limits.memory.or(Some(-1)), ..limits };
        self.create(&self.path(qos::class(pod), Some(crate::pod::uid(pod))), none)
    }

    /// How many processes a pod has, as far as that is known.
    pub fn processes(&self, pod: &Pod) -> i64 {
        let path = self.path(qos::class(pod), Some(crate::pod::uid(pod)));
        let hierarchy = if self.unified { self.mount.clone() } else { self.mount.join("pids") };
        let count = fs::read_to_string(hierarchy.join(path).join("pids.current"));
        count.ok().and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Removes a pod's cgroup and what is below it.
    pub fn remove_pod(&self, uid: &str) {
        for class in [Class::Guaranteed, Class::Burstable, Class::BestEffort] {
            let path = self.path(class, Some(uid));
            for hierarchy in self.hierarchies() {
                remove_tree(&hierarchy.join(&path));
            }
        }
    }

    fn hierarchies(&self) -> Vec<PathBuf> {
        if self.unified {
            return vec![self.mount.clone()];
        }
        let entries = fs::read_dir(&self.mount).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()).collect()
    }

    fn create(&self, path: &str, limits: Limits) -> Result<(), Error> {
        if self.unified { self.create_v2(path, limits) } else { self.create_v1(path, limits) }
    }

    fn create_v1(&self, path: &str, limits: Limits) -> Result<(), Error> {
        for controller in V1_CONTROLLERS {
            let hierarchy = self.mount.join(controller);
            if !hierarchy.exists() {
                continue;
            }
            let directory = hierarchy.join(path);
            fs::create_dir_all(&directory).map_err(|source| Error { path: directory.clone(), source })?;
            match *controller {
                "cpu" => {
                    write(&directory, "cpu.shares", limits.shares)?;
                    write(&directory, "cpu.cfs_quota_us", limits.quota)?;
                }
                "memory" => write(&directory, "memory.limit_in_bytes", limits.memory)?,
                _ => write(&directory, "pids.max", limits.pids)?,
            }
        }
        Ok(())
    }

    fn create_v2(&self, path: &str, limits: Limits) -> Result<(), Error> {
        let mut directory = self.mount.clone();
        for part in path.split('/') {
            enable_controllers(&directory)?;
            directory.push(part);
            fs::create_dir_all(&directory).map_err(|source| Error { path: directory.clone(), source })?;
        }
        write(&directory, "cpu.weight", limits.shares.map(weight))?;
        let text = |limit: i64| if limit < 0 { "max".to_owned() } else { limit.to_string() };
        if let Some(quota) = limits.quota {
            write_text(&directory, "cpu.max", &format!("{} {CPU_PERIOD}", text(quota)))?;
        }
        if let Some(memory) = limits.memory {
            write_text(&directory, "memory.max", &text(memory))?;
        }
        write(&directory, "pids.max", limits.pids)
    }
}

/// From cpu.shares (2 to 262144) to cpu.weight (1 to 10000), such that what is usual stays usual: 1024 is 100. It is the conversion of
/// Kubernetes since 1.35 and of runtimes since 2025; before, it was linear. Pure.
fn weight(shares: i64) -> i64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as i64
        }
    }
}

fn directory(class: Class) -> &'static str {
    match class {
        Class::Guaranteed => "",
        Class::Burstable => "burstable",
        Class::BestEffort => "besteffort",
    }
}

/// What a pod's cgroup limits. Pure.
pub fn pod_limits(pod: &Pod, pids: i64) -> Limits {
    let cpu_request = qos::pod_total(pod, "cpu", |c, r| qos::request(c, r).and_then(quantity::millis), false);
    let cpu_limit = qos::pod_total(pod, "cpu", |c, r| qos::limit(c, r).and_then(quantity::millis), true);
    let memory = qos::pod_total(pod, "memory", |c, r| qos::limit(c, r).and_then(quantity::value), true);
    Limits {
        shares: Some(qos::shares(cpu_request.unwrap_or(0))),
        quota: cpu_limit.filter(|value| *value > 0).map(|value| qos::quota(value, CPU_PERIOD)),
        memory: memory.filter(|value| *value > 0),
        pids: (pids > 0).then_some(pids),
    }
}

fn enable_controllers(directory: &Path) -> Result<(), Error> {
    let available = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
    let wanted: Vec<String> = V1_CONTROLLERS
        .iter()
        .chain(&["cpuset", "io"])
        .filter(|c| available.split_whitespace().any(|a| a == **c))
        .map(|c| format!("+{c}"))
        .collect();
    if wanted.is_empty() { Ok(()) } else { write_text(directory, "cgroup.subtree_control", &wanted.join(" ")) }
}

fn write(directory: &Path, file: &str, value: Option<i64>) -> Result<(), Error> {
    value.map_or(Ok(()), |value| write_text(directory, file, &value.to_string()))
}

fn write_text(directory: &Path, file: &str, text: &str) -> Result<(), Error> {
    let path = directory.join(file);
    fs::write(&path, text).map_err(|source| Error { path, source })
}

fn remove_tree(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        remove_tree(&entry.path());
    }
    if let Err(error) = fs::remove_dir(directory) {
        tracing::debug!(path = %directory.display(), %error, "cgroup is not removed yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager of files that are like those of cgroup v2.
    fn unified(root: &tempfile::TempDir) -> Manager {
        fs::write(root.path().join("cgroup.controllers"), "cpuset cpu io memory hugetlb pids\n").unwrap();
        Manager { mount: root.path().to_owned(), unified: true, ..Manager::new("cgroupfs", "/corten", 99) }
    }

    #[test]
    fn with_cgroup_v2_a_pod_has_its_limits_in_one_tree() {
        let root = tempfile::tempdir().unwrap();
        let manager = unified(&root);
        let resources = serde_json::json!({"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}});
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"uid": "u"}, "spec": {"containers": [{"name": "a", "resources": resources}]},
        }))
        .unwrap();
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        manager.create_pod(&pod).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+cpu +memory +pids +cpuset +io");
        let file = |name: &str| read(&format!("corten/kubepods/burstable/podu/{name}"));
        assert_eq!(
            ["cpu.weight", "cpu.max", "memory.max", "pids.max"].map(file),
            ["35", "50000 100000", "67108864", "99"]
        );
        manager.limit_pod(&pod, Limits { shares: Some(1024), ..Default::default() }).unwrap();
        assert_eq!(["cpu.weight", "cpu.max", "memory.max", "pids.max"].map(file), ["100", "max 100000", "max", "99"]);
        manager.set_burstable(2000).unwrap();
        assert_eq!(read("corten/kubepods/burstable/cpu.weight"), weight(2048).to_string());
    }

    #[test]
    fn weights_follow_the_curve_of_kubernetes() {
        let shares = [0, 2, 3, 256, 1024, 2048, 262_143, 262_144, 300_000];
        assert_eq!(shares.map(weight), [1, 1, 2, 35, 100, 174, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn containers_are_killed_as_a_whole_and_do_not_swap_with_cgroup_v2_alone() {
        let root = tempfile::tempdir().unwrap();
        let manager = unified(&root);
        fs::create_dir_all(root.path().join("system/kubelet")).unwrap();
        let own = "1:name=systemd:/x\n0::/system/kubelet\n";
        assert!(!manager.limits_swap(own));
        fs::write(root.path().join("system/kubelet/memory.swap.max"), "max").unwrap();
        assert!(manager.limits_swap(own) && !manager.limits_swap("0::/\n") && !manager.limits_swap(""));
        assert_eq!(manager.container_files(false), [ALL_AT_ONCE]);
        assert!(manager.container_files(true).is_empty());
        let divided = Manager { unified: false, ..manager };
        assert!(divided.container_files(false).is_empty());
    }

    #[test]
    fn a_pods_limits_are_the_sum_only_where_all_containers_have_one() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"uid": "u"},
            "spec": {
                "initContainers": [{"name": "i", "resources": {"limits": {"cpu": "2", "memory": "10Mi"}}}],
                "containers": [
                    {"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}},
                    {"name": "b", "resources": {"limits": {"cpu": "500m"}, "requests": {"cpu": "250m"}}},
                ],
            },
        }))
        .unwrap();
        let limits = pod_limits(&pod, -1);
        // The init container asks for more than both others together.
        assert_eq!(limits, Limits { shares: Some(2048), quota: Some(200_000), memory: None, pids: None });
        let manager = Manager::new("cgroupfs", "/corten", -1);
        assert_eq!(manager.parent_of(&pod), "/corten/kubepods/burstable/podu");
        assert_eq!(Manager::new("systemd", "", -1).parent_of(&pod), "kubepods-burstable-podu.slice");
    }
}
