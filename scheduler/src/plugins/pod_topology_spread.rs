//! PodTopologySpread: pods that are alike are spread over the domains of a topology key, within a bound or as far as possible.

use std::sync::Arc;

use serde::Deserialize;

use crate::cache::Cache;
use crate::framework::{
    Actions, CycleState, Event, Hint, MAX_NODE_SCORE, Plugin, Point, Points, PreFilter, PreScore, Status,
};
use crate::labels::{Labels, Str};
use crate::node::{Effect, Node, NodeInfo};
use crate::plugins::node_affinity;
use crate::pod::{Pod, Toleration};
use crate::selector::{Requirement, Term};
use crate::spread::{Domains, SpreadConstraint, part};
use crate::tally::Sums;

pub const NAME: &str = "PodTopologySpread";
const REASON: &str = "node(s) didn't match pod topology spread constraints";
const REASON_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// The raw score of a node that lacks a key: it gets none.
const IGNORED: i64 = -1;

/// `PodTopologySpreadArgs`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Args {
    #[serde(default, rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(default, rename = "kind")]
    _kind: Option<String>,
    /// Constraints for pods that have none.
    #[serde(default)]
    default_constraints: Vec<k8s_openapi::api::core::v1::TopologySpreadConstraint>,
    #[serde(default)]
    defaulting_type: Option<String>,
}

/// What is wrong with the arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    #[error("defaultConstraints: not supported: a pod's own constraints count, or the usual ones")]
    Defaults,
    #[error("defaultingType: {0:?} is not System or List")]
    Type(String),
}

/// All on which the counts for a pod depend.
#[derive(Clone, PartialEq)]
struct Key {
    namespace: Str,
    constraints: Vec<SpreadConstraint>,
    /// Whether nodes that lack a key count for none of the constraints; not so where the constraints are not the pod's own.
    needs_all: bool,
    /// Where a constraint leaves nodes out by them.
    node_selector: Box<[Requirement]>,
    required_nodes: Option<Box<[Term]>>,
    tolerations: Box<[Toleration]>,
}

impl Key {
    fn new(pod: &Pod, is_hard: bool) -> Option<Self> {
        Self::of(pod, pod.spread.iter().filter(|one| one.is_hard == is_hard).cloned().collect(), true)
    }

    /// The usual constraints, for a pod that has none.
    fn usual(pod: &Pod, cache: &Cache) -> Option<Self> {
        let selector = if pod.spread.is_empty() { cache.groups.selector_of(pod) } else { None };
        Self::of(pod, SpreadConstraint::usual(&selector?), false)
    }

    fn of(pod: &Pod, constraints: Vec<SpreadConstraint>, needs_all: bool) -> Option<Self> {
        let by_affinity = constraints.iter().any(|one| one.honors_affinity);
        let by_taints = constraints.iter().any(|one| one.honors_taints);
        (!constraints.is_empty()).then(|| Self {
            namespace: pod.namespace.clone(),
            node_selector: if by_affinity { pod.node_selector.clone() } else { Box::default() },
            required_nodes: pod.required_nodes.clone().filter(|_| by_affinity),
            tolerations: if by_taints { pod.tolerations.clone() } else { Box::default() },
            constraints,
            needs_all,
        })
    }
}

/// Whether a constraint leaves a node out.
fn is_excluded(pod: &Pod, node: &Node, constraint: &SpreadConstraint) -> bool {
    (constraint.honors_affinity && !node_affinity::fits(pod, node).is_success())
        || (constraint.honors_taints
            && node.taints.iter().any(|taint| taint.effect != Effect::PreferNoSchedule && !pod.tolerates(taint)))
}

/// What the filter of one cycle needs.
#[derive(Clone)]
struct Hard {
    constraints: Arc<[SpreadConstraint]>,
    domains: Arc<Domains>,
    /// Pods that are imagined there, or away: by constraint and value.
    imagined: Vec<(usize, Str, i64)>,
}

impl Hard {
    fn pods(&self, constraint: usize, value: &Str) -> i64 {
        let more = self.imagined.iter().filter(|(one, domain, _)| *one == constraint && domain == value);
        self.domains.pods(constraint, value) + more.map(|(_, _, amount)| amount).sum::<i64>()
    }

    /// The pods of the domain that has fewest; none if there are fewer domains than there must be.
    fn fewest(&self, constraint: usize) -> i64 {
        let (count, fewest) = self.domains.fewest(constraint);
        if i64::try_from(count).unwrap_or(i64::MAX) < self.constraints[constraint].min_domains {
            return 0;
        }
        if self.imagined.is_empty() {
            return fewest;
        }
        self.domains.all(constraint).map(|(value, _)| self.pods(constraint, value)).min().unwrap_or(0)
    }
}

