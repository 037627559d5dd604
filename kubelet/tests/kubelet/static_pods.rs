//! The real kubelet on a real containerd, with static pods alone.

use std::fs;
use std::process::Command;

use crate::support::node::{Node, eventually, isolated, run};

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
            node.log_of("web-n1", "server").contains("stdout F I am web-n1").then_some(())
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
        node.stop_kubelet();
        node.start_kubelet();
        eventually("the web pod is known again", || node.is_ready("web"));
        let after = node.container("web", "server").unwrap();
        assert_eq!((&after["containerID"], &after["restartCount"]), (&before["containerID"], &before["restartCount"]));

        // So does one whose runtime starts again.
        node.stop_containerd();
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
