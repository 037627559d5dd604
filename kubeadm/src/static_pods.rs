//! The manifests of the control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler as static pods.
//! The flags stand here too, since a test or a person may start the same processes without a kubelet.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    config::{self, Arg, ClusterConfiguration},
    constants,
    files::File,
};

/// The node whose control plane it is.
pub struct Node<'a> {
    pub name: &'a str,
    pub address: IpAddr,
    pub port: u16,
}

pub type Flags = Vec<(String, String)>;

fn flags(table: Vec<(&str, String)>, extra: &[Arg]) -> Flags {
    let mut flags: Flags = table.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    for arg in extra {
        match flags.iter_mut().find(|(name, _)| *name == arg.name) {
            Some((_, value)) => value.clone_from(&arg.value),
            None => flags.push((arg.name.clone(), arg.value.clone())),
        }
    }
    flags.sort();
    flags
}

/// A flag as one word of a command line.
pub fn words(flags: &Flags) -> impl Iterator<Item = String> + '_ {
    flags.iter().map(|(name, value)| format!("--{name}={value}"))
}

/// The flags of kube-apiserver.
pub fn apiserver_flags(cluster: &ClusterConfiguration, node: &Node<'_>, etcd: &str) -> Flags {
    let pki = |file: &str| cluster.pki(file);
    flags(
        vec![
            ("advertise-address", node.address.to_string()),
            ("allow-privileged", "true".into()),
            ("authorization-mode", "Node,RBAC".into()),
            ("client-ca-file", pki("ca.crt")),
            ("enable-admission-plugins", "NodeRestriction".into()),
            ("enable-bootstrap-token-auth", "true".into()),
            ("etcd-cafile", pki("etcd/ca.crt")),
            ("etcd-certfile", pki("apiserver-etcd-client.crt")),
            ("etcd-keyfile", pki("apiserver-etcd-client.key")),
            ("etcd-servers", etcd.to_owned()),
            ("kubelet-client-certificate", pki("apiserver-kubelet-client.crt")),
            ("kubelet-client-key", pki("apiserver-kubelet-client.key")),
            ("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname".into()),
            ("proxy-client-cert-file", pki("front-proxy-client.crt")),
            ("proxy-client-key-file", pki("front-proxy-client.key")),
            ("requestheader-allowed-names", "front-proxy-client".into()),
            ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-".into()),
            ("requestheader-group-headers", "X-Remote-Group".into()),
            ("requestheader-username-headers", "X-Remote-User".into()),
            ("secure-port", node.port.to_string()),
            ("service-account-issuer", format!("https://kubernetes.default.svc.{}", cluster.networking.dns_domain)),
            ("service-account-key-file", pki("sa.pub")),
            ("service-account-signing-key-file", pki("sa.key")),
            ("service-cluster-ip-range", cluster.networking.service_subnet.clone()),
            ("tls-cert-file", pki("apiserver.crt")),
            ("tls-private-key-file", pki("apiserver.key")),
        ],
        &cluster.api_server.extra_args,
    )
}

/// The flags of kube-controller-manager, with its kubeconfig.
pub fn controller_manager_flags(cluster: &ClusterConfiguration, kubeconfig: &str) -> Flags {
    let pki = |file: &str| cluster.pki(file);
    flags(
        vec![
            ("allocate-node-cidrs", "true".into()),
            ("authentication-kubeconfig", kubeconfig.to_owned()),
            ("authorization-kubeconfig", kubeconfig.to_owned()),
            ("bind-address", "127.0.0.1".into()),
            ("client-ca-file", pki("ca.crt")),
            ("cluster-cidr", cluster.networking.pod_subnet.clone()),
            ("cluster-name", cluster.cluster_name.clone()),
            ("cluster-signing-cert-file", pki("ca.crt")),
            ("cluster-signing-key-file", pki("ca.key")),
            ("kubeconfig", kubeconfig.to_owned()),
            ("leader-elect", "true".into()),
            ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
            ("root-ca-file", pki("ca.crt")),
            ("service-account-private-key-file", pki("sa.key")),
            ("service-cluster-ip-range", cluster.networking.service_subnet.clone()),
            ("use-service-account-credentials", "true".into()),
        ],
        &cluster.controller_manager.extra_args,
    )
}

/// The flags of kube-scheduler, with its kubeconfig.
pub fn scheduler_flags(cluster: &ClusterConfiguration, kubeconfig: &str) -> Flags {
    flags(
        vec![
            ("authentication-kubeconfig", kubeconfig.to_owned()),
            ("authorization-kubeconfig", kubeconfig.to_owned()),
            ("bind-address", "127.0.0.1".into()),
            ("kubeconfig", kubeconfig.to_owned()),
            ("leader-elect", "true".into()),
        ],
        &cluster.scheduler.extra_args,
    )
}

