//! Quality of service: the class of a pod and what follows from it for the kernel.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

type List = BTreeMap<String, Quantity>;

fn positive<'a>(list: Option<&'a List>, resource: &str) -> Option<&'a Quantity> {
    list?.get(resource).filter(|quantity| quantity::millis(quantity).is_some_and(|value| value > 0))
}

pub fn limit<'a>(container: &'a Container, resource: &str) -> Option<&'a Quantity> {
    positive(container.resources.as_ref()?.limits.as_ref(), resource)
}

/// The request; a limit without a request stands for both, as the API server would have defaulted.
pub fn request<'a>(container: &'a Container, resource: &str) -> Option<&'a Quantity> {
    let resources: &ResourceRequirements = container.resources.as_ref()?;
    positive(resources.requests.as_ref(), resource).or_else(|| positive(resources.limits.as_ref(), resource))
}

/// What the pod asks for as a whole (KEP-2837), in the form of a container; `None` when it says nothing of cpu and memory.
fn whole(pod: &Pod) -> Option<Container> {
    let whole = Container { resources: super::spec(pod).resources.clone(), ..Default::default() };
    ["cpu", "memory"].iter().any(|r| limit(&whole, r).is_some() || request(&whole, r).is_some()).then_some(whole)
}

/// The class, by the rules of the API: cpu and memory of the pod as a whole, else of all containers that are not ephemeral.
pub fn class(pod: &Pod) -> Class {
    let spec = super::spec(pod);
    let whole = whole(pod);
    let own = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let all = || whole.iter().chain(own().filter(|_| whole.is_none()));
    let none = |c: &Container| ["cpu", "memory"].iter().all(|r| limit(c, r).is_none() && request(c, r).is_none());
    let full = |c: &Container| {
        ["cpu", "memory"].iter().all(|r| match (limit(c, r), request(c, r)) {
            (Some(limit), Some(request)) => quantity::millis(limit) == quantity::millis(request),
            _ => false,
        })
    };
    if all().all(none) {
        Class::BestEffort
    } else if all().all(full) {
        Class::Guaranteed
    } else {
        Class::Burstable
    }
}

/// `oom_score_adj` of a container: the less of its request it uses, the later it is killed.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    if super::is_critical(pod) {
        return -997;
    }
    match class(pod) {
        Class::Guaranteed => -997,
        Class::BestEffort => 1000,
        Class::Burstable => {
            let requested = requested_memory(container) + share_of_whole(pod);
            let adjust = 1000 - (1000 * requested) / node_memory.max(1);
            adjust.clamp(3, 999)
        }
    }
}

fn requested_memory(container: &Container) -> i64 {
    request(container, "memory").and_then(quantity::value).unwrap_or(0)
}

/// A container's part of the memory that the pod asks for as a whole and no container for itself.
fn share_of_whole(pod: &Pod) -> i64 {
    let Some(whole) = whole(pod) else { return 0 };
    let containers = &super::spec(pod).containers;
    let left = requested_memory(&whole) - containers.iter().map(requested_memory).sum::<i64>();
    let count = i64::try_from(containers.len()).unwrap_or(i64::MAX);
    left.max(0) / count.max(1)
}

const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const MIN_QUOTA: i64 = 1000;

