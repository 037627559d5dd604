//! Kinds with few rules: disruption budgets, leases, priority and runtime classes, certificate requests, reviews.

use apimachinery::names;
use serde_json::Value;

use crate::defaults::{object, omit_zero, set};
use crate::node::Node;
use crate::rules::{labels, meta, number, resources, tolerations};
use crate::strategy::Kind;
use crate::warnings;

pub const DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    resource: "poddisruptionbudgets",
    unconditional_update: false,
    name: names::path_segment,
    validate: |root| disruption_budget(root.get("spec")),
    status: |root, _old| {
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            root.get("status").get(field).non_negative();
        }
    },
    generation: true,
    ..Kind::PLAIN
};

pub const COMPONENT_STATUS: Kind = Kind {
    resource: "componentstatuses",
    deprecation: Some("v1 ComponentStatus is deprecated in v1.19+"),
    ..Kind::PLAIN
};

pub const LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    resource: "leases",
    validate: |root| lease(root.get("spec")),
    create_on_update: true,
    unconditional_update: false,
    ..Kind::PLAIN
};

pub const PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    resource: "priorityclasses",
    default: |class| {
        set(class, "preemptionPolicy", "PreemptLowerPriority");
        omit_zero(class, &["globalDefault"]);
    },
    validate: priority_class,
    transition: |root, old| {
        let value = root.get("value");
        if value.int() != old["value"].as_i64().unwrap_or(0) {
            value.forbidden("may not be changed in an update.");
        }
        root.get("preemptionPolicy").immutable(&old["preemptionPolicy"]);
    },
    // It is given once and never counted up.
    create: |class| class["metadata"]["generation"] = 1.into(),
    ..Kind::PLAIN
};

pub const RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    resource: "runtimeclasses",
    warnings: |root, _| warnings::node_labels_of(root.get("scheduling").get("nodeSelector")),
    unconditional_update: false,
    validate: runtime_class,
    transition: |root, old| root.get("handler").immutable(&old["handler"]),
    ..Kind::PLAIN
};

pub const CERTIFICATE_REQUEST: Kind = Kind {
    group: "certificates.k8s.io",
    resource: "certificatesigningrequests",
    name: names::path_segment,
    default: |request| {
        let spec = object(request, "spec");
        if spec["usages"].as_array().is_none_or(Vec::is_empty) {
            spec["usages"] = serde_json::json!(["digital signature", "key encipherment"]);
        }
    },
    validate: |root| certificate_request(root.get("spec")),
    transition: |root, old| {
        if root.get("spec").value != &old["spec"] {
            root.get("spec").invalid("field is immutable");
        }
    },
    status: |root, _old| conditions(root.get("status").get("conditions")),
    fields: |request| vec![("spec.signerName", request["spec"]["signerName"].as_str().unwrap_or("").to_owned())],
    ..Kind::PLAIN
};

const REVIEW: Kind = Kind { has_metadata: false, ..Kind::PLAIN };
const AUTHORIZATION: Kind = Kind { group: "authorization.k8s.io", ..REVIEW };

pub const SUBJECT_ACCESS_REVIEW: Kind =
    Kind { resource: "subjectaccessreviews", validate: |root| subject_review(root.get("spec")), ..AUTHORIZATION };
pub const SELF_SUBJECT_ACCESS_REVIEW: Kind =
    Kind { resource: "selfsubjectaccessreviews", validate: |root| attributes(root.get("spec")), ..AUTHORIZATION };
pub const LOCAL_SUBJECT_ACCESS_REVIEW: Kind =
    Kind { resource: "localsubjectaccessreviews", validate: local_review, ..AUTHORIZATION };
pub const SELF_SUBJECT_RULES_REVIEW: Kind = Kind { resource: "selfsubjectrulesreviews", ..AUTHORIZATION };
pub const TOKEN_REVIEW: Kind = Kind { group: "authentication.k8s.io", resource: "tokenreviews", ..REVIEW };
pub const SELF_SUBJECT_REVIEW: Kind = Kind { group: "authentication.k8s.io", resource: "selfsubjectreviews", ..REVIEW };

