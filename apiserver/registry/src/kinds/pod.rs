//! Pods.

use std::cmp::Ordering;

use serde_json::{Value, json};

use crate::defaults::{self, each, object, set};
use crate::node::Node;
use crate::rules::{pod, resources};
use crate::strategy::Kind;

pub const KIND: Kind = Kind {
    group: "",
    resource: "pods",
    default,
    create,
    update,
    status_update,
    validate,
    creation: validate_create,
    transition,
    status,
    generation: true,
    grace,
    fields,
    ..Kind::PLAIN
};

fn default(pod: &mut Value) {
    let spec = object(pod, "spec");
    defaults::pod_spec(spec);
    set(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| requests_from_limits(&mut container["resources"]));
    }
}

/// A limit without a request requests as much.
fn requests_from_limits(requirements: &mut Value) {
    let Some(limits) = requirements.get("limits").and_then(Value::as_object).filter(|l| !l.is_empty()).cloned() else {
        return;
    };
    let requests = object(requirements, "requests");
    for (name, limit) in limits {
        set(requests, &name, limit);
    }
}

fn create(pod: &mut Value) {
    pod["status"] = json!({"phase": "Pending", "qosClass": qos_class(&pod["spec"])});
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastProbeTime": null,
            "lastTransitionTime": null,
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
}

fn update(pod: &mut Value, _old: &Value) {
    if pod["status"]["qosClass"].is_null() && pod["status"].is_object() {
        pod["status"]["qosClass"] = qos_class(&pod["spec"]).into();
    }
}

fn status_update(pod: &mut Value, old: &Value) {
    // A status may not end the deletion, nor take the class away.
    if pod["status"]["qosClass"].is_null() && pod["status"].is_object() && !old["status"]["qosClass"].is_null() {
        pod["status"]["qosClass"] = old["status"]["qosClass"].clone();
    }
}

/// The quality of service that a pod's requests and limits of CPU and memory amount to.
pub fn qos_class(spec: &Value) -> &'static str {
    let (mut any, mut all_limited, mut equal) = (false, true, true);
    let pod_level = &spec["resources"];
    let own = [pod_level];
    let lists = ["containers", "initContainers"].map(|f| spec[f].as_array().map_or(&[][..], Vec::as_slice));
    let of_containers: Vec<&Value> = lists.into_iter().flatten().map(|c| &c["resources"]).collect();
    let of_pod = !pod_level["requests"].is_null() || !pod_level["limits"].is_null();
    let considered: &[&Value] = if of_pod { &own } else { &of_containers };
    for requirements in considered {
        for resource in ["cpu", "memory"] {
            let (request, limit) = (&requirements["requests"][resource], &requirements["limits"][resource]);
            any |= positive(request) || positive(limit);
            all_limited &= positive(limit);
            equal &= !positive(request) || resources::parse(request) == resources::parse(limit);
        }
    }
    match (any, all_limited && equal) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn positive(amount: &Value) -> bool {
    resources::sign(amount) == Ordering::Greater
}

fn validate(root: Node<'_>) {
    let spec = root.get("spec");
    pod::spec(spec);
}

/// Ephemeral containers come later, through their own subresource.
fn validate_create(root: Node<'_>) {
    let ephemeral = root.get("spec").get("ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbidden("cannot be set on create");
    }
}

/// A pod's spec is fixed, but for images, the deadline, added tolerations, and what gates hold back.
fn transition(root: Node<'_>, old: &Value) {
    let (spec, old_spec) = (root.get("spec"), &old["spec"]);
    for list in ["containers", "initContainers"] {
        if spec.get(list).len() != old_spec[list].as_array().map_or(0, Vec::len) {
            spec.get(list).forbidden("pod updates may not add or remove containers");
            return;
        }
    }
    deadline(spec.get("activeDeadlineSeconds"), &old_spec["activeDeadlineSeconds"]);
    tolerations(spec.get("tolerations"), &old_spec["tolerations"]);
    let gated = old_spec["schedulingGates"].as_array().is_some_and(|g| !g.is_empty());
    gates(spec.get("schedulingGates"), &old_spec["schedulingGates"]);
    let mut comparable = spec.value.clone();
    for list in ["containers", "initContainers"] {
        keep_images(&mut comparable[list], &old_spec[list]);
    }
    let mut kept = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    if gated {
        kept.extend(["nodeSelector", "affinity"]);
        narrowed(spec, old_spec);
    }
    if old_spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0)
        && comparable["terminationGracePeriodSeconds"] == 1
    {
        kept.push("terminationGracePeriodSeconds");
    }
    for field in kept {
        restore(&mut comparable, field, &old_spec[field]);
    }
    if !same(&comparable, old_spec) {
        spec.forbidden("pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)");
    }
}

