//! Mutations of objects.

use apiserver_auth::authorization::union::AlwaysDeny;
use serde_json::json;

use super::*;
use crate::Chain;
use crate::testing::{Forms, State, attributes, form, observe};

const APPLY: &str = "ApplyConfiguration";

/// A plugin that knows these policies, each with a binding of its own.
fn plugin(policies: &[(&str, Value)]) -> MutatingAdmissionPolicy {
    let state = Arc::new(State::default());
    state.put("namespaces", json!({"metadata": {"name": "dev", "labels": {"team": "blue"}}}));
    let plugin = MutatingAdmissionPolicy::new(state, Arc::new(AlwaysDeny));
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["pods"]});
    for (name, change) in policies {
        let mut spec = json!({"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
            "reinvocationPolicy": "Never"});
        for (field, value) in change.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        observe(&*plugin.policies, RESOURCES[0], &json!({"metadata": {"name": name}, "spec": spec}));
        let binding = json!({"metadata": {"name": format!("{name}-b")}, "spec": {"policyName": name}});
        observe(&*plugin.policies, RESOURCES[1], &binding);
    }
    plugin
}

fn mutation(kind: &str, expression: &str) -> Value {
    let field = if kind == APPLY { "applyConfiguration" } else { "jsonPatch" };
    json!({"patchType": kind, field: {"expression": expression}})
}

fn one(kind: &str, expression: &str) -> Value {
    json!({"mutations": [mutation(kind, expression)]})
}

/// Both passes through the plugin.
async fn admit(plugin: MutatingAdmissionPolicy, a: &Attributes<'_>, object: &mut Value) -> Result<(), ApiError> {
    Chain::new(vec![Arc::new(plugin)]).admit(a, object, None).await
}

async fn mutated(plugin: MutatingAdmissionPolicy) -> Result<Value, ApiError> {
    let mut a = attributes(Operation::Create, "", "pods");
    a.name = "p";
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    admit(plugin, &a, &mut pod).await.map(|()| pod)
}

#[tokio::test]
async fn configurations_are_merged_and_patches_applied() {
    for (kind, expression, path, wanted) in [
        (
            APPLY,
            "Object{metadata: Object.metadata{labels: {'team': namespaceObject.metadata.labels.team}}}",
            "/metadata/labels",
            json!({"a": "b", "team": "blue"}),
        ),
        (
            APPLY,
            "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'mesh', image: 'm', \
             restartPolicy: 'Always'}]}}",
            "/spec/initContainers",
            json!([{"name": "mesh", "image": "m", "restartPolicy": "Always", "resources": {}}]),
        ),
        (
            APPLY,
            "Object{spec: Object.spec{containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, \
             imagePullPolicy: 'Always'})}}",
            "/spec/containers",
            json!([{"name": "c", "image": "i", "imagePullPolicy": "Always", "resources": {}}]),
        ),
        (
            "JSONPatch",
            "[JSONPatch{op: 'test', path: '/metadata/labels/a', value: 'b'}, \
             JSONPatch{op: 'replace', path: '/metadata/labels/a', value: 'c'}]",
            "/metadata/labels",
            json!({"a": "c"}),
        ),
        (
            "JSONPatch",
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('x.y/z'), value: 'v'}]",
            "/metadata/labels",
            json!({"a": "b", "x.y/z": "v"}),
        ),
        (
            "JSONPatch",
            "[JSONPatch{op: 'add', path: '/spec/nodeSelector', value: {'disk': 'ssd'}}]",
            "/spec/nodeSelector",
            json!({"disk": "ssd"}),
        ),
    ] {
        let pod = mutated(plugin(&[("p", one(kind, expression))])).await.expect("a pod");
        assert_eq!(pod.pointer(path), Some(&wanted), "{expression}");
    }
}

#[tokio::test]
async fn mutations_that_fail_refuse_the_request_unless_told_otherwise() {
    for (kind, expression, says) in [
        (APPLY, "Object{spec: Object.spec{nonsense: 1}}", "field not declared in schema"),
        (
            APPLY,
            "Object{spec: Object.spec{tolerations: [Object.spec.tolerations{key: 'a'}]}}",
            "may not mutate atomic arrays",
        ),
        (APPLY, "Object{metadata: Object.metadata{name: object.x}}", "no such key: x"),
        ("JSONPatch", "[JSONPatch{op: 'remove', path: '/spec/x'}]", "error applying patch"),
    ] {
        let mut policy = one(kind, expression);
        let error = mutated(plugin(&[("p", policy.clone())])).await.expect_err(expression);
        let start = "policy 'p' with binding 'p-b' denied request: ";
        assert!(error.0.message.starts_with(start) && error.0.message.contains(says), "{}", error.0.message);
        assert_eq!((error.code(), error.0.reason.as_str()), (403, "Invalid"));
        policy["failurePolicy"] = "Ignore".into();
        let pod = mutated(plugin(&[("p", policy)])).await.expect("it passes");
        assert_eq!(pod["spec"], json!({"containers": [{"name": "c", "image": "i"}]}), "nothing is half done");
    }
}

#[tokio::test]
async fn mutations_see_what_those_before_them_did() {
    let label = |key: &str, value: &str| {
        mutation(APPLY, &format!("Object{{metadata: Object.metadata{{labels: {{'{key}': {value}}}}}}}"))
    };
    let policy = json!({"mutations": [label("x", "'1'"), label("y", "object.metadata.labels.x + '2'")],
        "matchConditions": [{"name": "once", "expression": "!has(object.metadata.labels.x)"}]});
    let pod = mutated(plugin(&[("p", policy)])).await.expect("a pod");
    assert_eq!(pod["metadata"]["labels"], json!({"a": "b", "x": "1", "y": "12"}));
}

#[tokio::test]
async fn a_policy_is_invoked_again_only_if_it_wants_and_another_changed_something() {
    let count = "Object{metadata: Object.metadata{annotations: {'count': \
                 string(size(object.metadata.labels))}}}";
    let label = one(APPLY, "Object{metadata: Object.metadata{labels: {'x': 'y'}}}");
    for (reinvocation, wanted) in [("Never", "1"), ("IfNeeded", "2")] {
        let mut first = one(APPLY, count);
        first["reinvocationPolicy"] = reinvocation.into();
        let pod = mutated(plugin(&[("a", first), ("b", label.clone())])).await.expect("a pod");
        assert_eq!(pod["metadata"]["annotations"]["count"], wanted, "{reinvocation}");
    }
}

#[tokio::test]
async fn the_object_is_changed_in_the_form_that_a_rule_names_and_taken_back() {
    let expression =
        "[JSONPatch{op: 'replace', path: '/metadata/labels/a', value: object.apiVersion.replace('/', '-')}]";
    let mut policy = one("JSONPatch", expression);
    policy["matchConstraints"] = json!({"resourceRules": [{"apiGroups": ["autoscaling"], "apiVersions": ["v2"],
        "operations": ["*"], "resources": ["*"]}]});
    let forms = Forms(vec![form("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")]);
    let a = attributes(Operation::Create, "autoscaling", "horizontalpodautoscalers");
    let a = Attributes { request: &forms, name: "h", ..a };
    let mut object = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "labels": {"a": "b"}},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
    admit(plugin(&[("p", policy)]), &a, &mut object).await.expect("it passes");
    let (label, version) = (&object["metadata"]["labels"]["a"], &object["apiVersion"]);
    assert_eq!((label, version), (&json!("autoscaling-v2"), &json!("autoscaling/v1")));
}
