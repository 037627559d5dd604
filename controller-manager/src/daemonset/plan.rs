//! Which pods of a daemon set to make and delete: pure. First every node gets what it should have, then old pods give way to new ones as fast as the
//! strategy allows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels_of;
use super::nodes::{self, Fit, fit, node_of};
use crate::history::POD_LABEL;
use crate::intstr::{Round, scaled};
use crate::{ownership, pods};

/// The older form of that label.
const GENERATION_LABEL: &str = "pod-template-generation";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
/// Most pods that one sync makes or deletes.
const BURST: usize = 250;

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Nodes that get a pod.
    pub create: Vec<String>,
    /// Pods that go.
    pub delete: Vec<Arc<Pod>>,
    /// Pods that have ended, which go after a backoff, to be made anew.
    pub replace: Vec<Arc<Pod>>,
    /// When a ready pod becomes available, which may let the update go on.
    pub recheck: Option<Duration>,
}

/// The pods by node, oldest first.
pub fn by_node(pods: &[Arc<Pod>]) -> BTreeMap<String, Vec<Arc<Pod>>> {
    let mut all: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        if let Some(node) = node_of(pod) {
            all.entry(node).or_default().push(Arc::clone(pod));
        }
    }
    let age = |pod: &Arc<Pod>| (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.metadata.name.clone());
    all.values_mut().for_each(|pods| pods.sort_by_key(age));
    all
}

/// Whether a pod is of this revision.
pub fn is_updated(pod: &Pod, revision: &str) -> bool {
    labels_of(pod).and_then(|labels| labels.get(POD_LABEL)).is_some_and(|hash| hash == revision)
}

pub fn min_ready(set: &DaemonSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

/// Most pods above one per node, and most nodes without an available one.
fn bounds(set: &DaemonSet, desired: usize) -> (usize, usize) {
    let rolling = set
        .spec
        .as_ref()
        .and_then(|spec| spec.update_strategy.as_ref())
        .and_then(|strategy| strategy.rolling_update.as_ref());
    let total = i32::try_from(desired).unwrap_or(i32::MAX);
    let count = |value: Option<&IntOrString>| {
        value.map_or(0, |value| usize::try_from(scaled(value, total, Round::Up)).unwrap_or(0))
    };
    let surge = count(rolling.and_then(|rolling| rolling.max_surge.as_ref()));
    let unavailable = count(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()));
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

fn is_rolling(set: &DaemonSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

/// Decides.
pub fn plan(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>], revision: &str, now: Timestamp) -> Plan {
    let mut on_node = by_node(pods);
    let fits: HashMap<String, Fit> =
        nodes.iter().map(|node| (node.metadata.name.clone().unwrap_or_default(), fit(set, node))).collect();
    let desired = fits.values().filter(|fit| fit.run).count();
    let (surge, unavailable) = if is_rolling(set) { bounds(set, desired) } else { (0, 0) };
    let mut plan = Plan::default();
    let mut names: Vec<&String> = fits.keys().collect();
    names.sort();
    for name in names {
        let here = on_node.get(name).map(Vec::as_slice).unwrap_or_default();
        manage(&mut plan, name, fits[name], here, revision, surge > 0);
    }
    // Pods on nodes that are gone.
    for pods in on_node.iter().filter(|(node, _)| !fits.contains_key(*node)).map(|(_, pods)| pods) {
        plan.delete.extend(pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).cloned());
    }
    if plan.create.is_empty() && plan.delete.is_empty() && is_rolling(set) {
        on_node.retain(|node, _| fits.get(node).is_some_and(|fit| fit.stay));
        let rollout = Rollout { revision, min_ready: min_ready(set), now };
        if surge > 0 {
            rollout.surge(&mut plan, &on_node, surge);
        } else {
            rollout.replace(&mut plan, &on_node, unavailable);
        }
    }
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    let waits = pods.iter().filter_map(|pod| pods::available_in(pod, min_ready(set), now));
    plan.recheck = waits.filter(|wait| !wait.is_zero()).min();
    plan
}

