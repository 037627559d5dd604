//! RuntimeClass: a pod takes its class's overhead, node selector and tolerations.

use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_storage::reader::{GroupResource, Reader};
use async_trait::async_trait;
use serde_json::Value;

use crate::object::{items, object_mut, push, text};
use crate::{Attributes, Operation, Plugin};

const CLASSES: GroupResource<'static> = GroupResource::new("node.k8s.io", "runtimeclasses");

pub struct RuntimeClass {
    reader: Arc<dyn Reader>,
}

impl RuntimeClass {
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        RuntimeClass { reader }
    }

    /// The class that the pod names; none if it names none.
    async fn class(&self, a: &Attributes<'_>, pod: &Value) -> Result<Option<Arc<Value>>, ApiError> {
        let name = text(pod, "/spec/runtimeClassName");
        if name.is_empty() {
            return Ok(None);
        }
        let class = match self.reader.get(CLASSES, "", name) {
            Some(class) => Some(class),
            None => self.reader.get_consistent(CLASSES, "", name).await?,
        };
        let refuse = || a.forbidden(Some(pod), &format!("pod rejected: RuntimeClass {name:?} not found"));
        class.ok_or_else(refuse).map(Some)
    }
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "pods") && a.operation == Operation::Create
    }

    async fn admit(&self, a: &Attributes<'_>, pod: &mut Value, _: Option<&Value>) -> Result<(), ApiError> {
        let Some(class) = self.class(a, pod).await? else { return Ok(()) };
        overhead(&class, pod).and_then(|()| schedule(&class, pod)).map_err(|detail| a.forbidden(Some(pod), &detail))
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, _: Option<&Value>) -> Result<(), ApiError> {
        let Some(pod) = object else { return Ok(()) };
        let class = self.class(a, pod).await?;
        let given = class.as_deref().and_then(fixed_overhead);
        match (given, set(pod.pointer("/spec/overhead"))) {
            (None, Some(_)) => {
                let detail = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
                Err(a.forbidden(object, detail))
            }
            (Some(given), Some(own)) if given != own => {
                Err(a.forbidden(object, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
            }
            _ => Ok(()),
        }
    }
}

fn set(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| value.as_object().is_some_and(|map| !map.is_empty()))
}

fn fixed_overhead(class: &Value) -> Option<&Value> {
    set(class.pointer("/overhead/podFixed"))
}

fn overhead(class: &Value, pod: &mut Value) -> Result<(), String> {
    let Some(given) = fixed_overhead(class) else { return Ok(()) };
    if set(pod.pointer("/spec/overhead")).is_some_and(|own| own != given) {
        return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
    }
    pod["spec"]["overhead"] = given.clone();
    Ok(())
}

fn schedule(class: &Value, pod: &mut Value) -> Result<(), String> {
    let selector = class.pointer("/scheduling/nodeSelector").and_then(Value::as_object);
    for (key, value) in selector.into_iter().flatten() {
        let own = object_mut(&mut pod["spec"], "nodeSelector");
        match own.get(key) {
            Some(other) if other != value => {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    value.as_str().unwrap_or_default(),
                    other.as_str().unwrap_or_default()
                ));
            }
            _ => own[key] = value.clone(),
        }
    }
    for toleration in items(class, "/scheduling/tolerations") {
        if !items(pod, "/spec/tolerations").contains(toleration) {
            push(&mut pod["spec"], "tolerations", toleration.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{State, admit, attributes};

    #[tokio::test]
    async fn a_pod_takes_what_its_class_gives() {
        let state = State::default();
        let toleration = json!({"key": "sandbox", "operator": "Exists"});
        state.put(
            "runtimeclasses.node.k8s.io",
            json!({
                "metadata": {"name": "sandboxed"},
                "overhead": {"podFixed": {"cpu": "250m"}},
                "scheduling": {"nodeSelector": {"sandbox": "yes"}, "tolerations": [toleration]},
            }),
        );
        let plugin = RuntimeClass::new(Arc::new(state));
        let a = attributes(Operation::Create, "", "pods");
        let mut pod = json!({"spec": {"runtimeClassName": "sandboxed", "nodeSelector": {"disk": "ssd"}}});
        for _ in 0..2 {
            pod = admit(&plugin, &a, pod).await.expect("admitted");
            assert_eq!(pod["spec"]["overhead"], json!({"cpu": "250m"}));
            assert_eq!(pod["spec"]["nodeSelector"], json!({"disk": "ssd", "sandbox": "yes"}));
            assert_eq!(pod["spec"]["tolerations"], json!([toleration]));
        }
        for spec in [
            json!({"runtimeClassName": "absent"}),
            json!({"overhead": {"cpu": "1"}}),
            json!({"runtimeClassName": "sandboxed", "overhead": {"cpu": "1"}}),
            json!({"runtimeClassName": "sandboxed", "nodeSelector": {"sandbox": "no"}}),
        ] {
            let got = admit(&plugin, &a, json!({"metadata": {"name": "x"}, "spec": spec})).await;
            assert_eq!(got.map_err(|e| e.code()), Err(403), "{spec}");
        }
    }
}
