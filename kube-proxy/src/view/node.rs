//! The node the proxy runs on.

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use std::net::IpAddr;

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub zone: Option<String>,
    /// The node's addresses, InternalIPs first.
    pub ips: Vec<IpAddr>,
    pub pod_cidrs: Vec<IpNet>,
}

impl Node {
    pub fn from_api(node: &core::Node) -> Self {
        let labels = node.metadata.labels.as_ref();
        let spec = node.spec.as_ref();
        let mut cidrs: Vec<IpNet> =
            spec.and_then(|s| s.pod_cidrs.as_ref()).into_iter().flatten().filter_map(|c| c.parse().ok()).collect();
        if cidrs.is_empty() {
            cidrs.extend(spec.and_then(|s| s.pod_cidr.as_ref()).and_then(|c| c.parse::<IpNet>().ok()));
        }
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            zone: labels.and_then(|l| l.get(ZONE_LABEL)).filter(|z| !z.is_empty()).cloned(),
            ips: addresses(node),
            pod_cidrs: cidrs,
        }
    }
}

fn addresses(node: &core::Node) -> Vec<IpAddr> {
    let all: Vec<_> = node.status.as_ref().and_then(|s| s.addresses.as_ref()).into_iter().flatten().collect();
    let mut ips = Vec::new();
    for kind in ["InternalIP", "ExternalIP"] {
        let of_kind = all.iter().filter(|a| a.type_ == kind);
        for ip in of_kind.filter_map(|a| a.address.parse().ok()) {
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
    }
    ips
}
