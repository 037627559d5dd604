//! The real cluster, looked at from outside. The cases share one cluster and run one after the other, in the order of
//! their names; the first makes the cluster, and the last takes it down.

use std::{collections::BTreeSet, fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::Kubectl;
use e2e::cluster::{Cluster, IMAGE, NODES, eventually};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

const SECONDS_10: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);

/// Does the same with our kubectl and with one that is not ours, each in a namespace of its own.
fn with_each_kubectl(namespace: &str, case: impl Fn(&Cluster, &Kubectl) -> Result<()>) -> Result<()> {
    let cluster = Cluster::shared()?;
    for (whose, kubectl) in [("ours", cluster.kubectl()?), ("foreign", cluster.foreign_kubectl()?)] {
        let kubectl = kubectl.in_new_namespace(&format!("{namespace}-{whose}"))?;
        case(&cluster, &kubectl).with_context(|| format!("with a kubectl that is {whose}"))?;
    }
    Ok(())
}

fn deployment(name: &str, replicas: usize, message: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "terminationGracePeriodSeconds": 10,
                    "containers": [{
                        "name": "web",
                        "image": IMAGE,
                        "args": ["serve", "--port=8080", "--drain=3", format!("--message={message}")],
                        "ports": [{ "containerPort": 8080 }],
                        "readinessProbe": { "httpGet": { "path": "/readyz", "port": 8080 }, "periodSeconds": 1, "failureThreshold": 1 },
                    }],
                },
            },
        },
    })
}

fn service(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "type": kind, "selector": { "app": name }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    })
}

/// A pod that stays, to look from inside.
fn toolbox(name: &str, node: Option<usize>, args: &[&str]) -> Value {
    let selector = node.map(|node| json!({ "kubernetes.io/hostname": format!("node-{node}") }));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "nodeSelector": selector,
            "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "toolbox", "image": IMAGE, "args": args }],
        },
    })
}

fn wait_available(kubectl: &Kubectl, name: &str, replicas: usize) -> Result<()> {
    let object = format!("deployment/{name}");
    eventually(&format!("{replicas} available replicas of {name}"), MINUTE, || {
        let status =
            kubectl.field(&object, "{.status.availableReplicas},{.status.updatedReplicas},{.status.replicas}")?;
        Ok(status == format!("{replicas},{replicas},{replicas}"))
    })?;
    Ok(())
}

fn wait_running(kubectl: &Kubectl, pod: &str) -> Result<()> {
    eventually(&format!("{pod} is ready"), MINUTE, || {
        Ok(kubectl.field(&format!("pod/{pod}"), "{.status.conditions[?(@.type==\"Ready\")].status}")? == "True")
    })?;
    Ok(())
}

/// Asks from the host, with a connection for each question.
fn ask(url: &str, times: usize) -> Result<BTreeSet<String>> {
    let output = Command::new(e2e::control_plane::binary("toolbox")?)
        .args(["probe", "--print", "--interval=0", &format!("--count={times}"), url])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{url}: {text}");
    Ok(text.lines().take(times).map(str::to_owned).collect())
}

#[test]
fn case_01_a_deployment_answers_from_everywhere_by_every_name() -> Result<()> {
    with_each_kubectl("everywhere", |cluster, kubectl| {
        kubectl.apply(&deployment("web", 3, "hello"))?;
        kubectl.apply(&service("web", "NodePort"))?;
        for node in 1..=NODES {
            kubectl.apply(&toolbox(&format!("from-{node}"), Some(node), &["sleep", "3600"]))?;
        }
        wait_available(kubectl, "web", 3)?;
        let cluster_ip = kubectl.field("service/web", "{.spec.clusterIP}")?;
        let port = kubectl.field("service/web", "{.spec.ports[0].nodePort}")?;
        let full_name = format!("web.{}.svc.cluster.local", kubectl.namespace());
        let mut urls = vec![format!("http://{cluster_ip}/hostname")];
        urls.extend((1..=NODES).map(|node| format!("http://{}:{port}/hostname", cluster.node_address(node))));
        let pods: BTreeSet<String> = kubectl.names("pods", "app=web")?.into_iter().collect();
        for url in &urls {
            eventually(&format!("{url} answers"), SECONDS_10, || Ok(ask(url, 1).is_ok()))?;
            let answered = ask(url, 60)?;
            assert_eq!(answered, pods, "{url} is answered by every pod");
        }
        for node in 1..=NODES {
            let pod = format!("from-{node}");
            wait_running(kubectl, &pod)?;
            let names = ["http://web/hostname", &format!("http://{full_name}/hostname")];
            for url in urls.iter().map(String::as_str).chain(names) {
                let said = kubectl
                    .exec(&pod, &["toolbox", "probe", "--count=5", "--timeout=5", "--print", url])
                    .with_context(|| format!("{url} from {pod}"))?;
                assert!(pods.contains(said.lines().next().unwrap_or_default()), "{url} from {pod}: {said}");
            }
            let found = kubectl.exec(&pod, &["toolbox", "dns", &full_name])?;
            assert_eq!(found.trim(), cluster_ip);
        }
        Ok(())
    })
}