/// The flags of a single etcd.
pub fn etcd_flags(cluster: &ClusterConfiguration, node: &Node<'_>) -> Flags {
    let pki = |file: &str| cluster.pki(file);
    let (client, peer) =
        (format!("https://{}", host(node.address, 2379)), format!("https://{}", host(node.address, 2380)));
    flags(
        vec![
            ("advertise-client-urls", client.clone()),
            ("cert-file", pki("etcd/server.crt")),
            ("client-cert-auth", "true".into()),
            ("data-dir", cluster.etcd.local.data_dir.clone()),
            ("initial-advertise-peer-urls", peer.clone()),
            ("initial-cluster", format!("{}={peer}", node.name)),
            ("key-file", pki("etcd/server.key")),
            ("listen-client-urls", format!("https://127.0.0.1:2379,{client}")),
            ("listen-metrics-urls", "http://127.0.0.1:2381".into()),
            ("listen-peer-urls", peer),
            ("name", node.name.to_owned()),
            ("peer-cert-file", pki("etcd/peer.crt")),
            ("peer-client-cert-auth", "true".into()),
            ("peer-key-file", pki("etcd/peer.key")),
            ("peer-trusted-ca-file", pki("etcd/ca.crt")),
            ("snapshot-count", "10000".into()),
            ("trusted-ca-file", pki("etcd/ca.crt")),
        ],
        &cluster.etcd.local.extra_args,
    )
}

/// An address and a port as they stand in a URL.
pub fn host(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

struct Component<'a> {
    name: &'a str,
    flags: Flags,
    requests: Value,
    probe: Probe<'a>,
    /// Name, path on the node (and in the container), type, and whether it may be written.
    volumes: Vec<(&'a str, String, &'a str, bool)>,
}

#[derive(Clone, Copy)]
struct Probe<'a> {
    host: &'a str,
    port: u16,
    scheme: &'a str,
    liveness: &'a str,
    readiness: Option<&'a str>,
}

/// The four manifests. etcd's comes last, since the kubelet starts what it finds, and waits for nothing.
pub fn plan(cluster: &ClusterConfiguration, node: &Node<'_>) -> Result<Vec<File>, config::Error> {
    let address = node.address.to_string();
    [apiserver(cluster, node, &address), controller_manager(cluster), scheduler(cluster), etcd(cluster, node)]
        .iter()
        .map(|component| {
            let path = format!("{}/{}.yaml", constants::MANIFESTS_DIR, component.name);
            Ok(File::secret(path, config::yaml(&manifest(cluster, node, component))?))
        })
        .collect()
}

fn apiserver<'a>(cluster: &ClusterConfiguration, node: &Node<'_>, address: &'a str) -> Component<'a> {
    Component {
        name: "kube-apiserver",
        flags: apiserver_flags(cluster, node, "https://127.0.0.1:2379"),
        requests: json!({ "cpu": "250m" }),
        probe: Probe {
            host: address,
            port: node.port,
            scheme: "HTTPS",
            liveness: "/livez",
            readiness: Some("/readyz"),
        },
        volumes: vec![("k8s-certs", cluster.certificates_dir.clone(), "DirectoryOrCreate", false)],
    }
}

fn controller_manager<'a>(cluster: &ClusterConfiguration) -> Component<'a> {
    Component {
        name: "kube-controller-manager",
        flags: controller_manager_flags(cluster, constants::CONTROLLER_MANAGER_CONF),
        requests: json!({ "cpu": "200m" }),
        probe: Probe { host: "127.0.0.1", port: 10257, scheme: "HTTPS", liveness: "/healthz", readiness: None },
        volumes: vec![
            ("k8s-certs", cluster.certificates_dir.clone(), "DirectoryOrCreate", false),
            ("kubeconfig", constants::CONTROLLER_MANAGER_CONF.into(), "FileOrCreate", false),
        ],
    }
}

fn scheduler<'a>(cluster: &ClusterConfiguration) -> Component<'a> {
    Component {
        name: "kube-scheduler",
        flags: scheduler_flags(cluster, constants::SCHEDULER_CONF),
        requests: json!({ "cpu": "100m" }),
        probe: Probe {
            host: "127.0.0.1",
            port: 10259,
            scheme: "HTTPS",
            liveness: "/livez",
            readiness: Some("/readyz"),
        },
        volumes: vec![("kubeconfig", constants::SCHEDULER_CONF.into(), "FileOrCreate", false)],
    }
}

