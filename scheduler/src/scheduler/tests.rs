use super::*;
use crate::testing::{NodeBuilder, PodBuilder, profiles};

fn scheduler(nodes: &[&str]) -> Scheduler {
    let mut scheduler = Scheduler::new(profiles(), Options::default());
    let nodes = nodes.iter().map(|n| NodeBuilder::new(n).build()).collect();
    scheduler.apply(Input::AllNodes(nodes), Instant::now());
    scheduler
}

fn assigned(outcome: Option<Outcome>) -> Option<(String, String)> {
    match outcome {
        Some(Outcome::Assigned(a)) => Some((a.pod.name.to_string(), a.node.to_string())),
        _ => None,
    }
}

fn failed(outcome: Option<Outcome>) -> Option<String> {
    match outcome {
        // What is said of preemption is the plugin's to test.
        Some(Outcome::Failed(r)) => Some(r.message.split(" preemption:").next().unwrap_or_default().to_owned()),
        _ => None,
    }
}

#[test]
fn an_assumed_pod_takes_its_place_before_it_is_bound() {
    let mut s = scheduler(&["n1"]);
    let now = Instant::now();
    s.apply(Input::Pod(PodBuilder::new("a").cpu("3").build()), now);
    s.apply(Input::Pod(PodBuilder::new("b").cpu("3").build()), now);
    assert_eq!(assigned(s.next(now)), Some(("a".into(), "n1".into())));
    assert_eq!(failed(s.next(now)).as_deref(), Some("0/1 nodes are available: 1 Insufficient cpu."));
    assert!(s.next(now).is_none());
}

#[test]
fn a_failed_binding_gives_the_place_to_others_and_tries_again() {
    let mut s = scheduler(&["n1"]);
    let now = Instant::now();
    s.apply(Input::Pod(PodBuilder::new("a").cpu("3").build()), now);
    assert!(assigned(s.next(now)).is_some());
    s.apply(Input::Pod(PodBuilder::new("b").cpu("3").build()), now);
    assert!(failed(s.next(now)).is_some());
    s.apply(Input::BindingEnded { uid: "a".into(), result: Err(Setback::Error) }, now);
    assert_eq!(assigned(s.next(now + Duration::from_secs(2))), Some(("a".into(), "n1".into())));
}

#[test]
fn a_pod_deleted_while_it_is_bound_leaves_nothing_behind() {
    let mut s = scheduler(&["n1"]);
    let now = Instant::now();
    s.apply(Input::Pod(PodBuilder::new("a").cpu("3").build()), now);
    assert!(assigned(s.next(now)).is_some());
    s.apply(Input::PodGone { uid: "a".into() }, now);
    s.apply(Input::BindingEnded { uid: "a".into(), result: Err(Setback::Error) }, now);
    assert_eq!(s.cache().pod_count(), 0);
    assert_eq!(s.queue_sizes(), Sizes::default());
}

#[test]
fn a_list_after_a_broken_watch_removes_what_is_gone() {
    let mut s = scheduler(&["n1", "n2"]);
    let now = Instant::now();
    s.apply(Input::Pod(PodBuilder::new("bound").node("n1").cpu("4").build()), now);
    s.apply(Input::Pod(PodBuilder::new("waiting").build()), now);
    s.apply(Input::AllPods(vec![PodBuilder::new("new").cpu("4").build()]), now);
    s.apply(Input::AllNodes(vec![NodeBuilder::new("n1").build()]), now);
    assert_eq!(assigned(s.next(now)), Some(("new".into(), "n1".into())));
    assert!(s.next(now).is_none());
}

#[test]
fn the_first_node_lets_waiting_pods_in() {
    let mut s = scheduler(&[]);
    let now = Instant::now();
    s.apply(Input::Pod(PodBuilder::new("p").build()), now);
    assert_eq!(failed(s.next(now)).as_deref(), Some(NO_NODES));
    let later = now + Duration::from_secs(1);
    s.apply(Input::Node(NodeBuilder::new("n1").build()), later);
    assert_eq!(assigned(s.next(later)), Some(("p".into(), "n1".into())));
}

#[test]
fn finished_pods_free_their_node() {
    let mut s = scheduler(&["n1"]);
    let now = Instant::now();
    let job = || PodBuilder::new("job").node("n1").cpu("4");
    s.apply(Input::Pod(job().build()), now);
    s.apply(Input::Pod(PodBuilder::new("p").cpu("4").build()), now);
    assert!(failed(s.next(now)).is_some());
    s.apply(Input::Pod(job().with("", serde_json::json!({"status": {"phase": "Succeeded"}})).build()), now);
    assert_eq!(assigned(s.next(now + Duration::from_secs(1))), Some(("p".into(), "n1".into())));
}

#[test]
fn pods_of_other_schedulers_are_left_alone_but_counted_when_bound() {
    let mut s = scheduler(&["n1"]);
    let now = Instant::now();
    let other = || PodBuilder::new("p").spec(serde_json::json!({"schedulerName": "other"})).cpu("4");
    s.apply(Input::Pod(other().build()), now);
    assert!(s.next(now).is_none());
    s.apply(Input::Pod(other().node("n1").build()), now);
    assert_eq!(s.cache().node("n1").unwrap().requested.milli_cpu, 4000);
}

#[test]
fn a_terminating_pod_is_not_scheduled() {
    let mut s = scheduler(&["n1"]);
    let now = Instant::now();
    let gone = serde_json::json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    s.apply(Input::Pod(PodBuilder::new("p").with("/metadata", gone).build()), now);
    assert!(s.next(now).is_none());
}
