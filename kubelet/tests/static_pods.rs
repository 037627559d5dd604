//! The real kubelet on a real containerd, with static pods alone. Everything runs in network and mount namespaces of the test's own, so
//! that nothing is left when it ends.

// The helpers of a test panic as the test does.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use images::archive::{Archive, Start};
use images::{layer, rootfs};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: &str = "corten.test/pause:1";
const BUSYBOX: &str = "corten.test/busybox:1";
const READ_ONLY_PORT: u16 = 10255;

struct Node {
    dir: tempfile::TempDir,
    containerd: Option<Child>,
    kubelet: Option<Child>,
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: is it installed?"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn eventually<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Node {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("corten-kubelet-").tempdir().unwrap();
        for name in ["cni", "manifests", "kubelet", "logs"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut node = Self { dir, containerd: None, kubelet: None };
        node.write_configuration();
        node.start_containerd();
        node.import_images();
        node.start_kubelet();
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("containerd.sock")
    }

    fn write_configuration(&self) {
        let dir = self.dir.path().display();
        let containerd = format!(
            "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\n\
             disabled_plugins = [\"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.aufs\"]\n\
             [grpc]\naddress = \"{dir}/containerd.sock\"\n[ttrpc]\naddress = \"{dir}/containerd.ttrpc\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{PAUSE}\"\nrestrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"{dir}/cni\"\n"
        );
        fs::write(self.path("containerd.toml"), containerd).unwrap();
        let network = format!(
            r#"{{"cniVersion":"0.4.0","name":"t","plugins":[{{"type":"bridge","bridge":"cni0","isGateway":true,"ipam":{{"type":"host-local","dataDir":"{dir}/ipam","ranges":[[{{"subnet":"10.99.0.0/24"}}]]}}}}]}}"#
        );
        fs::write(self.path("cni/10-t.conflist"), network).unwrap();
        let kubelet = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: {dir}/manifests\n\
             containerRuntimeEndpoint: unix://{dir}/containerd.sock\nfailSwapOn: false\nreadOnlyPort: {READ_ONLY_PORT}\n\
             cgroupRoot: /corten-test-{}\n",
            std::process::id()
        );
        fs::write(self.path("kubelet.yaml"), kubelet).unwrap();
    }

    fn log(&self, name: &str) -> Stdio {
        fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap().into()
    }

    fn start_containerd(&mut self) {
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
        archive.image(PAUSE, std::slice::from_ref(&blob), &pause).unwrap();
        archive.image(BUSYBOX, &[blob], &Start { entrypoint: words(&["/bin/sh"]), ..Default::default() }).unwrap();
        archive.finish().unwrap();
        run(Command::new("ctr").arg("-a").arg(self.socket()).args(["-n", "k8s.io", "images", "import"]).arg(&file));
    }

    fn start_kubelet(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubelet"));
        command.arg("--config").arg(self.path("kubelet.yaml")).arg("--root-dir").arg(self.path("kubelet"));
        command.arg("--cert-dir").arg(self.path("pki")).arg("--pod-logs-dir").arg(self.path("logs"));
        command.args(["--hostname-override", "n1", "-v", "2"]).stderr(self.log("kubelet.log")).stdout(Stdio::null());
        self.kubelet = Some(command.spawn().unwrap());
    }

    fn end(child: &mut Option<Child>) {
        let Some(mut child) = child.take() else { return };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
        child.wait().ok();
    }

    fn manifest(&self, name: &str, text: &str) {
        let draft = self.path("manifests").join(format!(".{name}"));
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.path("manifests").join(format!("{name}.yaml"))).unwrap();
    }

    /// The pods as the read-only port tells them.
    fn pods(&self) -> Option<Vec<Value>> {
        let mut stream = TcpStream::connect(("127.0.0.1", READ_ONLY_PORT)).ok()?;
        stream.write_all(b"GET /pods HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let text = String::from_utf8(answer).ok()?;
        let list: Value = serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?;
        list["items"].as_array().cloned()
    }

    fn status(&self, name: &str) -> Option<Value> {
        let pods = self.pods()?;
        Some(pods.iter().find(|pod| pod["metadata"]["name"] == format!("{name}-n1"))?["status"].clone())
    }

    fn container(&self, pod: &str, name: &str) -> Option<Value> {
        let status = self.status(pod)?;
        status["containerStatuses"].as_array()?.iter().find(|container| container["name"] == name).cloned()
    }

    fn is_ready(&self, pod: &str) -> Option<()> {
        let status = self.status(pod)?;
        let ready = status["conditions"].as_array()?.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        ready.then_some(())
    }

    fn log_of(&self, pod: &str, container: &str) -> String {
        let directories = fs::read_dir(self.path("logs")).unwrap().flatten();
        let directory = directories
            .map(|entry| entry.path())
            .find(|path| path.display().to_string().contains(&format!("_{pod}-n1_")));
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
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_cgroup(&hierarchy.path().join(format!("corten-test-{}", std::process::id())));
        }
    }
}

