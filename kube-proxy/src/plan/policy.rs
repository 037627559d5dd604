//! What the configuration says about rules, in the planner's terms.

use crate::view::{Family, Node};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::IpAddr;

/// How traffic of this node's own pods is told from other traffic (`--detect-local-mode`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalTraffic {
    /// It is not: nothing to a cluster IP is masqueraded for where it comes from.
    Unknown,
    /// `ClusterCIDR`: its source is in one of these. They are all pods', not only this node's.
    ClusterCidr(Vec<IpNet>),
    /// `NodeCIDR`: its source is in the node's `spec.podCIDRs`.
    NodeCidr,
    /// `BridgeInterface`: it comes in through this interface.
    Bridge(String),
    /// `InterfaceNamePrefix`: it comes in through an interface with such a name.
    InterfacePrefix(String),
}

/// The addresses that node ports are served on (`--nodeport-addresses`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The node's primary address of each family.
    Primary,
    /// The node's addresses within these ranges; a zero range means all local addresses but loopback.
    Within(Vec<IpNet>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub masquerade_all: bool,
    pub masquerade_bit: u8,
    pub local_traffic: LocalTraffic,
    pub node_port_addresses: NodePortAddresses,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            masquerade_all: false,
            masquerade_bit: 14,
            local_traffic: LocalTraffic::Unknown,
            node_port_addresses: NodePortAddresses::Primary,
        }
    }
}

impl Policy {
    pub fn mark(&self) -> u32 {
        1 << self.masquerade_bit
    }

    /// A match for traffic of local pods; `None` if there is no way to tell.
    pub fn if_local(&self, family: Family, node: &Node) -> Option<String> {
        self.traffic(family, node, "==")
    }

    /// A match for traffic of anything else; `None` if there is no way to tell.
    pub fn if_not_local(&self, family: Family, node: &Node) -> Option<String> {
        self.traffic(family, node, "!=")
    }

    fn traffic(&self, family: Family, node: &Node, operator: &str) -> Option<String> {
        match &self.local_traffic {
            LocalTraffic::Unknown => None,
            LocalTraffic::ClusterCidr(cidrs) => source(family, cidrs, operator),
            LocalTraffic::NodeCidr => source(family, &node.pod_cidrs, operator),
            LocalTraffic::Bridge(name) => Some(format!("iifname {operator} \"{name}\"")),
            LocalTraffic::InterfacePrefix(prefix) => Some(format!("iifname {operator} \"{prefix}*\"")),
        }
    }

    /// A match for packets to an address that node ports are served on, through the set if it lists addresses.
    pub fn to_node_port(&self, family: Family) -> String {
        let ip = family.nft();
        let loopback = match family {
            Family::V4 => "127.0.0.0/8",
            Family::V6 => "::1",
        };
        if self.all_local_addresses(family) {
            return format!("{ip} daddr != {loopback} fib daddr type local");
        }
        format!("{ip} daddr @nodeport-ips")
    }

    fn all_local_addresses(&self, family: Family) -> bool {
        let NodePortAddresses::Within(ranges) = &self.node_port_addresses else { return false };
        ranges.iter().any(|r| r.prefix_len() == 0 && Family::of(&r.addr()) == family)
    }

    /// The addresses of the node that node ports are served on. `interfaces` are all of its addresses.
    pub fn node_port_ips(&self, family: Family, node: &Node, interfaces: &[IpAddr]) -> Vec<IpAddr> {
        let mut ips: Vec<IpAddr> = match &self.node_port_addresses {
            NodePortAddresses::Primary => {
                node.ips.iter().copied().filter(|ip| Family::of(ip) == family).take(1).collect()
            }
            NodePortAddresses::Within(ranges) => {
                let known = node.ips.iter().chain(interfaces).copied().filter(|ip| Family::of(ip) == family);
                known.filter(|ip| !ip.is_loopback() && ranges.iter().any(|r| r.contains(ip))).collect()
            }
        };
        ips.sort_unstable();
        ips.dedup();
        ips
    }
}

/// `ip saddr == { … }` for those of the ranges that are of the family; `None` if there are none.
pub(super) fn source(family: Family, ranges: &[IpNet], operator: &str) -> Option<String> {
    let ranges = merged(family, ranges);
    (!ranges.is_empty()).then(|| format!("{} saddr {operator} {{ {} }}", family.nft(), ranges.join(", ")))
}

/// The ranges of one family, without overlaps: nft refuses a set whose intervals conflict.
fn merged(family: Family, ranges: &[IpNet]) -> Vec<String> {
    match family {
        Family::V4 => {
            let ours = ranges.iter().filter_map(|r| match r {
                IpNet::V4(net) => Some(net.trunc()),
                IpNet::V6(_) => None,
            });
            Ipv4Net::aggregate(&ours.collect()).iter().map(ToString::to_string).collect()
        }
        Family::V6 => {
            let ours = ranges.iter().filter_map(|r| match r {
                IpNet::V6(net) => Some(net.trunc()),
                IpNet::V4(_) => None,
            });
            Ipv6Net::aggregate(&ours.collect()).iter().map(ToString::to_string).collect()
        }
    }
}
