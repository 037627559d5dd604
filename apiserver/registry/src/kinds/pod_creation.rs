//! What a new pod is given: requests from limits, selectors from label keys, profiles from annotations, its first status.

use serde_json::{Value, json};

use crate::defaults::{self, each, object, set};
use crate::kinds::pod::qos_class;
use crate::node::collect;
use crate::rules::{resources, security};

/// The defaults of a pod, beyond those that its template has too.
pub fn default(pod: &mut Value) {
    let spec = object(pod, "spec");
    defaults::pod_spec(spec);
    set(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| requests_from_limits(&mut container["resources"]));
    }
    pod_requests(spec);
    defaults::host_ports(spec);
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

/// A pod with limits of its own requests what its containers do, and as much as its limits where they say nothing (KEP-2837).
fn pod_requests(spec: &mut Value) {
    let Some(limits) = spec["resources"]["limits"].as_object().filter(|l| !l.is_empty()).cloned() else { return };
    let of_containers = resources::sum_of_requests(spec);
    let requests = object(&mut spec["resources"], "requests");
    for (resource, sum) in of_containers.iter().filter(|(r, _)| matches!(r.as_str(), "cpu" | "memory")) {
        set(requests, resource, sum.to_string());
    }
    for (resource, limit) in limits {
        set(requests, &resource, limit);
    }
}

/// The rest of a new pod, and its first status.
pub fn create(pod: &mut Value) {
    pod["status"] = json!({"phase": "Pending", "qosClass": qos_class(&pod["spec"])});
    select_by_label_keys(pod);
    app_armor(pod);
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastProbeTime": null,
            "lastTransitionTime": null,
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
}

/// `matchLabelKeys` and `mismatchLabelKeys` become requirements of the selector beside them, with the pod's own values
/// (KEP-3633, KEP-3243).
fn select_by_label_keys(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let spec = &mut pod["spec"];
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = defaults::at(spec, &["affinity", kind]) else { continue };
        each(affinity, "requiredDuringSchedulingIgnoredDuringExecution", |term| select_by_keys_of(term, &labels));
        each(affinity, "preferredDuringSchedulingIgnoredDuringExecution", |weighted| {
            if let Some(term) = defaults::at(weighted, &["podAffinityTerm"]) {
                select_by_keys_of(term, &labels);
            }
        });
    }
    each(spec, "topologySpreadConstraints", |constraint| select_by_keys_of(constraint, &labels));
}

fn select_by_keys_of(term: &mut Value, labels: &Value) {
    let mut added = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term[field].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                added.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if let Some(selector) = term.get_mut("labelSelector").filter(|s| s.is_object() && !added.is_empty()) {
        let mut all = selector["matchExpressions"].as_array().cloned().unwrap_or_default();
        all.extend(added);
        selector["matchExpressions"] = all.into();
    }
}

/// The annotations' beginning; the container's name follows.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Annotations of AppArmor and the field that replaced them say the same, for nodes of both ages (KEP-24).
fn app_armor(pod: &mut Value) {
    if pod["spec"]["os"]["name"] == "windows" {
        return;
    }
    let of_pod = pod["spec"]["securityContext"]["appArmorProfile"].clone();
    let annotations = pod["metadata"]["annotations"].clone();
    let mut added = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(&mut pod["spec"], list, |container| {
            let key = format!("{APP_ARMOR}{}", container["name"].as_str().unwrap_or(""));
            let own = container["securityContext"]["appArmorProfile"].clone();
            match annotations[key.as_str()].as_str() {
                None => {
                    let profile = if own.is_null() { &of_pod } else { &own };
                    added.extend(annotation_of(profile).map(|text| (key, text)));
                }
                Some(text) if own.is_null() => {
                    if let Some(profile) = profile_of(text).filter(|profile| *profile != of_pod) {
                        object(container, "securityContext")["appArmorProfile"] = profile;
                    }
                }
                Some(_) => {}
            }
        });
    }
    for (key, text) in added {
        object(object(pod, "metadata"), "annotations")[key] = text.into();
    }
}

fn annotation_of(profile: &Value) -> Option<String> {
    match profile["type"].as_str()? {
        "RuntimeDefault" => Some("runtime/default".to_owned()),
        "Unconfined" => Some("unconfined".to_owned()),
        "Localhost" => Some(format!("localhost/{}", profile["localhostProfile"].as_str()?)),
        _ => None,
    }
}

/// None where the annotation says nothing that the field could.
fn profile_of(annotation: &str) -> Option<Value> {
    let profile = match annotation {
        "runtime/default" => json!({"type": "RuntimeDefault"}),
        "unconfined" => json!({"type": "Unconfined"}),
        other => json!({"type": "Localhost", "localhostProfile": other.strip_prefix("localhost/")?}),
    };
    collect(&profile, security::app_armor_profile).is_empty().then_some(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_the_pod_bring_requests() {
        let mut pod = json!({"spec": {
            "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
            "containers": [
                {"name": "a", "image": "i", "resources": {"requests": {"cpu": "300m"}}},
                {"name": "b", "image": "i", "resources": {"limits": {"cpu": "200m"}}},
            ],
        }});
        default(&mut pod);
        assert_eq!(pod["spec"]["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
    }

    #[test]
    fn label_keys_become_requirements_with_the_pods_values() {
        let selector = json!({"matchLabels": {"app": "a"}});
        let mut pod = json!({"metadata": {"labels": {"app": "a", "hash": "h"}}, "spec": {
            "containers": [],
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": selector, "matchLabelKeys": ["hash", "absent"], "topologyKey": "k"},
            ]}},
            "topologySpreadConstraints": [{"labelSelector": selector, "matchLabelKeys": ["hash"]}],
        }});
        create(&mut pod);
        let added = json!([{"key": "hash", "operator": "In", "values": ["h"]}]);
        let term = &pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(term["labelSelector"]["matchExpressions"], added);
        assert_eq!(pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"], added);
    }

    #[test]
    fn annotations_of_app_armor_become_fields_and_fields_annotations() {
        let mut pod = json!({
            "metadata": {"annotations": {(format!("{APP_ARMOR}a")): "localhost/p"}},
            "spec": {"containers": [
                {"name": "a"}, {"name": "b", "securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
            ]},
        });
        create(&mut pod);
        let profile = &pod["spec"]["containers"][0]["securityContext"]["appArmorProfile"];
        assert_eq!(*profile, json!({"type": "Localhost", "localhostProfile": "p"}));
        assert_eq!(pod["metadata"]["annotations"][format!("{APP_ARMOR}b")], "unconfined");
    }
}
