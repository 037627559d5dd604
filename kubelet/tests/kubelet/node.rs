//! The node in the API: what it tells of itself, the mirrors of its static pods, and that restarts disturb nothing.

use std::fs;
use std::time::Duration;

use e2e::Options;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::Api;
use kube::api::{DeleteParams, LogParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::api::{BUSYBOX, Cluster, NAMESPACE, condition, eventually, is_ready, on_runtime, with_cluster};
use crate::support::containers::{SLEEP, sh, status};
use crate::support::node::{ADDRESS, Node, run};
use crate::support::servers::Http;

async fn node_object(cluster: &Cluster) -> Option<Value> {
    let nodes: Api<NodeObject> = Api::all(cluster.client.clone());
    nodes.get_opt("n1").await.unwrap().map(|node| json!(node))
}

async fn lease(cluster: &Cluster) -> Option<Value> {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), "kube-node-lease");
    leases.get_opt("n1").await.unwrap().map(|lease| json!(lease))
}

#[test]
fn a_node_tells_what_it_is_and_that_it_lives() {
    let configuration = "nodeLeaseDurationSeconds: 4\nnodeStatusUpdateFrequency: 1s\n\
        registerWithTaints: [{key: a, value: b, effect: PreferNoSchedule}]\nsystemReserved: {cpu: 100m}\nmaxPods: 7\n";
    with_cluster(configuration, async |cluster| {
        let node = eventually("the node is ready", async || node_object(&cluster).await.filter(is_ready)).await;
        let labels = &node["metadata"]["labels"];
        assert_eq!((&labels["kubernetes.io/hostname"], &labels["kubernetes.io/os"]), (&json!("n1"), &json!("linux")));
        assert!(labels["kubernetes.io/arch"].is_string());
        let taints = node["spec"]["taints"].as_array().unwrap();
        assert!(taints.contains(&json!({"key": "a", "value": "b", "effect": "PreferNoSchedule"})), "{taints:?}");
        let status = &node["status"];
        let addresses = status["addresses"].as_array().unwrap();
        for address in [json!({"type": "InternalIP", "address": ADDRESS}), json!({"type": "Hostname", "address": "n1"})]
        {
            assert!(addresses.contains(&address), "{addresses:?}");
        }
        let millis = |list: &Value| {
            let text = list["cpu"].as_str().unwrap();
            text.strip_suffix('m').map_or_else(|| text.parse::<u32>().unwrap() * 1000, |text| text.parse().unwrap())
        };
        assert_eq!(millis(&status["capacity"]), millis(&status["allocatable"]) + 100);
        assert_eq!((&status["capacity"]["pods"], &status["allocatable"]["pods"]), (&json!("7"), &json!("7")));
        assert_eq!(status["daemonEndpoints"]["kubeletEndpoint"]["Port"], 10250);
        let info = &status["nodeInfo"];
        assert!(info["kubeletVersion"].as_str().unwrap().starts_with("v1.36."), "{info}");
        assert!(info["containerRuntimeVersion"].as_str().unwrap().starts_with("containerd://"), "{info}");
        let images = status["images"].as_array().unwrap();
        assert!(images.iter().any(|image| image["names"].as_array().unwrap().contains(&json!(BUSYBOX))), "{images:?}");
        for kind in ["MemoryPressure", "DiskPressure", "PIDPressure"] {
            assert_eq!(condition(&node, kind)["status"], "False", "{kind}");
        }

        // Its lease belongs to it, and is renewed four times as often as it lasts.
        let first = eventually("the node has a lease", async || lease(&cluster).await).await;
        assert_eq!(
            (&first["spec"]["holderIdentity"], &first["spec"]["leaseDurationSeconds"]),
            (&json!("n1"), &json!(4))
        );
        let again = eventually("the lease is renewed", async || {
            lease(&cluster).await.filter(|lease| lease["spec"]["renewTime"] != first["spec"]["renewTime"])
        });
        let again = again.await;
        let owner = &again["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["kind"], &owner["uid"]), (&json!("Node"), &node["metadata"]["uid"]));

        // Without a network for pods it is not ready, and says why.
        let network = cluster.node.path("cni/10-t.conflist");
        let configuration = fs::read(&network).unwrap();
        fs::remove_file(&network).unwrap();
        let unready = async || node_object(&cluster).await.filter(|node| !is_ready(node));
        let node = eventually("the node is not ready", unready).await;
        let ready = condition(&node, "Ready");
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("KubeletNotReady")));
        assert!(ready["message"].as_str().unwrap().contains("NetworkReady=false"), "{ready}");
        fs::write(&network, configuration).unwrap();
        let node = eventually("the node is ready again", async || node_object(&cluster).await.filter(is_ready)).await;

        // Who deletes it wants it gone: it comes back when its kubelet starts again, and not before.
        let mut cluster = cluster;
        let nodes: Api<NodeObject> = Api::all(cluster.client.clone());
        nodes.delete("n1", &DeleteParams::default()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(node_object(&cluster).await, None);
        cluster.node.stop_kubelet();
        cluster.node.start_kubelet();
        let other = eventually("the node is back", async || node_object(&cluster).await.filter(is_ready)).await;
        assert_ne!(other["metadata"]["uid"], node["metadata"]["uid"]);
    });
}

