//! What tests start real things with: `ControlPlane` (etcd and our binaries as processes, for the integration tests of
//! every component) and `Cluster` (the one real cluster of the end-to-end tests).

pub mod control_plane;
pub mod process;

pub use control_plane::{ControlPlane, Options};
