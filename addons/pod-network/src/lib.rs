//! pod-network: the CNI configuration of a node, its bridge, its routes to the other nodes, and masquerade of what leaves the
//! cluster. The plugins that the configuration names come with the machine (`containernetworking-plugins`).
//!
//! `plan` says what a node's network should be, from its Node and the others; `cni` and `kernel` make it so; `agent` holds both
//! together, and `service` runs it.

pub mod agent;
pub mod cni;
pub mod kernel;
pub mod options;
pub mod plan;
pub mod service;
