//! Rows 11, 14 and 15: what a cluster that runs uses, and how long pods of a Deployment take to start and to go.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use e2e::{control_plane::client_from, http_client::send, http_client::send_json};
use kube::Client;
use serde_json::{Value, json};

use crate::usage;

const NAMESPACE: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(180);
const COMPONENTS: [&str; 5] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];

/// The rows of a cluster that `hack/cluster up --dir DIR` made.
pub async fn run(dir: &Path, sizes: &[u64]) -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    memory(dir)?;
    let client = client_from(&dir.join("nodes/node-1/etc/kubernetes/admin.conf")).await?;
    let body = json!({ "metadata": { "name": NAMESPACE } });
    let answer = send_json(&client, "POST", "/api/v1/namespaces", &body).await?;
    ensure!(answer.code == 201 || answer.code == 409, "{answer:?}");
    let account = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default");
    until("the namespace has its service account", async || {
        Ok(send(&client, "GET", &account, &[], "").await?.code == 200)
    })
    .await?;
    for size in sizes {
        deployment(&client, *size).await?;
    }
    Ok(())
}

/// Row 11, of the first node.
fn memory(dir: &Path) -> Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../hack/cluster");
    let output = Command::new(script).args(["status", "--json", "--dir"]).arg(dir).output()?;
    let list: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let mut all = 0.0;
    for name in COMPONENTS {
        let found = list.iter().find(|item| item["component"] == name && item["node"] == "node-1" && item["pid"] != 0);
        let pid = found.and_then(|item| item["pid"].as_i64()).with_context(|| format!("{name} does not run"))?;
        let (now, _) = usage::memory(i32::try_from(pid)?)?;
        println!("| 11 | idle memory of {name} | {now:.0} MB | | |");
        all += now;
    }
    println!("| 11 | idle memory, all five | {all:.0} MB | | |");
    Ok(())
}

async fn deployment(client: &Client, replicas: u64) -> Result<()> {
    let collection = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
    let name = format!("pause-{replicas}");
    let path = format!("{collection}/{name}");
    let image = concat!("localhost/corten/pause:v1.36.2-corten.", env!("CARGO_PKG_VERSION"));
    let body = json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "terminationGracePeriodSeconds": 1, "containers": [{ "name": "pause", "image": image }] },
            },
        },
    });
    let start = Instant::now();
    let answer = send_json(client, "POST", &collection, &body).await?;
    ensure!(answer.code == 201, "{answer:?}");
    until("all pods are ready", async || {
        Ok(send(client, "GET", &path, &[], "").await?.json()["status"]["readyReplicas"] == replicas)
    })
    .await?;
    println!("| 14 | Deployment of {replicas}, apply to ready | {:.2} s | | |", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let answer = send_json(client, "DELETE", &path, &json!({ "propagationPolicy": "Background" })).await?;
    ensure!(answer.code == 200, "{answer:?}");
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{name}");
    until("all pods are gone", async || {
        Ok(send(client, "GET", &pods, &[], "").await?.json()["items"].as_array().is_some_and(Vec::is_empty))
    })
    .await?;
    println!("| 15 | the same deleted, to gone (grace 1 s) | {:.2} s | | |", start.elapsed().as_secs_f64());
    Ok(())
}

async fn until(what: &str, mut question: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !question().await? {
        if Instant::now() > end {
            bail!("{what}: not within {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
