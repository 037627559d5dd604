//! The real kubelet on a real containerd, with pods of a real API server: what they are given, how they live and how they end.

use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::api::{BUSYBOX, Cluster, condition, eventually, is_ready, with_cluster};
use crate::support::containers::{SLEEP, status, with};
use crate::support::node::run;

fn sleeper() -> Value {
    json!({"name": "c", "image": BUSYBOX, "command": ["sh", "-c", SLEEP]})
}

#[test]
fn environments_and_volumes_show_what_the_api_has() {
    with_cluster("", async |cluster| {
        cluster.config_map("map", &[("a", "1"), ("b", "two")]).await;
        let secret: Secret =
            serde_json::from_value(json!({"metadata": {"name": "secret"}, "stringData": {"key": "hidden"}})).unwrap();
        cluster.api().create(&PostParams::default(), &secret).await.unwrap();

        let spec = json!({
            "containers": [{
                "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "map"}}, {"configMapRef": {"name": "absent", "optional": true}}],
                "env": [
                    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "key"}}},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
                    {"name": "BOTH", "value": "$(P_a)-$(POD)-$$(POD)"},
                ],
            }],
        });
        let output = cluster.script("env", "env; cat /etc/hosts", spec).await;
        let pod = cluster.get("env").await.unwrap();
        for line in [
            "P_a=1",
            "P_b=two",
            "KEY=hidden",
            "POD=env",
            "HOST=192.0.2.10",
            "CPU=100",
            "BOTH=1-env-$(POD)",
            "KUBERNETES_SERVICE_PORT=443",
        ] {
            assert!(output.lines().any(|have| have == line), "{line}: {output}");
        }
        let ip = pod["status"]["podIP"].as_str().unwrap();
        assert!(output.contains(&format!("IP={ip}")) && output.contains(&format!("{ip}\tenv")), "{output}");

        let spec = json!({
            "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
            "volumes": [
                {"name": "m", "configMap": {"name": "map", "defaultMode": 0o400, "items": [{"key": "b", "path": "deep/b"}]}},
                {"name": "s", "secret": {"secretName": "secret"}},
                {"name": "e", "emptyDir": {}},
                {"name": "p", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token", "audience": "them"}},
                    {"configMap": {"name": "map", "items": [{"key": "a", "path": "a"}]}},
                    {"downwardAPI": {"items": [{"path": "limit", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory"}}]}},
                ]}},
            ],
            "containers": [{
                "resources": {"limits": {"memory": "64Mi"}},
                "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "volumeMounts": [
                    {"name": "m", "mountPath": "/m"}, {"name": "s", "mountPath": "/s"}, {"name": "p", "mountPath": "/p"},
                    {"name": "e", "mountPath": "/e"},
                    {"name": "e", "mountPath": "/sub", "subPathExpr": "of/$(POD)"},
                    {"name": "m", "mountPath": "/etc/motd", "subPath": "deep/b"},
                ],
            }],
        });
        let script = "set -e; id -G; cat /m/deep/b; echo; stat -Lc '%a %g' /m/deep/b; cat /s/key; echo; cat /p/a /p/limit; echo; \
                      stat -Lc '%a %u %g' /p/token; cut -d. -f2 /p/token | head -c 20; echo; echo x > /sub/file; ls -R /e; \
                      stat -c '%g' /sub/file; cat /etc/motd; echo; (echo y > /m/new) 2>&1 | grep -o 'Read-only file system'; \
                      grep -c ' /s tmpfs' /proc/mounts";
        let output = cluster.script("volumes", script, spec).await;
        let lines: Vec<&str> = output.lines().collect();
        let (groups, rest) = lines.split_first().unwrap();
        assert!(groups.split(' ').any(|group| group == "2000"), "{output}");
        assert_eq!(rest[..4], ["two", "440 2000", "hidden", "167108864"], "{output}");
        assert_eq!(rest[4], "640 1000 2000", "{output}");
        for line in ["volumes", "file", "2000", "two", "Read-only file system"] {
            assert!(rest[6..].contains(&line), "{line}: {output}");
        }
    });
}