/// What one node should have.
fn manage(plan: &mut Plan, node: &str, fit: Fit, here: &[Arc<Pod>], revision: &str, has_surge: bool) {
    if here.is_empty() {
        if fit.run {
            plan.create.push(node.to_owned());
        }
        return;
    }
    let present = here.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    if !fit.stay {
        plan.delete.extend(present.cloned());
        return;
    }
    let (ended, running): (Vec<_>, Vec<_>) = present.cloned().partition(|pod| pods::is_terminal(pod));
    plan.replace.extend(ended);
    let (new, old): (Vec<_>, Vec<_>) = running.iter().partition(|pod| is_updated(pod, revision));
    if has_surge {
        // One of the old and one of the new revision may be there together.
        plan.delete.extend(new.into_iter().skip(1).chain(old.into_iter().skip(1)).cloned());
    } else {
        plan.delete.extend(running.iter().skip(1).cloned());
    }
}

struct Rollout<'a> {
    revision: &'a str,
    min_ready: i32,
    now: Timestamp,
}

impl Rollout<'_> {
    fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready, self.now)
    }

    /// The pod of the new revision and that of an old one, without those that are going.
    fn pair<'p>(&self, here: &'p [Arc<Pod>]) -> (Option<&'p Arc<Pod>>, Option<&'p Arc<Pod>>) {
        let mut present = here.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let new = present.clone().find(|pod| is_updated(pod, self.revision));
        (new, present.find(|pod| !is_updated(pod, self.revision)))
    }

    /// Old pods go first, so many that not too many nodes are without an available one.
    fn replace(&self, plan: &mut Plan, on_node: &BTreeMap<String, Vec<Arc<Pod>>>, max_unavailable: usize) {
        let mut unavailable = 0;
        let mut candidates = Vec::new();
        for here in on_node.values() {
            match self.pair(here) {
                (None, None) | (Some(_), Some(_)) => unavailable += 1,
                (Some(new), None) => unavailable += usize::from(!self.is_available(new)),
                (None, Some(old)) if !self.is_available(old) => {
                    unavailable += 1;
                    plan.delete.push(Arc::clone(old));
                }
                (None, Some(old)) => candidates.push(Arc::clone(old)),
            }
        }
        plan.delete.extend(candidates.into_iter().take(max_unavailable.saturating_sub(unavailable)));
    }

    /// New pods come first, beside the old; those go when the new are available.
    fn surge(&self, plan: &mut Plan, on_node: &BTreeMap<String, Vec<Arc<Pod>>>, max_surge: usize) {
        let mut surging = 0;
        let mut candidates = Vec::new();
        for (node, here) in on_node {
            match self.pair(here) {
                (_, None) => {}
                (Some(new), Some(old)) => {
                    if self.is_available(new) || !self.is_available(old) {
                        plan.delete.push(Arc::clone(old));
                    } else {
                        surging += 1;
                    }
                }
                (None, Some(old)) if !self.is_available(old) => plan.create.push(node.clone()),
                (None, Some(_)) => candidates.push(node.clone()),
            }
        }
        plan.create.extend(candidates.into_iter().take(max_surge.saturating_sub(surging)));
    }
}

/// The set's pod for a node.
pub fn pod_for(set: &DaemonSet, node: &str, revision: &str) -> Pod {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = pods::from_template(&template, namespace, name, ownership::owner_reference(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_LABEL.to_owned(), revision.to_owned());
    let generation = set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(GENERATION_ANNOTATION));
    if let Some(generation) = generation {
        labels.insert(GENERATION_LABEL.to_owned(), generation.clone());
    }
    let spec = pod.spec.get_or_insert_default();
    nodes::with_daemon_tolerations(spec);
    nodes::pin(spec, node);
    pod
}

#[cfg(test)]
pub(crate) mod testing {
    use k8s_openapi::api::apps::v1::{DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
    use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
    use kube::api::ObjectMeta;

    use super::*;

    /// A set that updates one node at a time.
    pub fn set(name: &str) -> DaemonSet {
        DaemonSet {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                uid: Some("ds".into()),
                ..ObjectMeta::default()
            },
            spec: Some(DaemonSetSpec {
                template: PodTemplateSpec { spec: Some(PodSpec::default()), ..PodTemplateSpec::default() },
                update_strategy: Some(DaemonSetUpdateStrategy {
                    type_: Some("RollingUpdate".into()),
                    rolling_update: Some(RollingUpdateDaemonSet {
                        max_unavailable: Some(IntOrString::Int(1)),
                        max_surge: Some(IntOrString::Int(0)),
                    }),
                }),
                ..DaemonSetSpec::default()
            }),
            status: None,
        }
    }

