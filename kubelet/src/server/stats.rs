//! Metrics and the summary of what containers use, from the runtime's numbers.

use std::collections::HashMap;

use component_base::metrics::{CONTENT_TYPE, Registry};
use component_base::serving::{Body, respond};
use http::{Response, StatusCode};
use proto::cri as api;
use serde_json::{Value, json};

use super::json as answer;
use crate::pods::Pods;
use crate::runtime::labels;
use crate::{pod, runtime};

pub fn metrics(registry: &Registry, pods: &Pods) -> Response<Body> {
    let handles = pods.handles();
    let running: usize = handles.iter().map(|handle| handle.shared.view.lock().running().count()).sum();
    let own = format!(
        "# HELP kubelet_running_pods Number of pods that have a running pod sandbox\n# TYPE kubelet_running_pods gauge\nkubelet_running_pods {}\n\
         # HELP kubelet_running_containers Number of containers currently running\n# TYPE kubelet_running_containers gauge\nkubelet_running_containers{{container_state=\"running\"}} {running}\n",
        handles.iter().filter(|handle| handle.shared.view.lock().ready_sandbox().is_some()).count()
    );
    respond(StatusCode::OK, CONTENT_TYPE, own + &registry.encode())
}

fn label<'a>(stats: &'a api::ContainerStats, key: &str) -> &'a str {
    stats.attributes.as_ref().and_then(|attributes| attributes.labels.get(key)).map_or("", String::as_str)
}

fn cpu_nanos(stats: &api::ContainerStats) -> u64 {
    stats.cpu.as_ref().and_then(|cpu| cpu.usage_core_nano_seconds.as_ref()).map_or(0, |value| value.value)
}

fn working_set(stats: &api::ContainerStats) -> u64 {
    stats.memory.as_ref().and_then(|memory| memory.working_set_bytes.as_ref()).map_or(0, |value| value.value)
}

async fn all(pods: &Pods) -> Result<Vec<api::ContainerStats>, runtime::Error> {
    pods.agent().runtime.stats().await
}

fn failed(error: &runtime::Error) -> Response<Body> {
    component_base::serving::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
}

/// `/metrics/resource`, as metrics-server reads it.
pub async fn resource(pods: &Pods) -> Response<Body> {
    let stats = match all(pods).await {
        Ok(stats) => stats,
        Err(error) => return failed(&error),
    };
    let mut text = String::from("# TYPE container_cpu_usage_seconds_total counter\n");
    let labels_of = |s: &api::ContainerStats| {
        format!(
            "{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
            label(s, labels::CONTAINER_NAME),
            label(s, labels::POD_NAMESPACE),
            label(s, labels::POD_NAME)
        )
    };
    for s in &stats {
        text.push_str(&format!("container_cpu_usage_seconds_total{} {}\n", labels_of(s), cpu_nanos(s) as f64 / 1e9));
    }
    text.push_str("# TYPE container_memory_working_set_bytes gauge\n");
    for s in &stats {
        text.push_str(&format!("container_memory_working_set_bytes{} {}\n", labels_of(s), working_set(s)));
    }
    respond(StatusCode::OK, CONTENT_TYPE, text)
}

/// `/stats/summary`: the node, and per pod what its containers use.
pub async fn summary(pods: &Pods) -> Response<Body> {
    let stats = match all(pods).await {
        Ok(stats) => stats,
        Err(error) => return failed(&error),
    };
    let now = jiff::Timestamp::now().to_string();
    let mut by_pod: HashMap<&str, Vec<Value>> = HashMap::new();
    for s in &stats {
        by_pod.entry(label(s, labels::POD_UID)).or_default().push(json!({
            "name": label(s, labels::CONTAINER_NAME),
            "startTime": now,
            "cpu": { "time": now, "usageCoreNanoSeconds": cpu_nanos(s) },
            "memory": { "time": now, "workingSetBytes": working_set(s) },
        }));
    }
    let list: Vec<Value> = pods
        .list()
        .iter()
        .map(|pod| {
            json!({
                "podRef": { "name": pod::name(pod), "namespace": pod::namespace(pod), "uid": pod::uid(pod) },
                "startTime": pod.status.as_ref().and_then(|status| status.start_time.clone()),
                "containers": by_pod.remove(pod::uid(pod)).unwrap_or_default(),
            })
        })
        .collect();
    let agent = pods.agent();
    answer(
        &json!({ "node": { "nodeName": agent.node_name, "memory": { "time": now, "availableBytes": agent.memory } }, "pods": list }),
    )
}
