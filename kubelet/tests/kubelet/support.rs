//! What the tests of the kubelet start with: a node, a control plane, servers to be probed.

pub mod api;
pub mod containers;
pub mod node;
pub mod servers;
