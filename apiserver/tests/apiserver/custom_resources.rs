//! Custom resources, from their definition to its end, on a real server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::ControlPlane;
use e2e::http_client::{Answer, send, send_json};
use kube::Client;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const PATIENCE: Duration = Duration::from_secs(10);

async fn server() -> Result<(ControlPlane, Client)> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    Ok((plane, client))
}

async fn get(client: &Client, path: &str) -> Result<Answer> {
    send_json(client, "GET", path, &Value::Null).await
}

async fn patch(client: &Client, path: &str, media_type: &str, body: &Value) -> Result<Answer> {
    send(client, "PATCH", path, &[("content-type", media_type)], body.to_string()).await
}

/// A definition of one version, `v1`.
fn definition(plural: &str, kind: &str, version: Value) -> Value {
    let mut v1 = json!({"name": "v1", "served": true, "storage": true});
    for (field, value) in version.as_object().expect("fields of a version") {
        v1[field] = value.clone();
    }
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.t.example.com")},
        "spec": {"group": "t.example.com", "scope": "Namespaced", "versions": [v1],
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "shortNames": ["th"], "categories": ["all"]}}})
}

fn schema(spec: Value) -> Value {
    json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": spec},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}})
}

fn condition(definition: &Value, kind: &str) -> Option<String> {
    let all = definition["status"]["conditions"].as_array()?;
    let found = all.iter().find(|condition| condition["type"] == kind)?;
    Some(format!("{} {}", found["status"].as_str()?, found["reason"].as_str()?))
}

