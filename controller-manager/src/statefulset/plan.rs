//! What to do about a stateful set's pods: pure. Ordered sets do one thing at a time, from the lowest ordinal up; updates go from the highest down.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::identity::{self, ordinal, ordinals, revision_of};
use crate::intstr::{Round, scaled};
use crate::pods;

/// The names of the revisions that a set's pods are to be of: those of before an update, and those of after it.
#[derive(Clone, Copy, Debug)]
pub struct Revisions<'a> {
    pub current: &'a str,
    pub update: &'a str,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the pod of an ordinal, of the template before or after the update.
    Create { ordinal: i32, updated: bool },
    /// Delete a pod: it is over, too many, or of an old revision.
    Delete(Arc<Pod>),
    /// Put back the labels by which a pod is known.
    Label { pod: Arc<Pod>, ordinal: i32 },
}

/// What to do, and when to look again without a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub recheck: Option<Duration>,
}

struct State<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    revisions: Revisions<'a>,
    now: Timestamp,
}

pub fn is_ordered(spec: &StatefulSetSpec) -> bool {
    spec.pod_management_policy.as_deref() != Some("Parallel")
}

fn is_running_and_ready(pod: &Pod) -> bool {
    pods::is_running(pod) && pods::is_ready(pod)
}

/// Pods by ordinal, those that should be there and those that should not, the latter from the highest down.
pub fn by_ordinal(set: &StatefulSet, pods: &[Arc<Pod>]) -> (BTreeMap<i32, Arc<Pod>>, Vec<Arc<Pod>>) {
    let wanted = ordinals(&identity::spec(set));
    let of_set = pods.iter().filter_map(|pod| Some((ordinal(set, &pod.name_any())?, Arc::clone(pod))));
    let (kept, condemned): (Vec<_>, Vec<_>) = of_set.partition(|(ordinal, _)| wanted.contains(ordinal));
    let condemned: BTreeMap<Reverse<i32>, Arc<Pod>> =
        condemned.into_iter().map(|(ordinal, pod)| (Reverse(ordinal), pod)).collect();
    (kept.into_iter().collect(), condemned.into_values().collect())
}

/// Decides.
pub fn plan(set: &StatefulSet, pods: &[Arc<Pod>], revisions: Revisions<'_>, now: Timestamp) -> Plan {
    let spec = identity::spec(set);
    let state = State { set, spec: &spec, revisions, now };
    let (kept, condemned) = by_ordinal(set, pods);
    let mut plan = Plan { actions: Vec::new(), recheck: state.recheck(pods) };
    if set.metadata.deletion_timestamp.is_none()
        && state.fill(&mut plan, &kept)
        && state.shrink(&mut plan, &kept, &condemned)
    {
        state.update(&mut plan, &kept);
    }
    plan
}

