//! DefaultTolerationSeconds: how long a pod stays on a node that is not ready or not reachable.

use apimachinery::ApiError;
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::object::{items, push, text};
use crate::{Attributes, Plugin};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Adds the two tolerations to pods that do not have their own.
pub struct DefaultTolerationSeconds {
    pub not_ready: i64,
    pub unreachable: i64,
}

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "pods") && a.writes()
    }

    async fn admit(&self, _: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        for (taint, seconds) in [(NOT_READY, self.not_ready), (UNREACHABLE, self.unreachable)] {
            if !items(object, "/spec/tolerations").iter().any(|toleration| tolerates(toleration, taint)) {
                let toleration =
                    json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
                push(&mut object["spec"], "tolerations", toleration);
            }
        }
        Ok(())
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let (key, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
    (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operation;
    use crate::testing::{admit, attributes};

    #[tokio::test]
    async fn a_pods_own_tolerations_stand() {
        let plugin = DefaultTolerationSeconds { not_ready: 300, unreachable: 200 };
        let a = attributes(Operation::Create, "", "pods");
        let cases = [
            (json!([]), vec![(NOT_READY, 300), (UNREACHABLE, 200)]),
            (json!([{"key": NOT_READY, "operator": "Exists", "effect": "NoExecute"}]), vec![(UNREACHABLE, 200)]),
            (json!([{"key": NOT_READY, "effect": "NoSchedule"}]), vec![(NOT_READY, 300), (UNREACHABLE, 200)]),
            (json!([{"operator": "Exists"}]), vec![]),
        ];
        for (own, added) in cases {
            let pod = admit(&plugin, &a, json!({"spec": {"tolerations": own}})).await.expect("admitted");
            let all = items(&pod, "/spec/tolerations");
            let own = own.as_array().expect("a list");
            assert_eq!(&all[..own.len()], own.as_slice());
            let got: Vec<_> = all[own.len()..]
                .iter()
                .map(|t| (text(t, "/key"), t["tolerationSeconds"].as_i64().expect("seconds")))
                .collect();
            assert_eq!(got, added, "{own:?}");
        }
    }
}