/// Reads until the answer is as it should be.
async fn until(client: &Client, path: &str, wanted: impl Fn(&Answer) -> bool) -> Result<Answer> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = get(client, path).await?;
        if wanted(&answer) {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, "{path} is still {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Creates a definition and waits until it is established. Tells how long that took.
async fn establish(client: &Client, definition: &Value) -> Result<Duration> {
    let began = Instant::now();
    let answer = send_json(client, "POST", DEFINITIONS, definition).await?;
    ensure!(answer.code == 201, "{answer:?}");
    let name = definition["metadata"]["name"].as_str().context("a name")?;
    until(client, &format!("{DEFINITIONS}/{name}"), |answer| {
        condition(&answer.json(), "Established").as_deref() == Some("True InitialNamesAccepted")
    })
    .await?;
    Ok(began.elapsed())
}

fn thing(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "t.example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

const THINGS: &str = "/apis/t.example.com/v1/namespaces/default/things";

#[tokio::test]
async fn a_resource_is_served_as_soon_as_its_definition_is_established() -> Result<()> {
    let (plane, client) = server().await?;
    assert_eq!(get(&client, THINGS).await?.code, 404);
    let spec = json!({"size": {"type": "integer"}, "color": {"type": "string"}});
    let took = establish(&client, &definition("things", "Thing", json!({"schema": schema(spec)}))).await?;
    assert!(took < Duration::from_secs(1), "{took:?}");

    let answer = send_json(&client, "POST", THINGS, &thing("a", json!({"size": 1, "other": 2}))).await?;
    let created = answer.json();
    assert_eq!((answer.code, &created["spec"]), (201, &json!({"size": 1})), "{answer:?}");
    assert_eq!(answer.warnings, [r#"299 - "unknown field \"spec.other\"""#]);
    assert_eq!(created["metadata"]["generation"], 1);
    let stored = plane.etcdctl(&["get", "--print-value-only", "/registry/t.example.com/things/default/a"])?;
    assert_eq!(serde_json::from_str::<Value>(&stored)?["spec"]["size"], 1);

    // Update, the three patches, and who manages what.
    let mut changed = created.clone();
    changed["spec"]["size"] = 2.into();
    let answer = send_json(&client, "PUT", &format!("{THINGS}/a"), &changed).await?;
    assert_eq!((answer.code, &answer.json()["metadata"]["generation"]), (200, &json!(2)), "{answer:?}");
    let stale = send_json(&client, "PUT", &format!("{THINGS}/a"), &changed).await?;
    assert_eq!(stale.code, 409, "{stale:?}");
    let answer = patch(&client, &format!("{THINGS}/a"), MERGE, &json!({"spec": {"size": 3}})).await?;
    assert_eq!((answer.code, &answer.json()["spec"]["size"]), (200, &json!(3)), "{answer:?}");
    let steps =
        json!([{"op": "test", "path": "/spec/size", "value": 3}, {"op": "replace", "path": "/spec/size", "value": 4}]);
    let answer = patch(&client, &format!("{THINGS}/a"), "application/json-patch+json", &steps).await?;
    assert_eq!((answer.code, &answer.json()["spec"]["size"]), (200, &json!(4)), "{answer:?}");
    let strategic = "application/strategic-merge-patch+json";
    assert_eq!(patch(&client, &format!("{THINGS}/a"), strategic, &json!({})).await?.code, 415);
    let path = format!("{THINGS}/b?fieldManager=one");
    let answer = patch(&client, &path, APPLY, &thing("b", json!({"size": 1}))).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    let answer =
        patch(&client, &format!("{THINGS}/b?fieldManager=two"), APPLY, &thing("b", json!({"size": 2}))).await?;
    assert_eq!((answer.code, answer.causes()), (409, vec![(".spec.size".into(), "FieldManagerConflict".into())]));

    // Lists and watches, with selectors.
    let list = get(&client, "/apis/t.example.com/v1/things").await?.json();
    assert_eq!((&list["kind"], list["items"].as_array().map(Vec::len)), (&json!("ThingList"), Some(2)));
    let revision = list["metadata"]["resourceVersion"].as_str().context("a revision")?;
    let answer = send_json(&client, "DELETE", &format!("{THINGS}/b"), &json!({})).await?;
    assert_eq!((answer.code, &answer.json()["kind"]), (200, &json!("Status")));
    let events = get(&client, &format!("{THINGS}?watch=1&timeoutSeconds=1&resourceVersion={revision}")).await?;
    let event: Value = serde_json::from_slice(events.body.split(|byte| *byte == b'\n').next().context("an event")?)?;
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("DELETED"), &json!("b")));
    assert_eq!(get(&client, &format!("{THINGS}?fieldSelector=metadata.name%3Dz")).await?.json()["items"], json!([]));

    // Nothing that needs a protobuf message is promised.
    let accept = [("accept", "application/vnd.kubernetes.protobuf,application/json")];
    let answer = send(&client, "GET", &format!("{THINGS}/a"), &accept, "").await?;
    assert_eq!((answer.code, &answer.json()["spec"]["size"]), (200, &json!(4)));
    Ok(())
}

#[tokio::test]
async fn discovery_tells_of_custom_resources() -> Result<()> {
    let (_plane, client) = server().await?;
    let version = json!({"schema": schema(json!({"replicas": {"type": "integer"}})),
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}});
    establish(&client, &definition("things", "Thing", version)).await?;
    let groups = get(&client, "/apis").await?.json();
    let group = groups["groups"].as_array().and_then(|all| all.iter().find(|group| group["name"] == "t.example.com"));
    assert_eq!(group.context("the group")?["preferredVersion"]["groupVersion"], "t.example.com/v1");
    let resources = get(&client, "/apis/t.example.com/v1").await?.json();
    let names: Vec<&str> =
        resources["resources"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["things", "things/status", "things/scale"]);
    let main = &resources["resources"][0];
    assert_eq!(
        (&main["shortNames"], &main["categories"], &main["singularName"]),
        (&json!(["th"]), &json!(["all"]), &json!("thing"))
    );
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let aggregated = send(&client, "GET", "/apis", &accept, "").await?.json();
    let mut items = aggregated["items"].as_array().into_iter().flatten();
    let group = items.find(|group| group["metadata"]["name"] == "t.example.com").context("the group")?;
    assert_eq!(group["versions"][0]["resources"][0]["responseKind"]["kind"], "Thing");
    Ok(())
}

#[tokio::test]
async fn names_that_are_taken_are_refused_until_they_are_free() -> Result<()> {
    let (_plane, client) = server().await?;
    let version = json!({"schema": schema(json!({}))});
    establish(&client, &definition("things", "Thing", version.clone())).await?;
    send_json(&client, "POST", DEFINITIONS, &definition("others", "Thing", version)).await?;
    let other = format!("{DEFINITIONS}/others.t.example.com");
    let answer = until(&client, &other, |answer| condition(&answer.json(), "Established").is_some()).await?;
    assert_eq!(condition(&answer.json(), "NamesAccepted").as_deref(), Some("False ListKindConflict"));
    assert_eq!(get(&client, "/apis/t.example.com/v1/others").await?.code, 404);
    let answer = send_json(&client, "DELETE", &format!("{DEFINITIONS}/things.t.example.com"), &json!({})).await?;
    assert_eq!(answer.code, 200);
    until(&client, &other, |answer| {
        condition(&answer.json(), "Established").as_deref() == Some("True InitialNamesAccepted")
    })
    .await?;
    assert_eq!(get(&client, "/apis/t.example.com/v1/others").await?.code, 200);
    Ok(())
}

#[tokio::test]
async fn a_definition_takes_its_objects_with_it() -> Result<()> {
    let (plane, client) = server().await?;
    establish(&client, &definition("things", "Thing", json!({"schema": schema(json!({}))}))).await?;
    let mut held = thing("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    for object in [thing("free", json!({})), held] {
        assert_eq!(send_json(&client, "POST", THINGS, &object).await?.code, 201);
    }
    let path = format!("{DEFINITIONS}/things.t.example.com");
    let answer = send_json(&client, "DELETE", &path, &json!({})).await?;
    let finalizers = &answer.json()["metadata"]["finalizers"];
    assert_eq!(finalizers, &json!(["customresourcecleanup.apiextensions.k8s.io"]), "{answer:?}");
    until(&client, &format!("{THINGS}/free"), |answer| answer.code == 404).await?;
    let answer = get(&client, &path).await?;
    assert_eq!(condition(&answer.json(), "Terminating").as_deref(), Some("True InstanceDeletionInProgress"));
    let refused = send_json(&client, "POST", THINGS, &thing("new", json!({}))).await?;
    assert_eq!((refused.code, refused.reason()), (405, "MethodNotAllowed".into()), "{refused:?}");
    let answer = patch(&client, &format!("{THINGS}/held"), MERGE, &json!({"metadata": {"finalizers": null}})).await?;
    assert_eq!(answer.code, 200, "{answer:?}");
    until(&client, &path, |answer| answer.code == 404).await?;
    assert_eq!(get(&client, THINGS).await?.code, 404);
    assert_eq!(plane.etcdctl(&["get", "--prefix", "--keys-only", "/registry/t.example.com/"])?.trim(), "");
    Ok(())
}

#[tokio::test]
async fn a_changed_definition_takes_effect_and_ends_watches() -> Result<()> {
    let (mut plane, client) = server().await?;
    let spec = |fields: Value| json!({"schema": schema(fields)});
    establish(&client, &definition("things", "Thing", spec(json!({"a": {"type": "string"}, "b": {"type": "string"}}))))
        .await?;
    send_json(&client, "POST", THINGS, &thing("x", json!({"a": "1", "b": "2"}))).await?;
    let watch = {
        let client = client.clone();
        tokio::spawn(async move { get(&client, &format!("{THINGS}?watch=1&timeoutSeconds=60")).await })
    };
    // What is stored is shown as the present schema has it: without what it does not know, with its defaults.
    let path = format!("{DEFINITIONS}/things.t.example.com");
    let next =
        definition("things", "Thing", spec(json!({"a": {"type": "string"}, "c": {"type": "integer", "default": 7}})));
    let answer = patch(&client, &path, MERGE, &json!({"spec": next["spec"]})).await?;
    assert_eq!((answer.code, &answer.json()["metadata"]["generation"]), (200, &json!(2)), "{answer:?}");
    until(&client, &format!("{THINGS}/x"), |answer| answer.json()["spec"] == json!({"a": "1", "c": 7})).await?;
    let list = get(&client, THINGS).await?.json();
    assert_eq!(list["items"][0]["spec"], json!({"a": "1", "c": 7}));
    assert_eq!(watch.await??.code, 200, "the watch ended by itself");
    let answer = patch(&client, &format!("{THINGS}/x"), MERGE, &json!({"metadata": {"labels": {"l": "1"}}})).await?;
    assert_eq!(answer.json()["metadata"]["generation"], 1, "a default that was there already is no change");
    // A server that starts anew serves the same.
    plane.restart_apiserver().await?;
    let client = plane.client().await?;
    assert_eq!(get(&client, &format!("{THINGS}/x")).await?.json()["spec"], json!({"a": "1", "c": 7}));
    Ok(())
}

#[tokio::test]
async fn status_and_scale_are_written_on_their_own() -> Result<()> {
    let (_plane, client) = server().await?;
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"});
    let version = json!({"schema": schema(json!({"replicas": {"type": "integer"}})), "subresources": {"status": {}, "scale": scale},
        "additionalPrinterColumns": [{"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]});
    establish(&client, &definition("things", "Thing", version)).await?;
    let mut object = thing("x", json!({"replicas": 3}));
    object["status"] = json!({"replicas": 9});
    let answer = send_json(&client, "POST", THINGS, &object).await?;
    assert_eq!((answer.code, answer.json().get("status")), (201, None));
    let status = json!({"status": {"replicas": 2, "selector": "a=b"}, "spec": {"replicas": 8}, "metadata": {"labels": {"a": "b"}}});
    let answer = patch(&client, &format!("{THINGS}/x/status"), MERGE, &status).await?;
    let object = answer.json();
    assert_eq!((answer.code, &object["spec"]["replicas"], &object["status"]["replicas"]), (200, &json!(3), &json!(2)));
    assert_eq!((&object["metadata"]["generation"], object["metadata"].get("labels")), (&json!(1), None));
    let answer = get(&client, &format!("{THINGS}/x/scale")).await?;
    let shown = answer.json();
    assert_eq!(
        (&shown["kind"], &shown["spec"], &shown["status"]),
        (&json!("Scale"), &json!({"replicas": 3}), &json!({"replicas": 2, "selector": "a=b"})),
        "{answer:?}"
    );
    let answer = patch(&client, &format!("{THINGS}/x/scale"), MERGE, &json!({"spec": {"replicas": 5}})).await?;
    assert_eq!((answer.code, &answer.json()["spec"]["replicas"]), (200, &json!(5)), "{answer:?}");
    let object = get(&client, &format!("{THINGS}/x")).await?.json();
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(5), &json!(2)));

    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = send(&client, "GET", THINGS, &accept, "").await?.json();
    let columns: Vec<&Value> =
        table["columnDefinitions"].as_array().into_iter().flatten().map(|c| &c["name"]).collect();
    assert_eq!(columns, ["Name", "Replicas", "Age"]);
    assert_eq!((&table["rows"][0]["cells"][0], &table["rows"][0]["cells"][1]), (&json!("x"), &json!(5)));
    Ok(())
}

#[tokio::test]
async fn what_a_schema_demands_is_refused_in_the_words_that_clients_know() -> Result<()> {
    let (_plane, client) = server().await?;
    let spec = json!({
        "size": {"type": "integer", "minimum": 1, "maximum": 5, "default": 3},
        "color": {"type": "string", "enum": ["red", "blue"], "nullable": true},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
            "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}, "name": {"type": "string"}}}},
        "either": {"x-kubernetes-int-or-string": true},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "name": {"type": "string", "pattern": "^[a-z]+$", "default": "x"},
    });
    establish(&client, &definition("things", "Thing", json!({"schema": schema(spec)}))).await?;
    let bad = json!({"size": "big", "color": "green", "tags": ["a", "a"], "ports": [{"name": "x"}], "either": true, "name": "A1"});
    let answer = send_json(&client, "POST", THINGS, &thing("bad", bad)).await?;
    assert_eq!((answer.code, answer.reason()), (422, "Invalid".into()), "{answer:?}");
    let mut causes = answer.causes();
    causes.sort();
    let expected = [
        ("spec.color", "FieldValueNotSupported"),
        ("spec.either", "FieldValueTypeInvalid"),
        ("spec.name", "FieldValueInvalid"),
        ("spec.ports[0].port", "FieldValueRequired"),
        ("spec.size", "FieldValueTypeInvalid"),
        ("spec.tags[1]", "FieldValueDuplicate"),
    ]
    .map(|(field, reason)| (field.to_owned(), reason.to_owned()));
    assert_eq!(causes, expected);
    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.contains(r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#),
        "{message}"
    );
    assert!(message.contains("spec.name in body should match '^[a-z]+$'"), "{message}");

    // Nulls: kept where they may be, replaced by the default, or dropped.
    let good = json!({"size": null, "color": null, "either": 5, "name": null, "free": {"any": [1, {"x": null}]}, "tags": null});
    let answer = send_json(&client, "POST", THINGS, &thing("good", good)).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    let kept = json!({"size": 3, "color": null, "either": 5, "name": "x", "free": {"any": [1, {"x": null}]}});
    assert_eq!(answer.json()["spec"], kept);

    // Unknown and duplicate fields, as the client asks.
    let unknown = thing("unknown", json!({"other": 1, "ports": [{"port": 1, "more": 2}], "free": {"y": 1}}));
    let strict = format!("{THINGS}?fieldValidation=Strict");
    let answer = send_json(&client, "POST", &strict, &unknown).await?;
    assert_eq!(answer.code, 400);
    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.contains(r#"strict decoding error: unknown field "spec.other", unknown field "spec.ports[0].more""#),
        "{message}"
    );
    let twice = br#"{"apiVersion":"t.example.com/v1","kind":"Thing","metadata":{"name":"twice"},"spec":{"size":1,"size":2,"free":{"a":1,"a":2}}}"#;
    let answer = send(&client, "POST", &strict, &[("content-type", "application/json")], twice.to_vec()).await?;
    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains(r#"duplicate field "spec.size", duplicate field "spec.free.a""#), "{message}");
    let answer = send_json(&client, "POST", &format!("{THINGS}?fieldValidation=Ignore&dryRun=All"), &unknown).await?;
    assert_eq!((answer.code, answer.warnings.len(), answer.json()["spec"].get("other")), (201, 0, None), "{answer:?}");

    // Metadata is held to its rules too.
    let mut labelled = thing("labelled", json!({}));
    labelled["metadata"]["labels"] = json!({"a b": "c"});
    let answer = send_json(&client, "POST", THINGS, &labelled).await?;
    assert_eq!((answer.code, answer.causes()[0].0.as_str()), (422, "metadata.labels"));

    // A definition that demands more leaves what there is, as long as it is not changed to another wrong value.
    let path = format!("{DEFINITIONS}/things.t.example.com");
    let tighter = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/maximum", "value": 2},
        {"op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/default"}]);
    assert_eq!(patch(&client, &path, "application/json-patch+json", &tighter).await?.code, 200);
    let answer = patch(&client, &format!("{THINGS}/good"), MERGE, &json!({"spec": {"color": "red"}})).await?;
    assert_eq!(answer.code, 200, "{answer:?}");
    let answer = patch(&client, &format!("{THINGS}/good"), MERGE, &json!({"spec": {"size": 4}})).await?;
    assert_eq!((answer.code, answer.causes()), (422, vec![("spec.size".into(), "FieldValueInvalid".into())]));
    Ok(())
}

#[tokio::test]
async fn fields_that_a_definition_names_can_be_selected_on() -> Result<()> {
    let (_plane, client) = server().await?;
    let version = json!({"schema": schema(json!({"color": {"type": "string"}, "size": {"type": "integer"}})),
        "selectableFields": [{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}]});
    establish(&client, &definition("things", "Thing", version)).await?;
    for (name, color, size) in [("a", "red", 1), ("b", "blue", 1), ("c", "red", 2)] {
        let object = thing(name, json!({"color": color, "size": size}));
        assert_eq!(send_json(&client, "POST", THINGS, &object).await?.code, 201);
    }
    for (selector, expected) in [
        ("spec.color%3Dred", vec!["a", "c"]),
        ("spec.color%3Dred,spec.size%3D2", vec!["c"]),
        ("spec.color!%3Dred", vec!["b"]),
    ] {
        let list = get(&client, &format!("{THINGS}?fieldSelector={selector}")).await?.json();
        let names: Vec<&str> =
            list["items"].as_array().into_iter().flatten().filter_map(|one| one["metadata"]["name"].as_str()).collect();
        assert_eq!(names, expected, "{selector}");
    }
    let answer = get(&client, &format!("{THINGS}?fieldSelector=spec.other%3D1")).await?;
    assert_eq!((answer.code, answer.json()["message"].as_str()), (400, Some("field label not supported: spec.other")));
    let answer = send_json(&client, "DELETE", &format!("{THINGS}?fieldSelector=spec.color%3Dred"), &json!({})).await?;
    assert_eq!(answer.code, 200);
    assert_eq!(get(&client, THINGS).await?.json()["items"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn rules_in_cel_hold_of_objects_and_of_their_changes() -> Result<()> {
    let (_plane, client) = server().await?;
    let mut schema = schema(json!({"min": {"type": "integer"}, "max": {"type": "integer"},
        "name": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "name is immutable"}]}}));
    schema["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
        json!([{"rule": "self.min <= self.max", "messageExpression": "'min may not be above ' + string(self.max)"}]);
    let mut wrong = definition("things", "Thing", json!({"schema": schema}));
    establish(&client, &wrong).await?;
    let answer = send_json(&client, "POST", THINGS, &thing("x", json!({"min": 5, "max": 3}))).await?;
    assert_eq!((answer.code, answer.causes()), (422, vec![("spec".into(), "FieldValueInvalid".into())]), "{answer:?}");
    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("min may not be above 3"), "{message}");
    let answer = send_json(&client, "POST", THINGS, &thing("x", json!({"min": 1, "max": 3, "name": "a"}))).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    let answer = patch(&client, &format!("{THINGS}/x"), MERGE, &json!({"spec": {"name": "b"}})).await?;
    assert_eq!(
        (answer.code, answer.causes()),
        (422, vec![("spec.name".into(), "FieldValueInvalid".into())]),
        "{answer:?}"
    );
    let answer = patch(&client, &format!("{THINGS}/x"), MERGE, &json!({"spec": {"max": 4}})).await?;
    assert_eq!(answer.code, 200, "{answer:?}");
    // What is no rule is refused with the definition.
    wrong["metadata"]["name"] = "others.t.example.com".into();
    wrong["spec"]["names"] = json!({"plural": "others", "kind": "Other"});
    wrong["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
        json!([{"rule": "self.min <="}]);
    let answer = send_json(&client, "POST", DEFINITIONS, &wrong).await?;
    assert_eq!(answer.code, 422, "{answer:?}");
    Ok(())
}
