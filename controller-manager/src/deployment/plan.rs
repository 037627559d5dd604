//! What to do about one deployment now: pure. A sync does one stage of the rollout; what it writes brings the next sync.

use std::sync::Arc;
use std::time::Duration;

use component_base::events::EventType;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use kube::ResourceExt;

use super::annotations::{self, REVISION, ROLLBACK_TO};
use super::rolling::{self, Sizes, name};
use super::{scale, sets, status};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the set of a new revision.
    CreateSet(Box<ReplicaSet>),
    /// Write a set; with the text of an event if that scales it.
    UpdateSet {
        /// The set as it should be.
        set: Box<ReplicaSet>,
        /// The event's text.
        note: Option<String>,
    },
    /// Delete a set that history no longer keeps.
    DeleteSet {
        /// Its name.
        name: String,
        /// Its uid.
        uid: Option<String>,
    },
    /// Write the deployment itself.
    UpdateDeployment(Box<Deployment>),
    /// Write its status.
    UpdateStatus(Box<DeploymentStatus>),
    /// Tell people.
    Event {
        /// Normal or Warning.
        event_type: EventType,
        /// Its reason.
        reason: &'static str,
        /// Its text.
        note: String,
    },
}

/// What to do, in order, and when to look again at the latest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The actions.
    pub actions: Vec<Action>,
    /// When to look again without a change.
    pub requeue: Option<Duration>,
}

/// The sets of a deployment, told apart.
struct Sets<'a> {
    all: &'a [Arc<ReplicaSet>],
    new: Option<&'a Arc<ReplicaSet>>,
    old: Vec<Arc<ReplicaSet>>,
}

impl<'a> Sets<'a> {
    fn of(deployment: &Deployment, all: &'a [Arc<ReplicaSet>]) -> Self {
        let new = sets::find_new(deployment, all);
        let is_new = |set: &Arc<ReplicaSet>| new.is_some_and(|new| new.metadata.uid == set.metadata.uid);
        Self { all, new, old: all.iter().filter(|set| !is_new(set)).cloned().collect() }
    }

    fn next_revision(&self) -> i64 {
        self.old.iter().map(|set| annotations::revision(set)).max().unwrap_or(0) + 1
    }
}

/// Decides. `old_pods_run` says whether pods of old revisions are there still, which a Recreate rollout waits for.
pub fn plan(deployment: &Deployment, all: &[Arc<ReplicaSet>], old_pods_run: bool, now: Timestamp) -> Plan {
    let known = Sets::of(deployment, all);
    if deployment.metadata.deletion_timestamp.is_some() {
        return finish(deployment, &known, Vec::new(), status::calculate(deployment, new(&known), all, now), now);
    }
    if let Some(changed) = status::with_pause(deployment, now) {
        return Plan { actions: vec![Action::UpdateStatus(Box::new(changed))], requeue: None };
    }
    let is_paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    if is_paused || scale::is_scaling(deployment, all) {
        return scaled(deployment, &known, is_paused, now);
    }
    if deployment.annotations().contains_key(ROLLBACK_TO) {
        return Plan { actions: rollback(deployment, &known), requeue: None };
    }
    if rolling::is_recreate(deployment) {
        recreate(deployment, &known, old_pods_run, now)
    } else {
        roll(deployment, &known, now)
    }
}

fn new<'a>(known: &Sets<'a>) -> Option<&'a ReplicaSet> {
    known.new.map(Arc::as_ref)
}

/// Ends a plan with the status, if that changes.
fn finish(
    deployment: &Deployment,
    known: &Sets<'_>,
    mut actions: Vec<Action>,
    status: DeploymentStatus,
    now: Timestamp,
) -> Plan {
    let mut status = status;
    if let Some(found) =
        known.new.filter(|_| !status::has_progress(&status) && deployment.metadata.deletion_timestamp.is_none())
    {
        status = status::with_new_set(status, deployment, &name(found), false, now);
    }
    let requeue = status::recheck(deployment, &status, now);
    if deployment.status.as_ref() != Some(&status) {
        actions.push(Action::UpdateStatus(Box::new(status)));
    }
    Plan { actions, requeue }
}

/// The deployment is paused, or its number of replicas changed.
fn scaled(deployment: &Deployment, known: &Sets<'_>, is_paused: bool, now: Timestamp) -> Plan {
    let sizes = scale::scaled_sizes(deployment, known.new, &known.old);
    let mut actions = resized(deployment, known.all, &sizes, true);
    if is_paused && actions.is_empty() {
        actions = cleanup(deployment, &known.old);
    }
    finish(deployment, known, actions, status::calculate(deployment, new(known), known.all, now), now)
}

