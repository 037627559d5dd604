//! A Service as the proxy sees it.

use super::Protocol;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use std::fmt;
use std::net::IpAddr;

/// Services with this label are left to another proxy.
const OTHER_PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// `sessionAffinityConfig.clientIP.timeoutSeconds` where the Service has none: three hours.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// Namespace and name of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

impl ServiceName {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

/// A Service that the proxy has to serve: it has cluster IPs, and no other proxy claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    pub name: ServiceName,
    pub ports: Vec<ServicePort>,
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; everyone if empty.
    pub source_ranges: Vec<IpNet>,
    /// Seconds for which a client stays with its endpoint (`sessionAffinity: ClientIP`).
    pub affinity: Option<u32>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    pub health_check_node_port: Option<u16>,
}

impl ServiceView {
    /// `None` for a Service without a cluster IP (headless, ExternalName, not yet allocated) or with another proxy.
    pub fn from_api(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let other_proxy = service.metadata.labels.as_ref().is_some_and(|l| l.contains_key(OTHER_PROXY_LABEL));
        if other_proxy || spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let cluster_ips = cluster_ips(spec);
        if cluster_ips.is_empty() {
            return None;
        }
        let view = Self {
            name: ServiceName::new(
                service.metadata.namespace.clone().unwrap_or_default(),
                service.metadata.name.clone().unwrap_or_default(),
            ),
            ports: ports(spec),
            cluster_ips,
            external_ips: addresses(spec.external_ips.iter().flatten()),
            load_balancer_ips: load_balancer_ips(service),
            source_ranges: source_ranges(spec),
            affinity: affinity(spec),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            health_check_node_port: port_number(spec.health_check_node_port),
        };
        Some(view)
    }

    /// Whether anything but the cluster IP leads to the Service.
    pub fn externally_reachable(&self) -> bool {
        !self.external_ips.is_empty()
            || !self.load_balancer_ips.is_empty()
            || self.ports.iter().any(|p| p.node_port.is_some())
    }

    /// Whether some traffic may go to endpoints on all nodes.
    pub fn uses_cluster_endpoints(&self) -> bool {
        !self.internal_local || self.externally_reachable()
    }

    /// Whether some traffic may only go to endpoints of this node.
    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_local || (self.external_local && self.externally_reachable())
    }
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    match &spec.cluster_ips {
        Some(ips) if !ips.is_empty() => addresses(ips.iter()),
        _ => addresses(spec.cluster_ip.iter()),
    }
}

/// Those of the strings that are addresses: `None`, and hand-written host names, are not.
fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn ports(spec: &ServiceSpec) -> Vec<ServicePort> {
    let port = |p: &k8s_openapi::api::core::v1::ServicePort| {
        Some(ServicePort {
            name: p.name.clone().unwrap_or_default(),
            protocol: Protocol::from_api(p.protocol.as_deref())?,
            port: port_number(Some(p.port))?,
            node_port: port_number(p.node_port),
        })
    };
    spec.ports.iter().flatten().filter_map(port).collect()
}

fn port_number(port: Option<i32>) -> Option<u16> {
    port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)
}

/// Ingress addresses in mode `VIP` (the default); with `Proxy` the load balancer must not be bypassed (KEP-1860).
fn load_balancer_ips(service: &Service) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = balancer.and_then(|b| b.ingress.as_ref());
    ingress
        .into_iter()
        .flatten()
        .filter(|i| i.ip_mode.as_deref().unwrap_or("VIP") == "VIP")
        .filter_map(|i| i.ip.as_ref()?.parse().ok())
        .collect()
}

fn source_ranges(spec: &ServiceSpec) -> Vec<IpNet> {
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    ranges.filter_map(|range| range.trim().parse().ok()).collect()
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let configured =
        spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
    Some(configured.and_then(|s| u32::try_from(s).ok()).unwrap_or(DEFAULT_AFFINITY_SECONDS))
}
