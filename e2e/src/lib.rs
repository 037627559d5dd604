//! What tests start real things with: `ControlPlane` (etcd and our binaries as processes, for the integration tests of
//! every component), `Node` (containerd and our kubelet, joined to it) and `Cluster` (the one real cluster of the end-to-end
//! tests).

pub mod cluster;
pub mod control_plane;
pub mod http_client;
pub mod kubectl;
pub mod node;
pub mod process;

pub use cluster::Cluster;
pub use control_plane::{ControlPlane, Options};
pub use kubectl::Kubectl;
pub use node::Node;
