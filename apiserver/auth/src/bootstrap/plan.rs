//! What to do about one object at the server's start: administrators' changes stay, what is missing comes back.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Object;
use crate::authorization::Rule;
use crate::authorization::rbac::{GROUP, escalation};
use crate::object::{items, text};

/// On roles and bindings: `false` leaves the object alone.
pub const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// On flow schemas and priority levels: `true` keeps the spec as the server wants it.
pub const AUTO_UPDATE_SPEC: &str = "apf.kubernetes.io/autoupdate-spec";

/// One write, or none.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    Nothing,
    Create(Value),
    /// With the resource version of what was there.
    Update(Value),
    /// Delete, then create: a binding's role cannot be changed.
    Recreate(Value),
}

/// What brings `existing` to what is wanted.
pub fn plan(existing: Option<&Value>, wanted: &Object) -> Plan {
    let Some(existing) = existing else { return Plan::Create(wanted.value.clone()) };
    match wanted.group {
        GROUP => rbac(existing, &wanted.value),
        "flowcontrol.apiserver.k8s.io" => flow_control(existing, &wanted.value),
        _ => Plan::Nothing,
    }
}

fn rbac(existing: &Value, wanted: &Value) -> Plan {
    let annotations = existing.pointer("/metadata/annotations");
    if annotations.and_then(|a| a.get(AUTO_UPDATE)).and_then(Value::as_str) == Some("false") {
        return Plan::Nothing;
    }
    let is_binding = wanted.get("roleRef").is_some();
    if is_binding && ["kind", "name"].iter().any(|f| existing["roleRef"][*f] != wanted["roleRef"][*f]) {
        return Plan::Recreate(wanted.clone());
    }
    let mut next = existing.clone();
    for field in ["labels", "annotations"] {
        add_missing_keys(&mut next["metadata"], field, &wanted["metadata"]);
    }
    if is_binding {
        append_missing(&mut next, "subjects", items(wanted, "/subjects"));
    } else {
        let missing = escalation::uncovered(&Rule::all_of(existing), &Rule::all_of(wanted));
        let missing: Vec<Value> = wanted_rules(wanted, &missing);
        append_missing(&mut next, "rules", &missing);
        let selectors = items(wanted, "/aggregationRule/clusterRoleSelectors");
        if !selectors.is_empty() {
            append_missing(&mut next["aggregationRule"], "clusterRoleSelectors", selectors);
        }
    }
    changed(existing, next)
}

/// The rules, whole, that have a part which is missing.
fn wanted_rules(wanted: &Value, missing: &[Rule]) -> Vec<Value> {
    let has_missing = |rule: &&Value| {
        let rule = Arc::new(Rule::from_value(rule));
        let part = |m: &Rule| escalation::uncovered(std::slice::from_ref(&rule), &[Arc::new(m.clone())]).is_empty();
        missing.iter().any(part)
    };
    items(wanted, "/rules").iter().filter(has_missing).cloned().collect()
}

/// The levels and schemas without which the server cannot decide what to do with a request.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

fn flow_control(existing: &Value, wanted: &Value) -> Plan {
    let annotations = existing.pointer("/metadata/annotations");
    let automatic = match annotations.and_then(|a| a.get(AUTO_UPDATE_SPEC)).and_then(Value::as_str) {
        Some(said) => said == "true",
        None => existing.pointer("/metadata/generation").and_then(Value::as_i64) == Some(1),
    };
    if !automatic && !MANDATORY.contains(&text(wanted, "/metadata/name")) {
        return Plan::Nothing;
    }
    let mut next = existing.clone();
    let mut spec = wanted["spec"].clone();
    if automatic {
        add_missing_keys(&mut next["metadata"], "annotations", &wanted["metadata"]);
    } else if spec["exempt"].is_object() && existing["spec"]["exempt"].is_object() {
        // How much the exempt level lends may be changed by who says so in the annotation.
        spec["exempt"] = existing["spec"]["exempt"].clone();
    }
    // A spec that says all that is wanted may say more: defaults that another version has added.
    if !says(&existing["spec"], &spec) {
        next["spec"] = spec;
    }
    changed(existing, next)
}

fn changed(existing: &Value, next: Value) -> Plan {
    if *existing == next { Plan::Nothing } else { Plan::Update(next) }
}

/// Whether everything in `wanted` is in `existing`.
fn says(existing: &Value, wanted: &Value) -> bool {
    match (existing, wanted) {
        (Value::Object(have), Value::Object(want)) => {
            want.iter().all(|(key, value)| have.get(key).is_some_and(|own| says(own, value)))
        }
        (Value::Array(have), Value::Array(want)) => {
            have.len() == want.len() && have.iter().zip(want).all(|(own, value)| says(own, value))
        }
        _ => existing == wanted,
    }
}

fn add_missing_keys(target: &mut Value, field: &str, from: &Value) {
    let Some(wanted) = from.get(field).and_then(Value::as_object) else { return };
    if !target[field].is_object() {
        target[field] = Value::Object(Map::new());
    }
    for (key, value) in wanted {
        if target[field].get(key) != Some(value) {
            target[field][key] = value.clone();
        }
    }
}

fn append_missing(target: &mut Value, field: &str, wanted: &[Value]) {
    let mut list = target.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let before = list.len();
    for item in wanted {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
    if list.len() != before {
        target[field] = list.into();
    }
}
