//! Subresources that change one part of an object and leave the rest: a pod's resources and ephemeral containers, the approval of a
//! certificate request.
//!
//! KEP-1287 (in-place resize), KEP-277 (ephemeral containers), KEP-1513 (certificate signing requests).

use apimachinery::field::ErrorList;
use apiserver_registry::subresources;
use serde_json::{Value, json};

use super::update::Part;

/// Keeps everything of the object as it was, but the part.
pub fn prepare(part: Part, value: &mut Value, old: &Value) {
    let managed = value["metadata"]["managedFields"].take();
    match part {
        Part::EphemeralContainers => subresources::prepare_for_ephemeral_containers(value, old),
        Part::Resize => subresources::prepare_for_resize(value, old),
        Part::Approval => approve(value, old),
        Part::Main | Part::Status => {}
    }
    value["metadata"]["managedFields"] = managed;
    remove_nulls(value);
}

fn remove_nulls(value: &mut Value) {
    for section in ["metadata", "spec", "status"] {
        if let Some(map) = value.get_mut(section).and_then(Value::as_object_mut) {
            map.retain(|_, field| !field.is_null());
        }
    }
}

/// Only the conditions that approve or deny may be changed; a new one gets the time.
fn approve(value: &mut Value, old: &Value) {
    let now = apimachinery::time::now_rfc3339();
    let mut conditions = value["status"]["conditions"].take();
    for condition in conditions.as_array_mut().into_iter().flatten() {
        for field in ["lastUpdateTime", "lastTransitionTime"] {
            if condition[field].is_null() {
                condition[field] = now.as_str().into();
            }
        }
    }
    *value = old.clone();
    if !value["status"].is_object() {
        value["status"] = json!({});
    }
    value["status"]["conditions"] = conditions;
}

/// The rules of the part.
pub fn validate(part: Part, value: &Value, old: &Value) -> ErrorList {
    match part {
        Part::EphemeralContainers => subresources::validate_ephemeral_containers(value, old),
        Part::Resize => subresources::validate_resize(value, old),
        Part::Approval => subresources::validate_approval(value, old),
        Part::Main | Part::Status => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}},
                "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}],
                "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30},
        })
    }

    fn changed(part: Part, old: &Value, change: impl Fn(&mut Value)) -> (Value, ErrorList) {
        let mut new = old.clone();
        change(&mut new);
        new["metadata"]["managedFields"] = json!([{"manager": "m"}]);
        prepare(part, &mut new, old);
        let errors = validate(part, &new, old);
        (new, errors)
    }

    #[test]
    fn a_resize_changes_resources_and_nothing_else() {
        let (new, errors) = changed(Part::Resize, &pod(), |pod| {
            pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}});
            pod["spec"]["containers"][0]["image"] = json!("other");
            pod["metadata"]["labels"] = json!({"a": "b"});
        });
        assert_eq!(errors, vec![]);
        assert_eq!(new["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
        assert_eq!(new["spec"]["containers"][0]["image"], "i");
        assert_eq!(new["metadata"].get("labels"), None);
        assert_eq!(new["metadata"]["generation"], 4);
        assert_eq!(new["metadata"]["managedFields"][0]["manager"], "m");
        let (_, errors) = changed(Part::Resize, &pod(), |pod| pod["spec"]["containers"][0]["resources"] = json!({}));
        assert!(!errors.is_empty(), "the class of the pod would change");
    }

    #[test]
    fn an_ephemeral_container_is_added_and_stays_as_it_is() {
        let debug =
            json!({"name": "debug", "image": "d", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"});
        let (new, errors) = changed(Part::EphemeralContainers, &pod(), |pod| {
            pod["spec"]["ephemeralContainers"] = json!([debug]);
            pod["spec"]["hostNetwork"] = json!(true);
        });
        assert_eq!(errors, vec![]);
        assert_eq!(new["spec"].get("hostNetwork"), None);
        assert_eq!(new["metadata"]["generation"], 4);
        let (_, errors) = changed(Part::EphemeralContainers, &new, |pod| {
            pod["spec"]["ephemeralContainers"][0]["image"] = json!("e");
        });
        assert_eq!(errors.len(), 1, "{errors:?}");
        let (_, errors) = changed(Part::EphemeralContainers, &pod(), |pod| {
            pod["spec"]["ephemeralContainers"] = json!([{"name": "c", "image": "d"}]);
        });
        assert!(!errors.is_empty(), "the name is taken");
    }

    #[test]
    fn an_approval_cannot_be_taken_back() {
        let request = json!({"metadata": {"name": "r", "uid": "u"}, "spec": {"signerName": "a.b/c"}, "status": {"certificate": "x"}});
        let approval = json!([{"type": "Approved", "status": "True"}]);
        let (approved, errors) = changed(Part::Approval, &request, |request| {
            request["status"] = json!({"conditions": approval});
            request["spec"]["signerName"] = json!("d.e/f");
        });
        assert_eq!(errors, vec![]);
        assert!(approved["status"]["conditions"][0]["lastUpdateTime"].is_string());
        assert_eq!(
            (&approved["status"]["certificate"], &approved["spec"]["signerName"]),
            (&json!("x"), &json!("a.b/c"))
        );
        let (_, errors) = changed(Part::Approval, &approved, |request| request["status"] = json!({}));
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
}