fn etcd<'a>(cluster: &ClusterConfiguration, node: &Node<'_>) -> Component<'a> {
    Component {
        name: "etcd",
        flags: etcd_flags(cluster, node),
        requests: json!({ "cpu": "100m", "memory": "100Mi" }),
        // etcd 3.4 has no /readyz: /health asks whether it has a leader and can write.
        probe: Probe { host: "127.0.0.1", port: 2381, scheme: "HTTP", liveness: "/health", readiness: None },
        volumes: vec![
            ("etcd-data", cluster.etcd.local.data_dir.clone(), "DirectoryOrCreate", true),
            ("etcd-certs", cluster.pki("etcd"), "DirectoryOrCreate", false),
        ],
    }
}

fn manifest(cluster: &ClusterConfiguration, node: &Node<'_>, component: &Component<'_>) -> Value {
    let command: Vec<String> = std::iter::once(component.name.to_owned()).chain(words(&component.flags)).collect();
    let mut container = json!({
        "name": component.name,
        "image": cluster.image(component.name),
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "resources": { "requests": component.requests },
        "startupProbe": component.probe.to_json(component.probe.liveness, 10, 24),
        "livenessProbe": component.probe.to_json(component.probe.liveness, 10, 8),
        "volumeMounts": component.volumes.iter().map(|(name, path, _, writable)| json!({
            "name": name, "mountPath": path, "readOnly": !writable,
        })).collect::<Vec<_>>(),
    });
    if let Some(path) = component.probe.readiness {
        container["readinessProbe"] = component.probe.to_json(path, 1, 3);
    }
    let mut metadata = json!({
        "name": component.name,
        "namespace": "kube-system",
        "labels": { "component": component.name, "tier": "control-plane" },
    });
    match component.name {
        "kube-apiserver" => {
            let endpoint = host(node.address, node.port);
            metadata["annotations"] =
                json!({ "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": endpoint });
        }
        "etcd" => {
            let url = format!("https://{}", host(node.address, 2379));
            metadata["annotations"] = json!({ "kubeadm.kubernetes.io/etcd.advertise-client-urls": url });
        }
        _ => {}
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "hostNetwork": true,
            "priority": 2_000_001_000,
            "priorityClassName": "system-node-critical",
            "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [container],
            "volumes": component.volumes.iter().map(|(name, path, kind, _)| json!({
                "name": name, "hostPath": { "path": path, "type": kind },
            })).collect::<Vec<_>>(),
        },
    })
}

impl Probe<'_> {
    fn to_json(self, path: &str, period: u32, failures: u32) -> Value {
        json!({
            "httpGet": { "host": self.host, "path": path, "port": self.port, "scheme": self.scheme },
            "periodSeconds": period,
            "failureThreshold": failures,
            "timeoutSeconds": 15,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifests(cluster: &ClusterConfiguration) -> Vec<Value> {
        let node = Node { name: "node-1", address: "192.0.2.1".parse().unwrap(), port: 6443 };
        plan(cluster, &node).unwrap().iter().map(|file| serde_saphyr::from_str(&file.contents).unwrap()).collect()
    }

    #[test]
    fn every_path_in_a_flag_is_mounted() {
        for pod in manifests(&ClusterConfiguration::default()) {
            let container = &pod["spec"]["containers"][0];
            let mounts: Vec<&str> = container["volumeMounts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|mount| mount["mountPath"].as_str().unwrap())
                .collect();
            for word in container["command"].as_array().unwrap() {
                if let Some((_, path)) = word.as_str().unwrap().split_once("=/") {
                    let path = format!("/{path}");
                    assert!(mounts.iter().any(|mount| path.starts_with(mount)), "{word} of {}", container["name"]);
                }
            }
        }
    }

    #[test]
    fn an_extra_argument_replaces_or_adds_a_flag() {
        let mut cluster = ClusterConfiguration::default();
        cluster.api_server.extra_args = vec![
            Arg { name: "authorization-mode".into(), value: "RBAC".into() },
            Arg { name: "v".into(), value: "4".into() },
        ];
        let pod = &manifests(&cluster)[0];
        let command: Vec<&str> = pod["spec"]["containers"][0]["command"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap())
            .collect();
        assert!(command.contains(&"--authorization-mode=RBAC") && command.contains(&"--v=4"));
        assert_eq!(command.iter().filter(|word| word.starts_with("--authorization-mode")).count(), 1);
    }
}
