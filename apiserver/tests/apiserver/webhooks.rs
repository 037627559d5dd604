//! Webhooks that admit, on a real server that asks a real webhook server.
//!
//! The cases are those that Kubernetes' conformance suite has for "AdmissionWebhook".

mod failures;
mod mutating;
mod server;
mod validating;

use anyhow::Result;
use e2e::ControlPlane;
use e2e::http_client::{Answer, send, send_json};
use kube::Client;
use serde_json::{Value, json};

const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn plane() -> Result<(ControlPlane, Client)> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    Ok((plane, client))
}

/// Operations on resources of the core group.
fn rule(operations: &[&str], resources: &[&str]) -> Value {
    json!({"operations": operations, "apiGroups": ["*"], "apiVersions": ["*"], "resources": resources})
}

async fn get(client: &Client, path: &str) -> Result<Answer> {
    send_json(client, "GET", path, &Value::Null).await
}

async fn post(client: &Client, path: &str, object: &Value) -> Result<Answer> {
    send_json(client, "POST", path, object).await
}

async fn merge(client: &Client, path: &str, patch: &Value) -> Result<Answer> {
    send(client, "PATCH", path, &[("content-type", "application/merge-patch+json")], patch.to_string()).await
}

/// Configures webhooks, and waits until they are in effect: a consistent read is answered by the cache that tells of
/// them.
async fn configure(client: &Client, path: &str, name: &str, webhooks: Value) -> Result<Value> {
    let kind = if path == MUTATING { "MutatingWebhookConfiguration" } else { "ValidatingWebhookConfiguration" };
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "labels": {"of": "test"}}, "webhooks": webhooks});
    let answer = post(client, path, &configuration).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    assert_eq!(get(client, path).await?.code, 200);
    Ok(answer.json())
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn message(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

fn said(answer: &Answer) -> (u16, String) {
    (answer.code, message(answer))
}

/// A custom resource whose objects know `data.known`.
async fn things(client: &Client) -> Result<&'static str> {
    let data = json!({"type": "object", "properties": {"known": {"type": "string"}, "first": {"type": "string"}}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"data": data}}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.t.example.com"},
        "spec": {"group": "t.example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    let answer = post(client, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    let path = "/apis/t.example.com/v1/namespaces/default/things";
    let began = std::time::Instant::now();
    while get(client, path).await?.code != 200 {
        anyhow::ensure!(began.elapsed() < std::time::Duration::from_secs(10), "the definition is not served");
        tokio::task::yield_now().await;
    }
    Ok(path)
}

fn thing(name: &str) -> Value {
    json!({"apiVersion": "t.example.com/v1", "kind": "Thing", "metadata": {"name": name}, "data": {"known": "a"}})
}
