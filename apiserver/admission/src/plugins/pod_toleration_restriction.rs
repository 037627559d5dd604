//! PodTolerationRestriction: a namespace, or the configuration, says what its pods tolerate, and what they may.
//!
//! Kubernetes documentation, "Admission Control in Kubernetes".

use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_storage::reader::{GroupResource, Reader};
use async_trait::async_trait;
use component_base::quota::{Object, scopes};
use k8s_openapi::api::core::v1::{Pod, PodSpec, ScopedResourceSelectorRequirement, Toleration};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::object::{items, object_mut};
use crate::{Attributes, Operation, Plugin};

/// The kinds that the configuration comes as.
pub const KINDS: [(&str, &str); 1] = [("podtolerationrestriction.admission.k8s.io/v1alpha1", "Configuration")];

const NAMESPACES: GroupResource<'static> = GroupResource::new("", "namespaces");
const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const WHITELIST: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

/// For namespaces that say nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    #[serde(default)]
    default: Vec<Toleration>,
    #[serde(default)]
    whitelist: Vec<Toleration>,
}

pub struct PodTolerationRestriction {
    reader: Arc<dyn Reader>,
    configuration: Configuration,
}

impl PodTolerationRestriction {
    pub fn new(reader: Arc<dyn Reader>, configuration: Configuration) -> Self {
        PodTolerationRestriction { reader, configuration }
    }

    /// What an annotation of the namespace says; an empty one says that there are none.
    async fn of_namespace(
        &self,
        a: &Attributes<'_>,
        annotation: &str,
        otherwise: &[Toleration],
    ) -> Result<Vec<Toleration>, ApiError> {
        let namespace = match self.reader.get(NAMESPACES, "", a.namespace) {
            Some(namespace) => Some(namespace),
            None => self.reader.get_consistent(NAMESPACES, "", a.namespace).await?,
        };
        let namespace = namespace.ok_or_else(|| ApiError::not_found("", "namespaces", a.namespace))?;
        match meta::annotation(&namespace, annotation) {
            None => Ok(otherwise.to_vec()),
            Some("") => Ok(Vec::new()),
            Some(text) => serde_json::from_str(text).map_err(ApiError::internal),
        }
    }
}

#[async_trait]
impl Plugin for PodTolerationRestriction {
    fn name(&self) -> &'static str {
        "PodTolerationRestriction"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "pods") && a.writes()
    }

    async fn admit(&self, a: &Attributes<'_>, pod: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        if a.operation != Operation::Create {
            return Ok(());
        }
        let mut given = self.of_namespace(a, DEFAULTS, &self.configuration.default).await?;
        if !is_best_effort(pod)? {
            given.push(Toleration {
                key: Some("node.kubernetes.io/memory-pressure".into()),
                operator: Some("Exists".into()),
                effect: Some("NoSchedule".into()),
                ..Toleration::default()
            });
        }
        if !given.is_empty() {
            let all = merged(tolerations(pod)?, given);
            object_mut(pod, "spec")["tolerations"] = json!(all);
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, _: Option<&Value>) -> Result<(), ApiError> {
        let own = object.map(tolerations).transpose()?.unwrap_or_default();
        let allowed = self.of_namespace(a, WHITELIST, &self.configuration.whitelist).await?;
        let is_allowed = |own: &Toleration| allowed.iter().any(|allowed| covers(allowed, own));
        if allowed.is_empty() || own.iter().all(is_allowed) {
            return Ok(());
        }
        let detail = "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist";
        Err(a.forbidden(object, detail))
    }
}

fn tolerations(pod: &Value) -> Result<Vec<Toleration>, ApiError> {
    let list = items(pod, "/spec/tolerations").iter();
    list.map(|one| serde_json::from_value(one.clone()).map_err(ApiError::internal)).collect()
}

fn is_best_effort(pod: &Value) -> Result<bool, ApiError> {
    let spec = pod.get("spec").cloned().unwrap_or_default();
    let spec: PodSpec = serde_json::from_value(spec).map_err(ApiError::internal)?;
    let scope =
        ScopedResourceSelectorRequirement { scope_name: "BestEffort".into(), operator: "Exists".into(), values: None };
    Ok(scopes::matches(&scope, Object::Pod(&Pod { spec: Some(spec), ..Pod::default() })))
}