/// `cpu.shares` of a cpu request in thousandths.
pub fn shares(millis: i64) -> i64 {
    (millis * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// `cpu.cfs_quota_us` of a cpu limit in thousandths; 0 is no quota.
pub fn quota(millis: i64, period: i64) -> i64 {
    if millis == 0 { 0 } else { (millis * period / 1000).max(MIN_QUOTA) }
}

/// What a whole pod asks for or may use: what it says itself, else the greater of the sum of its running containers and its largest init container, with
/// sidecars counted from their start, and the overhead. `None` when a container leaves the value open (only for limits).
pub fn pod_total(
    pod: &Pod,
    resource: &str,
    of: impl Fn(&Container, &str) -> Option<i64>,
    all_must_say: bool,
) -> Option<i64> {
    let spec = super::spec(pod);
    let overhead = spec.overhead.as_ref().and_then(|list| list.get(resource));
    let overhead = overhead.and_then(if resource == "cpu" { quantity::millis } else { quantity::value }).unwrap_or(0);
    if let Some(value) = whole(pod).and_then(|whole| of(&whole, resource)) {
        return Some(value + overhead);
    }
    let mut sidecars = 0;
    let mut largest_init = 0;
    for container in spec.init_containers.iter().flatten() {
        let value = of(container, resource);
        if all_must_say && value.is_none() {
            return None;
        }
        let value = value.unwrap_or(0);
        if super::kind_of_init(container) == super::Kind::Sidecar {
            sidecars += value;
            largest_init = largest_init.max(sidecars);
        } else {
            largest_init = largest_init.max(sidecars + value);
        }
    }
    let mut sum = sidecars;
    for container in &spec.containers {
        match of(container, resource) {
            Some(value) => sum += value,
            None if all_must_say => return None,
            None => {}
        }
    }
    Some(sum.max(largest_init) + overhead)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "spec": {"containers": containers}}))
            .unwrap()
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let both = serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        for (resources, class_of) in [
            (serde_json::json!({}), Class::BestEffort),
            (both.clone(), Class::Guaranteed),
            (
                serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}),
                Class::Guaranteed,
            ),
            (
                serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
                Class::Burstable,
            ),
            (serde_json::json!({"requests": {"memory": "1"}}), Class::Burstable),
            (serde_json::json!({"requests": {"memory": "0"}}), Class::BestEffort),
        ] {
            let pod = pod(serde_json::json!([{"name": "a", "resources": resources}]));
            assert_eq!(class(&pod), class_of, "{resources}");
        }
        assert_eq!(class(&pod(serde_json::json!([{"name": "a", "resources": both}, {"name": "b"}]))), Class::Burstable);
    }

    #[test]
    fn what_the_pod_says_as_a_whole_counts_before_its_containers() {
        let with = |whole: serde_json::Value, own: serde_json::Value| -> Pod {
            let containers = serde_json::json!([{"name": "a", "resources": own}, {"name": "b"}]);
            let spec = serde_json::json!({"resources": whole, "containers": containers, "overhead": {"memory": "1"}});
            serde_json::from_value(serde_json::json!({"spec": spec})).unwrap()
        };
        let memory = |pod: &Pod| {
            let limits = pod_total(pod, "memory", |c, r| limit(c, r).and_then(quantity::value), true);
            (limits, pod_total(pod, "memory", |c, r| request(c, r).and_then(quantity::value), false))
        };
        let both = serde_json::json!({"limits": {"cpu": "1", "memory": "100"}});
        let own = serde_json::json!({"requests": {"memory": "40"}});
        let full = with(both, own.clone());
        assert_eq!((class(&full), memory(&full)), (Class::Guaranteed, (Some(101), Some(101))));
        let some = with(serde_json::json!({"requests": {"memory": "100"}}), own.clone());
        assert_eq!((class(&some), memory(&some)), (Class::Burstable, (None, Some(101))));
        let none = with(serde_json::json!({}), own);
        assert_eq!((class(&none), memory(&none)), (Class::Burstable, (None, Some(41))));
        // What no container asks for is shared: 40 and 30 for the first, 30 for the second.
        let score = |index: usize| oom_score_adj(&some, &super::super::spec(&some).containers[index], 1000);
        assert_eq!([score(0), score(1)], [930, 970]);
    }

    #[test]
    fn cpu_becomes_shares_and_quota() {
        assert_eq!([shares(0), shares(1), shares(100), shares(1000)], [2, 2, 102, 1024]);
        assert_eq!([quota(0, 100_000), quota(1, 100_000), quota(1500, 100_000)], [0, 1000, 150_000]);
    }

    #[test]
    fn oom_scores_protect_what_asked_for_its_memory() {
        let node = 10 << 30;
        let one = |resources| pod(serde_json::json!([{"name": "a", "resources": resources}]));
        let score = |pod: &Pod| oom_score_adj(pod, &super::super::spec(pod).containers[0], node);
        assert_eq!(score(&one(serde_json::json!({}))), 1000);
        assert_eq!(score(&one(serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}}))), -997);
        assert_eq!(score(&one(serde_json::json!({"requests": {"memory": "1Gi"}}))), 900);
        assert_eq!(score(&one(serde_json::json!({"requests": {"cpu": "1"}}))), 999);
    }
}
