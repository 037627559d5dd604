//! What pods take of the node: their cgroups, changes of their resources while they run, and that they have to go when the node is short.

use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::api::{Cluster, condition, eventually, is_ready, with_cluster};
use crate::support::containers::{SLEEP, sh};
use crate::support::node::run;

async fn pressure(cluster: &Cluster, kind: &str) -> bool {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let node = nodes.get("n1").await.unwrap();
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

#[test]
fn pods_are_evicted_for_what_they_write_and_when_the_node_is_short() {
    // Thresholds that no machine meets: only what is asked for below is short.
    with_cluster(
        "evictionHard: {memory.available: 1Ki}\nevictionPressureTransitionPeriod: 1s\n",
        async |mut cluster| {
            let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
            let script = format!("dd if=/dev/zero of=/v/f bs=1M count=3; {SLEEP}");
            let writer = json!({
                "containers": [sh(&script, mount)],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "2Mi"}}],
            });
            cluster.create("writer", writer).await;
            cluster.create("modest", json!({"containers": [sh(SLEEP, json!({}))]})).await;
            let critical = json!({"priorityClassName": "system-node-critical", "containers": [sh(SLEEP, json!({}))]});
            cluster.create("critical", critical).await;
            let evicted = cluster.until_phase("writer", "Failed").await;
            assert_eq!(evicted["status"]["reason"], "Evicted");
            assert_eq!(evicted["status"]["message"], "Usage of EmptyDir volume \"v\" exceeds the limit \"2Mi\". ");
            let disruption = condition(&evicted, "DisruptionTarget");
            assert_eq!(
                (&disruption["status"], &disruption["reason"]),
                (&json!("True"), &json!("TerminationByKubelet"))
            );
            cluster.until_ready("modest").await;
            cluster.until_ready("critical").await;
            assert!(!pressure(&cluster, "PIDPressure").await);

            // Now process ids are short, whatever there is of them.
            cluster.node.stop_kubelet();
            cluster.node.flags.push("--eviction-hard=pid.available<1000000000".into());
            cluster.node.start_kubelet();
            let evicted = cluster.until_phase("modest", "Failed").await;
            assert_eq!(evicted["status"]["reason"], "Evicted");
            assert!(evicted["status"]["message"].as_str().unwrap().starts_with("The node was low on resource: pids. "));
            eventually("the node says so", async || pressure(&cluster, "PIDPressure").await.then_some(())).await;
            cluster.create("late", json!({"containers": [sh(SLEEP, json!({}))]})).await;
            let refused = cluster.until_phase("late", "Failed").await;
            assert_eq!(refused["status"]["message"], "Pod was rejected: The node had condition: [PIDPressure]. ");
            assert!(is_ready(&cluster.get("critical").await.unwrap()), "a critical pod stays");

            // A disk that is too full from the start of the kubelet takes no image from a pod that stays.
            cluster.node.stop_kubelet();
            cluster.node.flags.pop();
            cluster.node.flags.push("--eviction-hard=imagefs.available<100%".into());
            cluster.node.start_kubelet();
            eventually("the disk is short", async || pressure(&cluster, "DiskPressure").await.then_some(())).await;
            let critical = cluster.get("critical").await.unwrap();
            let id = critical["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
            let mut kill = std::process::Command::new("ctr");
            kill.arg("-a").arg(cluster.node.socket()).args(["-n", "k8s.io", "tasks", "kill", "-s", "KILL"]);
            run(kill.arg(id.trim_start_matches("containerd://")));
            let again = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"] == 1 && is_ready(pod);
            cluster.until("critical", "is started again", again).await;
        },
    );
}

