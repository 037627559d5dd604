//! The kinds that have behaviour of their own, one row each.

pub mod admission;
pub mod api_service;
pub mod autoscaling;
pub mod cluster_node;
pub mod config;
pub mod crd;
pub mod devices;
pub mod endpoints;
pub mod event;
pub mod flowcontrol;
pub mod job;
pub mod namespace;
pub mod networking;
pub mod persistent_volume;
pub mod pod;
pub mod pod_creation;
pub mod pod_subresources;
pub mod quota;
pub mod rbac;
pub mod service;
pub mod small;
pub mod storage;
pub mod volume_claim;
pub mod workload;

use crate::strategy::Kind;

/// All rows. A resource that is not here has nothing particular.
pub const ALL: &[Kind] = &[
    autoscaling::KIND,
    cluster_node::KIND,
    config::CONFIG_MAP,
    config::SECRET,
    config::SERVICE_ACCOUNT,
    endpoints::ENDPOINTS,
    endpoints::ENDPOINT_SLICE,
    event::CORE,
    event::NEW,
    job::CRON_JOB,
    job::JOB,
    namespace::KIND,
    networking::INGRESS,
    networking::INGRESS_CLASS,
    networking::IP_ADDRESS,
    networking::NETWORK_POLICY,
    networking::SERVICE_CIDR,
    persistent_volume::KIND,
    pod::KIND,
    quota::LIMIT_RANGE,
    quota::RESOURCE_QUOTA,
    rbac::CLUSTER_ROLE,
    rbac::CLUSTER_ROLE_BINDING,
    rbac::ROLE,
    rbac::ROLE_BINDING,
    service::KIND,
    small::CERTIFICATE_REQUEST,
    small::DISRUPTION_BUDGET,
    small::COMPONENT_STATUS,
    small::LEASE,
    small::LOCAL_SUBJECT_ACCESS_REVIEW,
    small::PRIORITY_CLASS,
    small::RUNTIME_CLASS,
    small::SELF_SUBJECT_ACCESS_REVIEW,
    small::SELF_SUBJECT_REVIEW,
    small::SELF_SUBJECT_RULES_REVIEW,
    small::SUBJECT_ACCESS_REVIEW,
    small::TOKEN_REVIEW,
    storage::CSI_DRIVER,
    storage::CSI_NODE,
    storage::CSI_STORAGE_CAPACITY,
    storage::STORAGE_CLASS,
    storage::VOLUME_ATTACHMENT,
    storage::VOLUME_ATTRIBUTES_CLASS,
    volume_claim::KIND,
    workload::CONTROLLER_REVISION,
    workload::DAEMON_SET,
    workload::DEPLOYMENT,
    workload::POD_TEMPLATE,
    workload::REPLICATION_CONTROLLER,
    workload::REPLICA_SET,
    workload::STATEFUL_SET,
    admission::MUTATING_BINDING,
    admission::MUTATING_POLICY,
    admission::MUTATING_WEBHOOKS,
    admission::VALIDATING_BINDING,
    admission::VALIDATING_POLICY,
    admission::VALIDATING_WEBHOOKS,
    api_service::KIND,
    crd::KIND,
    devices::CLAIM,
    devices::CLAIM_TEMPLATE,
    devices::DEVICE_CLASS,
    devices::SLICE,
    flowcontrol::FLOW_SCHEMA,
    flowcontrol::PRIORITY_LEVEL,
];
