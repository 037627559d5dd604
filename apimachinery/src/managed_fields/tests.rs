use serde_json::json;

use super::*;
use crate::schema::Schema;

const NOW: &str = "2026-01-01T00:00:00Z";

fn deployment() -> &'static Type {
    Schema::builtin().type_named("apps.v1.Deployment").expect("deployment")
}

fn object(labels: Value, spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "labels": labels}, "spec": spec})
}

fn apply_as(manager: &str, live: &Value, applied: &Value, force: bool) -> Result<Value, ApplyError> {
    let reset = Set::of_fields(&["status"]);
    let writer = Writer { manager, subresource: "", api_version: "apps/v1", now: NOW, reset: &reset };
    apply(deployment(), live, applied, &writer, force)
}

fn update_as(manager: &str, live: &Value, new: Value) -> Value {
    let reset = Set::of_fields(&["status"]);
    let writer = Writer { manager, subresource: "", api_version: "apps/v1", now: NOW, reset: &reset };
    update(deployment(), live, new, &writer)
}

fn fields(object: &Value, manager: &str) -> Value {
    let entry = meta::managed_fields(object).iter().find(|entry| entry["manager"] == manager);
    entry.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

#[test]
fn an_applier_owns_what_it_applies_and_removes_what_it_applies_no_more() {
    let first = apply_as("a", &Value::Null, &object(json!({"l": "1", "m": "2"}), json!({"replicas": 1})), false)
        .expect("created");
    assert_eq!(
        fields(&first, "a"),
        json!({"f:metadata": {"f:labels": {"f:l": {}, "f:m": {}}}, "f:spec": {"f:replicas": {}}})
    );
    let second = apply_as("a", &first, &object(json!({"l": "1"}), json!({})), false).expect("applied");
    assert_eq!(second["metadata"]["labels"], json!({"l": "1"}));
    assert_eq!(second["spec"].get("replicas"), None);
}

#[test]
fn what_another_manages_is_a_conflict_unless_forced() {
    let live = apply_as("a", &Value::Null, &object(json!({}), json!({"replicas": 1})), false).expect("created");
    let live = update_as("c", &live, {
        let mut new = live.clone();
        new["spec"]["paused"] = json!(true);
        new
    });
    let wanted = object(json!({}), json!({"replicas": 2, "paused": false}));
    let error = apply_as("b", &live, &wanted, false).expect_err("conflicts");
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.replicas\nconflicts with \"c\" using apps/v1 at 2026-01-01T00:00:00Z:\n- .spec.paused"
    );
    let status = ApiError::from(error);
    assert_eq!(status.code(), 409);
    assert_eq!(status.0.details.expect("details").causes[0].reason, "FieldManagerConflict");
    let forced = apply_as("b", &live, &wanted, true).expect("forced");
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(fields(&forced, "c"), Value::Null);
    let same = object(json!({}), json!({"replicas": 1}));
    assert!(apply_as("b", &live, &same, false).is_ok(), "the same value is shared");
}

#[test]
fn items_are_owned_by_their_keys() {
    let spec = |containers: Value| json!({"template": {"spec": {"containers": containers}}});
    let live = apply_as(
        "a",
        &Value::Null,
        &object(json!({}), spec(json!([{"name": "x", "ports": [{"containerPort": 80}]}]))),
        false,
    )
    .expect("created");
    let live =
        apply_as("b", &live, &object(json!({}), spec(json!([{"name": "y", "image": "i"}]))), false).expect("applied");
    let names: Vec<&Value> =
        live["spec"]["template"]["spec"]["containers"].as_array().expect("list").iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["x", "y"]);
    let ports = &fields(&live, "a")["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"x\"}"]["f:ports"];
    assert_eq!(*ports, json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}));
    let gone = apply_as("a", &live, &object(json!({}), json!({})), false).expect("applied");
    assert_eq!(gone["spec"]["template"]["spec"]["containers"], json!([{"name": "y", "image": "i"}]));
    let twice = object(json!({}), spec(json!([{"name": "x"}, {"name": "x"}])));
    assert!(matches!(apply_as("a", &live, &twice, false), Err(ApplyError::Invalid(_))));
}

#[test]
fn the_status_is_not_owned_through_the_resource_itself() {
    let mut new = object(json!({"l": "1"}), json!({"replicas": 1}));
    new["status"] = json!({"replicas": 1});
    let created = update_as("c", &Value::Null, new);
    assert_eq!(
        fields(&created, "c"),
        json!({"f:metadata": {"f:labels": {".": {}, "f:l": {}}}, "f:spec": {"f:replicas": {}}})
    );
}

#[test]
fn managed_fields_can_be_reset_and_stay_away_until_the_next_apply() {
    let mut live = apply_as("a", &Value::Null, &object(json!({"l": "1"}), json!({})), false).expect("created");
    meta::set_uid(&mut live, "u");
    let mut new = live.clone();
    new["metadata"]["managedFields"] = json!([{}]);
    let reset = update_as("c", &live, new);
    assert!(meta::managed_fields(&reset).is_empty());
    let mut changed = reset.clone();
    changed["metadata"]["labels"]["m"] = json!("2");
    let changed = update_as("c", &reset, changed);
    assert!(meta::managed_fields(&changed).is_empty());
    let applied = apply_as("a", &changed, &object(json!({"l": "1"}), json!({})), false).expect("applied");
    assert_eq!(
        fields(&applied, "before-first-apply"),
        json!({"f:metadata": {"f:labels": {".": {}, "f:l": {}, "f:m": {}}}})
    );
}

#[test]
fn many_updaters_become_one() {
    let mut live = update_as("c0", &Value::Null, object(json!({"l": "0"}), json!({})));
    for i in 1..15 {
        let mut new = live.clone();
        new["metadata"]["labels"][format!("l{i}")] = json!("1");
        live = update_as(&format!("c{i}"), &live, new);
    }
    assert_eq!(meta::managed_fields(&live).len(), 10);
    assert_ne!(fields(&live, "ancient-changes"), Value::Null);
}
