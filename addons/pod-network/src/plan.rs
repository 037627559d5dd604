//! What the network of a node should be: a pure function of its Node, the other Nodes, and the settings.

use crate::cni;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::core::v1 as core;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// The name of the nftables table, in each family.
pub const TABLE: &str = "pod-network";

/// What the flags say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub node_name: String,
    /// All Pods of the cluster; what goes elsewhere is masqueraded.
    pub cluster_cidrs: Vec<IpNet>,
    pub bridge: String,
    pub mtu: Option<u32>,
    /// Where the configuration is written.
    pub cni_conf_dir: PathBuf,
    pub cni_conf_name: String,
    /// Where the plugins remember addresses, if not in their own place.
    pub ipam_data_dir: Option<PathBuf>,
    pub port_mappings: bool,
    pub masquerade: bool,
}

/// What is needed of a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    pub pod_cidrs: Vec<IpNet>,
    pub internal_ips: Vec<IpAddr>,
}

impl NodeView {
    pub fn from_api(node: &core::Node) -> Self {
        let spec = node.spec.as_ref();
        let listed = spec.and_then(|s| s.pod_cidrs.as_ref()).into_iter().flatten();
        let mut pod_cidrs: Vec<IpNet> = listed.filter_map(|c| c.parse().ok()).collect();
        if pod_cidrs.is_empty() {
            pod_cidrs.extend(spec.and_then(|s| s.pod_cidr.as_ref()).and_then(|c| c.parse::<IpNet>().ok()));
        }
        let addresses = node.status.as_ref().and_then(|s| s.addresses.as_ref()).into_iter().flatten();
        let internal = addresses.filter(|a| a.type_ == "InternalIP");
        Self { pod_cidrs, internal_ips: internal.filter_map(|a| a.address.parse().ok()).collect() }
    }
}

/// The network that a node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The bridge's addresses: the first of each range, which is the Pods' gateway.
    pub gateways: Vec<IpNet>,
    /// Where other nodes' Pods are: by their range, the node's address.
    pub routes: BTreeMap<IpNet, IpAddr>,
    /// One nftables transaction that replaces our tables.
    pub rules: String,
    /// For each family the Pods' ranges, which a machine's packet filter must let through.
    pub forwarded: BTreeMap<Family, Vec<String>>,
    pub conflist: String,
}

/// `None` as long as the node has no range for its Pods.
pub fn network(settings: &Settings, nodes: &BTreeMap<String, NodeView>) -> Option<Network> {
    let own = nodes.get(&settings.node_name).filter(|n| !n.pod_cidrs.is_empty())?;
    Some(Network {
        gateways: own.pod_cidrs.iter().filter_map(gateway).collect(),
        routes: routes(settings, nodes),
        rules: rules(settings, own),
        forwarded: forwarded(settings, own),
        conflist: cni::conflist(settings, &own.pod_cidrs),
    })
}

fn gateway(range: &IpNet) -> Option<IpNet> {
    let first = range.hosts().next()?;
    // IPv6 counts the network's own address among the hosts; it belongs to all routers.
    let first = match first {
        IpAddr::V6(_) if first == range.network() => range.hosts().nth(1)?,
        other => other,
    };
    IpNet::new(first, range.prefix_len()).ok()
}

