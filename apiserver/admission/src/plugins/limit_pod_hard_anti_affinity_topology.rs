//! LimitPodHardAntiAffinityTopology: pods may keep others away from their node by force, but not from wider domains.

use apimachinery::ApiError;
use async_trait::async_trait;
use serde_json::Value;

use crate::object::{items, text};
use crate::{Attributes, Plugin};

const HOSTNAME: &str = "kubernetes.io/hostname";
const TERMS: &str = "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution";

pub struct LimitPodHardAntiAffinityTopology;

#[async_trait]
impl Plugin for LimitPodHardAntiAffinityTopology {
    fn name(&self) -> &'static str {
        "LimitPodHardAntiAffinityTopology"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "pods") && a.writes()
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, _: Option<&Value>) -> Result<(), ApiError> {
        let mut keys = object.map_or(&[][..], |pod| items(pod, TERMS)).iter().map(|term| text(term, "/topologyKey"));
        let Some(key) = keys.find(|key| *key != HOSTNAME) else { return Ok(()) };
        let detail = format!(
            "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOSTNAME} is allowed"
        );
        Err(a.forbidden(object, &detail))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Operation;
    use crate::testing::{admit, attributes};

    #[tokio::test]
    async fn only_the_node_may_be_claimed_by_force() {
        let a = attributes(Operation::Create, "", "pods");
        for (key, wanted) in [(HOSTNAME, true), ("topology.kubernetes.io/zone", false)] {
            let field = "requiredDuringSchedulingIgnoredDuringExecution";
            let affinity = json!({"podAntiAffinity": {field: [{"topologyKey": key}]}});
            let pod = json!({"metadata": {"name": "p"}, "spec": {"affinity": affinity}});
            assert_eq!(admit(&LimitPodHardAntiAffinityTopology, &a, pod).await.is_ok(), wanted, "{key}");
        }
        assert!(admit(&LimitPodHardAntiAffinityTopology, &a, json!({"spec": {}})).await.is_ok());
    }
}
