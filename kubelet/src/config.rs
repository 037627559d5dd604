//! `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1): the file, its defaults, and the flags laid over it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use component_base::client::Limiter;
use component_base::options::GoDuration;
use k8s_openapi::api::core::v1::Taint;
use serde::{Deserialize, Serialize};

use crate::cgroups;
use crate::eviction::{self, Threshold};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const DEFAULT_EVICTION_HARD: &[(&str, &str)] = &[
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a KubeletConfiguration: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("{path}: expected apiVersion {API_VERSION} and kind KubeletConfiguration, found {found}")]
    Kind { path: PathBuf, found: String },
    #[error("invalid configuration: {}", .0.join("; "))]
    Invalid(Vec<String>),
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Authentication {
    pub x509: X509,
    pub webhook: WebhookAuthentication,
    pub anonymous: Anonymous,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct X509 {
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebhookAuthentication {
    pub enabled: bool,
    #[serde(rename = "cacheTTL")]
    pub cache_ttl: GoDuration,
}

impl Default for WebhookAuthentication {
    fn default() -> Self {
        Self { enabled: true, cache_ttl: GoDuration::from_secs(120) }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Anonymous {
    pub enabled: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Authorization {
    pub mode: String,
    pub webhook: WebhookAuthorization,
}

impl Default for Authorization {
    fn default() -> Self {
        Self { mode: "Webhook".into(), webhook: WebhookAuthorization::default() }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebhookAuthorization {
    #[serde(rename = "cacheAuthorizedTTL")]
    pub cache_authorized_ttl: GoDuration,
    #[serde(rename = "cacheUnauthorizedTTL")]
    pub cache_unauthorized_ttl: GoDuration,
}

impl Default for WebhookAuthorization {
    fn default() -> Self {
        Self { cache_authorized_ttl: GoDuration::from_secs(300), cache_unauthorized_ttl: GoDuration::from_secs(30) }
    }
}

/// The kubelet's configuration, with the defaults of Kubernetes.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KubeletConfiguration {
    pub api_version: String,
    pub kind: String,
    pub enable_server: bool,
    pub address: String,
    pub port: u16,
    pub read_only_port: u16,
    pub healthz_port: u16,
    pub healthz_bind_address: String,
    pub static_pod_path: Option<PathBuf>,
    #[serde(rename = "staticPodURL")]
    pub static_pod_url: Option<String>,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    pub cgroup_driver: String,
    pub cgroup_root: String,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    pub enforce_node_allocatable: Vec<String>,
    pub authentication: Authentication,
    pub authorization: Authorization,
    pub rotate_certificates: bool,
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: bool,
    pub tls_cert_file: Option<PathBuf>,
    pub tls_private_key_file: Option<PathBuf>,
    pub max_pods: u32,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    pub eviction_hard: Option<BTreeMap<String, String>>,
    pub eviction_soft: BTreeMap<String, String>,
    pub eviction_soft_grace_period: BTreeMap<String, GoDuration>,
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    /// Seconds.
    pub eviction_max_pod_grace_period: u64,
    pub merge_default_eviction_settings: bool,
    pub eviction_pressure_transition_period: GoDuration,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u8,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u8,
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: GoDuration,
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: GoDuration,
    pub container_runtime_endpoint: String,
    pub image_service_endpoint: Option<String>,
    pub node_status_update_frequency: GoDuration,
    pub node_status_report_frequency: GoDuration,
    pub node_lease_duration_seconds: u32,
    pub node_status_max_images: i32,
    pub sync_frequency: GoDuration,
    pub file_check_frequency: GoDuration,
    pub http_check_frequency: GoDuration,
    pub runtime_request_timeout: GoDuration,
    pub streaming_connection_idle_timeout: GoDuration,
    pub volume_stats_agg_period: GoDuration,
    pub fail_swap_on: bool,
    #[serde(rename = "failCgroupV1")]
    pub fail_cgroup_v1: bool,
    pub resolv_conf: Option<String>,
    pub shutdown_grace_period: GoDuration,
    pub shutdown_grace_period_critical_pods: GoDuration,
    pub register_node: bool,
    pub register_with_taints: Vec<Taint>,
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    pub container_log_max_size: String,
    pub container_log_max_files: u32,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: GoDuration,
    pub cpu_manager_policy: String,
    pub cpu_manager_reconcile_period: GoDuration,
    pub memory_manager_policy: String,
    pub topology_manager_policy: String,
    pub hairpin_mode: String,
    pub oom_score_adj: i32,
    pub pod_pids_limit: i64,
    /// With cgroup v2: whether only one process of a container is killed when it has no memory left, and not all.
    #[serde(rename = "singleProcessOOMKill")]
    pub single_process_oom_kill: Option<bool>,
    pub serialize_image_pulls: bool,
    pub max_parallel_image_pulls: Option<i32>,
    #[serde(rename = "staticPodURLHeader")]
    pub static_pod_url_header: BTreeMap<String, Vec<String>>,
    pub max_open_files: i64,
    #[serde(rename = "kubeAPIQPS")]
    pub kube_api_qps: Option<f32>,
    #[serde(rename = "kubeAPIBurst")]
    pub kube_api_burst: Option<u32>,
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: i32,
    pub registry_burst: i32,
    #[serde(rename = "eventRecordQPS")]
    pub event_record_qps: i32,
    pub event_burst: i32,
    pub enable_debugging_handlers: bool,
    pub enable_controller_attach_detach: bool,
    pub make_iptables_util_chains: bool,
    pub protect_kernel_defaults: bool,
    pub allowed_unsafe_sysctls: Vec<String>,
    pub volume_plugin_dir: Option<PathBuf>,
    #[serde(rename = "providerID")]
    pub provider_id: String,
    pub seccomp_default: bool,
    pub local_storage_capacity_isolation: bool,
    pub feature_gates: BTreeMap<String, bool>,
    pub logging: serde_json::Value,
    pub memory_swap: serde_json::Value,
    pub crash_loop_back_off: CrashLoopBackOff,
    pub container_runtime_content_type: Option<String>,
    pub content_type: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CrashLoopBackOff {
    pub max_container_restart_period: GoDuration,
}

impl Default for CrashLoopBackOff {
    fn default() -> Self {
        Self { max_container_restart_period: GoDuration::from_secs(300) }
    }
}

impl Default for KubeletConfiguration {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.into(),
            kind: "KubeletConfiguration".into(),
            enable_server: true,
            address: "0.0.0.0".into(),
            port: 10250,
            read_only_port: 0,
            healthz_port: 10248,
            healthz_bind_address: "127.0.0.1".into(),
            static_pod_path: None,
            static_pod_url: None,
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            cgroup_driver: "cgroupfs".into(),
            cgroup_root: String::new(),
            cgroups_per_qos: true,
            enforce_node_allocatable: vec!["pods".into()],
            authentication: Authentication::default(),
            authorization: Authorization::default(),
            rotate_certificates: false,
            server_tls_bootstrap: false,
            tls_cert_file: None,
            tls_private_key_file: None,
            max_pods: 110,
            pod_cidr: String::new(),
            eviction_hard: None,
            eviction_soft: BTreeMap::new(),
            eviction_soft_grace_period: BTreeMap::new(),
            eviction_minimum_reclaim: BTreeMap::new(),
            eviction_max_pod_grace_period: 0,
            merge_default_eviction_settings: false,
            eviction_pressure_transition_period: GoDuration::from_secs(300),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            image_minimum_gc_age: GoDuration::from_secs(120),
            image_maximum_gc_age: GoDuration::from_secs(0),
            container_runtime_endpoint: "unix:///run/containerd/containerd.sock".into(),
            image_service_endpoint: None,
            node_status_update_frequency: GoDuration::from_secs(10),
            node_status_report_frequency: GoDuration::from_secs(300),
            node_lease_duration_seconds: 40,
            node_status_max_images: 50,
            sync_frequency: GoDuration::from_secs(60),
            file_check_frequency: GoDuration::from_secs(20),
            http_check_frequency: GoDuration::from_secs(20),
            runtime_request_timeout: GoDuration::from_secs(120),
            streaming_connection_idle_timeout: GoDuration::from_secs(4 * 3600),
            volume_stats_agg_period: GoDuration::from_secs(60),
            fail_swap_on: true,
            fail_cgroup_v1: false,
            resolv_conf: None,
            shutdown_grace_period: GoDuration::from_secs(0),
            shutdown_grace_period_critical_pods: GoDuration::from_secs(0),
            register_node: true,
            register_with_taints: Vec::new(),
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            container_log_max_size: "10Mi".into(),
            container_log_max_files: 5,
            cpu_cfs_quota: true,
            cpu_cfs_quota_period: GoDuration(std::time::Duration::from_millis(100)),
            cpu_manager_policy: "none".into(),
            cpu_manager_reconcile_period: GoDuration::from_secs(10),
            memory_manager_policy: "None".into(),
            topology_manager_policy: "none".into(),
            hairpin_mode: "promiscuous-bridge".into(),
            oom_score_adj: -999,
            pod_pids_limit: -1,
            single_process_oom_kill: None,
            serialize_image_pulls: true,
            max_parallel_image_pulls: None,
            static_pod_url_header: BTreeMap::new(),
            max_open_files: 1_000_000,
            kube_api_qps: None,
            kube_api_burst: None,
            registry_pull_qps: 5,
            registry_burst: 10,
            event_record_qps: 50,
            event_burst: 100,
            enable_debugging_handlers: true,
            enable_controller_attach_detach: true,
            make_iptables_util_chains: true,
            protect_kernel_defaults: false,
            allowed_unsafe_sysctls: Vec::new(),
            volume_plugin_dir: None,
            provider_id: String::new(),
            seccomp_default: false,
            local_storage_capacity_isolation: true,
            feature_gates: BTreeMap::new(),
            logging: serde_json::Value::Null,
            memory_swap: serde_json::Value::Null,
            crash_loop_back_off: CrashLoopBackOff::default(),
            container_runtime_content_type: None,
            content_type: None,
        }
    }
}

impl KubeletConfiguration {
    /// Reads the file; a field that this kubelet does not know is an error.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let mut configuration: Self = serde_saphyr::from_str(&text)
            .map_err(|error| Error::Parse { path: path.to_owned(), message: error.to_string() })?;
        if configuration.api_version != API_VERSION || configuration.kind != "KubeletConfiguration" {
            let found = format!("{} {}", configuration.api_version, configuration.kind);
            return Err(Error::Kind { path: path.to_owned(), found });
        }
        configuration.complete();
        Ok(configuration)
    }

    /// What is written as nothing (`0s`, `""`), as tools do with every field that nobody set, has its default.
    fn complete(&mut self) {
        let default = Self::default();
        let (webhook, access) = (&mut self.authentication.webhook, &mut self.authorization.webhook);
        for (period, default) in [
            (&mut self.sync_frequency, default.sync_frequency),
            (&mut self.file_check_frequency, default.file_check_frequency),
            (&mut self.http_check_frequency, default.http_check_frequency),
            (&mut self.runtime_request_timeout, default.runtime_request_timeout),
            (&mut self.streaming_connection_idle_timeout, default.streaming_connection_idle_timeout),
            (&mut self.node_status_update_frequency, default.node_status_update_frequency),
            (&mut self.node_status_report_frequency, default.node_status_report_frequency),
            (&mut self.volume_stats_agg_period, default.volume_stats_agg_period),
            (&mut self.image_minimum_gc_age, default.image_minimum_gc_age),
            (&mut self.eviction_pressure_transition_period, default.eviction_pressure_transition_period),
            (&mut self.cpu_manager_reconcile_period, default.cpu_manager_reconcile_period),
            (&mut self.cpu_cfs_quota_period, default.cpu_cfs_quota_period),
            (&mut webhook.cache_ttl, default.authentication.webhook.cache_ttl),
            (&mut access.cache_authorized_ttl, default.authorization.webhook.cache_authorized_ttl),
            (&mut access.cache_unauthorized_ttl, default.authorization.webhook.cache_unauthorized_ttl),
            (
                &mut self.crash_loop_back_off.max_container_restart_period,
                default.crash_loop_back_off.max_container_restart_period,
            ),
        ] {
            if period.0.is_zero() {
                *period = default;
            }
        }
        for (text, default) in [
            (&mut self.container_runtime_endpoint, default.container_runtime_endpoint),
            (&mut self.address, default.address),
            (&mut self.healthz_bind_address, default.healthz_bind_address),
            (&mut self.cgroup_driver, default.cgroup_driver),
            (&mut self.authorization.mode, default.authorization.mode),
            (&mut self.container_log_max_size, default.container_log_max_size),
        ] {
            if text.is_empty() {
                *text = default;
            }
        }
        // The rates are not among these: 0 a second is without a limit.
        for (burst, default) in
            [(&mut self.event_burst, default.event_burst), (&mut self.registry_burst, default.registry_burst)]
        {
            if *burst == 0 {
                *burst = default;
            }
        }
        if self.max_open_files == 0 {
            self.max_open_files = default.max_open_files;
        }
    }

    /// All thresholds of eviction. Where hard ones are set, the defaults of the others do not count, unless they are to be merged.
    pub fn thresholds(&self) -> Result<Vec<Threshold>, Vec<String>> {
        let defaults = DEFAULT_EVICTION_HARD.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let mut hard: BTreeMap<String, String> = match &self.eviction_hard {
            Some(_) if !self.merge_default_eviction_settings => BTreeMap::new(),
            _ => defaults.collect(),
        };
        hard.extend(self.eviction_hard.clone().unwrap_or_default());
        let soft_grace = self.eviction_soft_grace_period.iter().map(|(key, grace)| (key.clone(), grace.0)).collect();
        eviction::thresholds(eviction::Settings {
            hard: &hard,
            soft: &self.eviction_soft,
            soft_grace: &soft_grace,
            reclaim: &self.eviction_minimum_reclaim,
        })
    }

    /// The hard thresholds of a configuration that is valid.
    pub fn hard_thresholds(&self) -> Vec<Threshold> {
        self.thresholds().unwrap_or_default().into_iter().filter(Threshold::is_hard).collect()
    }

    /// How often events are written; `None` is without a limit.
    pub fn event_limiter(&self) -> Option<Limiter> {
        Limiter::new(self.event_record_qps as f32, u32::try_from(self.event_burst).unwrap_or(0))
    }

    /// How often the runtime is asked to pull images; `None` is without a limit.
    pub fn pull_limiter(&self) -> Option<Limiter> {
        Limiter::new(self.registry_pull_qps as f32, u32::try_from(self.registry_burst).unwrap_or(0))
    }

    /// How many images may be pulled at a time.
    pub fn parallel_pulls(&self) -> usize {
        let most = self.max_parallel_image_pulls.and_then(|most| usize::try_from(most).ok());
        if self.serialize_image_pulls { 1 } else { most.unwrap_or(usize::MAX) }
    }

    /// Everything that is wrong with it, with the field's path.
    pub fn validate(&self) -> Result<(), Error> {
        let mut wrong = Vec::new();
        if !matches!(self.cgroup_driver.as_str(), "cgroupfs" | "systemd") {
            wrong.push(format!(
                "cgroupDriver: Unsupported value: {:?}: supported values: cgroupfs, systemd",
                self.cgroup_driver
            ));
        }
        if self.address.parse::<std::net::IpAddr>().is_err() {
            wrong.push(format!("address: Invalid value: {:?}: must be an IP address", self.address));
        }
        if !matches!(self.authorization.mode.as_str(), "Webhook" | "AlwaysAllow") {
            wrong.push(format!(
                "authorization.mode: Unsupported value: {:?}: supported values: Webhook, AlwaysAllow",
                self.authorization.mode
            ));
        }
        if self.image_gc_low_threshold_percent >= self.image_gc_high_threshold_percent {
            wrong.push("imageGCLowThresholdPercent: must be less than imageGCHighThresholdPercent".into());
        }
        if self.max_parallel_image_pulls.is_some_and(|most| most < 1 || most > 1 && self.serialize_image_pulls) {
            wrong.push(
                "maxParallelImagePulls: must be greater than 0, and is 1 where serializeImagePulls is true".into(),
            );
        }
        wrong.extend(self.thresholds().err().unwrap_or_default());
        if self.node_lease_duration_seconds == 0 {
            wrong.push("nodeLeaseDurationSeconds: Invalid value: 0: must be greater than 0".into());
        }
        if self.container_log_max_files <= 1 {
            wrong.push("containerLogMaxFiles: must be greater than 1".into());
        }
        for (name, value) in [
            ("eventRecordQPS", self.event_record_qps.into()),
            ("eventBurst", self.event_burst.into()),
            ("registryPullQPS", self.registry_pull_qps.into()),
            ("registryBurst", self.registry_burst.into()),
            ("maxOpenFiles", self.max_open_files),
        ] {
            if value < 0 {
                wrong.push(format!("{name}: Invalid value: {value}: must not be a negative number"));
            }
        }
        wrong.extend(self.unsupported());
        for (name, value) in [
            ("cpuManagerPolicy", &self.cpu_manager_policy),
            ("memoryManagerPolicy", &self.memory_manager_policy),
            ("topologyManagerPolicy", &self.topology_manager_policy),
        ] {
            if !value.eq_ignore_ascii_case("none") {
                wrong.push(format!("{name}: {value:?} is not supported yet: only none"));
            }
        }
        for server in &self.cluster_dns {
            if server.parse::<std::net::IpAddr>().is_err() {
                wrong.push(format!("clusterDNS: Invalid value: {server:?}: must be an IP address"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(Error::Invalid(wrong)) }
    }
}

impl KubeletConfiguration {
    /// What the kubelet cannot do, so that nobody relies on it.
    fn unsupported(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.shutdown_grace_period != GoDuration::from_secs(0) {
            wrong.push("shutdownGracePeriod: is not supported yet: only 0s".to_owned());
        }
        if self.cpu_cfs_quota_period != Self::default().cpu_cfs_quota_period {
            wrong.push("cpuCFSQuotaPeriod: must be 100ms without the feature CustomCPUCFSQuotaPeriod".to_owned());
        }
        if self.memory_swap["swapBehavior"].as_str().is_some_and(|swap| !matches!(swap, "" | "NoSwap")) {
            wrong.push("memorySwap.swapBehavior: is not supported yet: only NoSwap".to_owned());
        }
        if self.single_process_oom_kill == Some(false) && !cgroups::is_unified() {
            wrong.push("singleProcessOOMKill: must not be false with cgroup v1".to_owned());
        }
        for kind in &self.enforce_node_allocatable {
            match kind.as_str() {
                "none" if self.enforce_node_allocatable.len() == 1 => {}
                "pods" => {}
                other => {
                    wrong.push(format!("enforceNodeAllocatable: {other:?} is not supported yet: only pods or none"))
                }
            }
        }
        wrong
    }

    /// Whether all pods together are held to what the node has for them.
    pub fn limits_pods(&self) -> bool {
        self.cgroups_per_qos && self.enforce_node_allocatable.iter().any(|kind| kind == "pods")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<KubeletConfiguration, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        KubeletConfiguration::load(file.path())
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error =
            load("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPodz: 3\n").unwrap_err();
        assert!(error.to_string().contains("maxPodz"), "{error}");
    }

    #[test]
    fn what_tools_write_for_nothing_is_the_default() {
        let configuration = load(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nruntimeRequestTimeout: 0s\nhttpCheckFrequency: 0s\n\
             containerRuntimeEndpoint: \"\"\nauthorization: {mode: Webhook, webhook: {cacheAuthorizedTTL: 0s}}\nmemorySwap: {}\n\
             crashLoopBackOff: {}\nshutdownGracePeriod: 0s\nlogging: {flushFrequency: 0}\nimageMaximumGCAge: 0s\n\
             eventBurst: 0\nregistryBurst: 0\nmaxOpenFiles: 0\n",
        )
        .unwrap();
        configuration.validate().unwrap();
        let expected = KubeletConfiguration {
            memory_swap: serde_json::json!({}),
            logging: serde_json::json!({"flushFrequency": 0}),
            ..Default::default()
        };
        assert_eq!(configuration, expected);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let wrong = KubeletConfiguration {
            shutdown_grace_period: GoDuration::from_secs(1),
            cpu_cfs_quota_period: GoDuration::from_secs(1),
            memory_swap: serde_json::json!({"swapBehavior": "LimitedSwap"}),
            enforce_node_allocatable: vec!["pods".into(), "kube-reserved".into()],
            ..Default::default()
        };
        let error = wrong.validate().unwrap_err().to_string();
        for field in ["shutdownGracePeriod", "cpuCFSQuotaPeriod", "memorySwap", "enforceNodeAllocatable"] {
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn fields_in_upper_case_and_durations_are_read() {
        let configuration = load(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nclusterDNS: [10.96.0.10]\nstaticPodURL: http://x\n\
             syncFrequency: 1m30s\nauthentication:\n  x509:\n    clientCAFile: /ca.crt\nevictionHard:\n  memory.available: 100Mi\n\
             registerWithTaints:\n- key: a\n  effect: NoSchedule\n",
        )
        .unwrap();
        assert_eq!(configuration.cluster_dns, ["10.96.0.10"]);
        assert_eq!(configuration.sync_frequency, GoDuration::from_secs(90));
        assert_eq!(configuration.authentication.x509.client_ca_file.as_deref(), Some(Path::new("/ca.crt")));
        assert_eq!(configuration.register_with_taints[0].key, "a");
        assert_eq!(configuration.max_pods, 110);
        configuration.validate().unwrap();
    }

    #[test]
    fn another_kind_is_refused() {
        assert!(matches!(load("apiVersion: v1\nkind: KubeletConfiguration\n"), Err(Error::Kind { .. })));
    }

    #[test]
    fn validation_names_every_wrong_field() {
        let configuration = KubeletConfiguration {
            cgroup_driver: "x".into(),
            address: "host".into(),
            cluster_dns: vec!["dns".into()],
            event_record_qps: -1,
            event_burst: -1,
            registry_pull_qps: -1,
            registry_burst: -1,
            max_open_files: -1,
            ..Default::default()
        };
        let message = configuration.validate().unwrap_err().to_string();
        let negative = ["eventRecordQPS", "eventBurst", "registryPullQPS", "registryBurst", "maxOpenFiles"];
        for field in ["cgroupDriver", "address", "clusterDNS"].iter().chain(&negative) {
            assert!(message.contains(field), "{message}");
        }
    }
}
