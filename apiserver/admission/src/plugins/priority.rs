//! Priority: a pod's priority and preemption policy, from its priority class.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_storage::reader::{Change, GroupResource, Observer, Reader};
use async_trait::async_trait;
use parking_lot::RwLock;
use serde_json::Value;

use crate::object::text;
use crate::{Attributes, Operation, Plugin};

const GROUP: &str = "scheduling.k8s.io";
const CLASSES: GroupResource<'static> = GroupResource::new(GROUP, "priorityclasses");
const PREEMPT: &str = "PreemptLowerPriority";

pub struct Priority {
    reader: Arc<dyn Reader>,
    /// The classes marked as the global default, and their values.
    defaults: RwLock<BTreeMap<String, i64>>,
}

/// What a class gives to its pods.
struct Given {
    class: String,
    value: i64,
    preemption: String,
}

impl Given {
    fn of(class: &Value) -> Self {
        let preemption = match text(class, "/preemptionPolicy") {
            "" => PREEMPT,
            policy => policy,
        };
        let value = class.get("value").and_then(Value::as_i64).unwrap_or_default();
        Given { class: meta::name(class).to_owned(), value, preemption: preemption.to_owned() }
    }
}

impl Priority {
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Priority { reader, defaults: RwLock::default() }
    }

    /// The class that is the global default. Where there are several, for a moment, the one with the lowest value.
    fn default_class(&self) -> Option<Arc<Value>> {
        let name = self.defaults.read().iter().min_by_key(|(_, value)| **value).map(|(name, _)| name.clone())?;
        self.reader.get(CLASSES, "", &name)
    }

    async fn given(&self, a: &Attributes<'_>, pod: &Value) -> Result<Given, ApiError> {
        let name = text(pod, "/spec/priorityClassName");
        if name.is_empty() {
            let none = || Given { class: String::new(), value: 0, preemption: PREEMPT.to_owned() };
            return Ok(self.default_class().map_or_else(none, |class| Given::of(&class)));
        }
        let class = match self.reader.get(CLASSES, "", name) {
            Some(class) => Some(class),
            None => self.reader.get_consistent(CLASSES, "", name).await?,
        };
        let class =
            class.ok_or_else(|| a.forbidden(Some(pod), &format!("no PriorityClass with name {name} was found")))?;
        Ok(Given::of(&class))
    }

    fn check_class(&self, a: &Attributes<'_>, class: &Value) -> Result<(), ApiError> {
        if class.get("globalDefault").and_then(Value::as_bool) != Some(true) {
            return Ok(());
        }
        let defaults = self.defaults.read();
        match defaults.keys().find(|name| *name != meta::name(class)) {
            Some(other) => {
                let detail = format!("PriorityClass {other} is already marked as default. Only one default can exist");
                Err(a.forbidden(Some(class), &detail))
            }
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        (a.is("", "pods") || a.is(GROUP, "priorityclasses")) && a.writes()
    }

    async fn admit(&self, a: &Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
        if !a.is("", "pods") {
            return Ok(());
        }
        if a.operation == Operation::Update {
            keep(object, old);
            return Ok(());
        }
        let given = self.given(a, object).await?;
        let said = object.pointer("/spec/priority").and_then(Value::as_i64);
        if let Some(said) = said.filter(|said| *said != given.value) {
            let detail = format!(
                "the integer value of priority ({said}) must not be provided in pod spec; \
                 priority admission controller computed {} from the given PriorityClass name",
                given.value
            );
            return Err(a.forbidden(Some(object), &detail));
        }
        let said = text(object, "/spec/preemptionPolicy");
        if !said.is_empty() && said != given.preemption {
            let detail = format!(
                "the string value of PreemptionPolicy ({said}) must not be provided in pod spec; \
                 priority admission controller computed {} from the given PriorityClass name",
                given.preemption
            );
            return Err(a.forbidden(Some(object), &detail));
        }
        let spec = crate::object::object_mut(object, "spec");
        if !given.class.is_empty() {
            spec["priorityClassName"] = given.class.into();
        }
        spec["priority"] = given.value.into();
        spec["preemptionPolicy"] = given.preemption.into();
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, _: Option<&Value>) -> Result<(), ApiError> {
        match object {
            Some(class) if a.is(GROUP, "priorityclasses") => self.check_class(a, class),
            _ => Ok(()),
        }
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        Some(self)
    }
}

/// What was computed at the pod's creation stays where an update leaves it out.
fn keep(pod: &mut Value, old: Option<&Value>) {
    let Some(old) = old else { return };
    for field in ["priority", "preemptionPolicy"] {
        let was = &old["spec"][field];
        if pod["spec"][field].is_null() && !was.is_null() {
            pod["spec"][field] = was.clone();
        }
    }
}

impl Observer for Priority {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        &[CLASSES]
    }

    fn observe(&self, change: &Change<'_>) {
        let mut defaults = self.defaults.write();
        defaults.remove(change.name);
        if let Some(class) = change.new.as_deref()
            && class.get("globalDefault").and_then(Value::as_bool) == Some(true)
        {
            defaults.insert(change.name.to_owned(), class["value"].as_i64().unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{State, admit, attributes, observe};

    fn plugin() -> (Arc<State>, Priority) {
        let state = Arc::new(State::default());
        state.put(
            "priorityclasses.scheduling.k8s.io",
            json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}),
        );
        (state.clone(), Priority::new(state))
    }

    #[tokio::test]
    async fn a_pod_gets_what_its_class_says() {
        let (_, plugin) = plugin();
        let a = attributes(Operation::Create, "", "pods");
        let cases = [
            (json!({}), Ok((0, PREEMPT))),
            (json!({"priorityClassName": "high"}), Ok((1000, "Never"))),
            (json!({"priorityClassName": "high", "priority": 1000}), Ok((1000, "Never"))),
            (json!({"priorityClassName": "high", "priority": 1}), Err(403)),
            (json!({"priorityClassName": "high", "preemptionPolicy": PREEMPT}), Err(403)),
            (json!({"priorityClassName": "absent"}), Err(403)),
            (json!({"priority": 5}), Err(403)),
        ];
        for (spec, wanted) in cases {
            let got = admit(&plugin, &a, json!({"metadata": {"name": "x"}, "spec": spec})).await;
            let got = got
                .as_ref()
                .map(|pod| (pod["spec"]["priority"].as_i64().expect("set"), text(pod, "/spec/preemptionPolicy")));
            assert_eq!(got.map_err(|e| e.code()), wanted, "{spec}");
        }
    }

    #[tokio::test]
    async fn there_is_one_default_and_it_is_used() {
        let (state, plugin) = plugin();
        let class = json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true});
        state.put("priorityclasses.scheduling.k8s.io", class.clone());
        observe(&plugin, CLASSES, &class);
        let pod =
            admit(&plugin, &attributes(Operation::Create, "", "pods"), json!({"spec": {}})).await.expect("admitted");
        assert_eq!((pod["spec"]["priority"].as_i64(), text(&pod, "/spec/priorityClassName")), (Some(7), "usual"));
        let classes = attributes(Operation::Create, GROUP, "priorityclasses");
        let second = json!({"metadata": {"name": "other"}, "globalDefault": true});
        assert_eq!(admit(&plugin, &classes, second).await.map_err(|e| e.code()), Err(403));
        assert!(admit(&plugin, &classes, class).await.is_ok());
    }
}