fn disruption_budget(spec: Node<'_>) {
    let (min, max) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if min.is_set() && max.is_set() {
        spec.invalid("minAvailable and maxUnavailable cannot be both set");
    }
    for bound in [min, max] {
        if bound.is_set() {
            number::int_or_percent(bound);
            number::at_most_all(bound);
        }
    }
    labels::selector(spec.get("selector"));
    spec.get("unhealthyPodEvictionPolicy").one_of_if_set(&["AlwaysAllow", "IfHealthyBudget"]);
}

fn lease(spec: Node<'_>) {
    spec.get("leaseDurationSeconds").positive_if_set();
    spec.get("leaseTransitions").non_negative();
    let (strategy, preferred) = (spec.get("strategy"), spec.get("preferredHolder"));
    if strategy.is_set() {
        strategy.check(names::qualified_name);
    }
    if preferred.is_set() && !preferred.is_empty() && strategy.is_empty() {
        preferred.forbidden("may only be specified when `strategy` is defined");
    }
}

/// User-defined classes stay below those of the system.
fn priority_class(root: Node<'_>) {
    const USER_MAX: i64 = 1_000_000_000;
    let (name, value) = (root.get("metadata").get("name").str(), root.get("value"));
    if name.starts_with("system-") {
        let known = match name {
            "system-cluster-critical" => value.int() == 2_000_000_000,
            "system-node-critical" => value.int() == 2_000_001_000,
            _ => false,
        };
        if !known {
            root.get("metadata")
                .get("name")
                .forbidden("priority class names with 'system-' prefix are reserved for system use only");
        }
    } else if value.int() > USER_MAX {
        value.forbidden(&format!("maximum allowed value of a user defined priority is {USER_MAX}"));
    }
    let policy = root.get("preemptionPolicy");
    if policy.is_set() {
        policy.need_one_of(&["Never", "PreemptLowerPriority"]);
    }
}

fn runtime_class(root: Node<'_>) {
    root.get("handler").need_check(names::dns1123_label);
    let overhead = root.get("overhead");
    resources::overhead(overhead.with(overhead.get("podFixed").value));
    let scheduling = root.get("scheduling");
    meta::labels(scheduling.get("nodeSelector"));
    let list = scheduling.get("tolerations");
    tolerations::tolerations(list);
    list.unique();
}

fn certificate_request(spec: Node<'_>) {
    const USAGES: [&str; 23] = [
        "signing",
        "digital signature",
        "content commitment",
        "key encipherment",
        "key agreement",
        "data encipherment",
        "cert sign",
        "crl sign",
        "encipher only",
        "decipher only",
        "any",
        "server auth",
        "client auth",
        "code signing",
        "email protection",
        "s/mime",
        "ipsec end system",
        "ipsec tunnel",
        "ipsec user",
        "timestamping",
        "ocsp signing",
        "microsoft sgc",
        "netscape sgc",
    ];
    let (request, usages, signer) = (spec.get("request"), spec.get("usages"), spec.get("signerName"));
    if request.is_empty() {
        request.required("");
    } else if !is_certificate_request(request.str()) {
        request.invalid("must be a PEM block of type CERTIFICATE REQUEST");
    }
    if usages.is_empty() {
        usages.required("usages must contain at least one value");
    }
    for usage in usages.items() {
        usage.one_of(&USAGES);
    }
    usages.unique();
    signer_name(signer);
    let seconds = spec.get("expirationSeconds");
    if seconds.is_set() && seconds.int() < 600 {
        seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)");
    }
}

fn is_certificate_request(base64: &str) -> bool {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    text.starts_with("-----BEGIN CERTIFICATE REQUEST-----") && text.ends_with("-----END CERTIFICATE REQUEST-----")
}

