//! PodNodeSelector: a namespace, or the configuration, says on which nodes its pods run.
//!
//! Kubernetes documentation, "Admission Control in Kubernetes".

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_storage::reader::{GroupResource, Reader};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use crate::object::object_mut;
use crate::{Attributes, Operation, Plugin};

/// The configuration has no kind.
pub const KINDS: [(&str, &str); 1] = [("", "")];

const NAMESPACES: GroupResource<'static> = GroupResource::new("", "namespaces");
const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
const DEFAULT: &str = "clusterDefaultNodeSelector";

type Labels = BTreeMap<String, String>;

/// The selectors of the configuration: one for namespaces that have none of their own, and what may be selected at most in
/// others.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Configuration {
    #[serde(default)]
    pod_node_selector_plugin_config: BTreeMap<String, String>,
}

pub struct PodNodeSelector {
    reader: Arc<dyn Reader>,
    selectors: BTreeMap<String, String>,
}

impl PodNodeSelector {
    pub fn new(reader: Arc<dyn Reader>, configuration: Configuration) -> Self {
        PodNodeSelector { reader, selectors: configuration.pod_node_selector_plugin_config }
    }

    /// What the namespace's pods select.
    async fn of_namespace(&self, a: &Attributes<'_>, pod: &Value) -> Result<Labels, ApiError> {
        let namespace = match self.reader.get(NAMESPACES, "", a.namespace) {
            Some(namespace) => Some(namespace),
            None => self.reader.get_consistent(NAMESPACES, "", a.namespace).await?,
        };
        let namespace = namespace.ok_or_else(|| ApiError::not_found("", "namespaces", a.namespace))?;
        let own = meta::annotation(&namespace, ANNOTATION).map(str::to_owned);
        let selector = own.or_else(|| self.selectors.get(DEFAULT).cloned()).unwrap_or_default();
        parse(&selector).map_err(|detail| a.forbidden(Some(pod), &detail))
    }
}

#[async_trait]
impl Plugin for PodNodeSelector {
    fn name(&self) -> &'static str {
        "PodNodeSelector"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "pods") && a.operation == Operation::Create
    }

    async fn admit(&self, a: &Attributes<'_>, pod: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        let given = self.of_namespace(a, pod).await?;
        if conflicts(&given, pod) {
            return Err(
                a.forbidden(Some(pod), "pod node label selector conflicts with its namespace node label selector")
            );
        }
        for (key, value) in given {
            object_mut(object_mut(pod, "spec"), "nodeSelector")[key] = value.into();
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, _: Option<&Value>) -> Result<(), ApiError> {
        let Some(pod) = object else { return Ok(()) };
        if conflicts(&self.of_namespace(a, pod).await?, pod) {
            return Err(a.forbidden(object, "pod node label selector conflicts with its namespace node label selector"));
        }
        let allowed = self.selectors.get(a.namespace).map_or("", String::as_str);
        let allowed = parse(allowed).map_err(|detail| a.forbidden(object, &detail))?;
        let is_allowed = |(key, value): (&str, &str)| allowed.get(key).is_some_and(|allowed| allowed == value);
        if allowed.is_empty() || selected(pod).all(is_allowed) {
            return Ok(());
        }
        Err(a.forbidden(object, "pod node label selector labels conflict with its namespace whitelist"))
    }
}

/// `a=b,c=d` as labels.
fn parse(selector: &str) -> Result<Labels, String> {
    let terms = selector.split(',').map(str::trim).filter(|term| !term.is_empty());
    terms
        .map(|term| match term.split_once('=') {
            Some((key, value)) if !value.starts_with('=') => Ok((key.trim().to_owned(), value.trim().to_owned())),
            _ => Err(format!("invalid selector: [{term}]")),
        })
        .collect()
}

fn selected(pod: &Value) -> impl Iterator<Item = (&str, &str)> {
    let labels = pod.pointer("/spec/nodeSelector").and_then(Value::as_object).into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

fn conflicts(given: &Labels, pod: &Value) -> bool {
    selected(pod).any(|(key, value)| given.get(key).is_some_and(|given| given != value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{State, admit, attributes};

    #[tokio::test]
    async fn pods_run_where_their_namespace_says() {
        let state = Arc::new(State::default());
        state.put("namespaces", json!({"metadata": {"name": "dev", "annotations": {ANNOTATION: "disk=ssd"}}}));
        state.put("namespaces", json!({"metadata": {"name": "other"}}));
        let told = json!({"podNodeSelectorPluginConfig": {DEFAULT: "zone=a, env=test", "dev": "disk=ssd,env=dev"}});
        let plugin = PodNodeSelector::new(state, serde_json::from_value(told).expect("a configuration"));
        for (namespace, selects, wanted) in [
            ("dev", json!({}), Some(json!({"disk": "ssd"}))),
            ("dev", json!({"env": "dev"}), Some(json!({"disk": "ssd", "env": "dev"}))),
            ("dev", json!({"disk": "hdd"}), None),
            ("dev", json!({"zone": "a"}), None),
            ("other", json!({"x": "y"}), Some(json!({"x": "y", "zone": "a", "env": "test"}))),
        ] {
            let mut a = attributes(Operation::Create, "", "pods");
            a.namespace = namespace;
            let got = admit(&plugin, &a, json!({"spec": {"nodeSelector": selects}})).await;
            assert_eq!(got.ok().map(|pod| pod["spec"]["nodeSelector"].clone()), wanted, "{namespace} {selects}");
        }
        assert!(parse("a==b").is_err() && parse("a").is_err());
    }
}
