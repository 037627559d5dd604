//! What a name of the cluster means.

use super::{Endpoint, Kind, Port, Service, ServiceName, Slice, Zone};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The version of the specification that the zone keeps to, told under `dns-version`.
const DNS_VERSION: &str = "1.1.0";
/// SRV weights are shared among the targets.
const TOTAL_WEIGHT: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordData {
    Address(IpAddr),
    /// Port, weight, target.
    Srv(u16, u16, String),
    Ptr(String),
    Cname(String),
    Txt(String),
    Ns(String),
}

/// A record; the name is complete, without a dot at its end. An empty name stands for the name that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub data: RecordData,
}

/// All records of a name, of all types: the caller picks the type it was asked for, and answers "no data" if there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The name is not the cluster's to answer for.
    Elsewhere,
    /// There is no such name.
    NoName,
    /// The name exists. `additional` are addresses of SRV targets.
    Records { records: Vec<Record>, additional: Vec<Record> },
}

impl Lookup {
    fn nothing() -> Self {
        Self::Records { records: Vec::new(), additional: Vec::new() }
    }

    fn records(data: impl IntoIterator<Item = RecordData>) -> Self {
        let records = data.into_iter().map(|data| Record { name: String::new(), data }).collect();
        Self::Records { records, additional: Vec::new() }
    }
}

impl Zone {
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Looks a name up that is complete, in lower case, and without a dot at its end.
    pub fn lookup(&self, name: &str) -> Lookup {
        if name == self.domain {
            return Lookup::records([RecordData::Ns(self.name_server())]);
        }
        let Some(relative) = name.strip_suffix(&self.domain).and_then(|n| n.strip_suffix('.')) else {
            return Lookup::Elsewhere;
        };
        let labels: Vec<&str> = relative.split('.').collect();
        match labels.as_slice() {
            ["dns-version"] => Lookup::records([RecordData::Txt(DNS_VERSION.into())]),
            ["svc" | "pod"] | ["dns"] | ["ns", "dns"] => Lookup::nothing(),
            [namespace, "svc" | "pod"] => match self.namespaces.contains_key(*namespace) {
                true => Lookup::nothing(),
                false => Lookup::NoName,
            },
            [address, _, "pod"] => pod(address),
            [rest @ .., service, namespace, "svc"] => self.service(rest, &ServiceName::new(*namespace, *service)),
            _ => Lookup::NoName,
        }
    }

    /// Looks an address up: the names of Services that have it as a cluster IP, or as an endpoint without one.
    pub fn reverse(&self, ip: IpAddr) -> Lookup {
        let names: Vec<RecordData> = self
            .by_ip
            .get(&ip)
            .into_iter()
            .flatten()
            .flat_map(|name| self.reverse_in(name, ip))
            .map(RecordData::Ptr)
            .collect();
        if names.is_empty() { Lookup::Elsewhere } else { Lookup::records(names) }
    }

    fn reverse_in(&self, name: &ServiceName, ip: IpAddr) -> Vec<String> {
        match self.services.get(name).map(|s| &s.kind) {
            Some(Kind::ClusterIp(ips)) if ips.contains(&ip) => vec![self.service_name(name)],
            Some(Kind::Headless) => {
                let endpoints = self.slices_of(name).flat_map(|s| &s.endpoints).filter(|e| e.addresses.contains(&ip));
                let mut names: Vec<String> =
                    endpoints.map(|e| format!("{}.{}", host(e, ip), self.service_name(name))).collect();
                names.dedup();
                names
            }
            _ => Vec::new(),
        }
    }

    pub fn name_server(&self) -> String {
        format!("ns.dns.{}", self.domain)
    }

    fn service_name(&self, name: &ServiceName) -> String {
        format!("{}.{}.svc.{}", name.name, name.namespace, self.domain)
    }

    /// `rest` is what stands before the Service's own name.
    fn service(&self, rest: &[&str], name: &ServiceName) -> Lookup {
        let Some(service) = self.services.get(name) else { return Lookup::NoName };
        match (&service.kind, rest) {
            (Kind::ExternalName(target), []) => Lookup::records([RecordData::Cname(target.clone())]),
            (Kind::ExternalName(_), _) => Lookup::NoName,
            (Kind::ClusterIp(ips), []) => self.cluster_ip(name, service, ips, |_| true),
            (Kind::ClusterIp(ips), [port, protocol]) => {
                let Some(wanted) = PortName::parse(port, protocol) else { return Lookup::NoName };
                if !service.ports.iter().any(|p| wanted.matches(p)) {
                    return Lookup::NoName;
                }
                without_addresses(self.cluster_ip(name, service, ips, |p| wanted.matches(p)))
            }
            (Kind::Headless, []) => self.headless(name, |_, _| true, |_| true),
            (Kind::Headless, [port, protocol]) => {
                let Some(wanted) = PortName::parse(port, protocol) else { return Lookup::NoName };
                without_addresses(self.headless(name, |_, _| true, |p| wanted.matches(p)))
            }
            (Kind::ClusterIp(_) | Kind::Headless, [protocol]) if protocol.starts_with('_') => {
                let has = service.ports.iter().any(|p| !p.name.is_empty() && protocol[1..] == p.protocol);
                if has { Lookup::nothing() } else { Lookup::NoName }
            }
            (Kind::ClusterIp(_) | Kind::Headless, [endpoint]) => self.endpoint(name, endpoint),
            _ => Lookup::NoName,
        }
    }

