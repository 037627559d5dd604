//! ExtendedResourceToleration: pods that ask for special hardware tolerate the taints of nodes that are kept for it.

use std::collections::BTreeSet;

use apimachinery::ApiError;
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::object::{containers, items, push, text};
use crate::{Attributes, Plugin};

pub struct ExtendedResourceToleration;

#[async_trait]
impl Plugin for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "pods") && a.writes()
    }

    async fn admit(&self, _: &Attributes<'_>, pod: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        for resource in extended(&pod["spec"]) {
            let has = |toleration: &Value| {
                text(toleration, "/key") == resource && ["", "NoSchedule"].contains(&text(toleration, "/effect"))
            };
            if !items(pod, "/spec/tolerations").iter().any(has) {
                let toleration = json!({"key": resource, "operator": "Exists", "effect": "NoSchedule"});
                push(&mut pod["spec"], "tolerations", toleration);
            }
        }
        Ok(())
    }
}

/// The extended resources that containers ask for: named with a domain that is not Kubernetes' own.
fn extended(spec: &Value) -> BTreeSet<String> {
    let requests = containers(spec).filter_map(|container| container.pointer("/resources/requests")?.as_object());
    let names = requests.flat_map(|requests| requests.keys());
    let is_extended =
        |name: &&String| name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.");
    names.filter(is_extended).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operation;
    use crate::testing::{admit, attributes};

    #[tokio::test]
    async fn special_hardware_is_tolerated_once() {
        let a = attributes(Operation::Create, "", "pods");
        let requests = json!({"cpu": "1", "example.com/gpu": "1", "hugepages-2Mi": "1", "kubernetes.io/x": "1"});
        let mut pod = json!({"spec": {"containers": [{"resources": {"requests": requests}}]}});
        for _ in 0..2 {
            pod = admit(&ExtendedResourceToleration, &a, pod).await.expect("admitted");
            let wanted = json!([{"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]);
            assert_eq!(pod["spec"]["tolerations"], wanted);
        }
    }
}
