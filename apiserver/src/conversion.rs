//! Resources that are served in more than one form from one stored object: `autoscaling/v1`, and events in two groups.
//!
//! Kubernetes API conventions, "API versioning": every version of an object can be converted into every other.

pub mod custom;

use std::sync::Arc;

use apimachinery::Schema;
use apimachinery::managed_fields::Versions;
use apimachinery::schema::{Resource, Type};
use apiserver_storage::Object;
use serde_json::{Map, Value, json};

/// How a served version differs from the stored one.
pub trait Conversion: Send + Sync {
    /// From the served version to the stored one.
    fn to_stored(&self, object: Value) -> Value;

    /// From the stored version to the served one.
    fn to_served(&self, object: Value) -> Value;

    /// Whether an object is stored just as it is served, so that it can be shown without being read.
    fn is_stored_as_served(&self, _object: &Object) -> bool {
        false
    }

    /// Whether the strategy of the served kind knows the served version, not the stored one.
    fn is_checked_as_served(&self) -> bool {
        false
    }
}

/// The group and resource that a resource is stored under.
pub fn storage<'a>(group: &'a str, resource: &'a str) -> (&'a str, &'a str) {
    match (group, resource) {
        ("events.k8s.io", "events") => ("", "events"),
        other => other,
    }
}

/// The conversion of a resource that is not stored in its own version.
pub fn of(resource: &Resource) -> Option<Box<dyn Conversion>> {
    match (resource.group.as_str(), resource.version.as_str(), resource.resource.as_str()) {
        ("events.k8s.io", "v1", "events") => Some(Box::new(NewEvents)),
        ("autoscaling", "v1", "horizontalpodautoscalers") => Some(Box::new(AutoscalerV1)),
        _ => None,
    }
}

/// A resource that is served in the version that it is stored in, and in another.
pub struct Forms {
    stored: &'static Resource,
    other: &'static Resource,
    conversion: Box<dyn Conversion>,
}

type Row = &'static Arc<Resource>;

/// The rows of a resource that is served in two forms: the stored one first.
fn rows(resource: &Resource) -> Option<(Row, Row)> {
    let [stored, other] = match resource.resource.as_str() {
        "events" => [("", "v1"), ("events.k8s.io", "v1")],
        "horizontalpodautoscalers" => [("autoscaling", "v2"), ("autoscaling", "v1")],
        _ => return None,
    };
    let row = |(group, version): (&str, &str)| Schema::builtin().resource(group, version, &resource.resource);
    Some((row(stored)?, row(other)?))
}

/// The row that a resource with two forms is stored as.
pub fn stored_row(resource: &Resource) -> Option<&'static Arc<Resource>> {
    rows(resource).map(|(stored, _)| stored)
}

/// The two forms of a resource, if it has two.
pub fn forms(resource: &Resource) -> Option<Box<dyn Versions + Send + Sync>> {
    let (stored, other) = rows(resource)?;
    Some(Box::new(Forms { stored, other, conversion: of(other)? }))
}

impl Versions for Forms {
    fn ty(&self, api_version: &str) -> Option<&Type> {
        [self.stored, self.other].into_iter().find(|row| row.api_version() == api_version).map(|row| &*row.ty)
    }

    fn convert(&self, object: &Value, from: &str, to: &str) -> Value {
        let stored = self.stored.api_version();
        let object = if from == stored { object.clone() } else { self.conversion.to_stored(object.clone()) };
        if to == stored { object } else { self.conversion.to_served(object) }
    }
}

/// `events.k8s.io/v1`, stored as core `v1`.
struct NewEvents;

/// Fields of an event that have another name in the other group: events.k8s.io, core.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn rename(object: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.into(), value);
    }
}

impl Conversion for NewEvents {
    fn to_stored(&self, mut object: Value) -> Value {
        if let Some(event) = object.as_object_mut() {
            EVENT_FIELDS.iter().for_each(|(new, core)| rename(event, new, core));
            event.insert("apiVersion".into(), "v1".into());
        }
        object
    }

    fn to_served(&self, mut object: Value) -> Value {
        if let Some(event) = object.as_object_mut() {
            EVENT_FIELDS.iter().for_each(|(new, core)| rename(event, core, new));
            event.insert("apiVersion".into(), "events.k8s.io/v1".into());
        }
        object
    }

    fn is_checked_as_served(&self) -> bool {
        true
    }
}

/// `autoscaling/v1`, stored as `autoscaling/v2`: what v1 cannot say travels in annotations, as in Kubernetes.
struct AutoscalerV1;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// The only metric that v1 has a field for.
fn cpu_utilization(metric: &Value, key: &str, field: &str) -> Option<Value> {
    let resource = &metric["resource"];
    let is_cpu = metric["type"] == "Resource" && resource["name"] == "cpu";
    is_cpu.then(|| resource[key][field].clone()).filter(|value| !value.is_null())
}

