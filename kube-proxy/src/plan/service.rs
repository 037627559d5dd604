//! The objects of one Service in one family.

use super::names::{self, *};
use super::own;
use super::policy::{self, Policy};
use crate::ruleset::{Key, Name, Objects, Value};
use crate::select::{Backend, Selection, select};
use crate::view::{Family, Node, Protocol, ServicePort, ServiceView, SliceView};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Where UDP packets of a Service arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UdpFront {
    Ip(IpAddr, u16),
    NodePort(Family, u16),
}

/// A UDP way into a Service with the endpoints behind it: connection tracking keeps flows that have no end of
/// their own, so that they must be cut when the endpoints change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpFrontend {
    pub front: UdpFront,
    pub backends: BTreeSet<(IpAddr, u16)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServicePlan {
    pub objects: Objects,
    pub udp: Vec<UdpFrontend>,
    /// How many endpoints of this node the Service has, for the load balancer's health check.
    pub local_endpoints: usize,
}

pub fn service(
    service: &ServiceView,
    slices: &[&SliceView],
    policy: &Policy,
    node: &Node,
    families: &[Family],
) -> ServicePlan {
    let mut plan = ServicePlan::default();
    let mut local = BTreeSet::new();
    for family in families {
        for port in &service.ports {
            let selection = select(service, port, slices, *family, node);
            local.extend(selection.local.iter().map(|b| b.ip));
            let mut builder = Builder { service, port, policy, node, family: *family, plan: &mut plan };
            builder.port(&selection);
        }
    }
    plan.local_endpoints = local.len();
    plan
}

/// The ways into a Service port differ in what they do before an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ClusterIp,
    External,
    NodePort,
}

impl Way {
    fn chain(self) -> &'static str {
        match self {
            Self::ClusterIp => "cluster-ip",
            Self::External => "external",
            Self::NodePort => "nodeport",
        }
    }
}

pub(super) struct Builder<'a> {
    pub service: &'a ServiceView,
    pub port: &'a ServicePort,
    pub policy: &'a Policy,
    pub node: &'a Node,
    pub family: Family,
    pub plan: &'a mut ServicePlan,
}

