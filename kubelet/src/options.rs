//! The kubelet's flags. Those that Kubernetes deprecates in favour of the configuration file are laid over what the file says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{ArgAction, Parser};
use component_base::options::GoDuration;

use crate::config::{Error, KubeletConfiguration};

/// Flags of Kubernetes' kubelet that are known here only to say that they are not supported.
const UNSUPPORTED: &[&str] = &[
    "boot-id-file",
    "cloud-provider",
    "config-dir",
    "container-hints",
    "containerd",
    "containerd-namespace",
    "contention-profiling",
    "cpu-manager-policy",
    "cpu-manager-policy-options",
    "cpu-manager-reconcile-period",
    "enable-load-reader",
    "exit-on-lock-contention",
    "experimental-allocatable-ignore-eviction",
    "experimental-mounter-path",
    "image-credential-provider-bin-dir",
    "image-credential-provider-config",
    "lock-file",
    "memory-manager-policy",
    "qos-reserved",
    "reserved-cpus",
    "reserved-memory",
    "runonce",
    "storage-driver-db",
    "storage-driver-host",
    "storage-driver-table",
    "topology-manager-policy",
    "topology-manager-policy-options",
    "topology-manager-scope",
    "vmodule",
];

/// kubelet: the node agent. It runs the pods of its node with a container runtime and tells the API server about them.
#[derive(Clone, Debug, Parser)]
#[command(name = "kubelet", version = component_base::version::GIT_VERSION)]
pub struct Options {
    /// The KubeletConfiguration file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// How to reach the API server. Without it the kubelet runs static pods only.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// A kubeconfig with a bootstrap token, used to ask for a client certificate when --kubeconfig does not exist.
    #[arg(long)]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Where the kubelet keeps its own certificates.
    #[arg(long, default_value = "/var/lib/kubelet/pki")]
    pub cert_dir: PathBuf,
    /// Where the kubelet keeps volumes and its other files.
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// Where pods' logs are kept.
    #[arg(long, default_value = "/var/log/pods", hide = true)]
    pub pod_logs_dir: PathBuf,
    /// The node's address, or two of them separated by a comma (IPv4 and IPv6).
    #[arg(long)]
    pub node_ip: Option<String>,
    /// The node's name; the host name unless given.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// Labels to add when the node is registered: key=value, separated by commas.
    #[arg(long)]
    pub node_labels: Option<String>,
    /// Log verbosity.
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub verbosity: u8,
    /// Log format: text or json.
    #[arg(long, default_value = "text")]
    pub logging_format: String,

    #[arg(long)]
    address: Option<String>,
    #[arg(long)]
    port: Option<u16>,
    #[arg(long)]
    read_only_port: Option<u16>,
    #[arg(long)]
    healthz_port: Option<u16>,
    #[arg(long)]
    healthz_bind_address: Option<String>,
    #[arg(long)]
    container_runtime_endpoint: Option<String>,
    #[arg(long)]
    image_service_endpoint: Option<String>,
    #[arg(long)]
    pod_manifest_path: Option<PathBuf>,
    #[arg(long)]
    manifest_url: Option<String>,
    #[arg(long)]
    manifest_url_header: Option<String>,
    #[arg(long, value_delimiter = ',')]
    cluster_dns: Vec<String>,
    #[arg(long)]
    cluster_domain: Option<String>,
    #[arg(long, value_delimiter = ',')]
    allowed_unsafe_sysctls: Vec<String>,
    #[arg(long)]
    cgroup_driver: Option<String>,
    #[arg(long)]
    cgroup_root: Option<String>,
    #[arg(long)]
    client_ca_file: Option<PathBuf>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    anonymous_auth: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    authentication_token_webhook: Option<bool>,
    #[arg(long)]
    authorization_mode: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    rotate_certificates: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    rotate_server_certificates: Option<bool>,
    #[arg(long)]
    tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    tls_private_key_file: Option<PathBuf>,
    #[arg(long)]
    max_pods: Option<u32>,
    #[arg(long)]
    pod_cidr: Option<String>,
    #[arg(long)]
    eviction_hard: Option<String>,
    #[arg(long)]
    eviction_soft: Option<String>,
    #[arg(long)]
    eviction_soft_grace_period: Option<String>,
    #[arg(long)]
    eviction_minimum_reclaim: Option<String>,
    #[arg(long)]
    eviction_max_pod_grace_period: Option<u64>,
    #[arg(long)]
    eviction_pressure_transition_period: Option<GoDuration>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    fail_swap_on: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    register_node: Option<bool>,
    #[arg(long)]
    register_with_taints: Option<String>,
    #[arg(long)]
    resolv_conf: Option<String>,
    #[arg(long)]
    system_reserved: Option<String>,
    #[arg(long)]
    kube_reserved: Option<String>,
    #[arg(long)]
    node_status_update_frequency: Option<GoDuration>,
    #[arg(long)]
    file_check_frequency: Option<GoDuration>,
    #[arg(long)]
    sync_frequency: Option<GoDuration>,
    #[arg(long)]
    container_log_max_size: Option<String>,
    #[arg(long)]
    container_log_max_files: Option<u32>,
    #[arg(long)]
    image_gc_high_threshold: Option<u8>,
    #[arg(long)]
    image_gc_low_threshold: Option<u8>,
    #[arg(long)]
    provider_id: Option<String>,
    #[arg(long)]
    max_open_files: Option<i64>,
    #[arg(long)]
    event_qps: Option<i32>,
    #[arg(long)]
    event_burst: Option<i32>,
    #[arg(long)]
    registry_qps: Option<i32>,
    #[arg(long)]
    registry_burst: Option<i32>,
    /// The image of sandboxes, which is never removed; where it is not given, the runtime is asked.
    #[arg(long)]
    pub pod_infra_container_image: Option<String>,
}

