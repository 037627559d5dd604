//! The flags of kube-controller-manager, with upstream's names and defaults.

use std::path::PathBuf;

use component_base::options::GoDuration;
use component_base::{client, leader_election, logging, options, process, serving};

/// All flags.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kube-controller-manager", version = component_base::version::GIT_VERSION, about = "The Kubernetes controllers in one process")]
pub struct Options {
    /// Logging.
    #[command(flatten)]
    pub logging: logging::Options,
    /// Leader election.
    #[command(flatten)]
    pub leader_election: leader_election::Flags,
    /// Serving health and metrics.
    #[command(flatten)]
    pub serving: serving::Flags<10257>,
    /// The API server.
    #[command(flatten)]
    pub client: client::Flags,
    /// The controllers' own flags.
    #[command(flatten)]
    pub controllers: Controllers,
    /// Flags that are taken for compatibility and change nothing here.
    #[command(flatten)]
    pub ignored: options::Ignored,
    /// The same, of this component alone.
    #[command(flatten)]
    pub own_ignored: Ignored,

    /// Whether each controller uses the credentials of its own service account
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub use_service_account_credentials: bool,
    /// Controllers to run: "*" stands for all that are on by default, "name" turns one on, "-name" turns it off
    #[arg(long = "controllers", value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub selection: Vec<String>,
    /// How long controllers have to end after shutdown
    #[arg(long, default_value = "10s")]
    pub controller_shutdown_timeout: GoDuration,
}

impl process::Options for Options {
    const UNSUPPORTED: &'static [&'static str] = &[
        "cloud-config",
        "configure-cloud-routes",
        "enable-leader-migration",
        "external-cloud-volume-plugin",
        "leader-migration-config",
    ];

    fn logging(&self) -> &logging::Options {
        &self.logging
    }
}

