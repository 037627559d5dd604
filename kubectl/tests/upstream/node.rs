//! The two kubectls side by side on what runs on a real node: logs, commands in containers, forwarded ports.

use anyhow::{Result, bail, ensure};
use e2e::Node;
use e2e::node::{IMAGE, isolated};
use serde_json::{Value, json};

use super::compare;
use super::recorded::{Keys, Recorded};
use super::watching::{self, Watching};
use super::world::{World, put, words};

const SERVER: &str =
    "echo one; echo two; echo three; mkdir /www; echo index > /www/index.html; exec httpd -f -p 8080 -h /www";
const SIDE: &str = "echo side; exec sleep 1000";
/// Fails the first time.
const AGAIN: &str = "if [ -e /kept/x ]; then echo second; exec sleep 1000; fi; touch /kept/x; echo first; exit 3";

const LINES: &[&str] = &[
    "get pods box again",
    "logs box",
    "logs box -c side",
    "logs box side",
    "logs pod/box -c main",
    "logs box --all-containers",
    "logs box --all-containers --prefix",
    "logs box --prefix --tail=1",
    "logs box --tail=1",
    "logs box --tail=0",
    "logs box --timestamps --tail=2",
    "logs box --limit-bytes=5",
    "logs box --since=1h",
    "logs box -p",
    "logs box -c nope",
    "logs again",
    "logs again -p",
    "logs again --previous -c main --timestamps",
    "logs -l app=box",
    "logs -l app=box -c side",
    "logs -l app=box --all-containers --prefix --tail=2",
    "exec box -- echo out",
    "exec box -c side -- echo out",
    "exec pod/box -- true",
    "exec box -- sh -c 'echo out; echo err >&2; exit 3'",
    "exec box -c nope -- true",
    "exec box -- /no/such/command",
    "exec box -i -- cat",
    "exec box -i -t -- true",
    "exec box -q -- true",
    "port-forward box x:8080",
    "port-forward box :none",
    "wait pod/box --for=condition=Ready",
    "wait pod/box pod/again --for=condition=Ready --timeout=1s",
    "describe pod box --show-events=false",
    "describe pod again --show-events=false",
];

const GOING_ON: &[Watching] = &[
    Watching {
        line: "logs -f box -c side",
        before: 1,
        changes: &["exec box -c side -- sh -c 'echo more > /proc/1/fd/1'"],
        after: 1,
    },
    Watching {
        line: "logs -f box -c side --tail=1 --prefix",
        before: 1,
        changes: &["exec box -c side -- sh -c 'echo more > /proc/1/fd/1'"],
        after: 1,
    },
    Watching { line: "port-forward box :8080", before: 2, changes: &[], after: 0 },
];

#[test]
fn both_kubectls_say_the_same_of_what_runs() -> Result<()> {
    isolated(|| async {
        let world = World::start().await?;
        let subject =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "kubeadm:cluster-admins"});
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
        // kubeadm gives this right to the API server's client certificate.
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "kubeadm:cluster-admins"}, "roleRef": role, "subjects": [subject]});
        put(&world.client, &binding).await?;
        let mut node = Node::join(&world.plane).await?;
        for pod in pods() {
            node.run(&world.client, pod).await?;
        }
        compare_all(&world)
    })
}

fn pods() -> [Value; 2] {
    let container = |name: &str, script: &str| json!({"name": name, "image": IMAGE, "command": ["sh", "-c", script]});
    let mut again = container("main", AGAIN);
    again["volumeMounts"] = json!([{"name": "kept", "mountPath": "/kept"}]);
    let volume = json!({"name": "kept", "emptyDir": {}});
    [
        json!({"metadata": {"name": "box", "labels": {"app": "box"}},
            "spec": {"containers": [container("main", SERVER), container("side", SIDE)]}}),
        json!({"metadata": {"name": "again"}, "spec": {"containers": [again], "volumes": [volume]}}),
    ]
}

fn compare_all(world: &World) -> Result<()> {
    let recorded = Recorded::load(world, "recorded-node.json")?;
    let (pair, mut keys) = (world.pair("default", "default")?, Keys::of(""));
    // What failed is started once more.
    for until in ["jsonpath={.status.containerStatuses[0].restartCount}=1", "condition=Ready"] {
        let outcome = pair.ours.run(&words(&format!("wait pod/again --for={until} --timeout=25s")))?;
        ensure!(outcome.code == 0, "{outcome:?}");
    }
    let mut different = Vec::new();
    for line in LINES {
        different.extend(compare(&pair, line, &recorded, &mut keys)?);
    }
    for case in GOING_ON {
        different.extend(watching::compare(&pair, case, &recorded)?);
    }
    recorded.save()?;
    if different.is_empty() {
        return Ok(());
    }
    bail!("{} command lines differ:\n{}", different.len(), different.join("\n"))
}
