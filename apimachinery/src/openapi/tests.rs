use super::*;
use crate::codec::protobuf::Reader;
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

/// The contents of the fields of a message that have this tag.
fn contents(message: &[u8], wanted: u32) -> Vec<&[u8]> {
    let mut reader = Reader::new(message);
    let mut found = Vec::new();
    while let Some((tag, wire)) = reader.tag().expect("a tag") {
        if tag == wanted {
            found.push(reader.bytes().expect("bytes"));
        } else {
            reader.skip(wire).expect("a field");
        }
    }
    found
}

/// The value of an entry of a map.
fn entry<'a>(entries: &[&'a [u8]], name: &str) -> &'a [u8] {
    let found = entries.iter().find(|entry| contents(entry, 1) == [name.as_bytes()]);
    contents(found.unwrap_or_else(|| panic!("no {name}")), 2)[0]
}

/// The content below nested fields, of which each is there once.
fn below<'a>(message: &'a [u8], tags: &[u32]) -> &'a [u8] {
    tags.iter().fold(message, |message, tag| match contents(message, *tag)[..] {
        [content] => content,
        ref other => panic!("{} fields {tag}", other.len()),
    })
}

#[test]
fn version_2_is_there_as_protobuf() {
    let document = v2("v1.36.2", &of_group("apps", "v1"));
    let bytes = encode_v2(&document);
    assert_eq!(below(&bytes, &[1]), b"2.0");
    assert_eq!(below(&bytes, &[2, 2]), b"v1.36.2");

    let models = contents(below(&bytes, &[9]), 1);
    assert_eq!(models.len(), document["definitions"].as_object().map_or(0, Map::len));
    let deployment = entry(&models, "io.k8s.api.apps.v1.Deployment");
    assert_eq!(below(deployment, &[22, 1]), b"object");
    let gvk = entry(&contents(deployment, 31), "x-kubernetes-group-version-kind");
    assert_eq!(below(gvk, &[2]), b"[{\"group\":\"apps\",\"kind\":\"Deployment\",\"version\":\"v1\"}]\n");
    let spec = entry(&contents(below(deployment, &[25]), 1), "spec");
    assert_eq!(below(spec, &[1]), b"#/definitions/io.k8s.api.apps.v1.DeploymentSpec");
    let conditions = contents(below(entry(&models, "io.k8s.api.apps.v1.DeploymentStatus"), &[25]), 1);
    let conditions = entry(&conditions, "conditions");
    assert_eq!(below(conditions, &[23, 1, 1]), b"#/definitions/io.k8s.api.apps.v1.DeploymentCondition");
    let selector = entry(&models, "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector");
    let labels = entry(&contents(below(selector, &[25]), 1), "matchLabels");
    assert_eq!(below(labels, &[21, 1, 22, 1]), b"string");

    let paths = contents(below(&bytes, &[8]), 2);
    let path = entry(&paths, "/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
    let patch = below(path, &[8]);
    assert_eq!(below(patch, &[5]), b"patchAppsV1NamespacedDeployment");
    let parameters = contents(patch, 8);
    assert_eq!(below(parameters[0], &[1, 1, 3]), b"body");
    assert!(parameters.iter().skip(1).any(|parameter| below(parameter, &[1, 2, 3, 4]) == b"fieldValidation"));
    let name = contents(path, 9)[0];
    assert_eq!(below(name, &[1, 2, 4, 4]), b"name");
    let answer = entry(&contents(below(patch, &[9]), 1), "200");
    assert_eq!(below(answer, &[1, 2, 1, 1]), b"#/definitions/io.k8s.api.apps.v1.Deployment");
    assert_eq!(below(contents(&bytes, 12)[0], &[1, 1]), b"BearerToken");
    assert_eq!(below(entry(&contents(below(&bytes, &[13]), 1), "BearerToken"), &[2, 3]), b"header");
}
