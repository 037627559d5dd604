//! Wire contracts: the gRPC services of the node and the table of the Kubernetes API.

/// The Container Runtime Interface, `runtime.v1`, as containerd 1.6 and later speak it.
#[allow(clippy::all, clippy::unwrap_used, rust_2018_idioms, reason = "generated code")]
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// The table of the Kubernetes API: every resource and every type of version 1.36, as JSON.
pub const KUBERNETES_TABLE: &str = include_str!("../kubernetes-1.36.json");