    fn cluster_ip(
        &self,
        name: &ServiceName,
        service: &Service,
        ips: &[IpAddr],
        wanted: impl Fn(&Port) -> bool,
    ) -> Lookup {
        let target = self.service_name(name);
        let addresses = ips.iter().copied().map(RecordData::Address);
        let ports = service.ports.iter().filter(|p| wanted(p));
        let srv = ports.map(|p| RecordData::Srv(p.port, weight(1), target.clone()));
        let additional = ips.iter().map(|ip| address(&target, *ip)).collect();
        let records = addresses.chain(srv).map(|data| Record { name: String::new(), data }).collect();
        Lookup::Records { records, additional }
    }

    /// The records of a Service's endpoints. Without any there is no such name, as the specification demands.
    fn headless(
        &self,
        name: &ServiceName,
        wanted: impl Fn(&Endpoint, IpAddr) -> bool,
        wanted_port: impl Fn(&Port) -> bool,
    ) -> Lookup {
        let service = self.service_name(name);
        let mut addresses: BTreeMap<IpAddr, String> = BTreeMap::new();
        let mut targets: BTreeMap<(String, u16), ()> = BTreeMap::new();
        for slice in self.slices_of(name) {
            let ports: Vec<u16> = slice.ports.iter().filter(|p| wanted_port(p)).map(|p| p.port).collect();
            for (endpoint, ip) in each_address(slice).filter(|(e, ip)| wanted(e, *ip)) {
                let target = format!("{}.{service}", host(endpoint, ip));
                targets.extend(ports.iter().map(|port| ((target.clone(), *port), ())));
                addresses.insert(ip, target);
            }
        }
        let all_ports = targets.is_empty() && addresses.is_empty();
        if all_ports {
            return Lookup::NoName;
        }
        let weight = weight(targets.len());
        let additional = addresses.iter().map(|(ip, target)| address(target, *ip)).collect();
        let srv = targets.into_keys().map(|(target, port)| RecordData::Srv(port, weight, target));
        let records = addresses.keys().copied().map(RecordData::Address).chain(srv);
        let records = records.map(|data| Record { name: String::new(), data }).collect();
        Lookup::Records { records, additional }
    }

    /// `<hostname>.<service>…`, where the host name is the endpoint's own, or made of its address.
    fn endpoint(&self, name: &ServiceName, wanted: &str) -> Lookup {
        self.headless(name, |e, ip| host(e, ip).eq_ignore_ascii_case(wanted), |_| true)
    }
}

/// A port's name stands for SRV records only; without any, there is no such name.
fn without_addresses(lookup: Lookup) -> Lookup {
    let Lookup::Records { mut records, additional } = lookup else { return lookup };
    records.retain(|r| matches!(r.data, RecordData::Srv(..)));
    if records.is_empty() { Lookup::NoName } else { Lookup::Records { records, additional } }
}

/// `_port._protocol`.
struct PortName<'a> {
    port: &'a str,
    protocol: &'a str,
}

impl<'a> PortName<'a> {
    fn parse(port: &'a str, protocol: &'a str) -> Option<Self> {
        Some(Self { port: port.strip_prefix('_')?, protocol: protocol.strip_prefix('_')? })
    }

    fn matches(&self, port: &Port) -> bool {
        !self.port.is_empty() && port.name == self.port && port.protocol == self.protocol
    }
}

fn each_address(slice: &Slice) -> impl Iterator<Item = (&Endpoint, IpAddr)> {
    slice.endpoints.iter().flat_map(|e| e.addresses.iter().map(move |ip| (e, *ip)))
}

fn address(name: &str, ip: IpAddr) -> Record {
    Record { name: name.to_owned(), data: RecordData::Address(ip) }
}

fn weight(targets: usize) -> u16 {
    u16::try_from((TOTAL_WEIGHT / targets.max(1)).max(1)).unwrap_or(1)
}

fn host(endpoint: &Endpoint, ip: IpAddr) -> String {
    endpoint.hostname.clone().unwrap_or_else(|| dashed(ip))
}

/// An address as a label: dashes for dots and colons.
fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// `10-244-1-2` and `fd00--1` stand for the address they show; whether a Pod has it is not looked at.
fn pod(label: &str) -> Lookup {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
    let address = v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::from));
    address.map_or(Lookup::NoName, |ip| Lookup::records([RecordData::Address(ip)]))
}
