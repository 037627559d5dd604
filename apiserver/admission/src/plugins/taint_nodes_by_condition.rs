//! TaintNodesByCondition: a new node takes no pods until it is ready.

use apimachinery::ApiError;
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::object::{items, push, text};
use crate::{Attributes, Operation, Plugin};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// Adds the taint `node.kubernetes.io/not-ready:NoSchedule` to nodes at their creation.
pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "nodes") && a.operation == Operation::Create
    }

    async fn admit(&self, _: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        let same = |taint: &Value| text(taint, "/key") == NOT_READY && text(taint, "/effect") == "NoSchedule";
        if !items(object, "/spec/taints").iter().any(same) {
            let spec = crate::object::object_mut(object, "spec");
            push(spec, "taints", json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{admit, attributes};

    #[tokio::test]
    async fn a_new_node_is_tainted_once() {
        let a = attributes(Operation::Create, "", "nodes");
        let mut node = json!({"metadata": {"name": "n1"}});
        for _ in 0..2 {
            node = admit(&TaintNodesByCondition, &a, node).await.expect("admitted");
            assert_eq!(node["spec"]["taints"], json!([{"key": NOT_READY, "effect": "NoSchedule"}]));
        }
        assert!(!TaintNodesByCondition.handles(&attributes(Operation::Update, "", "nodes")));
    }
}
