//! IP addresses and networks.

use std::net::IpAddr;

use crate::node::Node;

/// An IP address as old fields take it: leading zeros and IPv4 in IPv6 are let pass.
pub fn parse_legacy(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let parts: Vec<&str> = text.split('.').collect();
    let decimal = |p: &&str| !p.is_empty() && p.bytes().all(|c| c.is_ascii_digit());
    if parts.len() != 4 || !parts.iter().all(decimal) {
        return None;
    }
    let trimmed: Vec<&str> =
        parts.iter().map(|p| p.trim_start_matches('0')).map(|p| if p.is_empty() { "0" } else { p }).collect();
    trimmed.join(".").parse().ok()
}

/// A network in CIDR notation, with its address as written.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address = parse_legacy(address)?;
    if length.is_empty() || !length.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let length: u8 = length.parse().ok()?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    (length <= max).then_some((address, length))
}

/// A valid IP address.
pub fn address(node: Node<'_>) -> Option<IpAddr> {
    let parsed = parse_legacy(node.str());
    if parsed.is_none() {
        node.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
    parsed
}

/// A valid network.
pub fn cidr(node: Node<'_>) -> Option<(IpAddr, u8)> {
    let parsed = parse_cidr(node.str());
    if parsed.is_none() {
        node.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
    parsed
}

/// Whether a network holds an address.
pub fn contains(network: (IpAddr, u8), address: IpAddr) -> bool {
    ipnet::IpNet::new(network.0, network.1).is_ok_and(|net| net.contains(&address))
}

/// Whether an address is written in its one canonical form, which newer fields demand.
pub fn is_canonical(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok_and(|ip| ip.to_string() == text)
}

/// Addresses that make no sense as an endpoint or an external address.
pub fn not_special(node: Node<'_>) {
    let Some(ip) = parse_legacy(node.str()) else { return };
    if ip.is_unspecified() {
        node.invalid(format!("may not be unspecified ({ip})"));
    }
    if ip.is_loopback() {
        node.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        node.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_multicast {
        node.invalid("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}
