//! Which taints a node should have, by its conditions: pure. Taints of others are left alone.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::health::condition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, its status, and the taint that it brings.
const BY_CONDITION: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

fn is_ours(taint: &Taint) -> bool {
    match taint.effect.as_str() {
        "NoSchedule" => taint.key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, key)| taint.key == *key),
        "NoExecute" => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    }
}

fn holds(node: &Node, type_: &str, status: &str) -> bool {
    condition(node, type_).is_some_and(|condition| condition.status == status)
}

/// The node's taints as they should be, or `None` if they are so already. `may_evict` is asked about a NoExecute taint that the conditions demand, and
/// told whether the node has one of the two already, which then only changes its name.
pub fn plan(
    node: &Node,
    current: &[Taint],
    may_evict: impl FnOnce(bool) -> bool,
    now: Timestamp,
) -> Option<Vec<Taint>> {
    let mut keys: Vec<(&str, &str)> = BY_CONDITION
        .iter()
        .filter(|(type_, status, _)| holds(node, type_, status))
        .map(|(_, _, key)| (*key, "NoSchedule"))
        .collect();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        keys.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let evicting =
        [("False", NOT_READY), ("Unknown", UNREACHABLE)].into_iter().find(|(status, _)| holds(node, "Ready", status));
    let evicts_now = current.iter().any(|taint| taint.effect == "NoExecute" && is_ours(taint));
    if let Some((_, key)) = evicting
        && may_evict(evicts_now)
    {
        keys.push((key, "NoExecute"));
    }
    let has = |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let mut wanted: Vec<Taint> =
        current.iter().filter(|taint| !is_ours(taint) || keys.iter().any(|key| has(taint, key))).cloned().collect();
    for (key, effect) in &keys {
        if !current.iter().any(|taint| has(taint, &(key, effect))) {
            let time_added = Some(Time(now));
            wanted.push(Taint { key: (*key).to_owned(), effect: (*effect).to_owned(), time_added, value: None });
        }
    }
    (wanted != current).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::super::health::testing::node;
    use super::*;

    fn shown(taints: Option<Vec<Taint>>) -> Vec<String> {
        taints
            .iter()
            .flatten()
            .map(|taint| format!("{}:{}", taint.key.rsplit('/').next().unwrap(), taint.effect))
            .collect()
    }

    #[test]
    fn taints_follow_readiness_and_leave_others_alone() {
        let now = Timestamp::UNIX_EPOCH;
        let other = Taint { key: "dedicated".into(), effect: "NoSchedule".into(), ..Taint::default() };
        let lost = plan(&node("n", "Unknown", 0), std::slice::from_ref(&other), |_| true, now);
        assert_eq!(shown(lost.clone()), ["dedicated:NoSchedule", "unreachable:NoSchedule", "unreachable:NoExecute"]);
        let lost = lost.unwrap();
        assert_eq!(plan(&node("n", "Unknown", 9), &lost, |known| known, now), None);
        let unready = plan(&node("n", "False", 0), &lost, |known| known, now);
        assert_eq!(shown(unready), ["dedicated:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute"]);
        assert_eq!(plan(&node("n", "True", 0), &lost, |_| panic!(), now), Some(vec![other]));
    }

    #[test]
    fn eviction_waits_for_its_turn_and_cordons_are_taints() {
        let mut lost = node("n", "Unknown", 0);
        assert_eq!(shown(plan(&lost, &[], |known| known, Timestamp::UNIX_EPOCH)), ["unreachable:NoSchedule"]);
        lost = node("n", "True", 0);
        lost.spec.get_or_insert_default().unschedulable = Some(true);
        assert_eq!(shown(plan(&lost, &[], |_| panic!(), Timestamp::UNIX_EPOCH)), ["unschedulable:NoSchedule"]);
    }
}