fn remove_cgroup(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&entry.path());
    }
    fs::remove_dir(directory).ok();
}

/// Runs on a thread with network and mounts of its own.
fn isolated(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("this test needs root");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        run(Command::new("ip").args(["link", "set", "lo", "up"]));
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

const WEB: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: prepare
    image: corten.test/busybox:1
    command: [sh, -c, 'echo ready > /www/index.html']
    volumeMounts: [{name: www, mountPath: /www}]
  containers:
  - name: server
    image: corten.test/busybox:1
    command: [sh, -c, 'echo I am $(NAME); exec httpd -f -p 80 -h /www']
    env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    volumeMounts: [{name: www, mountPath: /www, readOnly: true}]
    readinessProbe: {httpGet: {path: /index.html, port: 80}, periodSeconds: 1}
    livenessProbe: {exec: {command: [test, -e, /www/index.html]}, periodSeconds: 1}
  volumes: [{name: www, emptyDir: {medium: Memory}}]
"#;

const CRASH: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  containers:
  - name: c
    image: corten.test/busybox:1
    command: [sh, -c, 'echo last words > /dev/termination-log; exit 3']
  - name: absent
    image: corten.test/absent:1
    imagePullPolicy: Never
"#;

#[test]
fn static_pods_live_as_their_files_say_and_survive_the_kubelet() {
    isolated(|| {
        let mut node = Node::start();
        node.manifest("web", WEB);
        node.manifest("crash", CRASH);

        eventually("the web pod is ready: init container, volume, probes", || node.is_ready("web"));
        eventually("its log tells its name", || {
            node.log_of("web", "server").contains("stdout F I am web-n1").then_some(())
        });

        let crashed = eventually("a container that crashes is restarted, then waits", || {
            let container = node.container("crash", "c")?;
            let waits = container["state"]["waiting"]["reason"] == "CrashLoopBackOff";
            (waits && container["restartCount"].as_u64()? >= 1).then_some(container)
        });
        let last = &crashed["lastState"]["terminated"];
        assert_eq!((last["exitCode"].as_i64(), last["message"].as_str()), (Some(3), Some("last words\n")));
        let absent = node.container("crash", "absent").unwrap();
        assert_eq!(absent["state"]["waiting"]["reason"], "ErrImageNeverPull");

        // A kubelet that starts again finds what runs, and leaves it alone.
        let before = node.container("web", "server").unwrap();
        Node::end(&mut node.kubelet);
        node.start_kubelet();
        eventually("the web pod is known again", || node.is_ready("web"));
        let after = node.container("web", "server").unwrap();
        assert_eq!((&after["containerID"], &after["restartCount"]), (&before["containerID"], &before["restartCount"]));

        // So does one whose runtime starts again.
        Node::end(&mut node.containerd);
        node.start_containerd();
        eventually("the runtime answers the kubelet again", || {
            fs::remove_file(node.path("manifests/crash.yaml")).ok();
            node.status("crash").is_none().then_some(())
        });
        assert_eq!(node.container("web", "server").unwrap()["containerID"], before["containerID"]);

        // Killed from outside, a container comes back.
        let id = before["containerID"].as_str().unwrap().trim_start_matches("containerd://").to_owned();
        run(Command::new("ctr")
            .arg("-a")
            .arg(node.socket())
            .args(["-n", "k8s.io", "tasks", "kill", "-s", "KILL", &id]));
        eventually("the container is started again", || {
            let container = node.container("web", "server")?;
            (container["restartCount"] == 1 && container["ready"] == true).then_some(())
        });

        // A changed file is another pod; a file that is gone ends its pod, and leaves nothing.
        node.manifest("web", &WEB.replace("ready >", "changed >"));
        eventually("the changed pod replaces the first", || {
            let container = node.container("web", "server")?;
            (container["restartCount"] == 0
                && container["containerID"] != before["containerID"]
                && container["ready"] == true)
                .then_some(())
        });
        fs::remove_file(node.path("manifests/web.yaml")).unwrap();
        eventually("all pods are gone", || node.pods()?.is_empty().then_some(()));
        let left =
            run(Command::new("ctr").arg("-a").arg(node.socket()).args(["-n", "k8s.io", "containers", "ls", "-q"]));
        assert_eq!(left, "", "no container is left");
        assert_eq!(fs::read_dir(node.path("kubelet/pods")).unwrap().count(), 0, "no volume is left");
        assert_eq!(fs::read_dir(node.path("logs")).unwrap().count(), 0, "no log is left");
    });
}