fn routes(settings: &Settings, nodes: &BTreeMap<String, NodeView>) -> BTreeMap<IpNet, IpAddr> {
    let others = nodes.iter().filter(|(name, _)| **name != settings.node_name);
    others
        .flat_map(|(_, node)| {
            node.pod_cidrs.iter().filter_map(|range| {
                let via = node.internal_ips.iter().find(|ip| ip.is_ipv4() == range.addr().is_ipv4())?;
                Some((range.trunc(), *via))
            })
        })
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteChange {
    Replace(IpNet, IpAddr),
    Delete(IpNet, IpAddr),
}

/// What to do so that our routes are those that are wanted. `observed` are the routes that bear our mark.
pub fn route_changes(wanted: &BTreeMap<IpNet, IpAddr>, observed: &BTreeMap<IpNet, IpAddr>) -> Vec<RouteChange> {
    let stale = observed.iter().filter(|(range, _)| !wanted.contains_key(range));
    let missing = wanted.iter().filter(|(range, via)| observed.get(range) != Some(via));
    stale
        .map(|(range, via)| RouteChange::Delete(*range, *via))
        .chain(missing.map(|(range, via)| RouteChange::Replace(*range, *via)))
        .collect()
}

/// The tables of both families, replaced as a whole.
fn rules(settings: &Settings, own: &NodeView) -> String {
    let mut text = remove_rules();
    if !settings.masquerade {
        return text;
    }
    for (family, everyone) in [("ip", "224.0.0.0/4"), ("ip6", "ff00::/8")] {
        let v4 = family == "ip";
        let of_family = |ranges: &[IpNet]| merged(ranges.iter().filter(|r| r.addr().is_ipv4() == v4));
        let pods = of_family(&own.pod_cidrs);
        if pods.is_empty() {
            continue;
        }
        let mut inside = of_family(&settings.cluster_cidrs);
        // Without the cluster's range, at least the node's own Pods see each other as they are.
        if inside.is_empty() {
            inside.clone_from(&pods);
        }
        inside.push(everyone.to_owned());
        text.push_str(&format!(
            "add table {family} {TABLE} {{ comment \"rules of pod-network\" ; }}\n\
             add chain {family} {TABLE} postrouting {{ type nat hook postrouting priority 100 ; }}\n\
             add rule {family} {TABLE} postrouting {family} saddr {{ {} }} {family} daddr != {{ {} }} masquerade fully-random\n",
            pods.join(", "),
            inside.join(", "),
        ));
    }
    text
}

/// nft's name of an address family.
pub type Family = &'static str;

/// The chain of ours in the table that iptables' rules are in.
pub const FILTER_CHAIN: &str = "POD-NETWORK";

fn forwarded(settings: &Settings, own: &NodeView) -> BTreeMap<Family, Vec<String>> {
    let all = || settings.cluster_cidrs.iter().chain(&own.pod_cidrs);
    let of = |v4: bool| merged(all().filter(|r| r.addr().is_ipv4() == v4));
    [("ip", of(true)), ("ip6", of(false))].into_iter().filter(|(_, ranges)| !ranges.is_empty()).collect()
}

/// Docker, and others, drop what they do not know in iptables' forward chain. Where there is such a chain, it is told to let Pods' traffic
/// through. `chain` is the chain as nft lists it.
pub fn forward_rules(family: Family, ranges: &[String], chain: &str) -> String {
    let (table, ranges) = (format!("{family} filter"), ranges.join(", "));
    let mut text = format!(
        "add chain {table} {FILTER_CHAIN}\nflush chain {table} {FILTER_CHAIN}\n\
         add rule {table} {FILTER_CHAIN} {family} saddr {{ {ranges} }} counter accept\n\
         add rule {table} {FILTER_CHAIN} {family} daddr {{ {ranges} }} counter accept\n"
    );
    if our_jump(chain).is_none() {
        text.push_str(&format!("insert rule {table} FORWARD counter jump {FILTER_CHAIN}\n"));
    }
    text
}

/// The reverse of `forward_rules`; nothing if there is nothing of ours.
pub fn remove_forward_rules(family: Family, chain: &str) -> Option<String> {
    let handle = our_jump(chain)?;
    let table = format!("{family} filter");
    Some(format!(
        "delete rule {table} FORWARD handle {handle}\nflush chain {table} {FILTER_CHAIN}\ndelete chain {table} {FILTER_CHAIN}\n"
    ))
}

/// The handle of the rule that leads to our chain.
fn our_jump(chain: &str) -> Option<u64> {
    let jump = format!(" jump {FILTER_CHAIN} ");
    let line = chain.lines().find(|line| line.contains(&jump))?;
    line.split("# handle ").nth(1)?.trim().parse().ok()
}

/// A transaction that removes our tables, whether they are there or not.
pub fn remove_rules() -> String {
    ["ip", "ip6"].iter().map(|family| format!("add table {family} {TABLE}\ndelete table {family} {TABLE}\n")).collect()
}

/// Ranges without overlaps: nft refuses a set whose intervals conflict.
fn merged<'a>(ranges: impl Iterator<Item = &'a IpNet>) -> Vec<String> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for range in ranges {
        match range {
            IpNet::V4(net) => v4.push(net.trunc()),
            IpNet::V6(net) => v6.push(net.trunc()),
        }
    }
    let v4 = Ipv4Net::aggregate(&v4).into_iter().map(|n| n.to_string());
    v4.chain(Ipv6Net::aggregate(&v6).into_iter().map(|n| n.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            node_name: "n1".into(),
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/48".parse().unwrap()],
            bridge: "cni0".into(),
            mtu: None,
            cni_conf_dir: "/etc/cni/net.d".into(),
            cni_conf_name: "10-pod-network.conflist".into(),
            ipam_data_dir: None,
            port_mappings: true,
            masquerade: true,
        }
    }

    fn node(cidrs: &[&str], ips: &[&str]) -> NodeView {
        NodeView {
            pod_cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
            internal_ips: ips.iter().map(|i| i.parse().unwrap()).collect(),
        }
    }

    fn nodes() -> BTreeMap<String, NodeView> {
        BTreeMap::from([
            ("n1".into(), node(&["10.244.0.0/24", "fd00:244:0:0::/64"], &["192.168.0.1", "fd00::1"])),
            ("n2".into(), node(&["10.244.1.0/24", "fd00:244:0:1::/64"], &["192.168.0.2", "fd00::2"])),
            ("n3".into(), node(&["10.244.2.0/24"], &[])),
            ("n4".into(), node(&[], &["192.168.0.4"])),
        ])
    }

    #[test]
    fn every_other_node_with_a_range_and_an_address_has_a_route_per_family() {
        let network = network(&settings(), &nodes()).unwrap();
        let routes: Vec<String> = network.routes.iter().map(|(range, via)| format!("{range} via {via}")).collect();
        assert_eq!(routes, ["10.244.1.0/24 via 192.168.0.2", "fd00:244:0:1::/64 via fd00::2"]);
        assert_eq!(
            network.gateways.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.244.0.1/24", "fd00:244::1/64"]
        );
    }

    #[test]
    fn a_node_without_a_range_has_no_network_yet() {
        let own = Settings { node_name: "n4".into(), ..settings() };
        assert_eq!(network(&own, &nodes()), None);
        assert_eq!(network(&Settings { node_name: "n9".into(), ..settings() }, &nodes()), None);
    }

    #[test]
    fn routes_are_replaced_and_stale_ones_removed() {
        let route = |range: &str, via: &str| (range.parse().unwrap(), via.parse().unwrap());
        let wanted = BTreeMap::from([route("10.244.1.0/24", "192.168.0.2"), route("10.244.2.0/24", "192.168.0.3")]);
        let observed = BTreeMap::from([route("10.244.1.0/24", "192.168.0.9"), route("10.244.7.0/24", "192.168.0.7")]);
        assert_eq!(
            route_changes(&wanted, &observed),
            [
                RouteChange::Delete("10.244.7.0/24".parse().unwrap(), "192.168.0.7".parse().unwrap()),
                RouteChange::Replace("10.244.1.0/24".parse().unwrap(), "192.168.0.2".parse().unwrap()),
                RouteChange::Replace("10.244.2.0/24".parse().unwrap(), "192.168.0.3".parse().unwrap()),
            ]
        );
        assert!(route_changes(&wanted, &wanted).is_empty());
    }

    #[test]
    fn iptables_forward_chain_is_told_once_and_untold() {
        let ranges = network(&settings(), &nodes()).unwrap().forwarded["ip"].clone();
        assert_eq!(ranges, ["10.244.0.0/16"]);
        let chain = "table ip filter {\n\tchain FORWARD { # handle 2\n\t\ttype filter hook forward priority filter; policy drop;\n";
        let told = format!("{chain}\t\tcounter packets 0 bytes 0 jump POD-NETWORK # handle 17\n\t}}\n}}\n");
        assert!(
            forward_rules("ip", &ranges, chain).ends_with("insert rule ip filter FORWARD counter jump POD-NETWORK\n")
        );
        assert!(!forward_rules("ip", &ranges, &told).contains("insert"));
        assert_eq!(remove_forward_rules("ip", chain), None);
        assert!(remove_forward_rules("ip", &told).unwrap().starts_with("delete rule ip filter FORWARD handle 17\n"));
    }

    #[test]
    fn what_leaves_the_cluster_is_masqueraded() {
        let rules = network(&settings(), &nodes()).unwrap().rules;
        let lines: Vec<&str> = rules.lines().filter(|l| l.starts_with("add rule")).collect();
        assert_eq!(
            lines,
            [
                "add rule ip pod-network postrouting ip saddr { 10.244.0.0/24 } ip daddr != { 10.244.0.0/16, 224.0.0.0/4 } masquerade fully-random",
                "add rule ip6 pod-network postrouting ip6 saddr { fd00:244::/64 } ip6 daddr != { fd00:244::/48, ff00::/8 } masquerade fully-random",
            ]
        );
    }
}
