//! `corten-bench`: the rows of the performance table that need only a control plane, measured from outside with whole
//! processes, TLS and RBAC on. It fails on errors, never on slowness.

mod bare;
mod load;
mod pods;
mod scale;
mod usage;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bare::Bare;
use clap::Parser;
use e2e::{ControlPlane, control_plane::binary, http_client::send_json};
use load::{Measured, Protocol, Shot, Target};
use serde_json::{Value, json};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const NODES: u64 = 100;
const GROUPS: u64 = 50;
const CREATORS: usize = 8;

#[derive(Parser)]
#[command(name = "corten-bench", about = "Measure the control plane, and print a table")]
struct Options {
    /// Pods to list
    #[arg(long, default_value_t = 10_000)]
    pods: u64,
    /// Seconds per row
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Objects of the start with many objects
    #[arg(long, default_value_t = 50_000)]
    objects: u64,
    /// Instead, pods that are created and bound, and a Deployment of thousands
    #[arg(long)]
    scale: bool,
    /// Pods that are bound
    #[arg(long, default_value_t = 5_000)]
    bound: u64,
    /// Pods of the Deployment
    #[arg(long, default_value_t = 10_000)]
    replicas: u64,
    /// Of the rows that read, only these
    #[arg(long, value_delimiter = ',', value_name = "NUMBER")]
    rows: Vec<String>,
    /// Instead, the rows of a cluster that `hack/cluster up --dir DIR` made
    #[arg(long, value_name = "DIR")]
    cluster: Option<std::path::PathBuf>,
    /// Pods of the Deployments in a cluster
    #[arg(long, value_delimiter = ',', default_values_t = [1, 30, 90])]
    deployments: Vec<u64>,
    /// Instead, serve bytes on this port: the limit that the rows are held against
    #[arg(long, value_name = "PORT", requires = "pki", hide = true)]
    bare_server: Option<u16>,
    /// The certificates of the bare server
    #[arg(long, value_name = "DIR", hide = true)]
    pki: Option<std::path::PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    if let (Some(port), Some(pki)) = (options.bare_server, &options.pki) {
        return bare::serve(port, pki).await;
    }
    println!("| # | what | measured | server CPU | server memory, peak |");
    println!("|---|---|---|---|---|");
    if let Some(dir) = &options.cluster {
        return pods::run(dir, &options.deployments).await;
    }
    if options.scale {
        return scale::run(options.bound, options.replicas).await;
    }
    let start = Instant::now();
    let mut plane = ControlPlane::start().await?;
    let booted = start.elapsed();
    prepare(&plane).await?;
    let target = Target::new(&plane)?;
    creates(&options, &mut plane, &target).await?;
    let (now, _) = usage::memory(plane.apiserver()?.pid())?;
    row("9", &format!("memory with {} pods", options.pods), &format!("{now:.0} MB"), &mut plane, 0.0)?;
    reads(&options, &mut plane, &target).await?;
    let (now, _) = usage::memory(plane.apiserver()?.pid())?;
    row("9", "memory after rows 1 to 7", &format!("{now:.0} MB"), &mut plane, 0.0)?;
    println!("| | control plane, certificates to ready | {:.2} s | | |", booted.as_secs_f64());
    kubectl(&plane)?;
    starts(&options, plane).await
}

/// What pods need before they can be created without controllers.
async fn prepare(plane: &ControlPlane) -> Result<()> {
    let client = plane.client().await?;
    let account = json!({ "metadata": { "name": "default" } });
    let answer = send_json(&client, "POST", "/api/v1/namespaces/default/serviceaccounts", &account).await?;
    ensure!(answer.code == 201 || answer.code == 409, "{answer:?}");
    Ok(())
}

/// A pod of the size that pods have. `{}` becomes its number.
fn pod(prefix: &str) -> Value {
    let env: Vec<Value> =
        (0..14).map(|number| json!({ "name": format!("VARIABLE_{number}"), "value": "x".repeat(40) })).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": format!("{prefix}-{{}}"), "labels": { "app": "bench" } },
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "main",
                "image": "localhost/corten/pause:v1",
                "env": env,
                "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
            }],
        },
    })
}

