//! What a Service needs of addresses and ports, as pure functions of the object.

use std::net::IpAddr;

use apimachinery::field::{Error, ErrorList, Path};
use ipnet::IpNet;
use rand::Rng;
use serde_json::{Value, json};

/// An IP family as Services name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn parse(name: &str) -> Self {
        if name == "IPv6" { Family::V6 } else { Family::V4 }
    }
}

/// The ranges of Service addresses (`--service-cluster-ip-range`), the primary family first.
#[derive(Clone, Debug)]
pub struct Families(pub Vec<IpNet>);

/// An address that a Service is still to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Given { index: usize, address: String },
    Any { index: usize, family: Family },
}

impl Wanted {
    pub fn index(&self) -> usize {
        match self {
            Wanted::Given { index, .. } | Wanted::Any { index, .. } => *index,
        }
    }
}

fn size(net: &IpNet) -> u128 {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    1u128.checked_shl(bits.min(64)).unwrap_or(u128::MAX)
}

fn nth(net: &IpNet, offset: u128) -> IpAddr {
    match net.network() {
        IpAddr::V4(base) => IpAddr::V4((u32::from(base) + offset as u32).into()),
        IpAddr::V6(base) => IpAddr::V6((u128::from(base) + offset).into()),
    }
}

impl Families {
    pub fn first_address(&self) -> IpAddr {
        nth(&self.0[0], 1)
    }

    fn range(&self, family: Family) -> Option<&IpNet> {
        self.0.iter().find(|net| Family::of(net.network()) == family)
    }

    /// An address that a client asks for, when it is within a range.
    pub fn check(&self, text: &str) -> Result<IpAddr, String> {
        let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
        let inside = self.range(Family::of(address)).filter(|net| net.contains(&address));
        let usable =
            inside.is_some_and(|net| net.network() != address && (net.broadcast() != address || address.is_ipv6()));
        if usable {
            Ok(address)
        } else {
            Err(format!("failed to allocate IP {text}: the provided network does not match the current range"))
        }
    }

    /// Addresses to try: some at random from the upper band of the range, then all of them in order. The lower band is left to
    /// those who choose their address (KEP-3070).
    pub fn candidates(&self, family: Family, random: usize) -> impl Iterator<Item = IpAddr> + use<> {
        let net = self.range(family).copied();
        net.into_iter().flat_map(move |net| {
            let last = size(&net) - 1 - u128::from(net.network().is_ipv4());
            let band = (size(&net) / 16).clamp(16.min(size(&net) / 2), 256);
            let mut rng = rand::rng();
            let tries: Vec<u128> = (0..random).filter(|_| band < last).map(|_| rng.random_range(band..=last)).collect();
            let ordered = (band.max(1)..=last).chain(1..band.max(1));
            tries.into_iter().chain(ordered).map(move |offset| nth(&net, offset))
        })
    }

    /// Fills `ipFamilies`, `ipFamilyPolicy` and the pair `clusterIP`/`clusterIPs` (KEP-563).
    pub fn complete(&self, service: &mut Value, old: Option<&Value>) -> Result<(), ErrorList> {
        let spec = &mut service["spec"];
        if spec["type"] == "ExternalName" {
            return Ok(());
        }
        if let Some(old) = old.map(|old| &old["spec"]).filter(|old| old["type"] != "ExternalName") {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if spec[field].is_null() && !old[field].is_null() {
                    spec[field] = old[field].clone();
                }
            }
        }
        let given: Vec<String> = match (&spec["clusterIPs"], spec["clusterIP"].as_str()) {
            (Value::Array(all), _) if !all.is_empty() => {
                all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            (_, Some(one)) if !one.is_empty() => vec![one.to_owned()],
            _ => Vec::new(),
        };
        let policy = spec["ipFamilyPolicy"].as_str().unwrap_or("SingleStack").to_owned();
        let mut families: Vec<Family> = match &spec["ipFamilies"] {
            Value::Array(all) if !all.is_empty() => all.iter().filter_map(Value::as_str).map(Family::parse).collect(),
            _ => given.iter().filter_map(|ip| ip.parse().ok()).map(Family::of).collect(),
        };
        if families.is_empty() {
            families.push(Family::of(self.0[0].network()));
        }
        let path = Path::new("spec").child("ipFamilies");
        let headless_alone =
            given.first().is_some_and(|ip| ip == "None") && spec["selector"].as_object().is_none_or(|s| s.is_empty());
        if let Some(missing) = families.iter().find(|family| self.range(**family).is_none() && !headless_alone) {
            return Err(vec![Error::invalid(&path.index(0), missing.name(), "not configured on this cluster")]);
        }
        if policy == "RequireDualStack" && self.0.len() < 2 && !headless_alone {
            let path = Path::new("spec").child("ipFamilyPolicy");
            return Err(vec![Error::invalid(&path, policy, "this cluster is not configured for dual-stack services")]);
        }
        if policy != "SingleStack" && families.len() == 1 && self.0.len() == 2 {
            families.push(if families[0] == Family::V4 { Family::V6 } else { Family::V4 });
        }
        spec["ipFamilyPolicy"] = policy.into();
        spec["ipFamilies"] = families.iter().map(|family| Value::from(family.name())).collect();
        if let Some(first) = given.first() {
            spec["clusterIP"] = first.as_str().into();
            spec["clusterIPs"] = json!(given);
        }
        Ok(())
    }
}

