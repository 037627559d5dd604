//! What is to be done about the objects of priority and fairness (Kubernetes documentation, "API Priority and Fairness",
//! maintenance of the mandatory and suggested configuration objects).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apimachinery::meta;
use apiserver_auth::bootstrap::{self, Plan, plan};
use serde_json::{Value, json};

use crate::flowcontrol::configuration::{LEVELS, Objects, SCHEMAS};

pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// One write.
#[derive(Clone, Debug)]
pub enum Repair {
    /// The object is not as it should be.
    Write(bootstrap::Object),
    /// The server made the object, and wants it no longer.
    Delete { resource: &'static str, name: String },
}

impl Repair {
    /// Names the object among those of all kinds.
    pub fn key(&self) -> String {
        match self {
            Repair::Write(object) => format!("{}/{}", object.resource, object.name),
            Repair::Delete { resource, name } => format!("{resource}/{name}"),
        }
    }
}

fn of<'a>(objects: &'a Objects, resource: &str) -> &'a BTreeMap<String, Arc<Value>> {
    if resource == LEVELS { &objects.levels } else { &objects.schemas }
}

/// What brings the suggested objects to what they should be. Schemas are deleted before the levels that they name.
pub fn repairs(objects: &Objects) -> Vec<Repair> {
    let wanted: Vec<bootstrap::Object> = bootstrap::flow_control().collect();
    let names: BTreeSet<(&str, &str)> = wanted.iter().map(|object| (object.resource, object.name.as_str())).collect();
    let mut repairs = Vec::new();
    for resource in [SCHEMAS, LEVELS] {
        let unwanted = of(objects, resource).iter().filter(|(name, object)| {
            !names.contains(&(resource, name.as_str())) && is_kept_up(object) && !is_being_deleted(object)
        });
        repairs.extend(unwanted.map(|(name, _)| Repair::Delete { resource, name: name.clone() }));
    }
    let differs = |object: &bootstrap::Object| {
        let existing = of(objects, object.resource).get(&object.name);
        !existing.is_some_and(|existing| is_being_deleted(existing))
            && plan(existing.map(|existing| &**existing), object) != Plan::Nothing
    };
    repairs.extend(wanted.iter().filter(|object| differs(object)).cloned().map(Repair::Write));
    repairs
}

fn is_kept_up(object: &Value) -> bool {
    object["metadata"]["annotations"][bootstrap::plan::AUTO_UPDATE_SPEC] == "true"
}

fn is_being_deleted(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// The FlowSchemas whose condition `Dangling` is not true to whether their level exists, and the condition that is.
pub fn conditions(objects: &Objects, now: &str) -> Vec<(String, Value)> {
    let stale = |(name, schema): (&String, &Arc<Value>)| {
        let wanted = dangling(schema, objects.has_level_of(schema), now);
        let list = schema["status"]["conditions"].as_array();
        let present = list.into_iter().flatten().find(|condition| condition["type"] == "Dangling");
        let same =
            |present: &Value| ["status", "reason", "message"].iter().all(|field| present[*field] == wanted[*field]);
        (!present.is_some_and(same)).then(|| (name.clone(), wanted))
    };
    objects.schemas.iter().filter_map(stale).collect()
}

fn dangling(schema: &Value, found: bool, now: &str) -> Value {
    let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
    let references = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = if found {
        ("False", "Found", format!("{references} and it exists"))
    } else {
        ("True", "NotFound", format!("{references} but there is no such object"))
    };
    json!({"type": "Dangling", "status": status, "lastTransitionTime": now, "reason": reason, "message": message})
}

/// What is applied to the status of a FlowSchema.
pub fn status(name: &str, condition: &Value) -> Value {
    let mut value = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "FlowSchema"});
    meta::set_name(&mut value, name);
    value["status"] = json!({"conditions": [condition]});
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Objects {
        let mut objects = Objects::default();
        for object in bootstrap::flow_control() {
            let map = if object.resource == LEVELS { &mut objects.levels } else { &mut objects.schemas };
            map.insert(object.name, Arc::new(object.value));
        }
        objects
    }

    fn keys(objects: &Objects) -> Vec<String> {
        repairs(objects).iter().map(Repair::key).collect()
    }

    fn change(object: &mut Arc<Value>, path: &str, to: Value) {
        *Arc::make_mut(object).pointer_mut(path).expect("there") = to;
    }

    #[test]
    fn what_is_missing_or_changed_is_written_and_what_is_no_longer_wanted_deleted() {
        let mut objects = fresh();
        assert!(keys(&objects).is_empty());
        objects.schemas.remove("probes");
        change(objects.levels.get_mut("system").expect("there"), "/spec/limited/lendablePercent", 1.into());
        let mut old = objects.schemas["service-accounts"].clone();
        change(&mut old, "/metadata/name", "old".into());
        objects.schemas.insert("old".into(), old.clone());
        change(&mut old, "/metadata/annotations", json!({}));
        objects.schemas.insert("by-hand".into(), old);
        let mut found = keys(&objects);
        found.sort();
        assert_eq!(found, ["flowschemas/old", "flowschemas/probes", "prioritylevelconfigurations/system"]);
    }

    #[test]
    fn a_condition_is_written_when_it_is_not_true() {
        let mut objects = fresh();
        assert_eq!(conditions(&objects, "now").len(), objects.schemas.len());
        for (name, condition) in conditions(&objects, "now") {
            assert_eq!((&condition["status"], &condition["reason"]), (&"False".into(), &"Found".into()), "{name}");
            let schema = objects.schemas.get_mut(&name).expect("there");
            Arc::make_mut(schema)["status"] = json!({"conditions": [condition]});
        }
        assert!(conditions(&objects, "later").is_empty());
        objects.levels.remove("workload-low");
        let dangling = conditions(&objects, "later");
        assert_eq!(dangling.len(), 1);
        assert_eq!(dangling[0].0, "service-accounts");
        let message = "This FlowSchema references the PriorityLevelConfiguration object named \"workload-low\" but there is no such object";
        let expected = json!({"type": "Dangling", "status": "True", "lastTransitionTime": "later", "reason": "NotFound", "message": message});
        assert_eq!(dangling[0].1, expected);
    }
}
