//! DefaultPreemption: a pod that fits nowhere may take the place of less important ones. The node is chosen on which this does least harm.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::cache::{Budget, Cache};
use crate::cycle::Cycle;
use crate::diagnosis::Diagnosis;
use crate::framework::{CycleState, Plugin, Point, Points, Remedy};
use crate::node::NodeInfo;
use crate::pod::Pod;

pub const NAME: &str = "DefaultPreemption";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

/// `DefaultPreemptionArgs`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Args {
    #[serde(default, rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(default, rename = "kind")]
    _kind: Option<String>,
    /// The share of nodes, in percent, and the number that are looked at at least.
    #[serde(default = "ten")]
    min_candidate_nodes_percentage: usize,
    #[serde(default = "hundred")]
    min_candidate_nodes_absolute: usize,
}

fn ten() -> usize {
    10
}

fn hundred() -> usize {
    100
}

impl Default for Args {
    fn default() -> Self {
        Self {
            _api_version: None,
            _kind: None,
            min_candidate_nodes_percentage: ten(),
            min_candidate_nodes_absolute: hundred(),
        }
    }
}

/// A node that would do, and who would have to go.
#[derive(Debug)]
struct Candidate {
    position: usize,
    victims: Vec<Arc<Pod>>,
    /// How many of them a disruption budget would keep.
    violations: usize,
}

impl Candidate {
    /// The harm of choosing it; less is better. Its parts count in this order.
    fn harm(&self) -> impl Ord + use<> {
        let highest = self.victims.iter().map(|pod| pod.priority).max().unwrap_or(i32::MIN);
        // Shifted, so that more victims are more harm whatever their priorities.
        let sum: i64 = self.victims.iter().map(|pod| i64::from(pod.priority) + i64::from(i32::MAX) + 1).sum();
        let oldest = self.victims.iter().filter(|pod| pod.priority == highest).filter_map(|pod| pod.start_time).min();
        (self.violations, highest, sum, self.victims.len(), Reverse(oldest))
    }
}

#[derive(Default)]
pub struct DefaultPreemption {
    args: Args,
}

impl DefaultPreemption {
    pub fn new(args: Args) -> Self {
        Self { args }
    }

    /// Why the pod may take nobody's place now, if so.
    fn refusal(pod: &Pod, cycle: &Cycle<'_>) -> Option<&'static str> {
        if !pod.may_preempt {
            return Some("not eligible due to preemptionPolicy=Never.");
        }
        let promised = cycle.nominated.node_of(&pod.uid).or(pod.nominated_node.as_ref());
        let node = promised.and_then(|name| cycle.cache.node(name))?;
        // Those that were to make room are still on their way out.
        let going = node.pods.iter().any(|other| other.is_terminating && other.priority < pod.priority);
        going.then_some("not eligible due to a terminating pod on the nominated node.")
    }

    fn wanted(&self, nodes: usize) -> usize {
        (nodes * self.args.min_candidate_nodes_percentage / 100).max(self.args.min_candidate_nodes_absolute)
    }
}

/// Who comes first: the higher priority, then the one that runs longer.
fn importance(pod: &Pod) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.priority), pod.start_time.unwrap_or(Timestamp::MAX))
}

/// Splits pods into those that no budget keeps, and those that one does, most important first.
fn by_budget(mut pods: Vec<Arc<Pod>>, cache: &Cache) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    pods.sort_by_key(|pod| importance(pod));
    let mut budgets: Vec<(&Budget, i32)> = cache.budgets().map(|budget| (budget, budget.allowed)).collect();
    pods.into_iter().partition(|pod| {
        let mut is_free = true;
        for (_, left) in budgets.iter_mut().filter(|(budget, _)| budget.covers(pod)) {
            *left -= 1;
            is_free &= *left >= 0;
        }
        is_free
    })
}

