//! Who may do what: nothing without credentials, and a service account what its role gives and no more.

use std::path::Path;

use anyhow::Result;
use e2e::{
    ControlPlane,
    http_client::{send, send_json},
};
use kube::{Client, Config};
use serde_json::{Value, json};

/// A client that trusts the server and shows nothing, or a token.
fn client_with(plane: &ControlPlane, token: Option<&str>) -> Result<Client> {
    let mut config = Config::new(plane.server().parse()?);
    config.root_cert = Some(vec![der(&plane.pki_dir().join("ca.crt"))?]);
    config.auth_info.token = token.map(|token| token.to_owned().into());
    Ok(Client::try_from(config)?)
}

fn der(path: &Path) -> Result<Vec<u8>> {
    use base64::Engine;
    let text = std::fs::read_to_string(path)?;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    Ok(base64::engine::general_purpose::STANDARD.decode(body)?)
}

#[tokio::test]
async fn without_credentials_nothing_but_health_and_version_answers() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let nobody = client_with(&plane, None)?;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(send(&nobody, "GET", path, &[], "").await?.code, 200, "{path}");
    }
    for path in
        ["/api", "/apis", "/api/v1/namespaces", "/api/v1/namespaces/kube-system/secrets", "/metrics", "/openapi/v3"]
    {
        let answer = send(&nobody, "GET", path, &[], "").await?;
        assert_eq!((answer.code, answer.reason().as_str()), (403, "Forbidden"), "{path}");
    }
    let answer = send_json(&nobody, "POST", "/api/v1/namespaces", &json!({ "metadata": { "name": "mine" } })).await?;
    assert_eq!(answer.code, 403);
    let liar = client_with(&plane, Some("eyJhbGciOiJSUzI1NiJ9.e30.bm90aGluZw"))?;
    let answer = send(&liar, "GET", "/api/v1/namespaces", &[], "").await?;
    assert_eq!((answer.code, answer.reason().as_str()), (401, "Unauthorized"));
    Ok(())
}

#[tokio::test]
async fn a_service_account_sees_what_its_role_gives_and_no_more() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let admin = plane.client().await?;
    let create = async |path: &str, body: Value| -> Result<Value> {
        let answer = send_json(&admin, "POST", path, &body).await?;
        assert_eq!(answer.code, 201, "{path}: {answer:?}");
        Ok(answer.json())
    };
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    create("/api/v1/namespaces/default/serviceaccounts", json!({ "metadata": { "name": "reader" } })).await?;
    create(
        &format!("{rbac}/roles"),
        json!({
            "metadata": { "name": "reader" },
            "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"] }],
        }),
    )
    .await?;
    create(
        &format!("{rbac}/rolebindings"),
        json!({
            "metadata": { "name": "reader" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
            "subjects": [{ "kind": "ServiceAccount", "name": "reader", "namespace": "default" }],
        }),
    )
    .await?;
    let token =
        create("/api/v1/namespaces/default/serviceaccounts/reader/token", json!({ "spec": { "audiences": [] } }))
            .await?;
    let reader = client_with(&plane, token["status"]["token"].as_str())?;
    let code = async |method: &str, path: &str, body: &str| -> Result<u16> {
        Ok(send(&reader, method, path, &[("content-type", "application/json")], body).await?.code)
    };
    assert_eq!(code("GET", "/api/v1/namespaces/default/configmaps", "").await?, 200);
    assert_eq!(code("GET", "/api/v1/namespaces/default/secrets", "").await?, 403);
    assert_eq!(code("GET", "/api/v1/namespaces/kube-system/configmaps", "").await?, 403);
    assert_eq!(code("POST", "/api/v1/namespaces/default/configmaps", r#"{"metadata":{"name":"x"}}"#).await?, 403);
    assert_eq!(code("DELETE", &format!("{rbac}/rolebindings/reader"), "").await?, 403);
    Ok(())
}
