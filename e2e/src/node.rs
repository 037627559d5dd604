//! A node for one test: containerd and our kubelet, joined to a `ControlPlane`, in network and mount namespaces of the test's own.
//! There is no scheduler: tests name the node in their pods.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use images::{
    archive::{Archive, Start},
    layer, rootfs,
};
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::{Api, Client};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    control_plane::{ControlPlane, binary},
    process::Process,
};

/// The name of the node.
pub const NAME: &str = "n1";
/// Its address.
pub const ADDRESS: &str = "192.0.2.10";
/// The image with busybox, which all pods of tests run.
pub const IMAGE: &str = "corten.test/busybox:1";
/// The kubelet's port.
pub const PORT: u16 = 10250;

/// The image of sandboxes, which [`configure_runtime`] names and each node imports.
pub const PAUSE: &str = "corten.test/pause:1";
const PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(10);
const PAUSE_BETWEEN_QUESTIONS: Duration = Duration::from_millis(20);

/// A running node. It ends, with all its containers, when it is dropped.
pub struct Node {
    // Clients before servers.
    kubelet: Option<Process>,
    containerd: Option<Process>,
    dir: tempfile::TempDir,
}

/// Runs a test on a thread with a network and mounts of its own, in which the node has its address.
pub fn isolated<F>(test: impl FnOnce() -> F + Send + 'static) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let thread = std::thread::spawn(move || {
        enter_namespaces()?;
        run("ip", &["link", "add", "node0", "type", "bridge"])?;
        run("ip", &["address", "add", &format!("{ADDRESS}/24"), "dev", "node0"])?;
        run("ip", &["link", "set", "node0", "up"])?;
        // Threads and processes are started from this thread, so they have its namespaces.
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test())
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Where runtimes and `ip netns` name network namespaces.
const NETWORK_NAMESPACES: &str = "/run/netns";

/// Writes `containerd.toml` and the network `cni/10-t.conflist` below a folder: a containerd with everything of its own there.
pub fn configure_runtime(dir: &Path) -> Result<()> {
    let path = |name: &str| dir.join(name);
    let dir = dir.display();
    let containerd = format!(
        "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\n\
         disabled_plugins = [\"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.aufs\"]\n\
         [grpc]\naddress = \"{dir}/containerd.sock\"\n[ttrpc]\naddress = \"{dir}/containerd.ttrpc\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{PAUSE}\"\nrestrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"{dir}/cni\"\n"
    );
    fs::write(path("containerd.toml"), containerd)?;
    let network = format!(
        r#"{{"cniVersion":"0.4.0","name":"t","plugins":[{{"type":"bridge","bridge":"cni0","isGateway":true,"ipam":{{"type":"host-local","dataDir":"{dir}/ipam","ranges":[[{{"subnet":"10.99.0.0/24"}}]]}}}}]}}"#
    );
    fs::write(path("cni/10-t.conflist"), network)?;
    Ok(())
}

/// Gives the calling thread a network, where only loopback is up, and mounts of its own. The names of network namespaces are
/// kept there too, so that none stays on the machine.
pub fn enter_namespaces() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("this test needs root")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    fs::create_dir_all(NETWORK_NAMESPACES)?;
    mount(Some("tmpfs"), NETWORK_NAMESPACES, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    run("ip", &["link", "set", "lo", "up"]).map(|_| ())
}

fn run(program: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program).args(words).output().with_context(|| format!("{program} is missing"))?;
    if !output.status.success() {
        bail!("{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Asks until there is an answer. Fails with the last error when there is none in a minute.
pub async fn eventually<T>(what: &str, mut question: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let answer = question().await;
        match answer {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) if start.elapsed() > PATIENCE => bail!("not within {PATIENCE:?}: {what}"),
            Err(error) if start.elapsed() > PATIENCE => return Err(error.context(format!("not in time: {what}"))),
            _ => tokio::time::sleep(PAUSE_BETWEEN_QUESTIONS).await,
        }
    }
}

