//! Custom resources as clients see them: several versions, OpenAPI, and a kubectl that is not ours.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::http_client::{Answer, send, send_json};
use e2e::{ControlPlane, Kubectl};
use kube::Client;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

async fn get(client: &Client, path: &str) -> Result<Answer> {
    send_json(client, "GET", path, &Value::Null).await
}

/// Waits for the event that tells it: a watch of the definition sees it established.
async fn establish(client: &Client, definition: &Value) -> Result<()> {
    let answer = send_json(client, "POST", DEFINITIONS, definition).await?;
    ensure!(answer.code == 201, "{answer:?}");
    let name = definition["metadata"]["name"].as_str().context("a name")?;
    let path = format!("{DEFINITIONS}/{name}");
    for _ in 0..200 {
        let conditions = get(client, &path).await?.json()["status"]["conditions"].clone();
        if conditions.as_array().into_iter().flatten().any(|c| c["type"] == "Established" && c["status"] == "True") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("{name} is not established")
}

fn version(name: &str, storage: bool, spec: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {
        "type": "object", "description": "A thing of a kind.", "required": ["spec"],
        "properties": {"spec": {"type": "object", "description": "What is wanted.", "properties": spec}}}}})
}

fn definition(versions: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.t.example.com"},
        "spec": {"group": "t.example.com", "scope": "Namespaced", "versions": versions,
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "shortNames": ["th"]}}})
}

fn path(version: &str) -> String {
    format!("/apis/t.example.com/{version}/namespaces/default/things")
}

