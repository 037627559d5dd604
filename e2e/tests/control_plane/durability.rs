//! What was acknowledged is there after kill -9 of etcd and of the apiserver, and etcd has the keys that Kubernetes has.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use e2e::{
    ControlPlane,
    http_client::{send, send_json},
};
use futures::StreamExt;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{ListParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

/// Writes ConfigMaps until told to stop; the names of those that were acknowledged.
async fn write_until(client: kube::Client, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("write-{number}");
        let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
        match send_json(&client, "POST", "/api/v1/namespaces/default/configmaps", &body).await {
            Ok(answer) if answer.code == 201 => acknowledged.push(name),
            // The server is away: what was not acknowledged may be there or not.
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    acknowledged
}

#[tokio::test]
async fn acknowledged_writes_survive_kill_of_apiserver_and_etcd() -> Result<()> {
    let mut plane = ControlPlane::start().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write_until(plane.client().await?, stop.clone()));
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        plane.restart_apiserver().await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        plane.restart_etcd().await?;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = writer.await?;
    assert!(acknowledged.len() > 20, "only {} writes went through", acknowledged.len());
    let maps: Api<ConfigMap> = Api::namespaced(plane.client().await?, "default");
    let there: std::collections::BTreeSet<String> =
        maps.list(&ListParams::default()).await?.items.into_iter().filter_map(|map| map.metadata.name).collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !there.contains(*name)).collect();
    assert!(lost.is_empty(), "lost {lost:?}");
    Ok(())
}

#[tokio::test]
async fn a_watch_from_before_the_window_is_told_in_the_stream_to_list_again() -> Result<()> {
    let mut plane = ControlPlane::start().await?;
    // A server that starts knows the present state, not how it came about.
    plane.restart_apiserver().await?;
    let path = "/api/v1/configmaps?watch=true&resourceVersion=1";
    let answer = send(&plane.client().await?, "GET", path, &[], "").await?;
    let event = answer.json();
    assert_eq!((answer.code, &event["type"]), (200, &json!("ERROR")), "{event}");
    assert_eq!((&event["object"]["code"], &event["object"]["reason"]), (&json!(410), &json!("Expired")), "{event}");
    Ok(())
}

#[tokio::test]
async fn a_server_starts_with_more_data_than_one_message_of_etcd_usually_holds() -> Result<()> {
    let mut plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    for number in 0..6 {
        let body =
            json!({ "metadata": { "name": format!("large-{number}") }, "data": { "text": "x".repeat(900_000) } });
        let answer = send_json(&client, "POST", "/api/v1/namespaces/default/configmaps", &body).await?;
        assert_eq!(answer.code, 201, "{answer:?}");
    }
    plane.restart_apiserver().await?;
    let answer = send(&plane.client().await?, "GET", "/api/v1/namespaces/default/configmaps", &[], "").await?;
    assert_eq!((answer.code, answer.json()["items"].as_array().map(Vec::len)), (200, Some(6)));
    Ok(())
}

#[tokio::test]
async fn a_reflector_goes_on_after_restarts_of_the_apiserver() -> Result<()> {
    let mut plane = ControlPlane::start().await?;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client().await?, "default");
    let mut seen = pin!(watcher(maps.clone(), watcher::Config::default()).default_backoff().touched_objects());
    for number in 0..3 {
        let name = format!("map-{number}");
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..ConfigMap::default()
        };
        maps.create(&PostParams::default(), &map).await?;
        let arrives = async {
            while let Some(map) = seen.next().await {
                if map.is_ok_and(|map| map.metadata.name.as_ref() == Some(&name)) {
                    return true;
                }
            }
            false
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), arrives).await?, "{name} is never seen");
        plane.restart_apiserver().await?;
    }
    Ok(())
}

#[tokio::test]
async fn etcd_has_the_keys_of_kubernetes() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "one" } });
    send_json(&client, "POST", "/api/v1/namespaces/default/configmaps", &body).await?;
    let keys = plane.etcdctl(&["get", "--prefix", "/registry", "--keys-only"])?;
    let keys: Vec<&str> = keys.lines().collect();
    for key in [
        "/registry/configmaps/default/one",
        "/registry/namespaces/kube-system",
        "/registry/services/specs/default/kubernetes",
        "/registry/clusterroles/cluster-admin",
        "/registry/priorityclasses/system-node-critical",
    ] {
        assert!(keys.contains(&key), "{key} is not among {keys:#?}");
    }
    assert!(keys.iter().all(|key| key.is_empty() || key.starts_with("/registry/")));
    Ok(())
}
