//! What the kubelet of a node is started with: its configuration file and its flags.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::{
    config::{self, ClusterConfiguration, NodeRegistration},
    constants,
    files::File,
};

/// The KubeletConfiguration of the cluster: kubeadm's fields, then those that the administrator gave.
pub fn configuration(cluster: &ClusterConfiguration, given: &Map<String, Value>) -> Result<Value, config::Error> {
    let mut fields = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": cluster.pki("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "clusterDNS": [cluster.dns_address()?],
        "clusterDomain": cluster.networking.dns_domain,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "rotateCertificates": true,
        "staticPodPath": constants::MANIFESTS_DIR,
    });
    if let Some(fields) = fields.as_object_mut() {
        fields.extend(given.clone());
    }
    Ok(fields)
}

/// The configuration file of one node, with its runtime's socket, and the flags in the form of kubeadm's env file.
pub fn files(
    configuration: &Value,
    registration: &NodeRegistration,
    name: &str,
    address: Option<IpAddr>,
) -> Result<Vec<File>, config::Error> {
    let mut configuration = configuration.clone();
    configuration["containerRuntimeEndpoint"] = registration.cri_socket.clone().into();
    let mut flags = vec![format!("--hostname-override={name}")];
    flags.extend(address.map(|address| format!("--node-ip={address}")));
    flags.extend(registration.kubelet_extra_args.iter().map(|arg| format!("--{}={}", arg.name, arg.value)));
    Ok(vec![
        File::public(constants::KUBELET_CONFIG, config::yaml(&configuration)?),
        File::public(constants::KUBELET_FLAGS, format!("KUBELET_KUBEADM_ARGS=\"{}\"\n", flags.join(" "))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_fields_win_and_the_socket_is_the_nodes() {
        let given = json!({ "cgroupRoot": "/corten", "healthzPort": 0 });
        let configuration = configuration(&ClusterConfiguration::default(), given.as_object().unwrap()).unwrap();
        let registration = NodeRegistration { cri_socket: "unix:///x.sock".into(), ..NodeRegistration::default() };
        let files = files(&configuration, &registration, "node-1", Some("192.0.2.1".parse().unwrap())).unwrap();
        let read: Value = serde_saphyr::from_str(&files[0].contents).unwrap();
        assert_eq!(read["cgroupRoot"], "/corten");
        assert_eq!(read["healthzPort"], 0);
        assert_eq!(read["clusterDNS"][0], "10.96.0.10");
        assert_eq!(read["containerRuntimeEndpoint"], "unix:///x.sock");
        assert_eq!(files[1].contents, "KUBELET_KUBEADM_ARGS=\"--hostname-override=node-1 --node-ip=192.0.2.1\"\n");
    }
}