fn static_pod(name: &str, word: &str) -> String {
    let container = sh(&format!("echo {word}; {SLEEP}"), json!({}));
    let metadata = json!({"name": name, "namespace": NAMESPACE});
    let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [container]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).to_string()
}

fn annotation<'a>(pod: &'a Value, name: &str) -> &'a Value {
    &pod["metadata"]["annotations"][format!("kubernetes.io/config.{name}")]
}

#[test]
fn static_pods_have_mirrors_that_follow_them() {
    with_cluster("", async |mut cluster| {
        cluster.node.manifest("web", &static_pod("web", "one"));
        let mirror = cluster.until_ready("web-n1").await;
        assert_eq!(annotation(&mirror, "source"), "file");
        assert!(annotation(&mirror, "mirror").is_string());
        assert_eq!(annotation(&mirror, "mirror"), annotation(&mirror, "hash"));
        let owner = &mirror["metadata"]["ownerReferences"][0];
        let expected = (&json!("Node"), &json!("n1"), &json!(true));
        assert_eq!((&owner["kind"], &owner["name"], &owner["controller"]), expected);
        let running = status(&mirror)["containerID"].clone();
        assert_eq!(cluster.node.container("web", "c").unwrap()["containerID"], running);

        // Deleting a mirror ends nothing: it comes back.
        let uid = mirror["metadata"]["uid"].clone();
        cluster.delete("web-n1", None).await;
        let other = |pod: &Value| pod["metadata"]["uid"] != uid && is_ready(pod);
        let mirror = cluster.until("web-n1", "is back", other).await;
        assert_eq!(status(&mirror)["containerID"], running);

        // Another file is another pod, and has another mirror.
        cluster.node.manifest("web", &static_pod("web", "two"));
        let replaced = |pod: &Value| annotation(pod, "hash") != annotation(&mirror, "hash") && is_ready(pod);
        let mirror = cluster.until("web-n1", "is another", replaced).await;
        assert_ne!(status(&mirror)["containerID"], running);

        // Static pods need no API server.
        cluster.plane.apiserver().unwrap().kill().unwrap();
        cluster.node.manifest("alone", &static_pod("alone", "alone"));
        eventually("it runs without an API server", async || cluster.node.is_ready("alone")).await;
        cluster.plane.restart_apiserver().await.unwrap();
        cluster.until_ready("alone-n1").await;

        fs::remove_file(cluster.node.path("manifests/web.yaml")).unwrap();
        cluster.until_gone("web-n1").await;
        eventually("the pod is gone", async || cluster.node.container("web", "c").is_none().then_some(())).await;
    });
}

