use super::*;
use crate::schema::{Gvk, Schema, custom_type};

fn of_group(group: &str, version: &str) -> Vec<&'static Resource> {
    let all = Schema::builtin().resources().iter().map(AsRef::as_ref);
    all.filter(|r| r.group == group && r.version == version).collect()
}

/// Every link below a value.
fn links(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| links(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| links(value, found)),
        _ => {}
    }
}

#[test]
fn every_link_of_every_document_has_its_model() {
    let mut groups: Vec<(&str, &str)> =
        Schema::builtin().resources().iter().map(|r| (r.group.as_str(), r.version.as_str())).collect();
    groups.dedup();
    for (group, version) in groups {
        let document = v3("v1.36.2", &of_group(group, version));
        let mut found = Vec::new();
        links(&document, &mut found);
        assert!(!found.is_empty());
        for link in found {
            assert!(document.pointer(link.trim_start_matches('#')).is_some(), "{group}/{version}: {link}");
        }
    }
    let all: Vec<&Resource> = Schema::builtin().resources().iter().map(AsRef::as_ref).collect();
    let document = v2("v1.36.2", &all);
    let mut found = Vec::new();
    links(&document, &mut found);
    assert!(found.iter().all(|link| document.pointer(link.trim_start_matches('#')).is_some()));
    let models = document["definitions"].as_object().expect("definitions");
    assert!(models.values().all(Value::is_object));
}

#[test]
fn clients_find_what_they_look_for() {
    let document = v3("v1.36.2", &of_group("", "v1"));
    let pods = &document["paths"]["/api/v1/namespaces/{namespace}/pods"];
    assert_eq!(pods["get"]["x-kubernetes-group-version-kind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
    assert_eq!(pods["post"]["operationId"], "createCoreV1NamespacedPod");
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    let names: Vec<&str> =
        patch["parameters"].as_array().expect("list").iter().filter_map(|p| p["name"].as_str()).collect();
    assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun"));
    let spec = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"];
    assert_eq!(spec["required"], json!(["containers"]));
    assert_eq!(spec["properties"]["containers"]["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(spec["properties"]["containers"]["x-kubernetes-patch-merge-key"], "name");
    let pod = &document["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
    assert_eq!(pod["properties"]["spec"]["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.PodSpec");
}

#[test]
fn custom_resources_have_models_too() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}});
    let gvk = Gvk { group: "t.example.com".into(), version: "v1".into(), kind: "Thing".into() };
    let resource = Resource {
        group: gvk.group.clone(),
        version: gvk.version.clone(),
        resource: "things".into(),
        kind: "Thing".into(),
        singular: "thing".into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced: true,
        verbs: ["get", "list", "create"].map(String::from).into(),
        subresources: Vec::new(),
        ty: custom_type(gvk, Some(&schema)),
    };
    let document = v3("v1.36.2", &[&resource]);
    let model = &document["components"]["schemas"]["com.example.t.v1.Thing"];
    assert_eq!(model["properties"]["spec"]["properties"]["size"]["type"], "integer");
    assert!(document["components"]["schemas"]["com.example.t.v1.ThingList"].is_object());
}
