//! NodeUnschedulable: cordoned nodes take no pods, except those that tolerate the taint which stands for it.

use std::sync::LazyLock;

use crate::framework::{Actions, CycleState, Event, Hint, Plugin, Point, Points, Status};
use crate::labels::intern;
use crate::node::{Effect, Node, NodeInfo, Taint};
use crate::pod::Pod;

pub const NAME: &str = "NodeUnschedulable";
const REASON: &str = "node(s) were unschedulable";

static CORDONED: LazyLock<Taint> = LazyLock::new(|| Taint {
    key: intern("node.kubernetes.io/unschedulable"),
    value: intern(""),
    effect: Effect::NoSchedule,
});

pub fn fits(pod: &Pod, node: &Node) -> Status {
    if !node.unschedulable || pod.tolerates(&CORDONED) { Status::success() } else { Status::unresolvable(REASON) }
}

pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Filter])
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NodeBuilder, PodBuilder};
    use serde_json::json;

    #[test]
    fn a_cordoned_node_takes_only_pods_that_tolerate_it() {
        let (open, cordoned) = (NodeBuilder::new("n").build(), NodeBuilder::new("n").unschedulable().build());
        let plain = PodBuilder::new("p").build();
        let tolerant = PodBuilder::new("p")
            .spec(json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}))
            .build();
        assert!(fits(&plain, &open).is_success());
        assert_eq!(fits(&plain, &cordoned), Status::unresolvable(REASON));
        assert!(fits(&tolerant, &cordoned).is_success());
    }

    #[test]
    fn uncordoning_is_worth_another_try() {
        let (old, new) = (NodeBuilder::new("n").unschedulable().build(), NodeBuilder::new("n").build());
        let pod = PodBuilder::new("p").build();
        let event = Event::NodeUpdated { old: old.clone(), new: new.clone() };
        assert!(event.actions().intersects(NodeUnschedulable.events()));
        assert_eq!(NodeUnschedulable.hint(&pod, &event), Hint::Queue);
        assert_eq!(NodeUnschedulable.hint(&pod, &Event::NodeUpdated { old: new, new: old }), Hint::Skip);
    }
}