/// What the scores of one cycle need.
#[derive(Clone)]
struct Soft {
    constraints: Arc<[SpreadConstraint]>,
    domains: Arc<Domains>,
    /// The more domains, the more each pod in one weighs.
    weights: Vec<f64>,
    namespace: Str,
    needs_all: bool,
}

#[derive(Default)]
pub struct PodTopologySpread {
    sums: Sums<Key, Domains>,
    /// Whether pods that have no constraints get none (`defaultingType: List`).
    is_own_only: bool,
}

impl PodTopologySpread {
    pub fn new(args: &Args) -> Result<Self, ArgsError> {
        match args.defaulting_type.as_deref() {
            None | Some("System" | "List") => {}
            Some(other) => return Err(ArgsError::Type(other.to_owned())),
        }
        if !args.default_constraints.is_empty() {
            return Err(ArgsError::Defaults);
        }
        Ok(Self { is_own_only: args.defaulting_type.as_deref() == Some("List"), ..Self::default() })
    }

    fn domains(&self, key: Key, pod: &Pod, cache: &Cache) -> (Arc<[SpreadConstraint]>, Arc<Domains>) {
        let (constraints, needs_all): (Arc<[SpreadConstraint]>, _) = (key.constraints.clone().into(), key.needs_all);
        let of_node = |node: &NodeInfo| {
            part(&constraints, &pod.namespace, node, needs_all, |constraint| is_excluded(pod, &node.node, constraint))
        };
        let domains = self.sums.get(key, cache, &of_node);
        (constraints, domains)
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score])
    }

    fn events(&self) -> Actions {
        Actions::ASSIGNED_POD_ADD
            | Actions::ASSIGNED_POD_DELETE
            | Actions::ASSIGNED_POD_LABEL
            | Actions::NODE_ADD
            | Actions::NODE_LABEL
            | Actions::NODE_TAINT
            | Actions::POD_UPDATE
    }

    fn hint(&self, pod: &Pod, event: &Event) -> Hint {
        let counts = |other: &Pod| pod.spread.iter().any(|one| one.is_hard && one.counts(&pod.namespace, other));
        Hint::queue_if(match event {
            Event::PodAssigned(other) | Event::AssignedPodDeleted(other) => counts(other),
            Event::AssignedPodUpdated { old, new } => counts(old) != counts(new),
            _ => true,
        })
    }

    fn pre_filter(&self, state: &mut CycleState, pod: &Pod, cache: &Cache) -> Result<PreFilter, Status> {
        let Some(key) = Key::new(pod, true) else { return Ok(PreFilter::Skip) };
        let (constraints, domains) = self.domains(key, pod, cache);
        state.write(Hard { constraints, domains, imagined: Vec::new() });
        Ok(PreFilter::All)
    }

    fn imagine(&self, state: &mut CycleState, pod: &Pod, other: &Pod, node: &NodeInfo, _: &Cache, added: bool) {
        let Some(hard) = state.read_mut::<Hard>() else { return };
        let has_all = hard.constraints.iter().all(|one| node.node.labels.has(&one.key));
        if !has_all {
            return;
        }
        for (index, one) in hard.constraints.iter().enumerate() {
            if let Some(value) = node.node.labels.get(&one.key)
                && one.counts(&pod.namespace, other)
                && !is_excluded(pod, &node.node, one)
            {
                hard.imagined.push((index, value.clone(), if added { 1 } else { -1 }));
            }
        }
    }

    fn filter(&self, state: &CycleState, pod: &Pod, node: &NodeInfo) -> Status {
        let Some(hard) = state.read::<Hard>() else { return Status::success() };
        for (index, one) in hard.constraints.iter().enumerate() {
            let Some(value) = node.node.labels.get(&one.key) else { return Status::unresolvable(REASON_LABEL) };
            let own = i64::from(one.counts_labels(&pod.labels));
            if hard.pods(index, value) + own - hard.fewest(index) > one.max_skew {
                return Status::unschedulable(REASON);
            }
        }
        Status::success()
    }

    fn pre_score(&self, state: &mut CycleState, pod: &Pod, cache: &Cache, feasible: &[usize]) -> PreScore {
        let usual = || Key::usual(pod, cache).filter(|_| !self.is_own_only);
        let Some(key) = Key::new(pod, false).or_else(usual) else { return PreScore::Skip };
        let needs_all = key.needs_all;
        let (constraints, domains) = self.domains(key, pod, cache);
        let labels = |position: &usize| &cache.node_at(*position).node.labels;
        let is_complete = |labels: &&Labels| !needs_all || constraints.iter().all(|one| labels.has(&one.key));
        let complete: Vec<_> = feasible.iter().map(labels).filter(is_complete).collect();
        let size = |one: &SpreadConstraint| {
            let mut values: Vec<&Str> = complete.iter().filter_map(|labels| labels.get(&one.key)).collect();
            values.sort_unstable();
            values.dedup();
            values.len()
        };
        let weights = constraints.iter().map(|one| (size(one) as f64 + 2.0).ln()).collect();
        state.write(Soft { constraints, domains, weights, namespace: pod.namespace.clone(), needs_all });
        PreScore::Score
    }

    fn score(&self, state: &CycleState, _: &Pod, node: &NodeInfo) -> i64 {
        let Some(soft) = state.read::<Soft>() else { return 0 };
        let mut score = 0.0;
        for (index, (one, weight)) in soft.constraints.iter().zip(&soft.weights).enumerate() {
            let value = match node.node.labels.get(&one.key) {
                Some(value) => value,
                None if soft.needs_all => return IGNORED,
                None => continue,
            };
            let pods = if &*one.key == HOSTNAME {
                node.pods.iter().filter(|pod| one.counts(&soft.namespace, pod)).count() as i64
            } else {
                soft.domains.pods(index, value)
            };
            score += pods as f64 * weight + (one.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    /// The fewer pods, the better.
    fn normalize(&self, _: &CycleState, scores: &mut [i64]) {
        let counted = || scores.iter().copied().filter(|score| *score != IGNORED);
        let (fewest, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
        for score in scores {
            *score = match (*score, most) {
                (IGNORED, _) => 0,
                (_, 0) => MAX_NODE_SCORE,
                (score, most) => MAX_NODE_SCORE * (most + fewest - score) / most,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::groups;
    use crate::labels::intern;
    use crate::testing::{NodeBuilder, PodBuilder};

    const ZONE: &str = "topology.kubernetes.io/zone";

    fn constraint(key: &str, max_skew: i32, when: &str) -> Value {
        json!({ "topologyKey": key, "maxSkew": max_skew, "whenUnsatisfiable": when, "labelSelector": { "matchLabels": { "app": "web" } } })
    }

    fn pod(name: &str, constraints: Value) -> Arc<Pod> {
        PodBuilder::new(name)
            .labels(json!({ "app": "web" }))
            .spec(json!({ "topologySpreadConstraints": constraints }))
            .build()
    }

    /// Nodes `n0`, `n1`, … in these zones, with so many pods each.
    fn cache(nodes: &[(&str, usize)]) -> Cache {
        let mut cache = Cache::new(None);
        for (index, (zone, pods)) in nodes.iter().enumerate() {
            let name = format!("n{index}");
            let node = NodeBuilder::new(&name);
            let node = if zone.is_empty() { node } else { node.label(ZONE, zone) };
            cache.set_node(node.build());
            for pod in 0..*pods {
                let labels = json!({ "app": "web" });
                cache.set_pod(PodBuilder::new(&format!("{name}-{pod}")).labels(labels).build(), &intern(&name));
            }
        }
        cache.refresh();
        cache
    }

    /// The nodes on which the pod fits.
    fn fitting(plugin: &PodTopologySpread, pod: &Pod, cache: &Cache) -> Vec<String> {
        let mut state = CycleState::default();
        plugin.pre_filter(&mut state, pod, cache).unwrap();
        let fits = |node: &&NodeInfo| plugin.filter(&state, pod, node).is_success();
        let mut names: Vec<String> = cache.nodes().filter(fits).map(|node| node.name().to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_skew_is_kept() {
        let plugin = PodTopologySpread::default();
        for (nodes, skew, expected) in [
            (&[("a", 1), ("b", 0)][..], 1, &["n1"][..]),
            (&[("a", 1), ("b", 0)], 2, &["n0", "n1"]),
            (&[("a", 1), ("a", 1), ("b", 1)], 1, &["n2"]),
            (&[("a", 1), ("b", 1), ("", 0)], 1, &["n0", "n1"]),
            (&[("a", 3), ("b", 0), ("c", 1)], 1, &["n1"]),
        ] {
            let pod = pod("p", json!([constraint(ZONE, skew, "DoNotSchedule")]));
            assert_eq!(fitting(&plugin, &pod, &cache(nodes)), expected, "{nodes:?}");
        }
        let mut few = constraint(ZONE, 1, "DoNotSchedule");
        few["minDomains"] = json!(3);
        assert!(fitting(&plugin, &pod("p", json!([few])), &cache(&[("a", 1), ("b", 1)])).is_empty());
        let both = json!([constraint(ZONE, 1, "DoNotSchedule"), constraint(HOSTNAME, 1, "DoNotSchedule")]);
        assert_eq!(fitting(&plugin, &pod("p", both), &cache(&[("a", 1), ("a", 0), ("b", 1)])), ["n1"]);
    }

    #[test]
    fn counts_follow_the_cluster_and_what_is_imagined() {
        let plugin = PodTopologySpread::default();
        let pod = pod("p", json!([constraint(ZONE, 1, "DoNotSchedule")]));
        let mut cache = cache(&[("a", 1), ("b", 0)]);
        assert_eq!(fitting(&plugin, &pod, &cache), ["n1"]);
        let labels = json!({ "app": "web" });
        cache.assume(PodBuilder::new("new").labels(labels.clone()).build(), &intern("n1"));
        assert_eq!(fitting(&plugin, &pod, &cache), ["n0", "n1"]);
        let mut state = CycleState::default();
        plugin.pre_filter(&mut state, &pod, &cache).unwrap();
        let other = PodBuilder::new("other").labels(labels).build();
        plugin.imagine(&mut state, &pod, &other, cache.node("n0").unwrap(), &cache, true);
        assert!(!plugin.filter(&state, &pod, cache.node("n0").unwrap()).is_success());
        plugin.imagine(&mut state, &pod, &other, cache.node("n0").unwrap(), &cache, false);
        assert!(plugin.filter(&state, &pod, cache.node("n0").unwrap()).is_success());
    }

    #[test]
    fn nodes_that_are_not_for_the_pod_do_not_count() {
        let plugin = PodTopologySpread::default();
        let mut cache = cache(&[("a", 1)]);
        cache.set_node(NodeBuilder::new("other").label(ZONE, "b").label("pool", "gpu").build());
        cache.refresh();
        let spec = json!({ "nodeSelector": { "kubernetes.io/hostname": "n0" }, "topologySpreadConstraints": [constraint(ZONE, 1, "DoNotSchedule")] });
        let pinned = PodBuilder::new("p").labels(json!({ "app": "web" })).spec(spec).build();
        let mut state = CycleState::default();
        plugin.pre_filter(&mut state, &pinned, &cache).unwrap();
        assert!(plugin.filter(&state, &pinned, cache.node("n0").unwrap()).is_success(), "zone b is no alternative");
    }

    #[test]
    fn soft_constraints_prefer_the_emptier_domain() {
        let plugin = PodTopologySpread::default();
        let cache = cache(&[("a", 2), ("b", 1), ("c", 0), ("", 0)]);
        let pod = pod("p", json!([constraint(ZONE, 1, "ScheduleAnyway")]));
        let (mut state, positions) = (CycleState::default(), (0..4).collect::<Vec<_>>());
        assert_eq!(plugin.pre_filter(&mut state, &pod, &cache), Ok(PreFilter::Skip));
        assert_eq!(plugin.pre_score(&mut state, &pod, &cache, &positions), PreScore::Score);
        let names = ["n0", "n1", "n2", "n3"];
        let mut scores = names.map(|name| plugin.score(&state, &pod, cache.node(name).unwrap()));
        plugin.normalize(&state, &mut scores);
        assert!(scores[2] == 100 && scores[2] > scores[1] && scores[1] > scores[0] && scores[3] == 0, "{scores:?}");
    }

    #[test]
    fn pods_without_constraints_are_spread_by_what_selects_them() {
        let selector = groups::of_map(Some(&[("app".to_owned(), "web".to_owned())].into()));
        let mut cache = cache(&[("a", 2), ("a", 0), ("b", 1), ("", 0)]);
        let (positions, names) = ((0..4).collect::<Vec<_>>(), ["n0", "n1", "n2", "n3"]);
        let plain = pod("p", json!([]));
        let plugin = PodTopologySpread::default();
        let mut state = CycleState::default();
        assert_eq!(plugin.pre_score(&mut state, &plain, &cache, &positions), PreScore::Skip, "nobody knows its like");
        let key = groups::Key { kind: groups::Kind::Service, namespace: intern("default"), name: intern("web") };
        cache.groups.set(key, selector);
        assert_eq!(plugin.pre_score(&mut state, &plain, &cache, &positions), PreScore::Score);
        let mut scores = names.map(|name| plugin.score(&state, &plain, cache.node(name).unwrap()));
        plugin.normalize(&state, &mut scores);
        assert!(scores[0] < scores[2] && scores[2] < scores[3] && scores[0] < scores[1], "{scores:?}");
        let own = PodTopologySpread::new(&Args { defaulting_type: Some("List".into()), ..Args::default() }).unwrap();
        assert_eq!(own.pre_score(&mut state, &plain, &cache, &positions), PreScore::Skip);
    }
}