/// A domain, a slash and a path.
fn signer_name(name: Node<'_>) {
    if !name.need() {
        return;
    }
    let Some((domain, path)) = name.str().split_once('/') else {
        name.invalid("must be a fully qualified domain and path of the form 'example.com/signer-name'");
        return;
    };
    for message in names::dns1123_subdomain(domain) {
        name.invalid(message);
    }
    if !domain.contains('.') {
        name.invalid("should be a domain with at least two segments separated by dots");
    }
    if path.is_empty() {
        name.invalid("validation should be a non-empty path");
    }
    for message in path.split('.').flat_map(names::dns1123_subdomain) {
        name.invalid(message);
    }
}

/// Conditions of a certificate signing request: each type once, and not both approved and denied.
fn conditions(list: Node<'_>) {
    let mut seen: Vec<&str> = Vec::new();
    for condition in list.items() {
        let (kind, status) = (condition.get("type"), condition.get("status"));
        kind.need();
        if matches!(kind.str(), "Approved" | "Denied" | "Failed") && status.str() != "True" {
            status.need_one_of(&["True"]);
        } else {
            status.need_one_of(&["True", "False", "Unknown"]);
        }
        if seen.contains(&kind.str()) {
            condition.get("type").duplicate();
        }
        seen.push(kind.str());
    }
    if seen.contains(&"Approved") && seen.contains(&"Denied") {
        list.invalid("Approved and Denied conditions are mutually exclusive");
    }
}

/// `certificatesigningrequests/approval`: approval and denial can be added, never taken back.
pub fn validate_approval(request: &Value, old: &Value) -> apimachinery::field::ErrorList {
    crate::node::collect(request, |root| {
        meta::validate_update(root.get("metadata"), &old["metadata"]);
        let list = root.get("status").get("conditions");
        conditions(list);
        for kind in ["Approved", "Denied", "Failed"] {
            let has = |l: &Value| l.as_array().into_iter().flatten().any(|c| c["type"] == kind);
            if has(&old["status"]["conditions"]) && !has(list.value) {
                list.forbidden(&format!("updates may not remove a condition of type {kind:?}"));
            }
        }
    })
}

fn attributes(spec: Node<'_>) {
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    if resource.is_set() && path.is_set() {
        path.invalid("cannot be specified in combination with resourceAttributes");
    }
    if !resource.is_set() && !path.is_set() {
        resource.invalid("exactly one of nonResourceAttributes or resourceAttributes must be specified");
    }
    for field in ["fieldSelector", "labelSelector"] {
        let selector = resource.get(field);
        if selector.is_set() && !selector.get("rawSelector").is_empty() && !selector.get("requirements").is_empty() {
            selector.get("rawSelector").invalid("may not specify both requirements and rawSelector");
        }
    }
}

fn subject_review(spec: Node<'_>) {
    attributes(spec);
    if spec.get("user").is_empty() && spec.get("groups").is_empty() {
        spec.get("user").invalid_value("", "at least one of user or group must be specified");
    }
}

fn local_review(root: Node<'_>) {
    let spec = root.get("spec");
    subject_review(spec);
    let metadata = root.get("metadata");
    let others = metadata.value.as_object().into_iter().flatten();
    let bare = others
        .into_iter()
        .all(|(k, v)| matches!(k.as_str(), "namespace" | "managedFields" | "uid" | "creationTimestamp") || v.is_null());
    if !bare {
        metadata.invalid("must be empty except for namespace");
    }
    let resource = spec.get("resourceAttributes");
    if resource.is_set() && resource.get("namespace").str() != metadata.get("namespace").str() {
        resource.get("namespace").invalid_value(resource.get("namespace").str(), "must match metadata.namespace");
    }
    if spec.get("nonResourceAttributes").is_set() {
        spec.get("nonResourceAttributes").invalid("disallowed on this kind of request");
    }
}
