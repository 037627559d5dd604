//! The subresources of pods that change them: binding, ephemeral containers, resize.

use apimachinery::field::ErrorList;
use apimachinery::time::Moment;
use serde_json::{Value, json};

use crate::defaults;
use crate::node::collect;
use crate::rules::{meta, pod, resources};

/// A `core.v1 Binding` of a pod (`pods/binding`).
pub fn validate_binding(binding: &Value) -> ErrorList {
    collect(binding, |root| {
        let target = root.get("target");
        let kind = target.get("kind");
        if !matches!(kind.str(), "" | "Node") {
            kind.not_supported(&["Node", "<empty>"]);
        }
        target.get("name").need();
    })
}

/// The pod as it is once bound. It must not be bound already; the caller answers a conflict then.
pub fn bind(pod: &mut Value, binding: &Value, now: Moment) {
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    let annotations = binding["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    for (key, value) in annotations {
        defaults::object(defaults::object(pod, "metadata"), "annotations")[key] = value;
    }
    let labels = binding["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    for (key, value) in labels {
        defaults::object(defaults::object(pod, "metadata"), "labels")[key] = value;
    }
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let mut scheduled = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now.to_seconds(),
    });
    if !pod["metadata"]["generation"].is_null() {
        scheduled["observedGeneration"] = pod["metadata"]["generation"].clone();
    }
    conditions.retain(|c| c["type"] != "PodScheduled");
    conditions.push(scheduled);
    defaults::object(pod, "status")["conditions"] = conditions.into();
}

/// Whether a pod waits for its scheduling gates, so that it cannot be bound.
pub fn is_gated(pod: &Value) -> bool {
    pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty())
}

/// `pods/ephemeralcontainers`: what else the request says is dropped.
pub fn prepare_for_ephemeral_containers(pod: &mut Value, old: &Value) {
    let containers = pod["spec"]["ephemeralContainers"].clone();
    let mut metadata = old["metadata"].clone();
    metadata["resourceVersion"] = pod["metadata"]["resourceVersion"].clone();
    *pod = old.clone();
    pod["metadata"] = metadata;
    pod["spec"]["ephemeralContainers"] = containers;
    defaults::pod_spec(&mut pod["spec"]);
    count_generation(pod, old);
}

/// What is wanted of the pod changed.
fn count_generation(pod: &mut Value, old: &Value) {
    if let Some(generation) = old["metadata"]["generation"].as_i64()
        && pod["spec"] != old["spec"]
    {
        pod["metadata"]["generation"] = (generation + 1).into();
    }
}

/// Ephemeral containers are added, never changed or removed.
pub fn validate_ephemeral_containers(pod: &Value, old: &Value) -> ErrorList {
    collect(pod, |root| {
        meta::validate_update(root.get("metadata"), &old["metadata"]);
        pod::pod(root);
        let list = root.get("spec").get("ephemeralContainers");
        for before in old["spec"]["ephemeralContainers"].as_array().into_iter().flatten() {
            match list.items().find(|c| c.value["name"] == before["name"]) {
                None => list.forbidden(&format!("existing ephemeral containers {} may not be removed", before["name"])),
                Some(now) if now.value != before => {
                    list.forbidden(&format!("existing ephemeral containers {} may not be changed", before["name"]));
                }
                Some(_) => {}
            }
        }
    })
}

/// `pods/resize`: only the resources of containers come from the request.
pub fn prepare_for_resize(pod: &mut Value, old: &Value) {
    let wanted = pod["spec"].clone();
    let version = pod["metadata"]["resourceVersion"].clone();
    *pod = old.clone();
    pod["metadata"]["resourceVersion"] = version;
    for list in ["containers", "initContainers"] {
        let new = wanted[list].as_array().cloned().unwrap_or_default();
        defaults::each(&mut pod["spec"], list, |container| {
            if let Some(same) = new.iter().find(|c| c["name"] == container["name"]) {
                container["resources"] = same["resources"].clone();
                if !same["resizePolicy"].is_null() {
                    container["resizePolicy"] = same["resizePolicy"].clone();
                }
            }
        });
    }
    count_generation(pod, old);
}

/// A resize keeps the pod's class, and touches only CPU and memory.
pub fn validate_resize(pod: &Value, old: &Value) -> ErrorList {
    collect(pod, |root| {
        meta::validate_update(root.get("metadata"), &old["metadata"]);
        let spec = root.get("spec");
        pod::pod(root);
        let class = crate::kinds::pod::qos_class(&old["spec"]);
        if crate::kinds::pod::qos_class(spec.value) != class {
            spec.invalid_value(class, "Pod QOS Class may not change as a result of resizing");
        }
        for list in ["containers", "initContainers"] {
            let before = &old["spec"][list];
            for (i, container) in spec.get(list).items().enumerate() {
                only_cpu_and_memory(container.get("resources"), &before[i]["resources"]);
            }
        }
    })
}

fn only_cpu_and_memory(requirements: crate::node::Node<'_>, before: &Value) {
    for field in ["limits", "requests"] {
        let (list, old) = (requirements.get(field), before[field].as_object());
        for (name, old) in old.into_iter().flatten() {
            let resizable = matches!(name.as_str(), "cpu" | "memory");
            let now = &list.value[name.as_str()];
            if !resizable && resources::parse(now) != resources::parse(old) {
                list.forbidden("only cpu and memory resources are mutable");
            }
            if resizable && now.is_null() {
                list.entry(name).forbidden("resource limits and requests cannot be removed");
            }
        }
        for (name, amount) in list.entries() {
            let known = old.is_some_and(|o| o.contains_key(name));
            if !matches!(name, "cpu" | "memory") && !known {
                amount.forbidden("only cpu and memory resources are mutable");
            }
        }
    }
}
