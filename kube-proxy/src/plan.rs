//! From Services, EndpointSlices and the node to nftables objects: pure, one Service at a time.
//!
//! A packet finds its Service by one look-up of (address . protocol . port) in a verdict map, and its endpoint by one
//! look-up of (address . port . random number) in a data map. The chains between are shared by all Services of
//! the same shape (protocol and number of endpoints), so that neither a packet's cost nor the number of chains
//! grows with the number of Services. A Service gets chains of its own only where the shared ones cannot serve
//! it: session affinity, `externalTrafficPolicy: Local`, and source ranges of load balancers.

mod base;
mod names;
mod own;
mod policy;
mod service;

pub use base::base;
pub use policy::{LocalTraffic, NodePortAddresses, Policy};
pub use service::{ServicePlan, UdpFront, UdpFrontend, service};

#[cfg(test)]
mod tests;
