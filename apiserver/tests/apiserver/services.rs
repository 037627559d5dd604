//! Addresses and node ports of Services, at a whole server on a real etcd: what is given back can be had at once, and what fails
//! takes nothing.

use anyhow::Result;
use e2e::ControlPlane;
use e2e::http_client::{Answer, send_json};
use kube::Client;
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESS: &str = "10.96.7.7";
const PORT: u16 = 30_777;

async fn server() -> Result<(ControlPlane, Client)> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    Ok((plane, client))
}

/// A Service that wants the address and the port.
fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "NodePort", "clusterIP": ADDRESS, "ports": [{"port": 80, "nodePort": PORT}]},
    })
}

/// A Service that has neither.
fn external(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "ExternalName", "externalName": "a.example"},
    })
}

async fn create(client: &Client, service: &Value) -> Result<Answer> {
    send_json(client, "POST", SERVICES, service).await
}

async fn created(client: &Client, service: &Value) -> Result<Value> {
    let answer = create(client, service).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    Ok(answer.json())
}

async fn update(client: &Client, service: &Value, query: &str) -> Result<Answer> {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    send_json(client, "PUT", &format!("{SERVICES}/{name}{query}"), service).await
}

/// Fields of a refusal.
fn fields(answer: &Answer) -> Vec<String> {
    answer.causes().into_iter().map(|(field, _)| field).collect()
}

/// Fails unless the address and the port are free: another Service gets them.
async fn assert_free(client: &Client, name: &str) -> Result<()> {
    let got = created(client, &service(name)).await?;
    assert_eq!(got["spec"]["clusterIP"], ADDRESS);
    assert_eq!(got["spec"]["ports"][0]["nodePort"], PORT);
    let answer = send_json(client, "DELETE", &format!("{SERVICES}/{name}"), &json!({})).await?;
    assert_eq!(answer.code, 200, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn what_an_update_leaves_can_be_had_at_once() -> Result<()> {
    let (_plane, client) = server().await?;
    // The type needs neither any more.
    created(&client, &service("a")).await?;
    assert_eq!(fields(&create(&client, &service("b")).await?), ["spec.clusterIPs"], "taken");
    assert_eq!(update(&client, &external("a"), "").await?.code, 200);
    assert_free(&client, "b").await?;
    // The port alone is left.
    let mut other = created(&client, &service("c")).await?;
    other["spec"]["ports"][0]["nodePort"] = json!(PORT + 1);
    assert_eq!(update(&client, &other, "").await?.code, 200);
    let mut wants_port = service("d");
    wants_port["spec"].as_object_mut().map(|spec| spec.remove("clusterIP"));
    created(&client, &wants_port).await?;
    // The Service goes.
    for name in ["c", "d"] {
        assert_eq!(send_json(&client, "DELETE", &format!("{SERVICES}/{name}"), &json!({})).await?.code, 200);
    }
    assert_free(&client, "e").await
}

#[tokio::test]
async fn what_is_taken_for_a_write_that_fails_is_given_back() -> Result<()> {
    let (_plane, client) = server().await?;
    // Creation that is invalid for another reason, or comes twice.
    let mut invalid = service("a");
    invalid["spec"]["sessionAffinity"] = json!("Sometimes");
    assert_eq!(create(&client, &invalid).await?.code, 422);
    assert_free(&client, "b").await?;
    created(&client, &external("a")).await?;
    assert_eq!(create(&client, &service("a")).await?.code, 409);
    assert_free(&client, "b").await?;
    // An update that is invalid, or not of the newest version.
    let mut invalid = service("a");
    invalid["spec"]["sessionAffinity"] = json!("Sometimes");
    assert_eq!(update(&client, &invalid, "").await?.code, 422);
    assert_free(&client, "b").await?;
    let mut old = service("a");
    old["metadata"]["resourceVersion"] = json!("1");
    assert_eq!(update(&client, &old, "").await?.code, 409);
    assert_free(&client, "b").await?;
    // An address that is free with a port that is not: neither is taken.
    let mut holder = service("holder");
    holder["spec"].as_object_mut().map(|spec| spec.remove("clusterIP"));
    created(&client, &holder).await?;
    assert_eq!(fields(&update(&client, &service("a"), "").await?), ["spec.ports[0].nodePort"]);
    assert_eq!(send_json(&client, "DELETE", &format!("{SERVICES}/holder"), &json!({})).await?.code, 200);
    assert_free(&client, "b").await
}

#[tokio::test]
async fn a_trial_takes_nothing_and_gives_nothing_back() -> Result<()> {
    let (_plane, client) = server().await?;
    for _ in 0..2 {
        let answer = send_json(&client, "POST", &format!("{SERVICES}?dryRun=All"), &service("a")).await?;
        assert_eq!((answer.code, &answer.json()["spec"]["clusterIP"]), (201, &json!(ADDRESS)), "{answer:?}");
    }
    assert_free(&client, "b").await?;
    created(&client, &service("a")).await?;
    assert_eq!(update(&client, &external("a"), "?dryRun=All").await?.code, 200);
    let delete = send_json(&client, "DELETE", &format!("{SERVICES}/a?dryRun=All"), &json!({})).await?;
    assert_eq!(delete.code, 200, "{delete:?}");
    assert_eq!(fields(&create(&client, &service("b")).await?), ["spec.clusterIPs"], "still taken");
    let mut wants_port = service("b");
    wants_port["spec"].as_object_mut().map(|spec| spec.remove("clusterIP"));
    assert_eq!(fields(&create(&client, &wants_port).await?), ["spec.ports[0].nodePort"], "still taken");
    Ok(())
}

#[tokio::test]
async fn a_service_keeps_what_it_has_through_updates_of_other_fields() -> Result<()> {
    let (_plane, client) = server().await?;
    created(&client, &service("a")).await?;
    let plain = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "labels": {"l": "1"}},
        "spec": {"type": "NodePort", "ports": [{"port": 80}]},
    });
    let answer = update(&client, &plain, "").await?;
    assert_eq!(answer.code, 200, "{answer:?}");
    assert_eq!(answer.json()["spec"]["clusterIP"], ADDRESS);
    assert_eq!(answer.json()["spec"]["ports"][0]["nodePort"], PORT);
    assert_eq!(fields(&create(&client, &service("b")).await?), ["spec.clusterIPs"]);
    Ok(())
}
