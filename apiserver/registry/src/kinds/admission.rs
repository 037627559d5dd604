//! Webhook configurations, admission policies and their bindings.

use apimachinery::names;
use apiserver_cel::check::Scope;
use serde_json::{Value, json};

use crate::defaults::{at, each, object, set};
use crate::node::Node;
use crate::rules::{cel, labels, webhook};
use crate::strategy::Kind;

const TEMPLATE: Kind =
    Kind { group: "admissionregistration.k8s.io", generation: true, unconditional_update: false, ..Kind::PLAIN };

pub const VALIDATING_WEBHOOKS: Kind = Kind {
    resource: "validatingwebhookconfigurations",
    default: |configuration| each(configuration, "webhooks", default_webhook),
    validate: webhooks,
    ..TEMPLATE
};

pub const MUTATING_WEBHOOKS: Kind = Kind {
    resource: "mutatingwebhookconfigurations",
    default: |configuration| {
        each(configuration, "webhooks", |webhook| {
            default_webhook(webhook);
            set(webhook, "reinvocationPolicy", "Never");
        });
    },
    validate: webhooks,
    ..TEMPLATE
};

pub const VALIDATING_POLICY: Kind = Kind {
    resource: "validatingadmissionpolicies",
    default: default_policy,
    validate: |root| {
        let spec = root.get("spec");
        policy_common(spec);
        validations(root, spec);
    },
    ..TEMPLATE
};

pub const MUTATING_POLICY: Kind = Kind {
    resource: "mutatingadmissionpolicies",
    default: default_policy,
    validate: |root| {
        let spec = root.get("spec");
        policy_common(spec);
        mutations(spec);
    },
    ..TEMPLATE
};

pub const VALIDATING_BINDING: Kind = Kind {
    resource: "validatingadmissionpolicybindings",
    default: default_binding,
    validate: |root| {
        let spec = root.get("spec");
        binding(spec);
        actions(spec.get("validationActions"));
    },
    ..TEMPLATE
};

pub const MUTATING_BINDING: Kind = Kind {
    resource: "mutatingadmissionpolicybindings",
    default: default_binding,
    validate: |root| binding(root.get("spec")),
    ..TEMPLATE
};

fn default_webhook(webhook: &mut Value) {
    set(webhook, "failurePolicy", "Fail");
    set(webhook, "matchPolicy", "Equivalent");
    set(webhook, "namespaceSelector", json!({}));
    set(webhook, "objectSelector", json!({}));
    set(webhook, "timeoutSeconds", 10);
    if let Some(service) = at(webhook, &["clientConfig", "service"]) {
        set(service, "port", 443);
    }
    each(webhook, "rules", |rule| set(rule, "scope", "*"));
}

fn webhooks(root: Node<'_>) {
    let mut names: Vec<&str> = Vec::new();
    for webhook in root.get("webhooks").items() {
        self::webhook(webhook);
        let name = webhook.get("name");
        if !name.is_empty() && names.contains(&name.str()) {
            name.duplicate();
        }
        names.push(name.str());
    }
}

fn webhook(webhook: Node<'_>) {
    qualified_domain(webhook.get("name"));
    for rule in webhook.get("rules").items() {
        webhook::rule(rule);
    }
    webhook::review_versions(webhook.get("admissionReviewVersions"), &["v1", "v1beta1"]);
    webhook.get("failurePolicy").one_of_if_set(&["Fail", "Ignore"]);
    webhook.get("matchPolicy").one_of_if_set(&["Equivalent", "Exact"]);
    let effects = webhook.get("sideEffects");
    if effects.is_set() {
        effects.one_of(&["None", "NoneOnDryRun"]);
    } else {
        effects.required("must specify one of None, NoneOnDryRun");
    }
    let timeout = webhook.get("timeoutSeconds");
    if timeout.is_set() && !(1..=30).contains(&timeout.int()) {
        timeout.invalid("the timeout value must be between 1 and 30 seconds");
    }
    labels::selector(webhook.get("namespaceSelector"));
    labels::selector(webhook.get("objectSelector"));
    webhook.get("reinvocationPolicy").one_of_if_set(&["IfNeeded", "Never"]);
    webhook::client_config(webhook.get("clientConfig"));
    match_conditions(webhook.get("matchConditions"), &cel::admission(false));
}

/// A domain of at least three labels.
fn qualified_domain(name: Node<'_>) {
    if !name.need() {
        return;
    }
    let messages = names::dns1123_subdomain(name.str());
    if !messages.is_empty() {
        name.invalid(messages.join(","));
    } else if name.str().split('.').count() < 3 {
        name.invalid("should be a domain with at least three segments separated by dots");
    }
}