/// A limit in the kernel, of the pod or of its only container: the file of cgroup v1 (with its controller) or of v2.
fn limit(pod: &Value, of_container: bool, (controller, v1, v2): (&str, &str, &str)) -> String {
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let mount = Path::new("/sys/fs/cgroup").join(if unified { "" } else { controller });
    let class = match pod["status"]["qosClass"].as_str().unwrap() {
        "Guaranteed" => "",
        "Burstable" => "burstable",
        _ => "besteffort",
    };
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let mut path =
        mount.join(format!("corten-test-{}/kubepods", std::process::id())).join(class).join(format!("pod{uid}"));
    if of_container {
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
        path.push(id.trim_start_matches("containerd://"));
    }
    path.push(if unified { v2 } else { v1 });
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

const MEMORY: (&str, &str, &str) = ("memory", "memory.limit_in_bytes", "memory.max");
/// In v2 the quota is the first of two numbers.
const QUOTA: (&str, &str, &str) = ("cpu", "cpu.cfs_quota_us", "cpu.max");

fn quota(pod: &Value, of_container: bool) -> String {
    limit(pod, of_container, QUOTA).split(' ').next().unwrap().to_owned()
}

fn mebibytes(pod: &Value, of_container: bool) -> Option<u64> {
    // No limit is a word, or a very large number.
    limit(pod, of_container, MEMORY).parse::<u64>().ok().map(|bytes| bytes >> 20).filter(|limit| *limit < 1 << 30)
}

#[test]
fn resources_and_classes_become_cgroups() {
    with_cluster("podPidsLimit: 99\nsystemReserved: {memory: 64Mi}\n", async |cluster| {
        let full = json!({"limits": {"cpu": "200m", "memory": "64Mi"}});
        let some = json!({"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}});
        for (name, resources, class, millis, most) in [
            ("full", full, "Guaranteed", Some("20000"), Some(64)),
            ("some", some, "Burstable", None, Some(64)),
            ("none", json!({}), "BestEffort", None, None),
        ] {
            cluster.create(name, json!({"containers": [sh(SLEEP, json!({"resources": resources}))]})).await;
            let pod = cluster.until_ready(name).await;
            assert_eq!(pod["status"]["qosClass"], class, "{name}");
            for of_container in [false, true] {
                let seen = (quota(&pod, of_container), mebibytes(&pod, of_container));
                let no_quota = || if seen.0 == "max" { "max" } else { "-1" };
                assert_eq!(
                    seen,
                    (millis.unwrap_or_else(no_quota).to_owned(), most),
                    "{name}, container: {of_container}"
                );
            }
            assert_eq!(limit(&pod, false, ("pids", "pids.max", "pids.max")), "99");
        }

        // All pods together are held to what the node has for them.
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let (controller, file) = if unified { ("", "memory.max") } else { ("memory", "memory.limit_in_bytes") };
        let root =
            Path::new("/sys/fs/cgroup").join(controller).join(format!("corten-test-{}/kubepods", std::process::id()));
        let most: u64 = fs::read_to_string(root.join(file)).unwrap().trim().parse().unwrap();
        let memory = fs::read_to_string("/proc/meminfo").unwrap();
        let kib: u64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(most, kib * 1024 - (64 << 20));

        // A pod may also say what it takes as a whole.
        let whole = json!({"limits": {"cpu": "300m", "memory": "80Mi"}});
        cluster.create("whole", json!({"resources": whole, "containers": [sh(SLEEP, json!({}))]})).await;
        let pod = cluster.until_ready("whole").await;
        assert_eq!(pod["status"]["qosClass"], "Guaranteed");
        assert_eq!((quota(&pod, false), mebibytes(&pod, false)), ("30000".to_owned(), Some(80)));
    });
}

#[test]
fn resources_of_running_containers_change_in_place() {
    with_cluster("", async |mut cluster| {
        let resources = |cpu: &str, memory: &str| {
            let list = json!({"cpu": cpu, "memory": memory});
            json!({"requests": list, "limits": list})
        };
        let restarts = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        for (name, policy) in [("stays", Value::Null), ("again", restarts)] {
            let more = json!({"resources": resources("100m", "64Mi"), "resizePolicy": policy});
            cluster.create(name, json!({"containers": [sh(SLEEP, more)]})).await;
        }
        let before = cluster.until_ready("stays").await;
        cluster.until_ready("again").await;
        let pods: Api<Pod> = cluster.api();
        let resize = async |name: &str, cpu: &str, memory: &str| {
            let spec = json!({"spec": {"containers": [{"name": "c", "resources": resources(cpu, memory)}]}});
            pods.patch_subresource("resize", name, &PatchParams::default(), &Patch::Strategic(spec)).await.unwrap()
        };
        let has = |cpu: &'static str, memory: &'static str| {
            move |pod: &Value| {
                let status = &pod["status"]["containerStatuses"][0];
                let in_force = &status["resources"]["limits"];
                status["ready"] == true && (&in_force["cpu"], &in_force["memory"]) == (&json!(cpu), &json!(memory))
            }
        };
        let running = |pod: &Value| {
            let status = &pod["status"]["containerStatuses"][0];
            (status["containerID"].clone(), status["restartCount"].clone())
        };

        for (cpu, memory, quota_of_it, most) in [("200m", "128Mi", "20000", 128), ("100m", "96Mi", "10000", 96)] {
            resize("stays", cpu, memory).await;
            let pod = cluster.until("stays", "has other resources", has(cpu, memory)).await;
            assert_eq!(running(&pod), running(&before));
            assert_eq!(condition(&pod, "PodResizePending"), &Value::Null);
            for of_container in [true, false] {
                let seen = (quota(&pod, of_container), mebibytes(&pod, of_container));
                assert_eq!(seen, (quota_of_it.to_owned(), Some(most)), "container: {of_container}");
            }
        }

        // This one is started again for its memory.
        resize("again", "100m", "128Mi").await;
        let is_other = |pod: &Value| has("100m", "128Mi")(pod) && running(pod).1 == 1;
        let pod = cluster.until("again", "has other resources after a restart", is_other).await;
        assert_eq!((mebibytes(&pod, true), mebibytes(&pod, false)), (Some(128), Some(128)));

        // What the node never has is not given, not even by a kubelet that starts again.
        resize("stays", "500", "96Mi").await;
        let infeasible = |pod: &Value| condition(pod, "PodResizePending")["reason"] == "Infeasible";
        cluster.until("stays", "cannot have that", infeasible).await;
        cluster.node.stop_kubelet();
        cluster.node.start_kubelet();
        cluster.create("marker", json!({"containers": [sh(SLEEP, json!({}))]})).await;
        cluster.until_ready("marker").await;
        let pod = cluster.get("stays").await.unwrap();
        assert!(infeasible(&pod) && has("100m", "96Mi")(&pod), "{:#}", pod["status"]);
        assert_eq!(running(&pod), running(&before));
        assert_eq!((quota(&pod, true), mebibytes(&pod, true)), ("10000".to_owned(), Some(96)));
        let again = cluster.get("again").await.unwrap();
        assert!(is_other(&again), "{:#}", again["status"]);
    });
}