#[test]
fn case_02_a_rolling_update_loses_no_request() -> Result<()> {
    with_each_kubectl("rolling", |_, kubectl| {
        kubectl.apply(&deployment("web", 3, "first"))?;
        kubectl.apply(&service("web", "ClusterIP"))?;
        wait_available(kubectl, "web", 3)?;
        let url = format!("http://{}/", kubectl.field("service/web", "{.spec.clusterIP}")?);
        eventually("the Service answers", SECONDS_10, || Ok(ask(&url, 1).is_ok()))?;
        let dir = tempfile::tempdir()?;
        let log = dir.path().join("probe.log");
        let mut probe = e2e::process::Process::start(
            "probe",
            Command::new(e2e::control_plane::binary("toolbox")?).args(["probe", "--interval=5", &url]),
            &log,
        )?;
        kubectl.apply(&deployment("web", 3, "second"))?;
        kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
        eventually("only the second answers", Duration::from_secs(20), || {
            Ok(ask(&url, 20)?.iter().all(|answer| answer.ends_with("second")))
        })?;
        probe.stop(SECONDS_10)?;
        let report = fs::read_to_string(&log)?;
        let requests: u64 =
            report.lines().find_map(|line| line.split_once(" requests,")).with_context(|| report.clone())?.0.parse()?;
        assert!(requests > 100 && report.contains(" 0 failures"), "{report}");
        Ok(())
    })
}

#[test]
fn case_03_a_bad_image_stops_the_rollout_and_undo_restores_it() -> Result<()> {
    with_each_kubectl("bad-image", |_, kubectl| {
        kubectl.apply(&deployment("web", 3, "good"))?;
        wait_available(kubectl, "web", 3)?;
        let mut bad = deployment("web", 3, "bad");
        bad["spec"]["template"]["spec"]["containers"][0]["image"] = "localhost/corten/no-such-image:v0".into();
        kubectl.apply(&bad)?;
        eventually("a pod waits for its image", MINUTE, || {
            let reasons = kubectl.run(&[
                "get",
                "pods",
                "-o",
                "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}",
            ])?;
            Ok(reasons.contains("ErrImagePull") || reasons.contains("ImagePullBackOff"))
        })?;
        let available: usize = kubectl.field("deployment/web", "{.status.availableReplicas}")?.parse()?;
        assert!(available >= 2, "{available} of 3 are available");
        kubectl.run(&["rollout", "undo", "deployment/web"])?;
        wait_available(kubectl, "web", 3)?;
        assert_eq!(kubectl.field("deployment/web", "{.spec.template.spec.containers[0].image}")?, IMAGE);
        Ok(())
    })
}

#[test]
fn case_04_scale_from_1_to_20_to_3() -> Result<()> {
    with_each_kubectl("scale", |_, kubectl| {
        kubectl.apply(&deployment("web", 1, "scaled"))?;
        wait_available(kubectl, "web", 1)?;
        for replicas in [20, 3] {
            kubectl.run(&["scale", "deployment/web", &format!("--replicas={replicas}")])?;
            wait_available(kubectl, "web", replicas)?;
            eventually(
                &format!("{replicas} pods"),
                MINUTE,
                || Ok(kubectl.names("pods", "app=web")?.len() == replicas),
            )?;
        }
        Ok(())
    })
}

