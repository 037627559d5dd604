//! The kinds that have behaviour of their own, one row each.

pub mod cluster_node;
pub mod config;
pub mod namespace;
pub mod persistent_volume;
pub mod pod;
pub mod quota;
pub mod service;
pub mod volume_claim;
pub mod workload;

use crate::strategy::Kind;

/// All rows. A resource that is not here has nothing particular.
pub const ALL: &[Kind] = &[
    cluster_node::KIND,
    config::CONFIG_MAP,
    config::SECRET,
    config::SERVICE_ACCOUNT,
    namespace::KIND,
    persistent_volume::KIND,
    pod::KIND,
    quota::LIMIT_RANGE,
    quota::RESOURCE_QUOTA,
    service::KIND,
    volume_claim::KIND,
    workload::CONTROLLER_REVISION,
    workload::DAEMON_SET,
    workload::DEPLOYMENT,
    workload::POD_TEMPLATE,
    workload::REPLICATION_CONTROLLER,
    workload::REPLICA_SET,
    workload::STATEFUL_SET,
];