impl Node {
    /// Starts a node and waits until it is registered.
    pub async fn join(plane: &ControlPlane) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("corten-node-").tempdir()?;
        for name in ["cni", "kubelet", "logs"] {
            fs::create_dir(dir.path().join(name))?;
        }
        let mut node = Self { kubelet: None, containerd: None, dir };
        node.configure(plane)?;
        node.start_containerd().await?;
        node.import_image()?;
        node.start_kubelet(plane)?;
        let nodes: Api<NodeObject> = Api::all(plane.client().await?);
        eventually("the node is registered", async || {
            node.check()?;
            let found = nodes.get_opt(NAME).await?.and_then(|node| node.status);
            Ok(found.and_then(|status| status.addresses).filter(|addresses| !addresses.is_empty()).map(drop))
        })
        .await?;
        Ok(node)
    }

    /// A file or folder of the node's: `kubelet.log`, `logs`, …
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn kubelet(&mut self) -> Result<&mut Process> {
        self.kubelet.as_mut().ok_or_else(|| anyhow!("the kubelet is not running"))
    }

    /// The pid of containerd.
    pub fn containerd(&mut self) -> Result<&mut Process> {
        self.containerd.as_mut().ok_or_else(|| anyhow!("containerd is not running"))
    }

    fn check(&mut self) -> Result<()> {
        self.containerd()?.check()?;
        self.kubelet()?.check()
    }

    /// Creates a pod on this node, and waits until it is ready.
    pub async fn run(&mut self, client: &Client, pod: serde_json::Value) -> Result<Pod> {
        let mut pod: Pod = serde_json::from_value(pod)?;
        let spec = pod.spec.get_or_insert_default();
        spec.node_name = Some(NAME.into());
        spec.automount_service_account_token = Some(false);
        spec.termination_grace_period_seconds = Some(1);
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let name = pods.create(&Default::default(), &pod).await?.metadata.name.context("a pod has a name")?;
        eventually(&format!("{name} is ready"), async || {
            self.check()?;
            let pod = pods.get(&name).await?;
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
            Ok(ready.then_some(pod))
        })
        .await
    }

    fn configure(&self, plane: &ControlPlane) -> Result<()> {
        let dir = self.dir.path().display();
        configure_runtime(self.dir.path())?;
        // How full the machine's disk is must not decide a test.
        let kubelet = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
             containerRuntimeEndpoint: unix://{dir}/containerd.sock\nfailSwapOn: false\nport: {PORT}\nevictionHard: {{}}\n\
             imageGCHighThresholdPercent: 100\n\
             cgroupRoot: /{}\n\
             authentication:\n  anonymous: {{enabled: false}}\n  webhook: {{enabled: true}}\n  x509: {{clientCAFile: {}/ca.crt}}\n\
             authorization: {{mode: Webhook}}\n",
            cgroup(),
            plane.pki_dir().display(),
        );
        Ok(fs::write(self.path("kubelet.yaml"), kubelet)?)
    }

    async fn start_containerd(&mut self) -> Result<()> {
        let mut command = Command::new("containerd");
        command.arg("-c").arg(self.path("containerd.toml"));
        let log = self.path("containerd.log");
        let process = Process::start("containerd", &mut command, &log).context("apt-get install containerd")?;
        self.containerd = Some(process);
        let socket = self.path("containerd.sock").display().to_string();
        eventually("containerd answers", async || {
            self.containerd()?.check()?;
            Ok(run("ctr", &["-a", &socket, "version"]).ok().map(drop))
        })
        .await
    }

    fn import_image(&self) -> Result<()> {
        let file = self.path("images.tar");
        let mut archive = Archive::new(fs::File::create(&file)?)?;
        let mut files = rootfs::base(&[])?;
        files.extend(rootfs::busybox()?);
        let blob = archive.blob(&layer::tar(&files)?)?;
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let pause = Start {
            entrypoint: words(&["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"]),
            ..Default::default()
        };
        archive.image(PAUSE, std::slice::from_ref(&blob), &pause)?;
        archive.image(IMAGE, &[blob], &Start { entrypoint: words(&["/bin/sh"]), ..Default::default() })?;
        archive.finish()?;
        let (socket, file) = (self.path("containerd.sock").display().to_string(), file.display().to_string());
        run("ctr", &["-a", &socket, "-n", "k8s.io", "images", "import", &file]).map(drop)
    }

    fn start_kubelet(&mut self, plane: &ControlPlane) -> Result<()> {
        let kubeconfig = plane.kubeconfig_for(&format!("system:node:{NAME}"), &["system:nodes"])?;
        let mut command = Command::new(binary("kubelet")?);
        command.arg("--config").arg(self.path("kubelet.yaml")).arg("--kubeconfig").arg(kubeconfig);
        command.arg("--root-dir").arg(self.path("kubelet")).arg("--cert-dir").arg(self.path("pki"));
        command.arg("--pod-logs-dir").arg(self.path("logs"));
        command.args(["--hostname-override", NAME, "--node-ip", ADDRESS, "-v", "2"]);
        self.kubelet = Some(Process::start("kubelet", &mut command, &self.path("kubelet.log"))?);
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for process in [&mut self.kubelet, &mut self.containerd] {
            if let Some(process) = process
                && let Err(error) = process.stop(STOP_PATIENCE)
            {
                eprintln!("{error}");
            }
        }
        end_containers(self.dir.path());
        unmount(self.dir.path());
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_cgroup(&hierarchy.path().join(cgroup()));
        }
        remove_cgroup(&Path::new("/sys/fs/cgroup").join(cgroup()));
    }
}

fn cgroup() -> String {
    format!("corten-node-{}", std::process::id())
}

/// Ends the shims of the node's containers: the processes whose command line names its folder.
fn end_containers(dir: &Path) {
    let dir = dir.display().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&dir)
            && let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL)
        {
            eprintln!("process {pid} of {dir}: {error}");
        }
    }
}

/// Unmounts what is mounted below the folder, so that it can be removed: the mounts are those of the test's own namespace.
pub fn unmount(dir: &Path) {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let points =
        table.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| Path::new(point).starts_with(dir));
    for point in points.collect::<Vec<_>>().into_iter().rev() {
        if let Err(error) = umount2(point, MntFlags::MNT_DETACH) {
            eprintln!("{point}: {error}");
        }
    }
}

/// Ends what runs in a cgroup and below, and removes it. Processes leave a moment after they were told to.
fn remove_cgroup(directory: &Path) {
    let start = Instant::now();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&entry.path());
    }
    while directory.is_dir() {
        let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines().filter_map(|line| line.parse().ok()) {
            // It may have ended by itself.
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        match fs::remove_dir(directory) {
            Ok(()) => return,
            Err(error) if start.elapsed() > STOP_PATIENCE => return eprintln!("{}: {error}", directory.display()),
            Err(_) => std::thread::sleep(PAUSE_BETWEEN_QUESTIONS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_calls_a_network_stays_in_its_own_mounts() {
        let name = format!("corten-test-{}", std::process::id());
        let inside = name.clone();
        isolated(move || async move {
            run("ip", &["netns", "add", &inside])?;
            anyhow::ensure!(Path::new(NETWORK_NAMESPACES).join(&inside).exists(), "the name is there");
            Ok(())
        })
        .expect("a namespace");
        assert!(!Path::new(NETWORK_NAMESPACES).join(&name).exists());
    }
}