#[test]
fn case_05_a_killed_container_restarts_with_backoff() -> Result<()> {
    with_each_kubectl("restarts", |_, kubectl| {
        kubectl.apply(&toolbox("exits", None, &["exit", "3", "--after=0.2"]))?;
        kubectl.apply(&toolbox("serves", None, &["serve"]))?;
        wait_running(kubectl, "serves")?;
        let address = kubectl.field("pod/serves", "{.status.podIP}")?;
        ask(&format!("http://{address}:8080/exit?code=9"), 1)?;
        let status = |pod: &str, path: &str| {
            kubectl.field(&format!("pod/{pod}"), &format!("{{.status.containerStatuses[0].{path}}}"))
        };
        eventually("the container is started again", MINUTE, || {
            Ok(status("serves", "restartCount")? == "1" && status("serves", "ready")? == "true")
        })?;
        assert_eq!(status("serves", "lastState.terminated.exitCode")?, "9");
        eventually("the one that exits again and again has to wait", MINUTE, || {
            Ok(status("exits", "state.waiting.reason")? == "CrashLoopBackOff"
                && status("exits", "restartCount")?.parse::<u32>()? >= 1)
        })?;
        assert_eq!(status("exits", "lastState.terminated.exitCode")?, "3");
        Ok(())
    })
}

#[test]
fn case_06_failing_readiness_takes_a_pod_out_of_its_service_within_2_seconds() -> Result<()> {
    with_each_kubectl("readiness", |_, kubectl| {
        kubectl.apply(&deployment("web", 2, "ready"))?;
        kubectl.apply(&service("web", "ClusterIP"))?;
        wait_available(kubectl, "web", 2)?;
        let url = format!("http://{}/hostname", kubectl.field("service/web", "{.spec.clusterIP}")?);
        let pods = kubectl.names("pods", "app=web")?;
        eventually("both answer", SECONDS_10, || Ok(ask(&url, 40)?.len() == 2))?;
        let address = kubectl.field(&format!("pod/{}", pods[0]), "{.status.podIP}")?;
        ask(&format!("http://{address}:8080/unready"), 1)?;
        let took = eventually("only the other answers", SECONDS_10, || {
            Ok(ask(&url, 20)? == BTreeSet::from([pods[1].clone()]))
        })?;
        // The probe's period is 1 s, and the two seconds are counted from its first failure.
        assert!(took < Duration::from_secs(3), "took {took:?}");
        ask(&format!("http://{address}:8080/ready"), 1)?;
        eventually("both answer again", SECONDS_10, || Ok(ask(&url, 40)?.len() == 2))?;
        Ok(())
    })
}

#[test]
fn case_07_a_deleted_namespace_disappears_with_all_in_it() -> Result<()> {
    with_each_kubectl("doomed", |_, kubectl| {
        kubectl.apply(&deployment("web", 2, "doomed"))?;
        kubectl.apply(&service("web", "ClusterIP"))?;
        kubectl.apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "held" } }))?;
        wait_available(kubectl, "web", 2)?;
        kubectl.run(&["delete", "namespace", kubectl.namespace(), "--wait=false"])?;
        eventually("the namespace is gone", MINUTE, || {
            Ok(kubectl.code(&["get", "namespace", kubectl.namespace()])? != 0)
        })?;
        for resource in ["pods", "deployments", "replicasets", "services", "configmaps"] {
            let left = kubectl.run(&["get", resource, "-o", "name"])?;
            assert_eq!(left.trim(), "", "{resource}");
        }
        Ok(())
    })
}