/// Row 8: the pods that the other rows read are made here, by group and node.
async fn creates(options: &Options, plane: &mut ControlPlane, target: &Target) -> Result<()> {
    let cpu = usage::cpu_seconds(plane.apiserver()?.pid())?;
    let mut all: Option<(u64, f64)> = None;
    let each = options.pods.div_ceil(NODES);
    for node in 0..NODES {
        let mut body = pod(&format!("pod-{node}"));
        body["spec"]["nodeName"] = format!("node-{node}").into();
        body["metadata"]["labels"]["group"] = (node % GROUPS).to_string().into();
        let shot = Shot {
            method: "POST",
            path: "/api/v1/namespaces/default/pods".into(),
            accept: "application/json",
            body: Some(body.to_string()),
        };
        let measured = target.load(&shot, Protocol::Http1, CREATORS, Duration::from_secs(600), each).await?;
        let (requests, seconds) = all.unwrap_or_default();
        all = Some((requests + measured.requests, seconds + measured.seconds));
    }
    let (requests, seconds) = all.unwrap_or_default();
    let used = usage::cpu_seconds(plane.apiserver()?.pid())? - cpu;
    let text = format!("{:.0} /s, {:.2} ms CPU each", requests as f64 / seconds, used * 1e3 / requests as f64);
    row("8", "create pods, 8 connections", &text, plane, used)?;
    let limit = etcd_puts(plane, Duration::from_secs_f64(options.seconds)).await?;
    println!("| 8 | limit: etcd put, 8 clients, 3 KB | {limit:.0} /s | | |");
    Ok(())
}

/// etcd's own rate for values of a pod's size.
async fn etcd_puts(plane: &ControlPlane, duration: Duration) -> Result<f64> {
    let read = |name: &str| std::fs::read(plane.pki_dir().join(name));
    let tls = etcd_client::TlsOptions::new()
        .ca_certificate(etcd_client::Certificate::from_pem(read("etcd/ca.crt")?))
        .identity(etcd_client::Identity::from_pem(
            read("apiserver-etcd-client.crt")?,
            read("apiserver-etcd-client.key")?,
        ));
    let options = etcd_client::ConnectOptions::new().with_tls(tls);
    let (start, value) = (Instant::now(), vec![b'x'; 3000]);
    let mut tasks = Vec::new();
    for writer in 0..CREATORS {
        let mut client = etcd_client::Client::connect([plane.etcd_endpoint()], Some(options.clone())).await?;
        let value = value.clone();
        tasks.push(tokio::spawn(async move {
            let mut puts = 0_u64;
            while start.elapsed() < duration {
                client.put(format!("/bench/{writer}/{puts}"), value.clone(), None).await?;
                puts += 1;
            }
            anyhow::Ok(puts)
        }));
    }
    let mut puts = 0;
    for task in tasks {
        puts += task.await??;
    }
    Ok(puts as f64 / start.elapsed().as_secs_f64())
}

async fn reads(options: &Options, plane: &mut ControlPlane, target: &Target) -> Result<()> {
    let pods = "/api/v1/namespaces/default/pods";
    let list = |query: &str| Shot::get(&format!("{pods}?{query}"));
    let protobuf = Shot { accept: PROTOBUF, ..list("resourceVersion=0") };
    let (per_group, per_node) = (options.pods / GROUPS, options.pods / NODES);
    let table: [(&str, String, Shot, Protocol, usize); 8] = [
        (
            "1",
            "GET one pod, 16 connections, HTTP/1.1".into(),
            Shot::get(&format!("{pods}/pod-0-0")),
            Protocol::Http1,
            16,
        ),
        (
            "2",
            format!("LIST {} pods, resourceVersion=0, HTTP/2", options.pods),
            list("resourceVersion=0"),
            Protocol::Http2,
            2,
        ),
        ("2", "the same, HTTP/1.1".into(), list("resourceVersion=0"), Protocol::Http1, 2),
        ("3", "the same, consistent, HTTP/2".into(), Shot::get(pods), Protocol::Http2, 2),
        ("4", "the same, protobuf, HTTP/2".into(), protobuf, Protocol::Http2, 2),
        ("5", "LIST limit=500, 4 connections".into(), list("limit=500"), Protocol::Http2, 4),
        ("6", format!("LIST by label, {per_group}"), list("labelSelector=group%3D7"), Protocol::Http2, 4),
        (
            "7",
            format!("LIST by spec.nodeName, {per_node}"),
            list("fieldSelector=spec.nodeName%3Dnode-7"),
            Protocol::Http2,
            4,
        ),
    ];
    let mut bare = Bare::start(plane).await?;
    let wanted = |number: &str| options.rows.is_empty() || options.rows.iter().any(|row| row == number);
    for (number, what, shot, protocol, connections) in table.into_iter().filter(|row| wanted(row.0)) {
        let duration = Duration::from_secs_f64(options.seconds);
        // Not part of the row: what is made once, on the first use of an encoding.
        target.load(&shot, protocol, 1, duration, 1).await?;
        let cpu = usage::cpu_seconds(plane.apiserver()?.pid())?;
        let measured = target.load(&shot, protocol, connections, duration, u64::MAX).await?;
        let used = usage::cpu_seconds(plane.apiserver()?.pid())? - cpu;
        row(number, &what, &describe(&measured), plane, used)?;
        limit(&mut bare, target, (number, protocol, connections), duration, measured.bytes / measured.requests).await?;
    }
    Ok(())
}

