//! Policies over requests.

use apiserver_auth::UserInfo;
use apiserver_auth::authorization::union::AlwaysDeny;
use serde_json::json;

use super::*;
use crate::Operation;
use crate::testing::{Forms, State, attributes, form, observe};

/// A plugin that knows a policy for Deployments, changed as told, and its binding.
fn plugin(policy: Value, binding: Value) -> (Arc<State>, ValidatingAdmissionPolicy) {
    let state = Arc::new(State::default());
    state.put("namespaces", json!({"metadata": {"name": "dev", "labels": {"env": "test"}}}));
    let plugin = ValidatingAdmissionPolicy::new(state.clone(), Arc::new(AlwaysDeny));
    let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"]});
    let mut spec = json!({"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "object.spec.replicas <= 5"}]});
    merge(&mut spec, policy);
    let mut bound = json!({"policyName": "p", "validationActions": ["Deny"]});
    merge(&mut bound, binding);
    observe(&*plugin.policies, RESOURCES[0], &json!({"metadata": {"name": "p"}, "spec": spec}));
    observe(&*plugin.policies, RESOURCES[1], &json!({"metadata": {"name": "b"}, "spec": bound}));
    (state, plugin)
}

fn merge(into: &mut Value, change: Value) {
    for (field, value) in change.as_object().into_iter().flatten() {
        into[field] = value.clone();
    }
}

fn deployment(replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "b"}},
        "spec": {"replicas": replicas}})
}

/// The code and the message that a Deployment of so many replicas meets.
async fn answered(plugin: &ValidatingAdmissionPolicy, replicas: i64) -> Result<Vec<String>, (u16, String)> {
    let mut a = attributes(Operation::Create, "apps", "deployments");
    let user = UserInfo { name: "jane".into(), groups: vec!["dev".into()], ..UserInfo::default() };
    (a.name, a.user) = ("web", &user);
    let object = deployment(replicas);
    if !plugin.handles(&a) {
        return Ok(Vec::new());
    }
    plugin.validate(&a, Some(&object), None).await.map_err(|error| (error.code(), error.0.message.clone()))?;
    Ok(plugin.warnings(&a, Some(&object), None))
}

/// What follows `denied request: `.
async fn denied(policy: Value, binding: Value) -> Option<(u16, String)> {
    let (_, plugin) = plugin(policy, binding);
    let (code, message) = answered(&plugin, 7).await.err()?;
    let start =
        "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ";
    Some((code, message.strip_prefix(start).unwrap_or(&message).to_owned()))
}

fn says(code: u16, message: &str) -> Option<(u16, String)> {
    Some((code, message.to_owned()))
}

#[tokio::test]
async fn a_request_is_denied_in_the_words_of_the_policy() {
    let one = |validation: Value| json!({"validations": [validation]});
    for (validation, wanted) in [
        (json!({"expression": "object.spec.replicas <= 5"}), says(422, "failed expression: object.spec.replicas <= 5")),
        (json!({"expression": "object.spec.replicas > 5"}), None),
        (json!({"expression": "false", "message": " too many "}), says(422, "too many")),
        (json!({"expression": "false", "reason": "Forbidden"}), says(403, "failed expression: false")),
        (
            json!({"expression": "false", "messageExpression": "'got ' + string(object.spec.replicas)"}),
            says(422, "got 7"),
        ),
        // A message that cannot be made gives way to the next.
        (
            json!({"expression": "false", "messageExpression": "'got ' + object.spec.replicas", "message": "m"}),
            says(422, "m"),
        ),
        (
            json!({"expression": "object.spec.x == 1"}),
            says(422, "expression 'object.spec.x == 1' resulted in error: no such key: x"),
        ),
        (json!({"expression": "request.userInfo.username == 'jane' && request.operation == 'CREATE'"}), None),
        (json!({"expression": "'dev' in request.userInfo.groups && request.kind.kind == 'Deployment'"}), None),
        (json!({"expression": "namespaceObject.metadata.labels.env == 'test' && oldObject == null"}), None),
        (json!({"expression": "params == null && !authorizer.requestResource.check('delete').allowed()"}), None),
    ] {
        assert_eq!(denied(one(validation.clone()), json!({})).await, wanted, "{validation}");
    }
}