impl Options {
    /// Reads the command line; prints and exits as clap does, naming flags that exist in Kubernetes but not here.
    pub fn from_args() -> Self {
        for argument in std::env::args().skip(1) {
            let name = argument.trim_start_matches('-').split('=').next().unwrap_or_default().to_owned();
            if argument.starts_with("--") && UNSUPPORTED.contains(&name.as_str()) {
                eprintln!("error: the flag --{name} of Kubernetes' kubelet is not supported by this kubelet");
                std::process::exit(2);
            }
        }
        Self::parse()
    }

    /// The configuration file with the flags laid over it, checked.
    pub fn configuration(&self) -> Result<KubeletConfiguration, Error> {
        let mut configuration = match &self.config {
            Some(path) => KubeletConfiguration::load(path)?,
            None => KubeletConfiguration::default(),
        };
        self.overlay(&mut configuration)?;
        configuration.validate()?;
        Ok(configuration)
    }

    fn overlay(&self, to: &mut KubeletConfiguration) -> Result<(), Error> {
        fn set<T: Clone>(field: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                *field = value.clone();
            }
        }
        fn set_option<T: Clone>(field: &mut Option<T>, flag: &Option<T>) {
            if flag.is_some() {
                field.clone_from(flag);
            }
        }
        set(&mut to.address, &self.address);
        set(&mut to.port, &self.port);
        set(&mut to.read_only_port, &self.read_only_port);
        set(&mut to.healthz_port, &self.healthz_port);
        set(&mut to.healthz_bind_address, &self.healthz_bind_address);
        set(&mut to.container_runtime_endpoint, &self.container_runtime_endpoint);
        set_option(&mut to.image_service_endpoint, &self.image_service_endpoint);
        set_option(&mut to.static_pod_path, &self.pod_manifest_path);
        set_option(&mut to.static_pod_url, &self.manifest_url);
        if !self.cluster_dns.is_empty() {
            to.cluster_dns.clone_from(&self.cluster_dns);
        }
        set(&mut to.cluster_domain, &self.cluster_domain);
        to.allowed_unsafe_sysctls.extend(self.allowed_unsafe_sysctls.iter().cloned());
        set(&mut to.cgroup_driver, &self.cgroup_driver);
        set(&mut to.cgroup_root, &self.cgroup_root);
        set_option(&mut to.authentication.x509.client_ca_file, &self.client_ca_file);
        set(&mut to.authentication.anonymous.enabled, &self.anonymous_auth);
        set(&mut to.authentication.webhook.enabled, &self.authentication_token_webhook);
        set(&mut to.authorization.mode, &self.authorization_mode);
        set(&mut to.rotate_certificates, &self.rotate_certificates);
        set(&mut to.server_tls_bootstrap, &self.rotate_server_certificates);
        set_option(&mut to.tls_cert_file, &self.tls_cert_file);
        set_option(&mut to.tls_private_key_file, &self.tls_private_key_file);
        set(&mut to.max_pods, &self.max_pods);
        set(&mut to.pod_cidr, &self.pod_cidr);
        set(&mut to.fail_swap_on, &self.fail_swap_on);
        set(&mut to.register_node, &self.register_node);
        set_option(&mut to.resolv_conf, &self.resolv_conf);
        set(&mut to.node_status_update_frequency, &self.node_status_update_frequency);
        set(&mut to.file_check_frequency, &self.file_check_frequency);
        set(&mut to.sync_frequency, &self.sync_frequency);
        set(&mut to.container_log_max_size, &self.container_log_max_size);
        set(&mut to.container_log_max_files, &self.container_log_max_files);
        set(&mut to.image_gc_high_threshold_percent, &self.image_gc_high_threshold);
        set(&mut to.image_gc_low_threshold_percent, &self.image_gc_low_threshold);
        set(&mut to.provider_id, &self.provider_id);
        set(&mut to.max_open_files, &self.max_open_files);
        set(&mut to.event_record_qps, &self.event_qps);
        set(&mut to.event_burst, &self.event_burst);
        set(&mut to.registry_pull_qps, &self.registry_qps);
        set(&mut to.registry_burst, &self.registry_burst);
        for (name, value) in pairs_of("manifest-url-header", self.manifest_url_header.as_deref(), ':')? {
            to.static_pod_url_header.entry(name).or_default().push(value);
        }
        if let Some(text) = &self.eviction_hard {
            to.eviction_hard = Some(pairs("eviction-hard", text, '<')?);
        }
        if let Some(text) = &self.eviction_soft {
            to.eviction_soft = pairs("eviction-soft", text, '<')?;
        }
        if let Some(text) = &self.eviction_minimum_reclaim {
            to.eviction_minimum_reclaim = pairs("eviction-minimum-reclaim", text, '=')?;
        }
        for (signal, text) in
            pairs("eviction-soft-grace-period", self.eviction_soft_grace_period.as_deref().unwrap_or_default(), '=')?
        {
            let wrong = |_| Error::Invalid(vec![format!("--eviction-soft-grace-period: {text:?} is not a duration")]);
            to.eviction_soft_grace_period.insert(signal, text.parse().map_err(wrong)?);
        }
        set(&mut to.eviction_max_pod_grace_period, &self.eviction_max_pod_grace_period);
        set(&mut to.eviction_pressure_transition_period, &self.eviction_pressure_transition_period);
        if let Some(text) = &self.system_reserved {
            to.system_reserved = pairs("system-reserved", text, '=')?;
        }
        if let Some(text) = &self.kube_reserved {
            to.kube_reserved = pairs("kube-reserved", text, '=')?;
        }
        if let Some(text) = &self.register_with_taints {
            to.register_with_taints =
                text.split(',').filter(|part| !part.is_empty()).map(taint).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    /// The labels of `--node-labels`.
    pub fn labels(&self) -> Result<BTreeMap<String, String>, Error> {
        pairs("node-labels", self.node_labels.as_deref().unwrap_or_default(), '=')
    }
}

fn pairs(flag: &str, text: &str, separator: char) -> Result<BTreeMap<String, String>, Error> {
    Ok(pairs_of(flag, Some(text), separator)?.into_iter().collect())
}

/// Pairs in their order; a name may come again.
fn pairs_of(flag: &str, text: Option<&str>, separator: char) -> Result<Vec<(String, String)>, Error> {
    let part = |part: &str| match part.split_once(separator) {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(Error::Invalid(vec![format!("--{flag}: {part:?}: expected key{separator}value")])),
    };
    text.unwrap_or_default().split(',').filter(|text| !text.is_empty()).map(part).collect()
}

fn taint(text: &str) -> Result<k8s_openapi::api::core::v1::Taint, Error> {
    let wrong = || Error::Invalid(vec![format!("--register-with-taints: {text:?}: expected key[=value]:effect")]);
    let (key, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (key, value) = key.split_once('=').map_or((key, None), |(key, value)| (key, Some(value.to_owned())));
    Ok(k8s_openapi::api::core::v1::Taint { key: key.into(), value, effect: effect.into(), time_added: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 5\nport: 1\n",
        )
        .unwrap();
        let path = file.path().to_str().unwrap();
        let options = Options::parse_from([
            "kubelet",
            "--config",
            path,
            "--max-pods=7",
            "--fail-swap-on=false",
            "--cluster-dns=10.0.0.1,10.0.0.2",
            "--register-with-taints=a=b:NoSchedule,c:NoExecute",
            "--eviction-hard=memory.available<5%",
            "-v",
            "2",
        ]);
        let configuration = options.configuration().unwrap();
        assert_eq!((configuration.max_pods, configuration.port, configuration.fail_swap_on), (7, 1, false));
        assert_eq!(configuration.cluster_dns.len(), 2);
        assert_eq!(configuration.register_with_taints[1].effect, "NoExecute");
        assert_eq!(configuration.eviction_hard.unwrap()["memory.available"], "5%");
    }
}
