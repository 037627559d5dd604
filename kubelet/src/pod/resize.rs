//! Changing the resources of containers that run (KEP-1287): what a pod wants, what the node gave it, and whether it may have more. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use proto::cri as api;

use super::{Kind, kind_of_init, qos};
use crate::quantity;

/// The resources of containers, by name.
pub type Resources = BTreeMap<String, ResourceRequirements>;

/// Why a pod does not have the resources that it wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Pending {
    /// There is not enough now.
    Deferred(String),
    /// There never will be on this node.
    Infeasible(String),
}

fn is_resizable(container: &Container) -> bool {
    kind_of_init(container) == Kind::Sidecar
}

fn resizable(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = super::spec(pod);
    spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(|container| is_resizable(container)))
}

/// What the pod's object asks for.
pub fn wanted(pod: &Pod) -> Resources {
    resizable(pod).map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default())).collect()
}

/// The pod as if its object asked for what it was given.
pub fn with(pod: &Pod, given: &Resources) -> Pod {
    let mut pod = pod.clone();
    let Some(spec) = &mut pod.spec else { return pod };
    let sidecars = spec.init_containers.iter_mut().flatten().filter(|container| is_resizable(container));
    for container in spec.containers.iter_mut().chain(sidecars) {
        if let Some(resources) = given.get(&container.name) {
            container.resources = Some(resources.clone());
        }
    }
    pod
}

/// Whether the pod may have what it wants beside others, on a node that has that much for all pods.
pub fn decide(pod: &Pod, others: &[impl AsRef<Pod>], allocatable: &BTreeMap<String, Quantity>) -> Result<(), Pending> {
    if super::is_static(pod) {
        return Err(Pending::Infeasible("In-place resize of static-pods is not supported".into()));
    }
    for resource in ["cpu", "memory"] {
        let measure = if resource == "cpu" { quantity::millis } else { quantity::value };
        let of = |container: &Container, resource: &str| qos::request(container, resource).and_then(measure);
        let total = |pod: &Pod| qos::pod_total(pod, resource, of, false).unwrap_or(0);
        let Some(capacity) = allocatable.get(resource).and_then(measure) else { continue };
        let requested = total(pod);
        if requested > capacity {
            let message =
                format!("Node didn't have enough capacity: {resource}, requested: {requested}, capacity: {capacity}");
            return Err(Pending::Infeasible(message));
        }
        let used: i64 = others.iter().map(|other| total(other.as_ref())).sum();
        if requested > capacity - used {
            let message = format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            return Err(Pending::Deferred(message));
        }
    }
    Ok(())
}

/// What of a container's resources is not as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub cpu: bool,
    pub memory: bool,
}

impl Difference {
    /// Between what the runtime has applied and what is wanted. A value that the runtime does not tell counts as right.
    pub fn between(applied: &api::LinuxContainerResources, wanted: &api::LinuxContainerResources) -> Self {
        let differs = |applied: i64, wanted: i64| applied != 0 && applied != wanted;
        // A quota of none is written in two ways.
        let quota = |resources: &api::LinuxContainerResources| resources.cpu_quota.max(0);
        Self {
            cpu: differs(applied.cpu_shares, wanted.cpu_shares) || quota(applied) != quota(wanted),
            memory: applied.memory_limit_in_bytes.max(0) != wanted.memory_limit_in_bytes,
        }
    }

    pub fn any(self) -> bool {
        self.cpu || self.memory
    }

    /// Whether the container has to be started again for it.
    pub fn restarts(self, container: &Container) -> bool {
        container.resize_policy.iter().flatten().any(|policy| {
            policy.restart_policy == "RestartContainer"
                && match policy.resource_name.as_str() {
                    "cpu" => self.cpu,
                    "memory" => self.memory,
                    _ => false,
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str, memory: &str) -> Pod {
        serde_json::from_value(json!({"spec": {
            "initContainers": [
                {"name": "i", "resources": {"requests": {"cpu": "1m"}}},
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
            ],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}],
        }}))
        .unwrap()
    }

    #[test]
    fn what_was_given_stands_in_for_what_is_asked() {
        let (given, asked) = (pod("1", "1Gi"), pod("2", "2Gi"));
        let resources = wanted(&given);
        assert_eq!(resources.keys().collect::<Vec<_>>(), ["c", "s"]);
        assert_eq!(with(&asked, &resources), given);
        assert_ne!(wanted(&asked), resources);
    }

    #[test]
    fn more_is_given_where_it_is_left() {
        let allocatable = [("cpu", "4"), ("memory", "4Gi")].map(|(k, v)| (k.to_owned(), Quantity(v.into()))).into();
        let other = [Box::new(pod("2", "1Gi"))];
        assert_eq!(decide(&pod("1", "3Gi"), &other, &allocatable), Ok(()));
        assert!(
            matches!(decide(&pod("2", "1Gi"), &other, &allocatable), Err(Pending::Deferred(text)) if text.contains("cpu"))
        );
        assert!(
            matches!(decide(&pod("1", "5Gi"), &other, &allocatable), Err(Pending::Infeasible(text)) if text.contains("memory"))
        );
    }

    #[test]
    fn differences_restart_only_where_the_policy_says_so() {
        let linux = |cpu_shares, cpu_quota, memory_limit_in_bytes| api::LinuxContainerResources {
            cpu_shares,
            cpu_quota,
            memory_limit_in_bytes,
            ..Default::default()
        };
        let difference = Difference::between(&linux(102, 10_000, 64), &linux(204, 10_000, 128));
        assert_eq!(difference, Difference { cpu: true, memory: true });
        assert!(!Difference::between(&linux(0, -1, 64), &linux(2, 0, 64)).any());
        let container =
            |policy: serde_json::Value| serde_json::from_value(json!({"name": "c", "resizePolicy": policy})).unwrap();
        let memory = container(json!([
            {"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "memory", "restartPolicy": "RestartContainer"},
        ]));
        assert!(difference.restarts(&memory));
        assert!(!Difference { cpu: true, memory: false }.restarts(&memory));
        assert!(!difference.restarts(&container(json!([]))));
    }
}
