use std::collections::BTreeMap;

use super::*;
use crate::authorization::rbac::aggregate::aggregate;

fn named(resource: &str, name: &str) -> Object {
    objects().find(|object| object.resource == resource && object.name == name).expect("a bootstrap object")
}

#[test]
fn what_is_there_is_left_alone() {
    for object in objects() {
        assert_eq!(plan(Some(&object.value), &object), Plan::Nothing, "{}", object.name);
        assert_eq!(plan(None, &object), Plan::Create(object.value.clone()));
    }
}

#[test]
fn missing_rights_come_back_and_added_ones_stay() {
    let wanted = named("clusterroles", "system:public-info-viewer");
    let mut existing = wanted.value.clone();
    let extra = json!({"verbs": ["get"], "nonResourceURLs": ["/extra"]});
    existing["rules"] = json!([extra]);
    existing["metadata"]["labels"] = json!({"own": "label"});
    let Plan::Update(next) = plan(Some(&existing), &wanted) else { panic!("an update") };
    assert_eq!(
        next["rules"].as_array().expect("rules").len(),
        1 + wanted.value["rules"].as_array().expect("rules").len()
    );
    assert_eq!(next["rules"][0], extra);
    assert_eq!(next["metadata"]["labels"]["own"], "label");
    assert_eq!(next["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");

    existing["metadata"]["annotations"][plan::AUTO_UPDATE] = "false".into();
    assert_eq!(plan(Some(&existing), &wanted), Plan::Nothing, "an administrator has said so");
}

#[test]
fn a_binding_to_another_role_is_made_anew() {
    let wanted = named("clusterrolebindings", "system:discovery");
    let mut existing = wanted.value.clone();
    existing["roleRef"]["name"] = "cluster-admin".into();
    assert_eq!(plan(Some(&existing), &wanted), Plan::Recreate(wanted.value.clone()));
    let mut existing = wanted.value.clone();
    existing["subjects"] = json!([]);
    assert!(
        matches!(plan(Some(&existing), &wanted), Plan::Update(next) if next["subjects"] == wanted.value["subjects"])
    );
}

#[test]
fn a_spec_is_kept_up_only_where_its_annotation_says_so() {
    let wanted = named("flowschemas", "probes");
    let mut existing = wanted.value.clone();
    existing["spec"]["matchingPrecedence"] = 7.into();
    assert!(matches!(plan(Some(&existing), &wanted), Plan::Update(next) if next["spec"] == wanted.value["spec"]));
    existing["metadata"]["annotations"][plan::AUTO_UPDATE_SPEC] = "false".into();
    assert_eq!(plan(Some(&existing), &wanted), Plan::Nothing);
    let mandatory = named("flowschemas", "exempt");
    let mut existing = mandatory.value.clone();
    existing["metadata"]["annotations"][plan::AUTO_UPDATE_SPEC] = "false".into();
    existing["spec"]["matchingPrecedence"] = 7.into();
    assert!(matches!(plan(Some(&existing), &mandatory), Plan::Update(_)));
}

#[test]
fn how_much_the_exempt_level_lends_may_be_changed_where_its_annotation_says_so() {
    let wanted = named("prioritylevelconfigurations", "exempt");
    let mut existing = wanted.value.clone();
    existing["spec"]["exempt"]["lendablePercent"] = 50.into();
    assert!(matches!(plan(Some(&existing), &wanted), Plan::Update(_)));
    existing["metadata"]["annotations"][plan::AUTO_UPDATE_SPEC] = "false".into();
    assert_eq!(plan(Some(&existing), &wanted), Plan::Nothing);
}

#[test]
fn nodes_have_rules() {
    assert!(node_rules().len() > 15);
}

/// Compares with the objects recorded from a fresh cluster; `CORTEN_REFERENCE` names the folder of the reference data.
#[test]
fn a_fresh_cluster_has_the_recorded_objects() {
    let Some(folder) = std::env::var_os("CORTEN_REFERENCE") else { return };
    let file = std::path::Path::new(&folder).join("bootstrap-1.36.json");
    let text = std::fs::read_to_string(file).expect("the reference file");
    let recorded: BTreeMap<String, Vec<Value>> = serde_json::from_str(&text).expect("JSON");
    let all: Vec<Object> = objects().chain(api_services()).collect();
    let cluster_roles: Vec<&Value> = all.iter().filter(|o| o.resource == "clusterroles").map(|o| &o.value).collect();
    let mut compared = 0;
    for (path, wanted) in &recorded {
        let ours: Vec<&Object> = all.iter().filter(|o| path.ends_with(&format!("/{}", o.resource))).collect();
        if ours.is_empty() || path.ends_with("/configmaps") {
            continue;
        }
        assert_eq!(ours.len(), wanted.len(), "{path}");
        for object in ours {
            let mut value = object.value.clone();
            // Aggregated rules are filled in by a controller: edit's from view's, then admin's from edit's.
            for _ in 0..3 {
                if let Some(rules) = gathered(&value, &cluster_roles) {
                    value["rules"] = rules.into();
                }
            }
            let same = wanted
                .iter()
                .find(|w| crate::object::name(w) == object.name && crate::object::namespace(w) == object.namespace);
            assert_eq!(without_server_fields(&value), without_server_fields(same.expect(&object.name)), "{path}");
            compared += 1;
        }
    }
    assert!(compared > 180, "only {compared} objects were compared");
}

/// The rules of an aggregated role once the roles that it gathers are themselves complete.
fn gathered(role: &Value, all: &[&Value]) -> Option<Vec<Value>> {
    role.get("aggregationRule")?;
    let mut complete: Vec<Value> = all.iter().map(|value| (*value).clone()).collect();
    for _ in 0..3 {
        let now: Vec<Value> = complete.clone();
        let refs: Vec<&Value> = now.iter().collect();
        for value in &mut complete {
            if let Some(rules) = aggregate(value, &refs) {
                value["rules"] = rules.into();
            }
        }
    }
    aggregate(role, &complete.iter().collect::<Vec<_>>())
}

/// Without what only the server adds when it stores the object.
fn without_server_fields(value: &Value) -> Value {
    let mut value = value.clone();
    let object = value.as_object_mut().expect("an object");
    for field in ["kind", "apiVersion", "status"] {
        object.remove(field);
    }
    object.remove("preemptionPolicy");
    let is_namespace = object.get("spec").is_some_and(|spec| spec.get("finalizers").is_some());
    if is_namespace {
        object.remove("spec");
    }
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    metadata.remove("generation");
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.remove("kubernetes.io/metadata.name");
        if labels.is_empty() {
            metadata.remove("labels");
        }
    }
    value
}
