//! NodePorts: two pods on one node cannot have the same host port.

use crate::cache::Cache;
use crate::framework::{Actions, CycleState, Event, Hint, Plugin, Point, Points, PreFilter, Status};
use crate::node::NodeInfo;
use crate::pod::{HostPort, Pod};

pub const NAME: &str = "NodePorts";
const REASON: &str = "node(s) didn't have free ports for the requested pod ports";

pub fn fits(wanted: &[HostPort], used: &[HostPort]) -> Status {
    let collide = wanted.iter().any(|w| used.iter().any(|u| w.conflicts(u)));
    if collide { Status::unschedulable(REASON) } else { Status::success() }
}

pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter])
    }

    fn events(&self) -> Actions {
        Actions::NODE_ADD | Actions::ASSIGNED_POD_DELETE
    }

    fn hint(&self, pod: &Pod, event: &Event) -> Hint {
        Hint::queue_if(match event {
            Event::AssignedPodDeleted(gone) => !fits(&pod.host_ports, &gone.host_ports).is_success(),
            _ => event.node().is_some(),
        })
    }

    fn pre_filter(&self, _: &mut CycleState, pod: &Pod, _: &Cache) -> Result<PreFilter, Status> {
        Ok(if pod.host_ports.is_empty() { PreFilter::Skip } else { PreFilter::All })
    }

    fn filter(&self, _: &CycleState, pod: &Pod, node: &NodeInfo) -> Status {
        fits(&pod.host_ports, &node.host_ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::PodBuilder;
    use serde_json::json;
    use std::sync::Arc;

    fn with_port(port: i32) -> Arc<Pod> {
        let container = json!([{"name": "c", "ports": [{"containerPort": 80, "hostPort": port}]}]);
        PodBuilder::new("p").spec(json!({"containers": container})).build()
    }

    #[test]
    fn a_taken_port_is_refused() {
        assert!(fits(&with_port(80).host_ports, &with_port(81).host_ports).is_success());
        assert_eq!(fits(&with_port(80).host_ports, &with_port(80).host_ports), Status::unschedulable(REASON));
    }

    #[test]
    fn only_a_pod_that_held_the_port_is_worth_another_try() {
        let gone = |port| Event::AssignedPodDeleted(with_port(port));
        assert_eq!(NodePorts.hint(&with_port(80), &gone(80)), Hint::Queue);
        assert_eq!(NodePorts.hint(&with_port(80), &gone(81)), Hint::Skip);
    }
}
