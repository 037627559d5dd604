//! Deployments, replica sets, daemon sets, their endpoints, and what becomes of them when a node is lost.

use std::sync::Arc;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, ReplicationController, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::fixture::{PATIENCE, control_plane, create, template, until};
use crate::fleet::{BROKEN_IMAGE, Fleet, is_ready, node_of};

async fn create_deployment(client: &Client, replicas: i32) -> Result<Api<Deployment>> {
    create::<Deployment>(
        client,
        json!({
            "metadata": { "name": "web" },
            "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "web" } }, "template": template("web", "one") },
        }),
    )
    .await?;
    Ok(Api::namespaced(client.clone(), "default"))
}

/// The replica sets of the deployment `web`, by the revision that they are of.
async fn revisions(client: &Client) -> Result<Vec<(String, i32)>> {
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), "default");
    let listed = sets.list(&ListParams::default()).await?.items;
    let revision = |set: &ReplicaSet| set.annotations()["deployment.kubernetes.io/revision"].clone();
    let replicas = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    let mut all: Vec<_> = listed.iter().map(|set| (revision(set), replicas(set))).collect();
    all.sort();
    Ok(all)
}

async fn change(api: &Api<Deployment>, spec: Value) -> Result<()> {
    api.patch("web", &PatchParams::default(), &Patch::Strategic(json!({ "spec": spec }))).await?;
    Ok(())
}

fn image(name: &str) -> Value {
    json!({ "template": { "spec": { "containers": [{ "name": "c", "image": name }] } } })
}

/// Whether the newest state was seen, and all of this many pods are new and available.
fn is_complete(deployment: &Deployment, replicas: i32) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    status.observed_generation == deployment.metadata.generation
        && [status.replicas, status.updated_replicas, status.available_replicas].map(|count| count.unwrap_or(0))
            == [replicas; 3]
}

async fn complete(api: &Api<Deployment>, replicas: i32) -> Result<Deployment> {
    let done =
        until("rollout", api.clone(), "web", |found| found.is_some_and(|found| is_complete(found, replicas))).await?;
    Ok(done.expect("it was looked at"))
}

fn reason(status: &DeploymentStatus, type_: &str) -> Option<String> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_)?.reason.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_scales_rolls_stops_at_a_bad_image_and_rolls_back() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1", "n2"]).await?;
    let service = json!({ "metadata": { "name": "web" }, "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": "web" }] } });
    create::<Service>(&client, service).await?;
    let api = create_deployment(&client, 1).await?;
    complete(&api, 1).await?;
    change(&api, json!({ "replicas": 20 })).await?;
    complete(&api, 20).await?;
    change(&api, json!({ "replicas": 3 })).await?;
    complete(&api, 3).await?;
    fleet.until("three pods are left", "web", |pods| pods.len() == 3).await?;

    change(&api, image("two")).await?;
    let rolled = complete(&api, 3).await?;
    assert_eq!(rolled.annotations()["deployment.kubernetes.io/revision"], "2");

    let mut broken = image(BROKEN_IMAGE);
    broken["progressDeadlineSeconds"] = json!(3);
    change(&api, broken).await?;
    let stuck = until("the bad image is noticed", api.clone(), "web", |found| {
        let status = found.and_then(|found| found.status.clone()).unwrap_or_default();
        reason(&status, "Progressing").as_deref() == Some("ProgressDeadlineExceeded")
    })
    .await?
    .expect("it was looked at");
    let status = stuck.status.unwrap_or_default();
    assert_eq!((status.available_replicas, status.updated_replicas), (Some(3), Some(1)), "the old pods stay");

    change(&api, image("two")).await?;
    let back = complete(&api, 3).await?;
    assert_eq!(back.annotations()["deployment.kubernetes.io/revision"], "4");
    fleet
        .until("only good pods are left", "web", |pods| pods.len() == 3 && pods.iter().all(|pod| is_ready(pod)))
        .await?;
    endpoints_show(&client, &fleet).await
}