fn thing(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("t.example.com/{version}"), "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

async fn patch(client: &Client, path: &str, media_type: &str, body: &Value) -> Result<Answer> {
    send(client, "PATCH", path, &[("content-type", media_type)], body.to_string()).await
}

#[tokio::test]
async fn an_object_is_served_in_every_version_of_its_definition() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let text = json!({"type": "string"});
    let v1 = version("v1", true, json!({"a": text, "old": text}));
    let v2 = version("v2", false, json!({"a": text, "new": {"type": "string", "default": "n"}}));
    establish(&client, &definition(json!([v1, v2]))).await?;
    let groups = get(&client, "/apis/t.example.com").await?.json();
    assert_eq!(groups["preferredVersion"]["version"], "v2", "the higher version comes first");

    let answer = send_json(&client, "POST", &path("v1"), &thing("v1", "x", json!({"a": "1", "old": "2"}))).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    let shown = get(&client, &format!("{}/x", path("v2"))).await?.json();
    assert_eq!((&shown["apiVersion"], &shown["spec"]), (&json!("t.example.com/v2"), &json!({"a": "1"})));
    // Written through the other version, it is stored in the stored one: what that does not know is lost.
    let answer = send_json(&client, "POST", &path("v2"), &thing("v2", "y", json!({"a": "1"}))).await?;
    assert_eq!((answer.code, &answer.json()["apiVersion"]), (201, &json!("t.example.com/v2")), "{answer:?}");
    let stored = |name: &str| -> Result<Value> {
        let key = format!("/registry/t.example.com/things/default/{name}");
        Ok(serde_json::from_str(&plane.etcdctl(&["get", "--print-value-only", &key])?)?)
    };
    assert_eq!((&stored("y")?["apiVersion"], &stored("y")?["spec"]), (&json!("t.example.com/v1"), &json!({"a": "1"})));
    let list = get(&client, &path("v2")).await?.json();
    let versions: Vec<&Value> = list["items"].as_array().into_iter().flatten().map(|one| &one["apiVersion"]).collect();
    assert_eq!(versions, ["t.example.com/v2", "t.example.com/v2"]);

    // Who manages what is kept across versions.
    let applied = format!("{}/x?fieldManager=me&force=true", path("v2"));
    let answer = patch(&client, &applied, APPLY, &thing("v2", "x", json!({"a": "3"}))).await?;
    assert_eq!((answer.code, &answer.json()["spec"]["a"]), (200, &json!("3")), "{answer:?}");
    let managers = answer.json()["metadata"]["managedFields"].clone();
    let mine = managers.as_array().into_iter().flatten().find(|entry| entry["manager"] == "me").cloned();
    assert_eq!(mine.context("the manager")?["apiVersion"], "t.example.com/v2");

    // The other version is stored from now on: what is written anew has it, and the definition says so.
    let stores = json!([{"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true}]);
    let named = format!("{DEFINITIONS}/things.t.example.com");
    let answer = patch(&client, &named, "application/json-patch+json", &stores).await?;
    assert_eq!(answer.json()["status"]["storedVersions"], json!(["v1", "v2"]), "{answer:?}");
    let answer = patch(&client, &format!("{}/y", path("v1")), MERGE, &json!({"spec": {"a": "4"}})).await?;
    assert_eq!((answer.code, &answer.json()["apiVersion"]), (200, &json!("t.example.com/v1")), "{answer:?}");
    assert_eq!(stored("y")?["apiVersion"], "t.example.com/v2");
    // A version that objects may be stored in cannot be taken away.
    let gone = json!([{"op": "remove", "path": "/spec/versions/0"}]);
    let answer = patch(&client, &named, "application/json-patch+json", &gone).await?;
    assert_eq!((answer.code, answer.causes()[0].0.as_str()), (422, "status.storedVersions[0]"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn schemas_are_published_in_both_forms_of_openapi() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let spec = json!({"size": {"type": "integer", "description": "How large.", "minimum": 1}, "either": {"x-kubernetes-int-or-string": true},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    establish(&client, &definition(json!([version("v1", true, spec)]))).await?;
    let index = get(&client, "/openapi/v3").await?.json();
    let url = index["paths"]["apis/t.example.com/v1"]["serverRelativeURL"].as_str().context("a link")?.to_owned();
    let document = get(&client, &url).await?.json();
    let model = &document["components"]["schemas"]["com.example.t.v1.Thing"];
    assert_eq!(
        model["x-kubernetes-group-version-kind"],
        json!([{"group": "t.example.com", "version": "v1", "kind": "Thing"}])
    );
    let size = &model["properties"]["spec"]["properties"]["size"];
    assert_eq!((&size["description"], &size["minimum"]), (&json!("How large."), &json!(1)));
    assert!(document["paths"]["/apis/t.example.com/v1/namespaces/{namespace}/things/{name}"]["patch"].is_object());
    let both = get(&client, "/openapi/v2").await?.json();
    let model = &both["definitions"]["com.example.t.v1.Thing"];
    assert_eq!(model["properties"]["spec"]["properties"]["size"]["type"], "integer");
    assert_eq!(model["properties"]["spec"]["properties"]["free"].get("type"), None, "everything may stand there");
    assert!(both["definitions"]["io.k8s.api.core.v1.Pod"].is_object());

    // What is not served any more is not published.
    send_json(&client, "DELETE", &format!("{DEFINITIONS}/things.t.example.com"), &json!({})).await?;
    for _ in 0..200 {
        if get(&client, &url).await?.code == 404 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("the document is still there")
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_with_custom_resources_as_with_all_others() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let mut v1 = version("v1", true, json!({"size": {"type": "integer", "description": "How large."}}));
    v1["additionalPrinterColumns"] = json!([{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]);
    let file = plane.dir().join("definition.json");
    std::fs::write(&file, definition(json!([v1])).to_string())?;
    let object = |size: &str| {
        format!("apiVersion: t.example.com/v1\nkind: Thing\nmetadata: {{name: x}}\nspec: {{size: {size}}}\n")
    };
    let manifest = plane.dir().join("thing.yaml");
    let (file, manifest) = (file.display().to_string(), manifest.display().to_string());
    let kubeconfig = || plane.kubeconfig();
    for (name, kubectl) in [("foreign", Kubectl::foreign(kubeconfig())?), ("ours", Kubectl::ours(kubeconfig())?)] {
        kubectl.run(&["create", "-f", &file])?;
        kubectl.run(&["wait", "--for=condition=Established", "crd/things.t.example.com", "--timeout=10s"])?;
        std::fs::write(&manifest, object("1"))?;
        kubectl.run(&["apply", "-f", &manifest])?;
        let table = kubectl.run(&["get", "th"])?;
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines, [["NAME", "SIZE"], ["x", "1"]], "{name}");
        std::fs::write(&manifest, object("2"))?;
        kubectl.run(&["apply", "-f", &manifest])?;
        assert_eq!(kubectl.run(&["get", "thing/x", "-o", "jsonpath={.spec.size}"])?, "2");
        kubectl.run(&["apply", "--server-side", "--force-conflicts", "-f", &manifest])?;
        // Our kubectl has no `patch` yet.
        if name == "foreign" {
            kubectl.run(&["patch", "thing", "x", "--type=merge", "-p", r#"{"spec":{"size":3}}"#])?;
        }
        kubectl.run(&["label", "thing", "x", "a=b"])?;
        assert_eq!(kubectl.run(&["get", "things", "-l", "a=b", "-o", "name"])?.trim(), "thing.t.example.com/x");
        let explained = kubectl.run(&["explain", "things.spec.size"])?;
        assert!(explained.contains("How large."), "{name}: {explained}");
        assert!(kubectl.run(&["explain", "things"])?.contains("A thing of a kind."));
        std::fs::write(&manifest, object("big"))?;
        let refused = kubectl.run(&["apply", "-f", &manifest]).map_err(|error| error.to_string());
        assert!(refused.as_ref().is_err_and(|text| text.contains("spec.size")), "{name}: {refused:?}");
        assert!(kubectl.run(&["describe", "thing", "x"])?.contains("Size:"), "{name}");
        kubectl.run(&["delete", "thing", "x"])?;
        kubectl.run(&["delete", "crd", "things.t.example.com"])?;
        assert_eq!(get(&client, &path("v1")).await?.code, 404, "{name}: delete waits for the end");
    }
    Ok(())
}