#[test]
fn pods_that_others_take_for_lost_are_said_to_be_ready_again() {
    with_cluster("", async |cluster| {
        cluster.node.manifest("web", &static_pod("web", "one"));
        let sleeper = json!({"name": "c", "image": BUSYBOX, "command": ["sh", "-c", "sleep 1000000"]});
        cluster.create("api", json!({"containers": [sleeper], "terminationGracePeriodSeconds": 0})).await;
        for name in ["web-n1", "api"] {
            cluster.until_ready(name).await;
            let lost = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "NodeLost"}]}});
            let pods = cluster.api::<Pod>();
            let pod = pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(&lost)).await.unwrap();
            assert!(!is_ready(&json!(pod)));
            let pod = cluster.until_ready(name).await;
            assert_eq!(condition(&pod, "Ready")["reason"], Value::Null);
        }
    });
}

#[test]
fn static_pods_come_from_a_url() {
    on_runtime(async || {
        let server = Http::start().await;
        let list = |words: &[&str]| {
            let items: Vec<Value> =
                words.iter().map(|word| serde_json::from_str(&static_pod(word, word)).unwrap()).collect();
            json!({"apiVersion": "v1", "kind": "PodList", "items": items}).to_string()
        };
        server.answer(200, list(&["a", "b"]));
        let mut node = Node::prepare(&format!(
            "staticPodURL: http://{ADDRESS}:{}/pods\nstaticPodURLHeader: {{X-Test: [secret]}}\nhttpCheckFrequency: 500ms\n",
            server.port
        ));
        node.start_kubelet();
        for name in ["a", "b"] {
            eventually(&format!("{name} runs"), async || node.is_ready(name)).await;
        }
        assert_eq!(server.asked()[0], "GET /pods secret");
        let before = node.container("a", "c").unwrap();

        // A server that fails takes nothing away, not even from a kubelet that starts again.
        server.answer(500, "");
        let asked = server.asked().len();
        eventually("it is asked again", async || (server.asked().len() > asked + 1).then_some(())).await;
        node.stop_kubelet();
        node.start_kubelet();
        server.answer(200, list(&["a"]));
        eventually("a is known again", async || node.is_ready("a")).await;
        eventually("b has ended", async || {
            let running = run(std::process::Command::new("ctr")
                .arg("-a")
                .arg(node.socket())
                .args(["-n", "k8s.io", "tasks", "ls", "-q"]));
            // The container of a, and its sandbox.
            (running.lines().count() == 2).then_some(())
        })
        .await;
        let after = node.container("a", "c").unwrap();
        assert_eq!((&after["containerID"], &after["restartCount"]), (&before["containerID"], &json!(0)));
    });
}

#[test]
fn a_restart_of_the_kubelet_or_of_containerd_disturbs_no_container() {
    with_cluster("", async |mut cluster| {
        let alive = json!({"exec": {"command": ["true"]}, "periodSeconds": 1, "failureThreshold": 1});
        let script = format!("echo begun; {SLEEP}");
        let calm = sh(&script, json!({"livenessProbe": alive, "readinessProbe": alive}));
        let spec = json!({
            "initContainers": [{"name": "side", "image": BUSYBOX, "command": ["sh", "-c", SLEEP], "restartPolicy": "Always"}],
            "containers": [calm],
        });
        cluster.create("calm", spec).await;
        let before = cluster.until_ready("calm").await;
        let same = |after: &Value, what: &str| {
            for list in ["containerStatuses", "initContainerStatuses"] {
                let of = |pod: &Value| {
                    let status = &pod["status"][list][0];
                    (status["containerID"].clone(), status["restartCount"].clone(), status["state"].clone())
                };
                assert_eq!(of(after), of(&before), "{what}: {list}");
            }
            let since = |pod: &Value| condition(pod, "Ready")["lastTransitionTime"].clone();
            assert_eq!((is_ready(after), since(after)), (true, since(&before)), "{what}");
        };

        cluster.node.stop_kubelet();
        cluster.node.start_kubelet();
        cluster.create("one", json!({"containers": [sh(SLEEP, json!({}))]})).await;
        cluster.until_ready("one").await;
        same(&cluster.get("calm").await.unwrap(), "the kubelet started again");

        // Long enough for several probes that cannot be carried out.
        cluster.node.stop_containerd();
        tokio::time::sleep(Duration::from_secs(4)).await;
        cluster.node.start_containerd();
        cluster.create("two", json!({"containers": [sh(SLEEP, json!({}))]})).await;
        cluster.until_ready("two").await;
        same(&cluster.get("calm").await.unwrap(), "containerd started again");

        // Both at once, the kubelet first.
        cluster.node.stop_kubelet();
        cluster.node.stop_containerd();
        cluster.node.start_kubelet();
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.node.start_containerd();
        cluster.create("three", json!({"containers": [sh(SLEEP, json!({}))]})).await;
        cluster.until_ready("three").await;
        same(&cluster.get("calm").await.unwrap(), "both started again");
        assert_eq!(cluster.output("calm", "c"), "begun");
    });
}

