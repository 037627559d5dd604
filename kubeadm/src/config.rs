//! The configuration file of kubeadm, `kubeadm.k8s.io/v1beta4`: what this kubeadm knows of it. A field that it does not
//! know is refused, so that nobody relies on one that has no effect.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{constants, pki::KeyAlgorithm};

pub const API_VERSION: &str = "kubeadm.k8s.io/v1beta4";
const KUBELET_API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const PROXY_API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";

/// What the whole cluster has in common. Stored in the ConfigMap `kube-system/kubeadm-config`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterConfiguration {
    pub cluster_name: String,
    pub kubernetes_version: String,
    pub image_repository: String,
    pub certificates_dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<String>,
    pub encryption_algorithm: KeyAlgorithm,
    pub networking: Networking,
    pub etcd: Etcd,
    pub api_server: ApiServer,
    pub controller_manager: Component,
    pub scheduler: Component,
}

impl Default for ClusterConfiguration {
    fn default() -> Self {
        ClusterConfiguration {
            cluster_name: "kubernetes".into(),
            kubernetes_version: constants::IMAGE_TAG.into(),
            image_repository: constants::IMAGE_REPOSITORY.into(),
            certificates_dir: constants::PKI_DIR.into(),
            control_plane_endpoint: None,
            encryption_algorithm: KeyAlgorithm::default(),
            networking: Networking::default(),
            etcd: Etcd::default(),
            api_server: ApiServer::default(),
            controller_manager: Component::default(),
            scheduler: Component::default(),
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Networking {
    pub service_subnet: String,
    pub pod_subnet: String,
    pub dns_domain: String,
}

impl Default for Networking {
    fn default() -> Self {
        Networking {
            service_subnet: "10.96.0.0/12".into(),
            pod_subnet: "10.244.0.0/16".into(),
            dns_domain: "cluster.local".into(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Etcd {
    pub local: LocalEtcd,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LocalEtcd {
    pub data_dir: String,
    #[serde(rename = "serverCertSANs")]
    pub server_cert_sans: Vec<String>,
    #[serde(rename = "peerCertSANs")]
    pub peer_cert_sans: Vec<String>,
    pub extra_args: Vec<Arg>,
}

impl Default for LocalEtcd {
    fn default() -> Self {
        LocalEtcd {
            data_dir: constants::ETCD_DATA_DIR.into(),
            server_cert_sans: Vec::new(),
            peer_cert_sans: Vec::new(),
            extra_args: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ApiServer {
    #[serde(rename = "certSANs")]
    pub cert_sans: Vec<String>,
    pub extra_args: Vec<Arg>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Component {
    pub extra_args: Vec<Arg>,
}

/// A flag, without its dashes, and its value.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Arg {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InitConfiguration {
    pub bootstrap_tokens: Vec<BootstrapToken>,
    pub node_registration: NodeRegistration,
    #[serde(rename = "localAPIEndpoint")]
    pub local_api_endpoint: Endpoint,
    pub skip_phases: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BootstrapToken {
    pub token: String,
    pub description: String,
    pub ttl: String,
    pub usages: Vec<String>,
    pub groups: Vec<String>,
}

impl Default for BootstrapToken {
    fn default() -> Self {
        BootstrapToken {
            token: String::new(),
            description: String::new(),
            ttl: "24h".into(),
            usages: vec!["signing".into(), "authentication".into()],
            groups: vec![constants::BOOTSTRAPPERS_GROUP.into()],
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeRegistration {
    pub name: String,
    pub cri_socket: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taints: Option<Vec<Value>>,
    pub kubelet_extra_args: Vec<Arg>,
}

impl Default for NodeRegistration {
    fn default() -> Self {
        NodeRegistration {
            name: String::new(),
            cri_socket: constants::CRI_SOCKET.into(),
            taints: None,
            kubelet_extra_args: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Endpoint {
    pub advertise_address: Option<IpAddr>,
    pub bind_port: u16,
}

impl Default for Endpoint {
    fn default() -> Self {
        Endpoint { advertise_address: None, bind_port: 6443 }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JoinConfiguration {
    pub node_registration: NodeRegistration,
    pub ca_cert_path: Option<String>,
    pub discovery: Discovery,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Discovery {
    pub bootstrap_token: BootstrapTokenDiscovery,
    pub tls_bootstrap_token: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BootstrapTokenDiscovery {
    pub token: String,
    pub api_server_endpoint: String,
    pub ca_cert_hashes: Vec<String>,
    #[serde(rename = "unsafeSkipCAVerification")]
    pub unsafe_skip_ca_verification: bool,
}

/// All documents of a configuration file.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub cluster: ClusterConfiguration,
    pub init: InitConfiguration,
    pub join: JoinConfiguration,
    /// Fields of a KubeletConfiguration, laid over the defaults.
    pub kubelet: serde_json::Map<String, Value>,
    /// Fields of a KubeProxyConfiguration, laid over the defaults.
    pub proxy: serde_json::Map<String, Value>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the configuration is not YAML: {0}")]
    Yaml(String),
    #[error("document {0}: {1}")]
    Document(String, #[source] serde_json::Error),
    #[error(
        "document {0}: this kubeadm knows ClusterConfiguration, InitConfiguration and JoinConfiguration of {API_VERSION}, KubeletConfiguration of {KUBELET_API_VERSION} and KubeProxyConfiguration of {PROXY_API_VERSION}"
    )]
    UnknownKind(String),
    #[error("{0}: {1}")]
    Invalid(&'static str, String),
}

/// Reads a file with one or several documents.
pub fn parse(text: &str) -> Result<Configuration, Error> {
    let mut configuration = Configuration::default();
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| Error::Yaml(error.to_string()))?;
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        configuration.add(document)?;
    }
    Ok(configuration)
}

impl Configuration {
    fn add(&mut self, mut document: Value) -> Result<(), Error> {
        let mut take = |field: &str| match document.as_object_mut().and_then(|fields| fields.remove(field)) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (version, kind) = (take("apiVersion"), take("kind"));
        let name = format!("{version} {kind}");
        match (version.as_str(), kind.as_str()) {
            (API_VERSION, "ClusterConfiguration") => self.cluster = decode(&name, document)?,
            (API_VERSION, "InitConfiguration") => self.init = decode(&name, document)?,
            (API_VERSION, "JoinConfiguration") => self.join = decode(&name, document)?,
            (KUBELET_API_VERSION, "KubeletConfiguration") => self.kubelet = decode(&name, document)?,
            (PROXY_API_VERSION, "KubeProxyConfiguration") => self.proxy = decode(&name, document)?,
            _ => return Err(Error::UnknownKind(name)),
        }
        Ok(())
    }
}

fn decode<T: serde::de::DeserializeOwned>(name: &str, document: Value) -> Result<T, Error> {
    serde_json::from_value(document).map_err(|error| Error::Document(name.to_owned(), error))
}

/// A configuration object as YAML with its `apiVersion` and `kind`.
pub fn to_yaml(api_version: &str, kind: &str, object: &impl Serialize) -> Result<String, Error> {
    let mut value = serde_json::to_value(object).map_err(|error| Error::Document(kind.to_owned(), error))?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("apiVersion".into(), api_version.into());
        fields.insert("kind".into(), kind.into());
    }
    yaml(&value)
}

/// Any value as YAML.
pub fn yaml(value: &impl Serialize) -> Result<String, Error> {
    serde_saphyr::to_string(value).map_err(|error| Error::Yaml(error.to_string()))
}

impl ClusterConfiguration {
    /// The address of the Service `kubernetes`: the first of the service range.
    pub fn service_address(&self, index: usize) -> Result<IpAddr, Error> {
        let first = self.networking.service_subnet.split(',').next().unwrap_or_default();
        let network: ipnet::IpNet = first
            .parse()
            .map_err(|_| Error::Invalid("networking.serviceSubnet", format!("{first:?} is not a network")))?;
        network
            .hosts()
            .nth(index - 1)
            .ok_or_else(|| Error::Invalid("networking.serviceSubnet", format!("{first} is too small")))
    }

    /// Where cluster-dns answers: the tenth address of the service range.
    pub fn dns_address(&self) -> Result<IpAddr, Error> {
        self.service_address(10)
    }

    pub fn image(&self, component: &str) -> String {
        format!("{}/{component}:{}", self.image_repository, self.kubernetes_version)
    }

    pub fn pki(&self, file: &str) -> String {
        format!("{}/{file}", self.certificates_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_one_file_fill_their_parts() {
        let configuration = parse(
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking:\n  serviceSubnet: 10.100.0.0/16\n---\n\
             apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint:\n  advertiseAddress: 192.0.2.1\n---\n\
             apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 50\n",
        )
        .unwrap();
        assert_eq!(configuration.cluster.service_address(1).unwrap().to_string(), "10.100.0.1");
        assert_eq!(configuration.cluster.dns_address().unwrap().to_string(), "10.100.0.10");
        assert_eq!(configuration.init.local_api_endpoint.bind_port, 6443);
        assert_eq!(configuration.kubelet["maxPods"], 50);
    }

    #[test]
    fn unknown_fields_and_kinds_are_refused() {
        for text in [
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworkin: {}\n",
            "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\n",
            "kind: ClusterConfiguration\n",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let text = to_yaml(API_VERSION, "ClusterConfiguration", &ClusterConfiguration::default()).unwrap();
        let read = parse(&text).unwrap().cluster;
        assert_eq!(read.networking.pod_subnet, "10.244.0.0/16");
    }
}
