//! Server-side apply where there is more than one version, and where kubectl applied by itself before.

use anyhow::Result;
use e2e::ControlPlane;
use e2e::http_client::{Answer, send, send_json};
use kube::Client;
use serde_json::{Value, json};

const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

async fn server() -> Result<(ControlPlane, Client)> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    Ok((plane, client))
}

async fn write(client: &Client, method: &str, path: &str, media_type: &str, body: &Value) -> Result<Answer> {
    send(client, method, path, &[("content-type", media_type)], body.to_string()).await
}

/// The version and the fields of a manager.
fn managed(object: &Value, manager: &str) -> (Value, Value) {
    let entries = object["metadata"]["managedFields"].as_array();
    let entry = entries.into_iter().flatten().find(|entry| entry["manager"] == manager);
    entry.map_or((Value::Null, Value::Null), |entry| (entry["apiVersion"].clone(), entry["fieldsV1"].clone()))
}

/// The messages of conflicts, without their times, with their fields.
fn conflicts(answer: &Answer) -> Vec<(String, String)> {
    let body = answer.json();
    let causes = body["details"]["causes"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let who = |cause: &Value| text(&cause["message"]).split(" at ").next().unwrap_or_default().to_owned();
    causes.iter().map(|cause| (who(cause), text(&cause["field"]))).collect()
}

fn autoscaler(version: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": spec})
}

#[tokio::test]
async fn a_manager_has_the_fields_of_the_version_that_it_wrote() -> Result<()> {
    let (_plane, client) = server().await?;
    let path = |version: &str, query: &str| {
        format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers/h{query}")
    };
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let metrics = json!([{"type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]);
    let wanted = autoscaler("v2", json!({"scaleTargetRef": target, "maxReplicas": 5, "metrics": metrics}));
    let answer = write(&client, "PATCH", &path("v2", "?fieldManager=new"), APPLY, &wanted).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    let scale_target = json!({"f:apiVersion": {}, "f:kind": {}, "f:name": {}});

    // Through the old version: the field has its old name there, and the new version's is taken away.
    let patch = json!({"spec": {"targetCPUUtilizationPercentage": 60}});
    let answer = write(&client, "PATCH", &path("v1", "?fieldManager=old"), MERGE, &patch).await?;
    assert_eq!(answer.code, 200, "{answer:?}");
    let object = answer.json();
    let old = (json!("autoscaling/v1"), json!({"f:spec": {"f:targetCPUUtilizationPercentage": {}}}));
    assert_eq!(managed(&object, "old"), old);
    let new = json!({"f:spec": {"f:maxReplicas": {}, "f:scaleTargetRef": scale_target}});
    assert_eq!(managed(&object, "new"), (json!("autoscaling/v2"), new));

    // What does not touch it leaves it, in either version.
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    let answer = write(&client, "PATCH", &path("v2", "?fieldManager=other"), MERGE, &patch).await?;
    assert_eq!(managed(&answer.json(), "old"), old, "{answer:?}");

    // Conflicts are found across versions.
    let wanted = autoscaler("v2", json!({"scaleTargetRef": target, "maxReplicas": 5, "metrics": metrics}));
    let answer = write(&client, "PATCH", &path("v2", "?fieldManager=new"), APPLY, &wanted).await?;
    let expected =
        (r#"conflict with "old" using autoscaling/v1"#.to_owned(), ".spec.targetCPUUtilizationPercentage".to_owned());
    assert_eq!((answer.code, conflicts(&answer)), (409, vec![expected]), "{answer:?}");

    // A manager that applies through another version than last time gives up what it applied then.
    let plain = autoscaler("v1", json!({"scaleTargetRef": target, "maxReplicas": 5, "minReplicas": 2}));
    let answer = write(&client, "PATCH", &path("v1", "?fieldManager=new"), APPLY, &plain).await?;
    assert_eq!(answer.code, 200, "{answer:?}");
    // The target is one value in the old version, and its fields are on their own in the new one.
    let fields = json!({"f:spec": {"f:maxReplicas": {}, "f:minReplicas": {}, "f:scaleTargetRef": {}}});
    assert_eq!(managed(&answer.json(), "new"), (json!("autoscaling/v1"), fields));
    let plain = autoscaler("v2", json!({"scaleTargetRef": target, "maxReplicas": 5}));
    let answer = write(&client, "PATCH", &path("v2", "?fieldManager=new"), APPLY, &plain).await?;
    assert_eq!((answer.code, &answer.json()["spec"]["minReplicas"]), (200, &json!(1)), "back to the default");
    Ok(())
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
}

/// As `kubectl apply` leaves it: the configuration, with a note of itself.
async fn applied_by_the_client(client: &Client) -> Result<()> {
    let wanted = config_map(json!({"a": "1", "b": "<1>"}));
    let mut object = wanted.clone();
    object["metadata"]["annotations"] = json!({LAST_APPLIED: wanted.to_string()});
    let path = "/api/v1/namespaces/default/configmaps?fieldManager=kubectl-client-side-apply";
    let answer = write(client, "POST", path, "application/json", &object).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn kubectl_goes_on_with_what_it_applied_by_itself() -> Result<()> {
    let (_plane, client) = server().await?;
    applied_by_the_client(&client).await?;
    let path = |manager: &str| format!("/api/v1/namespaces/default/configmaps/c?fieldManager={manager}");
    let wanted = config_map(json!({"a": "2", "b": "<1>"}));
    let refused = write(&client, "PATCH", &path("someone"), APPLY, &wanted).await?;
    let conflict = |who: &str, field: &str| (format!("conflict with {who:?} using v1"), field.to_owned());
    assert_eq!(conflicts(&refused), [conflict("kubectl-client-side-apply", ".data.a")], "{refused:?}");

    let answer = write(&client, "PATCH", &path("kubectl"), APPLY, &wanted).await?;
    assert_eq!((answer.code, &answer.json()["data"]["a"]), (200, &json!("2")), "{answer:?}");
    let note = answer.json()["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        note,
        "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"2\",\"b\":\"\\u003c1\\u003e\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"c\"}}\n"
    );
    assert_eq!(managed(&answer.json(), "kubectl").1, json!({"f:data": {"f:a": {}, "f:b": {}}}));

    // What someone else changed meanwhile is a conflict all the same.
    let patch = json!({"data": {"b": "theirs"}});
    assert_eq!(write(&client, "PATCH", &path("someone"), MERGE, &patch).await?.code, 200);
    let wanted = config_map(json!({"a": "3", "b": "<3>"}));
    let refused = write(&client, "PATCH", &path("kubectl"), APPLY, &wanted).await?;
    assert_eq!(conflicts(&refused), [conflict("someone", ".data.b")], "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn an_object_without_the_note_gets_none() -> Result<()> {
    let (_plane, client) = server().await?;
    let path = "/api/v1/namespaces/default/configmaps/c?fieldManager=kubectl";
    let answer = write(&client, "PATCH", path, APPLY, &config_map(json!({"a": "1"}))).await?;
    assert_eq!((answer.code, &answer.json()["metadata"]["annotations"]), (201, &Value::Null), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn of_those_who_apply_at_once_one_creates_and_the_others_change() -> Result<()> {
    let (_plane, client) = server().await?;
    for round in 0..20 {
        let apply = |manager: usize| {
            let path = format!("/api/v1/namespaces/default/configmaps/c{round}?fieldManager=m{manager}");
            let mut wanted = config_map(json!({format!("k{manager}"): "1"}));
            wanted["metadata"]["name"] = format!("c{round}").into();
            let client = &client;
            async move { write(client, "PATCH", &path, APPLY, &wanted).await }
        };
        let mut codes = Vec::new();
        for answer in futures::future::join_all((0..8).map(apply)).await {
            codes.push(answer?.code);
        }
        codes.sort_unstable();
        assert_eq!(codes, [200, 200, 200, 200, 200, 200, 200, 201]);
        let path = format!("/api/v1/namespaces/default/configmaps/c{round}");
        let object = send_json(&client, "GET", &path, &Value::Null).await?.json();
        assert_eq!(object["data"].as_object().map(serde_json::Map::len), Some(8));
    }
    Ok(())
}

#[tokio::test]
async fn who_may_change_but_not_create_creates_nothing() -> Result<()> {
    let (plane, client) = server().await?;
    let namespace = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps", "endpoints"],
        "verbs": ["patch", "update"]}]);
    let role = json!({"metadata": {"name": "changer"}, "rules": rules});
    let binding = json!({"metadata": {"name": "changer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "changer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "changer"}]});
    for (resource, object) in [("roles", &role), ("rolebindings", &binding)] {
        let answer = send_json(&client, "POST", &format!("{namespace}/{resource}"), object).await?;
        assert_eq!(answer.code, 201, "{answer:?}");
    }
    let changer = plane.client_for("changer", &[]).await?;
    let map = ("/api/v1/namespaces/default/configmaps/c", config_map(json!({"a": "1"})));
    let endpoints = ("/api/v1/namespaces/default/endpoints/e", json!({"metadata": {"name": "e"}}));
    let apply = format!("{}?fieldManager=m", map.0);
    for (method, path, media_type, (place, object)) in
        [("PATCH", apply.as_str(), APPLY, &map), ("PUT", endpoints.0, "application/json", &endpoints)]
    {
        let refused = write(&changer, method, path, media_type, object).await?;
        let message = refused.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(refused.code == 403 && message.contains("\"changer\" cannot create resource"), "{refused:?}");
        assert_eq!(send_json(&client, "GET", place, &Value::Null).await?.code, 404);

        assert_eq!(write(&client, method, path, media_type, object).await?.code, 201);
        assert_eq!(write(&changer, method, path, media_type, object).await?.code, 200);
    }

    // A version is asked for where there is something to change, and only there.
    let lease = json!({"metadata": {"name": "l"}});
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let created = send_json(&client, "PUT", path, &lease).await?;
    assert_eq!(created.code, 201, "{}", created.json());
    let refused = send_json(&client, "PUT", path, &lease).await?;
    assert_eq!(refused.causes(), [("metadata.resourceVersion".to_owned(), "FieldValueInvalid".to_owned())]);
    assert_eq!(send_json(&client, "PUT", path, &created.json()).await?.code, 200);
    Ok(())
}
