//! Endpoints and endpoint slices.

use std::net::IpAddr;

use apimachinery::names;

use crate::defaults::{each, set, set_empty};
use crate::node::Node;
use crate::rules::{ip, meta, probe};
use crate::strategy::{Kind, Looks};
use crate::warnings;

pub const ENDPOINTS: Kind = Kind {
    group: "",
    resource: "endpoints",
    default: |endpoints| each(endpoints, "subsets", |s| each(s, "ports", |p| set_empty(p, "protocol", "TCP"))),
    validate: |root| root.get("subsets").items().for_each(subset),
    warnings: |root, _| {
        for subset in root.get("subsets").items() {
            for list in ["addresses", "notReadyAddresses"] {
                subset.get(list).items().for_each(|address| warnings::address(address.get("ip")));
            }
        }
    },
    deprecation: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
    create_on_update: true,
    looks: Looks::AS_NEW,
    ..Kind::PLAIN
};

pub const ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    resource: "endpointslices",
    default: |slice| {
        each(slice, "ports", |port| {
            set(port, "name", "");
            set(port, "protocol", "TCP");
        });
    },
    validate: slice,
    warnings: |root, _| {
        if root.get("addressType").str() == "FQDN" {
            root.get("addressType").warn("FQDN endpoints are deprecated");
            return;
        }
        for endpoint in root.get("endpoints").items() {
            endpoint.get("addresses").items().for_each(warnings::address);
        }
    },
    transition: |root, old| root.get("addressType").immutable(&old["addressType"]),
    generation: true,
    generation_of_labels: true,
    ..Kind::PLAIN
};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;

fn subset(subset: Node<'_>) {
    let (ready, unready, ports) = (subset.get("addresses"), subset.get("notReadyAddresses"), subset.get("ports"));
    if ready.is_empty() && unready.is_empty() {
        subset.required("must specify `addresses` or `notReadyAddresses`");
    }
    for address in ready.items().chain(unready.items()) {
        self::address(address);
    }
    for port in ports.items() {
        if ports.len() > 1 && port.get("name").is_empty() {
            port.get("name").required("");
        } else {
            port.get("name").check_if_set(names::dns1123_label);
        }
        probe::port_number(port.get("port"));
        port.get("protocol").need_one_of(&PROTOCOLS);
        if port.get("appProtocol").is_set() {
            port.get("appProtocol").check(names::qualified_name);
        }
    }
}

fn address(address: Node<'_>) {
    let at = address.get("ip");
    // The address is looked at twice: as an address, and as one that can be an endpoint.
    if ip::address(at).is_some() {
        ip::not_special(at);
    } else {
        at.invalid("must be a valid IP address");
    }
    address.get("hostname").check_if_set(names::dns1123_label);
    if address.get("nodeName").is_set() {
        address.get("nodeName").check(names::dns1123_subdomain);
    }
}

fn slice(root: Node<'_>) {
    let kind = root.get("addressType");
    kind.need_one_of(&["FQDN", "IPv4", "IPv6"]);
    let endpoints = root.get("endpoints");
    endpoints.at_most(ENDPOINTS_MAX);
    for endpoint in endpoints.items() {
        self::endpoint(endpoint, kind.str());
    }
    let ports = root.get("ports");
    ports.at_most(PORTS_MAX);
    let mut seen: Vec<&str> = Vec::new();
    for port in ports.items() {
        let name = port.get("name");
        name.check_if_set(names::dns1123_label);
        if seen.contains(&name.str()) {
            name.duplicate();
        }
        seen.push(name.str());
        port.get("protocol").need_one_of(&PROTOCOLS);
        if port.get("appProtocol").is_set() {
            port.get("appProtocol").check(names::qualified_name);
        }
    }
}

fn endpoint(endpoint: Node<'_>, kind: &str) {
    let addresses = endpoint.get("addresses");
    if addresses.is_empty() {
        addresses.required("must contain at least 1 address");
    }
    addresses.at_most(ADDRESSES_MAX);
    for address in addresses.items() {
        slice_address(address, kind);
    }
    if endpoint.get("nodeName").is_set() {
        endpoint.get("nodeName").check(names::dns1123_subdomain);
    }
    let topology = endpoint.get("deprecatedTopology");
    meta::labels(topology);
    if topology.len() > 16 {
        topology.too_many(16);
    }
    if endpoint.get("hostname").is_set() {
        endpoint.get("hostname").check(names::dns1123_label);
    }
    hints(endpoint.get("hints"));
}

fn slice_address(address: Node<'_>, kind: &str) {
    let parsed = address.str().parse::<IpAddr>().ok();
    match kind {
        "IPv4" if !matches!(parsed, Some(IpAddr::V4(_))) => address.invalid("must be a valid IPv4 address"),
        "IPv6" if !matches!(parsed, Some(IpAddr::V6(_))) => address.invalid("must be a valid IPv6 address"),
        "IPv4" | "IPv6" => ip::not_special(address),
        "FQDN" => {
            address.check(names::dns1123_subdomain);
            if !address.str().contains('.') {
                address.invalid("should be a domain with at least two segments separated by dots");
            }
        }
        _ => {}
    }
}

fn hints(hints: Node<'_>) {
    for (field, rule) in [("forZones", None), ("forNodes", Some(names::dns1123_subdomain as fn(&str) -> Vec<String>))] {
        let list = hints.get(field);
        list.at_most(HINTS_MAX);
        let mut seen: Vec<&str> = Vec::new();
        for hint in list.items() {
            let name = hint.get("name");
            if seen.contains(&name.str()) {
                name.duplicate();
            }
            seen.push(name.str());
            name.check(rule.unwrap_or(names::label_value));
        }
    }
}