fn match_conditions(list: Node<'_>, scope: &Scope) {
    const CONDITIONS_MAX: usize = 64;
    list.at_most(CONDITIONS_MAX);
    let mut seen: Vec<&str> = Vec::new();
    for condition in list.items() {
        let (name, expression) = (condition.get("name"), condition.get("expression"));
        cel::predicate(expression, scope);
        if name.need() {
            name.check(names::qualified_name);
            if seen.contains(&name.str()) {
                name.duplicate();
            }
        }
        seen.push(name.str());
    }
}

fn default_match(resources: &mut Value) {
    set(resources, "matchPolicy", "Equivalent");
    set(resources, "namespaceSelector", json!({}));
    set(resources, "objectSelector", json!({}));
    for rules in ["resourceRules", "excludeResourceRules"] {
        each(resources, rules, |rule| set(rule, "scope", "*"));
    }
}

fn default_policy(policy: &mut Value) {
    let spec = object(policy, "spec");
    set(spec, "failurePolicy", "Fail");
    if let Some(constraints) = at(spec, &["matchConstraints"]) {
        default_match(constraints);
    }
}

fn default_binding(binding: &mut Value) {
    if let Some(resources) = at(binding, &["spec", "matchResources"]) {
        default_match(resources);
    }
}

/// What policies that validate and policies that mutate have in common.
fn policy_common(spec: Node<'_>) {
    spec.get("failurePolicy").one_of_if_set(&["Fail", "Ignore"]);
    param_kind(spec.get("paramKind"));
    let constraints = spec.get("matchConstraints");
    if constraints.is_set() {
        match_resources(constraints);
        if constraints.get("resourceRules").is_empty() {
            constraints.get("resourceRules").required("");
        }
    } else {
        constraints.required("");
    }
    match_conditions(spec.get("matchConditions"), &scope(spec));
    variables(spec);
}

/// The names that the expressions of a policy may use, but for its variables.
fn scope(spec: Node<'_>) -> Scope {
    cel::admission(spec.get("paramKind").is_set())
}

fn param_kind(kind: Node<'_>) {
    if !kind.is_set() {
        return;
    }
    let version = kind.get("apiVersion");
    if version.need() {
        group_version(version);
    }
    let name = kind.get("kind");
    if name.need() {
        invalid_joined(name, name.str(), &names::dns1035_label(&name.str().to_lowercase()));
    }
}

fn group_version(node: Node<'_>) {
    let (group, version) = node.str().split_once('/').unwrap_or(("", node.str()));
    if version.contains('/') {
        node.invalid(format!("unexpected GroupVersion string: {}", node.str()));
        return;
    }
    if !group.is_empty() {
        invalid_joined(node, group, &names::dns1123_subdomain(group));
    }
    if version.is_empty() {
        node.invalid("version must be specified");
    } else {
        invalid_joined(node, version, &names::dns1035_label(version));
    }
}

fn invalid_joined(node: Node<'_>, value: &str, messages: &[String]) {
    if !messages.is_empty() {
        node.invalid_value(value, messages.join(","));
    }
}

fn match_resources(resources: Node<'_>) {
    resources.get("matchPolicy").one_of_if_set(&["Equivalent", "Exact"]);
    labels::selector(resources.get("namespaceSelector"));
    labels::selector(resources.get("objectSelector"));
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in resources.get(list).items() {
            rule.get("resourceNames").items().for_each(|name| name.check(names::path_segment));
            rule.get("resourceNames").unique();
            webhook::rule(rule);
        }
    }
}

fn variables(spec: Node<'_>) {
    let mut seen: Vec<&str> = Vec::new();
    for variable in spec.get("variables").items() {
        let (name, expression) = (variable.get("name"), variable.get("expression"));
        if name.str().trim().is_empty() {
            name.required("name is not specified");
        } else if !cel::is_identifier(name.str()) {
            name.invalid("name is not a valid CEL identifier");
        }
        cel::expression(expression, &cel::with_variables(scope(spec), &seen));
        seen.push(name.str());
    }
}

/// With the variables that can be used: those with a name and an expression.
fn full_scope(spec: Node<'_>) -> Scope {
    let usable = spec.get("variables").items().filter(|v| !v.get("expression").str().trim().is_empty());
    let names: Vec<&str> = usable.map(|v| v.get("name").str()).collect();
    cel::with_variables(scope(spec), &names)
}

