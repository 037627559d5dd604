//! What the configuration limits: how often events are written and images are pulled, and how many files are open.

use std::fs;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::WatchEvent;
use serde_json::{Value, json};

use crate::support::api::with_cluster;
use crate::support::node::{Node, eventually, isolated};

/// A pod's containers whose images nobody has.
fn missing(count: usize) -> Value {
    let container = |number| json!({"name": format!("c{number}"), "image": format!("corten.test/none{number}:1"), "imagePullPolicy": "Always"});
    json!({"containers": (0..count).map(container).collect::<Vec<_>>()})
}

#[test]
fn events_and_pulls_are_limited() {
    let configuration = "eventRecordQPS: 1\neventBurst: 1\nregistryPullQPS: 1\nregistryBurst: 1\n";
    with_cluster(configuration, async |cluster| {
        let events: Api<Event> = Api::all(cluster.client.clone());
        let seen = events.watch(&Default::default(), "0").await.unwrap();
        cluster.create("pulls", missing(3)).await;
        let refused = |container: &Value| {
            let message = container["state"]["waiting"]["message"].as_str().unwrap_or_default();
            message.ends_with("pull QPS exceeded")
        };
        let some =
            |pod: &Value| pod["status"]["containerStatuses"].as_array().is_some_and(|all| all.iter().any(refused));
        let pod = cluster.until("pulls", "may not pull that often", some).await;
        assert!(!refused(&pod["status"]["containerStatuses"][0]), "the first one may: {:#}", pod["status"]);

        // Every write of an event is seen here, also one that counts a known event up.
        let written = seen.try_filter_map(async |event| match event {
            WatchEvent::Added(event) | WatchEvent::Modified(event) => {
                let source = event.source.and_then(|source| source.component);
                Ok(source.filter(|source| source == "kubelet").map(|_| Instant::now()))
            }
            _ => Ok(None),
        });
        let times: Vec<Instant> = written.take(5).try_collect().await.unwrap();
        let took = times[4] - times[0];
        assert!(took > Duration::from_millis(3500), "five events within {took:?}");
    });
}

#[test]
fn the_kubelet_has_as_many_open_files_as_it_is_told_or_says_that_it_has_not() {
    isolated(|| {
        let mut node = Node::prepare("maxOpenFiles: 4321\n");
        // Soft and hard.
        let limits = |pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
            let numbers: Vec<u64> = line.split_whitespace().take(2).map(|number| number.parse().unwrap()).collect();
            (numbers[0], numbers[1])
        };
        node.start_kubelet();
        eventually("the limit is set", || (limits(node.kubelet_pid()) == (4321, 4321)).then_some(()));
        node.stop_kubelet();

        // No kernel has that many.
        node.flags.push("--max-open-files=4000000000".into());
        node.start_kubelet();
        let warning = "the machine does not allow the kubelet as many open files as maxOpenFiles";
        eventually("it says so", || {
            fs::read_to_string(node.path("kubelet.log")).unwrap().contains(warning).then_some(())
        });
        let (soft, hard) = limits(node.kubelet_pid());
        assert_eq!((soft, hard), (hard, limits(std::process::id()).1), "as many as the machine allows");
    });
}
