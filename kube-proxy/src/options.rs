//! The flags of kube-proxy, under Kubernetes' names.

use crate::config::{ClientConnection, Configuration, Conntrack, DetectLocal, Error, NftablesSection, Settings};
use clap::{ArgAction, Parser};
use component_base::logging;
use component_base::options::GoDuration;
use std::path::PathBuf;

/// kube-proxy makes Services reachable on its node. Where `--config` is given, the flags that the file covers are
/// ignored, but for `--hostname-override`.
#[derive(Debug, Clone, Parser)]
#[command(name = "kube-proxy", disable_version_flag = true)]
#[group(skip)]
pub struct Options {
    /// The path to the configuration file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Path to kubeconfig file with authorization information (the master location can be overridden by the master flag).
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The address of the Kubernetes API server (overrides any value in kubeconfig)
    #[arg(long)]
    pub master: Option<String>,
    /// If non-empty, will be used as the name of the Node that kube-proxy is running on.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// Which proxy mode to use: only 'nftables' is served.
    #[arg(long)]
    pub proxy_mode: Option<String>,
    /// The CIDR range of the pods in the cluster, to tell pods' traffic from other traffic; for dual stack two of them.
    #[arg(long = "cluster-cidr")]
    pub cluster_cidr: Option<String>,
    /// Mode to use to detect local traffic.
    #[arg(long)]
    pub detect_local_mode: Option<String>,
    /// A bridge interface name, for the detect-local-mode BridgeInterface.
    #[arg(long)]
    pub pod_bridge_interface: Option<String>,
    /// An interface name prefix, for the detect-local-mode InterfaceNamePrefix.
    #[arg(long)]
    pub pod_interface_name_prefix: Option<String>,
    /// The CIDR ranges of node addresses on which to serve node ports, or 'primary'.
    #[arg(long, value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,
    /// SNAT all traffic sent via Service cluster IPs.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub masquerade_all: bool,
    /// Which bit of the packet mark says that a packet is to be masqueraded.
    #[arg(long)]
    pub iptables_masquerade_bit: Option<u8>,
    /// How often the rules are checked against what somebody else may have done.
    #[arg(long)]
    pub iptables_sync_period: Option<GoDuration>,
    /// The minimum time between two changes of the rules.
    #[arg(long)]
    pub iptables_min_sync_period: Option<GoDuration>,
    /// The address and port on which load balancers' health checks are served.
    #[arg(long)]
    pub bind_address: Option<String>,
    /// If true, failing to bind to a port is fatal.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub bind_address_hard_fail: bool,
    /// The IP address and port for the health check server to serve on; port 0 turns it off.
    #[arg(long)]
    pub healthz_bind_address: Option<String>,
    /// The IP address and port for the metrics server to serve on; port 0 turns it off.
    #[arg(long)]
    pub metrics_bind_address: Option<String>,
    /// The oom-score-adj value for the process.
    #[arg(long)]
    pub oom_score_adj: Option<i32>,
    /// Maximum number of tracked connections per CPU core (0 leaves the limit as it is).
    #[arg(long)]
    pub conntrack_max_per_core: Option<u32>,
    /// Minimum number of tracked connections to allocate room for.
    #[arg(long)]
    pub conntrack_min: Option<u32>,
    /// Idle timeout for established TCP connections (0 leaves it as it is).
    #[arg(long)]
    pub conntrack_tcp_timeout_established: Option<GoDuration>,
    /// Timeout for TCP connections in the CLOSE_WAIT state.
    #[arg(long)]
    pub conntrack_tcp_timeout_close_wait: Option<GoDuration>,
    /// Take packets out of a TCP window as part of the connection.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub conntrack_tcp_be_liberal: bool,
    /// Idle timeout for UDP flows without an answer (0 leaves it as it is).
    #[arg(long)]
    pub conntrack_udp_timeout: Option<GoDuration>,
    /// Idle timeout for UDP flows with answers (0 leaves it as it is).
    #[arg(long)]
    pub conntrack_udp_timeout_stream: Option<GoDuration>,
    /// Remove the rules and exit.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub cleanup: bool,
    /// Set the kernel's parameters that need privileges and exit.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub init_only: bool,
    /// Print version information and quit
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub version: bool,
    #[command(flatten)]
    pub logging: logging::Options,
}

