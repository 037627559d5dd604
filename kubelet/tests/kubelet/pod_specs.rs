//! What a pod's specification asks of the kernel and of the order of its containers, looked at from inside the containers.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::api::{BUSYBOX, Cluster, condition, eventually, with_cluster};
use crate::support::containers::{SLEEP, with};

fn sh(name: &str, script: &str) -> Value {
    json!({"name": name, "image": BUSYBOX, "command": ["sh", "-c", script]})
}

/// What a script prints in a container with that security context.
async fn under(cluster: &Cluster, name: &str, of_pod: Value, own: Value, script: &str) -> String {
    cluster.script(name, script, json!({"securityContext": of_pod, "containers": [{"securityContext": own}]})).await
}

#[test]
fn security_contexts_hold_inside_the_container() {
    with_cluster("", async |cluster| {
        let status = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | tr -s '\\t ' ' '; id -u; id -g; id -G";
        let of_pod = json!({"runAsUser": 1000, "runAsGroup": 2000, "supplementalGroups": [3000], "fsGroup": 4000});
        let own = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}});
        let output = under(&cluster, "plain", of_pod.clone(), own, status).await;
        for line in ["CapEff: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2", "1000", "2000"] {
            assert!(output.lines().any(|have| have == line), "{line}: {output}");
        }
        let groups: Vec<&str> = output.lines().last().unwrap().split(' ').collect();
        assert!(["2000", "3000", "4000"].iter().all(|group| groups.contains(group)), "{output}");

        // The container's own user comes first; without anything said there is no confinement by seccomp.
        let output = under(&cluster, "own", of_pod, json!({"runAsUser": 5}), status).await;
        assert!(output.lines().any(|line| line == "5") && output.contains("Seccomp: 0"), "{output}");

        let write = "touch /x 2>&1 || true; touch /tmp/x && echo wrote";
        let spec = json!({
            "containers": [{"securityContext": {"readOnlyRootFilesystem": true}, "volumeMounts": [{"name": "t", "mountPath": "/tmp"}]}],
            "volumes": [{"name": "t", "emptyDir": {}}],
        });
        let output = cluster.script("read-only", write, spec).await;
        assert!(output.contains("Read-only file system") && output.contains("wrote"), "{output}");

        let output =
            under(&cluster, "privileged", json!({}), json!({"privileged": true}), "grep CapEff /proc/self/status")
                .await;
        assert!(!output.contains("00000000a80425fb"), "{output}");
        let limited = under(&cluster, "unprivileged", json!({}), json!({}), "grep CapEff /proc/self/status").await;
        assert!(limited.contains("00000000a80425fb"), "{limited}");

        let refused = json!({"containers": [with(sh("c", "id"), json!({"securityContext": {"runAsNonRoot": true}}))]});
        cluster.create("root", refused).await;
        let waits = |pod: &Value| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        };
        cluster.until("root", "is refused", waits).await;

        let output = under(
            &cluster,
            "sysctl",
            json!({"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}),
            json!({}),
            "cat /proc/sys/kernel/shm_rmid_forced",
        )
        .await;
        assert_eq!(output, "1");
    });
}

#[test]
fn namespaces_names_and_addresses_are_as_asked() {
    with_cluster("", async |cluster| {
        let script = "hostname; cat /etc/resolv.conf; cat /etc/hosts";
        let spec = json!({
            "hostname": "h", "subdomain": "s",
            "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["alias"]}],
            "dnsConfig": {"searches": ["more.example"], "options": [{"name": "timeout", "value": "1"}]},
            "containers": [{}],
        });
        let output = cluster.script("names", script, spec).await;
        assert_eq!(output.lines().next(), Some("h"));
        for part in [
            "nameserver 10.96.0.10",
            "t.svc.cluster.local svc.cluster.local cluster.local",
            "more.example",
            "ndots:5",
            "timeout:1",
            "h.s.t.svc.cluster.local\th",
            "10.1.2.3\talias",
        ] {
            assert!(output.contains(part), "{part}: {output}");
        }

        let host =
            json!({"hostNetwork": true, "hostPID": true, "hostIPC": true, "dnsPolicy": "Default", "containers": [{}]});
        let own = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
        let output = cluster.script("host", "for n in net pid ipc; do readlink /proc/self/ns/$n; done", host).await;
        // The test's thread has a network of its own, in which the kubelet runs too.
        let network = std::fs::read_link("/proc/thread-self/ns/net").unwrap().display().to_string();
        assert_eq!(output.lines().collect::<Vec<_>>(), [network, own("pid"), own("ipc")]);
        let pod = cluster.get("host").await.unwrap();
        assert_eq!((&pod["status"]["podIP"], &pod["status"]["hostIP"]), (&json!("192.0.2.10"), &json!("192.0.2.10")));

        let shared = json!({"shareProcessNamespace": true, "restartPolicy": "Never", "containers": [
            sh("a", "exec sleep 12345"), sh("b", "until set -- $(ps -o pid,args | grep '[s]leep 12345') && test -n \"$1\"; do sleep 0.1; done; kill $1; echo found"),
        ]});
        cluster.create("shared", shared).await;
        cluster.until("shared", "ends", |pod| pod["status"]["phase"] == "Failed").await;
        assert_eq!(cluster.output("shared", "b"), "found");
    });
}

