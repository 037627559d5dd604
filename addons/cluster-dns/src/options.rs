//! The flags of cluster-dns.

use clap::{ArgAction, Parser};
use component_base::logging;
use component_base::options::GoDuration;
use std::net::SocketAddr;
use std::path::PathBuf;

/// DNS for the Services and Pods of a cluster.
#[derive(Debug, Clone, Parser)]
#[command(name = "cluster-dns", disable_version_flag = true)]
#[group(skip)]
pub struct Options {
    /// The kubeconfig file; without it, the service account of the pod.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The cluster's domain.
    #[arg(long, default_value = "cluster.local")]
    pub domain: String,
    /// Where to answer, over UDP and TCP. Can be given more than once.
    #[arg(long, default_value = "0.0.0.0:53")]
    pub listen: Vec<SocketAddr>,
    /// A server for names outside of the cluster. Can be given more than once; without it, those of --resolv-conf.
    #[arg(long)]
    pub upstream: Vec<SocketAddr>,
    /// The file that names the servers for names outside of the cluster.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// Seconds for which clients may remember the cluster's records.
    #[arg(long, default_value_t = 30)]
    pub ttl: u32,
    /// Where /health is served.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub health_address: SocketAddr,
    /// Where /ready is served.
    #[arg(long, default_value = "0.0.0.0:8181")]
    pub ready_address: SocketAddr,
    /// Where /metrics is served.
    #[arg(long, default_value = "0.0.0.0:9153")]
    pub metrics_address: SocketAddr,
    /// How long to go on answering after a signal to end, while clients are sent elsewhere.
    #[arg(long, default_value = "5s")]
    pub lameduck: GoDuration,
    /// Print version information and quit
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub version: bool,
    #[command(flatten)]
    pub logging: logging::Options,
}