#[test]
fn paths_of_the_host_are_checked_and_tokens_are_bound_to_their_pod() {
    with_cluster("", async |cluster| {
        let (file, made) = (cluster.node.path("file"), cluster.node.path("made/here"));
        std::fs::write(&file, "of the host\n").unwrap();
        let path = |name: &str, path: &std::path::Path, kind: &str| json!({"name": name, "hostPath": {"path": path, "type": kind}});
        let spec = json!({
            "volumes": [path("f", &file, "File"), path("d", &made, "DirectoryOrCreate")],
            "containers": [{"volumeMounts": [
                {"name": "f", "mountPath": "/f", "readOnly": true}, {"name": "d", "mountPath": "/d"},
            ]}],
        });
        let output =
            cluster.script("paths", "cat /f; echo out > /d/out; (echo x > /f) 2>/dev/null || echo kept", spec).await;
        assert!(output.starts_with("of the host") && output.ends_with("kept"), "{output}");
        assert_eq!(std::fs::read_to_string(made.join("out")).unwrap(), "out\n");
        let spec = json!({
            "containers": [with(sleeper(), json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}))],
            "volumes": [path("v", &file, "Directory")],
        });
        cluster.create("wrong", spec).await;
        cluster.until_event("wrong", "FailedMount", "directory").await;
        assert!(!is_ready(&cluster.get("wrong").await.unwrap()));

        let token = json!({"path": "token", "audience": "them", "expirationSeconds": 900});
        let spec = json!({
            "volumes": [{"name": "p", "projected": {"sources": [{"serviceAccountToken": token}]}}],
            "containers": [{"volumeMounts": [{"name": "p", "mountPath": "/p"}]}],
        });
        let token = cluster.script("bound", "cat /p/token", spec).await;
        let pod = cluster.get("bound").await.unwrap();
        let payload = token.split('.').nth(1).unwrap();
        let payload = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).unwrap();
        let claims: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((&claims["aud"], &claims["sub"]), (&json!(["them"]), &json!("system:serviceaccount:t:default")));
        let bound = &claims["kubernetes.io"];
        assert_eq!((&bound["pod"]["name"], &bound["pod"]["uid"]), (&json!("bound"), &pod["metadata"]["uid"]));
        assert_eq!(bound["node"]["name"], "n1");
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    });
}