#[tokio::test]
async fn what_cannot_be_evaluated_follows_the_failure_policy() {
    let validations = json!([{"expression": "object.spec.x == 1"}]);
    let policy = |policy: &str| json!({"failurePolicy": policy, "validations": validations.clone()});
    assert!(denied(policy("Fail"), json!({})).await.is_some());
    assert_eq!(denied(policy("Ignore"), json!({})).await, None);
}

#[tokio::test]
async fn variables_are_evaluated_where_they_are_used() {
    let variables = json!([
        {"name": "replicas", "expression": "object.spec.replicas"},
        {"name": "double", "expression": "variables.replicas * 2"},
        {"name": "broken", "expression": "object.nothing"},
    ]);
    let policy = |expression: &str| json!({"variables": variables, "validations": [{"expression": expression}]});
    for (expression, wanted) in [
        ("variables.double == 14", None),
        ("variables.replicas == 7 || variables.broken == 1", None),
        (
            "variables.broken == 1",
            says(
                422,
                "expression 'variables.broken == 1' resulted in error: composited variable \"broken\" fails to evaluate: \
                 expression 'object.nothing' resulted in error: no such key: nothing",
            ),
        ),
    ] {
        assert_eq!(denied(policy(expression), json!({})).await, wanted, "{expression}");
    }
}

#[tokio::test]
async fn conditions_say_whether_the_policy_is_about_the_request() {
    let policy = |conditions: Value| json!({"matchConditions": conditions});
    let condition = |expression: &str| json!({"name": "c", "expression": expression});
    for (conditions, denies) in [
        (json!([condition("object.metadata.name == 'web'")]), true),
        (json!([condition("object.metadata.name == 'other'")]), false),
        (json!([condition("object.x == 1"), condition("false")]), false),
        (json!([condition("object.x == 1"), condition("true")]), true),
    ] {
        assert_eq!(denied(policy(conditions.clone()), json!({})).await.is_some(), denies, "{conditions}");
    }
}

#[tokio::test]
async fn bindings_narrow_what_the_policy_is_about() {
    let matching = |selector: Value| json!({"matchResources": {"namespaceSelector": selector}});
    assert!(denied(json!({}), matching(json!({"matchLabels": {"env": "test"}}))).await.is_some());
    assert_eq!(denied(json!({}), matching(json!({"matchLabels": {"env": "prod"}}))).await, None);
    assert_eq!(denied(json!({}), json!({"policyName": "other"})).await, None);
}

#[tokio::test]
async fn actions_deny_warn_or_note() {
    for (actions, denies, warnings) in
        [(json!(["Deny"]), true, 0), (json!(["Audit"]), false, 0), (json!(["Warn", "Audit"]), false, 1)]
    {
        let (_, plugin) = plugin(json!({}), json!({"validationActions": actions}));
        let answer = answered(&plugin, 7).await;
        assert_eq!(answer.is_err(), denies, "{actions}");
        assert_eq!(answer.unwrap_or_default().len(), warnings, "{actions}");
    }
    let (_, plugin) = plugin(json!({}), json!({"validationActions": ["Warn"]}));
    let warning = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: \
                   object.spec.replicas <= 5";
    assert_eq!(answered(&plugin, 7).await, Ok(vec![warning.to_owned()]));
    assert_eq!(answered(&plugin, 3).await, Ok(Vec::new()));
}

