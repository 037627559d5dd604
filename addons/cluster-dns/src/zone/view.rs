//! What the zone keeps of Services and EndpointSlices.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use std::net::IpAddr;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

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

/// A named or unnamed port; the protocol in lower case, as it stands in names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub protocol: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    ClusterIp(Vec<IpAddr>),
    Headless,
    /// The name it stands for, without a dot at its end.
    ExternalName(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub kind: Kind,
    pub ports: Vec<Port>,
}

impl Service {
    /// `None` for a Service that has no address yet.
    pub fn from_api(service: &core::Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let ports =
            spec.ports.iter().flatten().filter_map(|p| port(p.name.as_ref(), p.protocol.as_ref(), Some(p.port)));
        Some(Self { kind: kind(spec)?, ports: ports.collect() })
    }
}

fn kind(spec: &core::ServiceSpec) -> Option<Kind> {
    if spec.type_.as_deref() == Some("ExternalName") {
        let name = spec.external_name.as_ref()?;
        return Some(Kind::ExternalName(name.trim_end_matches('.').to_owned()));
    }
    let ips = match &spec.cluster_ips {
        Some(ips) if !ips.is_empty() => ips.clone(),
        _ => spec.cluster_ip.iter().cloned().collect(),
    };
    if ips.iter().any(|ip| ip == "None") {
        return Some(Kind::Headless);
    }
    let ips: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    (!ips.is_empty()).then_some(Kind::ClusterIp(ips))
}

fn port(name: Option<&String>, protocol: Option<&String>, port: Option<i32>) -> Option<Port> {
    Some(Port {
        name: name.cloned().unwrap_or_default(),
        protocol: protocol.map_or_else(|| "tcp".to_owned(), |p| p.to_ascii_lowercase()),
        port: u16::try_from(port?).ok()?,
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub addresses: Vec<IpAddr>,
    pub hostname: Option<String>,
}

/// The ready endpoints of a slice. (Slices of Services that publish addresses that are not ready call them ready.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    pub service: ServiceName,
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
}

impl Slice {
    /// `None` for a slice that belongs to no Service.
    pub fn from_api(slice: &discovery::EndpointSlice) -> Option<Self> {
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
        let ready = |e: &&discovery::Endpoint| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
        let endpoints = slice.endpoints.iter().flatten().filter(ready).map(|e| Endpoint {
            addresses: e.addresses.iter().filter_map(|a| a.parse().ok()).collect(),
            hostname: e.hostname.clone().filter(|h| !h.is_empty()),
        });
        let ports = slice.ports.iter().flatten();
        Some(Self {
            service: ServiceName::new(slice.metadata.namespace.clone().unwrap_or_default(), service),
            ports: ports.filter_map(|p| port(p.name.as_ref(), p.protocol.as_ref(), p.port)).collect(),
            endpoints: endpoints.collect(),
        })
    }
}
