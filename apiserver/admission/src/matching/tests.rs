//! Rules and selectors over requests.

use serde_json::json;

use super::*;
use crate::Operation;
use crate::testing::{Forms, attributes, form as form_of};

/// A rule for everything, changed.
fn rule(change: Value) -> Rule {
    let mut rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]});
    for (field, value) in change.as_object().into_iter().flatten() {
        rule[field] = value.clone();
    }
    Rule::of(&rule)
}

#[test]
fn a_rule_names_operations_resources_versions_objects_and_a_scope() {
    let pods = Attributes { name: "web", ..attributes(Operation::Create, "", "pods") };
    let attach = Attributes { subresource: "attach", operation: Operation::Connect, ..pods };
    let namespace = Attributes { namespace: "dev", ..attributes(Operation::Create, "", "namespaces") };
    for (change, a, expected) in [
        (json!({}), &pods, true),
        (json!({"operations": ["CREATE", "UPDATE"]}), &pods, true),
        (json!({"operations": ["UPDATE", "DELETE"]}), &pods, false),
        (json!({"operations": ["CREATE"]}), &attach, false),
        (json!({"operations": ["CONNECT"], "resources": ["pods/attach"]}), &attach, true),
        (json!({"resources": ["pods"]}), &attach, false),
        (json!({"resources": ["pods/*"]}), &attach, true),
        (json!({"resources": ["pods/*"]}), &pods, true),
        (json!({"resources": ["pods/status", "nodes"]}), &pods, false),
        (json!({"resources": ["*"]}), &pods, true),
        (json!({"resources": ["*"]}), &attach, false),
        (json!({"resources": ["*/attach"]}), &attach, true),
        (json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}), &pods, true),
        (json!({"apiGroups": ["apps"]}), &pods, false),
        (json!({"apiVersions": ["v1beta1"]}), &pods, false),
        (json!({"resourceNames": ["web"]}), &pods, true),
        (json!({"resourceNames": ["other"]}), &pods, false),
        (json!({"scope": "Namespaced"}), &pods, true),
        (json!({"scope": "Cluster"}), &pods, false),
        (json!({"scope": "Cluster"}), &namespace, true),
        (json!({"scope": "Namespaced"}), &namespace, false),
    ] {
        assert_eq!(rule(change.clone()).matches(a, &a.form().resource), expected, "{change}");
    }
}

#[test]
fn a_request_is_shown_in_the_form_that_a_rule_names() {
    let other = form_of("events.k8s.io", "v1", "Event", "events");
    let forms = Forms(vec![form_of("events.k8s.io", "v1beta1", "Event", "events"), other.clone()]);
    let a = Attributes { request: &forms, ..attributes(Operation::Create, "", "events") };
    let new = json!({"apiGroups": ["events.k8s.io"], "apiVersions": ["v1"]});
    let core = json!({"apiGroups": [""]});
    let none = json!({"apiGroups": ["apps"]});
    for (rules, equivalent, expected) in [
        (vec![&new, &core], true, Some(a.form())),
        (vec![&none, &new], true, Some(other.clone())),
        (vec![&new], false, None),
        (vec![&none], true, None),
        (vec![], true, None),
    ] {
        let all: Vec<_> = rules.iter().map(|change| rule((*change).clone())).collect();
        assert_eq!(form(&all, &a, equivalent), expected, "{rules:?} {equivalent}");
    }
}

#[test]
fn excluded_rules_may_name_another_form_too() {
    let forms = Forms(vec![form_of("events.k8s.io", "v1", "Event", "events")]);
    let a = Attributes { request: &forms, ..attributes(Operation::Create, "", "events") };
    let request = Request { attributes: &a, object: None, old: None, namespace: None };
    let excluded = json!({"operations": ["*"], "apiGroups": ["events.k8s.io"], "apiVersions": ["v1"],
        "resources": ["events"]});
    for (policy, expected) in [("Exact", Some(a.form())), ("Equivalent", None)] {
        let resources = json!({"excludeResourceRules": [excluded], "matchPolicy": policy});
        let resources = MatchResources::of(&resources).expect("selectors");
        assert_eq!(resources.form(&request), expected, "{policy}");
    }
}

#[test]
fn selectors_look_at_labels_before_and_after() {
    let resources = json!({"namespaceSelector": {"matchLabels": {"env": "test"}},
        "objectSelector": {"matchLabels": {"app": "a"}}});
    let selectors = Selectors::of(&resources).expect("selectors");
    let labelled = |key: &str, value: &str| json!({"metadata": {"name": "x", "labels": {key: value}}});
    let (test, prod) = (labelled("env", "test"), labelled("env", "prod"));
    let (with, without) = (labelled("app", "a"), labelled("app", "b"));
    let a = attributes(Operation::Update, "", "pods");
    for (object, old, namespace, wanted) in [
        (&with, &with, &test, true),
        (&with, &with, &prod, false),
        (&without, &with, &test, true),
        (&without, &without, &test, false),
    ] {
        let request = Request { attributes: &a, object: Some(object), old: Some(old), namespace: Some(namespace) };
        assert_eq!(selectors.match_request(&request), wanted, "{object} {old} {namespace}");
    }
    let cluster = attributes(Operation::Create, "", "nodes");
    let request = Request { attributes: &cluster, object: Some(&with), old: None, namespace: None };
    assert!(selectors.match_request(&request));
}