fn validations(root: Node<'_>, spec: Node<'_>) {
    const ANNOTATIONS_MAX: usize = 20;
    let (list, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
    if list.is_empty() && annotations.is_empty() {
        list.required("validations or auditAnnotations must contain at least one item");
        annotations.required("validations or auditAnnotations must contain at least one item");
    }
    let scope = full_scope(spec);
    list.items().for_each(|validation| self::validation(validation, &scope));
    if annotations.len() > ANNOTATIONS_MAX {
        annotations.invalid(format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations"));
    }
    let policy = root.get("metadata").get("name").str();
    let mut keys: Vec<&str> = Vec::new();
    for annotation in annotations.items() {
        audit_annotation(annotation, policy, &scope);
        let key = annotation.get("key");
        if keys.contains(&key.str()) {
            key.duplicate();
        }
        keys.push(key.str());
    }
}

fn validation(validation: Node<'_>, scope: &Scope) {
    cel::predicate(validation.get("expression"), scope);
    let (message, computed) = (validation.get("message"), validation.get("messageExpression"));
    if !computed.is_empty() {
        if computed.str().trim().is_empty() {
            computed.invalid("must be non-empty if specified");
        } else {
            cel::text(computed, &scope.clone().without("authorizer"));
        }
    }
    if !message.is_empty() && message.str().trim().is_empty() {
        message.invalid("message must be non-empty if specified");
    } else if message.str().trim().contains(['\n', '\r']) {
        message.invalid("message must not contain line breaks");
    }
    validation.get("reason").one_of_if_set(&["Forbidden", "Invalid", "RequestEntityTooLarge"]);
}

fn audit_annotation(annotation: Node<'_>, policy: &str, scope: &Scope) {
    const EXPRESSION_MAX: usize = 5 * 1024;
    let (key, value) = (annotation.get("key"), annotation.get("valueExpression"));
    if policy.is_empty() {
        key.invalid("requires metadata.name be non-empty");
    } else {
        // The annotation is called after the policy and the key.
        let name = format!("{policy}/{}", key.str());
        names::qualified_name(&name).into_iter().for_each(|message| key.invalid_value(name.as_str(), message));
    }
    if value.str().trim().len() > EXPRESSION_MAX {
        value.required(&format!("must not exceed {EXPRESSION_MAX} bytes in length"));
    } else {
        cel::text_or_null(value, scope);
    }
}

fn mutations(spec: Node<'_>) {
    let list = spec.get("mutations");
    if list.is_empty() {
        list.required("mutations must contain at least one item");
    }
    spec.get("reinvocationPolicy").need_one_of(&["IfNeeded", "Never"]);
    let scope = full_scope(spec);
    for mutation in list.items() {
        let kind = mutation.get("patchType");
        kind.need_one_of(&["ApplyConfiguration", "JSONPatch"]);
        let (field, other) = match kind.str() {
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
            "JSONPatch" => ("jsonPatch", "applyConfiguration"),
            _ => continue,
        };
        if mutation.get(field).is_set() {
            cel::mutation(mutation.get(field).get("expression"), &scope);
        } else {
            mutation.get(field).required(&format!("must be specified when patchType is {}", kind.str()));
        }
        if mutation.get(other).is_set() {
            mutation.get(other).invalid(format!("must not be specified when patchType is {}", kind.str()));
        }
    }
}

fn binding(spec: Node<'_>) {
    spec.get("policyName").need_check(names::dns1123_subdomain);
    param_reference(spec.get("paramRef"));
    let resources = spec.get("matchResources");
    if resources.is_set() {
        match_resources(resources);
    }
}

fn param_reference(reference: Node<'_>) {
    if !reference.is_set() {
        return;
    }
    let (name, selector) = (reference.get("name"), reference.get("selector"));
    if !name.is_empty() && selector.is_set() {
        name.forbidden("name and selector are mutually exclusive");
        selector.forbidden("name and selector are mutually exclusive");
    }
    if name.is_empty() && !selector.is_set() {
        reference.required("one of name or selector must be specified");
    }
    name.check_if_set(names::path_segment);
    labels::selector(selector);
    let action = reference.get("parameterNotFoundAction");
    action.need_one_of(&["Allow", "Deny"]);
}

fn actions(list: Node<'_>) {
    if list.is_empty() {
        list.required("at least one validation action is required");
    }
    for action in list.items() {
        action.one_of(&["Audit", "Deny", "Warn"]);
    }
    list.unique();
    let has = |word: &str| list.items().any(|a| a.str() == word);
    if has("Deny") && has("Warn") {
        list.invalid("must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
    }
}