impl Builder<'_> {
    fn port(&mut self, selection: &Selection) {
        self.hairpins(selection);
        let internal = if self.service.internal_local { &selection.local } else { &selection.cluster };
        for ip in self.of_family(&self.service.cluster_ips) {
            self.element(CLUSTER_IPS, ip.to_string().into(), "");
            self.cluster_ip(ip, internal, selection);
        }
        if !self.service.externally_reachable() {
            return;
        }
        let own = own::external_chain(self, selection);
        for ip in self.of_family(&self.service.external_ips) {
            self.external(UdpFront::Ip(ip, self.port.port), own.as_ref(), selection);
        }
        for ip in self.of_family(&self.service.load_balancer_ips) {
            self.external(UdpFront::Ip(ip, self.port.port), own.as_ref(), selection);
            self.firewall(ip);
        }
        if let Some(port) = self.port.node_port {
            self.external(UdpFront::NodePort(self.family, port), own.as_ref(), selection);
        }
    }

    fn cluster_ip(&mut self, ip: IpAddr, backends: &[Backend], selection: &Selection) {
        let front = UdpFront::Ip(ip, self.port.port);
        self.udp(front, backends);
        if backends.is_empty() {
            return self.refuse(front, selection.any);
        }
        let chain = match self.service.affinity {
            Some(seconds) => own::cluster_ip_chain(self, backends, seconds),
            None => self.shared(Way::ClusterIp, front, backends),
        };
        self.dispatch(front, &chain);
    }

    fn external(&mut self, front: UdpFront, own: Option<&Name>, selection: &Selection) {
        let backends = if self.service.external_local { &selection.local } else { &selection.cluster };
        self.udp(front, backends);
        if backends.is_empty() {
            self.refuse(front, selection.any);
        }
        match own {
            Some(chain) => self.dispatch(front, chain),
            None if !backends.is_empty() => {
                let way = match front {
                    UdpFront::Ip(..) => Way::External,
                    UdpFront::NodePort(..) => Way::NodePort,
                };
                let chain = self.shared(way, front, backends);
                self.dispatch(front, &chain);
            }
            None => {}
        }
    }

    /// The chain that all Services with so many endpoints share, and this Service's endpoints in the map it reads.
    fn shared(&mut self, way: Way, front: UdpFront, backends: &[Backend]) -> Name {
        let protocol = self.port.protocol;
        let (map, key) = match front {
            UdpFront::Ip(ip, port) => (names::endpoints(protocol), format!("{ip} . {port}")),
            UdpFront::NodePort(_, port) => (names::nodeport_endpoints(protocol), port.to_string()),
        };
        for (number, backend) in backends.iter().enumerate() {
            let target = format!("{} . {}", backend.ip, backend.port);
            self.element(map, format!("{key} . {number}").into(), &target);
        }
        let chain = Name::Owned(format!("{}-{protocol}-{}", way.chain(), backends.len()));
        let rules = self.shared_rules(way, map, backends.len());
        self.chain(chain.clone(), rules);
        chain
    }

    /// Number 0 is tried last: a packet that saw the old number of endpoints and the new map still finds one.
    fn shared_rules(&self, way: Way, map: &str, count: usize) -> Vec<String> {
        let ip = self.family.nft();
        let p = self.port.protocol;
        let front = match way {
            Way::NodePort => format!("{p} dport"),
            Way::ClusterIp | Way::External => format!("{ip} daddr . {p} dport"),
        };
        let choose = |modulus: usize| format!("dnat {ip} to {front} . numgen random mod {modulus} map @{map}");
        let mut rules = Vec::with_capacity(3);
        rules.extend(match way {
            Way::ClusterIp => self.masquerade_cluster_ip(),
            Way::External | Way::NodePort => Some(format!("jump {MARK_FOR_MASQUERADE}")),
        });
        rules.push(choose(count));
        if count > 1 {
            rules.push(choose(1));
        }
        rules
    }

    /// Traffic to a cluster IP that does not come from pods is masqueraded, so that the answer comes back here.
    pub fn masquerade_cluster_ip(&self) -> Option<String> {
        if self.policy.masquerade_all {
            return Some(format!("jump {MARK_FOR_MASQUERADE}"));
        }
        let foreign = self.policy.if_not_local(self.family, self.node)?;
        Some(format!("{foreign} jump {MARK_FOR_MASQUERADE}"))
    }

    fn dispatch(&mut self, front: UdpFront, chain: &Name) {
        let verdict = format!("goto {chain}");
        match front {
            UdpFront::Ip(..) => self.element(SERVICE_IPS, self.key(front), &verdict),
            UdpFront::NodePort(..) => self.element(SERVICE_NODEPORTS, self.key(front), &verdict),
        }
    }

    /// Where endpoints exist, but not on this node, packets are dropped: another node may well answer.
    fn refuse(&mut self, front: UdpFront, elsewhere: bool) {
        let verdict = if elsewhere { "drop".to_owned() } else { format!("goto {REJECT}") };
        match front {
            UdpFront::Ip(..) => self.element(NO_ENDPOINT_SERVICES, self.key(front), &verdict),
            UdpFront::NodePort(..) => self.element(NO_ENDPOINT_NODEPORTS, self.key(front), &verdict),
        }
    }

    fn key(&self, front: UdpFront) -> Box<str> {
        match front {
            UdpFront::Ip(ip, port) => ip_key(ip, self.port.protocol, port),
            UdpFront::NodePort(_, port) => port_key(self.port.protocol, port),
        }
    }

    fn firewall(&mut self, ip: IpAddr) {
        if self.service.source_ranges.is_empty() {
            return;
        }
        let chain = own("firewall", &names::service_port(&self.service.name, self.port));
        let strangers = policy::source(self.family, &self.service.source_ranges, "!=");
        let rule = strangers.map_or_else(|| "drop".to_owned(), |s| format!("{s} drop"));
        self.chain(chain.clone(), vec![rule]);
        self.element(FIREWALL_IPS, ip_key(ip, self.port.protocol, self.port.port), &format!("goto {chain}"));
    }

    /// An endpoint that reaches itself through the Service has to see another source than its own address.
    fn hairpins(&mut self, selection: &Selection) {
        let here: BTreeSet<IpAddr> =
            selection.cluster.iter().chain(&selection.local).filter(|b| b.here).map(|b| b.ip).collect();
        for ip in here {
            self.element(HAIRPIN, format!("{ip} . {ip}").into(), "");
        }
    }

    fn udp(&mut self, front: UdpFront, backends: &[Backend]) {
        if self.port.protocol == Protocol::Udp {
            let backends = backends.iter().map(|b| (b.ip, b.port)).collect();
            self.plan.udp.push(UdpFrontend { front, backends });
        }
    }

    pub fn of_family(&self, ips: &[IpAddr]) -> Vec<IpAddr> {
        ips.iter().copied().filter(|ip| Family::of(ip) == self.family).collect()
    }

    pub fn chain(&mut self, name: Name, rules: Vec<String>) {
        self.plan.objects.push((Key::Chain(self.family, name), Value::Chain { hook: None, rules }));
    }

    pub fn element(&mut self, set: &'static str, key: Box<str>, value: &str) {
        self.plan.objects.push((Key::Element(self.family, set.into(), key), Value::Element(value.into())));
    }
}
