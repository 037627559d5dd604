//! A daemon set's status: pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};

use super::nodes::fit;
use super::plan::{by_node, is_updated, min_ready};
use crate::pods;

/// Counts nodes and the pods on them.
pub fn calculate(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    all: &[Arc<Pod>],
    revision: &str,
    now: Timestamp,
) -> DaemonSetStatus {
    let on_node = by_node(all);
    let old = set.status.clone().unwrap_or_default();
    let (mut desired, mut current, mut misscheduled, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    for node in nodes {
        let here =
            on_node.get(node.metadata.name.as_deref().unwrap_or_default()).map(Vec::as_slice).unwrap_or_default();
        if !fit(set, node).run {
            misscheduled += i32::from(!here.is_empty());
            continue;
        }
        desired += 1;
        let Some(pod) = here.iter().find(|pod| pods::is_ready(pod)).or_else(|| here.first()) else { continue };
        current += 1;
        ready += i32::from(pods::is_ready(pod));
        available += i32::from(pods::is_available(pod, min_ready(set), now));
        updated += i32::from(here.iter().any(|pod| is_updated(pod, revision)));
    }
    let non_zero = |count: i32| (count > 0).then_some(count);
    DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: current,
        number_misscheduled: misscheduled,
        number_ready: ready,
        number_available: non_zero(available),
        number_unavailable: non_zero(desired - available),
        updated_number_scheduled: non_zero(updated),
        observed_generation: set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
    }
}

#[cfg(test)]
mod tests {
    use super::super::nodes::testing::node;
    use super::super::plan::testing::{pod, set};
    use super::*;

    #[test]
    fn nodes_and_pods_are_counted() {
        let nodes = [node("a", &[], &[]), node("b", &[], &[]), node("c", &[], &[]), node("x", &[], &["t:NoSchedule"])]
            .map(Arc::new);
        let pods = [pod("a", "new", true), pod("b", "old", false), pod("x", "old", true)];
        let status = calculate(&set("d"), &nodes, &pods, "new", Timestamp::from_second(100).unwrap());
        assert_eq!((status.desired_number_scheduled, status.current_number_scheduled), (3, 2));
        assert_eq!((status.number_misscheduled, status.number_ready), (1, 1));
        assert_eq!((status.number_available, status.number_unavailable), (Some(1), Some(2)));
        assert_eq!(status.updated_number_scheduled, Some(1));
    }
}