/// What a bare server does with answers of the same size.
async fn limit(
    bare: &mut Bare,
    target: &Target,
    (number, protocol, connections): (&str, Protocol, usize),
    duration: Duration,
    size: u64,
) -> Result<()> {
    bare.process.check()?;
    let cpu = usage::cpu_seconds(bare.process.pid())?;
    let shot = Shot::get(&format!("/{size}"));
    let measured = target.with_port(bare.port).load(&shot, protocol, connections, duration, u64::MAX).await?;
    let used = usage::cpu_seconds(bare.process.pid())? - cpu;
    let (now, peak) = usage::memory(bare.process.pid())?;
    let text = describe(&measured);
    println!(
        "| {number} | limit: hyper and rustls alone, {size} bytes | {text} | {used:.1} s | {now:.0} MB, {peak:.0} MB |"
    );
    Ok(())
}

fn describe(measured: &Measured) -> String {
    format!(
        "{:.1} /s, {:.0} MB/s, p99 {:.1} ms",
        measured.per_second(),
        measured.megabytes_per_second(),
        measured.p99().as_secs_f64() * 1e3
    )
}

fn row(number: &str, what: &str, measured: &str, plane: &mut ControlPlane, cpu: f64) -> Result<()> {
    let (now, peak) = usage::memory(plane.apiserver()?.pid())?;
    println!("| {number} | {what} | {measured} | {cpu:.1} s | {now:.0} MB, {peak:.0} MB |");
    Ok(())
}

/// Row 18: the whole process, the best of twenty.
fn kubectl(plane: &ControlPlane) -> Result<()> {
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        let output = Command::new(binary("kubectl")?)
            .arg("--kubeconfig")
            .arg(plane.kubeconfig())
            .args(["get", "nodes"])
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        best = best.min(start.elapsed());
    }
    println!("| 18 | kubectl get nodes, whole process, warm | {:.1} ms | | |", best.as_secs_f64() * 1e3);
    Ok(())
}

/// Row 19: from exec to ready, with few objects and with many.
async fn starts(options: &Options, mut plane: ControlPlane) -> Result<()> {
    {
        let mut empty = ControlPlane::start().await?;
        let start = Instant::now();
        empty.restart_apiserver().await?;
        row("19", "start to ready, empty", &format!("{:.2} s", start.elapsed().as_secs_f64()), &mut empty, 0.0)?;
    }
    let target = Target::new(&plane)?;
    let missing = options.objects.saturating_sub(options.pods);
    let shot = Shot {
        method: "POST",
        path: "/api/v1/namespaces/default/pods".into(),
        accept: "application/json",
        body: Some(pod("more").to_string()),
    };
    target.load(&shot, Protocol::Http1, CREATORS, Duration::from_secs(600), missing).await?;
    let start = Instant::now();
    plane.restart_apiserver().await?;
    let text = format!("{:.2} s", start.elapsed().as_secs_f64());
    row("19", &format!("start to ready, {} objects", options.objects.max(options.pods)), &text, &mut plane, 0.0)
}
