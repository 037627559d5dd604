//! A node for tests: the real kubelet on a real containerd, in network and mount namespaces of the test's own, so that nothing is left
//! when it ends.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use images::archive::{Archive, Start};
use images::{layer, rootfs};
use serde_json::Value;

pub const PATIENCE: Duration = Duration::from_secs(60);
const BUSYBOX: &str = "corten.test/busybox:1";
const READ_ONLY_PORT: u16 = 10255;
/// What the names of a test's cgroups and directory begin with; the id of its process follows.
const CGROUPS: &str = "corten-test-";
const DIRECTORIES: &str = "corten-kubelet-";
/// The address of the node, which leads nowhere.
pub const ADDRESS: &str = "192.0.2.10";

// Each test that includes this uses other parts of it.
#[allow(dead_code)]
pub struct Node {
    dir: tempfile::TempDir,
    containerd: Option<Child>,
    kubelet: Option<Child>,
    /// Flags of the kubelet.
    pub flags: Vec<String>,
}

pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: is it installed?"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn eventually<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[allow(dead_code)]
impl Node {
    /// A node whose kubelet runs with static pods alone.
    pub fn start() -> Self {
        let mut node = Self::prepare("");
        node.start_kubelet();
        node
    }

    /// A node whose kubelet is not started yet; its configuration has these lines too.
    pub fn prepare(configuration: &str) -> Self {
        remove_remains();
        let dir = tempfile::Builder::new().prefix(&format!("{DIRECTORIES}{}-", std::process::id())).tempdir().unwrap();
        for name in ["cni", "manifests", "kubelet", "logs"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut node = Self { dir, containerd: None, kubelet: None, flags: Vec::new() };
        node.write_configuration(configuration);
        node.start_containerd();
        node.import_images();
        node
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("containerd.sock")
    }

    fn write_configuration(&self, more: &str) {
        let dir = self.dir.path().display();
        e2e::node::configure_runtime(self.dir.path()).unwrap();
        // However full the machine's disk is, pods and images stay, unless a test is about that.
        let disk = if more.contains("evictionHard") { "" } else { "evictionHard: {}\n" };
        let disk = format!("imageGCHighThresholdPercent: 100\n{disk}");
        let kubelet = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: {dir}/manifests\n\
             containerRuntimeEndpoint: unix://{dir}/containerd.sock\nfailSwapOn: false\nreadOnlyPort: {READ_ONLY_PORT}\n\
             cgroupRoot: /{CGROUPS}{}\n{disk}{more}",
            std::process::id()
        );
        fs::write(self.path("kubelet.yaml"), kubelet).unwrap();
    }

    fn log(&self, name: &str) -> Stdio {
        fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap().into()
    }

    pub fn start_containerd(&mut self) {
        let mut command = Command::new("containerd");
        command.arg("-c").arg(self.path("containerd.toml")).stderr(self.log("containerd.log")).stdout(Stdio::null());
        self.containerd = Some(command.spawn().expect("containerd: apt-get install containerd"));
        eventually("containerd answers", || {
            Command::new("ctr")
                .arg("-a")
                .arg(self.socket())
                .arg("version")
                .output()
                .ok()?
                .status
                .success()
                .then_some(())
        });
    }

    fn import_images(&self) {
        let file = self.path("images.tar");
        let mut archive = Archive::new(fs::File::create(&file).unwrap()).unwrap();
        let mut files = rootfs::base(&[]).unwrap();
        files.extend(rootfs::busybox().unwrap());
        let blob = archive.blob(&layer::tar(&files).unwrap()).unwrap();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let pause = Start {
            entrypoint: words(&["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"]),
            ..Default::default()
        };
        archive.image(e2e::node::PAUSE, std::slice::from_ref(&blob), &pause).unwrap();
        archive.image(BUSYBOX, &[blob], &Start { entrypoint: words(&["/bin/sh"]), ..Default::default() }).unwrap();
        archive.finish().unwrap();
        run(Command::new("ctr").arg("-a").arg(self.socket()).args(["-n", "k8s.io", "images", "import"]).arg(&file));
    }

    pub fn start_kubelet(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubelet"));
        command.arg("--config").arg(self.path("kubelet.yaml")).arg("--root-dir").arg(self.path("kubelet"));
        command.arg("--cert-dir").arg(self.path("pki")).arg("--pod-logs-dir").arg(self.path("logs"));
        command
            .args(["--hostname-override", "n1", "-v", "2"])
            .args(&self.flags)
            .stderr(self.log("kubelet.log"))
            .stdout(Stdio::null());
        self.kubelet = Some(command.spawn().unwrap());
    }

