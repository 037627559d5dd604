use serde_json::json;
use std::sync::Arc;

use super::*;
use crate::testing::{NodeBuilder, PodBuilder};

fn node(pods: &[Arc<Pod>], allocatable: &[(&str, &str)]) -> NodeInfo {
    let builder = allocatable.iter().fold(NodeBuilder::new("n"), |b, (name, amount)| b.allocatable(name, amount));
    let mut info = NodeInfo::new(builder.build());
    pods.iter().for_each(|p| info.add_pod(p.clone()));
    info
}

fn reasons(pod: &Pod, node: &NodeInfo) -> Vec<String> {
    shortages(pod, node, |_| false).into_iter().map(|s| s.reason.into_owned()).collect()
}

#[test]
fn every_shortage_is_named() {
    let used = PodBuilder::new("used").requests(json!({"cpu": "3", "memory": "10Gi", "example.com/gpu": 1})).build();
    let full = node(&[used], &[("example.com/gpu", "1"), ("ephemeral-storage", "1Gi"), ("pods", "1")]);
    let pod = PodBuilder::new("p")
        .requests(json!({"cpu": "2", "memory": "7Gi", "ephemeral-storage": "2Gi", "example.com/gpu": 1}))
        .build();
    assert_eq!(
        reasons(&pod, &full),
        [
            "Too many pods",
            "Insufficient cpu",
            "Insufficient memory",
            "Insufficient ephemeral-storage",
            "Insufficient example.com/gpu"
        ]
    );
    assert_eq!(to_status(shortages(&pod, &full, |_| false)).code, Code::Unresolvable, "2Gi is more than the node has");
}

#[test]
fn what_is_free_can_be_taken_to_the_last_bit() {
    let used = PodBuilder::new("used").cpu("3").build();
    let node = node(&[used], &[]);
    for (cpu, fits) in [("1", true), ("1001m", false)] {
        let pod = PodBuilder::new("p").cpu(cpu).build();
        assert_eq!(reasons(&pod, &node).is_empty(), fits, "{cpu}");
        assert_eq!(fits_plainly(&pod, &node), fits, "{cpu}");
    }
}

#[test]
fn a_pod_that_asks_for_nothing_fits_an_overcommitted_node() {
    let used = PodBuilder::new("used").cpu("8").build();
    assert!(reasons(&PodBuilder::new("p").build(), &node(&[used], &[])).is_empty());
}

#[test]
fn ignored_resources_are_left_to_others() {
    let args: Args = serde_json::from_value(json!({"ignoredResourceGroups": ["example.com"]})).unwrap();
    let pod = PodBuilder::new("p").requests(json!({"example.com/gpu": 1, "other.com/x": 1})).build();
    let short = shortages(&pod, &node(&[], &[]), |name| args.ignores(name));
    assert_eq!(short.len(), 1);
    assert_eq!(short[0].reason, "Insufficient other.com/x");
}

#[test]
fn strategies_score_by_use() {
    let used = PodBuilder::new("used").requests(json!({"cpu": "1", "memory": "4Gi"})).build();
    let node = node(&[used], &[]);
    let pod = PodBuilder::new("p").requests(json!({"cpu": "1", "memory": "4Gi"})).build();
    let score = |args| Fit::new(serde_json::from_value(args).unwrap()).unwrap().strategy.score(&pod, &node);
    assert_eq!(score(json!({})), 50, "half of cpu and half of memory are left");
    let shape = json!([{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]);
    for (kind, expected) in [("LeastAllocated", 50), ("MostAllocated", 50), ("RequestedToCapacityRatio", 50)] {
        let args = json!({"scoringStrategy": {"type": kind, "resources": [{"name": "cpu", "weight": 3}],
            "requestedToCapacityRatio": {"shape": shape}}});
        assert_eq!(score(args), expected, "{kind}");
    }
    let small = PodBuilder::new("p").requests(json!({"cpu": "200m", "memory": "1Gi"})).build();
    let least = Strategy::least_allocated(vec![("cpu".into(), 1), ("memory".into(), 1)]);
    assert_eq!(least.score(&small, &node), (70 + 68) / 2);
    let most = Strategy::most_allocated(vec![("cpu".into(), 1), ("memory".into(), 1)]);
    assert_eq!(most.score(&small, &node), (30 + 31) / 2);
}

#[test]
fn bad_arguments_are_refused() {
    let refuse = |args| Fit::new(serde_json::from_value(args).unwrap()).err();
    assert!(matches!(refuse(json!({"scoringStrategy": {"type": "Best"}})), Some(ArgsError::UnknownStrategy(_))));
    assert_eq!(refuse(json!({"scoringStrategy": {"type": "RequestedToCapacityRatio"}})), Some(ArgsError::NoShape));
    assert!(serde_json::from_value::<Args>(json!({"scoring": 1})).is_err());
}

#[test]
fn a_node_that_could_never_take_the_pod_is_not_worth_another_try() {
    let fit = Fit::new(Args::default()).unwrap();
    let added = |cpu: &str| Event::NodeAdded(NodeBuilder::new("n").allocatable("cpu", cpu).build());
    let pod = PodBuilder::new("p").cpu("6").build();
    assert_eq!(fit.hint(&pod, &added("4")), Hint::Skip);
    assert_eq!(fit.hint(&pod, &added("8")), Hint::Queue);
}
