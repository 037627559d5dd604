//! Roles and bindings.

use apimachinery::names;
use serde_json::Value;

use crate::defaults::{each, object, set_empty};
use crate::node::Node;
use crate::rules::labels;
use crate::strategy::{Kind, Looks};

const GROUP: &str = "rbac.authorization.k8s.io";
const TEMPLATE: Kind = Kind { group: GROUP, name: names::path_segment, looks: Looks::AS_NEW, ..Kind::PLAIN };

pub const ROLE: Kind = Kind { resource: "roles", validate: |root| rules(root.get("rules"), true), ..TEMPLATE };
pub const CLUSTER_ROLE: Kind = Kind { resource: "clusterroles", validate: cluster_role, ..TEMPLATE };
pub const ROLE_BINDING: Kind = Kind {
    resource: "rolebindings",
    default: default_binding,
    validate: |root| binding(root, &["ClusterRole", "Role"]),
    transition: role_is_fixed,
    ..TEMPLATE
};
pub const CLUSTER_ROLE_BINDING: Kind = Kind {
    resource: "clusterrolebindings",
    default: default_binding,
    validate: |root| binding(root, &["ClusterRole"]),
    transition: role_is_fixed,
    ..TEMPLATE
};

fn rules(list: Node<'_>, namespaced: bool) {
    for rule in list.items() {
        self::rule(rule, namespaced);
    }
}

/// A rule gives verbs on resources, or on paths.
fn rule(rule: Node<'_>, namespaced: bool) {
    let (verbs, urls) = (rule.get("verbs"), rule.get("nonResourceURLs"));
    if verbs.is_empty() {
        verbs.required("verbs must contain at least one value");
    }
    if !urls.is_empty() {
        if namespaced {
            urls.invalid("namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|f| !rule.get(f).is_empty()) {
            urls.invalid("rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    for field in ["apiGroups", "resources"] {
        if rule.get(field).is_empty() {
            rule.get(field).required("resource rules must supply at least one value");
        }
    }
}

fn cluster_role(root: Node<'_>) {
    rules(root.get("rules"), false);
    let aggregation = root.get("aggregationRule");
    if !aggregation.is_set() {
        return;
    }
    let selectors = aggregation.get("clusterRoleSelectors");
    if selectors.is_empty() {
        selectors.required("at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for selector in selectors.items() {
        labels::selector(selector);
        if !labels::is_valid(selector.value) {
            selector.invalid("invalid label selector");
        }
    }
}

fn default_binding(binding: &mut Value) {
    set_empty(object(binding, "roleRef"), "apiGroup", GROUP);
    each(binding, "subjects", |subject| {
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
            set_empty(subject, "apiGroup", GROUP);
        }
    });
}

fn binding(root: Node<'_>, kinds: &[&str]) {
    let role = root.get("roleRef");
    role.get("apiGroup").one_of(&[GROUP]);
    role.get("kind").one_of(kinds);
    if role.get("name").need() {
        role.get("name").check(names::path_segment);
    }
    for subject in root.get("subjects").items() {
        self::subject(subject, kinds.len() > 1);
    }
}

fn subject(subject: Node<'_>, namespaced: bool) {
    let (name, group) = (subject.get("name"), subject.get("apiGroup"));
    name.need();
    match subject.get("kind").str() {
        "ServiceAccount" => {
            name.check_if_set(names::dns1123_subdomain);
            if !group.is_empty() {
                group.not_supported(&[""]);
            }
            if !namespaced && subject.get("namespace").is_empty() {
                subject.get("namespace").required("");
            }
        }
        "User" | "Group" => group.one_of(&[GROUP]),
        _ => subject.get("kind").not_supported(&["ServiceAccount", "User", "Group"]),
    }
}

fn role_is_fixed(root: Node<'_>, old: &Value) {
    if root.get("roleRef").value != &old["roleRef"] {
        root.get("roleRef").invalid("cannot change roleRef");
    }
}
