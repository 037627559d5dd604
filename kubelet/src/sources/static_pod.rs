//! Static pods: pods from a text that is no object of the API yet. Pure.

use k8s_openapi::api::core::v1::{Pod, Toleration};
use sha2::{Digest, Sha256};

use crate::pod::{CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE};

/// Why a text is not a static pod.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not a pod: {0}")]
    Parse(String),
    #[error("expected a Pod of v1, found {0}")]
    Kind(String),
    #[error("the pod has no {0}")]
    Missing(&'static str),
}

/// Reads a static pod for a node. The uid is a hash of its content, so that it is the same after a restart and another when it changes.
pub fn parse(text: &str, source: &str, node: &str, origin: &str, seen: jiff::Timestamp) -> Result<Pod, Error> {
    let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|error| Error::Parse(error.to_string()))?;
    let word = |key: &str| value.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    if word("apiVersion") != "v1" || word("kind") != "Pod" {
        return Err(Error::Kind(format!("{} {}", word("apiVersion"), word("kind"))));
    }
    let mut pod: Pod = serde_json::from_value(value.clone()).map_err(|error| Error::Parse(error.to_string()))?;
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty()).ok_or(Error::Missing("name"))?;
    let spec = pod.spec.as_mut().ok_or(Error::Missing("spec"))?;
    if spec.containers.is_empty() {
        return Err(Error::Missing("containers"));
    }
    let hash = hash(&value, source, node, origin);
    pod.metadata.uid.get_or_insert_with(|| hash.clone());
    pod.metadata.name = Some(format!("{name}-{}", node.to_lowercase()));
    pod.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(CONFIG_HASH.into(), hash);
    annotations.insert(CONFIG_SOURCE.into(), source.into());
    annotations.insert(CONFIG_SEEN.into(), seen.to_string());
    spec.node_name = Some(node.to_owned());
    let every = Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Default::default() };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&every) {
        tolerations.push(every);
    }
    if spec.host_network == Some(true) {
        for port in spec.containers.iter_mut().flat_map(|container| container.ports.iter_mut().flatten()) {
            port.host_port.get_or_insert(port.container_port);
        }
    }
    Ok(pod)
}

/// 32 hexadecimal digits, as Kubernetes' hash has.
fn hash(value: &serde_json::Value, source: &str, node: &str, origin: &str) -> String {
    let mut hasher = Sha256::new();
    // The object's keys are sorted: the order in the file does not count.
    for part in [value.to_string().as_str(), source, node, origin] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  hostNetwork: true\n  containers:\n  - name: a\n    image: i\n    ports:\n    - containerPort: 80\n";

    fn read(text: &str, node: &str) -> Result<Pod, Error> {
        parse(text, "file", node, "/m/web.yaml", jiff::Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_static_pod_is_named_after_its_node_and_keeps_its_uid() {
        let pod = read(POD, "Node1").unwrap();
        assert_eq!(
            (pod.metadata.name.as_deref(), pod.metadata.namespace.as_deref()),
            (Some("web-node1"), Some("default"))
        );
        let uid = pod.metadata.uid.clone().unwrap();
        assert_eq!(uid.len(), 32);
        assert_eq!(crate::pod::annotation(&pod, CONFIG_HASH), Some(uid.as_str()));
        assert_eq!(read(POD, "Node1").unwrap().metadata.uid, pod.metadata.uid);
        assert_ne!(read(POD, "node2").unwrap().metadata.uid, pod.metadata.uid);
        assert_ne!(read(&POD.replace("image: i", "image: j"), "Node1").unwrap().metadata.uid, pod.metadata.uid);
        assert_eq!(pod.spec.unwrap().containers[0].ports.as_ref().unwrap()[0].host_port, Some(80));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "a: [",
            "apiVersion: v1\nkind: Service\n",
            "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a}]}\n",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
        ] {
            assert!(read(text, "n").is_err(), "{text}");
        }
    }
}
