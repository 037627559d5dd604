//! Which objects of the API a pod names: what has to be watched while it runs. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

/// Names of objects in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

/// Everything that volumes, environments and image pulls of the pod read.
pub fn of(pod: &Pod) -> References {
    let mut references = References::default();
    let spec = super::spec(pod);
    references.secrets.extend(spec.image_pull_secrets.iter().flatten().map(|secret| secret.name.clone()));
    for volume in spec.volumes.iter().flatten() {
        references.add_volume(volume);
    }
    for (_, container) in super::containers(pod) {
        references.add_container(&container);
    }
    references.secrets.remove("");
    references.config_maps.remove("");
    references
}

impl References {
    fn add_volume(&mut self, volume: &Volume) {
        self.config_maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        self.secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            self.config_maps.extend(source.config_map.iter().map(|source| source.name.clone()));
            self.secrets.extend(source.secret.iter().map(|source| source.name.clone()));
        }
    }

    fn add_container(&mut self, container: &Container) {
        for source in container.env_from.iter().flatten() {
            self.config_maps.extend(source.config_map_ref.iter().map(|source| source.name.clone()));
            self.secrets.extend(source.secret_ref.iter().map(|source| source.name.clone()));
        }
        for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            self.config_maps.extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
            self.secrets.extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_volumes_environments_and_pull_secrets() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "spec": {
                "imagePullSecrets": [{"name": "pull"}, {"name": ""}],
                "volumes": [
                    {"name": "a", "configMap": {"name": "map"}},
                    {"name": "b", "secret": {"secretName": "secret"}},
                    {"name": "c", "projected": {"sources": [{"configMap": {"name": "map2"}}, {"secret": {"name": "secret2"}}]}},
                ],
                "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "from"}}, {"secretRef": {"name": "from"}}]}],
                "containers": [{"name": "c", "env": [
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "key", "key": "k"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}},
                ]}],
            },
        }))
        .unwrap();
        let found = of(&pod);
        assert_eq!(found.config_maps.into_iter().collect::<Vec<_>>(), ["from", "key", "map", "map2"]);
        assert_eq!(found.secrets.into_iter().collect::<Vec<_>>(), ["from", "key", "pull", "secret", "secret2"]);
    }
}
