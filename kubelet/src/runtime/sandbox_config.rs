//! The CRI configuration of a pod's sandbox. Pure.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use k8s_openapi::api::core::v1::{AppArmorProfile, Pod, SELinuxOptions};
use proto::cri as api;

use super::labels;
use crate::pod;

/// What a node's resolver is set to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolver {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

impl Resolver {
    /// Reads the text of a `resolv.conf`.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            let key = words.next();
            let rest = words.map(str::to_owned);
            match key {
                Some("nameserver") => resolver.servers.extend(rest.take(1)),
                Some("search") => resolver.searches = rest.collect(),
                Some("options") => resolver.options = rest.collect(),
                _ => {}
            }
        }
        resolver
    }
}

/// What of the node goes into sandboxes.
#[derive(Clone, Debug)]
pub struct NodeFacts<'a> {
    pub cluster_dns: &'a [String],
    pub cluster_domain: &'a str,
    pub resolver: &'a Resolver,
    pub logs: &'a Path,
}

/// Most search domains that resolvers take.
const MAX_SEARCHES: usize = 32;
/// Most name servers that resolvers take.
const MAX_SERVERS: usize = 3;

/// The resolver of a pod.
pub fn dns(pod: &Pod, node: &NodeFacts<'_>) -> Resolver {
    let spec = pod::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod::host_network(pod),
        _ => false,
    };
    let mut resolver = match policy {
        "None" => Resolver::default(),
        _ if cluster && !node.cluster_dns.is_empty() => cluster_resolver(pod, node),
        _ => node.resolver.clone(),
    };
    if let Some(config) = &spec.dns_config {
        resolver.servers.extend(config.nameservers.iter().flatten().cloned());
        resolver.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            resolver.options.retain(|old| old.split(':').next() != Some(name));
            resolver.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            });
        }
    }
    unique(&mut resolver.servers, MAX_SERVERS);
    unique(&mut resolver.searches, MAX_SEARCHES);
    resolver
}

fn cluster_resolver(pod: &Pod, node: &NodeFacts<'_>) -> Resolver {
    let mut searches = Vec::new();
    if !node.cluster_domain.is_empty() {
        let (namespace, domain) = (pod::namespace(pod), node.cluster_domain);
        searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    }
    searches.extend(node.resolver.searches.iter().cloned());
    Resolver { servers: node.cluster_dns.to_vec(), searches, options: vec!["ndots:5".into()] }
}

fn unique(list: &mut Vec<String>, most: usize) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
    list.truncate(most);
}

/// The host name inside the pod. Empty in the host's network, where the node's stands.
pub fn hostname(pod: &Pod) -> String {
    let spec = pod::spec(pod);
    if pod::host_network(pod) {
        return String::new();
    }
    let name = spec.hostname_override.as_deref().or(spec.hostname.as_deref()).unwrap_or_else(|| pod::name(pod));
    let cut = &name[..name.len().min(63)];
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The host name that the kernel shows in the pod: with `setHostnameAsFQDN` the full one, if it has a domain.
fn kernel_hostname(pod: &Pod, domain: &str) -> String {
    let spec = pod::spec(pod);
    let (short, namespace) = (hostname(pod), pod::namespace(pod));
    match spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty() && !short.is_empty()) {
        Some(subdomain) if spec.set_hostname_as_fqdn == Some(true) => {
            format!("{short}.{subdomain}.{namespace}.svc.{domain}")
        }
        _ => short,
    }
}

/// The namespaces shared with the host or among the containers.
pub fn namespaces(pod: &Pod) -> api::NamespaceOption {
    let spec = pod::spec(pod);
    let node = |on: Option<bool>| if on.unwrap_or(false) { api::NamespaceMode::Node } else { api::NamespaceMode::Pod };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => api::NamespaceMode::Node,
        (_, Some(true)) => api::NamespaceMode::Pod,
        _ => api::NamespaceMode::Container,
    };
    api::NamespaceOption {
        network: node(spec.host_network).into(),
        pid: pid.into(),
        ipc: node(spec.host_ipc).into(),
        ..Default::default()
    }
}