#[test]
fn case_08_exec_attach_logs_and_port_forward() -> Result<()> {
    with_each_kubectl("streams", |_, kubectl| {
        let dir = tempfile::tempdir()?;
        for node in 1..=NODES {
            let pod = format!("serves-{node}");
            kubectl.apply(&toolbox(&pod, Some(node), &["serve"]))?;
            wait_running(kubectl, &pod)?;
            assert_eq!(kubectl.exec(&pod, &["hostname"])?.trim(), pod);
            assert_eq!(kubectl.run_with(&["exec", "-i", &pod, "--", "cat"], "back and forth\n")?, "back and forth\n");
            assert_eq!(kubectl.code(&["exec", &pod, "--", "sh", "-c", "exit 7"])?, 7);

            let log = dir.path().join(format!("forward-{node}"));
            let port = 18080 + node;
            let mut forward = kubectl.start(&["port-forward", &format!("pod/{pod}"), &format!("{port}:8080")], &log)?;
            eventually("the forwarded port answers", SECONDS_10, || {
                Ok(ask(&format!("http://127.0.0.1:{port}/hostname"), 1)? == BTreeSet::from([pod.clone()]))
            })?;
            forward.kill()?;

            let ticks = format!("ticks-{node}");
            let script = "i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.2; done";
            let mut ticking = toolbox(&ticks, Some(node), &[]);
            ticking["spec"]["containers"][0]["command"] = json!(["sh", "-c", script]);
            kubectl.apply(&ticking)?;
            wait_running(kubectl, &ticks)?;
            let log = dir.path().join(format!("logs-{node}"));
            let mut follow = kubectl.start(&["logs", "-f", &ticks], &log)?;
            eventually("the log is followed", SECONDS_10, || Ok(fs::read_to_string(&log)?.lines().count() > 10))?;
            follow.kill()?;
            assert!(fs::read_to_string(&log)?.starts_with("tick 1\ntick 2\n"));
        }
        Ok(())
    })
}

#[test]
fn case_09_a_foreign_kubectl_and_a_python_client_work_against_it() -> Result<()> {
    let cluster = Cluster::shared()?;
    let kubectl = cluster.foreign_kubectl()?.in_new_namespace("foreign")?;
    kubectl.apply(&deployment("web", 2, "foreign"))?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    kubectl.run(&["scale", "deployment/web", "--replicas=3"])?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let pods = kubectl.names("pods", "app=web")?;
    assert_eq!(pods.len(), 3);
    assert_eq!(kubectl.exec(&pods[0], &["hostname"])?.trim(), pods[0]);
    assert!(kubectl.run(&["logs", &pods[0]])?.contains("serving on"));
    assert!(kubectl.run(&["describe", "pod", &pods[0]])?.contains("Ready"));
    assert!(kubectl.run(&["get", "nodes", "-o", "wide"])?.contains("containerd://"));
    kubectl.run(&["wait", "--for=condition=Available", "deployment/web", "--timeout=30s"])?;
    python(&cluster)?;
    kubectl.run(&["delete", "deployment", "web"])?;
    eventually("its pods are gone", MINUTE, || Ok(kubectl.names("pods", "app=web")?.is_empty()))?;
    Ok(())
}

/// The Python client, in a virtual environment below the cluster's folder, does what a script of a user would.
fn python(cluster: &Cluster) -> Result<()> {
    let python = std::env::var_os("CORTEN_PYTHON")
        .context("CORTEN_PYTHON names no python with the package kubernetes: run hack/test, which makes one")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python_client.py");
    let output = Command::new(python).arg(script).env("KUBECONFIG", cluster.kubeconfig()?).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout)?;
    ensure!(said.trim() == "all good", "{said}");
    Ok(())
}

#[test]
fn case_10_etcd_has_the_keys_of_kubernetes() -> Result<()> {
    let cluster = Cluster::shared()?;
    let kubectl = cluster.kubectl()?;
    let pki = "/etc/kubernetes/pki/etcd";
    let keys = kubectl.run(&[
        "exec",
        "--namespace=kube-system",
        "etcd-node-1",
        "--",
        "etcdctl",
        &format!("--cacert={pki}/ca.crt"),
        &format!("--cert={pki}/server.crt"),
        &format!("--key={pki}/server.key"),
        "get",
        "--prefix",
        "/registry",
        "--keys-only",
    ]);
    let keys = keys?;
    for key in [
        "/registry/minions/node-1",
        "/registry/pods/kube-system/etcd-node-1",
        "/registry/services/specs/kube-system/kube-dns",
    ] {
        assert!(keys.lines().any(|line| line == key), "{key} is not among\n{keys}");
    }
    Ok(())
}