#[test]
fn volumes_follow_the_api_at_once_and_pods_start_when_what_they_lack_appears() {
    with_cluster("", async |cluster| {
        cluster.config_map("map", &[("a", "1")]).await;
        let optional = json!({"name": "o", "configMap": {"name": "late", "optional": true}});
        let fields = json!({"name": "d", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}});
        let mounts = json!([{"name": "m", "mountPath": "/m"}, {"name": "o", "mountPath": "/o"}, {"name": "d", "mountPath": "/d"}]);
        let script = "while :; do cat /m/a /o/b /d/labels 2>/dev/null | tr '\\n' ' '; echo .; sleep 0.02; done";
        let spec = json!({
            "containers": [with(sleeper(), json!({"command": ["sh", "-c", script], "volumeMounts": mounts}))],
            "volumes": [{"name": "m", "configMap": {"name": "map"}}, optional, fields],
        });
        cluster.create("follows", spec).await;
        cluster.until_ready("follows").await;
        let shows = async |cluster: &Cluster, text: &str| {
            let began = Instant::now();
            eventually(text, async || cluster.output("follows", "c").contains(text).then_some(())).await;
            assert!(began.elapsed() < Duration::from_secs(5), "{text}: after {:?}", began.elapsed());
        };
        shows(&cluster, "1of=\"follows\".").await;
        cluster.config_map("map", &[("a", "2")]).await;
        shows(&cluster, "2of=\"follows\".").await;
        cluster.config_map("late", &[("b", "b")]).await;
        shows(&cluster, "2bof=\"follows\".").await;
        let patch = Patch::Merge(json!({"metadata": {"labels": {"of": "others"}}}));
        cluster.api::<Pod>().patch("follows", &PatchParams::default(), &patch).await.unwrap();
        shows(&cluster, "2bof=\"others\".").await;

        // One pod lacks a volume's object, another one a variable's.
        let volume = json!({"containers": [sleeper()], "volumes": [{"name": "v", "configMap": {"name": "missing"}}]});
        cluster.create("lacks-volume", volume).await;
        let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "missing", "key": "k"}}}]);
        cluster.create("lacks-key", json!({"containers": [with(sleeper(), json!({"env": env}))]})).await;
        cluster
            .until("lacks-key", "waits", |pod| {
                status(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError"
            })
            .await;
        // Long enough for retries that only go by time to have become rare.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!is_ready(&cluster.get("lacks-volume").await.unwrap()));
        let began = Instant::now();
        cluster.config_map("missing", &[("k", "v")]).await;
        cluster.until_ready("lacks-volume").await;
        cluster.until_ready("lacks-key").await;
        assert!(began.elapsed() < Duration::from_secs(3), "ready after {:?}", began.elapsed());

        // A kubelet that starts again goes on following.
        let mut cluster = cluster;
        cluster.node.stop_kubelet();
        cluster.node.start_kubelet();
        cluster.config_map("map", &[("a", "3")]).await;
        eventually("the volume follows after a restart", async || {
            cluster.output("follows", "c").contains("3bof=").then_some(())
        })
        .await;
    });
}

