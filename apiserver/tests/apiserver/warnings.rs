//! Warnings, as the headers of answers: of what is written, of every request for a kind that is going away, and of refusals too.

use anyhow::Result;
use e2e::{
    ControlPlane,
    http_client::{Answer, send, send_json},
};
use kube::Client;
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
const OLD_ENDPOINTS: &str = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";

/// The texts, taken out of their headers.
fn texts(answer: &Answer) -> Vec<String> {
    let text = |header: &String| {
        let quoted = header.strip_prefix("299 - \"").and_then(|rest| rest.strip_suffix('"'));
        quoted.expect("a warning of code 299").replace("\\\"", "\"")
    };
    answer.warnings.iter().map(text).collect()
}

async fn patch(client: &Client, path: &str, body: Value) -> Result<Answer> {
    send(client, "PATCH", path, &[("content-type", "application/merge-patch+json")], body.to_string()).await
}

#[tokio::test]
async fn a_write_is_warned_of_what_it_brings() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let balancer = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }], "trafficDistribution": "PreferClose" } });
    let answer = send_json(&client, "POST", SERVICES, &balancer).await?;
    let close = r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#;
    assert_eq!((answer.code, texts(&answer)), (201, vec![close.to_owned()]));
    let path = format!("{SERVICES}/s");
    let answer = patch(&client, &path, json!({ "metadata": { "labels": { "a": "b" } } })).await?;
    assert_eq!((answer.code, texts(&answer)), (200, vec![close.to_owned()]));

    // The status has warnings of its own.
    let ingress = |ip: &str| json!({ "status": { "loadBalancer": { "ingress": [{ "ip": ip }] } } });
    let answer = patch(&client, &format!("{path}/status"), ingress("192.0.2.1")).await?;
    assert_eq!((answer.code, texts(&answer)), (200, vec![]));
    let answer = patch(&client, &format!("{path}/status"), ingress("2001:DB8::1")).await?;
    let ip = r#"status.loadBalancer.ingress[0].ip: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")"#;
    assert_eq!((answer.code, texts(&answer)), (200, vec![ip.to_owned()]));
    Ok(())
}

#[tokio::test]
async fn every_request_for_a_kind_that_is_going_away_is_warned() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let path = format!("{ENDPOINTS}/e");
    let object = json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": "e" } });
    for (method, path, body, code) in [
        ("GET", ENDPOINTS, Value::Null, 200),
        ("POST", ENDPOINTS, object.clone(), 201),
        ("POST", ENDPOINTS, object, 409),
        ("GET", &path, Value::Null, 200),
        ("DELETE", &path, json!({}), 200),
        ("GET", &path, Value::Null, 404),
    ] {
        let answer = send_json(&client, method, path, &body).await?;
        assert_eq!((answer.code, texts(&answer)), (code, vec![OLD_ENDPOINTS.to_owned()]), "{method} {path}");
    }
    Ok(())
}