/// Who must go so that the pod fits on a node: as few as possible, the least important; `None` if it does not fit without all of them either.
fn try_on(cycle: &Cycle<'_>, state: &CycleState, pod: &Pod, position: usize) -> Option<Candidate> {
    let node = cycle.cache.node_at(position);
    let lower: Vec<Arc<Pod>> = node.pods.iter().filter(|other| other.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return None;
    }
    let (mut node, mut state): (NodeInfo, _) = (node.clone(), state.clone());
    for other in &lower {
        node.remove_pod(&other.uid);
        cycle.imagine(&mut state, pod, other, &node, false);
    }
    if !cycle.filter(pod, &state, &node).is_success() {
        return None;
    }
    let (free, kept) = by_budget(lower, cycle.cache);
    let mut candidate = Candidate { position, victims: Vec::new(), violations: 0 };
    let both = kept.into_iter().map(|pod| (pod, true)).chain(free.into_iter().map(|pod| (pod, false)));
    for (other, is_kept) in both {
        node.add_pod(other.clone());
        cycle.imagine(&mut state, pod, &other, &node, true);
        if !cycle.filter(pod, &state, &node).is_success() {
            node.remove_pod(&other.uid);
            cycle.imagine(&mut state, pod, &other, &node, false);
            candidate.violations += usize::from(is_kept);
            candidate.victims.push(other);
        }
    }
    (!candidate.victims.is_empty()).then_some(candidate)
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PostFilter])
    }

    fn post_filter(
        &self,
        cycle: &Cycle<'_>,
        state: &CycleState,
        pod: &Pod,
        diagnosis: &mut Diagnosis,
    ) -> Option<Remedy> {
        if let Some(refusal) = Self::refusal(pod, cycle) {
            diagnosis.post_filter_message = format!("preemption: {refusal}");
            return Some(Remedy::Wait);
        }
        let nodes = cycle.cache.node_count();
        let possible = &diagnosis.preemption_candidates;
        let candidates = possible.iter().filter_map(|position| try_on(cycle, state, pod, *position));
        let best = candidates.take(self.wanted(nodes)).min_by_key(Candidate::harm);
        let Some(best) = best else {
            let mut parts = Vec::new();
            let hopeless = nodes - possible.len();
            parts.extend((!possible.is_empty()).then(|| format!("{} {NO_VICTIMS}", possible.len())));
            parts.extend((hopeless > 0).then(|| format!("{hopeless} {NOT_HELPFUL}")));
            parts.sort();
            diagnosis.post_filter_message = format!("preemption: 0/{nodes} nodes are available: {}.", parts.join(", "));
            return Some(Remedy::Hopeless);
        };
        Some(Remedy::Preempt { node: cycle.cache.node_at(best.position).name().clone(), victims: best.victims })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use serde_json::json;

    use super::*;
    use crate::cycle::Failure;
    use crate::labels::intern;
    use crate::queue::Nominated;
    use crate::selector::Selector;
    use crate::testing::{NodeBuilder, PodBuilder, profiles};

    fn cache(pods: &[(PodBuilder, &str)], nodes: &[&str]) -> Cache {
        let mut cache = Cache::new(None);
        for name in nodes {
            cache.set_node(NodeBuilder::new(name).build());
        }
        cache.refresh();
        for (pod, node) in pods {
            cache.set_pod(pod.clone().node(node).build(), &intern(node));
        }
        cache
    }

    /// Where the pod is promised a place and who goes for it, or why not.
    fn preempt(cache: &Cache, pod: PodBuilder, nominated: &Nominated) -> Result<(String, Vec<String>), String> {
        let profiles = profiles();
        let profile = profiles.values().next().unwrap();
        let cycle = Cycle { profile, cache, nominated, percentage_of_nodes_to_score: 0 };
        match cycle.choose(&pod.build(), &mut 0, &mut SmallRng::seed_from_u64(1)) {
            Err(Failure::Unfit(_, Remedy::Preempt { node, victims })) => {
                let mut names: Vec<String> = victims.iter().map(|pod| pod.name.to_string()).collect();
                names.sort();
                Ok((node.to_string(), names))
            }
            Err(Failure::Unfit(diagnosis, _)) => Err(diagnosis.message(cache.node_count())),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it fits as it is"),
        }
    }

    fn of(name: &str, priority: i32, cpu: &str) -> PodBuilder {
        PodBuilder::new(name).priority(priority).cpu(cpu)
    }

    fn goes(node: &str, names: &[&str]) -> Result<(String, Vec<String>), String> {
        Ok((node.to_owned(), names.iter().map(|name| (*name).to_owned()).collect()))
    }

    #[test]
    fn the_least_important_go_and_no_more_than_must() {
        let none = Nominated::default();
        let one = cache(&[(of("a", 1, "2"), "n1"), (of("b", 5, "1"), "n1"), (of("c", 9, "1"), "n1")], &["n1"]);
        assert_eq!(preempt(&one, of("p", 10, "2"), &none), goes("n1", &["a"]));
        assert_eq!(preempt(&one, of("p", 10, "3"), &none), goes("n1", &["a", "b"]));
        let refused = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
        assert_eq!(preempt(&one, of("p", 1, "1"), &none), Err(refused.to_owned()));
        let never = of("p", 10, "1").spec(json!({ "preemptionPolicy": "Never" }));
        assert!(
            preempt(&one, never, &none)
                .unwrap_err()
                .ends_with("preemption: not eligible due to preemptionPolicy=Never.")
        );
    }

    #[test]
    fn the_node_with_the_least_harm_is_chosen() {
        let none = Nominated::default();
        let pods = [(of("a", 5, "4"), "n1"), (of("b", 3, "2"), "n2"), (of("c", 3, "2"), "n2"), (of("d", 3, "4"), "n3")];
        let cache = cache(&pods, &["n1", "n2", "n3"]);
        assert_eq!(preempt(&cache, of("p", 10, "4"), &none), goes("n3", &["d"]), "one of low priority rather than two");
        assert_eq!(preempt(&cache, of("p", 4, "2"), &none).unwrap().1.len(), 1);
    }

    #[test]
    fn budgets_are_kept_where_that_is_possible() {
        let none = Nominated::default();
        let guarded = of("a", 1, "4").labels(json!({ "app": "db" }));
        let mut cache = cache(&[(guarded, "n1"), (of("b", 2, "4"), "n2")], &["n1", "n2"]);
        let selector = serde_json::from_value(json!({ "matchLabels": { "app": "db" } })).unwrap();
        let budget =
            |allowed| Budget { namespace: intern("default"), selector: Selector::new(Some(&selector)), allowed };
        cache.set_budget("default/db".into(), budget(0));
        assert_eq!(preempt(&cache, of("p", 10, "4"), &none), goes("n2", &["b"]));
        cache.set_budget("default/db".into(), budget(1));
        assert_eq!(preempt(&cache, of("p", 10, "4"), &none), goes("n1", &["a"]));
    }

    #[test]
    fn while_those_that_make_room_are_going_nobody_else_must() {
        let going = of("a", 1, "4").with("/metadata", json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" }));
        let cache = cache(&[(going, "n1"), (of("b", 1, "4"), "n2")], &["n1", "n2"]);
        let mut nominated = Nominated::default();
        nominated.set(&of("p", 10, "4").build(), Some(&intern("n1")));
        let refused = preempt(&cache, of("p", 10, "4"), &nominated).unwrap_err();
        assert!(refused.ends_with("not eligible due to a terminating pod on the nominated node."), "{refused}");
    }
}