#[test]
fn probes_hooks_and_restarts() {
    with_cluster("", async |cluster| {
        let probe =
            json!({"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1});
        let lifecycle = json!({
            "postStart": {"exec": {"command": ["sh", "-c", "echo after > /shared/after"]}},
            "preStop": {"exec": {"command": ["sh", "-c", "echo before >> /proc/1/fd/1; sleep 1"]}},
        });
        let script = "trap 'echo term; exit 0' TERM; sleep 0.5; touch /tmp/ready; while :; do sleep 0.1; done";
        let server = json!({
            "command": ["sh", "-c", script], "readinessProbe": probe, "lifecycle": lifecycle,
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        });
        let spec = json!({
            "terminationGracePeriodSeconds": 20,
            "containers": [with(sleeper(), server)],
            "volumes": [{"name": "shared", "emptyDir": {}}],
        });
        cluster.create("life", spec).await;
        let ready = cluster.until_ready("life").await;
        assert_eq!(ready["status"]["observedGeneration"], ready["metadata"]["generation"]);
        assert_eq!(condition(&ready, "Ready")["observedGeneration"], ready["metadata"]["generation"]);
        let uid = ready["metadata"]["uid"].as_str().unwrap().to_owned();
        let shared = cluster.node.path(&format!("kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/shared"));
        assert_eq!(std::fs::read_to_string(shared.join("after")).unwrap(), "after\n");

        // A container that is killed is noticed and started again soon.
        let id = status(&ready)["containerID"].as_str().unwrap().trim_start_matches("containerd://").to_owned();
        let began = Instant::now();
        run(Command::new("ctr")
            .arg("-a")
            .arg(cluster.node.socket())
            .args(["-n", "k8s.io", "tasks", "kill", "-s", "KILL", &id]));
        let again = cluster
            .until("life", "restarted", |pod| status(pod)["restartCount"] == 1 && status(pod)["started"] == true)
            .await;
        assert!(began.elapsed() < Duration::from_secs(2), "restarted after {:?}", began.elapsed());
        assert_eq!(status(&again)["lastState"]["terminated"]["exitCode"], 137);
        assert_eq!(status(&again)["lastState"]["terminated"]["reason"], "Error");
        let ready = cluster.until_ready("life").await;

        // A kubelet that starts again disturbs nothing: the same container, ready all the time.
        let mut cluster = cluster;
        cluster.node.stop_kubelet();
        cluster.node.start_kubelet();
        cluster.create("marker", json!({"containers": [sleeper()]})).await;
        cluster.until_ready("marker").await;
        let after = cluster.get("life").await.unwrap();
        assert_eq!(status(&after)["containerID"], status(&ready)["containerID"]);
        assert_eq!(condition(&after, "Ready")["lastTransitionTime"], condition(&ready, "Ready")["lastTransitionTime"]);

        // Its end: the hook, then SIGTERM, then it is gone.
        let began = Instant::now();
        cluster.delete("life", None).await;
        eventually("the hook was run before SIGTERM", async || {
            let directory = cluster.node.path(&format!("logs/t_life_{uid}/c/1.log"));
            let text = std::fs::read_to_string(directory).unwrap_or_default();
            let (before, term) = (text.find("F before")?, text.find("F term")?);
            (before < term).then_some(())
        })
        .await;
        cluster.until_gone("life").await;
        assert!(
            began.elapsed() > Duration::from_secs(1) && began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
        eventually("its directory is removed", async || {
            (!cluster.node.path(&format!("kubelet/pods/{uid}")).exists()).then_some(())
        })
        .await;

        // One that does not end on SIGTERM has its grace, unless a later delete takes it away.
        let deaf = json!({"command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]});
        cluster
            .create("deaf", json!({"terminationGracePeriodSeconds": 100, "containers": [with(sleeper(), deaf)]}))
            .await;
        cluster.until_ready("deaf").await;
        let began = Instant::now();
        cluster.delete("deaf", None).await;
        cluster.until("deaf", "is being deleted", |pod| !pod["metadata"]["deletionTimestamp"].is_null()).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.delete("deaf", Some(2)).await;
        cluster.until_gone("deaf").await;
        assert!(
            began.elapsed() > Duration::from_secs(2) && began.elapsed() < Duration::from_secs(6),
            "{:?}",
            began.elapsed()
        );
    });
}

#[test]
fn what_became_of_containers_is_told_in_kubernetes_words() {
    with_cluster("", async |cluster| {
        let never = |name: &str, command: &str, more: Value| {
            let container = with(json!({"name": "c", "image": BUSYBOX, "command": ["sh", "-c", command]}), more);
            (name.to_owned(), json!({"restartPolicy": "Never", "containers": [container]}))
        };
        let to_log = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
        let elsewhere = json!({"terminationMessagePath": "/dev/last", "securityContext": {"runAsUser": 1000}});
        let pods = [
            never("good", "true", json!({})),
            never("bad", "echo said >&2; exit 3", to_log.clone()),
            never("message", "echo -n done > /dev/last", elsewhere),
            never("quiet", "echo said", to_log),
        ];
        for (name, spec) in pods {
            cluster.create(&name, spec).await;
        }
        for (name, phase, reason, code, message) in [
            ("good", "Succeeded", "Completed", 0, Value::Null),
            ("bad", "Failed", "Error", 3, json!("said\n")),
            ("message", "Succeeded", "Completed", 0, json!("done")),
            ("quiet", "Succeeded", "Completed", 0, Value::Null),
        ] {
            let pod = cluster.until_phase(name, phase).await;
            let end = &status(&pod)["state"]["terminated"];
            assert_eq!(
                (&end["reason"], &end["exitCode"], &end["message"]),
                (&json!(reason), &json!(code), &message),
                "{name}"
            );
        }

        // The runtime hears of the end and of its reason by two ways; where the reason comes second, it says only that it failed.
        let mut reasons = Vec::new();
        while reasons.len() < 4 && reasons.last() != Some(&json!("OOMKilled")) {
            let memory = json!({"resources": {"limits": {"memory": "16Mi"}}});
            let (name, spec) = never(&format!("hungry-{}", reasons.len()), "tail /dev/zero", memory);
            cluster.create(&name, spec).await;
            let pod = cluster.until_phase(&name, "Failed").await;
            let end = &status(&pod)["state"]["terminated"];
            assert_eq!(end["exitCode"], 137, "{name}");
            reasons.push(end["reason"].clone());
        }
        assert_eq!(reasons.last(), Some(&json!("OOMKilled")), "{reasons:?}");

        cluster
            .create("wrong-command", json!({"containers": [{"name": "c", "image": BUSYBOX, "command": ["/absent"]}]}))
            .await;
        cluster.create("wrong-image", json!({"containers": [{"name": "c", "image": "corten.test/absent:1"}]})).await;
        cluster
            .until("wrong-command", "waits", |pod| status(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff")
            .await;
        let pod =
            cluster.until("wrong-command", "failed", |pod| !status(pod)["lastState"]["terminated"].is_null()).await;
        assert_eq!(status(&pod)["lastState"]["terminated"]["reason"], "StartError");
        assert_eq!(status(&pod)["lastState"]["terminated"]["exitCode"], 128);
        cluster
            .until("wrong-image", "waits", |pod| status(pod)["state"]["waiting"]["reason"] == "ImagePullBackOff")
            .await;

        // A pod has its time.
        cluster.create("deadline", json!({"activeDeadlineSeconds": 2, "containers": [sleeper()]})).await;
        let pod = cluster.until_phase("deadline", "Failed").await;
        assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
        cluster.delete("deadline", None).await;
        cluster.until_gone("deadline").await;
    });
}

#[test]
fn pods_that_do_not_fit_are_refused() {
    with_cluster("maxPods: 4\n", async |cluster| {
        cluster
            .create(
                "first",
                json!({"containers": [with(sleeper(), json!({"ports": [{"containerPort": 80, "hostPort": 8080}]}))]}),
            )
            .await;
        cluster.until_ready("first").await;
        for (name, spec, reason) in [
            (
                "cpu",
                json!({"containers": [with(sleeper(), json!({"resources": {"requests": {"cpu": "500"}}}))]}),
                "OutOfcpu",
            ),
            ("affinity", json!({"nodeSelector": {"absent": "x"}, "containers": [sleeper()]}), "NodeAffinity"),
            (
                "ports",
                json!({"containers": [with(sleeper(), json!({"ports": [{"containerPort": 81, "hostPort": 8080}]}))]}),
                "NodePorts",
            ),
            (
                "sysctl",
                json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}, "containers": [sleeper()]}),
                "SysctlForbidden",
            ),
        ] {
            cluster.create(name, spec).await;
            let pod = cluster.until_phase(name, "Failed").await;
            assert_eq!(pod["status"]["reason"], reason);
            assert!(
                pod["status"]["message"].as_str().unwrap().starts_with("Pod was rejected: "),
                "{:#}",
                pod["status"]
            );
        }
        // The refused ones take no place, and the node's own label fits.
        cluster
            .create("second", json!({"nodeSelector": {"kubernetes.io/hostname": "n1"}, "containers": [sleeper()]}))
            .await;
        cluster.create("third", json!({"containers": [sleeper()]})).await;
        cluster.create("fourth", json!({"containers": [sleeper()]})).await;
        for name in ["second", "third", "fourth"] {
            cluster.until_ready(name).await;
        }
        cluster.create("fifth", json!({"containers": [sleeper()]})).await;
        assert_eq!(cluster.until_phase("fifth", "Failed").await["status"]["reason"], "OutOfpods");
        // A refused pod can be deleted, and a place that became free is taken.
        cluster.delete("fifth", None).await;
        cluster.until_gone("fifth").await;
        cluster.delete("fourth", None).await;
        cluster.until_gone("fourth").await;
        cluster.create("sixth", json!({"containers": [sleeper()]})).await;
        cluster.until_ready("sixth").await;
    });
}
