//! The add-ons that every cluster gets, from `manifests/addons`, with the cluster's own values filled in.

use serde_json::Value;

use crate::config::{self, ClusterConfiguration};

const MANIFESTS: [(&str, &str); 3] = [
    ("kube-proxy", include_str!("../../manifests/addons/kube-proxy.yaml")),
    ("pod-network", include_str!("../../manifests/addons/pod-network.yaml")),
    ("cluster-dns", include_str!("../../manifests/addons/cluster-dns.yaml")),
];

/// The names that stand between @ signs in the manifests.
fn values(
    cluster: &ClusterConfiguration,
    endpoint: &str,
    proxy: &Value,
) -> Result<Vec<(&'static str, String)>, config::Error> {
    let (host, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, "6443"));
    Ok(vec![
        ("@IMAGES@", cluster.image_repository.clone()),
        ("@VERSION@", cluster.kubernetes_version.clone()),
        ("@SERVER@", format!("https://{endpoint}")),
        ("@SERVER_HOST@", host.trim_matches(['[', ']']).to_owned()),
        ("@SERVER_PORT@", port.to_owned()),
        ("@POD_SUBNET@", cluster.networking.pod_subnet.clone()),
        ("@SERVICE_SUBNET@", cluster.networking.service_subnet.clone()),
        ("@DNS_ADDRESS@", cluster.dns_address()?.to_string()),
        ("@DNS_DOMAIN@", cluster.networking.dns_domain.clone()),
        // JSON is YAML, and fits on the line of the block that it stands in.
        ("@PROXY_CONFIG@", proxy.to_string()),
    ])
}

/// The objects of all add-ons but those that `skipped` names as `addon/NAME`.
pub fn objects(
    cluster: &ClusterConfiguration,
    endpoint: &str,
    proxy: &serde_json::Map<String, Value>,
    skipped: &[String],
) -> Result<Vec<Value>, config::Error> {
    let values = values(cluster, endpoint, &proxy_configuration(cluster, proxy))?;
    let mut objects = Vec::new();
    for (name, text) in MANIFESTS {
        if skipped.iter().any(|phase| phase == &format!("addon/{name}")) {
            continue;
        }
        let text = values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).map_err(|error| config::Error::Yaml(format!("{name}: {error}")))?;
        objects.extend(documents.into_iter().filter(|document| !document.is_null()));
    }
    Ok(objects)
}

fn proxy_configuration(cluster: &ClusterConfiguration, given: &serde_json::Map<String, Value>) -> Value {
    let mut fields = serde_json::json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": cluster.networking.pod_subnet,
        "clientConnection": { "kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf" },
    });
    if let Some(fields) = fields.as_object_mut() {
        fields.extend(given.clone());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_filled_and_every_object_is_named() {
        let objects =
            objects(&ClusterConfiguration::default(), "192.0.2.1:6443", &serde_json::Map::new(), &[]).unwrap();
        for object in &objects {
            assert!(!object.to_string().contains('@'), "{object}");
            assert!(object["kind"].is_string() && object["metadata"]["name"].is_string(), "{object}");
        }
        let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == "DaemonSet").count(), 2);
        assert!(kinds.contains(&"Deployment") && kinds.contains(&"Service"));
    }
}
