//! The objects that a cluster has from its first second, and what to do about them at each start.
//!
//! Pure data and a pure rule: the server's start-up hook reads what exists, asks [`plan()`], and writes.

mod flow_control;
pub mod plan;
mod rbac;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::authorization::Rule;
pub use plan::{Plan, plan};

/// One object, and where it lives.
#[derive(Clone, Debug)]
pub struct Object {
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
    /// With `apiVersion` and `kind`.
    pub value: Value,
}

impl Object {
    fn new(
        group: &'static str,
        resource: &'static str,
        kind: &str,
        namespace: &str,
        name: &str,
        mut value: Value,
    ) -> Self {
        let version = "v1";
        value["kind"] = kind.into();
        value["apiVersion"] = if group.is_empty() { version.into() } else { format!("{group}/{version}").into() };
        value["metadata"]["name"] = name.into();
        if !namespace.is_empty() {
            value["metadata"]["namespace"] = namespace.into();
        }
        Object { group, version, resource, namespace: namespace.to_owned(), name: name.to_owned(), value }
    }

    /// The collection that the object is created in.
    pub fn path(&self) -> String {
        let root = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match self.namespace.as_str() {
            "" => format!("{root}/{}", self.resource),
            namespace => format!("{root}/namespaces/{namespace}/{}", self.resource),
        }
    }
}

/// Every object, in the order in which they can be created: namespaces first.
pub fn objects() -> impl Iterator<Item = Object> {
    namespaces().chain(rbac::objects()).chain(priority_classes()).chain(flow_control::objects())
}

/// The flow schemas and priority levels, mandatory and suggested.
pub fn flow_control() -> impl Iterator<Item = Object> {
    flow_control::objects()
}

/// The namespaces that cannot be deleted, and that of leases of nodes.
pub const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

fn namespaces() -> impl Iterator<Item = Object> {
    NAMESPACES.into_iter().map(|name| Object::new("", "namespaces", "Namespace", "", name, json!({})))
}

fn priority_classes() -> impl Iterator<Item = Object> {
    let classes = [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ];
    classes.into_iter().map(|(name, value, description)| {
        let object = json!({"value": value, "description": description});
        Object::new("scheduling.k8s.io", "priorityclasses", "PriorityClass", "", name, object)
    })
}

/// The APIServices of the groups that the server serves itself; a group that is not enabled is left out by the caller.
pub fn api_services() -> impl Iterator<Item = Object> {
    let list: Vec<Value> = parse(include_str!("../data/api-services.yaml"));
    list.into_iter().map(|spec| {
        let name = format!("{}.{}", crate::object::text(&spec, "/version"), crate::object::text(&spec, "/group"));
        let metadata = json!({"labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}});
        let object = json!({"metadata": metadata, "spec": spec});
        Object::new("apiregistration.k8s.io", "apiservices", "APIService", "", &name, object)
    })
}

/// What the server tells extension servers about authentication: the data of `kube-system/extension-apiserver-authentication`.
pub fn extension_authentication(authentication: &crate::AuthenticationOptions) -> std::io::Result<Object> {
    let mut data = serde_json::Map::new();
    if let Some(path) = &authentication.client_ca_file {
        data.insert("client-ca-file".into(), std::fs::read_to_string(path)?.into());
    }
    if let Some(path) = &authentication.requestheader_client_ca_file {
        let list = |names: &[String]| Value::from(Value::from(names.to_vec()).to_string());
        data.insert("requestheader-client-ca-file".into(), std::fs::read_to_string(path)?.into());
        data.insert("requestheader-allowed-names".into(), list(&authentication.requestheader_allowed_names));
        let prefixes = &authentication.requestheader_extra_headers_prefix;
        data.insert("requestheader-extra-headers-prefix".into(), list(prefixes));
        data.insert("requestheader-group-headers".into(), list(&authentication.requestheader_group_headers));
        data.insert("requestheader-username-headers".into(), list(&authentication.requestheader_username_headers));
        if !authentication.requestheader_uid_headers.is_empty() {
            data.insert("requestheader-uid-headers".into(), list(&authentication.requestheader_uid_headers));
        }
    }
    let name = "extension-apiserver-authentication";
    Ok(Object::new("", "configmaps", "ConfigMap", "kube-system", name, json!({"data": data})))
}

/// The rules of the ClusterRole `system:node`, which the Node authorizer applies to all nodes.
pub fn node_rules() -> Vec<Arc<Rule>> {
    let role = rbac::objects().find(|object| object.resource == "clusterroles" && object.name == "system:node");
    role.map(|role| Rule::all_of(&role.value)).unwrap_or_default()
}

/// Our own data is part of the program: a test reads all of it.
fn parse<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
    serde_saphyr::from_str(yaml).expect("the embedded data is well formed")
}

#[cfg(test)]
mod tests;
