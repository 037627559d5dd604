//! Which pod goes first when a resource is short, and what it is told. Pure.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::usage::PodUsage;
use super::{Signal, Threshold};
use crate::pod::{self, qos};
use crate::quantity;

/// A pod and what it uses.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub pod: Arc<Pod>,
    pub usage: PodUsage,
}

/// What a pod uses of a signal's resource, and what it asked for.
fn balance(candidate: &Candidate, signal: Signal) -> (i64, i64) {
    let request = |resource: &str| {
        let of = |container: &Container, resource: &str| qos::request(container, resource).and_then(quantity::value);
        qos::pod_total(&candidate.pod, resource, of, false).unwrap_or(0)
    };
    match signal {
        Signal::MemoryAvailable => (candidate.usage.memory(), request("memory")),
        Signal::NodefsAvailable | Signal::ImagefsAvailable => (candidate.usage.storage(), request("ephemeral-storage")),
        Signal::NodefsInodesFree | Signal::ImagefsInodesFree => (candidate.usage.inodes, 0),
        Signal::PidAvailable => (candidate.usage.processes, 0),
    }
}

/// The order in which pods go: first those that use more than they asked for, then those of lower priority, then those that use most
/// beyond what they asked for. Critical pods never go.
pub fn order(mut candidates: Vec<Candidate>, signal: Signal) -> Vec<Candidate> {
    candidates.retain(|candidate| !pod::is_critical(&candidate.pod));
    candidates.sort_by_key(|candidate| {
        let (used, requested) = balance(candidate, signal);
        let exceeds = signal != Signal::PidAvailable && used > requested;
        let priority = pod::spec(&candidate.pod).priority.unwrap_or(0);
        (Reverse(exceeds), priority, Reverse(used - requested))
    });
    candidates
}

/// What an evicted pod is told.
pub fn message(candidate: &Candidate, threshold: &Threshold, seen: super::Seen) -> String {
    let signal = threshold.signal;
    let mut text = format!(
        "The node was low on resource: {}. Threshold quantity: {}, available: {}. ",
        signal.resource(),
        signal.show(threshold.amount.of(seen.capacity)),
        signal.show(seen.available)
    );
    for container in &pod::spec(&candidate.pod).containers {
        let Some(usage) = candidate.usage.containers.get(&container.name) else { continue };
        let (used, resource) = match signal {
            Signal::MemoryAvailable => (usage.memory, "memory"),
            Signal::NodefsAvailable | Signal::ImagefsAvailable => (usage.storage, "ephemeral-storage"),
            _ => continue,
        };
        let requested = qos::request(container, resource);
        if used > requested.and_then(quantity::value).unwrap_or(0) {
            text.push_str(&format!(
                "Container {} was using {}, request is {}, has larger consumption of {resource}. ",
                container.name,
                signal.show(used),
                requested.map_or("0", |quantity| &quantity.0)
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::usage::ContainerUsage;
    use super::super::{Amount, Seen};
    use super::*;

    fn candidate(name: &str, priority: i32, request: &str, memory: i64) -> Candidate {
        let pod = json!({"metadata": {"name": name}, "spec": {
            "priority": priority,
            "containers": [{"name": "c", "resources": {"requests": {"memory": request}}}],
        }});
        let usage = ContainerUsage { memory, storage: memory };
        let usage = PodUsage { containers: [("c".to_owned(), usage)].into(), processes: memory, ..Default::default() };
        Candidate { pod: Arc::new(serde_json::from_value(pod).unwrap()), usage }
    }

    fn names(candidates: Vec<Candidate>, signal: Signal) -> Vec<String> {
        order(candidates, signal).iter().map(|candidate| pod::name(&candidate.pod).to_owned()).collect()
    }

    #[test]
    fn who_uses_more_than_asked_goes_first_then_who_matters_less() {
        let all = || {
            vec![
                candidate("within", 0, "100", 90),
                candidate("important-over", 5, "100", 300),
                candidate("over", 0, "100", 150),
                candidate("far-over", 0, "100", 200),
                candidate("critical", 2_000_000_000, "1", 900),
            ]
        };
        assert_eq!(names(all(), Signal::MemoryAvailable), ["far-over", "over", "important-over", "within"]);
        // Processes cannot be asked for: priority alone decides, then their number.
        assert_eq!(names(all(), Signal::PidAvailable), ["far-over", "over", "within", "important-over"]);
    }

    #[test]
    fn the_message_names_amounts_and_containers() {
        let threshold = Threshold {
            signal: Signal::MemoryAvailable,
            amount: Amount::Units(102_400),
            lasts: Default::default(),
            reclaim: Amount::Units(0),
        };
        let seen = Seen { available: 51_200, capacity: 1 << 20 };
        assert_eq!(
            message(&candidate("p", 0, "1Ki", 2048), &threshold, seen),
            "The node was low on resource: memory. Threshold quantity: 100Ki, available: 50Ki. \
             Container c was using 2Ki, request is 1Ki, has larger consumption of memory. "
        );
    }
}
