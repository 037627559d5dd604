//! The Node authorizer: a kubelet may read what the pods on its node need, and change what is its own.
//!
//! Kubernetes documentation, "Using Node Authorization".

mod graph;
pub mod references;

use std::sync::Arc;

use apimachinery::fields::Selector;
use apiserver_storage::reader::{Change, GroupResource, Observer};
use parking_lot::RwLock;

use super::{Authorizer, Rule, UserRules};
use crate::user::{Attributes, Decision, UserInfo};
use graph::Graph;
use references::Kind;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const STORAGE: &str = "storage.k8s.io";
const RESOURCE: &str = "resource.k8s.io";

/// What the graph is made of.
const OBSERVED: [GroupResource<'static>; 4] = [
    GroupResource::new("", "pods"),
    GroupResource::new("", "persistentvolumes"),
    GroupResource::new(STORAGE, "volumeattachments"),
    GroupResource::new(RESOURCE, "resourceslices"),
];

/// Decides for users in `system:nodes` named `system:node:<name>`; has no opinion on others.
pub struct Node {
    graph: RwLock<Graph>,
    /// What all nodes may do: the rules of the ClusterRole `system:node`.
    common: Vec<Arc<Rule>>,
}

impl Node {
    pub fn new(common: Vec<Arc<Rule>>) -> Self {
        Node { graph: RwLock::default(), common }
    }

    fn decide(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        match (a.group, a.resource) {
            ("", "secrets") => self.read(node, Kind::Secret, a),
            ("", "configmaps") => self.read(node, Kind::ConfigMap, a),
            ("", "persistentvolumeclaims") if a.subresource == "status" => {
                verbs(a, &["update", "patch"])?;
                self.reaches(node, Kind::Claim, a)
            }
            ("", "persistentvolumeclaims") => self.get(node, Kind::Claim, a),
            ("", "persistentvolumes") => self.get(node, Kind::Volume, a),
            (RESOURCE, "resourceclaims") => self.get(node, Kind::ResourceClaim, a),
            (STORAGE, "volumeattachments") => self.get(node, Kind::Attachment, a),
            ("", "serviceaccounts") => self.service_account(node, a),
            ("coordination.k8s.io", "leases") => lease(node, a),
            (STORAGE, "csinodes") => own(node, a, &["get", "create", "update", "patch", "delete"], "CSINode"),
            (RESOURCE, "resourceslices") => self.resource_slice(node, a),
            ("", "nodes") => own_node(node, a),
            ("", "pods") => self.pod(node, a),
            _ => self.by_common_rules(a),
        }
    }

    fn by_common_rules(&self, a: &Attributes<'_>) -> Result<(), String> {
        if self.common.iter().any(|rule| rule.allows(a)) { Ok(()) } else { Err(String::new()) }
    }

    /// Reads of one named object: get, or list and watch with `metadata.name` in the field selector.
    fn read(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Result<(), String> {
        whole(a)?;
        if !a.is_read_only() {
            return Err("can only read resources of this type".into());
        }
        if a.name.is_empty() {
            return Err("No Object name found".into());
        }
        self.reaches(node, kind, a)
    }

    fn get(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Result<(), String> {
        whole(a)?;
        if a.verb != "get" {
            return Err("can only get individual resources of this type".into());
        }
        self.reaches(node, kind, a)
    }

    fn reaches(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Result<(), String> {
        if self.graph.read().reaches(node, kind, a.namespace, a.name) {
            return Ok(());
        }
        Err(format!("no relationship found between node '{node}' and this object"))
    }

    fn service_account(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        match (a.verb, a.subresource) {
            ("get", "") | ("create", "token") => self.reaches(node, Kind::ServiceAccount, a),
            _ => Err("can only get service accounts and create tokens for individual service accounts".into()),
        }
    }

    fn resource_slice(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        whole(a)?;
        match a.verb {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.reaches(node, Kind::ResourceSlice, a),
            "list" | "watch" | "deletecollection" if requires(a.field_selector, "spec.nodeName", node) => Ok(()),
            _ => Err("can only access node-local resource slices, with spec.nodeName in the field selector".into()),
        }
    }

    fn pod(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        match (a.subresource, a.verb) {
            ("", "get") => self.reaches(node, Kind::Pod, a),
            ("", "list" | "watch") if requires(a.field_selector, "spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") if !a.name.is_empty() => self.reaches(node, Kind::Pod, a),
            ("", "list" | "watch") => Err("can only list/watch pods with spec.nodeName field selector".into()),
            // Which pods these may be is for the admission plugin NodeRestriction to say.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }
}

impl Authorizer for Node {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let Some(node) = user.node_name() else { return Decision::no_opinion("") };
        let decided = match attributes.is_resource_request {
            true => self.decide(node, attributes),
            false => self.by_common_rules(attributes),
        };
        match decided {
            Ok(()) => Decision::allow(""),
            Err(reason) => Decision::no_opinion(reason),
        }
    }

    fn rules(&self, user: &UserInfo, _: &str) -> UserRules {
        let is_node = user.node_name().is_some();
        let errors = is_node.then(|| "node authorizer does not support user rule resolution".to_owned());
        UserRules { incomplete: is_node, errors: errors.into_iter().collect(), ..UserRules::default() }
    }
}

impl Observer for Node {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        &OBSERVED
    }

    fn members(&self, resource: GroupResource<'_>) -> &'static [&'static [&'static str]] {
        match resource.resource {
            "pods" => references::MEMBERS_OF_POD,
            _ => &[&["spec"]],
        }
    }

    fn observe(&self, change: &Change<'_>) {
        self.graph.write().apply(change);
    }
}

fn whole(a: &Attributes<'_>) -> Result<(), String> {
    if a.subresource.is_empty() { Ok(()) } else { Err("cannot get subresource".into()) }
}

fn verbs(a: &Attributes<'_>, allowed: &[&str]) -> Result<(), String> {
    if allowed.contains(&a.verb) { Ok(()) } else { Err(format!("can only {} this subresource", allowed.join(", "))) }
}

/// A cluster-scoped object with the node's own name; the name is not known yet where it is created.
fn own(node: &str, a: &Attributes<'_>, allowed: &[&str], what: &str) -> Result<(), String> {
    whole(a)?;
    if !allowed.contains(&a.verb) {
        return Err(format!("can only get, create, update, patch, or delete a {what}"));
    }
    if a.verb != "create" && a.name != node {
        return Err(format!("can only access {what} with the same name as the requesting node"));
    }
    Ok(())
}

fn lease(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    if a.namespace != LEASE_NAMESPACE {
        return Err(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    own(node, a, &["get", "create", "update", "patch", "delete"], "node lease")
}

fn own_node(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    match (a.subresource, a.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") if a.name == node => Ok(()),
        ("", "get" | "list" | "watch") if a.name.is_empty() => {
            Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            Err(format!("node '{node}' cannot read '{}', only its own Node object", a.name))
        }
        _ => Err(String::new()),
    }
}

/// Whether the selector demands exactly this value of the field.
fn requires(selector: &str, field: &str, value: &str) -> bool {
    Selector::parse(selector).is_ok_and(|selector| selector.requires_exact_match(field) == Some(value))
}

#[cfg(test)]
mod tests;
