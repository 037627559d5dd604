//! What controllers want to know about pods, and making and deleting them.

use std::cmp::{Ordering, Reverse};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Drops from cached pods what no controller reads. Controllers change pods by patch, so nothing is written back without it.
pub fn prune(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container.env = None;
        container.env_from = None;
        container.command = None;
        container.args = None;
        container.volume_mounts = None;
        container.liveness_probe = None;
        container.readiness_probe = None;
        container.startup_probe = None;
        container.security_context = None;
    }
    if let Some(volumes) = &mut spec.volumes {
        // Which claims are in use is asked; what else is mounted is not.
        volumes.retain(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some());
    }
    spec.image_pull_secrets = None;
    spec.security_context = None;
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether all its containers have ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it ended badly.
pub fn is_failed(pod: &Pod) -> bool {
    phase(pod) == "Failed"
}

/// Whether its containers have been started.
pub fn is_running(pod: &Pod) -> bool {
    phase(pod) == "Running"
}

/// Whether it is neither over nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether it is being deleted and not over yet.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// A pod's condition of a type.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

/// Whether it answers requests.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Since when it is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let condition = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether it has been ready for `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod)
        && (min_ready_seconds == 0 || available_in(pod, min_ready_seconds, now).is_some_and(|wait| wait.is_zero()))
}

/// How long until a ready pod is available; `None` if it is not ready.
pub fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let since = ready_since(pod)?;
    let age = now.duration_since(since).as_secs_f64();
    Some(Duration::from_secs_f64((f64::from(min_ready_seconds) - age).max(0.0)))
}

/// A pod as its template and its owner want it; the API server makes the name from the owner's.
pub fn from_template(template: &PodTemplateSpec, namespace: &str, prefix: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    let metadata = ObjectMeta {
        generate_name: Some(format!("{prefix}-")),
        namespace: Some(namespace.to_owned()),
        labels: meta.labels,
        annotations: meta.annotations,
        finalizers: meta.finalizers,
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: template.spec.clone(), status: None }
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).max().unwrap_or(0)
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get("controller.kubernetes.io/pod-deletion-cost"))
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    }
}

/// Ages are compared by their order of magnitude, so that which of about equally old ones goes is random, not always the newest.
fn age_magnitude(since: Option<Timestamp>, now: Timestamp) -> Option<i64> {
    let seconds = now.duration_since(since?).as_secs();
    Some(if seconds < 1 { 0 } else { i64::from(seconds.ilog2()) })
}

/// Which of two pods a scale-down deletes first (`Less` goes first): unassigned, then pending, not ready, of a lower deletion cost, on a node with more of
/// the set's pods, ready for a shorter time, restarted more often, newer. `rank` is the number of related active pods on the pod's node.
pub fn deletion_order((a, rank_a): (&Pod, usize), (b, rank_b): (&Pod, usize), now: Timestamp) -> Ordering {
    let assigned =
        |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    let ready_for = |pod: &Pod| age_magnitude(ready_since(pod), now);
    let age = |pod: &Pod| age_magnitude(pod.metadata.creation_timestamp.as_ref().map(|time| time.0), now);
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| Reverse(rank_a).cmp(&Reverse(rank_b)))
        .then_with(|| ready_for(a).cmp(&ready_for(b)))
        .then_with(|| Reverse(restarts(a)).cmp(&Reverse(restarts(b))))
        .then_with(|| age(a).cmp(&age(b)))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

#[cfg(test)]
pub(crate) mod testing {
    use k8s_openapi::api::core::v1::{ContainerStatus, PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    /// A running pod on a node, ready since a second of the epoch if that is given.
    pub fn pod(name: &str, node: &str, ready_since: Option<i64>) -> Pod {
        let condition = PodCondition {
            type_: "Ready".into(),
            status: if ready_since.is_some() { "True" } else { "False" }.into(),
            last_transition_time: ready_since.map(|second| Time(Timestamp::from_second(second).unwrap())),
            ..PodCondition::default()
        };
        Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                uid: Some(format!("uid-{name}")),
                creation_timestamp: Some(Time(Timestamp::UNIX_EPOCH)),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec { node_name: (!node.is_empty()).then(|| node.into()), ..PodSpec::default() }),
            status: Some(PodStatus {
                phase: Some(if node.is_empty() { "Pending" } else { "Running" }.into()),
                conditions: Some(vec![condition]),
                container_statuses: Some(vec![ContainerStatus::default()]),
                ..PodStatus::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::testing::pod;
    use super::*;

    #[test]
    fn availability_counts_from_readiness() {
        let now = Timestamp::from_second(100).unwrap();
        let ready = pod("a", "n", Some(70));
        assert!(is_available(&ready, 0, now) && is_available(&ready, 30, now) && !is_available(&ready, 31, now));
        assert_eq!(available_in(&ready, 40, now), Some(Duration::from_secs(10)));
        assert!(!is_available(&pod("b", "n", None), 0, now));
    }

    #[test]
    fn scale_down_takes_the_least_useful_pod_first() {
        let now = Timestamp::from_second(100_000).unwrap();
        let mut cheap = pod("cheap", "n", Some(1));
        cheap.metadata.annotations =
            Some(BTreeMap::from([("controller.kubernetes.io/pod-deletion-cost".to_owned(), "-5".to_owned())]));
        let mut restarted = pod("restarted", "n", Some(10));
        restarted.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].restart_count = 3;
        let order = [
            (pod("unassigned", "", None), 0),
            (pod("unready", "n", None), 0),
            (cheap, 0),
            (pod("crowded", "n", Some(1)), 5),
            (pod("fresh", "n", Some(99_990)), 1),
            (restarted, 1),
            (pod("steady", "n", Some(10)), 1),
        ];
        let mut shuffled: Vec<_> = order.iter().rev().collect();
        shuffled.sort_by(|a, b| deletion_order((&a.0, a.1), (&b.0, b.1), now));
        let names =
            |all: &mut dyn Iterator<Item = &Pod>| all.map(|pod| pod.metadata.name.clone().unwrap()).collect::<Vec<_>>();
        assert_eq!(names(&mut shuffled.iter().map(|(pod, _)| pod)), names(&mut order.iter().map(|(pod, _)| pod)));
    }
}
