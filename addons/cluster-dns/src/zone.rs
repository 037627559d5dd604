//! The names of the cluster and their records: the Kubernetes DNS specification, version 1.1.
//!
//! Kept incrementally: a Service or EndpointSlice that changes costs only its own entries.

mod build;
mod lookup;
mod view;

pub use lookup::{Lookup, Record, RecordData};
pub use view::{Endpoint, Kind, Port, Service, ServiceName, Slice};

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// Namespace and name of an EndpointSlice.
pub type SliceName = (String, String);

#[derive(Debug)]
pub struct Zone {
    /// The cluster domain, without dots at its ends, in lower case.
    domain: String,
    ttl: u32,
    services: HashMap<ServiceName, Service>,
    slices: HashMap<SliceName, Slice>,
    slices_of: HashMap<ServiceName, BTreeSet<SliceName>>,
    /// How many Services a namespace has: it is a name in between as long as there is one.
    namespaces: HashMap<String, usize>,
    /// Which Services have an address as a cluster IP or endpoint.
    by_ip: HashMap<IpAddr, BTreeSet<ServiceName>>,
    serial: u32,
}

impl Zone {
    pub fn new(domain: &str, ttl: u32) -> Self {
        Self {
            domain: domain.trim_matches('.').to_ascii_lowercase(),
            ttl,
            services: HashMap::new(),
            slices: HashMap::new(),
            slices_of: HashMap::new(),
            namespaces: HashMap::new(),
            by_ip: HashMap::new(),
            serial: 1,
        }
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }
}

#[cfg(test)]
mod tests;