    /// A pod of a revision on a node.
    pub fn pod(node: &str, revision: &str, is_ready: bool) -> Arc<Pod> {
        let mut pod = crate::pods::testing::pod(&format!("{node}-{revision}"), node, is_ready.then_some(1));
        pod.metadata.labels = Some(BTreeMap::from([(POD_LABEL.to_owned(), revision.to_owned())]));
        Arc::new(pod)
    }
}

#[cfg(test)]
mod tests {
    use super::super::nodes::testing::node;
    use super::testing::{pod, set};
    use super::*;

    fn nodes(names: &[&str]) -> Vec<Arc<Node>> {
        names.iter().map(|name| Arc::new(node(name, &[], &[]))).collect()
    }

    /// The plan as `+node` and `-pod`.
    fn shown(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Vec<String> {
        let plan = plan(set, nodes, pods, "new", Timestamp::from_second(100).unwrap());
        let name = |pod: &Arc<Pod>| pod.metadata.name.clone().unwrap();
        let mut all: Vec<String> = plan.create.iter().map(|node| format!("+{node}")).collect();
        all.extend(plan.delete.iter().map(|pod| format!("-{}", name(pod))));
        all.extend(plan.replace.iter().map(|pod| format!("~{}", name(pod))));
        all
    }

    #[test]
    fn every_fitting_node_gets_one_pod() {
        let mut two = nodes(&["a", "b"]);
        two.push(Arc::new(node("c", &[], &["dedicated:NoSchedule"])));
        assert_eq!(shown(&set("d"), &two, &[]), ["+a", "+b"]);
        let pods = [pod("a", "new", true), pod("c", "new", true), pod("gone", "new", true)];
        assert_eq!(shown(&set("d"), &two, &pods), ["+b", "-gone-new"]);
        assert_eq!(shown(&set("d"), &nodes(&["a"]), &[pod("a", "new", true), pod("a", "new2", true)]), ["-a-new2"]);
    }

    #[test]
    fn ended_pods_are_replaced_and_going_ones_waited_for() {
        let mut failed = Arc::unwrap_or_clone(pod("a", "new", false));
        failed.status.as_mut().unwrap().phase = Some("Failed".into());
        let mut going = Arc::unwrap_or_clone(pod("b", "new", true));
        going.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        assert_eq!(shown(&set("d"), &nodes(&["a", "b"]), &[Arc::new(failed), Arc::new(going)]), ["~a-new"]);
    }

    #[test]
    fn a_rolling_update_keeps_its_bound_of_unavailable_nodes() {
        let three = nodes(&["a", "b", "c"]);
        let old = [pod("a", "old", true), pod("b", "old", true), pod("c", "old", true)];
        assert_eq!(shown(&set("d"), &three, &old), ["-a-old"]);
        let waiting = [pod("a", "new", false), pod("b", "old", true), pod("c", "old", true)];
        assert!(shown(&set("d"), &three, &waiting).is_empty());
        let broken = [pod("a", "new", true), pod("b", "old", false), pod("c", "old", true)];
        assert_eq!(shown(&set("d"), &three, &broken), ["-b-old"]);
        let mut manual = set("d");
        manual.spec.as_mut().unwrap().update_strategy.as_mut().unwrap().type_ = Some("OnDelete".into());
        assert!(shown(&manual, &three, &old).is_empty());
    }

    #[test]
    fn a_surge_brings_the_new_pod_before_the_old_goes() {
        let mut surging = set("d");
        let strategy = surging.spec.as_mut().unwrap().update_strategy.as_mut().unwrap();
        let rolling = strategy.rolling_update.as_mut().unwrap();
        rolling.max_surge = Some(IntOrString::Int(1));
        rolling.max_unavailable = Some(IntOrString::Int(0));
        let two = nodes(&["a", "b"]);
        assert_eq!(shown(&surging, &two, &[pod("a", "old", true), pod("b", "old", true)]), ["+a"]);
        let coming = [pod("a", "old", true), pod("a", "new", false), pod("b", "old", true)];
        assert!(shown(&surging, &two, &coming).is_empty());
        let there = [pod("a", "old", true), pod("a", "new", true), pod("b", "old", true)];
        assert_eq!(shown(&surging, &two, &there), ["+b", "-a-old"]);
    }

    #[test]
    fn a_pod_is_pinned_to_its_node_and_labelled_with_its_revision() {
        let pod = pod_for(&set("d"), "n7", "abc");
        assert_eq!(node_of(&pod).as_deref(), Some("n7"));
        assert!(is_updated(&pod, "abc"));
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("d-"));
    }
}
