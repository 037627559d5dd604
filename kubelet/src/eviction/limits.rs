//! Limits of local storage that no kernel enforces: of emptyDir volumes, of containers and of whole pods. Pure.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::usage::PodUsage;
use crate::pod::{self, qos};
use crate::quantity;

/// Why a pod has to go for what it has written, if it has.
pub fn exceeded(pod: &Pod, usage: &PodUsage) -> Option<String> {
    volumes(pod, usage).or_else(|| whole(pod, usage)).or_else(|| containers(pod, usage))
}

/// Whether the pod has any such limit.
pub fn any(pod: &Pod) -> bool {
    let spec = pod::spec(pod);
    let limited = |container: &Container| qos::limit(container, "ephemeral-storage").is_some();
    let sized = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| volume.empty_dir.as_ref())
        .any(|dir| dir.size_limit.is_some());
    sized || spec.containers.iter().any(limited)
}

fn volumes(pod: &Pod, usage: &PodUsage) -> Option<String> {
    pod::spec(pod).volumes.iter().flatten().find_map(|volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        let most = quantity::value(limit).filter(|most| *most > 0)?;
        let used = *usage.volumes.get(&volume.name)?;
        (used > most).then(|| format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, limit.0))
    })
}

fn whole(pod: &Pod, usage: &PodUsage) -> Option<String> {
    let of = |container: &Container, resource: &str| qos::limit(container, resource).and_then(quantity::value);
    let most = qos::pod_total(pod, "ephemeral-storage", of, true).filter(|most| *most > 0)?;
    (usage.storage() > most)
        .then(|| format!("Pod ephemeral local storage usage exceeds the total limit of containers {most}. "))
}

fn containers(pod: &Pod, usage: &PodUsage) -> Option<String> {
    pod::spec(pod).containers.iter().find_map(|container| {
        let limit = qos::limit(container, "ephemeral-storage")?;
        let used = usage.containers.get(&container.name)?.storage;
        (used > quantity::value(limit)?)
            .then(|| format!("Container {} exceeded its local ephemeral storage limit {:?}. ", container.name, limit.0))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::usage::ContainerUsage;
    use super::*;

    #[test]
    fn what_is_written_beyond_a_limit_is_told() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [
                {"name": "a", "resources": {"limits": {"ephemeral-storage": "100"}}},
                {"name": "b", "resources": {"limits": {"ephemeral-storage": "200"}}},
            ],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "50"}}, {"name": "w", "emptyDir": {}}],
        }}))
        .unwrap();
        let used = |a, b, v, w| PodUsage {
            containers: [("a", a), ("b", b)]
                .map(|(name, storage)| (name.to_owned(), ContainerUsage { storage, memory: 0 }))
                .into(),
            volumes: [("v".to_owned(), v), ("w".to_owned(), w)].into(),
            ..Default::default()
        };
        for (usage, expected) in [
            (used(100, 100, 50, 50), None),
            (used(0, 0, 51, 0), Some("Usage of EmptyDir volume \"v\" exceeds the limit \"50\". ")),
            (
                used(50, 200, 0, 51),
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 300. "),
            ),
            (used(101, 0, 0, 0), Some("Container a exceeded its local ephemeral storage limit \"100\". ")),
        ] {
            assert_eq!(exceeded(&pod, &usage).as_deref(), expected);
        }
    }
}
