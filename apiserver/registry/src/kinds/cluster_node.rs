//! Nodes.

use serde_json::Value;

use crate::defaults::omit_zero;
use crate::node::Node;
use crate::rules::{ip, resources, tolerations};
use crate::strategy::{Kind, Looks};
use crate::warnings;

pub const KIND: Kind = Kind {
    group: "",
    resource: "nodes",
    warnings: |root, _| {
        let spec = root.get("spec");
        if spec.get("configSource").is_set() {
            spec.get("configSource").warn("deprecated in v1.22, support removal is planned in v1.23");
        }
        if !spec.get("externalID").is_empty() {
            spec.get("externalID").warn("this field is deprecated, and is unused by Kubernetes");
        }
        spec.get("podCIDRs").items().for_each(warnings::network);
        for address in root.get("status").get("addresses").items() {
            if matches!(address.get("type").str(), "InternalIP" | "ExternalIP") {
                warnings::address(address.get("address"));
            }
        }
    },
    default: |node| {
        normalize_pod_cidrs(node);
        if let Some(spec) = node.get_mut("spec") {
            omit_zero(spec, &["unschedulable"]);
        }
    },
    create: |node| {
        // A node may bring its configuration status only from its kubelet.
        if let Some(status) = node["status"].as_object_mut() {
            status.remove("config");
        }
    },
    validate,
    transition,
    status: |root, old| {
        validate(root);
        transition(root, old);
    },
    keeps_status: true,
    fields: |node| vec![("spec.unschedulable", node["spec"]["unschedulable"].as_bool().unwrap_or(false).to_string())],
    looks: Looks::AS_NEW,
    ..Kind::PLAIN
};

/// `podCIDR` is the first of `podCIDRs`; where they disagree, the old field is meant.
fn normalize_pod_cidrs(node: &mut Value) {
    let Some(spec) = node.get_mut("spec").filter(|s| s.is_object()) else { return };
    let first = spec["podCIDR"].as_str().unwrap_or("").to_owned();
    let listed = spec["podCIDRs"][0].as_str().unwrap_or("").to_owned();
    if !first.is_empty() && first != listed {
        spec["podCIDRs"] = serde_json::json!([first]);
    } else if first.is_empty() && !listed.is_empty() {
        spec["podCIDR"] = listed.into();
    }
}

fn validate(root: Node<'_>) {
    let spec = root.get("spec");
    taints(root);
    amounts(root);
    let cidrs = spec.get("podCIDRs");
    for cidr in cidrs.items() {
        ip::cidr(cidr);
    }
    if cidrs.len() < 2 {
        return;
    }
    let parsed: Vec<_> = cidrs.items().filter_map(|c| ip::parse_cidr(c.str())).collect();
    let dual = parsed.iter().any(|c| c.0.is_ipv4()) && parsed.iter().any(|c| c.0.is_ipv6());
    if cidrs.len() > 2 || !dual {
        cidrs.invalid("may specify no more than one CIDR for each IP family");
    }
}

/// Kubernetes reports taints below `metadata`.
fn taints(root: Node<'_>) {
    tolerations::taints(root.get("metadata").get("taints").with(root.get("spec").get("taints").value));
}

/// What a node has of resources is reported by their names, without brackets.
fn amounts(root: Node<'_>) {
    for list in ["capacity", "allocatable"].map(|field| root.get("status").get(field)) {
        for (resource, _) in list.entries() {
            resources::quantity(list.child(resource), resource);
        }
    }
}

/// What names the node to the outside is set once. Taints and resources are looked at once more.
fn transition(root: Node<'_>, old: &Value) {
    let (spec, old) = (root.get("spec"), &old["spec"]);
    taints(root);
    amounts(root);
    root.get("status").get("addresses").unique();
    let (cidrs, before) = (spec.get("podCIDRs"), old["podCIDRs"].as_array().map_or(&[][..], Vec::as_slice));
    let changed = if before.len() == cidrs.len() {
        cidrs.items().zip(before).filter(|(new, old)| new.value != *old).count()
    } else {
        usize::from(!before.is_empty())
    };
    for _ in 0..changed {
        cidrs.forbidden("node updates may not change podCIDR except from \"\" to valid");
    }
    let before = old["providerID"].as_str().unwrap_or("");
    if !before.is_empty() && spec.get("providerID").str() != before {
        spec.get("providerID").forbidden("node updates may not change providerID except from \"\" to valid");
    }
    if spec.get("externalID").str() != old["externalID"].as_str().unwrap_or("") {
        spec.get("externalID").forbidden("may not be updated");
    }
}
