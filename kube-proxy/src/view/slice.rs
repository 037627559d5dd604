//! An EndpointSlice as the proxy sees it.

use super::{Family, Protocol, ServiceName};
use k8s_openapi::api::discovery::v1 as discovery;
use std::collections::BTreeMap;
use std::net::IpAddr;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// One endpoint of a slice. All ports of the slice apply to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<String>,
    /// `hints.forZones`.
    pub zones: Vec<String>,
    /// `hints.forNodes`.
    pub nodes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceView {
    pub service: ServiceName,
    pub family: Family,
    /// Port numbers by port name and protocol; a slice may have the same name for two protocols.
    pub ports: BTreeMap<(String, Protocol), u16>,
    pub endpoints: Vec<Endpoint>,
}

impl SliceView {
    /// `None` for a slice that belongs to no Service or holds no IP addresses.
    pub fn from_api(slice: &discovery::EndpointSlice) -> Option<Self> {
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
        let family = match slice.address_type.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => return None,
        };
        Some(Self {
            service: ServiceName::new(slice.metadata.namespace.clone().unwrap_or_default(), service),
            family,
            ports: ports(slice),
            endpoints: endpoints(slice, family),
        })
    }

    /// The name of the Service that a slice belongs to, without looking at the rest.
    pub fn service_of(slice: &discovery::EndpointSlice) -> Option<ServiceName> {
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
        Some(ServiceName::new(slice.metadata.namespace.clone().unwrap_or_default(), service))
    }
}

fn ports(slice: &discovery::EndpointSlice) -> BTreeMap<(String, Protocol), u16> {
    let ports = slice.ports.iter().flatten();
    ports
        .filter_map(|p| {
            let protocol = Protocol::from_api(p.protocol.as_deref())?;
            let number = u16::try_from(p.port?).ok()?;
            Some(((p.name.clone().unwrap_or_default(), protocol), number))
        })
        .collect()
}

/// Only an endpoint's first address counts: the others were never given a meaning.
fn endpoints(slice: &discovery::EndpointSlice, family: Family) -> Vec<Endpoint> {
    slice
        .endpoints
        .iter()
        .flatten()
        .filter_map(|e| {
            let address = e.addresses.first()?.parse().ok().filter(|a| Family::of(a) == family)?;
            let conditions = e.conditions.as_ref();
            let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
            let hints = e.hints.as_ref();
            Some(Endpoint {
                address,
                ready,
                serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
                terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
                node: e.node_name.clone(),
                zones: hints
                    .and_then(|h| h.for_zones.as_ref())
                    .map(|zones| zones.iter().map(|z| z.name.clone()).collect())
                    .unwrap_or_default(),
                nodes: hints
                    .and_then(|h| h.for_nodes.as_ref())
                    .map(|nodes| nodes.iter().map(|n| n.name.clone()).collect())
                    .unwrap_or_default(),
            })
        })
        .collect()
}