#[tokio::test]
async fn parameters_are_named_or_selected_in_the_namespace_of_the_request() {
    let policy = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.replicas <= int(params.data.max)",
            "messageExpression": "'at most ' + params.data.max"}]});
    let map = |name: &str, namespace: &str, max: &str| json!({"metadata": {"name": name, "namespace": namespace, "labels": {"use": "yes"}}, "data": {"max": max}});
    let missing = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    for (reference, wanted) in [
        (json!({"name": "few", "parameterNotFoundAction": "Deny"}), Some("at most 3")),
        (json!({"name": "many", "parameterNotFoundAction": "Deny"}), None),
        (json!({"name": "far", "namespace": "far", "parameterNotFoundAction": "Deny"}), Some("at most 1")),
        (json!({"name": "far", "parameterNotFoundAction": "Deny"}), Some(missing)),
        (json!({"name": "far", "parameterNotFoundAction": "Allow"}), None),
        (json!({"selector": {"matchLabels": {"use": "yes"}}, "parameterNotFoundAction": "Deny"}), Some("at most 3")),
        (json!({"selector": {"matchLabels": {"use": "no"}}, "parameterNotFoundAction": "Deny"}), Some(missing)),
    ] {
        let (state, plugin) = plugin(policy.clone(), json!({"paramRef": reference}));
        for (name, namespace, max) in [("few", "dev", "3"), ("many", "dev", "10"), ("far", "far", "1")] {
            state.put("configmaps", map(name, namespace, max));
        }
        let answer = answered(&plugin, 7).await.err().map(|(_, message)| message);
        match wanted {
            Some(wanted) => assert!(answer.as_deref().is_some_and(|it| it.ends_with(wanted)), "{reference} {answer:?}"),
            None => assert_eq!(answer, None, "{reference}"),
        }
    }
}

#[tokio::test]
async fn annotations_that_cannot_be_made_deny() {
    let annotation = |expression: &str| json!({"validations": [], "auditAnnotations": [{"key": "k", "valueExpression": expression}]});
    assert_eq!(denied(annotation("'high: ' + string(object.spec.replicas)"), json!({})).await, None);
    assert_eq!(denied(annotation("null"), json!({})).await, None);
    let refusal = "expression 'object.x' resulted in error: no such key: x";
    assert_eq!(denied(annotation("object.x"), json!({"validationActions": ["Audit"]})).await, says(422, refusal));
}

#[tokio::test]
async fn policies_do_not_apply_to_what_configures_them_nor_to_questions() {
    let (_, plugin) = plugin(json!({}), json!({}));
    for (group, resource, handled) in [
        ("apps", "deployments", true),
        (GROUP, "validatingadmissionpolicies", false),
        (GROUP, "mutatingwebhookconfigurations", false),
        ("authorization.k8s.io", "subjectaccessreviews", false),
    ] {
        assert_eq!(plugin.handles(&attributes(Operation::Create, group, resource)), handled, "{resource}");
    }
    let none = ValidatingAdmissionPolicy::new(Arc::new(State::default()), Arc::new(AlwaysDeny));
    assert!(!none.handles(&attributes(Operation::Create, "apps", "deployments")));
}

#[tokio::test]
async fn many_loops_in_each_other_are_not_run() {
    let all =
        "object.l.all(a, object.l.all(b, object.l.all(c, object.l.all(d, object.l.all(e, a + b + c + d + e > 0)))))";
    let (_, plugin) = plugin(json!({"validations": [{"expression": all}]}), json!({}));
    let mut a = attributes(Operation::Create, "apps", "deployments");
    a.name = "web";
    let mut object = deployment(1);
    object["l"] = (0..100).collect::<Vec<i64>>().into();
    let error = plugin.validate(&a, Some(&object), None).await.expect_err("refused");
    assert!(error.0.message.contains("running out of cost budget"), "{}", error.0.message);
}

#[tokio::test]
async fn expressions_see_the_object_in_the_form_that_a_rule_names() {
    let rule = |version: &str| {
        json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": [version], "operations": ["*"],
            "resources": ["deployments"]}]})
    };
    let forms = Forms(vec![form("apps", "v2", "Deployment", "deployments")]);
    let a = Attributes { request: &forms, name: "web", ..attributes(Operation::Update, "apps", "deployments") };
    let seen = "object.apiVersion + ' ' + oldObject.apiVersion + ' ' + request.kind.version + ' ' \
                + request.requestKind.version";
    for (version, wanted) in
        [("v1", Some("apps/v1 apps/v1 v1 v1")), ("v2", Some("apps/v2 apps/v2 v2 v1")), ("v3", None)]
    {
        let validation = json!([{"expression": "false", "messageExpression": seen}]);
        let (_, plugin) = plugin(json!({"matchConstraints": rule(version), "validations": validation}), json!({}));
        let error = plugin.validate(&a, Some(&deployment(1)), Some(&deployment(1))).await.err();
        let said = error.as_ref().map(|error| error.0.message.rsplit(": ").next().unwrap_or_default());
        assert_eq!(said, wanted, "{version}");
    }
}
