use super::*;
use crate::plugins::{fit, node_unschedulable, scheduling_gates, taint_toleration};
use crate::testing::{NodeBuilder, PodBuilder, profiles};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    queue: Queue,
    profiles: Profiles,
    start: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self { queue: Queue::new(Settings::default()), profiles: profiles(), start: Instant::now() }
    }

    fn set(&mut self, pod: Arc<Pod>, after: Duration) {
        self.queue.set(pod, &self.profiles, self.start + after);
    }

    fn pop(&mut self, after: Duration) -> Option<QueuedPod> {
        self.queue.pop(&self.profiles, self.start + after)
    }

    fn reject(&mut self, queued: QueuedPod, by: &'static str, after: Duration) {
        self.queue.put_back(queued, Setback::Rejected { by: vec![by] }, self.start + after);
    }

    fn happens(&mut self, event: &Event, after: Duration) {
        self.queue.on_event(event, &self.profiles, self.start + after);
    }
}

fn name(queued: Option<QueuedPod>) -> Option<String> {
    queued.map(|q| q.pod.name.to_string())
}

#[test]
fn the_highest_priority_leaves_first_then_the_oldest() {
    let mut f = Fixture::new();
    f.set(PodBuilder::new("low").build(), Duration::ZERO);
    f.set(PodBuilder::new("old").priority(5).build(), SECOND);
    f.set(PodBuilder::new("young").priority(5).build(), 2 * SECOND);
    let order: Vec<_> = std::iter::from_fn(|| name(f.pop(3 * SECOND))).collect();
    assert_eq!(order, ["old", "young", "low"]);
}

#[test]
fn backoff_doubles_from_one_second_to_ten() {
    let seconds: Vec<u64> = (1..=6).map(|count| backoff(Settings::default(), count).as_secs()).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 10, 10]);
}

#[test]
fn an_error_backs_off_and_comes_back_by_itself() {
    let mut f = Fixture::new();
    f.set(PodBuilder::new("p").build(), Duration::ZERO);
    let queued = f.pop(Duration::ZERO).unwrap();
    f.queue.put_back(queued, Setback::Error, f.start);
    assert_eq!(f.queue.sizes().backoff, 1);
    assert!(f.pop(SECOND / 2).is_none());
    assert_eq!(f.queue.next_due(), Some(f.start + SECOND));
    let queued = f.pop(SECOND).unwrap();
    assert_eq!(queued.attempts, 2);
    f.queue.put_back(queued, Setback::Error, f.start + SECOND);
    assert!(f.pop(SECOND * 2).is_none(), "the second backoff is two seconds");
    assert!(f.pop(SECOND * 3).is_some());
}

#[test]
fn an_unschedulable_pod_waits_for_an_event_that_helps() {
    let mut f = Fixture::new();
    f.set(PodBuilder::new("p").cpu("6").build(), Duration::ZERO);
    let queued = f.pop(Duration::ZERO).unwrap();
    f.reject(queued, fit::NAME, Duration::ZERO);
    let node = |cpu: &str| Event::NodeAdded(NodeBuilder::new("n").allocatable("cpu", cpu).build());
    f.happens(&node("4"), 2 * SECOND);
    assert!(f.pop(2 * SECOND).is_none(), "a node too small is no help");
    let uncordoned =
        Event::NodeUpdated { old: NodeBuilder::new("n").unschedulable().build(), new: NodeBuilder::new("n").build() };
    f.happens(&uncordoned, 2 * SECOND);
    assert!(f.pop(2 * SECOND).is_none(), "being cordoned was not what the pod was rejected for");
    f.happens(&node("8"), 2 * SECOND);
    assert!(f.pop(2 * SECOND).is_some());
}

#[test]
fn an_event_within_the_backoff_is_remembered_until_it_has_passed() {
    let mut f = Fixture::new();
    f.set(PodBuilder::new("p").build(), Duration::ZERO);
    f.set(PodBuilder::new("busy").build(), Duration::ZERO);
    let queued = f.pop(Duration::ZERO).unwrap();
    f.reject(queued, taint_toleration::NAME, Duration::ZERO);
    f.happens(&Event::NodeAdded(NodeBuilder::new("n").build()), SECOND / 2);
    assert_eq!(f.queue.sizes(), Sizes { active: 1, backoff: 1, unschedulable: 0, gated: 0 });
    assert_eq!(name(f.pop(SECOND / 2)).as_deref(), Some("busy"));
    assert_eq!(name(f.pop(SECOND / 2)).as_deref(), Some("p"), "with nothing else to do the backoff is cut short");
}

#[test]
fn a_pod_is_tried_again_after_five_minutes_whatever_happens() {
    let mut f = Fixture::new();
    f.set(PodBuilder::new("p").build(), Duration::ZERO);
    let queued = f.pop(Duration::ZERO).unwrap();
    f.reject(queued, fit::NAME, Duration::ZERO);
    assert!(f.pop(299 * SECOND).is_none());
    assert!(f.pop(330 * SECOND).is_some());
}

#[test]
fn a_gated_pod_waits_until_its_gates_are_gone() {
    let mut f = Fixture::new();
    f.set(PodBuilder::new("p").spec(json!({"schedulingGates": [{"name": "g"}]})).build(), Duration::ZERO);
    assert_eq!(f.queue.sizes().gated, 1);
    f.happens(&Event::Timeout, SECOND);
    assert!(f.pop(SECOND).is_none());
    f.set(PodBuilder::new("p").build(), 2 * SECOND);
    assert!(f.pop(2 * SECOND).is_some());
    assert_eq!(scheduling_gates::NAME, "SchedulingGates");
}

#[test]
fn a_change_of_the_pod_itself_can_help() {
    let mut f = Fixture::new();
    f.set(PodBuilder::new("p").build(), Duration::ZERO);
    let queued = f.pop(Duration::ZERO).unwrap();
    f.reject(queued, node_unschedulable::NAME, Duration::ZERO);
    f.set(PodBuilder::new("p").labels(json!({"a": "b"})).build(), 5 * SECOND);
    assert_eq!(f.queue.sizes().unschedulable, 1, "a label does not help against a cordoned node");
    f.set(PodBuilder::new("p").spec(json!({"tolerations": [{"operator": "Exists"}]})).build(), 5 * SECOND);
    assert_eq!(f.queue.sizes().active, 1);
}

#[test]
fn a_deleted_pod_leaves_every_part() {
    let mut f = Fixture::new();
    for (uid, setback) in
        [("active", None), ("error", Some(Setback::Error)), ("no", Some(Setback::Rejected { by: vec![fit::NAME] }))]
    {
        f.set(PodBuilder::new(uid).build(), Duration::ZERO);
        if let Some(setback) = setback {
            let queued = f.queue.take(uid).unwrap();
            f.queue.put_back(queued, setback, f.start);
        }
    }
    for uid in ["active", "error", "no"] {
        assert!(f.queue.remove(uid).is_some(), "{uid}");
    }
    assert_eq!(f.queue.sizes(), Sizes::default());
}
