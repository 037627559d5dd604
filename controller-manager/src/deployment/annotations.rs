//! What a deployment writes into the annotations of its replica sets: revision, history, and the sizes that it scaled for.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::ResourceExt;

use super::rolling;

/// The revision's number.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Numbers that the revision had before, when it was rolled back to.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The deployment's replicas when the set was scaled.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The most pods that the deployment may have, when the set was scaled.
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Asks for a rollback (removed from the API, still honoured as an annotation).
pub const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
/// Longest history that is kept, in characters.
const HISTORY_LENGTH: usize = 2000;

/// Annotations of the deployment that are not the sets' business.
const NOT_COPIED: &[&str] =
    &["kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED, MAX, ROLLBACK_TO];

/// A set's revision; 0 without one.
pub fn revision(set: &ReplicaSet) -> i64 {
    set.annotations().get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The replicas that a set was scaled for.
pub fn desired(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(DESIRED)?.parse().ok()
}

/// The most replicas that a set was scaled for.
pub fn max(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(MAX)?.parse().ok()
}

/// The annotations of the newest set: the deployment's own, the revision, and the history.
pub fn for_new_set(deployment: &Deployment, set: Option<&ReplicaSet>, revision: i64) -> BTreeMap<String, String> {
    let mut annotations = set.map(|set| set.annotations().clone()).unwrap_or_default();
    for (key, value) in deployment.annotations() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    if old.as_deref().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0) < revision {
        annotations.insert(REVISION.to_owned(), revision.to_string());
        if let Some(old) = old {
            let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
            *history = longer_history(history, &old);
        }
    }
    annotations
}

fn longer_history(history: &str, old: &str) -> String {
    if history.is_empty() {
        return old.to_owned();
    }
    let mut joined = format!("{history},{old}");
    while joined.len() > HISTORY_LENGTH {
        match joined.split_once(',') {
            Some((_, rest)) => joined = rest.to_owned(),
            None => break,
        }
    }
    joined
}

/// Writes the sizes that a set is scaled for; says whether that changed anything.
pub fn set_sizes(annotations: &mut BTreeMap<String, String>, deployment: &Deployment) -> bool {
    let desired = rolling::replicas(deployment);
    let sizes = [(DESIRED, desired), (MAX, desired + rolling::max_surge(deployment))];
    let mut changed = false;
    for (key, value) in sizes {
        let value = value.to_string();
        changed |= annotations.insert(key.to_owned(), value.clone()).as_ref() != Some(&value);
    }
    changed
}
