//! Probes and hooks of every kind, against real containers and servers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::api::{eventually, with_cluster};
use crate::support::containers::{SLEEP, sh, status};
use crate::support::node::ADDRESS;
use crate::support::servers::{Health, Http};

fn probe(mut handler: Value, failures: u32) -> Value {
    handler["periodSeconds"] = 1.into();
    handler["failureThreshold"] = failures.into();
    handler
}

#[test]
fn a_container_whose_liveness_fails_is_started_again() {
    with_cluster("", async |cluster| {
        let health = Health::start().await;
        let exec = json!({"exec": {"command": ["cat", "/tmp/ok"]}});
        let http = json!({"httpGet": {"path": "/ok", "port": "web"}});
        let tcp = json!({"tcpSocket": {"port": 8080}});
        let grpc = json!({"grpc": {"port": health.port, "service": "web"}});
        let cases = [
            ("exec", exec, "rm /tmp/ok", "cat: can't open"),
            ("http", http, "rm /tmp/ok", "HTTP probe failed with statuscode: 404"),
            ("tcp", tcp, "killall httpd", "dial tcp"),
            ("grpc", grpc, "true", "service unhealthy (responded with 2)"),
        ];
        for (name, handler, fault, _) in &cases {
            // Only the first run has the fault.
            let script = format!(
                "echo ok > /tmp/ok; httpd -p 8080 -h /tmp; test -e /v/again || {{ touch /v/again; sleep 1; {fault}; }}; {SLEEP}"
            );
            let more = json!({
                "ports": [{"name": "web", "containerPort": 8080}], "livenessProbe": probe(handler.clone(), 2),
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            });
            let spec = json!({
                "containers": [sh(&script, more)], "volumes": [{"name": "v", "emptyDir": {}}],
                // Nothing in the container speaks gRPC: the test does, at the node's address.
                "hostNetwork": *name == "grpc",
            });
            cluster.create(name, spec).await;
        }
        eventually("the gRPC service is asked", async || health.was_asked("web").then_some(())).await;
        health.set(Health::NOT_SERVING);
        let restarts = |pod: &Value| status(pod)["restartCount"].as_u64().unwrap_or(0);
        cluster.until("grpc", "is started again", |pod| restarts(pod) > 0).await;
        health.set(Health::SERVING);
        let mut counts = Vec::new();
        for (name, _, _, message) in &cases {
            let again = |pod: &Value| restarts(pod) > 0 && status(pod)["ready"] == true;
            let pod = cluster.until(name, "is started again", again).await;
            assert!(!status(&pod)["lastState"]["terminated"].is_null(), "{name}");
            cluster.until_event(name, "Unhealthy", &format!("Liveness probe failed: {message}")).await;
            cluster.until_event(name, "Killing", "Container c failed liveness probe, will be restarted").await;
            counts.push(restarts(&pod));
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        for ((name, ..), count) in cases.iter().zip(counts) {
            assert_eq!(restarts(&cluster.get(name).await.unwrap()), count, "{name} is healthy now");
        }
    });
}

#[test]
fn other_probes_wait_for_startup_and_a_probe_may_have_a_grace_of_its_own() {
    with_cluster("", async |cluster| {
        let file = json!({"exec": {"command": ["test", "-e", "/tmp/started"]}});
        // Its liveness would fail at once if it did not wait.
        let slow = json!({
            "startupProbe": probe(file.clone(), 30), "livenessProbe": probe(file.clone(), 1), "readinessProbe": probe(file.clone(), 1),
        });
        let script = format!("sleep 3; touch /tmp/started; {SLEEP}");
        cluster.create("slow", json!({"containers": [sh(&script, slow)]})).await;
        let mut impatient = probe(file, 1);
        impatient["terminationGracePeriodSeconds"] = 1.into();
        let deaf = sh("trap '' TERM; while :; do sleep 0.1; done", json!({"startupProbe": impatient}));
        cluster.create("deaf", json!({"terminationGracePeriodSeconds": 500, "containers": [deaf]})).await;

        let runs = |pod: &Value| !status(pod)["state"]["running"].is_null();
        let pod = cluster.until("slow", "runs", runs).await;
        assert_eq!((&status(&pod)["started"], &status(&pod)["ready"]), (&json!(false), &json!(false)));
        let pod = cluster.until_ready("slow").await;
        assert_eq!((&status(&pod)["started"], &status(&pod)["restartCount"]), (&json!(true), &json!(0)));

        // The pod's own grace is longer than the test's patience.
        let killed = |pod: &Value| status(pod)["restartCount"].as_u64().is_some_and(|count| count > 0);
        let pod = cluster.until("deaf", "is killed", killed).await;
        assert_eq!(status(&pod)["lastState"]["terminated"]["exitCode"], 137);
        cluster.until_event("deaf", "Unhealthy", "Startup probe failed").await;
        cluster.until_event("deaf", "Killing", "Container c failed startup probe, will be restarted").await;
    });
}

#[test]
fn hooks_are_asked_over_http_and_pauses_are_kept() {
    with_cluster("", async |cluster| {
        let server = Http::start().await;
        let get = |path: &str| {
            let headers = json!([{"name": "X-Test", "value": "hook"}]);
            json!({"httpGet": {"host": ADDRESS, "port": server.port, "path": path, "httpHeaders": headers}})
        };
        let spec = |lifecycle: Value| json!({"terminationGracePeriodSeconds": 20, "containers": [sh(SLEEP, json!({"lifecycle": lifecycle}))]});
        cluster.create("web", spec(json!({"postStart": get("/begun"), "preStop": get("/ends")}))).await;
        cluster.until_ready("web").await;
        assert_eq!(server.asked(), ["GET /begun hook"]);
        cluster.delete("web", None).await;
        cluster.until_gone("web").await;
        assert_eq!(server.asked(), ["GET /begun hook", "GET /ends hook"]);

        cluster.create("pause", spec(json!({"preStop": {"sleep": {"seconds": 2}}}))).await;
        cluster.until_ready("pause").await;
        let began = Instant::now();
        cluster.delete("pause", None).await;
        cluster.until_gone("pause").await;
        let took = began.elapsed();
        assert!(took > Duration::from_secs(2) && took < Duration::from_secs(10), "{took:?}");

        // What fails after the start ends the container, and its policy decides about the rest.
        cluster
            .create("fails", spec(json!({"postStart": {"exec": {"command": ["sh", "-c", "echo no; exit 4"]}}})))
            .await;
        let again = |pod: &Value| status(pod)["restartCount"].as_u64().is_some_and(|count| count > 0);
        cluster.until("fails", "is started again", again).await;
        cluster.until_event("fails", "FailedPostStartHook", "exit code 4: no").await;

        // A hook before the end that fails is told, and keeps nothing alive.
        server.answer(500, "");
        cluster.create("refused", spec(json!({"preStop": get("/refused")}))).await;
        cluster.until_ready("refused").await;
        cluster.delete("refused", None).await;
        cluster.until_gone("refused").await;
        cluster.until_event("refused", "FailedPreStopHook", "500").await;
    });
}
