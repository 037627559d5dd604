//! A kubectl from before server-side validation and OpenAPI version 3: it checks what it sends by version 2, as protobuf.

use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use e2e::{ControlPlane, Kubectl};
use serde_json::{Value, json};

use super::reference::{list, recording, server, text};

/// Kinds that it describes by a version that Kubernetes does not serve any more.
const NOT_DESCRIBED: [&str; 3] = ["CronJob", "EndpointSlice", "PodDisruptionBudget"];

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
}

fn spec(replicas: u32) -> Value {
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_kubectl_checks_what_it_sends() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let kubectl = Kubectl::old(plane.kubeconfig())?;
    kubectl.apply(&deployment(spec(2)))?;
    let mut misspelt = spec(3);
    misspelt["template"]["spec"]["container"] = json!([]);
    let refused = kubectl.apply(&deployment(misspelt)).map_err(|error| error.to_string());
    let expected = "unknown field \"container\" in io.k8s.api.core.v1.PodSpec";
    assert!(refused.as_ref().is_err_and(|said| said.contains(expected)), "{refused:?}");
    let refused = kubectl.apply(&deployment(json!({"replicas": "many"}))).map_err(|error| error.to_string());
    for expected in ["invalid type for", "missing required field \"selector\""] {
        assert!(refused.as_ref().is_err_and(|said| said.contains(expected)), "{refused:?}");
    }
    assert_eq!(kubectl.field("deployment/web", "{.spec.replicas}")?, "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_kubectl_works_with_every_kind() -> Result<()> {
    let Some(recording) = recording("tables-1.36.json") else { return Ok(()) };
    let (plane, _client) = server().await?;
    let kubectl = Kubectl::old(plane.kubeconfig())?;
    let file = plane.dir().join("objects.json");
    let mut objects = Vec::new();
    for case in list(&recording)? {
        let object = case["object"].clone();
        std::fs::write(&file, object.to_string())?;
        if object.is_object() && case["created"] == 201 {
            kubectl.run(&["create", "--save-config", "-f", &file.display().to_string()])?;
            objects.push(object);
        }
    }
    assert!(objects.len() > 40, "{}", objects.len());
    std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
    let file = file.display().to_string();
    let editor = plane.dir().join("editor");
    std::fs::write(&editor, "#!/bin/sh\nsed -i 's/^  annotations:$/&\\n    edited: \"yes\"/' \"$1\"\n")?;
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755))?;
    let editor = editor.display().to_string();
    let lines = |said: String| said.lines().filter(|line| !line.is_empty()).count();
    assert_eq!(lines(kubectl.run(&["get", "-f", &file, "-o", "name"])?), objects.len());
    kubectl.run(&["get", "-f", &file])?;
    assert_eq!(lines(kubectl.run(&["apply", "-f", &file])?), objects.len());
    assert_eq!(lines(kubectl.run(&["apply", "--server-side", "--force-conflicts", "-f", &file])?), objects.len());
    for object in &objects {
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        let described = kubectl.run(&["describe", kind, name]);
        if NOT_DESCRIBED.contains(&kind) {
            assert!(described.is_err_and(|error| error.to_string().contains("could not find the requested resource")));
        } else {
            assert!(described?.contains(name), "{kind} {name}");
        }
        let explained = kubectl.run(&["explain", "--api-version", text(&object["apiVersion"]), kind])?;
        assert!(explained.starts_with(&format!("KIND:     {kind}\n")), "{explained}");
        kubectl.edit(&[kind, name], &editor)?;
        assert_eq!(kubectl.field(&format!("{kind}/{name}"), "{.metadata.annotations.edited}")?, "yes", "{kind}");
    }
    kubectl.run(&["delete", "--wait=false", "-f", &file])?;
    Ok(())
}