/// The addresses that a Service has.
pub fn addresses(service: &Value) -> Vec<String> {
    let spec = &service["spec"];
    let all = spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut found: Vec<String> = all.map(str::to_owned).collect();
    if found.is_empty() {
        found.extend(spec["clusterIP"].as_str().map(str::to_owned));
    }
    found.retain(|address| !address.is_empty() && address != "None");
    found
}

/// The node ports that a Service has.
pub fn node_ports(service: &Value) -> Vec<u16> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let mut found: Vec<u16> =
        ports.filter_map(|port| port["nodePort"].as_u64()).filter(|port| *port > 0).map(|port| port as u16).collect();
    found.extend(service["spec"]["healthCheckNodePort"].as_u64().filter(|port| *port > 0).map(|port| port as u16));
    found
}

/// The addresses to allocate for a (completed) Service that had those of `old`.
pub fn wanted_addresses(service: &Value, old: Option<&Value>) -> Vec<Wanted> {
    let spec = &service["spec"];
    let headless = spec["clusterIP"] == "None";
    if headless || spec["type"] == "ExternalName" {
        return Vec::new();
    }
    let had = old.map(addresses).unwrap_or_default();
    let given: Vec<&str> = spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let families = spec["ipFamilies"].as_array().into_iter().flatten().filter_map(Value::as_str);
    families
        .enumerate()
        .filter_map(|(index, family)| match given.get(index).filter(|address| !address.is_empty()) {
            Some(address) if had.iter().any(|h| h == address) => None,
            Some(address) => Some(Wanted::Given { index, address: (*address).to_owned() }),
            None => Some(Wanted::Any { index, family: Family::parse(family) }),
        })
        .collect()
}

/// Writes an allocated address.
pub fn set_address(service: &mut Value, index: usize, address: &str) {
    let spec = &mut service["spec"];
    if !spec["clusterIPs"].is_array() {
        spec["clusterIPs"] = json!([]);
    }
    if let Some(all) = spec["clusterIPs"].as_array_mut() {
        all.resize(all.len().max(index + 1), Value::from(""));
        all[index] = address.into();
    }
    if index == 0 {
        spec["clusterIP"] = address.into();
    }
}

fn needs_node_ports(spec: &Value) -> bool {
    match spec["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// The node ports to allocate: the index of the port, and the number where the client gives one. A port of the same number and
/// another protocol shares its node port.
pub fn wanted_ports(service: &Value, old: Option<&Value>) -> Vec<(usize, Option<u16>)> {
    let needs = needs_node_ports(&service["spec"]);
    let had = old.map(node_ports).unwrap_or_default();
    let mut seen = Vec::new();
    let ports = service["spec"]["ports"].as_array().into_iter().flatten().enumerate();
    ports
        .filter_map(|(index, port)| {
            let given = port["nodePort"].as_u64().filter(|number| *number > 0).map(|number| number as u16);
            match given {
                Some(number) if had.contains(&number) || seen.contains(&number) => None,
                Some(number) => {
                    seen.push(number);
                    Some((index, Some(number)))
                }
                None => needs.then_some((index, None)),
            }
        })
        .collect()
}

/// Writes an allocated node port.
pub fn set_node_port(service: &mut Value, index: usize, port: u16) {
    service["spec"]["ports"][index]["nodePort"] = port.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families(ranges: &[&str]) -> Families {
        Families(ranges.iter().map(|range| range.parse().expect("a range")).collect())
    }

    #[test]
    fn a_service_gets_the_primary_family() {
        let mut service = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}});
        families(&["10.96.0.0/12"]).complete(&mut service, None).expect("complete");
        assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]));
        assert_eq!(wanted_addresses(&service, None), [Wanted::Any { index: 0, family: Family::V4 }]);
        set_address(&mut service, 0, "10.96.0.9");
        assert_eq!(service["spec"]["clusterIP"], "10.96.0.9");
        assert!(wanted_addresses(&service, Some(&service.clone())).is_empty());
    }

    #[test]
    fn headless_and_external_services_get_no_address() {
        for spec in [json!({"clusterIP": "None"}), json!({"type": "ExternalName", "externalName": "x"})] {
            let mut service = json!({"spec": spec});
            families(&["10.96.0.0/12"]).complete(&mut service, None).expect("complete");
            assert!(wanted_addresses(&service, None).is_empty());
        }
    }

    #[test]
    fn candidates_stay_within_the_range_and_reach_all_of_it() {
        let families = families(&["10.0.0.0/29"]);
        let all: std::collections::BTreeSet<IpAddr> = families.candidates(Family::V4, 4).collect();
        let expected: std::collections::BTreeSet<IpAddr> =
            (1..=6).map(|n| format!("10.0.0.{n}").parse().expect("an address")).collect();
        assert_eq!(all, expected);
        assert!(families.check("10.0.0.0").is_err() && families.check("10.0.0.7").is_err());
        assert!(families.check("10.0.0.3").is_ok() && families.check("11.0.0.1").is_err());
    }

    #[test]
    fn node_ports_are_wanted_where_the_type_has_them() {
        let service = json!({"spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2, "nodePort": 30001}]}});
        assert_eq!(wanted_ports(&service, None), [(0, None), (1, Some(30001))]);
        let old = json!({"spec": {"ports": [{"port": 2, "nodePort": 30001}]}});
        assert_eq!(wanted_ports(&service, Some(&old)), [(0, None)]);
        assert!(wanted_ports(&json!({"spec": {"type": "ClusterIP", "ports": [{"port": 1}]}}), None).is_empty());
    }
}
