//! Nodes.

use serde_json::Value;

use crate::defaults::omit_zero;
use crate::node::Node;
use crate::rules::{ip, resources, tolerations};
use crate::strategy::Kind;

pub const KIND: Kind = Kind {
    group: "",
    resource: "nodes",
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
    status: |root, _old| {
        for field in ["capacity", "allocatable"] {
            resources::non_negative(root.get("status").get(field));
        }
    },
    keeps_status: true,
    fields: |node| vec![("spec.unschedulable", node["spec"]["unschedulable"].as_bool().unwrap_or(false).to_string())],
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
    // Kubernetes reports taints below `metadata`.
    tolerations::taints(root.get("metadata").get("taints").with(spec.get("taints").value));
    let cidrs = spec.get("podCIDRs");
    for cidr in cidrs.items() {
        ip::cidr(cidr);
    }
    let parsed: Vec<_> = cidrs.items().filter_map(|c| ip::parse_cidr(c.str())).collect();
    let same_family = parsed.len() == 2 && parsed[0].0.is_ipv4() == parsed[1].0.is_ipv4();
    if cidrs.len() > 2 || same_family {
        cidrs.invalid("may specify no more than one CIDR for each IP family");
    }
    for field in ["capacity", "allocatable"] {
        resources::non_negative(root.get("status").get(field));
    }
}

/// What names the node to the outside is set once.
fn transition(root: Node<'_>, old: &Value) {
    let (spec, old) = (root.get("spec"), &old["spec"]);
    if old["podCIDRs"].as_array().is_some_and(|c| !c.is_empty()) && spec.value["podCIDRs"] != old["podCIDRs"] {
        spec.get("podCIDRs").forbidden("node updates may not change podCIDR except from \"\" to valid");
    }
    let before = old["providerID"].as_str().unwrap_or("");
    if !before.is_empty() && spec.get("providerID").str() != before {
        spec.get("providerID").forbidden("node updates may not change providerID except from \"\" to valid");
    }
}
