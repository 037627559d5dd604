//! Rows 12, 13 and 16: pods that are created and bound, and a Deployment of thousands of them. Nodes are objects only.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{
    ControlPlane, Options,
    http_client::{send, send_json},
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

use crate::{
    load::{Protocol, Shot, Target},
    prepare, row, usage,
};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Who creates pods, and who plays kubelet, at a time.
const AT_ONCE: usize = 32;
/// Pods that are kept apart from each other, of 1,000 nodes.
const APART: u64 = 500;
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Prints the rows, with so many pods each.
pub async fn run(pods: u64, replicas: u64) -> Result<()> {
    let alike = |color: &str| json!({ "matchLabels": { "color": color } });
    let spread = json!({ "topologySpreadConstraints": [{ "topologyKey": ZONE, "maxSkew": 5, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": alike("0") }] });
    let required = |color: &str, key: &str| json!({ "requiredDuringSchedulingIgnoredDuringExecution": [{ "labelSelector": alike(color), "topologyKey": key }] });
    let near = json!({ "affinity": { "podAffinity": required("0", ZONE) } });
    bound("12", "created and bound on 1,000 nodes", &[(pods, pod("pod", "0", &json!({})))]).await?;
    bound("13", "the same with topology spread", &[(pods, pod("pod", "0", &spread))]).await?;
    bound("13", "the same with affinity", &[(pods, pod("pod", "0", &near))]).await?;
    let groups = (0..pods.div_ceil(APART)).map(|group| {
        let (color, size) = (group.to_string(), APART.min(pods - group * APART));
        let apart = json!({ "affinity": { "podAntiAffinity": required(&color, HOSTNAME) } });
        (size, pod(&format!("pod-{group}"), &color, &apart))
    });
    bound("13", "the same with anti-affinity", &groups.collect::<Vec<_>>()).await?;
    deployment(replicas).await
}

fn pod(prefix: &str, color: &str, spec: &Value) -> Value {
    let mut pod = crate::pod(prefix);
    pod["metadata"]["labels"]["color"] = color.into();
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

/// Rows 12 and 13: from the first creation until the last pod has its node.
async fn bound(number: &str, what: &str, groups: &[(u64, Value)]) -> Result<()> {
    let mut plane = ControlPlane::start_with(Options { scheduler: true, ..Options::default() }).await?;
    prepare(&plane).await?;
    let client = plane.client().await?;
    nodes(&client, 1000).await?;
    // Not part of the row: the scheduler takes the lead.
    let mut first = pod("first", "none", &json!({}));
    first["metadata"]["name"] = "first".into();
    let answer = send_json(&client, "POST", PODS, &first).await?;
    ensure!(answer.code == 201, "{answer:?}");
    until_bound(&client, 1).await?;
    let target = Target::new(&plane)?;
    let all: u64 = groups.iter().map(|(count, _)| count).sum();
    let watched = tokio::spawn({
        let client = client.clone();
        async move { until_bound(&client, all + 1).await }
    });
    let cpu = usage::cpu_seconds(plane.apiserver()?.pid())?;
    let start = Instant::now();
    for (count, pod) in groups {
        let shot = Shot { method: "POST", path: PODS.into(), accept: "application/json", body: Some(pod.to_string()) };
        target.load(&shot, Protocol::Http1, AT_ONCE, Duration::from_secs(600), *count).await?;
    }
    let created = start.elapsed();
    watched.await??;
    let taken = start.elapsed().as_secs_f64();
    let used = usage::cpu_seconds(plane.apiserver()?.pid())? - cpu;
    let pid = plane.scheduler()?.pid();
    let (scheduler, (_, peak)) = (usage::cpu_seconds(pid)?, usage::memory(pid)?);
    let text = format!(
        "{:.0} pods/s (created at {:.0} /s; scheduler {scheduler:.1} s CPU, {peak:.0} MB)",
        all as f64 / taken,
        all as f64 / created.as_secs_f64()
    );
    row(number, &format!("{all} pods {what}"), &text, &mut plane, used)
}

/// Waits until so many pods have nodes.
async fn until_bound(client: &Client, count: u64) -> Result<()> {
    let config = watcher::Config::default().fields("spec.nodeName!=");
    let changes = watcher(Api::<Pod>::all(client.clone()), config).default_backoff().touched_objects();
    let mut changes = std::pin::pin!(changes);
    let mut known = std::collections::HashSet::new();
    while (known.len() as u64) < count {
        let pod = changes.try_next().await?.context("the watch goes on")?;
        known.insert(pod.metadata.name);
    }
    Ok(())
}

/// Nodes that are ready, of three zones.
async fn nodes(client: &Client, count: usize) -> Result<()> {
    let make = |number: usize| async move {
        let (name, zone) = (format!("node-{number}"), format!("z{}", number % 3));
        let labels = json!({ HOSTNAME: name, ZONE: zone });
        let room = json!({ "cpu": "32", "memory": "256Gi", "pods": "250" });
        let node = json!({ "metadata": { "name": name, "labels": labels } });
        let status = json!({ "status": { "capacity": room, "allocatable": room, "conditions": [{ "type": "Ready", "status": "True" }] } });
        for (method, path, body) in [
            ("POST", "/api/v1/nodes".to_owned(), node),
            ("PATCH", format!("/api/v1/nodes/{name}/status"), status),
            ("PATCH", format!("/api/v1/nodes/{name}"), json!({ "spec": { "taints": null } })),
        ] {
            let media_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
            let answer = send(client, method, &path, &[("content-type", media_type)], body.to_string()).await?;
            ensure!(answer.code < 300, "{answer:?}");
        }
        anyhow::Ok(())
    };
    futures::stream::iter(0..count).map(make).buffer_unordered(AT_ONCE).try_collect().await
}

/// Row 16: from the Deployment until all of its pods are ready.
async fn deployment(replicas: u64) -> Result<()> {
    // The nodes do not report, which nobody is to mind.
    let flags = vec![("controllers".to_owned(), "*,-node-lifecycle-controller".to_owned())];
    let options =
        Options { scheduler: true, controller_manager: true, controller_manager_flags: flags, ..Options::default() };
    let mut plane = ControlPlane::start_with(options).await?;
    prepare(&plane).await?;
    let client = plane.client().await?;
    nodes(&client, 1000).await?;
    let kubelets = tokio::spawn(play_kubelets(client.clone()));
    deploy(&client, "first", 1).await?;
    let cpu = usage::cpu_seconds(plane.apiserver()?.pid())?;
    let start = Instant::now();
    deploy(&client, "large", replicas).await?;
    let taken = start.elapsed().as_secs_f64();
    kubelets.abort();
    let used = usage::cpu_seconds(plane.apiserver()?.pid())? - cpu;
    let pid = plane.controller_manager()?.pid();
    let (manager, (_, peak)) = (usage::cpu_seconds(pid)?, usage::memory(pid)?);
    let text = format!("{:.0} pods/s (controller-manager {manager:.1} s CPU, {peak:.0} MB)", replicas as f64 / taken);
    row("16", &format!("Deployment of {replicas}, until all are ready"), &text, &mut plane, used)
}

/// Makes a Deployment, and waits until all of its pods are ready.
async fn deploy(client: &Client, name: &str, replicas: u64) -> Result<()> {
    let pod = crate::pod("any");
    let labels = json!({ "app": name });
    let template = json!({ "metadata": { "labels": labels }, "spec": pod["spec"] });
    let spec = json!({ "replicas": replicas, "selector": { "matchLabels": labels }, "template": template });
    let body = json!({ "metadata": { "name": name }, "spec": spec });
    let answer = send_json(client, "POST", "/apis/apps/v1/namespaces/default/deployments", &body).await?;
    ensure!(answer.code == 201, "{answer:?}");
    let is_done = |object: Option<&Deployment>| {
        let ready = object.and_then(|object| object.status.as_ref()?.ready_replicas);
        ready.is_some_and(|ready| u64::try_from(ready).is_ok_and(|ready| ready == replicas))
    };
    kube::runtime::wait::await_condition(Api::namespaced(client.clone(), "default"), name, is_done).await?;
    Ok(())
}

/// Makes every pod that has a node ready.
async fn play_kubelets(client: Client) -> Result<()> {
    let config = watcher::Config::default().fields("spec.nodeName!=,status.phase=Pending");
    let changes = watcher(Api::<Pod>::all(client.clone()), config).default_backoff().applied_objects();
    let run = async |pod: Pod| {
        let api: Api<Pod> = Api::namespaced(client.clone(), "default");
        let condition = json!({ "type": "Ready", "status": "True" });
        let status = json!({ "status": { "phase": "Running", "podIP": "10.244.0.9", "podIPs": [{ "ip": "10.244.0.9" }], "conditions": [condition] } });
        let name = pod.metadata.name.unwrap_or_default();
        api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await?;
        anyhow::Ok(())
    };
    changes.map_err(anyhow::Error::from).try_for_each_concurrent(AT_ONCE, run).await
}