/// A rolling update: the new set up, or else the old ones down, or else clean up.
fn roll(deployment: &Deployment, known: &Sets<'_>, now: Timestamp) -> Plan {
    let Some(new) = known.new else { return create(deployment, known, now) };
    let mut actions = sync_new(deployment, known, new);
    if actions.is_empty() {
        let size = rolling::next_new_size(deployment, new, known.all);
        actions = resized(deployment, known.all, &Sizes::from([(name(new), size)]), false);
    }
    if actions.is_empty() {
        actions = resized(deployment, known.all, &rolling::next_old_sizes(deployment, new, &known.old), false);
    }
    end_stage(deployment, known, actions, now)
}

/// All old pods down, then the new ones up.
fn recreate(deployment: &Deployment, known: &Sets<'_>, old_pods_run: bool, now: Timestamp) -> Plan {
    let none: Sizes = known.old.iter().filter(|set| sets::replicas(set) > 0).map(|set| (name(set), 0)).collect();
    let actions = resized(deployment, known.all, &none, false);
    if !actions.is_empty() || old_pods_run {
        return end_stage(deployment, known, actions, now);
    }
    let Some(new) = known.new else { return create(deployment, known, now) };
    let mut actions = sync_new(deployment, known, new);
    if actions.is_empty() {
        let sizes = Sizes::from([(name(new), rolling::replicas(deployment))]);
        actions = resized(deployment, known.all, &sizes, false);
    }
    end_stage(deployment, known, actions, now)
}

fn end_stage(deployment: &Deployment, known: &Sets<'_>, mut actions: Vec<Action>, now: Timestamp) -> Plan {
    let status = status::of_rollout(deployment, new(known), known.all, now);
    if actions.is_empty() && status::is_complete(deployment, &status) {
        actions = cleanup(deployment, &known.old);
    }
    finish(deployment, known, actions, status, now)
}

/// The first sync of a revision makes its set.
fn create(deployment: &Deployment, known: &Sets<'_>, now: Timestamp) -> Plan {
    let revision = known.next_revision();
    let mut set = sets::new_set(deployment, revision);
    let total = known.all.iter().map(|set| sets::replicas(set)).sum();
    if let Some(spec) = &mut set.spec {
        spec.replicas = Some(rolling::new_size(deployment, 0, total));
    }
    if let Some(all) = &mut set.metadata.annotations {
        annotations::set_sizes(all, deployment);
    }
    let status = status::of_rollout(deployment, None, known.all, now);
    let status = status::with_new_set(status, deployment, &name(&set), true, now);
    let mut actions = vec![Action::CreateSet(Box::new(set))];
    if deployment.status.as_ref() != Some(&status) {
        actions.push(Action::UpdateStatus(Box::new(status.clone())));
    }
    Plan { actions, requeue: status::recheck(deployment, &status, now) }
}

/// Revision, annotations and `minReadySeconds` of the new set, and the revision of the deployment.
fn sync_new(deployment: &Deployment, known: &Sets<'_>, new: &ReplicaSet) -> Vec<Action> {
    let mut wanted = new.clone();
    let annotations = annotations::for_new_set(deployment, Some(new), known.next_revision());
    let revision = annotations.get(REVISION).cloned();
    wanted.metadata.annotations = Some(annotations);
    if let (Some(set), Some(deployment)) = (&mut wanted.spec, &deployment.spec) {
        set.min_ready_seconds = deployment.min_ready_seconds;
    }
    if wanted.metadata.annotations != new.metadata.annotations || wanted.spec != new.spec {
        return vec![Action::UpdateSet { set: Box::new(wanted), note: None }];
    }
    if deployment.annotations().get(REVISION) != revision.as_ref()
        && let Some(revision) = revision
    {
        let mut changed = deployment.clone();
        changed.annotations_mut().insert(REVISION.to_owned(), revision);
        return vec![Action::UpdateDeployment(Box::new(changed))];
    }
    Vec::new()
}

/// Writes the sets whose size changes; with `with_annotations` also those that were only made for other numbers.
fn resized(deployment: &Deployment, all: &[Arc<ReplicaSet>], sizes: &Sizes, with_annotations: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    for set in all {
        let (from, named) = (sets::replicas(set), sizes.get(&name(set)).copied());
        let to = named.unwrap_or(from);
        let mut changed = ReplicaSet::clone(set);
        let concerns = from != to || (with_annotations && (named.is_some() || from > 0));
        if !concerns {
            continue;
        }
        let annotated = annotations::set_sizes(changed.annotations_mut(), deployment);
        if from == to && !annotated {
            continue;
        }
        if let Some(spec) = &mut changed.spec {
            spec.replicas = Some(to);
        }
        let direction = if to > from { "up" } else { "down" };
        let note = (from != to).then(|| format!("Scaled {direction} replica set {} from {from} to {to}", name(set)));
        actions.push(Action::UpdateSet { set: Box::new(changed), note });
    }
    actions
}