/// Lets the API server read logs, as kubeadm does.
async fn allow_apiserver(cluster: &Cluster) {
    let binding = json!({
        "metadata": {"name": "kubeadm:cluster-admins"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "kubeadm:cluster-admins"}],
    });
    let binding: k8s_openapi::api::rbac::v1::ClusterRoleBinding = serde_json::from_value(binding).unwrap();
    Api::all(cluster.client.clone()).create(&PostParams::default(), &binding).await.unwrap();
}

#[test]
fn logs_are_read_in_part_followed_rotated_and_kept_of_the_run_before() {
    on_runtime(async || {
        let configuration = "containerLogMaxSize: 4Ki\ncontainerLogMaxFiles: 2\n";
        let mut cluster = Cluster::prepare(Options::default(), configuration).await;
        cluster.start().await;
        allow_apiserver(&cluster).await;
        let pods: Api<Pod> = cluster.api();

        let script = format!(
            "test -e /v/again && {{ echo second; {SLEEP}; }}; touch /v/again; for n in 1 2 3 4; do echo $n; done; exit 1"
        );
        let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let spec = json!({"containers": [sh(&script, mount)], "volumes": [{"name": "v", "emptyDir": {}}]});
        cluster.create("twice", spec).await;
        cluster.until("twice", "runs again", |pod| status(pod)["restartCount"] == 1 && is_ready(pod)).await;
        assert_eq!(pods.logs("twice", &LogParams::default()).await.unwrap(), "second\n");
        let before = LogParams { previous: true, ..Default::default() };
        for (params, expected) in [
            (before.clone(), "1\n2\n3\n4\n"),
            (LogParams { tail_lines: Some(2), ..before.clone() }, "3\n4\n"),
            (LogParams { limit_bytes: Some(3), ..before.clone() }, "1\n2"),
            (LogParams { since_time: Some("2999-01-01T00:00:00Z".parse().unwrap()), ..before.clone() }, ""),
        ] {
            assert_eq!(pods.logs("twice", &params).await.unwrap(), expected, "{params:?}");
        }
        let dated = pods.logs("twice", &LogParams { timestamps: true, tail_lines: Some(1), ..before }).await.unwrap();
        let (time, line) = dated.split_once(' ').unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok() && line == "4\n", "{dated}");

        // Followed from before the rotation to the end, nothing is lost.
        let script = "for n in $(seq 1 400); do echo number $n of four hundred; done; until test -e /v/end; do sleep 0.1; done; echo end";
        let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let spec = json!({
            "restartPolicy": "Never", "containers": [sh(script, mount)], "volumes": [{"name": "v", "emptyDir": {}}],
        });
        cluster.create("long", spec).await;
        let pod = cluster.until_ready("long").await;
        let follow = LogParams { follow: true, ..Default::default() };
        let reading = tokio::spawn({
            let pods = pods.clone();
            async move { pods.logs("long", &follow).await.unwrap() }
        });
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        let directory = cluster.node.path(&format!("logs/{NAMESPACE}_long_{uid}/c"));
        eventually("the log is rotated", async || (fs::read_dir(&directory).unwrap().count() == 2).then_some(())).await;
        let volume = cluster.node.path(&format!("kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/v"));
        fs::write(volume.join("end"), "").unwrap();
        let text = reading.await.unwrap();
        assert!(text.starts_with("number 1 of") && text.ends_with("end\n"), "{text}");
        assert_eq!(text.lines().count(), 401);
    });
}

