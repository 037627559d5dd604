//! The `scale` subresource: the number of replicas of a workload, as an `autoscaling/v1 Scale`.

use apimachinery::field::ErrorList;
use serde_json::{Map, Value, json};

use crate::custom::{self, scale::Paths};
use crate::node::collect;

/// Metadata that a scale shows of its object.
const SHOWN: [&str; 5] = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];

/// The scale of a deployment, replica set, stateful set or replication controller.
pub fn of(obj: &Value) -> Value {
    let replicas = |section: &str| obj[section]["replicas"].as_i64();
    shaped(obj, replicas("spec"), replicas("status"), &selector(&obj["spec"]["selector"]))
}

/// The scale of a custom resource, whose definition says where its parts are.
pub fn of_custom(obj: &Value, paths: &Paths) -> Value {
    let number = |path: &[String]| custom::scale::at(obj, path).and_then(Value::as_i64);
    let selector = paths.selector.as_deref().and_then(|path| custom::scale::at(obj, path)?.as_str());
    shaped(obj, number(&paths.spec), number(&paths.status), selector.unwrap_or_default())
}

fn shaped(obj: &Value, wanted: Option<i64>, actual: Option<i64>, selector: &str) -> Value {
    let metadata: Map<String, Value> = SHOWN
        .iter()
        .filter(|f| !obj["metadata"][**f].is_null())
        .map(|f| ((*f).to_owned(), obj["metadata"][*f].clone()))
        .collect();
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {},
        "status": {"replicas": actual.unwrap_or(0)},
    });
    if let Some(replicas) = wanted.filter(|n| *n != 0) {
        scale["spec"]["replicas"] = json!(replicas);
    }
    if !selector.is_empty() {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

/// A selector as text. Replication controllers have bare labels.
fn selector(selector: &Value) -> String {
    let is_plain = selector.as_object().is_some_and(|s| s.values().all(Value::is_string));
    let text = if is_plain {
        crate::printers::selector_text(&json!({"matchLabels": selector}))
    } else {
        crate::printers::selector_text(selector)
    };
    if text == "<none>" { String::new() } else { text }
}

/// The object with the replicas that a scale wants, and with the scale's resourceVersion, so that a conflict is seen.
#[must_use]
pub fn apply(obj: &Value, scale: &Value) -> Value {
    let mut scaled = obj.clone();
    scaled["spec"]["replicas"] = json!(scale["spec"]["replicas"].as_i64().unwrap_or(0));
    if let Some(version) = scale["metadata"]["resourceVersion"].as_str().filter(|v| !v.is_empty()) {
        scaled["metadata"]["resourceVersion"] = json!(version);
    }
    scaled
}

/// The rules of a scale about to be applied.
pub fn validate(scale: &Value) -> ErrorList {
    collect(scale, |root| root.get("spec").get("replicas").non_negative())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_reads_and_sets_the_replicas() {
        let deployment = json!({
            "metadata": {"name": "d", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "a"}}},
            "status": {"replicas": 2},
        });
        let mut scale = of(&deployment);
        assert_eq!(
            scale,
            json!({
                "kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": "d", "namespace": "n", "uid": "u", "resourceVersion": "7"},
                "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "app=a"},
            })
        );
        scale["spec"]["replicas"] = json!(5);
        assert_eq!(apply(&deployment, &scale)["spec"]["replicas"], 5);
        assert_eq!(validate(&json!({"spec": {"replicas": -1}}))[0].field, "spec.replicas");
    }

    #[test]
    fn a_replication_controller_selects_by_bare_labels() {
        let controller = json!({"metadata": {"name": "r"}, "spec": {"replicas": 0, "selector": {"b": "2", "a": "1"}}});
        let scale = of(&controller);
        assert_eq!(scale["status"]["selector"], "a=1,b=2");
        assert_eq!(scale["spec"], json!({}));
    }
}
