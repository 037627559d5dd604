//! `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1): the file, its defaults, and what it means for the planner.

use crate::plan::{LocalTraffic, NodePortAddresses, Policy};
use component_base::options::GoDuration;
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";
const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;
const DEFAULT_MASQUERADE_BIT: u8 = 14;
/// How long to let changes gather after a synchronization. Kubernetes waits a second, because its rules cost more.
const DEFAULT_MIN_SYNC_PERIOD: Duration = Duration::from_millis(100);
const DEFAULT_SYNC_PERIOD: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a {KIND}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("{0}")]
    Invalid(String),
}

fn invalid<T>(field: &str, why: impl std::fmt::Display) -> Result<T, Error> {
    Err(Error::Invalid(format!("{field}: {why}")))
}

/// The file's shape. Parts for systems and modes that are not served are accepted and not looked at, because tools write
/// them with their defaults.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Configuration {
    pub api_version: Option<String>,
    pub kind: Option<String>,
    pub feature_gates: Option<BTreeMap<String, bool>>,
    pub client_connection: ClientConnection,
    pub logging: Option<serde_json::Value>,
    pub hostname_override: Option<String>,
    pub bind_address: Option<String>,
    pub healthz_bind_address: Option<String>,
    pub metrics_bind_address: Option<String>,
    pub bind_address_hard_fail: Option<bool>,
    pub enable_profiling: Option<bool>,
    pub show_hidden_metrics_for_version: Option<String>,
    pub mode: Option<String>,
    pub iptables: Option<serde_json::Value>,
    pub ipvs: Option<serde_json::Value>,
    pub winkernel: Option<serde_json::Value>,
    pub nftables: Option<NftablesSection>,
    pub detect_local_mode: Option<String>,
    pub detect_local: Option<DetectLocal>,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: Option<String>,
    pub node_port_addresses: Option<Vec<String>>,
    pub oom_score_adj: Option<i32>,
    pub conntrack: Option<Conntrack>,
    pub config_sync_period: Option<GoDuration>,
    pub port_range: Option<String>,
    pub windows_run_as_service: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClientConnection {
    pub kubeconfig: Option<String>,
    pub accept_content_types: Option<String>,
    pub content_type: Option<String>,
    pub qps: Option<f64>,
    pub burst: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NftablesSection {
    pub masquerade_bit: Option<u8>,
    pub masquerade_all: Option<bool>,
    pub sync_period: Option<GoDuration>,
    pub min_sync_period: Option<GoDuration>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DetectLocal {
    pub bridge_interface: Option<String>,
    pub interface_name_prefix: Option<String>,
}

/// Sizes and timeouts of connection tracking; what is not set, or zero, is left as the kernel has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Conntrack {
    pub max_per_core: Option<u32>,
    pub min: Option<u32>,
    pub tcp_established_timeout: Option<GoDuration>,
    pub tcp_close_wait_timeout: Option<GoDuration>,
    pub tcp_be_liberal: Option<bool>,
    pub udp_timeout: Option<GoDuration>,
    pub udp_stream_timeout: Option<GoDuration>,
}

impl Configuration {
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let config = Self::parse(&text).map_err(|message| Error::Parse { path: path.to_owned(), message })?;
        Ok(config)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        match (config.api_version.as_deref(), config.kind.as_deref()) {
            (Some(API_VERSION), Some(KIND)) => Ok(config),
            (version, kind) => Err(format!(
                "apiVersion is {:?} and kind is {:?}; expected {API_VERSION} and {KIND}",
                version.unwrap_or_default(),
                kind.unwrap_or_default()
            )),
        }
    }

    /// The checked settings, with defaults.
    pub fn settings(&self) -> Result<Settings, Error> {
        self.check_mode()?;
        let nftables = self.nftables.clone().unwrap_or_default();
        let bit = nftables.masquerade_bit.unwrap_or(DEFAULT_MASQUERADE_BIT);
        if bit > 31 {
            return invalid("nftables.masqueradeBit", "must be within 0 and 31");
        }
        let period = |d: Option<GoDuration>, default| d.map(Duration::from).filter(|d| !d.is_zero()).unwrap_or(default);
        let bind: IpAddr = match self.bind_address.as_deref().filter(|a| !a.is_empty()) {
            Some(text) => text.parse().or_else(|_| invalid("bindAddress", format!("{text:?} is not an address")))?,
            None => [0, 0, 0, 0].into(),
        };
        Ok(Settings {
            policy: Policy {
                masquerade_all: nftables.masquerade_all.unwrap_or(false),
                masquerade_bit: bit,
                local_traffic: self.local_traffic()?,
                node_port_addresses: self.node_port_addresses()?,
            },
            sync_period: period(nftables.sync_period, DEFAULT_SYNC_PERIOD),
            min_sync_period: period(nftables.min_sync_period, DEFAULT_MIN_SYNC_PERIOD),
            kubeconfig: self.client_connection.kubeconfig.clone().filter(|k| !k.is_empty()).map(PathBuf::from),
            hostname_override: self.hostname_override.clone().filter(|h| !h.is_empty()),
            bind_address: bind,
            bind_hard_fail: self.bind_address_hard_fail.unwrap_or(false),
            healthz: address("healthzBindAddress", self.healthz_bind_address.as_deref(), "0.0.0.0", HEALTHZ_PORT)?,
            metrics: address("metricsBindAddress", self.metrics_bind_address.as_deref(), "127.0.0.1", METRICS_PORT)?,
            oom_score_adj: self.oom_score_adj,
            conntrack: self.conntrack.clone().unwrap_or_default(),
        })
    }

    fn check_mode(&self) -> Result<(), Error> {
        match self.mode.as_deref().unwrap_or_default() {
            "" | "nftables" => Ok(()),
            mode @ ("iptables" | "ipvs") => {
                invalid("mode", format!("{mode:?} is not supported by this version; use \"nftables\" (the default)"))
            }
            mode => invalid("mode", format!("{mode:?} is unknown; expected \"nftables\"")),
        }
    }

    fn local_traffic(&self) -> Result<LocalTraffic, Error> {
        let cidrs = ranges("clusterCIDR", self.cluster_cidr.iter().flat_map(|c| c.split(',')))?;
        let detect = self.detect_local.clone().unwrap_or_default();
        let name = |field: &str, name: Option<String>| match name.filter(|n| is_interface(n)) {
            Some(name) => Ok(name),
            None => invalid(field, "must be the name of an interface (or the start of one)"),
        };
        match self.detect_local_mode.as_deref().unwrap_or_default() {
            "" | "ClusterCIDR" if cidrs.is_empty() => Ok(LocalTraffic::Unknown),
            "" | "ClusterCIDR" => Ok(LocalTraffic::ClusterCidr(cidrs)),
            "NodeCIDR" => Ok(LocalTraffic::NodeCidr),
            "BridgeInterface" => name("detectLocal.bridgeInterface", detect.bridge_interface).map(LocalTraffic::Bridge),
            "InterfaceNamePrefix" => {
                name("detectLocal.interfaceNamePrefix", detect.interface_name_prefix).map(LocalTraffic::InterfacePrefix)
            }
            other => invalid(
                "detectLocalMode",
                format!("{other:?} is unknown; expected ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix"),
            ),
        }
    }

    fn node_port_addresses(&self) -> Result<NodePortAddresses, Error> {
        let listed: Vec<&str> = self.node_port_addresses.iter().flatten().map(String::as_str).collect();
        if listed.is_empty() || listed == ["primary"] {
            return Ok(NodePortAddresses::Primary);
        }
        Ok(NodePortAddresses::Within(ranges("nodePortAddresses", listed.into_iter())?))
    }
}

