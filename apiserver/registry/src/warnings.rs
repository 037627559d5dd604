//! Warnings about objects that are valid and still not what their authors want: deprecated fields and labels, values that are
//! ignored, values that a later version will refuse.

mod pod;

use std::net::{IpAddr, Ipv6Addr};

use apimachinery::names;
use apimachinery::quantity::Quantity;
use ipnet::IpNet;
use serde_json::Value;

pub use pod::{pod, template};

use crate::node::Node;
use crate::rules::ip;

const STORAGE_CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const MOUNT_OPTIONS_ANNOTATION: &str = "volume.beta.kubernetes.io/mount-options";

/// Labels of nodes that have another name now.
const OLD_NODE_LABELS: [(&str, &str); 6] = [
    ("beta.kubernetes.io/arch", r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#),
    ("beta.kubernetes.io/os", r#"deprecated since v1.14; use "kubernetes.io/os" instead"#),
    (
        "failure-domain.beta.kubernetes.io/region",
        r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#,
    ),
    ("failure-domain.beta.kubernetes.io/zone", r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#),
    ("beta.kubernetes.io/instance-type", r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#),
    ("node-role.kubernetes.io/master", r#"use "node-role.kubernetes.io/control-plane" instead"#),
];

fn old_node_label(key: &str) -> Option<&'static str> {
    OLD_NODE_LABELS.iter().find(|(label, _)| *label == key).map(|(_, message)| *message)
}

/// The key of a node's label that something is selected by.
pub fn node_label(key: Node<'_>) {
    if let Some(message) = old_node_label(key.str()) {
        key.warn(format!("{} is {message}", key.str()));
    }
}

/// A map by labels of nodes.
pub fn node_selector(selector: Node<'_>) {
    for (key, entry) in selector.entries() {
        if let Some(message) = old_node_label(key) {
            entry.warn(message);
        }
    }
}

/// As [`node_selector`], where the map is named and not the key.
pub fn node_labels_of(map: Node<'_>) {
    for message in map.entries().filter_map(|(key, _)| old_node_label(key)) {
        map.warn(message);
    }
}

/// A term of a node selector.
pub fn node_term(term: Node<'_>) {
    term.get("matchExpressions").items().for_each(|expression| node_label(expression.get("key")));
}

/// A name that becomes part of names of pods and hosts.
pub fn host_name(root: Node<'_>, of: &str) {
    let name = root.get("metadata").get("name");
    let messages = names::dns1123_label(name.str());
    if !messages.is_empty() {
        name.warn(format!(
            "this is used in {of}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            messages.join(" ")
        ));
    }
}

/// A name that pods are called after.
pub fn name_of_pods(root: Node<'_>) {
    host_name(root, "Pod names and hostnames");
}

/// A number of bytes that is no whole number.
pub fn whole_bytes(quantity: Node<'_>) {
    let Ok(parsed) = quantity.str().parse::<Quantity>() else { return };
    if parsed.milli_value() % 1000 != 0 {
        quantity.warn(format!("fractional byte value {:?} is invalid, must be an integer", quantity.str()));
    }
}

/// What is asked of volumes.
pub fn claim_spec(spec: Node<'_>) {
    for part in ["requests", "limits"] {
        whole_bytes(spec.get("resources").get(part).entry("storage"));
    }
}

/// An address that is not written as it should be.
pub fn address(node: Node<'_>) {
    let Some(parsed) = ip::parse_legacy(node.str()) else { return };
    let text = node.str();
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => {}
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => {
            if v6.to_string() != text {
                node.warn(format!(
                    "IPv6 address {text:?} should be in RFC 5952 canonical format ({:?})",
                    v6.to_string()
                ));
            }
        }
        _ => node.warn(format!(
            "non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use {:?}",
            parsed.to_canonical().to_string()
        )),
    }
}

/// A network that is not written as it should be.
pub fn network(node: Node<'_>) {
    let text = node.str();
    let Some((address, length)) = ip::parse_cidr(text) else { return };
    let Some((written, written_length)) = text.split_once('/') else { return };
    let mapped = written.parse::<Ipv6Addr>().is_ok_and(|v6| v6.to_ipv4_mapped().is_some());
    let (address, length) =
        if mapped { (address.to_canonical(), length.saturating_sub(96)) } else { (address, length) };
    let Ok(net) = IpNet::new(address, length).map(|net| net.trunc()) else { return };
    let ambiguous = net.addr() != address;
    if ambiguous {
        let one = format!("{address}/{}", net.max_prefix_len());
        node.warn(format!(
            "CIDR value {text:?} is ambiguous in this context (should be {:?} or {one:?}?)",
            net.to_string()
        ));
    }
    if mapped || written.parse::<IpAddr>().is_err() || written_length != length.to_string() {
        node.warn(format!(
            "non-standard CIDR value {text:?} will be considered invalid in a future Kubernetes release: use {:?}",
            net.to_string()
        ));
    } else if !ambiguous && address.is_ipv6() && net.to_string() != text {
        node.warn(format!("IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({:?})", net.to_string()));
    }
}

/// The template of a workload. One that did not change was warned about before.
pub fn workload(root: Node<'_>, old: Option<&Value>) {
    if is_new_generation(root, old) {
        template(root.get("spec").get("template"));
    }
}

/// Whether an object is new, or what is wanted of it changed.
pub fn is_new_generation(root: Node<'_>, old: Option<&Value>) -> bool {
    let generation = |object: &Value| object["metadata"]["generation"].as_i64();
    old.is_none_or(|old| generation(old) != generation(root.value))
}

/// A Service.
pub fn service(root: Node<'_>) {
    const OLD_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let spec = root.get("spec");
    if root.get("metadata").get("annotations").value.get(OLD_HINTS).is_some() {
        root.remark(format!(
            "annotation {OLD_HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let headless = spec.get("clusterIP").str() == "None" && spec.get("type").str() != "ExternalName";
    if !matches!(spec.get("clusterIP").str(), "" | "None") {
        spec.get("clusterIPs").items().for_each(address);
    }
    let balancer = spec.get("loadBalancerIP");
    if headless {
        for (ignored, name) in [
            (!balancer.is_empty(), "loadBalancerIP"),
            (!spec.get("externalIPs").is_empty(), "externalIPs"),
            (spec.get("sessionAffinity").str() != "None", "SessionAffinity"),
        ] {
            if ignored {
                root.remark(format!("spec.{name} is ignored for headless services"));
            }
        }
    }
    if !spec.get("externalIPs").is_empty() {
        // KEP-5707
        spec.get("externalIPs").warn("deprecated since v1.36; use a Service of type LoadBalancer or a Gateway instead");
    }
    spec.get("externalIPs").items().for_each(address);
    address(balancer);
    spec.get("loadBalancerSourceRanges").items().for_each(network);
    let external = spec.get("type").str() == "ExternalName";
    if external && !spec.get("externalIPs").is_empty() {
        root.remark(r#"spec.externalIPs is ignored when spec.type is "ExternalName""#);
    }
    if !external && !spec.get("externalName").is_empty() {
        root.remark(r#"spec.externalName is ignored when spec.type is not "ExternalName""#);
    }
    let distribution = spec.get("trafficDistribution");
    if distribution.str() == "PreferClose" {
        distribution.warn(r#""PreferClose" is deprecated; use "PreferSameZone""#);
    }
}

/// A persistent volume.
pub fn volume(root: Node<'_>) {
    const NOT_FUNCTIONAL: [(&str, &str); 8] = [
        ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
        ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
        ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let spec = root.get("spec");
    storage_class_annotation(root);
    let options = root.get("metadata").get("annotations").entry(MOUNT_OPTIONS_ANNOTATION);
    if options.is_set() {
        options.warn(r#"deprecated since v1.31; use "mountOptions" attribute instead"#);
    }
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if policy.str() == "Recycle" {
        policy.warn(
            "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
        );
    }
    spec.get("nodeAffinity").get("required").get("nodeSelectorTerms").items().for_each(node_term);
    for (source, message) in NOT_FUNCTIONAL {
        if spec.get(source).is_set() {
            spec.get(source).warn(message);
        }
    }
}

/// A claim of a volume.
pub fn claim(root: Node<'_>) {
    storage_class_annotation(root);
    claim_spec(root.get("spec"));
}

fn storage_class_annotation(root: Node<'_>) {
    let annotation = root.get("metadata").get("annotations").entry(STORAGE_CLASS_ANNOTATION);
    if annotation.is_set() {
        annotation.warn(r#"deprecated since v1.8; use "storageClassName" attribute instead"#);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::Context;

    fn said(text: &str, rule: fn(Node<'_>)) -> Vec<String> {
        let value = json!({ "f": text });
        let context = Context::default();
        rule(context.root(&value).get("f"));
        context.into_warnings()
    }

    #[test]
    fn addresses_are_to_be_written_as_everybody_does() {
        for good in ["10.0.0.1", "2001:db8::1", "no address"] {
            assert!(said(good, address).is_empty(), "{good}");
        }
        assert_eq!(
            said("010.0.0.1", address),
            [
                r#"f: non-standard IP address "010.0.0.1" will be considered invalid in a future Kubernetes release: use "10.0.0.1""#
            ]
        );
        assert_eq!(
            said("::ffff:1.2.3.4", address),
            [
                r#"f: non-standard IP address "::ffff:1.2.3.4" will be considered invalid in a future Kubernetes release: use "1.2.3.4""#
            ]
        );
        assert_eq!(
            said("2001:DB8::1", address),
            [r#"f: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")"#]
        );
    }

    #[test]
    fn networks_are_to_be_written_as_everybody_does() {
        for good in ["10.0.0.0/8", "2001:db8::/32", "none"] {
            assert!(said(good, network).is_empty(), "{good}");
        }
        assert_eq!(
            said("10.1.2.3/8", network),
            [r#"f: CIDR value "10.1.2.3/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.1.2.3/32"?)"#]
        );
        assert_eq!(
            said("010.0.0.0/8", network),
            [
                r#"f: non-standard CIDR value "010.0.0.0/8" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8""#
            ]
        );
        assert_eq!(
            said("2001:DB8::/32", network),
            [r#"f: IPv6 CIDR value "2001:DB8::/32" should be in RFC 5952 canonical format ("2001:db8::/32")"#]
        );
    }

    #[test]
    fn what_a_service_ignores_is_named() {
        let said = |spec: Value| {
            let value = json!({ "spec": spec });
            let context = Context::default();
            service(context.root(&value));
            context.into_warnings()
        };
        assert!(
            said(json!({"type": "ClusterIP", "sessionAffinity": "None", "trafficDistribution": "PreferSameNode"}))
                .is_empty()
        );
        assert_eq!(
            said(
                json!({"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP", "externalName": "a.b"})
            ),
            [
                "spec.SessionAffinity is ignored for headless services",
                r#"spec.externalName is ignored when spec.type is not "ExternalName""#,
            ]
        );
        assert_eq!(
            said(json!({"type": "ClusterIP", "trafficDistribution": "PreferClose"})),
            [r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#]
        );
    }

    #[test]
    fn bytes_come_whole() {
        assert!(said("1Gi", whole_bytes).is_empty() && said("1500m", |_| {}).is_empty());
        assert_eq!(said("1500m", whole_bytes), [r#"f: fractional byte value "1500m" is invalid, must be an integer"#]);
    }
}
