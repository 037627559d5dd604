//! The flags of kube-scheduler, with upstream's names and defaults.

use std::net::IpAddr;
use std::path::PathBuf;

use component_base::options::GoDuration;
use component_base::{leader_election, logging};

/// Flags of upstream's component that would change what it does, and that ours does not have.
pub const UNSUPPORTED: &[&str] = &[
    "allow-metric-labels",
    "allow-metric-labels-manifest",
    "disable-http2-serving",
    "disabled-metrics",
    "emulated-version",
    "min-compatibility-version",
    "permit-address-sharing",
    "permit-port-sharing",
    "show-hidden-metrics-for-version",
    "tls-cipher-suites",
    "tls-curve-preferences",
    "tls-min-version",
    "tls-sni-cert-key",
    "vmodule",
    "write-config-to",
];

/// All flags.
#[derive(Clone, Debug, clap::Parser)]
#[group(skip)]
#[command(
    name = "kube-scheduler",
    version = component_base::version::GIT_VERSION,
    about = "The Kubernetes scheduler: decides on which node each pod runs"
)]
pub struct Options {
    #[command(flatten)]
    pub logging: logging::Options,
    #[command(flatten)]
    pub leader_election: leader_election::Flags,
    #[command(flatten)]
    pub serving: Serving,
    #[command(flatten)]
    pub ignored: Ignored,

    /// The path to the configuration file
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Path to the kubeconfig file with authorization and API server location; a configuration file's clientConnection.kubeconfig counts first
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The address of the Kubernetes API server, overrides the kubeconfig's
    #[arg(long)]
    pub master: Option<String>,
    /// After this time an unschedulable pod is tried again, whatever happened
    #[arg(long, default_value = "5m0s")]
    pub pod_max_in_unschedulable_pods_duration: GoDuration,
}

/// Where and how health and metrics are served.
#[derive(Clone, Debug, clap::Args)]
pub struct Serving {
    /// The address to serve on
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// The port to serve HTTPS on; 0 serves nothing
    #[arg(long, default_value_t = 10259)]
    pub secure_port: u16,
    /// File with the serving certificate; without it a self-signed one is made
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// File with the key of --tls-cert-file
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Clients may present certificates that these authorities signed
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Kubeconfig for token reviews; the main one when not given
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// Kubeconfig for access reviews; the main one when not given
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    /// Paths that everybody may get
    #[arg(long, value_delimiter = ',', default_value = "/healthz,/readyz,/livez")]
    pub authorization_always_allow_paths: Vec<String>,
}

/// Taken so that existing manifests work; nothing depends on them.
#[derive(Clone, Debug, clap::Args)]
pub struct Ignored {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    authentication_skip_lookup: Option<bool>,
    #[arg(long, hide = true)]
    authentication_token_webhook_cache_ttl: Option<GoDuration>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    authentication_tolerate_lookup_failure: Option<bool>,
    #[arg(long, hide = true)]
    authorization_webhook_cache_authorized_ttl: Option<GoDuration>,
    #[arg(long, hide = true)]
    authorization_webhook_cache_unauthorized_ttl: Option<GoDuration>,
    #[arg(long, hide = true)]
    cert_dir: Option<PathBuf>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    contention_profiling: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    profiling: Option<bool>,
    #[arg(long, hide = true)]
    feature_gates: Vec<String>,
    #[arg(long, hide = true)]
    http2_max_streams_per_connection: Option<i32>,
    #[arg(long, hide = true)]
    kube_api_burst: Option<i32>,
    #[arg(long, hide = true)]
    kube_api_content_type: Option<String>,
    #[arg(long, hide = true)]
    kube_api_qps: Option<f32>,
    #[arg(long, hide = true)]
    log_flush_frequency: Option<GoDuration>,
    #[arg(long, hide = true)]
    log_json_info_buffer_size: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    log_json_split_stream: Option<bool>,
    #[arg(long, hide = true)]
    log_text_info_buffer_size: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    log_text_split_stream: Option<bool>,
    #[arg(long, hide = true)]
    requestheader_allowed_names: Vec<String>,
    #[arg(long, hide = true)]
    requestheader_client_ca_file: Option<PathBuf>,
    #[arg(long, hide = true)]
    requestheader_extra_headers_prefix: Vec<String>,
    #[arg(long, hide = true)]
    requestheader_group_headers: Vec<String>,
    #[arg(long, hide = true)]
    requestheader_uid_headers: Vec<String>,
    #[arg(long, hide = true)]
    requestheader_username_headers: Vec<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    unsupported_kube_api_over_localhost: Option<bool>,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn flags_are_well_formed_and_kubeadms_manifest_is_understood() {
        Options::command().debug_assert();
        let options = Options::parse_from([
            "kube-scheduler",
            "--authentication-kubeconfig=/etc/kubernetes/scheduler.conf",
            "--authorization-kubeconfig=/etc/kubernetes/scheduler.conf",
            "--bind-address=127.0.0.1",
            "--kubeconfig=/etc/kubernetes/scheduler.conf",
            "--leader-elect=true",
            "-v=2",
        ]);
        assert_eq!(options.serving.secure_port, 10259);
        assert!(options.leader_election.leader_elect);
    }
}