    pub fn kubelet_pid(&self) -> u32 {
        self.kubelet.as_ref().unwrap().id()
    }

    pub fn stop_kubelet(&mut self) {
        Self::end(&mut self.kubelet);
    }

    pub fn stop_containerd(&mut self) {
        Self::end(&mut self.containerd);
    }

    fn end(child: &mut Option<Child>) {
        let Some(mut child) = child.take() else { return };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
        child.wait().ok();
    }

    pub fn manifest(&self, name: &str, text: &str) {
        let draft = self.path("manifests").join(format!(".{name}"));
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.path("manifests").join(format!("{name}.yaml"))).unwrap();
    }

    /// The pods as the read-only port tells them.
    pub fn pods(&self) -> Option<Vec<Value>> {
        let mut stream = TcpStream::connect(("127.0.0.1", READ_ONLY_PORT)).ok()?;
        stream.write_all(b"GET /pods HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let text = String::from_utf8(answer).ok()?;
        let list: Value = serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?;
        list["items"].as_array().cloned()
    }

    pub fn status(&self, name: &str) -> Option<Value> {
        let pods = self.pods()?;
        Some(pods.iter().find(|pod| pod["metadata"]["name"] == format!("{name}-n1"))?["status"].clone())
    }

    pub fn container(&self, pod: &str, name: &str) -> Option<Value> {
        let status = self.status(pod)?;
        status["containerStatuses"].as_array()?.iter().find(|container| container["name"] == name).cloned()
    }

    pub fn is_ready(&self, pod: &str) -> Option<()> {
        let status = self.status(pod)?;
        let ready = status["conditions"].as_array()?.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        ready.then_some(())
    }

    /// The first log of a container, with times and streams.
    pub fn log_of(&self, pod: &str, container: &str) -> String {
        let directories = fs::read_dir(self.path("logs")).unwrap().flatten();
        let directory =
            directories.map(|entry| entry.path()).find(|path| path.display().to_string().contains(&format!("_{pod}_")));
        let Some(directory) = directory else { return String::new() };
        fs::read_to_string(directory.join(container).join("0.log")).unwrap_or_default()
    }
}

/// Ends processes whose command line names the directory: the shims of containers that the test made.
fn end_shims(dir: &Path) {
    let dir = dir.display().to_string();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&dir) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["kubelet.log", "containerd.log"] {
                let text = fs::read_to_string(self.path(log)).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(25).collect();
                eprintln!("--- {log}\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
        Self::end(&mut self.kubelet);
        Self::end(&mut self.containerd);
        end_shims(self.dir.path());
        let own = format!("{CGROUPS}{}", std::process::id());
        for cgroup in cgroups().filter(|cgroup| cgroup.ends_with(&own)) {
            end_processes(&cgroup);
            remove_cgroup(&cgroup);
        }
        e2e::node::unmount(self.dir.path());
    }
}

/// The first level of cgroups, whether there is one hierarchy or many.
fn cgroups() -> impl Iterator<Item = PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let below = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let hierarchies = below(root).filter(|path| path.join("cgroup.procs").exists() && !path.is_symlink());
    below(root).chain(hierarchies.flat_map(move |path| below(&path).collect::<Vec<_>>()))
}

/// Removes what tests left that were killed before they could do it themselves.
fn remove_remains() {
    let is_over = |path: &Path, prefix: &str| {
        let pid = path.file_name().and_then(|name| name.to_str()?.strip_prefix(prefix)?.split('-').next());
        pid.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists())
    };
    let directories = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten().map(|entry| entry.path());
    for directory in directories.filter(|path| is_over(path, DIRECTORIES)) {
        end_shims(&directory);
        fs::remove_dir_all(&directory).ok();
    }
    for cgroup in cgroups().filter(|path| is_over(path, CGROUPS)) {
        end_processes(&cgroup);
        remove_cgroup(&cgroup);
    }
}

/// Ends the processes of containers that the test left.
fn end_processes(cgroup: &Path) {
    for pid in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), nix::sys::signal::Signal::SIGKILL)
            .ok();
    }
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        end_processes(&entry.path());
    }
}

/// A cgroup can be removed once its last process is gone.
fn remove_cgroup(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&entry.path());
    }
    let start = Instant::now();
    while fs::remove_dir(directory).is_err() && directory.exists() && start.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs on a thread with network and mounts of its own.
pub fn isolated(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        e2e::node::enter_namespaces().unwrap();
        run(Command::new("ip").args(["address", "add", ADDRESS, "dev", "lo"]));
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