fn restore(spec: &mut Value, field: &str, value: &Value) {
    if let Some(map) = spec.as_object_mut() {
        if value.is_null() {
            map.remove(field);
        } else {
            map.insert(field.to_owned(), value.clone());
        }
    }
}

fn keep_images(containers: &mut Value, old: &Value) {
    for (i, container) in containers.as_array_mut().into_iter().flatten().enumerate() {
        restore(container, "image", &old[i]["image"]);
    }
}

/// Equal, where an empty field and an absent one are.
fn same(a: &Value, b: &Value) -> bool {
    fn blank(v: &Value) -> bool {
        match v {
            Value::Null | Value::Bool(false) => true,
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.values().all(blank),
            _ => false,
        }
    }
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| y.get(k).map_or_else(|| blank(v), |w| same(v, w)))
                && y.iter().all(|(k, w)| x.contains_key(k) || blank(w))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(v, w)| same(v, w)),
        _ => a == b || (blank(a) && blank(b)),
    }
}

fn deadline(new: Node<'_>, old: &Value) {
    match (new.opt_int(), old.as_i64()) {
        (Some(n), Some(o)) if n > o => new.invalid("must be less than or equal to previous value"),
        (None, Some(_)) => new.invalid("must not update from a positive integer to nil value"),
        _ => {}
    }
}

fn tolerations(new: Node<'_>, old: &Value) {
    let mut items = new.value.as_array().cloned().unwrap_or_default();
    for item in items.iter_mut() {
        restore(item, "tolerationSeconds", &Value::Null);
    }
    let kept = old.as_array().into_iter().flatten().all(|toleration| {
        let mut toleration = toleration.clone();
        restore(&mut toleration, "tolerationSeconds", &Value::Null);
        items.contains(&toleration)
    });
    if !kept {
        new.forbidden("existing toleration can not be modified except its tolerationSeconds");
    }
}

fn gates(new: Node<'_>, old: &Value) {
    let known = old.as_array().map_or(&[][..], Vec::as_slice);
    for gate in new.items() {
        if !known.contains(gate.value) {
            gate.forbidden("only deletion is allowed, but found new scheduling gate");
        }
    }
}

/// While gated, a pod's node selector may only become narrower.
fn narrowed(spec: Node<'_>, old: &Value) {
    let selector = spec.get("nodeSelector");
    let kept = old["nodeSelector"].as_object().into_iter().flatten().all(|(k, v)| selector.value.get(k) == Some(v));
    if !kept {
        selector.invalid("only additions are allowed (no mutations or deletions)");
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        if !same(&spec.value["affinity"][field], &old["affinity"][field]) {
            spec.get("affinity").get(field).invalid("field is immutable");
        }
    }
}

fn status(root: Node<'_>, old: &Value) {
    let status = root.get("status");
    let nominated = status.get("nominatedNodeName");
    nominated.check_if_set(apimachinery::names::dns1123_subdomain);
    let node = root.get("spec").get("nodeName");
    if node.value != &old["spec"]["nodeName"] && !node.is_empty() {
        status.get("nodeName").forbidden("may not be changed directly");
    }
    for condition in status.get("conditions").items() {
        condition.get("type").check(apimachinery::names::qualified_name);
    }
    for field in ["containerStatuses", "initContainerStatuses"] {
        no_resurrection(status.get(field), &old["status"][field], &old["spec"]["restartPolicy"]);
    }
}

/// A container that ended does not run again where it may not.
fn no_resurrection(statuses: Node<'_>, old: &Value, policy: &Value) {
    if policy != "Never" {
        return;
    }
    for status in statuses.items() {
        let before = old.as_array().into_iter().flatten().find(|s| s["name"] == status.value["name"]);
        let ended = before.is_some_and(|s| s["state"]["terminated"].is_object());
        if ended && !status.get("state").get("terminated").is_set() {
            status.get("state").forbidden("may not be transitioned to non-terminated state");
        }
    }
}

/// None of it for a pod that no node has, or that has ended.
fn grace(pod: &Value, requested: Option<i64>) -> Option<i64> {
    let period = requested.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(0);
    let unscheduled = pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    if unscheduled || ended { Some(0) } else { Some(if period < 0 { 1 } else { period }) }
}

fn fields(pod: &Value) -> Vec<(&'static str, String)> {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let (spec, status) = (&pod["spec"], &pod["status"]);
    vec![
        ("spec.nodeName", text(&spec["nodeName"])),
        ("spec.restartPolicy", text(&spec["restartPolicy"])),
        ("spec.schedulerName", text(&spec["schedulerName"])),
        ("spec.serviceAccountName", text(&spec["serviceAccountName"])),
        ("spec.hostNetwork", spec["hostNetwork"].as_bool().unwrap_or(false).to_string()),
        ("status.phase", text(&status["phase"])),
        ("status.podIP", text(&status["podIP"])),
        ("status.nominatedNodeName", text(&status["nominatedNodeName"])),
    ]
}
