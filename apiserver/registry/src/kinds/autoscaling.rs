//! Horizontal pod autoscalers, as version 2 and as version 1 write them.

use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::{object, set};
use crate::node::Node;
use crate::rules::resources;
use crate::strategy::Kind;

pub const KIND: Kind = Kind {
    group: "autoscaling",
    resource: "horizontalpodautoscalers",
    default,
    create: |autoscaler| {
        if !is_version_1(autoscaler) {
            autoscaler["status"] = json!({"desiredReplicas": 0, "currentMetrics": null});
        }
    },
    validate: |root| spec(root.get("spec")),
    ..Kind::PLAIN
};

const WINDOW_MAX: i64 = 3600;
const PERIOD_MAX: i64 = 1800;

/// Version 1 knows one metric, the use of CPU.
fn is_version_1(autoscaler: &Value) -> bool {
    autoscaler["apiVersion"] == "autoscaling/v1"
}

fn default(autoscaler: &mut Value) {
    let old = is_version_1(autoscaler);
    let spec = object(autoscaler, "spec");
    set(spec, "minReplicas", 1);
    if old {
        return;
    }
    if spec["metrics"].as_array().is_none_or(Vec::is_empty) {
        spec["metrics"] = json!([{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
        }]);
    }
    if spec["behavior"].is_object() {
        behavior_defaults(&mut spec["behavior"]);
    }
}

fn behavior_defaults(behavior: &mut Value) {
    let up = json!([
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ]);
    let down = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
    for (direction, policies) in [("scaleUp", up), ("scaleDown", down)] {
        let rules = object(behavior, direction);
        set(rules, "selectPolicy", "Max");
        set(rules, "policies", policies);
        if direction == "scaleUp" {
            set(rules, "stabilizationWindowSeconds", 0);
        }
    }
}

fn spec(spec: Node<'_>) {
    let (min, max) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    if min.is_set() && min.int() < 1 {
        min.invalid("must be greater than or equal to 1");
    }
    // The bound is declared in the schema and stated by the rules.
    match max.int() {
        0 => {
            max.required("");
            max.invalid_value(0, "must be greater than 0");
        }
        n if n < 0 => {
            max.invalid("must be greater than or equal to 1");
            max.invalid("must be greater than 0");
        }
        n if min.is_set() && n < min.int() => max.invalid("must be greater than or equal to `minReplicas`"),
        _ => {}
    }
    target_reference(spec.get("scaleTargetRef"));
    let metrics = spec.get("metrics");
    for metric in metrics.items() {
        self::metric(metric);
    }
    if min.is_set() && min.int() == 0 && !metrics.items().any(|m| matches!(m.get("type").str(), "Object" | "External"))
    {
        metrics.forbidden("must specify at least one Object or External metric to support scaling to zero replicas");
    }
    let percentage = spec.get("targetCPUUtilizationPercentage");
    if percentage.is_set() && percentage.int() < 1 {
        let at = spec.get("metrics").index(0).get("resource").get("target").get("averageUtilization");
        at.with(percentage.value).invalid("must be greater than 0");
    }
    let behavior = spec.get("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        if behavior.get(direction).is_set() {
            scaling_rules(behavior.get(direction));
        }
    }
}

fn target_reference(reference: Node<'_>) {
    for field in ["kind", "name"] {
        if reference.get(field).need() {
            reference.get(field).check(names::path_segment);
        }
    }
    let version = reference.get("apiVersion");
    let (group, name) = apimachinery::meta::group_version(version.str());
    let group_fits = group.is_empty() || names::dns1123_subdomain(group).is_empty();
    if group.is_empty() && name != "v1" || !group_fits || name.is_empty() {
        version.invalid_value(version.str(), "must be a group and version such as 'apps/v1'");
    }
}

const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("External", "external"),
    ("ContainerResource", "containerResource"),
];

