//! The chains, sets and maps that are there whatever Services there are.

use super::names::{self, *};
use super::policy::Policy;
use crate::ruleset::{Key, Name, Objects, Value};
use crate::view::{Family, Node, Protocol};
use std::net::IpAddr;

/// `interfaces` are the addresses of the machine, where the configuration wants to choose among them.
pub fn base(family: Family, policy: &Policy, node: &Node, interfaces: &[IpAddr]) -> Objects {
    let mut objects = Objects::new();
    sets(&mut objects, family);
    filter_chains(&mut objects, family, policy);
    nat_chains(&mut objects, family, policy);
    for ip in policy.node_port_ips(family, node, interfaces) {
        let key = Key::Element(family, NODEPORT_IPS.into(), ip.to_string().into());
        objects.push((key, Value::Element("".into())));
    }
    objects
}

fn sets(objects: &mut Objects, family: Family) {
    let ip = family.nft();
    let address = match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    let mut add = |name: &'static str, map: bool, definition: String| {
        objects.push((Key::Set(family, name.into()), Value::Set { map, definition }));
    };
    add(CLUSTER_IPS, false, format!("type {address}"));
    add(NODEPORT_IPS, false, format!("type {address}"));
    add(HAIRPIN, false, format!("type {address} . {address}"));
    for name in [SERVICE_IPS, NO_ENDPOINT_SERVICES, FIREWALL_IPS] {
        add(name, true, format!("type {address} . inet_proto . inet_service : verdict"));
    }
    for name in [SERVICE_NODEPORTS, NO_ENDPOINT_NODEPORTS] {
        add(name, true, "type inet_proto . inet_service : verdict".into());
    }
    // One map per protocol: nft ties the port of a `typeof` to the protocol of the rule that uses it.
    for p in Protocol::ALL {
        let value = format!("{ip} daddr . {p} dport");
        let number = "numgen random mod 2";
        add(names::endpoints(p), true, format!("typeof {ip} daddr . {p} dport . {number} : {value}"));
        add(names::nodeport_endpoints(p), true, format!("typeof {p} dport . {number} : {value}"));
    }
}

struct Chains<'a> {
    objects: &'a mut Objects,
    family: Family,
}

impl Chains<'_> {
    fn add(&mut self, name: &'static str, hook: Option<&'static str>, rules: Vec<String>) {
        let value = Value::Chain { hook: hook.map(Name::from), rules };
        self.objects.push((Key::Chain(self.family, name.into()), value));
    }
}

/// Load balancer sources are checked before translation; what no endpoint answers for is refused after it.
fn filter_chains(objects: &mut Objects, family: Family, policy: &Policy) {
    let ip = family.nft();
    let mut chains = Chains { objects, family };
    let firewall = vec!["ct state new jump firewall-check".to_owned()];
    chains.add("filter-prerouting", Some("type filter hook prerouting priority -110"), firewall.clone());
    chains.add("filter-output", Some("type filter hook output priority -110"), firewall);
    let service = |rest: &[&str]| {
        let mut rules: Vec<String> = rest.iter().map(|r| format!("ct state new jump {r}")).collect();
        rules.push("ct state new jump service-endpoints-check".into());
        rules
    };
    chains.add("filter-input", Some("type filter hook input priority 0"), service(&["nodeport-endpoints-check"]));
    let mut forward = service(&[]);
    forward.push("ct state new jump cluster-ips-check".into());
    chains.add("filter-forward", Some("type filter hook forward priority 0"), forward.clone());
    chains.add("filter-output-post-dnat", Some("type filter hook output priority -90"), {
        forward.insert(0, "ct state new jump nodeport-endpoints-check".into());
        forward
    });
    let key = format!("{ip} daddr . meta l4proto . th dport");
    chains.add("firewall-check", None, vec![format!("{key} vmap @{FIREWALL_IPS}")]);
    chains.add("service-endpoints-check", None, vec![format!("{key} vmap @{NO_ENDPOINT_SERVICES}")]);
    chains.add(
        "nodeport-endpoints-check",
        None,
        vec![format!("{} meta l4proto . th dport vmap @{NO_ENDPOINT_NODEPORTS}", policy.to_node_port(family))],
    );
    chains.add("cluster-ips-check", None, vec![format!("{ip} daddr @{CLUSTER_IPS} goto {REJECT}")]);
    chains.add(REJECT, None, vec!["meta l4proto tcp reject with tcp reset".into(), "reject".into()]);
}

fn nat_chains(objects: &mut Objects, family: Family, policy: &Policy) {
    let ip = family.nft();
    let mark = policy.mark();
    let mut chains = Chains { objects, family };
    let services = vec!["jump services".to_owned()];
    chains.add("nat-prerouting", Some("type nat hook prerouting priority -100"), services.clone());
    chains.add("nat-output", Some("type nat hook output priority -100"), services);
    chains.add("nat-postrouting", Some("type nat hook postrouting priority 100"), vec!["jump masquerading".into()]);
    chains.add(
        "services",
        None,
        vec![
            format!("{ip} daddr . meta l4proto . th dport vmap @{SERVICE_IPS}"),
            format!("{} meta l4proto . th dport vmap @{SERVICE_NODEPORTS}", policy.to_node_port(family)),
        ],
    );
    chains.add(MARK_FOR_MASQUERADE, None, vec![format!("meta mark set meta mark or {mark:#x}")]);
    chains.add(
        "masquerading",
        None,
        vec![
            format!("ct status dnat {ip} saddr . {ip} daddr @{HAIRPIN} masquerade fully-random"),
            format!("meta mark and {mark:#x} == 0 return"),
            format!("meta mark set meta mark xor {mark:#x}"),
            "masquerade fully-random".into(),
        ],
    );
}