/// What the process runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    pub policy: Policy,
    pub sync_period: Duration,
    pub min_sync_period: Duration,
    pub kubeconfig: Option<PathBuf>,
    pub hostname_override: Option<String>,
    /// Where health checks of load balancers are served.
    pub bind_address: IpAddr,
    /// A port that cannot be bound ends the process.
    pub bind_hard_fail: bool,
    /// `None` if it is not to be served.
    pub healthz: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub oom_score_adj: Option<i32>,
    pub conntrack: Conntrack,
}

fn ranges<'a>(field: &str, texts: impl Iterator<Item = &'a str>) -> Result<Vec<IpNet>, Error> {
    let texts = texts.map(str::trim).filter(|t| !t.is_empty());
    texts.map(|t| t.parse().or_else(|_| invalid(field, format!("{t:?} is not an address range")))).collect()
}

/// The names that the kernel accepts, without those that would need quoting in a rule.
fn is_interface(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 16
        && name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '*' | '\\' | '/'))
}

/// An address with an optional port. An empty text means the default, as in Kubernetes; port 0 means not at all.
fn address(field: &str, text: Option<&str>, ip: &str, port: u16) -> Result<Option<SocketAddr>, Error> {
    let text = text.filter(|t| !t.is_empty()).unwrap_or(ip);
    let parsed = text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)));
    match parsed {
        Ok(address) => Ok(Some(address).filter(|a| a.port() != 0)),
        Err(_) => invalid(field, format!("{text:?} is not an address with a port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBEADM: &str = r#"
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
"#;

    #[test]
    fn the_file_that_kubeadm_writes_is_read() {
        let settings = Configuration::parse(KUBEADM).unwrap().settings().unwrap();
        assert_eq!(settings.policy.masquerade_bit, 14);
        assert_eq!(
            settings.policy.local_traffic,
            LocalTraffic::ClusterCidr(vec!["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/56".parse().unwrap()])
        );
        assert_eq!(settings.policy.node_port_addresses, NodePortAddresses::Primary);
        assert_eq!(settings.kubeconfig, Some("/var/lib/kube-proxy/kubeconfig.conf".into()));
        assert_eq!(settings.healthz, Some("0.0.0.0:10256".parse().unwrap()));
        assert_eq!(settings.metrics, Some("127.0.0.1:10249".parse().unwrap()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let head = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n");
        for (yaml, message) in [
            ("mode: iptables", "mode: \"iptables\" is not supported by this version; use \"nftables\" (the default)"),
            ("mode: magic", "mode: \"magic\" is unknown; expected \"nftables\""),
            ("clusterCIDR: here", "clusterCIDR: \"here\" is not an address range"),
            ("nftables: {masqueradeBit: 32}", "nftables.masqueradeBit: must be within 0 and 31"),
            (
                "detectLocalMode: BridgeInterface",
                "detectLocal.bridgeInterface: must be the name of an interface (or the start of one)",
            ),
            ("healthzBindAddress: x", "healthzBindAddress: \"x\" is not an address with a port"),
        ] {
            let error = Configuration::parse(&format!("{head}{yaml}\n")).unwrap().settings().unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        assert!(Configuration::parse(&format!("{head}mood: good\n")).unwrap_err().contains("mood"));
        assert!(Configuration::parse("kind: Pod\napiVersion: v1\n").unwrap_err().contains("expected"));
    }
}