impl State<'_> {
    fn min_ready(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        is_running_and_ready(pod) && pods::is_available(pod, self.min_ready(), self.now)
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        self.is_available(pod) && pod.metadata.deletion_timestamp.is_none()
    }

    /// When the next ready pod becomes available.
    fn recheck(&self, pods: &[Arc<Pod>]) -> Option<Duration> {
        let waits = pods.iter().filter_map(|pod| pods::available_in(pod, self.min_ready(), self.now));
        waits.filter(|wait| !wait.is_zero()).min()
    }

    /// Gives every ordinal its pod; says whether to go on.
    fn fill(&self, plan: &mut Plan, kept: &BTreeMap<i32, Arc<Pod>>) -> bool {
        for ordinal in ordinals(self.spec) {
            let is_fine = match kept.get(&ordinal) {
                None => {
                    plan.actions.push(Action::Create { ordinal, updated: self.starts_updated(ordinal) });
                    false
                }
                Some(pod) if pods::is_terminal(pod) => {
                    if pod.metadata.deletion_timestamp.is_none() {
                        plan.actions.push(Action::Delete(Arc::clone(pod)));
                    }
                    false
                }
                Some(pod) => {
                    let wanted = identity::labels(self.set, ordinal);
                    let labels = pod.labels();
                    if wanted.iter().any(|(key, value)| labels.get(key) != Some(value)) {
                        plan.actions.push(Action::Label { pod: Arc::clone(pod), ordinal });
                    }
                    self.is_healthy(pod)
                }
            };
            if !is_fine && is_ordered(self.spec) {
                return false;
            }
        }
        true
    }

    /// Whether a pod that is missing is made of the new template. One that an update has not reached yet comes back as it was.
    fn starts_updated(&self, ordinal: i32) -> bool {
        if !self.is_rolling() {
            return true;
        }
        let start = ordinals(self.spec).start;
        let rolling = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let kept = match rolling {
            Some(rolling) => rolling.partition.unwrap_or(0),
            None => self.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0),
        };
        ordinal >= start.saturating_add(kept)
    }

    fn is_rolling(&self) -> bool {
        let strategy = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
        strategy != Some("OnDelete")
    }

    /// Takes away what is too much, from the highest ordinal down; says whether to go on.
    fn shrink(&self, plan: &mut Plan, kept: &BTreeMap<i32, Arc<Pod>>, condemned: &[Arc<Pod>]) -> bool {
        if !is_ordered(self.spec) {
            let present = condemned.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
            plan.actions.extend(present.cloned().map(Action::Delete));
            return true;
        }
        let Some(pod) = condemned.first() else { return true };
        // All but the first that is unhealthy wait until it is healthy, so that not two are gone at a time.
        let lowest_first = kept.values().chain(condemned.iter().rev());
        let first_unhealthy =
            lowest_first.into_iter().find(|pod| !self.is_healthy(pod)).map(|pod| pod.metadata.uid.clone());
        let waits = pod.metadata.deletion_timestamp.is_some()
            || (!is_running_and_ready(pod) && first_unhealthy.is_some_and(|uid| uid != pod.metadata.uid));
        if !waits {
            plan.actions.push(Action::Delete(Arc::clone(pod)));
        }
        false
    }

    /// Replaces pods of old revisions, from the highest ordinal down to the partition, within the bound of unavailable ones.
    fn update(&self, plan: &mut Plan, kept: &BTreeMap<i32, Arc<Pod>>) {
        if !self.is_rolling() {
            return;
        }
        let rolling = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.clone());
        let rolling = rolling.unwrap_or_default();
        let total = self.spec.replicas.unwrap_or(1);
        let bound = rolling.max_unavailable.map_or(1, |value| scaled(&value, total, Round::Up).max(1));
        let bound = usize::try_from(bound).unwrap_or(1);
        let lowest = ordinals(self.spec).start.saturating_add(rolling.partition.unwrap_or(0));
        let missing = ordinals(self.spec).filter(|ordinal| !kept.contains_key(ordinal)).count();
        let mut unavailable = missing + kept.values().filter(|pod| !self.is_healthy(pod)).count();
        let mut passed = 0;
        for (_, pod) in kept.range(lowest..).rev() {
            let is_old = revision_of(pod) != self.revisions.update && pod.metadata.deletion_timestamp.is_none();
            if self.is_healthy(pod) {
                if is_old && unavailable < bound {
                    plan.actions.push(Action::Delete(Arc::clone(pod)));
                    (unavailable, passed) = (unavailable + 1, passed + 1);
                }
            } else {
                // One that is not available anyway costs nothing to replace, and may never become so otherwise.
                if is_old {
                    plan.actions.push(Action::Delete(Arc::clone(pod)));
                }
                passed += 1;
            }
            if passed >= bound {
                return;
            }
        }
    }
}

/// The status of a set with these pods.
pub fn status(set: &StatefulSet, pods: &[Arc<Pod>], revisions: Revisions<'_>, now: Timestamp) -> StatefulSetStatus {
    let spec = identity::spec(set);
    let state = State { set, spec: &spec, revisions, now };
    let old = set.status.clone().unwrap_or_default();
    let count =
        |test: &dyn Fn(&Pod) -> bool| i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX);
    let of = |revision: &str| count(&|pod| pod.metadata.deletion_timestamp.is_none() && revision_of(pod) == revision);
    let (replicas, ready) = (count(&|_| true), count(&is_running_and_ready));
    let (mut current, updated) = (of(revisions.current), of(revisions.update));
    let mut current_revision = revisions.current;
    if state.is_rolling() && updated == replicas && ready == replicas && replicas == spec.replicas.unwrap_or(1) {
        (current, current_revision) = (updated, revisions.update);
    }
    let non_zero = |count: i32| (count > 0).then_some(count);
    StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas,
        ready_replicas: non_zero(ready),
        available_replicas: Some(count(&|pod| state.is_available(pod))),
        current_replicas: non_zero(current),
        updated_replicas: non_zero(updated),
        current_revision: Some(current_revision.to_owned()),
        update_revision: Some(revisions.update.to_owned()),
        collision_count: Some(old.collision_count.unwrap_or(0)),
        conditions: old.conditions,
    }
}

#[cfg(test)]
mod tests;
