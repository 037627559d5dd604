//! Names of the table's chains, sets and maps, and of elements' keys.

use crate::ruleset::Name;
use crate::select::Backend;
use crate::view::{Protocol, ServiceName, ServicePort};
use std::net::IpAddr;

pub const SERVICE_IPS: &str = "service-ips";
pub const SERVICE_NODEPORTS: &str = "service-nodeports";
pub const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
pub const NO_ENDPOINT_NODEPORTS: &str = "no-endpoint-nodeports";
pub const FIREWALL_IPS: &str = "firewall-ips";
pub const CLUSTER_IPS: &str = "cluster-ips";
pub const NODEPORT_IPS: &str = "nodeport-ips";
pub const HAIRPIN: &str = "hairpin-connections";

pub const MARK_FOR_MASQUERADE: &str = "mark-for-masquerade";
pub const REJECT: &str = "reject-chain";

/// Chain names can hold 127 characters; ours stay below with what is put in front of them.
const MAX_READABLE: usize = 90;

/// The map from (address . port . number) to an endpoint.
pub fn endpoints(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp-endpoints",
        Protocol::Udp => "udp-endpoints",
        Protocol::Sctp => "sctp-endpoints",
    }
}

/// The map from (node port . number) to an endpoint.
pub fn nodeport_endpoints(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp-nodeport-endpoints",
        Protocol::Udp => "udp-nodeport-endpoints",
        Protocol::Sctp => "sctp-nodeport-endpoints",
    }
}

pub fn ip_key(ip: IpAddr, protocol: Protocol, port: u16) -> Box<str> {
    format!("{ip} . {} . {port}", protocol.number()).into()
}

pub fn port_key(protocol: Protocol, port: u16) -> Box<str> {
    format!("{} . {port}", protocol.number()).into()
}

/// `<hash>-<namespace>/<service>/<protocol>/<port name>`: unique by the hash, readable by the rest.
pub fn service_port(service: &ServiceName, port: &ServicePort) -> String {
    let full = format!("{service}/{}/{}", port.protocol, port.name);
    format!("{}-{}", hash(&full), shorten(full.trim_end_matches('/')))
}

pub fn endpoint(service_port: &str, backend: &Backend) -> String {
    let address = format!("{}/{}", backend.ip, backend.port).replace(':', ".");
    format!("{}-{}__{address}", hash(&format!("{service_port}{address}")), shorten_to(service_port, MAX_READABLE - 50))
}

pub fn own(prefix: &'static str, suffix: &str) -> Name {
    Name::Owned(format!("{prefix}-{suffix}"))
}

fn shorten(text: &str) -> String {
    shorten_to(text, MAX_READABLE)
}

fn shorten_to(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

/// FNV-1a, in base 32: short, and the same from one run to the next.
fn hash(text: &str) -> String {
    let offset: u64 = 0xcbf2_9ce4_8422_2325;
    let mut value = text.bytes().fold(offset, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut out = String::with_capacity(8);
    for _ in 0..8 {
        let digit = usize::try_from(value & 31).unwrap_or_default();
        out.push(char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[digit]));
        value >>= 5;
    }
    out
}