/// Kubernetes' flags that this kube-proxy does not have, and why.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("--ipvs-", "the ipvs mode is not supported"),
    ("--iptables-localhost-nodeports", "node ports on loopback addresses are not supported in nftables mode"),
    ("--kube-api-", "the server's priority and fairness limits requests"),
    ("--config-sync-period", "caches are kept by watches and need no refresh"),
    ("--write-config-to", "writing the configuration is not supported"),
    ("--boot-id-file", "machine information is not used"),
    ("--machine-id-file", "machine information is not used"),
    ("--feature-gates", "there are no feature gates"),
    ("--profiling", "profiling over HTTP is not supported"),
    ("--show-hidden-metrics-for-version", "there are no hidden metrics"),
    ("--log-", "logs are not buffered or split"),
    ("--vmodule", "verbosity is not set by module; use -v"),
];

/// The first flag that Kubernetes has and this kube-proxy has not, in words.
pub fn unsupported<'a>(mut arguments: impl Iterator<Item = &'a str>) -> Option<String> {
    arguments.find_map(|argument| {
        let (_, why) = UNSUPPORTED.iter().find(|(flag, _)| argument.starts_with(flag))?;
        let flag = argument.split('=').next().unwrap_or(argument);
        Some(format!("flag {flag} is not supported: {why}"))
    })
}

impl Options {
    /// The settings from the file, or from the flags if there is none.
    pub fn settings(&self) -> Result<Settings, Error> {
        let configuration = match &self.config {
            Some(path) => Configuration::load(path)?,
            None => self.as_configuration(),
        };
        let mut settings = configuration.settings()?;
        if let Some(name) = &self.hostname_override {
            settings.hostname_override = Some(name.clone());
        }
        Ok(settings)
    }

    fn as_configuration(&self) -> Configuration {
        Configuration {
            client_connection: ClientConnection {
                kubeconfig: self.kubeconfig.as_ref().map(|k| k.to_string_lossy().into_owned()),
                ..ClientConnection::default()
            },
            hostname_override: self.hostname_override.clone(),
            bind_address: self.bind_address.clone(),
            bind_address_hard_fail: Some(self.bind_address_hard_fail),
            healthz_bind_address: self.healthz_bind_address.clone(),
            metrics_bind_address: self.metrics_bind_address.clone(),
            mode: self.proxy_mode.clone(),
            nftables: Some(NftablesSection {
                masquerade_bit: self.iptables_masquerade_bit,
                masquerade_all: Some(self.masquerade_all),
                sync_period: self.iptables_sync_period,
                min_sync_period: self.iptables_min_sync_period,
            }),
            detect_local_mode: self.detect_local_mode.clone(),
            detect_local: Some(DetectLocal {
                bridge_interface: self.pod_bridge_interface.clone(),
                interface_name_prefix: self.pod_interface_name_prefix.clone(),
            }),
            cluster_cidr: self.cluster_cidr.clone(),
            node_port_addresses: Some(self.nodeport_addresses.clone()),
            oom_score_adj: self.oom_score_adj,
            conntrack: Some(Conntrack {
                max_per_core: self.conntrack_max_per_core,
                min: self.conntrack_min,
                tcp_established_timeout: self.conntrack_tcp_timeout_established,
                tcp_close_wait_timeout: self.conntrack_tcp_timeout_close_wait,
                tcp_be_liberal: Some(self.conntrack_tcp_be_liberal),
                udp_timeout: self.conntrack_udp_timeout,
                udp_stream_timeout: self.conntrack_udp_timeout_stream,
            }),
            ..Configuration::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{LocalTraffic, NodePortAddresses};

    #[test]
    fn flags_say_what_the_file_would() {
        let options = Options::parse_from([
            "kube-proxy",
            "--kubeconfig=/etc/kubernetes/proxy.conf",
            "--cluster-cidr=10.244.0.0/16",
            "--nodeport-addresses=192.168.0.0/24,10.0.0.0/8",
            "--masquerade-all",
            "--hostname-override",
            "n1",
            "-v=2",
        ]);
        let settings = options.settings().unwrap();
        assert!(settings.policy.masquerade_all);
        assert_eq!(settings.hostname_override.as_deref(), Some("n1"));
        assert_eq!(settings.policy.local_traffic, LocalTraffic::ClusterCidr(vec!["10.244.0.0/16".parse().unwrap()]));
        assert!(matches!(settings.policy.node_port_addresses, NodePortAddresses::Within(ranges) if ranges.len() == 2));
    }

    #[test]
    fn unsupported_flags_are_named() {
        let arguments = ["--kubeconfig=x", "--ipvs-scheduler=rr"];
        assert_eq!(
            unsupported(arguments.into_iter()).unwrap(),
            "flag --ipvs-scheduler is not supported: the ipvs mode is not supported"
        );
        assert_eq!(unsupported(["--kubeconfig=x", "--cluster-cidr=1"].into_iter()), None);
    }
}
