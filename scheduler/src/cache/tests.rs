use super::*;
use crate::testing::{NodeBuilder, PodBuilder};

fn cache() -> Cache {
    let mut cache = Cache::new(Some(Duration::from_secs(30)));
    cache.set_node(NodeBuilder::new("n1").build());
    cache.refresh();
    cache
}

fn used(cache: &Cache, node: &str) -> i64 {
    cache.node(node).unwrap().requested.milli_cpu
}

#[test]
fn an_assumed_pod_counts_and_its_confirmation_counts_it_once() {
    let mut cache = cache();
    let pod = PodBuilder::new("p").cpu("500m").build();
    let node = crate::labels::intern("n1");
    cache.assume(pod.clone(), &node);
    assert_eq!((used(&cache, "n1"), cache.assumed_count()), (500, 1));
    cache.set_pod(pod, &node);
    assert_eq!((used(&cache, "n1"), cache.assumed_count()), (500, 0));
}

#[test]
fn a_confirmation_for_another_node_corrects_the_assumption() {
    let mut cache = cache();
    cache.set_node(NodeBuilder::new("n2").build());
    let pod = PodBuilder::new("p").cpu("500m").build();
    cache.assume(pod.clone(), &crate::labels::intern("n1"));
    cache.set_pod(pod, &crate::labels::intern("n2"));
    assert_eq!((used(&cache, "n1"), used(&cache, "n2")), (0, 500));
}

#[test]
fn a_failed_binding_gives_the_resources_back_unless_the_pod_is_bound_after_all() {
    let mut cache = cache();
    let pod = PodBuilder::new("p").cpu("500m").build();
    let node = crate::labels::intern("n1");
    cache.assume(pod.clone(), &node);
    assert!(cache.forget(&pod.uid).is_some());
    assert_eq!(used(&cache, "n1"), 0);
    cache.set_pod(pod.clone(), &node);
    assert!(cache.forget(&pod.uid).is_none());
    assert_eq!(used(&cache, "n1"), 500);
}

#[test]
fn an_assumed_pod_expires_only_after_its_binding_was_accepted() {
    let mut cache = cache();
    let start = Instant::now();
    let pod = PodBuilder::new("p").cpu("500m").build();
    cache.assume(pod.clone(), &crate::labels::intern("n1"));
    assert!(cache.expire(start + Duration::from_secs(3600)).is_empty(), "the binding is still under way");
    cache.binding_accepted(&pod.uid, start);
    assert!(cache.expire(start + Duration::from_secs(29)).is_empty());
    assert_eq!(cache.expire(start + Duration::from_secs(30)).len(), 1);
    assert_eq!(used(&cache, "n1"), 0);
}

#[test]
fn pods_that_come_before_their_node_are_counted_when_it_comes() {
    let mut cache = cache();
    let pod = PodBuilder::new("p").cpu("500m").build();
    cache.set_pod(pod.clone(), &crate::labels::intern("late"));
    cache.set_node(NodeBuilder::new("late").build());
    assert_eq!(used(&cache, "late"), 500);
    cache.remove_node("late");
    cache.set_node(NodeBuilder::new("late").build());
    assert_eq!(used(&cache, "late"), 500, "a node that comes back finds its pods");
    cache.remove_node("late");
    cache.remove_pod(&pod.uid);
    cache.set_node(NodeBuilder::new("late").build());
    assert_eq!(used(&cache, "late"), 0);
}

#[test]
fn images_are_counted_over_nodes() {
    let mut cache = cache();
    cache.set_node(NodeBuilder::new("n1").image("web:1", 100).build());
    cache.set_node(NodeBuilder::new("n2").image("web:1", 100).build());
    assert_eq!(cache.image("web:1"), Some(ImageState { size: 100, nodes: 2 }));
    cache.remove_node("n1");
    cache.set_node(NodeBuilder::new("n2").build());
    assert_eq!(cache.image("web:1"), None);
}

#[test]
fn only_changed_nodes_get_a_new_generation() {
    let mut cache = cache();
    cache.set_node(NodeBuilder::new("n2").build());
    let before = (cache.node("n1").unwrap().generation, cache.node("n2").unwrap().generation);
    cache.assume(PodBuilder::new("p").build(), &crate::labels::intern("n1"));
    let after = (cache.node("n1").unwrap().generation, cache.node("n2").unwrap().generation);
    assert!(after.0 > before.0 && after.0 > after.1);
    assert_eq!(after.1, before.1);
}