#[test]
fn containers_run_in_their_order() {
    with_cluster("", async |cluster| {
        let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let note = |name: &str, more: &str| with(sh(name, &format!("echo {name} >> /v/order; {more}")), mount.clone());
        let started = json!({"exec": {"command": ["test", "-e", "/v/sidecar-up"]}, "periodSeconds": 1});
        let sidecar = note(
            "sidecar",
            "trap 'echo end-sidecar >> /v/order; exit 0' TERM; sleep 1; touch /v/sidecar-up; while :; do sleep 0.1; done",
        );
        let spec = json!({
            "terminationGracePeriodSeconds": 10,
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [
                note("first", ""),
                with(sidecar, json!({"restartPolicy": "Always", "startupProbe": started})),
                note("second", "test -e /v/sidecar-up || echo too-soon >> /v/order"),
            ],
            "containers": [note("main", "trap 'echo end-main >> /v/order; exit 0' TERM; while :; do sleep 0.1; done")],
        });
        cluster.create("order", spec).await;
        let pod = cluster.until_ready("order").await;
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        let file = cluster.node.path(&format!("kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/v/order"));
        let order = || std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(order(), "first\nsidecar\nsecond\nmain\n");
        let inits = pod["status"]["initContainerStatuses"].as_array().unwrap();
        let state = |index: usize| (inits[index]["ready"].clone(), inits[index]["started"].clone());
        assert_eq!(
            [state(0), state(1), state(2)],
            [(json!(true), json!(false)), (json!(true), json!(true)), (json!(true), json!(false))]
        );

        // A container for debugging, in the processes of another.
        let debug = with(
            sh("debug", "ps -o args | grep '[e]nd-main' && echo seen; sleep 1000"),
            json!({"targetContainerName": "main"}),
        );
        let patch = Patch::Strategic(json!({"spec": {"ephemeralContainers": [debug]}}));
        cluster.api::<Pod>().patch_ephemeral_containers("order", &PatchParams::default(), &patch).await.unwrap();
        eventually("the ephemeral container runs and sees the other", async || {
            cluster.output("order", "debug").contains("seen").then_some(())
        })
        .await;
        let running = |pod: &Value| !pod["status"]["ephemeralContainerStatuses"][0]["state"]["running"].is_null();
        cluster.until("order", "tells of the ephemeral container", running).await;

        // The end: the main container first, then the sidecar.
        let kept = cluster.node.path("kept");
        std::fs::hard_link(&file, &kept).unwrap();
        cluster.delete("order", None).await;
        cluster.until_gone("order").await;
        assert!(std::fs::read_to_string(&kept).unwrap().ends_with("main\nend-main\nend-sidecar\n"));

        // An init container that fails: of a pod that is not restarted, and of one that is.
        for (name, policy) in [("init-never", "Never"), ("init-always", "Always")] {
            let spec =
                json!({"restartPolicy": policy, "initContainers": [sh("i", "exit 2")], "containers": [sh("c", SLEEP)]});
            cluster.create(name, spec).await;
        }
        let pod = cluster.until_phase("init-never", "Failed").await;
        assert!(pod["status"]["containerStatuses"][0]["state"]["running"].is_null());
        let looping =
            |pod: &Value| pod["status"]["initContainerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        let pod = cluster.until("init-always", "is in a crash loop", looping).await;
        assert_eq!(
            (&pod["status"]["phase"], &condition(&pod, "Initialized")["status"]),
            (&json!("Pending"), &json!("False"))
        );

        // A job with a sidecar ends when its work is done.
        let spec = json!({
            "restartPolicy": "Never",
            "initContainers": [with(sh("s", SLEEP), json!({"restartPolicy": "Always"}))],
            "containers": [sh("work", "true")],
        });
        cluster.create("work", spec).await;
        cluster.until_phase("work", "Succeeded").await;
    });
}

#[test]
fn runtime_classes_name_the_handler() {
    with_cluster("", async |cluster| {
        for (name, handler) in [("known", "runc"), ("unknown", "absent")] {
            let class: RuntimeClass =
                serde_json::from_value(json!({"metadata": {"name": name}, "handler": handler})).unwrap();
            Api::all(cluster.client.clone()).create(&PostParams::default(), &class).await.unwrap();
        }
        for (name, class) in [("good", "known"), ("bad", "unknown")] {
            cluster.create(name, json!({"runtimeClassName": class, "containers": [sh("c", SLEEP)]})).await;
        }
        cluster.until_ready("good").await;
        cluster.until_event("bad", "FailedCreatePodSandBox", "absent").await;
        let bad = cluster.get("bad").await.unwrap();
        assert_eq!(
            (&bad["status"]["phase"], &condition(&bad, "PodReadyToStartContainers")["status"]),
            (&json!("Pending"), &json!("False"))
        );
    });
}
