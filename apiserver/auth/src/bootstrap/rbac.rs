//! Roles and bindings, from their compact form.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Object, parse};
use crate::authorization::rbac::GROUP;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Role {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    rules: Vec<Value>,
    #[serde(default)]
    aggregate_to: Vec<String>,
    #[serde(default)]
    aggregate: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binding {
    name: String,
    #[serde(default)]
    namespace: String,
    /// The role's name; that of the binding if it is not given.
    role: Option<String>,
    subjects: Vec<Subject>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    kind: String,
    name: String,
}

pub(super) fn objects() -> impl Iterator<Item = Object> {
    let cluster_roles: Vec<Role> = parse(include_str!("../../data/cluster-roles.yaml"));
    let roles: Vec<Role> = parse(include_str!("../../data/roles.yaml"));
    let bindings: Vec<Binding> = parse(include_str!("../../data/bindings.yaml"));
    cluster_roles.into_iter().chain(roles).map(role).chain(bindings.into_iter().map(binding))
}

fn metadata() -> Value {
    json!({
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {super::plan::AUTO_UPDATE: "true"},
    })
}

fn aggregation_label(target: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{target}")
}

fn role(role: Role) -> Object {
    let mut object = json!({"metadata": metadata()});
    for target in &role.aggregate_to {
        object["metadata"]["labels"][aggregation_label(target)] = "true".into();
    }
    if role.aggregate {
        let selector = json!({"matchLabels": {aggregation_label(&role.name): "true"}});
        object["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
    } else {
        object["rules"] = role.rules.into();
    }
    let (resource, kind) = if role.namespace.is_empty() { ("clusterroles", "ClusterRole") } else { ("roles", "Role") };
    Object::new(GROUP, resource, kind, &role.namespace, &role.name, object)
}

fn binding(binding: Binding) -> Object {
    let (resource, kind, role_kind) = match binding.namespace.as_str() {
        "" => ("clusterrolebindings", "ClusterRoleBinding", "ClusterRole"),
        _ => ("rolebindings", "RoleBinding", "Role"),
    };
    let role = binding.role.as_ref().unwrap_or(&binding.name);
    let mut object = json!({
        "metadata": metadata(),
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
    });
    if !binding.subjects.is_empty() {
        object["subjects"] = binding.subjects.iter().map(subject).collect();
    }
    Object::new(GROUP, resource, kind, &binding.namespace, &binding.name, object)
}

fn subject(subject: &Subject) -> Value {
    match subject.kind.as_str() {
        "ServiceAccount" => json!({"kind": subject.kind, "name": subject.name, "namespace": "kube-system"}),
        _ => json!({"kind": subject.kind, "apiGroup": GROUP, "name": subject.name}),
    }
}
