//! What to say about a namespace that is being deleted, and what to do next.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The finalizer in `spec.finalizers` that is ours.
const FINALIZER: &str = "kubernetes";

/// What is left of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    pub objects: usize,
    pub finalizers: BTreeMap<String, usize>,
}

/// What a round of deletions came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub discovery_error: Option<String>,
    pub errors: Vec<String>,
    /// By resource.
    pub remaining: BTreeMap<String, Remaining>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing is left.
    Finalize,
    Wait {
        for_finalizers: bool,
    },
    Fail(String),
}

pub fn is_going(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

/// Whether our finalizer is still on it.
pub fn is_held(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref());
    finalizers.is_some_and(|f| f.iter().any(|f| f == FINALIZER))
}

pub fn release(namespace: &mut Namespace) {
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != FINALIZER);
    }
}

pub fn next(outcome: &Outcome) -> Next {
    if let Some(error) = &outcome.discovery_error {
        return Next::Fail(error.clone());
    }
    if !outcome.errors.is_empty() {
        return Next::Fail(outcome.errors.join("; "));
    }
    if outcome.remaining.is_empty() {
        return Next::Finalize;
    }
    Next::Wait { for_finalizers: outcome.remaining.values().all(|r| !r.finalizers.is_empty()) }
}

/// The status with its five conditions.
pub fn status(namespace: &Namespace, outcome: &Outcome, now: Timestamp) -> NamespaceStatus {
    let mut status = namespace.status.clone().unwrap_or_default();
    status.phase = Some("Terminating".to_owned());
    for (kind, holds, reason, message) in conditions(outcome) {
        set_condition(&mut status, kind, holds, reason, message, now);
    }
    status
}

fn conditions(outcome: &Outcome) -> [(&'static str, bool, &'static str, String); 5] {
    let discovery = match &outcome.discovery_error {
        Some(error) => (true, "DiscoveryFailed", format!("Discovery failed for some groups: {error}")),
        None => (false, "ResourcesDiscovered", "All resources successfully discovered".to_owned()),
    };
    let content = if outcome.errors.is_empty() {
        (false, "ContentDeleted", "All content successfully deleted, may be waiting on finalization".to_owned())
    } else {
        let (count, errors) = (outcome.errors.len(), outcome.errors.join(", "));
        let message = format!("Failed to delete all resource types, {count} remaining: {errors}");
        (true, "ContentDeletionFailed", message)
    };
    let remaining = if outcome.remaining.is_empty() {
        (false, "ContentRemoved", "All content successfully removed".to_owned())
    } else {
        let parts = outcome.remaining.iter().map(|(name, r)| format!("{name} has {} resource instances", r.objects));
        let message = format!("Some resources are remaining: {}", parts.collect::<Vec<_>>().join(", "));
        (true, "SomeResourcesRemain", message)
    };
    let finalizers = finalizers(outcome);
    let held = if finalizers.is_empty() {
        (false, "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned())
    } else {
        let parts = finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances"));
        let parts = parts.collect::<Vec<_>>().join(", ");
        (true, "SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {parts}"))
    };
    [
        ("NamespaceDeletionDiscoveryFailure", discovery.0, discovery.1, discovery.2),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
        ("NamespaceDeletionContentFailure", content.0, content.1, content.2),
        ("NamespaceContentRemaining", remaining.0, remaining.1, remaining.2),
        ("NamespaceFinalizersRemaining", held.0, held.1, held.2),
    ]
}

fn finalizers(outcome: &Outcome) -> BTreeMap<&str, usize> {
    let mut all = BTreeMap::new();
    for (name, count) in outcome.remaining.values().flat_map(|r| &r.finalizers) {
        *all.entry(name.as_str()).or_default() += count;
    }
    all
}

fn set_condition(status: &mut NamespaceStatus, kind: &str, holds: bool, reason: &str, message: String, now: Timestamp) {
    let wanted = if holds { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter_mut().find(|c| c.type_ == kind);
    let since = match &old {
        Some(old) if old.status == wanted => old.last_transition_time.clone(),
        _ => Some(Time(now)),
    };
    let condition = NamespaceCondition {
        type_: kind.to_owned(),
        status: wanted.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: since,
    };
    match old {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(objects: usize, finalizers: &[(&str, usize)]) -> Remaining {
        Remaining { objects, finalizers: finalizers.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect() }
    }

    fn outcome(remaining: &[(&str, Remaining)]) -> Outcome {
        Outcome {
            remaining: remaining.iter().map(|(n, r)| ((*n).to_owned(), r.clone())).collect(),
            ..Outcome::default()
        }
    }

    fn condition<'a>(status: &'a NamespaceStatus, kind: &str) -> &'a NamespaceCondition {
        status.conditions.as_ref().unwrap().iter().find(|c| c.type_ == kind).unwrap()
    }

    #[test]
    fn an_empty_namespace_is_finalized() {
        assert_eq!(next(&Outcome::default()), Next::Finalize);
        let mut namespace = Namespace::default();
        namespace.spec.get_or_insert_default().finalizers = Some(vec![FINALIZER.into(), "other".into()]);
        assert!(is_held(&namespace));
        release(&mut namespace);
        assert!(!is_held(&namespace));
        assert_eq!(namespace.spec.unwrap().finalizers, Some(vec!["other".to_owned()]));
    }

    #[test]
    fn what_remains_is_waited_for_and_told() {
        let outcome = outcome(&[("pods", left(2, &[])), ("widgets.example.com", left(1, &[("example.com/hold", 1)]))]);
        assert_eq!(next(&outcome), Next::Wait { for_finalizers: false });
        let status = status(&Namespace::default(), &outcome, Timestamp::UNIX_EPOCH);
        assert_eq!(status.phase.as_deref(), Some("Terminating"));
        let remaining = condition(&status, "NamespaceContentRemaining");
        assert_eq!(
            remaining.message.as_deref(),
            Some(
                "Some resources are remaining: pods has 2 resource instances, widgets.example.com has 1 resource instances"
            )
        );
        let held = condition(&status, "NamespaceFinalizersRemaining");
        assert_eq!((held.status.as_str(), held.reason.as_deref()), ("True", Some("SomeFinalizersRemain")));
    }

    #[test]
    fn failures_are_told_and_tried_again() {
        let outcome = Outcome { errors: vec!["pods: no".into()], ..Outcome::default() };
        assert_eq!(next(&outcome), Next::Fail("pods: no".into()));
        let status = status(&Namespace::default(), &outcome, Timestamp::UNIX_EPOCH);
        assert_eq!(condition(&status, "NamespaceDeletionContentFailure").status, "True");
        let unseen = Outcome { discovery_error: Some("down".into()), ..Outcome::default() };
        assert_eq!(next(&unseen), Next::Fail("down".into()), "what cannot be seen must not be taken for empty");
    }

    #[test]
    fn a_condition_keeps_its_time_while_it_does_not_change() {
        let first = status(&Namespace::default(), &Outcome::default(), Timestamp::UNIX_EPOCH);
        let namespace = Namespace { status: Some(first.clone()), ..Namespace::default() };
        assert_eq!(status(&namespace, &Outcome::default(), Timestamp::now()), first);
    }
}
