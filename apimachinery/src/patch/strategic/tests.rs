use serde_json::json;

use super::*;
use crate::schema::Schema;

fn pod() -> &'static Type {
    Schema::builtin().type_named("core.v1.Pod").expect("pod")
}

fn deployment() -> &'static Type {
    Schema::builtin().type_named("apps.v1.Deployment").expect("deployment")
}

fn spec(ty: &Type, before: Value, patch: Value) -> Value {
    let got = apply(ty, json!({"spec": before}), json!({"spec": patch})).expect("applies");
    got["spec"].clone()
}

#[test]
fn lists_merge_by_their_key() {
    let before = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1", "args": ["x"]}]});
    let patch = json!({"containers": [{"name": "b", "image": "2", "args": null}, {"name": "c", "image": "3"}]});
    assert_eq!(
        spec(pod(), before, patch),
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]})
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    let before = json!({"tolerations": [{"key": "a"}]});
    assert_eq!(spec(pod(), before, json!({"tolerations": [{"key": "b"}]})), json!({"tolerations": [{"key": "b"}]}));
}

#[test]
fn items_are_deleted_and_replaced_by_directive() {
    let before = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b"}]});
    let delete = json!({"containers": [{"name": "a", "$patch": "delete"}]});
    assert_eq!(spec(pod(), before.clone(), delete), json!({"containers": [{"name": "b"}]}));
    let replace = json!({"containers": [{"$patch": "replace"}, {"name": "c"}]});
    assert_eq!(spec(pod(), before, replace), json!({"containers": [{"name": "c"}]}));
    let before = json!({"securityContext": {"runAsUser": 1, "fsGroup": 2}});
    let replace = json!({"securityContext": {"$patch": "replace", "fsGroup": 3}});
    assert_eq!(spec(pod(), before.clone(), replace), json!({"securityContext": {"fsGroup": 3}}));
    assert_eq!(spec(pod(), before, json!({"securityContext": {"$patch": "delete"}})), json!({"securityContext": {}}));
}

#[test]
fn scalars_are_added_and_deleted_from_lists() {
    let before = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["d"]}});
    let got = apply(pod(), before, patch).expect("applies");
    let mut finalizers: Vec<&str> =
        got["metadata"]["finalizers"].as_array().expect("list").iter().filter_map(Value::as_str).collect();
    finalizers.sort_unstable();
    assert_eq!(finalizers, ["a", "c", "d"]);
}

#[test]
fn order_is_set_and_what_others_added_keeps_its_place() {
    let before = json!({"containers": [{"name": "a"}, {"name": "theirs"}, {"name": "b"}]});
    let patch = json!({
        "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
        "containers": [{"name": "c", "image": "1"}],
    });
    assert_eq!(
        spec(pod(), before, patch),
        json!({"containers": [{"name": "theirs"}, {"name": "b"}, {"name": "c", "image": "1"}, {"name": "a"}]})
    );
    let wrong = json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "c"}]}});
    assert!(apply(pod(), json!({"spec": {}}), wrong).is_err());
}

#[test]
fn retain_keys_drops_the_rest() {
    let before = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}});
    let patch = json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}});
    assert_eq!(spec(deployment(), before, patch), json!({"strategy": {"type": "Recreate"}}));
}

#[test]
fn what_meets_nothing_loses_its_directives_and_nulls() {
    let patch = json!({"containers": [{"name": "a", "image": null, "env": [{"name": "x", "$patch": "delete"}]}], "hostname": null});
    assert_eq!(spec(pod(), json!({}), patch), json!({"containers": [{"name": "a", "env": []}]}));
}

#[test]
fn bad_patches_are_refused() {
    for patch in [
        json!([]),
        json!({"$patch": "x"}),
        json!({"spec": {"containers": [{"image": "a"}]}}),
        json!({"spec": {"$retainKeys": 1}}),
    ] {
        let before = json!({"spec": {"containers": [{"name": "a"}]}});
        assert!(matches!(apply(pod(), before, patch), Err(PatchError::Malformed(_))));
    }
}

#[test]
fn a_two_way_patch_makes_the_other_object() {
    let from = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}},
        "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}, "template": {"spec": {"containers": [
            {"name": "a", "image": "1", "ports": [{"containerPort": 80}]}, {"name": "b"}], "tolerations": [{"key": "t"}]}}}});
    let to = json!({"metadata": {"finalizers": ["c", "a"], "labels": {"x": "1"}},
        "spec": {"strategy": {"type": "Recreate"}, "template": {"spec": {"containers": [
            {"name": "c"}, {"name": "a", "image": "2", "ports": [{"containerPort": 80}, {"containerPort": 81}]}]}}}});
    let patch = two_way(deployment(), &from, &to);
    assert_eq!(patch["spec"]["strategy"], json!({"$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": null}));
    assert_eq!(patch["metadata"]["labels"], json!({"y": null}));
    assert_eq!(apply(deployment(), from.clone(), patch).expect("applies"), to);
    assert_eq!(two_way(deployment(), &from, &from), json!({}));
}

#[test]
fn a_three_way_patch_keeps_what_others_added() {
    let original = json!({"spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "old"}]}}}});
    let modified = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "2"}]}}}});
    let current = json!({"spec": {"replicas": 1, "template": {"spec": {"containers": [
        {"name": "a", "image": "1", "imagePullPolicy": "Always"}, {"name": "old"}, {"name": "theirs"}]}}}});
    let patch = three_way(deployment(), &original, &modified, &current).expect("patch");
    let got = apply(deployment(), current, patch.clone()).expect("applies");
    assert_eq!(
        got,
        json!({"spec": {"template": {"spec": {"containers": [
            {"name": "a", "image": "2", "imagePullPolicy": "Always"}, {"name": "theirs"}]}}}}),
        "{patch}"
    );
    let again = three_way(deployment(), &modified, &modified, &got).expect("patch");
    assert_eq!(again, json!({}));
}