#[test]
fn case_11_killed_components_come_back_and_nothing_acknowledged_is_lost() -> Result<()> {
    let cluster = Cluster::shared()?;
    let kubectl = cluster.kubectl()?.in_new_namespace("killed")?;
    kubectl.apply(&deployment("web", 2, "steady"))?;
    wait_available(&kubectl, "web", 2)?;
    let mut acknowledged = Vec::new();
    for name in
        ["kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd", "kube-proxy", "containerd", "kubelet"]
    {
        let before = cluster.component(name, "node-1")?;
        kill(Pid::from_raw(before.pid), Signal::SIGKILL)?;
        for number in 0..20 {
            let map = format!("{name}-{number}");
            let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": map } });
            if kubectl.apply(&object).is_ok() {
                acknowledged.push(map);
            }
        }
        // Nothing on the machine restarts these two; elsewhere systemd does.
        if ["containerd", "kubelet"].contains(&name) {
            cluster.repair()?;
        }
        eventually(&format!("{name} is back"), Duration::from_secs(90), || {
            let now = cluster.component(name, "node-1")?;
            Ok(now.pid != before.pid && now.ready)
        })?;
    }
    kubectl.run(&["scale", "deployment/web", "--replicas=4"])?;
    wait_available(&kubectl, "web", 4)?;
    let there = kubectl.run(&["get", "configmaps", "-o", "name"])?;
    let there: BTreeSet<&str> = there.lines().filter_map(|line| line.rsplit('/').next()).collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !there.contains(name.as_str())).collect();
    assert!(lost.is_empty() && acknowledged.len() >= 40, "lost {lost:?} of {}", acknowledged.len());
    Ok(())
}

#[test]
fn case_12_pods_of_a_lost_node_are_replaced_elsewhere() -> Result<()> {
    let cluster = Cluster::shared()?;
    let kubectl = cluster.kubectl()?.in_new_namespace("lost-node")?;
    let mut web = deployment("web", 2, "moves");
    // The default waits 300 s.
    web["spec"]["template"]["spec"]["tolerations"] = json!([
        { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2 },
        { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2 },
    ]);
    kubectl.apply(&web)?;
    wait_available(&kubectl, "web", 2)?;
    let kubelet = cluster.component("kubelet", "node-2")?;
    kill(Pid::from_raw(kubelet.pid), Signal::SIGKILL)?;
    eventually("the node is not ready", Duration::from_secs(120), || {
        Ok(kubectl.field("node/node-2", "{.status.conditions[?(@.type==\"Ready\")].status}")? == "Unknown")
    })?;
    eventually("two pods are ready on the other node", MINUTE, || {
        let nodes = kubectl.run(&[
            "get",
            "pods",
            "-o",
            "jsonpath={range .items[?(@.status.containerStatuses[0].ready==true)]}{.spec.nodeName}{\"\\n\"}{end}",
        ])?;
        Ok(nodes.lines().filter(|node| *node == "node-1").count() >= 2)
    })?;
    cluster.repair()?;
    eventually("the node is back", MINUTE, || {
        Ok(kubectl.field("node/node-2", "{.status.conditions[?(@.type==\"Ready\")].status}")? == "True")
    })?;
    Ok(())
}

/// Whether a process runs. One that has ended may be listed until its new parent, the machine's first process, takes note of it.
fn runs(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|status| !status.lines().any(|line| line.starts_with("State:\tZ")))
}

#[test]
fn case_99_down_leaves_nothing_behind() -> Result<()> {
    let cluster = Cluster::shared()?;
    let pids: Vec<i32> = cluster.components()?.iter().map(|component| component.pid).filter(|pid| *pid > 0).collect();
    assert!(pids.len() > 10, "{pids:?}");
    cluster.down()?;
    let left: Vec<i32> = pids.into_iter().filter(|pid| runs(*pid)).collect();
    assert!(left.is_empty(), "processes {left:?}");
    let output = |program: &str, words: &[&str]| -> Result<String> {
        Ok(String::from_utf8(Command::new(program).args(words).output()?.stdout)?)
    };
    let links = output("ip", &["-brief", "link"])?;
    assert!(!links.contains("corten") && !links.contains("cni0") && !links.contains("veth"), "{links}");
    let tables = output("nft", &["list", "tables"])?;
    assert!(!tables.contains("kube-proxy") && !tables.contains("pod-network"), "{tables}");
    let dir = Cluster::dir().display().to_string();
    assert!(!fs::read_to_string("/proc/self/mountinfo")?.contains(&dir));
    assert!(!Cluster::dir().exists());
    let cgroups = output("find", &["/sys/fs/cgroup", "-maxdepth", "3", "-name", "corten"])?;
    assert_eq!(cgroups, "");
    Ok(())
}