/// The flags of the controllers themselves.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "controllers")]
#[allow(missing_docs)]
pub struct Controllers {
    /// Deployments that are synced at a time
    #[arg(long, default_value_t = 5)]
    pub concurrent_deployment_syncs: usize,
    /// Replica sets that are synced at a time
    #[arg(long, default_value_t = 5)]
    pub concurrent_replicaset_syncs: usize,
    /// Replication controllers that are synced at a time
    #[arg(long, default_value_t = 5)]
    pub concurrent_rc_syncs: usize,
    /// Daemon sets that are synced at a time
    #[arg(long, default_value_t = 2)]
    pub concurrent_daemonset_syncs: usize,
    /// Stateful sets that are synced at a time
    #[arg(long, default_value_t = 5)]
    pub concurrent_statefulset_syncs: usize,
    /// Jobs that are synced at a time
    #[arg(long, default_value_t = 5)]
    pub concurrent_job_syncs: usize,
    /// Cron jobs that are synced at a time
    #[arg(long, default_value_t = 5)]
    pub concurrent_cron_job_syncs: usize,
    /// Services whose endpoints are synced at a time
    #[arg(long, default_value_t = 5)]
    pub concurrent_endpoint_syncs: usize,
    /// Services whose endpoint slices are synced at a time
    #[arg(long, default_value_t = 5)]
    pub concurrent_service_endpoint_syncs: usize,
    /// Resource quotas that are synced at a time
    #[arg(long, default_value_t = 5)]
    pub concurrent_resource_quota_syncs: usize,
    /// Namespaces that are synced at a time
    #[arg(long, default_value_t = 10)]
    pub concurrent_namespace_syncs: usize,
    /// Service accounts whose tokens are synced at a time
    #[arg(long, default_value_t = 5)]
    pub concurrent_serviceaccount_token_syncs: usize,
    /// Garbage collector workers
    #[arg(long, default_value_t = 20)]
    pub concurrent_gc_syncs: usize,
    /// TTL-after-finished workers
    #[arg(long, default_value_t = 5)]
    pub concurrent_ttl_after_finished_syncs: usize,
    /// Endpoints in one slice at most
    #[arg(long, default_value_t = 100)]
    pub max_endpoints_per_slice: usize,
    /// Addresses of one subset of Endpoints that are mirrored at most
    #[arg(long, default_value_t = 1000)]
    pub mirroring_max_endpoints_per_subset: usize,
    /// Endpoints that are mirrored at a time
    #[arg(long, default_value_t = 5)]
    pub mirroring_concurrent_service_endpoint_syncs: usize,
    /// How long changes of Endpoints are collected before they are mirrored
    #[arg(long, default_value = "0s")]
    pub mirroring_endpointslice_updates_batch_period: GoDuration,
    /// How long changes of pods are collected before endpoints are written
    #[arg(long, default_value = "0s")]
    pub endpoint_updates_batch_period: GoDuration,
    /// How long changes of pods are collected before endpoint slices are written
    #[arg(long, default_value = "0s")]
    pub endpointslice_updates_batch_period: GoDuration,
    /// Whether nodes get ranges of pod addresses
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub allocate_node_cidrs: bool,
    /// Ranges of pod addresses of the whole cluster
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<ipnet::IpNet>,
    /// Ranges of service addresses, which no node gets
    #[arg(long, value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<ipnet::IpNet>,
    /// Mask size of a node's range, for clusters with one family
    #[arg(long)]
    pub node_cidr_mask_size: Option<u8>,
    /// Mask size of a node's IPv4 range
    #[arg(long)]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    /// Mask size of a node's IPv6 range
    #[arg(long)]
    pub node_cidr_mask_size_ipv6: Option<u8>,
    /// The kind of range allocator: only RangeAllocator
    #[arg(long, default_value = "RangeAllocator")]
    pub cidr_allocator_type: String,
    /// How often node states are looked at
    #[arg(long, default_value = "5s")]
    pub node_monitor_period: GoDuration,
    /// How long a node may be silent before it is unknown
    #[arg(long, default_value = "50s")]
    pub node_monitor_grace_period: GoDuration,
    /// How long a starting node may be silent before it is unknown
    #[arg(long, default_value = "1m0s")]
    pub node_startup_grace_period: GoDuration,
    /// Nodes per second whose pods are evicted, in a healthy zone
    #[arg(long, default_value_t = 0.1)]
    pub node_eviction_rate: f64,
    /// Nodes per second whose pods are evicted, in an unhealthy zone
    #[arg(long, default_value_t = 0.01)]
    pub secondary_node_eviction_rate: f64,
    /// Share of nodes not ready from which a zone counts as unhealthy
    #[arg(long, default_value_t = 0.55)]
    pub unhealthy_zone_threshold: f64,
    /// Nodes from which on a zone counts as large
    #[arg(long, default_value_t = 50)]
    pub large_cluster_size_threshold: usize,
    /// Terminated pods that are kept
    #[arg(long, default_value_t = 12500)]
    pub terminated_pod_gc_threshold: i32,
    /// Whether the garbage collector runs
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub enable_garbage_collector: bool,
    /// Authority that is published to every namespace and put into service account secrets
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// Key that service account tokens are signed with
    #[arg(long)]
    pub service_account_private_key_file: Option<PathBuf>,
    /// The cluster's name
    #[arg(long, default_value = "kubernetes")]
    pub cluster_name: String,
    /// Authority for all signers that have none of their own
    #[arg(long)]
    pub cluster_signing_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_key_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_kubelet_serving_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_kubelet_serving_key_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_kubelet_client_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_kubelet_client_key_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_kube_apiserver_client_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_kube_apiserver_client_key_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_legacy_unknown_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_legacy_unknown_key_file: Option<PathBuf>,
    /// Longest validity of signed certificates
    #[arg(long, default_value = "8760h0m0s")]
    pub cluster_signing_duration: GoDuration,
}

/// Taken so that existing manifests work; nothing depends on them.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "own-ignored")]
pub struct Ignored {
    #[arg(long, hide = true)]
    cloud_provider: Option<String>,
    #[arg(long, hide = true)]
    controller_start_interval: Option<GoDuration>,
    #[arg(long, hide = true)]
    flex_volume_plugin_dir: Option<String>,
    #[arg(long, hide = true)]
    min_resync_period: Option<GoDuration>,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn flags_are_well_formed_and_kubeadms_manifest_is_understood() {
        Options::command().debug_assert();
        let options = Options::parse_from([
            "kube-controller-manager",
            "--allocate-node-cidrs=true",
            "--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--authorization-kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--bind-address=127.0.0.1",
            "--client-ca-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-cidr=10.244.0.0/16",
            "--cluster-name=kubernetes",
            "--cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-signing-key-file=/etc/kubernetes/pki/ca.key",
            "--controllers=*,bootstrapsigner,-ttl",
            "--kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--leader-elect=false",
            "--requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt",
            "--root-ca-file=/etc/kubernetes/pki/ca.crt",
            "--service-account-private-key-file=/etc/kubernetes/pki/sa.key",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--use-service-account-credentials=true",
        ]);
        assert!(options.use_service_account_credentials && options.controllers.allocate_node_cidrs);
        assert!(!options.leader_election.leader_elect);
        assert_eq!(options.selection, ["*", "bootstrapsigner", "-ttl"]);
    }
}
