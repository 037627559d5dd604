//! PodTopologyLabels: a pod bound to a node takes the labels that say where the node is (KEP-4742).

use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_storage::reader::{GroupResource, Reader};
use async_trait::async_trait;
use serde_json::Value;

use crate::object::text;
use crate::{Attributes, Operation, Plugin};

const NODES: GroupResource<'static> = GroupResource::new("", "nodes");
const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Puts the labels on Bindings, whose labels go to the pod, and on pods that are created with a node.
pub struct PodTopologyLabels {
    reader: Arc<dyn Reader>,
}

impl PodTopologyLabels {
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        PodTopologyLabels { reader }
    }
}

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        let object = a.is_any("", "pods") && ["", "binding"].contains(&a.subresource);
        a.operation == Operation::Create && (object || a.is("", "bindings"))
    }

    async fn admit(&self, _: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        let is_binding = meta::kind(object) == "Binding" || object.get("target").is_some();
        let node = text(object, if is_binding { "/target/name" } else { "/spec/nodeName" });
        if node.is_empty() || (is_binding && !["", "Node"].contains(&text(object, "/target/kind"))) {
            return Ok(());
        }
        let Some(node) = self.reader.get(NODES, "", node) else { return Ok(()) };
        for key in LABELS {
            if let Some(value) = meta::label(&node, key) {
                meta::set_label(object, key, value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{State, admit, attributes};

    #[tokio::test]
    async fn a_binding_says_where_its_node_is() {
        let state = State::default();
        let labels = json!({LABELS[0]: "a", "other": "b"});
        state.put("nodes", json!({"metadata": {"name": "n1", "labels": labels}}));
        let plugin = PodTopologyLabels::new(Arc::new(state));
        let mut a = attributes(Operation::Create, "", "pods");
        a.subresource = "binding";
        let got = admit(&plugin, &a, json!({"target": {"kind": "Node", "name": "n1"}})).await.expect("admitted");
        assert_eq!(got["metadata"]["labels"], json!({LABELS[0]: "a"}));
        a.subresource = "";
        let got = admit(&plugin, &a, json!({"spec": {"nodeName": "n1"}})).await.expect("admitted");
        assert_eq!(got["metadata"]["labels"], json!({LABELS[0]: "a"}));
        let free = json!({"spec": {}});
        assert_eq!(admit(&plugin, &a, free.clone()).await, Ok(free));
    }
}
