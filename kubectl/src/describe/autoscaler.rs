//! Horizontal pod autoscalers.

use serde_json::Value;

use super::Subject;
use super::page::{Page, or_unset};
use super::time::rfc1123;
use crate::fields::{self, Fields};

const UNKNOWN: &str = "<unknown>";

/// Writes an autoscaler.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (scaler, mut page) = (subject.object, Page::default());
    let (spec, status) = (scaler.at("spec"), scaler.at("status"));
    page.head(scaler);
    page.tags(scaler);
    page.field(0, "CreationTimestamp", rfc1123(scaler.at("metadata.creationTimestamp")));
    let target = spec.at("scaleTargetRef");
    page.field(0, "Reference", format_args!("{}/{}", target.text("kind"), target.text("name")));
    page.line(0, "Metrics:\t( current / target )");
    for (index, metric) in spec.list("metrics").iter().enumerate() {
        let current = status.list("currentMetrics").get(index).unwrap_or(&Value::Null);
        one_metric(&mut page, metric, current);
    }
    page.field(0, "Min replicas", or_unset(spec.at("minReplicas")));
    page.field(0, "Max replicas", spec.int("maxReplicas"));
    if spec.has("behavior") {
        page.line(0, "Behavior:");
        behavior(&mut page, "Scale Up", spec.at("behavior.scaleUp"));
        behavior(&mut page, "Scale Down", spec.at("behavior.scaleDown"));
    }
    let (current, desired) = (status.int("currentReplicas"), status.int("desiredReplicas"));
    page.line(0, format_args!("{} pods:\t{current} current / {desired} desired", target.text("kind")));
    let conditions = status.list("conditions");
    if !conditions.is_empty() {
        page.line(0, "Conditions:");
        page.line(1, "Type\tStatus\tReason\tMessage");
        page.line(1, "----\t------\t------\t-------");
        conditions.iter().for_each(|condition| page.line(1, super::condition(condition, "\t", &[])));
    }
    page
}

fn known(value: &Value) -> String {
    if value.is_null() { UNKNOWN.to_owned() } else { fields::plain(value) }
}

fn one_metric(page: &mut Page, metric: &Value, current: &Value) {
    let kind = metric.text("type");
    let (source, seen) = match kind {
        "External" => (metric.at("external"), current.at("external.current")),
        "Pods" => (metric.at("pods"), current.at("pods.current")),
        "Object" => (metric.at("object"), current.at("object.current")),
        "Resource" => (metric.at("resource"), current.at("resource.current")),
        "ContainerResource" => (metric.at("containerResource"), current.at("containerResource.current")),
        _ => return page.line(1, format_args!("<unknown metric type {kind:?}>")),
    };
    let target = source.at("target");
    let average = target.has("averageValue");
    let field = if average { "averageValue" } else { "value" };
    let values = format!("{} / {}", known(seen.at(field)), fields::plain(target.at(field)));
    let how = if average { "target average value" } else { "target value" };
    let name = source.text("metric.name");
    match kind {
        "External" => page.line(1, format_args!("{name:?} ({how}):\t{values}")),
        "Pods" => page.line(1, format_args!("{name:?} on pods:\t{values}")),
        "Object" => {
            let (kind, object) = (source.text("describedObject.kind"), source.text("describedObject.name"));
            page.line(1, format_args!("\"{name}\" on {kind}/{object} ({how}):\t{values}"));
        }
        _ => {
            let container = match source.text("container") {
                "" => String::new(),
                container => format!(" of container \"{container}\""),
            };
            page.part(1, format_args!("resource {}{container} on pods", source.text("name")));
            if average {
                page.line(0, format_args!(":\t{values}"));
            } else {
                page.line(1, format_args!("(as a percentage of request):\t{}", utilization(target, seen)));
            }
        }
    }
}

fn utilization(target: &Value, seen: &Value) -> String {
    let current = match seen.at("averageUtilization").as_i64() {
        Some(percent) => format!("{percent}% ({})", fields::plain(seen.at("averageValue"))),
        None => UNKNOWN.to_owned(),
    };
    let wanted =
        target.at("averageUtilization").as_i64().map_or_else(|| "<auto>".to_owned(), |percent| format!("{percent}%"));
    format!("{current} / {wanted}")
}

fn behavior(page: &mut Page, direction: &str, rules: &Value) {
    if rules.is_null() {
        return;
    }
    page.line(1, format_args!("{direction}:"));
    if rules.has("stabilizationWindowSeconds") {
        page.line(2, format_args!("Stabilization Window: {} seconds", rules.int("stabilizationWindowSeconds")));
    }
    if rules.list("policies").is_empty() {
        return;
    }
    page.line(2, format_args!("Select Policy: {}", fields::or(rules.text("selectPolicy"), "Max")));
    page.line(2, "Policies:");
    for policy in rules.list("policies") {
        let (kind, value, period) = (policy.text("type"), policy.int("value"), policy.int("periodSeconds"));
        page.line(3, format_args!("- Type: {kind}\tValue: {value}\tPeriod: {period} seconds"));
    }
}
