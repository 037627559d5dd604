//! What makes a pod of a stateful set that pod: its name, labels, host name and claims. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::history::POD_LABEL;
use crate::{ownership, pods};

/// The label with the pod's name, by which a Service can select one pod.
const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// The label with the pod's ordinal.
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

pub fn spec(set: &StatefulSet) -> StatefulSetSpec {
    set.spec.clone().unwrap_or_default()
}

/// The ordinals that a set should have.
pub fn ordinals(spec: &StatefulSetSpec) -> std::ops::Range<i32> {
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    start..start.saturating_add(spec.replicas.unwrap_or(1))
}

/// The ordinal in a pod's name, if it is a name of the set's.
pub fn ordinal(set: &StatefulSet, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(&set.name_any())?.strip_prefix('-')?;
    let is_canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| is_canonical)
}

pub fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.name_any())
}

/// The revision that a pod is of.
pub fn revision_of(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_LABEL)).map_or("", String::as_str)
}

/// The labels that a pod must have, whatever its template says.
pub fn labels(set: &StatefulSet, ordinal: i32) -> BTreeMap<String, String> {
    let pairs = [(NAME_LABEL, pod_name(set, ordinal)), (INDEX_LABEL, ordinal.to_string())];
    pairs.map(|(key, value)| (key.to_owned(), value)).into()
}

/// The pod of an ordinal, of a revision's template.
pub fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let namespace = set.namespace().unwrap_or_default();
    let name = pod_name(set, ordinal);
    let mut pod = pods::from_template(template, &namespace, "", ownership::owner_reference(set));
    pod.metadata.generate_name = None;
    let own = labels(set, ordinal);
    let all = pod.metadata.labels.get_or_insert_default();
    all.extend(own);
    all.insert(POD_LABEL.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = self::spec(set).service_name.filter(|service| !service.is_empty());
    let claims = claims(set, ordinal);
    let volumes = spec.volumes.get_or_insert_default();
    volumes.retain(|volume| !claims.iter().any(|(template, _)| *template == volume.name));
    volumes.extend(claims.into_iter().map(|(template, claim)| Volume {
        name: template,
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.name_any(),
            read_only: Some(false),
        }),
        ..Volume::default()
    }));
    pod.metadata.name = Some(name);
    pod
}

/// The claims of an ordinal's pod, by the name of their template.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<(String, PersistentVolumeClaim)> {
    let spec = spec(set);
    let selected = spec.selector.match_labels.unwrap_or_default();
    let claim = |template: PersistentVolumeClaim| {
        let name = template.name_any();
        let mut labels = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(selected.clone());
        let metadata = ObjectMeta {
            name: Some(format!("{name}-{}", pod_name(set, ordinal))),
            namespace: set.namespace(),
            labels: Some(labels),
            ..template.metadata
        };
        (name, PersistentVolumeClaim { metadata, status: None, ..template })
    };
    spec.volume_claim_templates.into_iter().flatten().map(claim).collect()
}

/// Which owners a claim should have: the set, and the pod. They go with their owners.
pub fn claim_owners(set: &StatefulSet, is_condemned: bool) -> (bool, bool) {
    let policy = spec(set).persistent_volume_claim_retention_policy.unwrap_or_default();
    let deletes = |when: Option<String>| when.as_deref() == Some("Delete");
    let (when_deleted, when_scaled) = (deletes(policy.when_deleted), deletes(policy.when_scaled));
    let pod = when_scaled && is_condemned;
    (when_deleted && !pod, pod)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set() -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "u" },
            "spec": {
                "replicas": 3, "serviceName": "peers", "ordinals": { "start": 2 },
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [], "volumes": [{ "name": "data" }, { "name": "other" }] } },
                "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": { "accessModes": ["ReadWriteOnce"] } }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_has_its_name_place_and_claims() {
        let set = set();
        assert_eq!(ordinals(&spec(&set)), 2..5);
        let pod = pod(&set, &spec(&set).template, "web-abc", 4);
        assert_eq!((pod.name_any(), ordinal(&set, &pod.name_any())), ("web-4".to_owned(), Some(4)));
        assert_eq!(revision_of(&pod), "web-abc");
        assert_eq!(
            (&*pod.labels()[NAME_LABEL], &*pod.labels()[INDEX_LABEL], &*pod.labels()["app"]),
            ("web-4", "4", "web")
        );
        let spec = pod.spec.unwrap();
        assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("web-4"), Some("peers")));
        let volumes = spec.volumes.unwrap();
        assert_eq!(volumes.iter().map(|volume| &*volume.name).collect::<Vec<_>>(), ["other", "data"]);
        assert_eq!(volumes[1].persistent_volume_claim.as_ref().unwrap().claim_name, "data-web-4");
        let claim = &claims(&set, 4)[0].1;
        assert_eq!((claim.name_any(), &*claim.labels()["app"]), ("data-web-4".to_owned(), "web"));
    }

    #[test]
    fn names_of_others_have_no_ordinal() {
        for (name, expected) in [
            ("web-0", Some(0)),
            ("web-12", Some(12)),
            ("web-", None),
            ("web-01", None),
            ("web-x-1", None),
            ("webs-1", None),
        ] {
            assert_eq!(ordinal(&set(), name), expected, "{name}");
        }
    }

    #[test]
    fn claims_belong_to_those_with_whom_they_are_to_go() {
        for (when_deleted, when_scaled, is_condemned, expected) in [
            ("Retain", "Retain", true, (false, false)),
            ("Delete", "Retain", true, (true, false)),
            ("Retain", "Delete", false, (false, false)),
            ("Retain", "Delete", true, (false, true)),
            ("Delete", "Delete", false, (true, false)),
            ("Delete", "Delete", true, (false, true)),
        ] {
            let mut set = set();
            set.spec.as_mut().unwrap().persistent_volume_claim_retention_policy =
                serde_json::from_value(json!({ "whenDeleted": when_deleted, "whenScaled": when_scaled })).unwrap();
            assert_eq!(claim_owners(&set, is_condemned), expected, "{when_deleted} {when_scaled} {is_condemned}");
        }
    }
}