/// A seccomp profile of the API as CRI wants it; localhost profiles lie below the kubelet's root.
pub fn seccomp(profile: Option<&k8s_openapi::api::core::v1::SeccompProfile>, root: &Path) -> api::SecurityProfile {
    use api::security_profile::ProfileType;
    let (kind, localhost_ref) = match profile.map(|profile| (profile.type_.as_str(), &profile.localhost_profile)) {
        Some(("RuntimeDefault", _)) => (ProfileType::RuntimeDefault, String::new()),
        Some(("Localhost", Some(path))) => {
            (ProfileType::Localhost, root.join("seccomp").join(path).display().to_string())
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    api::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

/// An AppArmor profile of the API as CRI wants it.
pub fn apparmor(profile: &AppArmorProfile) -> api::SecurityProfile {
    use api::security_profile::ProfileType;
    let (kind, localhost_ref) = match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", Some(name)) => (ProfileType::Localhost, name.clone()),
        ("Unconfined", _) => (ProfileType::Unconfined, String::new()),
        _ => (ProfileType::RuntimeDefault, String::new()),
    };
    api::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

/// SELinux labels of the API as CRI wants them.
pub fn selinux(options: Option<&SELinuxOptions>) -> Option<api::SeLinuxOption> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    options.map(|options| api::SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    })
}

fn port_mappings(pod: &Pod) -> Vec<api::PortMapping> {
    if pod::host_network(pod) {
        return Vec::new();
    }
    let spec = pod::spec(pod);
    let sidecars = spec.init_containers.iter().flatten().filter(|c| pod::kind_of_init(c) == pod::Kind::Sidecar);
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter(|port| port.host_port.is_some_and(|port| port != 0))
        .map(|port| api::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => api::Protocol::Udp,
                Some("SCTP") => api::Protocol::Sctp,
                _ => api::Protocol::Tcp,
            }
            .into(),
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or_default(),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

fn to_map(map: Option<&BTreeMap<String, String>>) -> HashMap<String, String> {
    map.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The sandbox's configuration for one attempt.
pub fn build(
    pod: &Pod,
    attempt: u32,
    node: &NodeFacts<'_>,
    cgroup_parent: &str,
    supplemental: &[i64],
) -> api::PodSandboxConfig {
    let resolver = dns(pod, node);
    let mut label_map = to_map(pod.metadata.labels.as_ref());
    label_map.insert(labels::POD_NAME.into(), pod::name(pod).into());
    label_map.insert(labels::POD_NAMESPACE.into(), pod::namespace(pod).into());
    label_map.insert(labels::POD_UID.into(), pod::uid(pod).into());
    api::PodSandboxConfig {
        metadata: Some(api::PodSandboxMetadata {
            name: pod::name(pod).into(),
            uid: pod::uid(pod).into(),
            namespace: pod::namespace(pod).into(),
            attempt,
        }),
        hostname: kernel_hostname(pod, node.cluster_domain),
        log_directory: node.logs.join(pod::log_directory_name(pod)).display().to_string(),
        dns_config: Some(api::DnsConfig {
            servers: resolver.servers,
            searches: resolver.searches,
            options: resolver.options,
        }),
        port_mappings: port_mappings(pod),
        labels: label_map,
        annotations: to_map(pod.metadata.annotations.as_ref()),
        linux: Some(linux(pod, cgroup_parent, supplemental)),
        windows: None,
    }
}

fn linux(pod: &Pod, cgroup_parent: &str, supplemental: &[i64]) -> api::LinuxPodSandboxConfig {
    let spec = pod::spec(pod);
    let context = spec.security_context.as_ref();
    let privileged = pod::containers(pod).iter().any(|(_, container)| {
        container.security_context.as_ref().is_some_and(|context| context.privileged.unwrap_or(false))
    });
    let id = |value: Option<i64>| value.map(|value| api::Int64Value { value });
    let run_as_user = context.and_then(|context| context.run_as_user);
    api::LinuxPodSandboxConfig {
        cgroup_parent: cgroup_parent.to_owned(),
        security_context: Some(api::LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces(pod)),
            run_as_user: id(run_as_user),
            // A group without a user is refused by runtimes.
            run_as_group: run_as_user.and(id(context.and_then(|context| context.run_as_group))),
            supplemental_groups: supplemental.to_vec(),
            privileged,
            selinux_options: selinux(context.and_then(|context| context.se_linux_options.as_ref())),
            seccomp: Some(api::SecurityProfile {
                profile_type: api::security_profile::ProfileType::RuntimeDefault.into(),
                localhost_ref: String::new(),
            }),
            ..Default::default()
        }),
        sysctls: context
            .and_then(|context| context.sysctls.as_ref())
            .into_iter()
            .flatten()
            .map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone()))
            .collect(),
        ..Default::default()
    }
}

