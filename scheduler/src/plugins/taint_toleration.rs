//! TaintToleration: nodes repel the pods that do not tolerate their taints; taints that only ask are counted against the score.

use crate::cache::Cache;
use crate::framework::{
    Actions, CycleState, Event, Hint, Plugin, Point, Points, PreScore, Status, normalize_by_largest,
};
use crate::node::{Effect, Node, NodeInfo};
use crate::pod::Pod;

pub const NAME: &str = "TaintToleration";
const REASON: &str = "node(s) had untolerated taint(s)";

pub fn fits(pod: &Pod, node: &Node) -> Status {
    let mut binding = node.taints.iter().filter(|t| t.effect != Effect::PreferNoSchedule);
    if binding.all(|taint| pod.tolerates(taint)) { Status::success() } else { Status::unresolvable(REASON) }
}

/// How many taints of the node ask this pod to stay away.
pub fn objections(pod: &Pod, node: &Node) -> i64 {
    let asking = node.taints.iter().filter(|t| t.effect == Effect::PreferNoSchedule);
    asking.filter(|taint| !pod.tolerates(taint)).count() as i64
}

pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Filter, Point::PreScore, Point::Score])
    }

    fn events(&self) -> Actions {
        Actions::NODE_ADD | Actions::NODE_TAINT | Actions::POD_UPDATE
    }

    fn hint(&self, pod: &Pod, event: &Event) -> Hint {
        Hint::queue_if(match event {
            Event::PodUpdated { old, new } => old.tolerations != new.tolerations,
            _ => event.node().is_some_and(|node| fits(pod, node).is_success()),
        })
    }

    fn filter(&self, _: &CycleState, pod: &Pod, node: &NodeInfo) -> Status {
        fits(pod, &node.node)
    }

    /// Without such taints in the cluster every node has the same score.
    fn pre_score(&self, _: &mut CycleState, _: &Pod, cache: &Cache, _: &[usize]) -> PreScore {
        if cache.has_preferences_against_nodes() { PreScore::Score } else { PreScore::Skip }
    }

    fn score(&self, _: &CycleState, pod: &Pod, node: &NodeInfo) -> i64 {
        objections(pod, &node.node)
    }

    fn normalize(&self, _: &CycleState, scores: &mut [i64]) {
        normalize_by_largest(scores, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NodeBuilder, PodBuilder};
    use serde_json::json;

    #[test]
    fn taints_repel_pods_that_do_not_tolerate_them() {
        let tolerating =
            |key: &str| PodBuilder::new("p").spec(json!({"tolerations": [{"key": key, "operator": "Exists"}]})).build();
        for (effect, pod, expected) in [
            ("NoSchedule", tolerating("other"), Status::unresolvable(REASON)),
            ("NoExecute", tolerating("other"), Status::unresolvable(REASON)),
            ("PreferNoSchedule", tolerating("other"), Status::success()),
            ("NoSchedule", tolerating("dedicated"), Status::success()),
            ("NoExecute", tolerating("dedicated"), Status::success()),
        ] {
            let node = NodeBuilder::new("n").taint("dedicated", "db", effect).build();
            assert_eq!(fits(&pod, &node), expected, "{effect}");
        }
    }

    #[test]
    fn fewer_objections_score_better() {
        let pod = PodBuilder::new("p").build();
        let node = NodeBuilder::new("n").taint("a", "", "PreferNoSchedule").taint("b", "", "PreferNoSchedule").build();
        let mut scores = [objections(&pod, &node), 0];
        TaintToleration.normalize(&CycleState::default(), &mut scores);
        assert_eq!(scores, [0, 100]);
    }

    #[test]
    fn a_removed_taint_is_worth_another_try() {
        let old = NodeBuilder::new("n").taint("a", "", "NoSchedule").build();
        let event = Event::NodeUpdated { old, new: NodeBuilder::new("n").build() };
        assert_eq!(TaintToleration.hint(&PodBuilder::new("p").build(), &event), Hint::Queue);
    }
}
