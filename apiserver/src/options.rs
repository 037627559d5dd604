//! The flags of `kube-apiserver`, under upstream's names.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use apiserver_auth::AuthOptions;
use apiserver_auth::options::{Flags, Unsupported};
use clap::Parser;
use component_base::options::GoDuration;
use ipnet::IpNet;

/// Flags that are taken because everybody sets them, and that change nothing here.
#[derive(Debug)]
pub struct WithoutEffect;

impl Flags for WithoutEffect {
    const NAMES: &'static [&'static str] = &[
        "allow-privileged",
        "default-watch-cache-size",
        "enable-garbage-collector",
        "event-ttl",
        "endpoint-reconciler-type",
        "feature-gates",
        "goaway-chance",
        "kubelet-timeout",
        "min-request-timeout",
        "profiling",
        "runtime-config",
        "shutdown-delay-duration",
        "storage-backend",
        "storage-media-type",
        "tls-cipher-suites",
        "tls-min-version",
        "watch-cache",
        "watch-cache-sizes",
        "proxy-client-cert-file",
        "proxy-client-key-file",
        "enable-aggregator-routing",
        "http2-max-streams-per-connection",
        "delete-collection-workers",
    ];
}

/// Flags that would change what the server does, and that it does not have yet.
#[derive(Debug)]
pub struct NotYet;

impl Flags for NotYet {
    const NAMES: &'static [&'static str] = &[
        "audit-policy-file",
        "audit-log-path",
        "audit-webhook-config-file",
        "encryption-provider-config",
        "etcd-servers-overrides",
        "etcd-prefix",
        "egress-selector-config-file",
        "cors-allowed-origins",
        "tls-sni-cert-key",
        "tracing-config-file",
        "kubernetes-service-node-port",
        "emulated-version",
    ];
}

/// The flags.
#[derive(Parser, Debug)]
#[group(skip)]
#[command(name = "kube-apiserver", version = component_base::version::GIT_VERSION, about = "Serves the Kubernetes API from etcd")]
pub struct Options {
    /// The address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// The port to listen on, with TLS.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// The address that the `kubernetes` Service leads to; by default that of the default route.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// The host name in documents that name this server.
    #[arg(long)]
    pub external_hostname: Option<String>,
    /// The server's certificate chain, PEM. Without it a self-signed one is made.
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// The key of the certificate, PEM.
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,

    /// etcd's endpoints.
    #[arg(long, value_delimiter = ',', required = true)]
    pub etcd_servers: Vec<String>,
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    #[arg(long)]
    pub etcd_certfile: Option<PathBuf>,
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    /// How often the history of objects is given up that is older than this; 0: never.
    #[arg(long, default_value = "5m")]
    pub etcd_compaction_interval: GoDuration,

    /// The ranges of Service addresses, one per IP family.
    #[arg(long, value_delimiter = ',', default_value = "10.0.0.0/24")]
    pub service_cluster_ip_range: Vec<IpNet>,
    /// The range of node ports.
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    pub service_node_port_range: RangeInclusive<u16>,

    /// Whether requests wait in fair queues where there are too many at a time; otherwise they are only counted, and refused.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub enable_priority_and_fairness: bool,
    /// How many requests that read run at a time; with priority and fairness, those that write are added to it.
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: u32,
    /// How many requests that write run at a time.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: u32,

    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    /// Without it, kubelets' serving certificates are not verified.
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    #[arg(long, value_delimiter = ',', default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP")]
    pub kubelet_preferred_address_types: Vec<String>,

    #[command(flatten)]
    pub auth: AuthOptions,
    #[command(flatten)]
    pub admission: apiserver_admission::AdmissionOptions,
    #[command(flatten)]
    pub logging: component_base::logging::Options,
    #[command(flatten)]
    pub without_effect: Unsupported<WithoutEffect>,
    #[command(flatten)]
    pub unsupported: Unsupported<NotYet>,
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let parse = |part: &str| part.trim().parse::<u16>().map_err(|error| format!("{part:?}: {error}"));
    let (low, high) = match (text.split_once('-'), text.split_once('+')) {
        (Some((low, high)), _) => (parse(low)?, parse(high)?),
        (None, Some((base, more))) => (parse(base)?, parse(base)?.saturating_add(parse(more)?)),
        (None, None) => (parse(text)?, parse(text)?),
    };
    if low == 0 || low > high { Err(format!("{text:?} is not a range of ports")) } else { Ok(low..=high) }
}

impl Options {
    /// Finds flags that contradict each other or are not supported.
    pub fn validate(&self) -> anyhow::Result<()> {
        if let Some(flag) = self.unsupported.given.first() {
            anyhow::bail!("--{flag} is not supported yet");
        }
        anyhow::ensure!(
            self.tls_cert_file.is_some() == self.tls_private_key_file.is_some(),
            "--tls-cert-file and --tls-private-key-file go together"
        );
        anyhow::ensure!(
            self.etcd_certfile.is_some() == self.etcd_keyfile.is_some(),
            "--etcd-certfile and --etcd-keyfile go together"
        );
        anyhow::ensure!(
            self.service_cluster_ip_range.len() <= 2,
            "--service-cluster-ip-range takes at most two ranges"
        );
        anyhow::ensure!(
            !self.enable_priority_and_fairness
                || self.max_requests_inflight.max(self.max_mutating_requests_inflight) > 0,
            "--max-requests-inflight and --max-mutating-requests-inflight cannot both be 0 with --enable-priority-and-fairness"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_have_two_forms() {
        assert_eq!(port_range("30000-32767"), Ok(30000..=32767));
        assert_eq!(port_range("30000+10"), Ok(30000..=30010));
        assert!(port_range("5-1").is_err() && port_range("x").is_err());
    }

    #[test]
    fn a_flag_that_is_not_supported_is_named() {
        let base = ["kube-apiserver", "--etcd-servers=http://127.0.0.1:2379"];
        let parse = |more: &[&str]| Options::try_parse_from(base.iter().chain(more)).expect("parses");
        assert!(parse(&["--allow-privileged=true", "--profiling=false"]).validate().is_ok());
        let error = parse(&["--audit-policy-file=x"]).validate().expect_err("refused");
        assert!(error.to_string().contains("--audit-policy-file"), "{error}");
    }
}