/// Groups that all processes of the pod belong to: `supplementalGroups`, `fsGroup`, and those of volumes.
pub fn supplemental_groups(pod: &Pod) -> Vec<i64> {
    let context = pod::spec(pod).security_context.as_ref();
    let listed = context.and_then(|context| context.supplemental_groups.clone()).unwrap_or_default();
    listed.into_iter().chain(context.and_then(|context| context.fs_group)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u1"}, "spec": spec}))
            .unwrap()
    }

    fn resolve(spec: serde_json::Value) -> (String, String, String) {
        let resolver = Resolver::parse("# c\nnameserver 9.9.9.9\nsearch lan home\noptions edns0\n");
        let servers = ["10.96.0.10".to_owned()];
        let node = NodeFacts {
            cluster_dns: &servers,
            cluster_domain: "cluster.local",
            resolver: &resolver,
            logs: Path::new("/l"),
        };
        let dns = dns(&pod(spec), &node);
        (dns.servers.join(" "), dns.searches.join(" "), dns.options.join(" "))
    }

    #[test]
    fn resolvers_follow_policy_and_config() {
        let cluster = "shop.svc.cluster.local svc.cluster.local cluster.local lan home";
        for (spec, servers, searches, options) in [
            (json!({}), "10.96.0.10", cluster, "ndots:5"),
            (json!({"hostNetwork": true}), "9.9.9.9", "lan home", "edns0"),
            (json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), "10.96.0.10", cluster, "ndots:5"),
            (json!({"dnsPolicy": "Default"}), "9.9.9.9", "lan home", "edns0"),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a"]}}),
                "1.1.1.1",
                "a",
                "",
            ),
            (
                json!({"dnsConfig": {"searches": ["lan", "b"], "options": [{"name": "ndots", "value": "2"}, {"name": "x"}]}}),
                "10.96.0.10",
                "shop.svc.cluster.local svc.cluster.local cluster.local lan home b",
                "ndots:2 x",
            ),
        ] {
            let text = spec.to_string();
            assert_eq!(resolve(spec), (servers.into(), searches.into(), options.into()), "{text}");
        }
    }

    #[test]
    fn namespaces_and_ports_of_the_host() {
        let shared = pod(json!({"shareProcessNamespace": true}));
        assert_eq!(namespaces(&shared).pid(), api::NamespaceMode::Pod);
        let host = pod(
            json!({"hostPID": true, "hostNetwork": true, "containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 1}]}]}),
        );
        assert_eq!(
            (namespaces(&host).pid(), namespaces(&host).network()),
            (api::NamespaceMode::Node, api::NamespaceMode::Node)
        );
        assert!(port_mappings(&host).is_empty());
        let mapped = pod(
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "UDP"}, {"containerPort": 1}]}]}),
        );
        assert_eq!(port_mappings(&mapped).len(), 1);
        assert_eq!(port_mappings(&mapped)[0].protocol(), api::Protocol::Udp);
        assert_eq!(hostname(&pod(json!({"hostname": "h"}))), "h");
        let full = json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true});
        assert_eq!(kernel_hostname(&pod(full), "cluster.local"), "h.s.shop.svc.cluster.local");
    }
}
