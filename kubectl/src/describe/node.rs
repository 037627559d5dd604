//! Nodes.

mod resources;

use serde_json::Value;

use super::containers::quantity;
use super::page::{Page, UNSET, listed};
use super::time::rfc1123;
use super::{Subject, Wanted};
use crate::fields::{self, Fields};

const ROLE: &str = "node-role.kubernetes.io/";

/// Writes a node.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (node, mut page) = (subject.object, Page::default());
    page.field(0, "Name", fields::name(node));
    let roles = roles(node);
    page.field(0, "Roles", listed(&roles, ","));
    page.tags(node);
    page.field(0, "CreationTimestamp", rfc1123(node.at("metadata.creationTimestamp")));
    taints(&mut page, node.list("spec.taints"));
    page.field(0, "Unschedulable", node.flag("spec.unschedulable"));
    lease(&mut page, subject);
    status(&mut page, node.at("status"));
    for (label, field) in [("PodCIDR", "spec.podCIDR"), ("ProviderID", "spec.providerID")] {
        if !node.text(field).is_empty() {
            page.field(0, label, node.text(field));
        }
        if label == "PodCIDR" && !node.list("spec.podCIDRs").is_empty() {
            page.field(0, "PodCIDRs", node.texts("spec.podCIDRs").join(","));
        }
    }
    match subject.tried(Wanted::PodsOnNode) {
        Ok(pods) => resources::describe(&mut page, node, pods, subject.now),
        Err(error) if error.is_forbidden() => page.field(0, "Pods", "not authorized"),
        Err(error) => page.field(0, "Pods", error),
    }
    page
}

fn roles(node: &Value) -> Vec<&str> {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in node.map("metadata.labels").into_iter().flatten() {
        if let Some(role) = key.strip_prefix(ROLE) {
            roles.push(role);
        } else if key == "kubernetes.io/role" {
            roles.extend(value.as_str());
        }
    }
    roles.retain(|role| !role.is_empty());
    roles.sort_unstable();
    roles.dedup();
    roles
}

fn taints(page: &mut Page, taints: &[Value]) {
    let mut sorted: Vec<&Value> = taints.iter().collect();
    sorted.sort_by_key(|taint| (taint.text("effect"), taint.text("key")));
    let line = |taint: &&Value| match (taint.text("value"), taint.text("effect")) {
        ("", "") => taint.text("key").to_owned(),
        ("", effect) => format!("{}:{effect}", taint.text("key")),
        (value, "") => format!("{}={value}:", taint.text("key")),
        (value, effect) => format!("{}={value}:{effect}", taint.text("key")),
    };
    page.block("Taints", &sorted.iter().map(line).collect::<Vec<_>>());
}

fn lease(page: &mut Page, subject: &Subject<'_>) {
    let lease = match subject.tried(Wanted::Lease) {
        Ok(found) => found.first().unwrap_or(&Value::Null),
        Err(error) => return page.field(0, "Lease", format_args!("Failed to get lease: {error}")),
    };
    let time = |path: &str| match lease.at(path) {
        Value::Null => UNSET.to_owned(),
        time => rfc1123(time),
    };
    page.line(0, "Lease:");
    page.field(1, "HolderIdentity", lease.at("spec.holderIdentity").as_str().unwrap_or(UNSET));
    page.field(1, "AcquireTime", time("spec.acquireTime"));
    page.field(1, "RenewTime", time("spec.renewTime"));
}

fn status(page: &mut Page, status: &Value) {
    let conditions = status.list("conditions");
    if !conditions.is_empty() {
        page.line(0, "Conditions:");
        page.line(1, "Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage");
        page.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
    }
    for condition in conditions {
        page.line(1, super::condition(condition, " \t", &["lastHeartbeatTime", "lastTransitionTime"]));
    }
    page.line(0, "Addresses:");
    for address in status.list("addresses") {
        page.field(1, address.text("type"), address.text("address"));
    }
    for (label, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        if let Some(amounts) = status.map(field) {
            page.line(0, format_args!("{label}:"));
            amounts.iter().for_each(|(name, amount)| page.field(1, name, quantity(amount)));
        }
    }
    page.line(0, "System Info:");
    for (label, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
        ("Kube-Proxy Version", "kubeProxyVersion"),
    ] {
        page.field(1, label, status.at("nodeInfo").text(field));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn roles_are_in_labels() {
        let node = json!({"metadata": {"labels": {"node-role.kubernetes.io/b": "", "kubernetes.io/role": "a", "node-role.kubernetes.io/": ""}}});
        assert_eq!(roles(&node), ["a", "b"]);
    }
}