fn cpu_metric(key: &str, mut content: Value, utilization: Value) -> Value {
    content["averageUtilization"] = utilization;
    json!({"type": "Resource", "resource": {"name": "cpu", key: content}})
}

/// Moves a JSON annotation into a value.
fn unpack(object: &mut Value, annotation: &str) -> Option<Value> {
    let annotations = object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?;
    let text = annotations.remove(annotation)?;
    if annotations.is_empty() {
        object["metadata"].as_object_mut()?.remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn pack(object: &mut Value, annotation: &str, value: &Value) {
    object["metadata"]["annotations"][annotation] = value.to_string().into();
}

impl Conversion for AutoscalerV1 {
    fn to_stored(&self, mut object: Value) -> Value {
        object["apiVersion"] = "autoscaling/v2".into();
        let mut metrics = match unpack(&mut object, METRICS) {
            Some(Value::Array(metrics)) => metrics,
            _ => Vec::new(),
        };
        let behavior = unpack(&mut object, BEHAVIOR);
        let current = unpack(&mut object, CURRENT_METRICS);
        let conditions = unpack(&mut object, CONDITIONS);
        if let Some(spec) = object["spec"].as_object_mut() {
            if let Some(target) = spec.remove("targetCPUUtilizationPercentage") {
                metrics.insert(0, cpu_metric("target", json!({"type": "Utilization"}), target));
            }
            if !metrics.is_empty() {
                spec.insert("metrics".into(), metrics.into());
            }
            if let Some(behavior) = behavior {
                spec.insert("behavior".into(), behavior);
            }
        }
        if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
            let mut all = match current {
                Some(Value::Array(metrics)) => metrics,
                _ => Vec::new(),
            };
            if let Some(now) = status.remove("currentCPUUtilizationPercentage") {
                all.insert(0, cpu_metric("current", json!({}), now));
            }
            if !all.is_empty() {
                status.insert("currentMetrics".into(), all.into());
            }
            if let Some(conditions) = conditions {
                status.insert("conditions".into(), conditions);
            }
        }
        object
    }

    fn to_served(&self, mut object: Value) -> Value {
        object["apiVersion"] = "autoscaling/v1".into();
        let take = |object: &mut Value, section: &str, field: &str| {
            object.get_mut(section).and_then(Value::as_object_mut).and_then(|s| s.remove(field))
        };
        if let Some(Value::Array(mut metrics)) = take(&mut object, "spec", "metrics") {
            let found = metrics.iter().position(|m| cpu_utilization(m, "target", "averageUtilization").is_some());
            if let Some(at) = found {
                let metric = metrics.remove(at);
                object["spec"]["targetCPUUtilizationPercentage"] =
                    metric["resource"]["target"]["averageUtilization"].clone();
            }
            if !metrics.is_empty() {
                pack(&mut object, METRICS, &metrics.into());
            }
        }
        if let Some(behavior) = take(&mut object, "spec", "behavior") {
            pack(&mut object, BEHAVIOR, &behavior);
        }
        if let Some(Value::Array(mut metrics)) = take(&mut object, "status", "currentMetrics") {
            let found = metrics.iter().position(|m| cpu_utilization(m, "current", "averageUtilization").is_some());
            if let Some(at) = found {
                let metric = metrics.remove(at);
                object["status"]["currentCPUUtilizationPercentage"] =
                    metric["resource"]["current"]["averageUtilization"].clone();
            }
            if !metrics.is_empty() {
                pack(&mut object, CURRENT_METRICS, &metrics.into());
            }
        }
        if let Some(conditions) = take(&mut object, "status", "conditions") {
            pack(&mut object, CONDITIONS, &conditions);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_everything_through_both_groups() {
        let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "note": "n", "regarding": {"kind": "Pod"},
            "reportingController": "c", "deprecatedCount": 2});
        let stored = NewEvents.to_stored(event.clone());
        assert_eq!(stored["message"], "n");
        assert_eq!(stored["involvedObject"]["kind"], "Pod");
        assert_eq!(NewEvents.to_served(stored), event);
    }

    #[test]
    fn an_autoscaler_keeps_everything_through_v1() {
        let stored = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
        let served = AutoscalerV1.to_served(stored.clone());
        assert_eq!(served["spec"]["targetCPUUtilizationPercentage"], 80);
        assert!(served["metadata"]["annotations"][METRICS].is_string());
        assert_eq!(AutoscalerV1.to_stored(served), stored);
    }
}