/// Both, without those that others cover.
fn merged(own: Vec<Toleration>, given: Vec<Toleration>) -> Vec<Toleration> {
    let mut all: Vec<Toleration> = Vec::new();
    for toleration in own.into_iter().chain(given) {
        if all.iter().any(|known| covers(known, &toleration)) {
            continue;
        }
        all.retain(|known| !covers(&toleration, known));
        all.push(toleration);
    }
    all
}

/// Whether the wide toleration tolerates everything that the narrow one does, for as long.
fn covers(wide: &Toleration, narrow: &Toleration) -> bool {
    if wide == narrow {
        return true;
    }
    fn text(field: &Option<String>) -> &str {
        field.as_deref().unwrap_or_default()
    }
    let exists = text(&wide.operator) == "Exists";
    let (wide_key, wide_effect) = (text(&wide.key), text(&wide.effect));
    let of_key = wide_key == text(&narrow.key) || (wide_key.is_empty() && exists);
    let of_effect = wide_effect.is_empty() || wide_effect == text(&narrow.effect);
    let as_long = wide_effect != "NoExecute"
        || match (wide.toleration_seconds, narrow.toleration_seconds) {
            (None, _) => true,
            (Some(wide), Some(narrow)) => wide >= narrow,
            (Some(_), None) => false,
        };
    let of_value = exists || (text(&narrow.operator) != "Exists" && text(&wide.value) == text(&narrow.value));
    of_key && of_effect && as_long && of_value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{State, admit, attributes};

    #[tokio::test]
    async fn pods_tolerate_what_their_namespace_gives_and_allows() {
        let gpu = json!({"key": "gpu", "operator": "Exists"});
        let disk = json!({"key": "disk", "operator": "Equal", "value": "slow", "effect": "NoSchedule"});
        let state = Arc::new(State::default());
        let annotations = json!({DEFAULTS: json!([disk]).to_string(), WHITELIST: json!([disk, gpu]).to_string()});
        state.put("namespaces", json!({"metadata": {"name": "dev", "annotations": annotations}}));
        state.put("namespaces", json!({"metadata": {"name": "other"}}));
        let told = json!({"default": [gpu]});
        let plugin = PodTolerationRestriction::new(state, serde_json::from_value(told).expect("a configuration"));
        let narrow = json!({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"});
        for (namespace, own, wanted) in [
            ("dev", json!([]), Some(json!([disk]))),
            ("dev", json!([narrow]), Some(json!([narrow, disk]))),
            ("dev", json!([{"operator": "Exists"}]), None),
            ("other", json!([narrow]), Some(json!([gpu]))),
        ] {
            let mut a = attributes(Operation::Create, "", "pods");
            a.namespace = namespace;
            let pod = json!({"spec": {"containers": [{"name": "c"}], "tolerations": own}});
            let got = admit(&plugin, &a, pod).await;
            assert_eq!(got.ok().map(|pod| pod["spec"]["tolerations"].clone()), wanted, "{namespace} {own}");
        }
        let mut a = attributes(Operation::Create, "", "pods");
        a.namespace = "other";
        let burstable = json!({"name": "c", "resources": {"requests": {"cpu": "1"}}});
        let pod = admit(&plugin, &a, json!({"spec": {"containers": [burstable]}})).await.expect("admitted");
        assert_eq!(pod["spec"]["tolerations"][1]["key"], "node.kubernetes.io/memory-pressure");
    }

    #[test]
    fn seconds_and_values_count() {
        let toleration = |value: Value| serde_json::from_value::<Toleration>(value).expect("a toleration");
        let evicted = |seconds: Value| {
            toleration(json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}))
        };
        assert!(covers(&evicted(json!(10)), &evicted(json!(5))) && !covers(&evicted(json!(5)), &evicted(json!(10))));
        assert!(
            covers(&evicted(Value::Null), &evicted(json!(5))) && !covers(&evicted(json!(5)), &evicted(Value::Null))
        );
        let equal = |value: &str| toleration(json!({"key": "k", "value": value}));
        assert!(!covers(&equal("a"), &equal("b")) && covers(&toleration(json!({"operator": "Exists"})), &equal("a")));
        assert!(!covers(&equal(""), &toleration(json!({"key": "k", "operator": "Exists"}))));
    }
}