/// Deletes the oldest empty sets beyond the history's limit.
fn cleanup(deployment: &Deployment, old: &[Arc<ReplicaSet>]) -> Vec<Action> {
    let Some(limit) =
        deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).filter(|&limit| limit != i32::MAX)
    else {
        return Vec::new();
    };
    let is_settled = |set: &&Arc<ReplicaSet>| {
        let observed = set.status.as_ref().and_then(|status| status.observed_generation);
        sets::replicas(set) == 0
            && sets::actual(set) == 0
            && observed >= set.metadata.generation
            && set.metadata.deletion_timestamp.is_none()
    };
    let living = old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).count();
    let excess = living.saturating_sub(usize::try_from(limit).unwrap_or(0));
    let mut oldest_first: Vec<&Arc<ReplicaSet>> = old.iter().collect();
    oldest_first.sort_by_key(|set| annotations::revision(set));
    let doomed = oldest_first.into_iter().take(excess).filter(is_settled);
    doomed.map(|set| Action::DeleteSet { name: name(set), uid: set.metadata.uid.clone() }).collect()
}

/// Takes the template of an earlier revision, as the annotation asks (0: the last one), and removes the annotation.
fn rollback(deployment: &Deployment, known: &Sets<'_>) -> Vec<Action> {
    let mut changed = deployment.clone();
    let asked = changed.annotations_mut().remove(ROLLBACK_TO).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let revision = if asked == 0 {
        let mut revisions: Vec<i64> = known.all.iter().map(|set| annotations::revision(set)).collect();
        revisions.sort_unstable();
        revisions.pop();
        revisions.pop().unwrap_or(0)
    } else {
        asked
    };
    let (event_type, reason, note) =
        match known.all.iter().find(|set| revision > 0 && annotations::revision(set) == revision) {
            None => (
                EventType::Warning,
                "DeploymentRollbackRevisionNotFound",
                "Unable to find the revision to rollback to.".to_owned(),
            ),
            Some(set) if known.new.is_some_and(|new| new.metadata.uid == set.metadata.uid) => {
                let note = format!(
                    "The rollback revision contains the same template as current deployment {:?}",
                    deployment.name_any()
                );
                (EventType::Warning, "DeploymentRollbackTemplateUnchanged", note)
            }
            Some(set) => {
                if let (Some(spec), Some(template)) =
                    (&mut changed.spec, set.spec.as_ref().and_then(|spec| spec.template.clone()))
                {
                    spec.template = template;
                    if let Some(labels) = spec.template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
                        labels.remove(sets::HASH_LABEL);
                    }
                }
                let note = format!("Rolled back deployment {:?} to revision {revision}", deployment.name_any());
                (EventType::Normal, "DeploymentRollback", note)
            }
        };
    vec![Action::UpdateDeployment(Box::new(changed)), Action::Event { event_type, reason, note }]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{deployment, set};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Actions as short texts.
    fn shown(plan: &Plan) -> Vec<String> {
        plan.actions
            .iter()
            .map(|action| match action {
                Action::CreateSet(set) => {
                    format!("create {} of revision {}", sets::replicas(set), annotations::revision(set))
                }
                Action::UpdateSet { set, note } => note.clone().unwrap_or_else(|| format!("write {}", name(set))),
                Action::DeleteSet { name, .. } => format!("delete {name}"),
                Action::UpdateDeployment(_) => "write deployment".to_owned(),
                Action::UpdateStatus(_) => "write status".to_owned(),
                Action::Event { reason, .. } => (*reason).to_owned(),
            })
            .collect()
    }

    fn with_revision(set: &ReplicaSet, revision: i64) -> Arc<ReplicaSet> {
        let mut set = set.clone();
        set.annotations_mut().insert(REVISION.into(), revision.to_string());
        Arc::new(set)
    }

    #[test]
    fn the_first_sync_creates_the_set_and_a_settled_deployment_is_left_alone() {
        let mut d = deployment("web:1", 3, "1", "0");
        assert_eq!(shown(&plan(&d, &[], false, at(0))), ["create 3 of revision 1", "write status"]);
        let new = set(&d, "web-1", 3, 3);
        let first = plan(&d, std::slice::from_ref(&new), false, at(1));
        assert_eq!(shown(&first), ["write deployment", "write status"]);
        for action in first.actions {
            match action {
                Action::UpdateDeployment(changed) => d = Deployment { status: d.status, ..*changed },
                Action::UpdateStatus(status) => d.status = Some(*status),
                _ => {}
            }
        }
        assert_eq!(plan(&d, &[new], false, at(2)), Plan::default());
    }

    #[test]
    fn a_new_template_goes_up_then_the_old_comes_down() {
        let old_deployment = deployment("web:1", 3, "1", "0");
        let old = set(&old_deployment, "old", 3, 3);
        let d = deployment("web:2", 3, "1", "0");
        assert_eq!(shown(&plan(&d, &[Arc::clone(&old)], false, at(0)))[0], "create 1 of revision 2");
        let new = with_revision(&set(&d, "new", 1, 1), 2);
        let mut marked = d.clone();
        marked.annotations_mut().insert(REVISION.into(), "2".into());
        let step = plan(&marked, &[Arc::clone(&old), Arc::clone(&new)], false, at(0));
        assert_eq!(shown(&step), ["Scaled down replica set old from 3 to 2", "write status"]);
        let waiting = with_revision(&set(&d, "new", 1, 0), 2);
        assert_eq!(shown(&plan(&marked, &[old, waiting], false, at(0))), ["write status"]);
    }

    #[test]
    fn rolling_back_to_a_template_reuses_its_set_under_a_new_revision() {
        let d = deployment("web:1", 2, "1", "0");
        let first = with_revision(&set(&d, "first", 0, 0), 1);
        let second = with_revision(&set(&deployment("web:2", 2, "1", "0"), "second", 2, 2), 2);
        let step = plan(&d, &[first, second], false, at(0));
        let Action::UpdateSet { set, note: None } = &step.actions[0] else { panic!("{step:?}") };
        assert_eq!((name(set).as_str(), annotations::revision(set)), ("first", 3));
        assert_eq!(set.annotations()[annotations::REVISION_HISTORY], "1");
    }

    #[test]
    fn the_rollback_annotation_brings_the_template_back_and_goes() {
        let mut d = deployment("web:2", 2, "1", "0");
        d.annotations_mut().insert(ROLLBACK_TO.into(), "0".into());
        let first = with_revision(&set(&deployment("web:1", 2, "1", "0"), "first", 0, 0), 1);
        let second = with_revision(&set(&d, "second", 2, 2), 2);
        let step = plan(&d, &[first, Arc::clone(&second)], false, at(0));
        let Action::UpdateDeployment(changed) = &step.actions[0] else { panic!("{step:?}") };
        assert_eq!(changed.spec.as_ref().unwrap().template, super::super::testing::template("web:1"));
        assert!(!changed.annotations().contains_key(ROLLBACK_TO));
        assert_eq!(shown(&step)[1], "DeploymentRollback");
        d.annotations_mut().insert(ROLLBACK_TO.into(), "9".into());
        assert_eq!(shown(&plan(&d, &[second], false, at(0)))[1], "DeploymentRollbackRevisionNotFound");
    }

    #[test]
    fn recreate_waits_for_the_last_old_pod() {
        let mut d = deployment("web:2", 2, "1", "0");
        d.spec.as_mut().unwrap().strategy.as_mut().unwrap().type_ = Some("Recreate".into());
        let old_deployment = deployment("web:1", 2, "1", "0");
        let old = set(&old_deployment, "old", 2, 2);
        assert_eq!(shown(&plan(&d, &[old], true, at(0)))[0], "Scaled down replica set old from 2 to 0");
        let empty = set(&old_deployment, "old", 0, 0);
        assert_eq!(shown(&plan(&d, &[Arc::clone(&empty)], true, at(0))), ["write status"]);
        assert_eq!(shown(&plan(&d, &[empty], false, at(0)))[0], "create 2 of revision 2");
    }

    #[test]
    fn a_paused_deployment_scales_but_does_not_roll() {
        let mut d = deployment("web:2", 5, "1", "0");
        d.spec.as_mut().unwrap().paused = Some(true);
        assert_eq!(shown(&plan(&d, &[], false, at(0))), ["write status"]);
        d.status = status::with_pause(&d, at(0));
        let old = set(&deployment("web:1", 3, "1", "0"), "old", 3, 3);
        assert_eq!(shown(&plan(&d, &[old], false, at(0)))[0], "Scaled up replica set old from 3 to 5");
    }

    #[test]
    fn history_beyond_its_limit_goes_oldest_first() {
        let mut d = deployment("web:9", 1, "1", "0");
        d.spec.as_mut().unwrap().revision_history_limit = Some(1);
        let new = with_revision(&set(&d, "new", 1, 1), 9);
        d.annotations_mut().insert(REVISION.into(), "9".into());
        let mut all: Vec<_> = (1..=3)
            .map(|n| with_revision(&set(&deployment(&format!("web:{n}"), 1, "1", "0"), &format!("old-{n}"), 0, 0), n))
            .collect();
        all.push(new);
        let step = plan(&d, &all, false, at(0));
        assert_eq!(shown(&step), ["delete old-1", "delete old-2", "write status"]);
    }
}