/// Endpoints and slices have exactly the addresses of the pods.
async fn endpoints_show(client: &Client, fleet: &Fleet) -> Result<()> {
    let mut wanted: Vec<String> =
        fleet.pods("web").iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect();
    wanted.sort();
    until("endpoints", Api::<Endpoints>::namespaced(client.clone(), "default"), "web", |found| {
        let subsets = found.and_then(|found| found.subsets.clone()).unwrap_or_default();
        let mut shown: Vec<String> =
            subsets.into_iter().flat_map(|subset| subset.addresses.unwrap_or_default()).map(|one| one.ip).collect();
        shown.sort();
        shown == wanted
    })
    .await?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let listed = slices.list(&ListParams::default().labels("kubernetes.io/service-name=web")).await?;
    let name = listed.items.first().map(|slice| slice.name_any()).unwrap_or_default();
    assert_eq!(listed.items.len(), 1);
    until("slice", slices, &name, |found| {
        let endpoints = found.and_then(|found| found.endpoints.clone()).unwrap_or_default();
        let ready = endpoints
            .into_iter()
            .filter(|one| one.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true)));
        let mut shown: Vec<String> = ready.flat_map(|one| one.addresses).collect();
        shown.sort();
        shown == wanted
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_stops_matching_is_released_and_one_that_matches_is_adopted() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1"]).await?;
    let api = create_deployment(&client, 2).await?;
    complete(&api, 2).await?;
    fleet.until("two pods", "web", |pods| pods.len() == 2).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let first = fleet.pods("web")[0].clone();
    let relabel = |app: &str| Patch::Merge(json!({ "metadata": { "labels": { "app": app } } }));
    pods.patch(&first.name_any(), &PatchParams::default(), &relabel("other")).await?;
    until("the pod is released", pods.clone(), &first.name_any(), |found| {
        found.is_some_and(|found| found.owner_references().is_empty())
    })
    .await?;
    fleet
        .until("another took its place", "web", |pods| pods.len() == 2 && pods.iter().all(|pod| is_ready(pod)))
        .await?;
    pods.patch(&first.name_any(), &PatchParams::default(), &relabel("web")).await?;
    fleet
        .until("of three one goes", "web", |pods| {
            pods.len() == 2 && pods.iter().all(|pod| !pod.owner_references().is_empty())
        })
        .await?;
    let sets: Api<ReplicaSet> = Api::namespaced(client, "default");
    assert_eq!(sets.list(&ListParams::default()).await?.items.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_follows_nodes_and_updates_them_and_nodes_get_ranges() -> Result<()> {
    let plane = control_plane(&[("allocate-node-cidrs", "true"), ("cluster-cidr", "10.244.0.0/16")]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1", "n2"]).await?;
    let set = json!({
        "metadata": { "name": "agent" },
        "spec": { "selector": { "matchLabels": { "app": "agent" } }, "template": template("agent", "one") },
    });
    create::<DaemonSet>(&client, set).await?;
    let api: Api<DaemonSet> = Api::namespaced(client.clone(), "default");
    let covers = |nodes: i32| {
        move |found: Option<&DaemonSet>| {
            let status = found.and_then(|found| found.status.clone()).unwrap_or_default();
            (status.desired_number_scheduled, status.number_available, status.updated_number_scheduled)
                == (nodes, Some(nodes), Some(nodes))
                && status.observed_generation == found.and_then(|found| found.metadata.generation)
        }
    };
    until("a pod on each node", api.clone(), "agent", covers(2)).await?;
    fleet.add("n3").await?;
    until("a pod on the new node", api.clone(), "agent", covers(3)).await?;
    api.patch("agent", &PatchParams::default(), &Patch::Strategic(json!({ "spec": image("two") }))).await?;
    until("the update", api, "agent", covers(3)).await?;
    let nodes: Api<Node> = Api::all(client);
    let mut ranges = Vec::new();
    for name in ["n1", "n2", "n3"] {
        let has_range = |found: Option<&Node>| found.and_then(|found| found.spec.as_ref()?.pod_cidr.clone()).is_some();
        let node = until("a range", nodes.clone(), name, has_range).await?.expect("it was looked at");
        ranges.push(node.spec.unwrap_or_default().pod_cidr.unwrap_or_default());
    }
    ranges.sort();
    assert_eq!(ranges, ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_lost_node_are_replaced_and_the_node_is_taken_back() -> Result<()> {
    let plane = control_plane(&[("node-monitor-grace-period", "4s"), ("node-monitor-period", "1s")]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1", "n2"]).await?;
    let api = create_deployment(&client, 4).await?;
    let short = ["not-ready", "unreachable"].map(|key| {
        json!({ "key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1 })
    });
    change(&api, json!({ "template": { "spec": { "tolerations": short } } })).await?;
    complete(&api, 4).await?;
    fleet.until("pods on both nodes", "web", |pods| pods.iter().any(|pod| node_of(pod) == Some("n2"))).await?;
    fleet.lose("n2");
    let nodes: Api<Node> = Api::all(client.clone());
    let evicts = |found: Option<&Node>| {
        let taints = found.and_then(|found| found.spec.as_ref()?.taints.clone()).unwrap_or_default();
        taints.iter().any(|taint| taint.key == "node.kubernetes.io/unreachable" && taint.effect == "NoExecute")
    };
    until("the loss is noticed", nodes.clone(), "n2", evicts).await?;
    let elsewhere = |pod: &std::sync::Arc<Pod>| node_of(pod) == Some("n1") && is_ready(pod);
    fleet.until("the pods run elsewhere", "web", |pods| pods.len() == 4 && pods.iter().all(elsewhere)).await?;
    fleet.find("n2");
    let clean = |found: Option<&Node>| {
        found.is_some_and(|found| found.spec.as_ref().and_then(|spec| spec.taints.as_ref()).is_none_or(Vec::is_empty))
    };
    until("the node is taken back", nodes, "n2", clean).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_keeps_its_bounds_all_the_time() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1", "n2"]).await?;
    let api = create_deployment(&client, 8).await?;
    let bounds = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 2, "maxUnavailable": 1 } });
    change(&api, json!({ "strategy": bounds })).await?;
    complete(&api, 8).await?;
    fleet.until("all pods are seen", "web", |pods| pods.len() == 8 && pods.iter().all(|pod| is_ready(pod))).await?;
    let (most, fewest) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(usize::MAX)));
    let (high, low) = (Arc::clone(&most), Arc::clone(&fewest));
    fleet.observe("web", move |pods| {
        let (mut high, mut low) = (high.lock(), low.lock());
        *high = pods.len().max(*high);
        *low = pods.iter().filter(|pod| is_ready(pod)).count().min(*low);
    });
    change(&api, image("two")).await?;
    complete(&api, 8).await?;
    let (most, fewest) = (*most.lock(), *fewest.lock());
    assert!(most <= 10 && fewest >= 7, "the bounds are kept: at most {most} pods, at least {fewest} ready");
    assert!(most > 8, "the surge is used");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_deployment_scales_but_does_not_roll_and_keeps_as_many_revisions_as_asked() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1"]).await?;
    let api = create_deployment(&client, 2).await?;
    change(&api, json!({ "revisionHistoryLimit": 1 })).await?;
    complete(&api, 2).await?;
    change(&api, json!({ "paused": true })).await?;
    let mut changed = image("two");
    changed["replicas"] = json!(3);
    change(&api, changed).await?;
    until("the change is seen", api.clone(), "web", |found| {
        let status = found.and_then(|found| found.status.clone()).unwrap_or_default();
        status.observed_generation == found.and_then(|found| found.metadata.generation)
            && (status.replicas, status.updated_replicas) == (Some(3), None)
            && reason(&status, "Progressing").as_deref() == Some("DeploymentPaused")
    })
    .await?;
    assert_eq!(revisions(&client).await?, [("1".to_owned(), 3)]);
    change(&api, json!({ "paused": false })).await?;
    complete(&api, 3).await?;
    fleet.until("the new pods run", "web", |pods| pods.len() == 3 && pods.iter().all(|pod| is_ready(pod))).await?;
    assert_eq!(revisions(&client).await?, [("1".to_owned(), 0), ("2".to_owned(), 3)]);
    change(&api, image("three")).await?;
    complete(&api, 3).await?;
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), "default");
    let oldest = sets
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .find(|set| set.annotations()["deployment.kubernetes.io/revision"] == "1");
    if let Some(oldest) = oldest {
        until("the oldest revision goes", sets, &oldest.name_any(), |found| found.is_none()).await?;
    }
    assert_eq!(revisions(&client).await?, [("2".to_owned(), 0), ("3".to_owned(), 3)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_readiness() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1"]).await?;
    let spec = json!({ "selector": { "app": "slow" }, "ports": [{ "port": 80, "targetPort": "web" }] });
    create::<Service>(&client, json!({ "metadata": { "name": "slow" }, "spec": spec })).await?;
    let controller =
        json!({ "replicas": 2, "selector": { "app": "slow" }, "template": template("slow", BROKEN_IMAGE) });
    create::<ReplicationController>(&client, json!({ "metadata": { "name": "slow" }, "spec": controller })).await?;
    fleet
        .until("both pods are placed", "slow", |pods| pods.iter().filter(|pod| node_of(pod).is_some()).count() == 2)
        .await?;
    for pod in fleet.pods("slow") {
        fleet.set_ready(&pod, false).await?;
    }
    ready_endpoints(&client, [0, 2]).await?;
    let pods = fleet.pods("slow");
    fleet.set_ready(&pods[0], true).await?;
    ready_endpoints(&client, [1, 1]).await?;
    let controllers: Api<ReplicationController> = Api::namespaced(client.clone(), "default");
    until("the replication controller counts", controllers.clone(), "slow", |found| {
        let status = found.and_then(|found| found.status.clone()).unwrap_or_default();
        (status.replicas, status.ready_replicas) == (2, Some(1))
    })
    .await?;
    fleet.set_ready(&pods[0], false).await?;
    ready_endpoints(&client, [0, 2]).await?;
    let scale = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    controllers.patch("slow", &PatchParams::default(), &scale).await?;
    ready_endpoints(&client, [0, 0]).await
}

/// Waits until the service `slow` has this many endpoints that are ready, and that are not: in its slice and in its Endpoints.
async fn ready_endpoints(client: &Client, wanted: [usize; 2]) -> Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let of_service = watcher::Config::default().labels("kubernetes.io/service-name=slow");
    let mut slices = watcher(slices, of_service).default_backoff().applied_objects().boxed();
    let shown = async {
        while let Some(slice) = slices.try_next().await? {
            let ready = |one: &&Endpoint| one.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true);
            let endpoints = slice.endpoints.unwrap_or_default();
            let ready = endpoints.iter().filter(ready).count();
            if [ready, endpoints.len() - ready] == wanted {
                break;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, shown).await.context("the slice")??;
    until("endpoints", Api::<Endpoints>::namespaced(client.clone(), "default"), "slow", |found| {
        let subsets = found.and_then(|found| found.subsets.clone()).unwrap_or_default();
        let ready = subsets.iter().flat_map(|subset| subset.addresses.iter().flatten()).count();
        let not_ready = subsets.iter().flat_map(|subset| subset.not_ready_addresses.iter().flatten()).count();
        [ready, not_ready] == wanted
    })
    .await?;
    Ok(())
}
