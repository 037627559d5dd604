//! Webhook configurations, admission policies and their bindings.

use apimachinery::names;
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
    match_conditions(webhook.get("matchConditions"));
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

fn match_conditions(list: Node<'_>) {
    const CONDITIONS_MAX: usize = 64;
    list.at_most(CONDITIONS_MAX);
    let mut seen: Vec<&str> = Vec::new();
    for condition in list.items() {
        let (name, expression) = (condition.get("name"), condition.get("expression"));
        cel::predicate(expression, &cel::Scope::admission());
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
    match_conditions(spec.get("matchConditions"));
    variables(spec.get("variables"));
}

fn param_kind(kind: Node<'_>) {
    if !kind.is_set() {
        return;
    }
    kind.get("apiVersion").need();
    if kind.get("kind").need() {
        for message in names::dns1035_label(&kind.get("kind").str().to_lowercase()) {
            kind.get("kind").invalid(message);
        }
    }
}

fn match_resources(resources: Node<'_>) {
    resources.get("matchPolicy").one_of_if_set(&["Equivalent", "Exact"]);
    labels::selector(resources.get("namespaceSelector"));
    labels::selector(resources.get("objectSelector"));
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in resources.get(list).items() {
            webhook::rule(rule);
            rule.get("resourceNames").unique();
        }
    }
}

fn variables(list: Node<'_>) {
    let mut seen: Vec<&str> = Vec::new();
    for variable in list.items() {
        let (name, expression) = (variable.get("name"), variable.get("expression"));
        if name.need() && !cel::is_identifier(name.str()) {
            name.invalid("name is not a valid CEL identifier");
        }
        cel::expression(expression, &cel::Scope::admission().with_variables(&seen));
        seen.push(name.str());
    }
}

/// Variables that can be used: those with a name and an expression.
fn declared(spec: Node<'_>) -> cel::Scope {
    let usable = spec.get("variables").items().filter(|v| !v.get("expression").is_empty());
    let names: Vec<&str> = usable.map(|v| v.get("name").str()).collect();
    cel::Scope::admission().with_variables(&names)
}

fn validations(root: Node<'_>, spec: Node<'_>) {
    const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
    let (list, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
    if list.is_empty() && annotations.is_empty() {
        list.required("validations or auditAnnotations must be non-empty");
        annotations.required("validations or auditAnnotations must be non-empty");
    }
    let scope = declared(spec);
    for validation in list.items() {
        cel::predicate(validation.get("expression"), &scope);
        let (message, computed) = (validation.get("message"), validation.get("messageExpression"));
        if message.is_set() && message.str().contains('\n') {
            message.invalid("message must not contain line breaks");
        }
        if !computed.is_empty() {
            cel::expression(computed, &scope);
        }
        validation.get("reason").one_of_if_set(&REASONS);
    }
    annotations.at_most(20);
    let policy = root.get("metadata").get("name").str();
    let mut keys: Vec<&str> = Vec::new();
    for annotation in annotations.items() {
        audit_annotation(annotation, policy, &scope);
        let key = annotation.get("key");
        if !key.is_empty() && keys.contains(&key.str()) {
            key.duplicate();
        }
        keys.push(key.str());
    }
}

fn audit_annotation(annotation: Node<'_>, policy: &str, scope: &cel::Scope) {
    let (key, value) = (annotation.get("key"), annotation.get("valueExpression"));
    if key.need() {
        // The annotation is called after the policy and the key.
        let messages = names::qualified_name(&format!("{policy}/{}", key.str()));
        if !messages.is_empty() {
            key.invalid(messages.join("; "));
        }
    }
    cel::expression(value, scope);
}

fn mutations(spec: Node<'_>) {
    let list = spec.get("mutations");
    if list.is_empty() {
        list.required("mutations must contain at least one item");
    }
    spec.get("reinvocationPolicy").need_one_of(&["IfNeeded", "Never"]);
    for mutation in list.items() {
        let kind = mutation.get("patchType");
        kind.need_one_of(&["ApplyConfiguration", "JSONPatch"]);
        let (field, other) = match kind.str() {
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
            "JSONPatch" => ("jsonPatch", "applyConfiguration"),
            _ => continue,
        };
        if mutation.get(field).is_set() {
            mutation.get(field).get("expression").need();
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
        name.required("one of name or selector must be specified");
    }
    name.check_if_set(names::path_segment);
    labels::selector(selector);
    let action = reference.get("parameterNotFoundAction");
    if action.is_set() {
        action.one_of(&["Allow", "Deny"]);
    } else {
        action.required("");
    }
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
