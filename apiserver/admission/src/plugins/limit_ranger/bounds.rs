//! What may be asked for: at least, at most, and limits in proportion to requests.

use apimachinery::quantity::Quantity;
use component_base::quota::{Amounts, Side, total};
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Map, Value};

use crate::object::{items, text};

/// What is wrong with a pod by one item of a LimitRange.
pub(super) fn of_pod(limit: &Value, pod: &Value) -> Vec<String> {
    match text(limit, "/type") {
        "Container" => {
            let containers = ["/spec/containers", "/spec/initContainers"].into_iter().flat_map(|list| items(pod, list));
            containers
                .flat_map(|c| {
                    check(limit, "Container", &amounts(c, "/resources/requests"), &amounts(c, "/resources/limits"))
                })
                .collect()
        }
        "Pod" => {
            let Some(spec) = pod.get("spec") else { return Vec::new() };
            match serde_json::from_value::<PodSpec>(spec.clone()) {
                Ok(spec) => check(limit, "Pod", &total(&spec, Side::Requests), &total(&spec, Side::Limits)),
                Err(error) => vec![error.to_string()],
            }
        }
        _ => Vec::new(),
    }
}

/// What is wrong with a claim by one item of a LimitRange. A claim has requests only.
pub(super) fn of_claim(limit: &Value, claim: &Value) -> Vec<String> {
    if text(limit, "/type") != "PersistentVolumeClaim" {
        return Vec::new();
    }
    let requests = amounts(claim, "/spec/resources/requests");
    let mut faults = Vec::new();
    for (name, min) in amounts(limit, "/min") {
        faults.extend(least("PersistentVolumeClaim", &name, &min, &requests, &Amounts::new()));
    }
    for (name, max) in amounts(limit, "/max") {
        match requests.get(&name) {
            None => faults
                .push(format!("maximum {name} usage per PersistentVolumeClaim is {max}.  No request is specified")),
            Some(request) if *request > max => {
                faults
                    .push(format!("maximum {name} usage per PersistentVolumeClaim is {max}, but request is {request}"));
            }
            Some(_) => {}
        }
    }
    faults
}

fn check(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, min) in amounts(limit, "/min") {
        faults.extend(least(kind, &name, &min, requests, limits));
    }
    for (name, max) in amounts(limit, "/max") {
        faults.extend(most(kind, &name, &max, requests, limits));
    }
    for (name, ratio) in amounts(limit, "/maxLimitRequestRatio") {
        faults.extend(proportion(kind, &name, &ratio, requests, limits));
    }
    faults
}

fn least(kind: &str, name: &str, min: &Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let start = format!("minimum {name} usage per {kind} is {min}");
    match (requests.get(name), limits.get(name)) {
        (None, _) => Some(format!("{start}.  No request is specified")),
        (Some(request), _) if request < min => Some(format!("{start}, but request is {request}")),
        (_, Some(limit)) if limit < min => Some(format!("{start}, but limit is {limit}")),
        _ => None,
    }
}

fn most(kind: &str, name: &str, max: &Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let start = format!("maximum {name} usage per {kind} is {max}");
    match (limits.get(name), requests.get(name)) {
        (None, _) => Some(format!("{start}.  No limit is specified")),
        (Some(limit), _) if limit > max => Some(format!("{start}, but limit is {limit}")),
        (_, Some(request)) if request > max => Some(format!("{start}, but request is {request}")),
        _ => None,
    }
}

fn proportion(kind: &str, name: &str, most: &Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let start = format!("{name} max limit to request ratio per {kind} is {most}");
    let set = |amounts: &Amounts| amounts.get(name).filter(|amount| !amount.is_zero()).cloned();
    let (Some(request), Some(limit)) = (set(requests), set(limits)) else {
        let missing = if set(requests).is_none() { "request" } else { "limit" };
        return Some(format!("{start}, but no {missing} is specified or {missing} is 0"));
    };
    let ratio = limit.as_f64() / request.as_f64();
    (ratio > most.as_f64()).then(|| format!("{start}, but provided ratio is {ratio:.6}"))
}

/// A map of quantities; those that cannot be read have been refused by validation.
fn amounts(value: &Value, pointer: &str) -> Amounts {
    let empty = Map::new();
    let map = value.pointer(pointer).and_then(Value::as_object).unwrap_or(&empty);
    map.iter().filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?))).collect()
}
