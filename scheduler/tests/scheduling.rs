//! The scheduler against a real API server on a real etcd, with TLS, RBAC and its own certificate. Nodes are objects only: what is looked at is where
//! pods are bound, and what is said of those that are not.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::control_plane::binary;
use e2e::process::Process;
use e2e::{ControlPlane, Options};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};

/// How long a test waits for what it demands.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    plane: ControlPlane,
    client: Client,
    pods: Api<Pod>,
    nodes: Api<Node>,
}

impl Cluster {
    async fn start(flags: &[(&str, &str)]) -> Result<Self> {
        let scheduler_flags = flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let plane =
            ControlPlane::start_with(Options { scheduler: true, scheduler_flags, ..Options::default() }).await?;
        let client = plane.client().await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        accounts
            .create(&PostParams::default(), &serde_json::from_value(json!({ "metadata": { "name": "default" } }))?)
            .await?;
        let (pods, nodes) = (Api::namespaced(client.clone(), "default"), Api::all(client.clone()));
        Ok(Self { plane, client, pods, nodes })
    }

    /// A node of 2 cores, 4 GiB and 110 pods, changed by `more`.
    async fn node(&self, name: &str, more: Value) -> Result<()> {
        let mut node = json!({ "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } } });
        merge(&mut node, &more);
        self.nodes.create(&PostParams::default(), &serde_json::from_value(node.clone())?).await?;
        let status = json!({ "status": { "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "110" }, "capacity": { "cpu": "2", "memory": "4Gi", "pods": "110" } } });
        self.nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
        // A new node has the taint that says it is not ready: there is no kubelet that would have it taken off.
        let taints = node.pointer("/spec/taints").cloned().unwrap_or(json!([]));
        let patch = Patch::Merge(json!({ "spec": { "taints": taints } }));
        self.nodes.patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn pod(&self, name: &str, spec: Value) -> Result<()> {
        self.labelled(name, name, spec).await
    }

    async fn labelled(&self, name: &str, app: &str, spec: Value) -> Result<()> {
        let containers = json!([{ "name": "c", "image": "pause" }]);
        let mut pod =
            json!({ "metadata": { "name": name, "labels": { "app": app } }, "spec": { "containers": containers } });
        merge(&mut pod["spec"], &spec);
        self.pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        Ok(())
    }

    async fn until(&self, what: &str, name: &str, demand: impl Fn(&Pod) -> bool) -> Result<Pod> {
        let met = await_condition(self.pods.clone(), name, |pod: Option<&Pod>| pod.is_some_and(&demand));
        match tokio::time::timeout(PATIENCE, met).await {
            Ok(found) => found?.context("it was looked at"),
            Err(_) => anyhow::bail!("{what}: {name}: {:?}", self.pods.get_opt(name).await?),
        }
    }

    /// Waits until the pod is bound; to which node.
    async fn bound(&self, name: &str) -> Result<String> {
        let pod = self.until("it is bound", name, |pod| node_of(pod).is_some()).await?;
        Ok(node_of(&pod).unwrap_or_default().to_owned())
    }

    /// Waits until the pod is said not to fit; with which words.
    async fn refused(&self, name: &str) -> Result<String> {
        let reason = |pod: &Pod| {
            let conditions = pod.status.as_ref()?.conditions.as_ref()?;
            let scheduled = conditions.iter().find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
            (scheduled.reason.as_deref() == Some("Unschedulable"))
                .then(|| scheduled.message.clone().unwrap_or_default())
        };
        let pod = self.until("it is refused", name, |pod| reason(pod).is_some()).await?;
        Ok(reason(&pod).unwrap_or_default())
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Puts the fields of `more` into `target`, objects into objects.
fn merge(target: &mut Value, more: &Value) {
    match (target, more) {
        (Value::Object(target), Value::Object(more)) => {
            for (key, value) in more {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, more) => *target = more.clone(),
    }
}

fn asking(cpu: &str) -> Value {
    json!({ "containers": [{ "name": "c", "image": "pause", "resources": { "requests": { "cpu": cpu } } }] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_go_where_they_fit_and_wait_for_a_node_that_does() -> Result<()> {
    let cluster = Cluster::start(&[]).await?;
    cluster.pod("early", asking("1")).await?;
    assert_eq!(cluster.refused("early").await?, "no nodes available to schedule pods");
    cluster.node("small", json!({})).await?;
    assert_eq!(cluster.bound("early").await?, "small");
    cluster.pod("second", asking("1500m")).await?;
    let refusal = cluster.refused("second").await?;
    assert!(refusal.starts_with("0/1 nodes are available: 1 Insufficient cpu. preemption: "), "{refusal}");
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), "default");
    let told = watcher::Config::default().fields("involvedObject.name=second,reason=FailedScheduling");
    let mut told = watcher(events, told).default_backoff().applied_objects().boxed();
    let told = tokio::time::timeout(PATIENCE, told.try_next()).await.context("an event says so")??;
    let told = told.context("the watch goes on")?;
    assert_eq!(told.message, Some(refusal));
    cluster.pod("third", asking("100m")).await?;
    assert_eq!(cluster.bound("third").await?, "small", "one that waits does not hold up the others");
    cluster.node("other", json!({})).await?;
    assert_eq!(cluster.bound("second").await?, "other", "a new node lets it in");
    cluster.pod("fourth", asking("1")).await?;
    cluster.refused("fourth").await?;
    cluster.pods.delete("early", &DeleteParams::default().grace_period(0)).await?;
    assert_eq!(cluster.bound("fourth").await?, "small", "a pod that goes makes room");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taints_affinity_ports_and_cordons_choose_nodes() -> Result<()> {
    let cluster = Cluster::start(&[]).await?;
    let taint = json!([{ "key": "dedicated", "value": "db", "effect": "NoSchedule" }]);
    cluster.node("tainted", json!({ "spec": { "taints": taint } })).await?;
    cluster.pod("plain", json!({})).await?;
    let refusal = cluster.refused("plain").await?;
    assert!(refusal.starts_with("0/1 nodes are available: 1 node(s) had untolerated taint(s)."), "{refusal}");
    let toleration = json!([{ "key": "dedicated", "operator": "Equal", "value": "db", "effect": "NoSchedule" }]);
    cluster.pod("tolerant", json!({ "tolerations": toleration })).await?;
    assert_eq!(cluster.bound("tolerant").await?, "tainted");
    cluster.node("open", json!({ "metadata": { "labels": { "disk": "ssd" } } })).await?;
    assert_eq!(cluster.bound("plain").await?, "open");

    let required = |value: &str| {
        let expression = json!({ "key": "disk", "operator": "In", "values": [value] });
        let terms = json!({ "nodeSelectorTerms": [{ "matchExpressions": [expression] }] });
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } } })
    };
    cluster.pod("on-ssd", required("ssd")).await?;
    assert_eq!(cluster.bound("on-ssd").await?, "open");
    cluster.pod("on-tape", required("tape")).await?;
    let refusal = cluster.refused("on-tape").await?;
    assert!(refusal.contains("1 node(s) didn't match Pod's node affinity/selector"), "{refusal}");
    let label = Patch::Merge(json!({ "metadata": { "labels": { "disk": "tape" } } }));
    cluster.nodes.patch("open", &PatchParams::default(), &label).await?;
    assert_eq!(cluster.bound("on-tape").await?, "open", "a label that comes lets it in");

    let port = json!({ "containers": [{ "name": "c", "image": "pause", "ports": [{ "containerPort": 80, "hostPort": 8080 }] }] });
    cluster.pod("first-on-port", port.clone()).await?;
    assert_eq!(cluster.bound("first-on-port").await?, "open");
    cluster.pod("second-on-port", port).await?;
    let refusal = cluster.refused("second-on-port").await?;
    assert!(refusal.contains("1 node(s) didn't have free ports for the requested pod ports"), "{refusal}");

    let cordon = |on: bool| Patch::Merge(json!({ "spec": { "unschedulable": on } }));
    cluster.nodes.patch("open", &PatchParams::default(), &cordon(true)).await?;
    cluster.pod("late", json!({})).await?;
    let refusal = cluster.refused("late").await?;
    assert!(refusal.contains("1 node(s) were unschedulable"), "{refusal}");
    cluster.nodes.patch("open", &PatchParams::default(), &cordon(false)).await?;
    assert_eq!(cluster.bound("late").await?, "open");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_schedulers_one_leads_and_the_other_takes_over() -> Result<()> {
    const FAST: &[(&str, &str)] = &[
        ("leader-elect-lease-duration", "3s"),
        ("leader-elect-renew-deadline", "2s"),
        ("leader-elect-retry-period", "500ms"),
    ];
    let mut cluster = Cluster::start(FAST).await?;
    cluster.node("n1", json!({})).await?;
    cluster.pod("first", json!({})).await?;
    cluster.bound("first").await?;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), "kube-system");
    let holder = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
    let leader = holder(&leases.get("kube-scheduler").await?);
    assert!(!leader.is_empty());

    let conf = cluster.plane.dir().join("etc/kubernetes/scheduler.conf").display().to_string();
    let flags = FAST.iter().map(|(name, value)| format!("--{name}={value}"));
    let mut second = Process::start(
        "second kube-scheduler",
        Command::new(binary("kube-scheduler")?).args(["--kubeconfig", &conf, "--secure-port=0"]).args(flags),
        &cluster.plane.dir().join("second-scheduler.log"),
    )?;
    let log = second.log().to_owned();
    let follows = async {
        while !std::fs::read_to_string(&log)?.contains("another leads") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, follows).await.context("the second follows")??;
    assert_eq!(holder(&leases.get("kube-scheduler").await?), leader);

    cluster.plane.scheduler()?.kill()?;
    cluster.pod("second", json!({})).await?;
    cluster.bound("second").await?;
    second.check()?;
    let now = leases.get("kube-scheduler").await?;
    assert_ne!(holder(&now), leader);
    assert_eq!(now.spec.and_then(|spec| spec.lease_transitions), Some(1));

    // A leader that ends in order gives the lease up: the next need not wait for it to expire.
    cluster.plane.start_scheduler()?;
    second.stop(Duration::from_secs(10))?;
    cluster.pod("third", json!({})).await?;
    cluster.bound("third").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_survives_a_restart_of_the_api_server() -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    cluster.node("n1", json!({})).await?;
    cluster.pod("before", json!({})).await?;
    cluster.bound("before").await?;
    cluster.plane.restart_apiserver().await?;
    cluster.pod("after", json!({})).await?;
    assert_eq!(cluster.bound("after").await?, "n1");
    cluster.plane.scheduler()?.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_spread_and_kept_apart_and_together() -> Result<()> {
    let cluster = Cluster::start(&[]).await?;
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        cluster.node(name, json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": zone } } })).await?;
    }
    let web = json!({ "matchLabels": { "app": "web" } });
    let constraint = json!({ "topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": web });
    let mut zones = Vec::new();
    for name in ["web-0", "web-1", "web-2", "web-3"] {
        cluster.labelled(name, "web", json!({ "topologySpreadConstraints": [constraint] })).await?;
        zones.push(cluster.bound(name).await?[..1].to_owned());
    }
    zones.sort();
    assert_eq!(zones, ["a", "a", "b", "b"]);

    let near =
        |app: &str, key: &str| json!([{ "labelSelector": { "matchLabels": { "app": app } }, "topologyKey": key }]);
    let apart = json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": near("db", "kubernetes.io/hostname") } } });
    let mut nodes = Vec::new();
    for name in ["db-0", "db-1", "db-2"] {
        cluster.labelled(name, "db", apart.clone()).await?;
        nodes.push(cluster.bound(name).await?);
    }
    nodes.sort();
    assert_eq!(nodes, ["a1", "a2", "b1"]);
    cluster.labelled("db-3", "db", apart).await?;
    let refusal = cluster.refused("db-3").await?;
    assert!(
        refusal.starts_with("0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."),
        "{refusal}"
    );
    let gone = cluster.bound("db-1").await?;
    cluster.pods.delete("db-1", &DeleteParams::default().grace_period(0)).await?;
    assert_eq!(cluster.bound("db-3").await?, gone, "the one that it was kept from is gone");

    let together = json!({ "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": near("cache", "kubernetes.io/hostname") } } });
    cluster.labelled("client", "client", together).await?;
    let refusal = cluster.refused("client").await?;
    assert!(refusal.starts_with("0/3 nodes are available: 3 node(s) didn't match pod affinity rules."), "{refusal}");
    cluster.labelled("cache", "cache", json!({ "nodeSelector": { "kubernetes.io/hostname": "a2" } })).await?;
    assert_eq!(cluster.bound("client").await?, "a2", "it comes with the one that it wants to be near");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_service_are_spread_without_being_told_to() -> Result<()> {
    let cluster = Cluster::start(&[]).await?;
    let services: Api<Service> = Api::namespaced(cluster.client.clone(), "default");
    let service =
        json!({ "metadata": { "name": "web" }, "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } });
    services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    for name in ["n1", "n2", "n3"] {
        cluster.node(name, json!({})).await?;
    }
    // By what is free, n1 is the best for each that follows.
    for name in ["n2", "n3"] {
        let mut filler = asking("1");
        filler["nodeSelector"] = json!({ "kubernetes.io/hostname": name });
        cluster.pod(&format!("filler-{name}"), filler).await?;
        assert_eq!(cluster.bound(&format!("filler-{name}")).await?, name);
    }
    for name in ["alone-0", "alone-1"] {
        cluster.pod(name, json!({})).await?;
        assert_eq!(cluster.bound(name).await?, "n1");
    }
    let mut nodes = Vec::new();
    for name in ["web-0", "web-1", "web-2"] {
        cluster.labelled(name, "web", json!({})).await?;
        nodes.push(cluster.bound(name).await?);
    }
    nodes.sort();
    assert_eq!(nodes, ["n1", "n2", "n3"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_important_pod_takes_the_place_of_others() -> Result<()> {
    let cluster = Cluster::start(&[]).await?;
    let classes: Api<PriorityClass> = Api::all(cluster.client.clone());
    for (name, value) in [("low", 10), ("high", 1000)] {
        let class = json!({ "metadata": { "name": name }, "value": value });
        classes.create(&PostParams::default(), &serde_json::from_value(class)?).await?;
    }
    cluster.node("n1", json!({})).await?;
    let of = |class: &str, cpu: &str| {
        let mut spec = asking(cpu);
        spec["priorityClassName"] = json!(class);
        spec
    };
    cluster.pod("plain", asking("500m")).await?;
    cluster.bound("plain").await?;
    cluster.pod("low", of("low", "1")).await?;
    cluster.bound("low").await?;
    cluster.pod("high", of("high", "1500m")).await?;

    let victim = cluster.until("it has to go", "low", |pod| pod.metadata.deletion_timestamp.is_some()).await?;
    let conditions = victim.status.and_then(|status| status.conditions).unwrap_or_default();
    let target = conditions.iter().find(|one| one.type_ == "DisruptionTarget").context("it is said why it goes")?;
    assert_eq!((target.status.as_str(), target.reason.as_deref()), ("True", Some("PreemptionByScheduler")));
    let promised = |pod: &Pod| pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
    cluster.until("it is promised the node", "high", |pod| promised(pod).as_deref() == Some("n1")).await?;
    // What the important one was promised is not given to others, though it would fit beside the one that goes.
    // It is as unimportant as `plain`, which it could displace otherwise.
    cluster.pod("late", asking("500m")).await?;
    cluster.refused("late").await?;
    cluster.pods.delete("low", &DeleteParams::default().grace_period(0)).await?;
    assert_eq!(cluster.bound("high").await?, "n1");
    assert!(cluster.pods.get("plain").await?.metadata.deletion_timestamp.is_none(), "no more go than must");
    Ok(())
}
