//! NodeName: a pod that names a node goes nowhere else.

use crate::framework::{Actions, CycleState, Event, Hint, Plugin, Point, Points, Status};
use crate::labels::Str;
use crate::node::NodeInfo;
use crate::pod::Pod;

pub const NAME: &str = "NodeName";
const REASON: &str = "node(s) didn't match the requested node name";

pub fn fits(wanted: Option<&Str>, node: &Str) -> Status {
    if wanted.is_none_or(|wanted| wanted == node) { Status::success() } else { Status::unresolvable(REASON) }
}

pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Filter])
    }

    fn events(&self) -> Actions {
        Actions::NODE_ADD
    }

    fn hint(&self, pod: &Pod, event: &Event) -> Hint {
        Hint::queue_if(event.node().is_some_and(|node| fits(pod.node.as_ref(), &node.name).is_success()))
    }

    fn filter(&self, _: &CycleState, pod: &Pod, node: &NodeInfo) -> Status {
        fits(pod.node.as_ref(), node.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::intern;

    #[test]
    fn a_named_node_is_the_only_one() {
        let node = intern("n1");
        assert!(fits(None, &node).is_success());
        assert!(fits(Some(&node), &node).is_success());
        assert_eq!(fits(Some(&intern("n2")), &node), Status::unresolvable(REASON));
    }
}
