//! cluster-dns: DNS for Services and Pods, as the Kubernetes DNS specification 1.1 says, and a forwarder for other names.
//!
//! `zone` is what the cluster's names mean, a pure function of the Services and EndpointSlices it was told; `upstream`
//! asks other servers; `answer` makes one response of one request; `server` carries them over UDP and TCP; `service` runs it.

pub mod answer;
pub mod metrics;
pub mod options;
pub mod server;
pub mod service;
pub mod upstream;
pub mod zone;
