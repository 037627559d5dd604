//! Which replica set is which: the one of the deployment's template, and the old ones.

use std::cmp::Ordering;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::api::ObjectMeta;

use super::{annotations, hash};
use crate::ownership;

/// The label that tells the pods of revisions apart.
pub const HASH_LABEL: &str = "pod-template-hash";

/// A set's wanted replicas.
pub fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// A set's available replicas.
pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// A set's actual replicas.
pub fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    template
}

fn has_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let own = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    own.is_some_and(|own| without_hash(own) == without_hash(template))
}

/// Older first; of the same age by name.
pub fn by_age(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    let key =
        |set: &ReplicaSet| (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.metadata.name.clone());
    key(a).cmp(&key(b))
}

/// The set of the deployment's present template: the oldest, should there be several.
pub fn find_new<'a>(deployment: &Deployment, sets: &'a [Arc<ReplicaSet>]) -> Option<&'a Arc<ReplicaSet>> {
    let template = &deployment.spec.as_ref()?.template;
    sets.iter().filter(|set| has_template(set, template)).min_by(|a, b| by_age(a, b))
}

/// Whether a set is this deployment's, and of its present template.
pub fn is_revision_of(set: &ReplicaSet, deployment: &Deployment) -> bool {
    ownership::is_controlled_by(&set.metadata, &deployment.metadata)
        && deployment.spec.as_ref().is_some_and(|spec| has_template(set, &spec.template))
}

/// The set for the deployment's present template, with no replicas yet.
pub fn new_set(deployment: &Deployment, revision: i64) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash::template_hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations::for_new_set(deployment, None, revision)),
            owner_references: Some(vec![ownership::owner_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}
