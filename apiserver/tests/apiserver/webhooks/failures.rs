//! Webhooks that do not answer as they should.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::server::Webhooks;
use super::*;

fn decide(path: &str, _: &Value) -> Option<Value> {
    match path {
        "slow" => None,
        "uid" => Some(json!({"uid": "other", "allowed": true})),
        "patch" => Some(json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode("[]")})),
        _ => Some(json!({"allowed": true})),
    }
}

/// What is answered to the creation of a config map.
async fn asked(client: &Client, hooks: &Webhooks, path: &str, more: Value) -> Result<(u16, String)> {
    let webhook = hooks.webhook(path, rule(&["CREATE"], &["configmaps"]), more);
    configure(client, VALIDATING, "case", json!([webhook])).await?;
    let answer = post(client, &format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a", json!({}))).await?;
    assert_eq!(send_json(client, "DELETE", &format!("{VALIDATING}/case"), &json!({})).await?.code, 200);
    Ok(said(&answer))
}

fn failed(path: &str, reason: &str) -> (u16, String) {
    (500, format!("Internal error occurred: failed calling webhook \"{path}.example.com\": {reason}"))
}

#[tokio::test]
async fn a_call_that_fails_counts_as_the_failure_policy_says() -> Result<()> {
    let (_plane, client) = plane().await?;
    let hooks = Webhooks::start(decide).await?;
    let url = |path: &str, seconds: u8| format!("https://{}/{path}?timeout={seconds}s", hooks.address);
    let service = |name: &str| json!({"service": {"namespace": "default", "name": name, "path": "/slow"}});
    let unknown_authority = json!({"clientConfig": {"url": format!("https://{}/ok", hooks.address)}});
    let one_second = json!({"timeoutSeconds": 1});
    for (path, more, reason) in [
        ("slow", one_second, format!("failed to call webhook: Post {:?}: context deadline exceeded", url("slow", 1))),
        (
            "ok",
            unknown_authority,
            format!(
                "failed to call webhook: Post {:?}: tls: failed to verify certificate: x509: certificate signed by \
                 unknown authority",
                url("ok", 10)
            ),
        ),
        (
            "ok",
            json!({"clientConfig": service("absent")}),
            "failed to call webhook: Post \"https://absent.default.svc:443/slow?timeout=10s\": service \"absent\" \
             not found"
                .to_owned(),
        ),
        (
            "patch",
            json!({}),
            "received invalid webhook response: validating webhook may not return response.patch".to_owned(),
        ),
    ] {
        assert_eq!(asked(&client, &hooks, path, more.clone()).await?, failed(path, &reason));
        let mut ignoring = more;
        ignoring["failurePolicy"] = "Ignore".into();
        assert_eq!(asked(&client, &hooks, path, ignoring).await?.0, 201);
    }
    let (code, text) = asked(&client, &hooks, "uid", json!({})).await?;
    assert!(code == 500 && text.contains("expected response.uid=") && text.ends_with("got \"other\""), "{text}");
    assert_eq!(asked(&client, &hooks, "ok", json!({})).await?.0, 201);
    Ok(())
}

#[tokio::test]
async fn a_service_leads_to_its_webhook() -> Result<()> {
    let (_plane, client) = plane().await?;
    let hooks = Webhooks::start(decide).await?;
    let port = hooks.address.port();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    let made = post(&client, "/api/v1/namespaces/default/services", &service).await?;
    assert_eq!(made.code, 201, "{made:?}");
    let reference = json!({"namespace": "default", "name": "hook", "path": "/ok", "port": port});
    let config = json!({"clientConfig": {"service": reference, "caBundle": hooks.authority}});
    assert_eq!(asked(&client, &hooks, "ok", config).await?.0, 201);
    assert_eq!(hooks.asked("ok").len(), 1);
    Ok(())
}
