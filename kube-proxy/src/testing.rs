//! Small objects for this crate's tests and benchmarks.

use crate::view::{Endpoint, Family, Node, Protocol, ServiceName, ServicePort, ServiceView, SliceView};
use std::collections::BTreeMap;

/// A node `n1` at 192.168.0.1.
pub fn node() -> Node {
    Node { name: "n1".into(), zone: None, ips: vec![[192, 168, 0, 1].into()], pod_cidrs: Vec::new() }
}

/// A Service `ns/name` with TCP port 80.
///
/// # Panics
/// If `ip` is not an address.
pub fn service(name: &str, ip: &str) -> ServiceView {
    ServiceView {
        name: ServiceName::new("ns", name),
        ports: vec![ServicePort { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: None }],
        cluster_ips: vec![ip.parse().expect("an address")],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        affinity: None,
        internal_local: false,
        external_local: false,
        health_check_node_port: None,
    }
}

/// A slice of `ns/service` with ready endpoints on node `n1`, port 8080; `address@node` puts one elsewhere.
///
/// # Panics
/// If an address is not one.
pub fn slice(service: &str, endpoints: &[&str]) -> SliceView {
    let endpoint = |text: &&str| {
        let (address, node) = text.split_once('@').unwrap_or((text, "n1"));
        Endpoint {
            address: address.parse().expect("an address"),
            ready: true,
            serving: true,
            terminating: false,
            node: Some(node.into()),
            zones: Vec::new(),
            nodes: Vec::new(),
        }
    };
    let endpoints: Vec<Endpoint> = endpoints.iter().map(endpoint).collect();
    SliceView {
        service: ServiceName::new("ns", service),
        family: endpoints.first().map_or(Family::V4, |e| Family::of(&e.address)),
        ports: [Protocol::Tcp, Protocol::Udp]
            .map(|p| ((String::new(), p), 8080))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        endpoints,
    }
}
