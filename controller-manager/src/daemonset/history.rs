//! The revisions of a daemon set's template, as ControllerRevisions: what `rollout history` shows and `rollout undo` goes back to. Pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::labels_of;
use super::plan::HASH_LABEL;
use crate::deployment::template_hash;
use crate::ownership;

/// What to do so that the present template is the newest revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It is; its hash.
    Current(String),
    /// Write this known revision, with a higher number.
    Raise(Box<ControllerRevision>),
    /// Make this revision.
    Create(Box<ControllerRevision>),
}

/// The hash by which a revision's pods are known.
pub fn hash_of(revision: &ControllerRevision) -> String {
    revision.labels().get(HASH_LABEL).cloned().unwrap_or_default()
}

/// A revision's content: a patch that puts the template back.
fn data(set: &DaemonSet) -> RawExtension {
    let template = set.spec.as_ref().map(|spec| &spec.template);
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".to_owned(), "replace".into());
    }
    RawExtension(serde_json::json!({ "spec": { "template": template } }))
}

/// Compares the present template with the known revisions.
pub fn plan(set: &DaemonSet, known: &[Arc<ControllerRevision>]) -> Step {
    let data = data(set);
    let highest = known.iter().map(|revision| revision.revision).max().unwrap_or(0);
    let same =
        known.iter().filter(|revision| revision.data.as_ref() == Some(&data)).max_by_key(|revision| revision.revision);
    match same {
        Some(revision) if revision.revision == highest => Step::Current(hash_of(revision)),
        Some(revision) => {
            Step::Raise(Box::new(ControllerRevision { revision: highest + 1, ..ControllerRevision::clone(revision) }))
        }
        None => Step::Create(Box::new(new_revision(set, data, highest + 1))),
    }
}

fn new_revision(set: &DaemonSet, data: RawExtension, number: i64) -> ControllerRevision {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let collisions = set.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&template, collisions);
    let mut labels: BTreeMap<String, String> = template.metadata.and_then(|meta| meta.labels).unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", set.name_any())),
            namespace: set.namespace(),
            labels: Some(labels),
            annotations: set.metadata.annotations.clone(),
            owner_references: Some(vec![ownership::owner_reference(set)]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        revision: number,
    }
}

/// The names of the oldest revisions beyond the history's limit that no pod is of.
pub fn excess(set: &DaemonSet, known: &[Arc<ControllerRevision>], pods: &[Arc<Pod>], current: &str) -> Vec<String> {
    let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let live: HashSet<&str> =
        pods.iter().filter_map(|pod| labels_of(pod)?.get(HASH_LABEL).map(String::as_str)).chain([current]).collect();
    let mut old: Vec<&Arc<ControllerRevision>> =
        known.iter().filter(|revision| !live.contains(hash_of(revision).as_str())).collect();
    old.sort_by_key(|revision| revision.revision);
    let excess = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    old.into_iter().take(excess).map(|revision| revision.name_any()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plan::testing::{pod, set};
    use super::*;

    fn with_image(image: &str) -> DaemonSet {
        let mut set = set("d");
        let spec = set.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        spec.containers =
            vec![k8s_openapi::api::core::v1::Container { image: Some(image.into()), ..Default::default() }];
        set
    }

    fn created(step: Step) -> Arc<ControllerRevision> {
        let Step::Create(revision) = step else { panic!("{step:?}") };
        Arc::from(revision)
    }

    #[test]
    fn each_template_is_one_revision_and_going_back_raises_it() {
        let one = created(plan(&with_image("a:1"), &[]));
        assert_eq!(one.revision, 1);
        assert_eq!(plan(&with_image("a:1"), &[Arc::clone(&one)]), Step::Current(hash_of(&one)));
        let two = created(plan(&with_image("a:2"), &[Arc::clone(&one)]));
        assert_eq!(two.revision, 2);
        let Step::Raise(back) = plan(&with_image("a:1"), &[Arc::clone(&one), two]) else { panic!() };
        assert_eq!((back.name_any(), back.revision), (one.name_any(), 3));
    }

    #[test]
    fn old_revisions_go_unless_pods_are_of_them() {
        let mut known: Vec<Arc<ControllerRevision>> = Vec::new();
        for n in 0..4 {
            known.push(created(plan(&with_image(&format!("a:{n}")), &known)));
        }
        let mut limited = with_image("a:3");
        limited.spec.as_mut().unwrap().revision_history_limit = Some(1);
        let current = hash_of(&known[3]);
        let names = |range: std::ops::Range<usize>| known[range].iter().map(|one| one.name_any()).collect::<Vec<_>>();
        assert_eq!(excess(&limited, &known, &[], &current), names(0..2));
        let live = [pod("n", &hash_of(&known[0]), true)];
        assert_eq!(excess(&limited, &known, &live, &current), names(1..2));
    }
}