async fn ask(cluster: &Cluster, path: &str) -> Result<String, kube::Error> {
    let request = http::Request::get(format!("/api/v1/nodes/n1/proxy/{path}")).body(Vec::new()).unwrap();
    cluster.client.request_text(request).await
}

#[test]
fn what_is_used_and_how_the_node_is_set_up_is_told() {
    on_runtime(async || {
        let mut cluster = Cluster::prepare(Options::default(), "enableDebuggingHandlers: false\nmaxPods: 12\n").await;
        cluster.start().await;
        allow_apiserver(&cluster).await;
        let probe = json!({"readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}});
        cluster.create("busy", json!({"containers": [sh("while :; do :; done", probe)]})).await;
        let pod = cluster.until_ready("busy").await;

        let used = |summary: &Value| {
            let of = summary["pods"].as_array().unwrap().iter().find(|of| of["podRef"]["name"] == "busy")?;
            let nanos = of["containers"][0]["cpu"]["usageCoreNanoSeconds"].as_u64()?;
            (nanos > 100_000_000).then(|| of["containers"][0].clone())
        };
        let summary = async || serde_json::from_str::<Value>(&ask(&cluster, "stats/summary").await.unwrap()).unwrap();
        let of = eventually("a tenth of a second of work is told", async || used(&summary().await)).await;
        let started = status(&pod)["state"]["running"]["startedAt"].as_str().unwrap().trim_end_matches('Z').to_owned();
        assert!(of["startTime"].as_str().unwrap().starts_with(&started), "{of}");
        assert!(of["memory"]["workingSetBytes"].as_u64().unwrap() > 0, "{of}");
        let node = &summary().await["node"];
        for used in [&node["cpu"]["usageCoreNanoSeconds"], &node["memory"]["workingSetBytes"], &node["fs"]["usedBytes"]]
        {
            assert!(used.as_u64().unwrap() > 1_000_000, "{node}");
        }
        for (path, line) in [
            ("metrics/resource", "container_cpu_usage_seconds_total{container=\"c\",namespace=\"t\",pod=\"busy\"} "),
            ("metrics/resource", "node_cpu_usage_seconds_total "),
            ("metrics/cadvisor", "container_memory_working_set_bytes{container=\"c\",namespace=\"t\",pod=\"busy\"} "),
            (
                "metrics/probes",
                "prober_probe_total{probe_type=\"Readiness\",result=\"successful\",container=\"c\",pod=\"busy\",",
            ),
            ("metrics", "kubelet_running_containers{container_state=\"running\"} 1"),
        ] {
            let text = ask(&cluster, path).await.unwrap();
            assert!(text.lines().any(|have| have.starts_with(line)), "{line}: {text}");
        }
        let configuration: Value = serde_json::from_str(&ask(&cluster, "configz").await.unwrap()).unwrap();
        assert_eq!(configuration["kubeletconfig"]["maxPods"], 12);
        assert_eq!(configuration["kubeletconfig"]["syncFrequency"], "1m0s");

        // Nobody gets into containers here.
        let refused = ask(&cluster, &format!("containerLogs/{NAMESPACE}/busy/c")).await.unwrap_err();
        assert!(
            refused.to_string().contains("Debug endpoints are disabled") || refused.to_string().contains("405"),
            "{refused}"
        );
    });
}
