//! Stateful sets: order, claims, revisions.

use std::sync::Arc;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::fixture::{control_plane, create, template, until};
use crate::fleet::{Fleet, is_ready};

fn set(replicas: i32) -> Value {
    let claim = json!({
        "metadata": { "name": "data" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    json!({
        "metadata": { "name": "db" },
        "spec": {
            "replicas": replicas, "serviceName": "db", "selector": { "matchLabels": { "app": "db" } },
            "template": template("db", "one"), "volumeClaimTemplates": [claim],
        },
    })
}

fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.containers[0].image.as_deref()).unwrap_or_default()
}

/// The images of the pods, by their order.
fn images(pods: &[Arc<Pod>]) -> Vec<(String, String)> {
    let mut all: Vec<_> = pods.iter().map(|pod| (pod.name_any(), image(pod).to_owned())).collect();
    all.sort();
    all
}

fn pairs(images: &[&str]) -> Vec<(String, String)> {
    images.iter().enumerate().map(|(ordinal, image)| (format!("db-{ordinal}"), (*image).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_grows_updates_and_shrinks_in_order() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1"]).await?;
    let disorder = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&disorder);
    fleet.observe("db", move |pods| {
        let mut pods: Vec<_> = pods.iter().map(|pod| (pod.name_any(), is_ready(pod))).collect();
        pods.sort();
        if pods.iter().rev().skip(1).any(|(_, is_ready)| !is_ready) {
            log.lock().push(pods);
        }
    });
    create::<StatefulSet>(&client, set(3)).await?;
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), "default");
    let settled = |replicas: i32| {
        move |found: Option<&StatefulSet>| {
            let status = found.and_then(|found| found.status.clone()).unwrap_or_default();
            status.observed_generation == found.and_then(|found| found.metadata.generation)
                && (status.replicas, status.ready_replicas, status.updated_replicas)
                    == (replicas, Some(replicas), Some(replicas))
                && status.current_revision == status.update_revision
        }
    };
    until("three pods", api.clone(), "db", settled(3)).await?;
    assert!(disorder.lock().is_empty(), "a pod came before the last was ready: {:?}", disorder.lock());
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), "default");
    let names = |list: Vec<PersistentVolumeClaim>| list.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    assert_eq!(names(claims.list(&ListParams::default()).await?.items), ["data-db-0", "data-db-1", "data-db-2"]);

    // A canary, then all.
    let change = |partition: i32, image: &str| {
        let template = json!({ "spec": { "containers": [{ "name": "c", "image": image }] } });
        let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": partition } });
        Patch::Strategic(json!({ "spec": { "template": template, "updateStrategy": strategy } }))
    };
    api.patch("db", &PatchParams::default(), &change(2, "two")).await?;
    let is_rolled = |wanted: &[&str]| {
        let wanted = pairs(wanted);
        move |pods: &[Arc<Pod>]| images(pods) == wanted && pods.iter().all(|pod| is_ready(pod))
    };
    fleet.until("the canary is new", "db", is_rolled(&["one", "one", "two"])).await?;
    let first = fleet.pods("db").into_iter().find(|pod| pod.name_any() == "db-0").context("it is there")?;
    fleet
        .finish(
            &first,
            json!({ "phase": "Failed", "reason": "Evicted", "conditions": [{ "type": "Ready", "status": "False" }] }),
        )
        .await?;
    let is_back = |pods: &[Arc<Pod>]| {
        pods.iter()
            .any(|pod| pod.name_any() == "db-0" && pod.uid() != first.uid() && is_ready(pod) && image(pod) == "one")
    };
    fleet.until("one that fails comes back as it was", "db", is_back).await?;
    api.patch("db", &PatchParams::default(), &change(0, "two")).await?;
    until("all are new", api.clone(), "db", settled(3)).await?;
    assert_eq!(images(&fleet.pods("db")), pairs(&["two", "two", "two"]));

    // Back to the first: that is the revision of before.
    api.patch("db", &PatchParams::default(), &change(0, "one")).await?;
    until("all are old again", api.clone(), "db", settled(3)).await?;
    assert_eq!(images(&fleet.pods("db")), pairs(&["one", "one", "one"]));
    let revisions: Api<ControllerRevision> = Api::namespaced(client.clone(), "default");
    let mut numbers: Vec<i64> = revisions.list(&ListParams::default()).await?.iter().map(|one| one.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);

    let shrink = json!({ "replicas": 1, "persistentVolumeClaimRetentionPolicy": { "whenScaled": "Delete" } });
    api.patch("db", &PatchParams::default(), &Patch::Merge(json!({ "spec": shrink }))).await?;
    until("one is left", api, "db", settled(1)).await?;
    assert_eq!(images(&fleet.pods("db")), pairs(&["one"]));
    for name in ["data-db-1", "data-db-2"] {
        until("its claim goes with it", claims.clone(), name, |found| {
            found.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some())
        })
        .await?;
    }
    assert!(claims.get("data-db-0").await?.metadata.deletion_timestamp.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parallel_set_does_not_wait() -> Result<()> {
    let plane = control_plane(&[]).await?;
    let client = plane.client().await?;
    let fleet = Fleet::start(client.clone(), &["n1"]).await?;
    let mut parallel = set(3);
    parallel["spec"]["podManagementPolicy"] = json!("Parallel");
    parallel["spec"]["template"] = template("db", crate::fleet::BROKEN_IMAGE);
    create::<StatefulSet>(&client, parallel).await?;
    fleet.until("all come although none is ready", "db", |pods| pods.len() == 3).await?;
    let api: Api<StatefulSet> = Api::namespaced(client, "default");
    api.patch("db", &PatchParams::default(), &Patch::Merge(json!({ "spec": { "replicas": 0 } }))).await?;
    fleet.until("and all go", "db", |pods| pods.is_empty()).await
}