fn metric(metric: Node<'_>) {
    let kind = metric.get("type");
    let known: Vec<&str> = SOURCES.iter().map(|(k, _)| *k).collect();
    if kind.is_empty() {
        kind.required("must specify a metric source type");
    }
    if !known.contains(&kind.str()) {
        kind.not_supported(&known);
    }
    let mut expected = None;
    let mut found = 0;
    for (name, field) in SOURCES {
        let source = metric.get(field);
        if source.is_set() {
            found += 1;
            if found == 1 {
                expected = Some(name);
                metric_source(name, source);
            } else {
                source.forbidden("must populate the given metric source only");
            }
        }
    }
    match expected {
        None => metric.required("must populate information for the given metric source"),
        // The type is looked at again, as the one the source stands for.
        Some(name) if name != kind.str() => {
            if known.contains(&kind.str()) {
                kind.invalid("must populate information for the given metric source");
            } else {
                kind.not_supported(&known);
            }
        }
        Some(_) => {}
    }
}

fn metric_source(kind: &str, source: Node<'_>) {
    let target = source.get("target");
    self::target(target);
    match kind {
        "Object" => {
            for field in ["kind", "name"] {
                if source.get("describedObject").get(field).need() {
                    source.get("describedObject").get(field).check(names::path_segment);
                }
            }
            identifier(source.get("metric"));
            if !target.get("value").is_set() && !target.get("averageValue").is_set() {
                target.get("averageValue").required("must set either a target raw value or a per-pod target");
            }
        }
        "Pods" => {
            identifier(source.get("metric"));
            if resources::sign(target.get("averageValue").value).is_le() {
                target.get("averageValue").required("must specify a positive target averageValue");
            }
        }
        "External" => {
            identifier(source.get("metric"));
            if !target.get("value").is_set() && !target.get("averageValue").is_set() {
                target.get("averageValue").required("must set either a target raw value or a per-pod target");
            }
            if target.get("value").is_set() && target.get("averageValue").is_set() {
                target.get("value").forbidden("may not set both a target metric value and a per-pod target");
            }
        }
        _ => {
            source.get("name").need();
            if kind == "ContainerResource" {
                source.get("container").need();
            }
            let (percent, average) = (target.get("averageUtilization"), target.get("averageValue"));
            if !percent.is_set() && !average.is_set() {
                percent.required("must set either a target raw value or a target utilization");
            }
            if percent.is_set() && average.is_set() {
                average.forbidden("may not set both a target raw value and a target utilization");
            }
        }
    }
}

fn identifier(metric: Node<'_>) {
    if metric.get("name").need() {
        metric.get("name").check(names::path_segment);
    }
}

fn target(target: Node<'_>) {
    let kind = target.get("type");
    if kind.is_empty() {
        kind.required("must specify a metric target type");
    }
    if !matches!(kind.str(), "Utilization" | "Value" | "AverageValue") {
        kind.invalid_value(kind.str(), "must be either Utilization, Value, or AverageValue");
    }
    if target.get("averageUtilization").is_set() && target.get("averageUtilization").int() < 1 {
        target.get("averageUtilization").invalid("must be greater than 0");
    }
    for field in ["value", "averageValue"] {
        if target.get(field).is_set() && resources::sign(target.get(field).value).is_le() {
            target.get(field).invalid("must be positive");
        }
    }
}

fn scaling_rules(rules: Node<'_>) {
    let window = rules.get("stabilizationWindowSeconds");
    window.non_negative();
    if window.int() > WINDOW_MAX {
        window.invalid(format!("must be less than or equal to {WINDOW_MAX}"));
    }
    rules.get("selectPolicy").one_of_if_set(&["Max", "Min", "Disabled"]);
    let policies = rules.get("policies");
    if policies.is_empty() {
        policies.required("must specify at least one Policy");
    }
    for policy in policies.items() {
        let (kind, value, period) = (policy.get("type"), policy.get("value"), policy.get("periodSeconds"));
        kind.one_of(&["Pods", "Percent"]);
        for number in [value, period] {
            if number.int() <= 0 {
                number.invalid_value(number.int(), "must be greater than zero");
            }
        }
        if period.int() > PERIOD_MAX {
            period.invalid(format!("must be less than or equal to {PERIOD_MAX}"));
        }
    }
    if resources::sign(rules.get("tolerance").value).is_lt() {
        rules.get("tolerance").invalid("must be greater than or equal to zero");
    }
}
