//! What pods use.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};

use super::{Amounts, List, add, number, read};

/// Whether a pod still uses what it asked for.
pub fn is_charged(pod: &Pod, now: Timestamp) -> bool {
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    let is_overdue = pod
        .metadata
        .deletion_timestamp
        .as_ref()
        .is_some_and(|time| time.0.checked_add(SignedDuration::from_secs(grace)).is_ok_and(|end| end < now));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed")) && !is_overdue
}

fn is_native(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

fn raise(all: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if all.get(name).is_none_or(|known| known < amount) {
            all.insert(name.clone(), *amount);
        }
    }
}

/// What is asked for: at least, or at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Requests,
    Limits,
}

impl Side {
    fn of(self, resources: &ResourceRequirements) -> List<'_> {
        match self {
            Side::Requests => resources.requests.as_ref(),
            Side::Limits => resources.limits.as_ref(),
        }
    }
}

/// What a pod asks for in all, without its overhead: its containers with its sidecars, or the largest moment of its
/// initialization; what is asked for the whole pod counts first.
pub fn total(spec: &PodSpec, side: Side) -> Amounts {
    sum(spec, side, &|container| of_container(container, side))
}

fn of_container(container: &Container, side: Side) -> Amounts {
    read(container.resources.as_ref().and_then(|resources| side.of(resources)))
}

fn sum(spec: &PodSpec, side: Side, of: &dyn Fn(&Container) -> Amounts) -> Amounts {
    let mut running = Amounts::new();
    spec.containers.iter().for_each(|container| add(&mut running, of(container)));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        let mut moment = sidecars.clone();
        add(&mut moment, own.clone());
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut running, own);
            sidecars.clone_from(&moment);
        }
        raise(&mut peak, &moment);
    }
    raise(&mut running, &peak);
    running.extend(read(spec.resources.as_ref().and_then(|resources| side.of(resources))));
    running
}

/// What a pod that has not ended uses. Of a container that is being resized, the larger of what it has and what it will have.
pub(super) fn usage(pod: &Pod) -> Amounts {
    let mut amounts = Amounts::from([("pods".to_owned(), number(1))]);
    let Some(spec) = &pod.spec else { return amounts };
    let overhead = read(spec.overhead.as_ref());
    let of = |container: &Container, side: Side| {
        let mut own = of_container(container, side);
        raise(&mut own, &actual(pod, &container.name, side));
        own
    };
    let mut requests = sum(spec, Side::Requests, &|container| of(container, Side::Requests));
    add(&mut requests, overhead.clone());
    for (name, amount) in requests {
        if is_native(&name) {
            amounts.insert(name.clone(), amount);
        }
        amounts.insert(format!("requests.{name}"), amount);
    }
    let mut limits = sum(spec, Side::Limits, &|container| of(container, Side::Limits));
    // Overhead alone is no limit.
    let overhead = overhead.into_iter().filter(|(name, _)| limits.contains_key(name)).collect();
    add(&mut limits, overhead);
    for (name, amount) in limits.into_iter().filter(|(name, _)| is_native(name)) {
        amounts.insert(format!("limits.{name}"), amount);
    }
    amounts
}

/// What a container of the pod has by its status.
fn actual(pod: &Pod, container: &str, side: Side) -> Amounts {
    let status = pod.status.as_ref();
    let of_init = status.and_then(|status| status.init_container_statuses.as_ref());
    let mut all = status.and_then(|status| status.container_statuses.as_ref()).into_iter().chain(of_init).flatten();
    let Some(own) = all.find(|own| own.name == container) else { return Amounts::new() };
    let mut amounts = read(own.resources.as_ref().and_then(|resources| side.of(resources)));
    if side == Side::Requests {
        raise(&mut amounts, &read(own.allocated_resources.as_ref()));
    }
    amounts
}

/// Whether a limit of this name is on something that pods can use.
pub(super) fn can_use(limit: &str) -> bool {
    let base = limit.strip_prefix("requests.").or_else(|| limit.strip_prefix("limits.")).unwrap_or(limit);
    let is_extended = limit.starts_with("requests.") && base.contains('/') && !base.contains("kubernetes.io/");
    matches!(limit, "pods" | "count/pods") || is_native(base) || is_extended
}

/// What a quota makes every container say, for a reason that is history: cpu and memory.
const DEMANDED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// The limits that make containers say what they ask for, with the containers that do not.
pub fn missing<'a>(pod: &'a Pod, limits: &[&'a str]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let Some(spec) = &pod.spec else { return missing };
    let says = |resources: Option<&ResourceRequirements>, limit: &str| {
        let (side, name) = match limit.strip_prefix("limits.") {
            Some(name) => (Side::Limits, name),
            None => (Side::Requests, limit.strip_prefix("requests.").unwrap_or(limit)),
        };
        resources.and_then(|resources| side.of(resources)).is_some_and(|list| list.contains_key(name))
    };
    let demanded = limits.iter().filter(|limit| DEMANDED.contains(limit));
    for limit in demanded.filter(|limit| !says(spec.resources.as_ref(), limit)) {
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        for container in containers.filter(|container| !says(container.resources.as_ref(), limit)) {
            missing.entry(limit).or_default().insert(&container.name);
        }
    }
    missing
}
