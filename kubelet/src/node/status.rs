//! The node's status from what is observed. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proto::cri as api;

use super::facts::{self, Machine};
use crate::config::KubeletConfiguration;
use crate::eviction::Pressure;

/// What is observed of the node.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    pub machine: &'a Machine,
    pub name: &'a str,
    pub ips: &'a [String],
    pub info: &'a NodeSystemInfo,
    pub images: &'a [ContainerImage],
    /// Why the node is not ready, if it is not.
    pub problems: &'a [String],
    /// What the runtime says of itself, if it answers.
    pub runtime: Option<&'a api::StatusResponse>,
    pub pressures: &'a BTreeSet<Pressure>,
    pub now: Timestamp,
}

/// Why pods cannot run, from what the runtime says of itself.
pub fn problems(status: Result<&api::StatusResponse, String>) -> Vec<String> {
    let conditions = match status {
        Ok(status) => status.status.as_ref().map_or(&[][..], |status| &status.conditions),
        Err(error) => return vec![format!("container runtime is down: {error}")],
    };
    let not = |condition: &&api::RuntimeCondition| {
        matches!(condition.r#type.as_str(), "RuntimeReady" | "NetworkReady") && !condition.status
    };
    let text = |condition: &api::RuntimeCondition| {
        let what = if condition.r#type == "NetworkReady" {
            "container runtime network not ready"
        } else {
            "container runtime status check may not have completed yet"
        };
        format!("{what}: {}=false reason:{} message:{}", condition.r#type, condition.reason, condition.message)
    };
    conditions.iter().filter(not).map(text).collect()
}

/// Whether the runtime can keep a pod's processes out of groups that only the image names.
pub fn strict_groups(status: &api::StatusResponse) -> bool {
    status.features.as_ref().is_some_and(|features| features.supplemental_groups_policy)
}

fn handlers(status: &api::StatusResponse) -> Option<Vec<NodeRuntimeHandler>> {
    let of = |handler: &api::RuntimeHandler| {
        let features = handler.features.unwrap_or_default();
        NodeRuntimeHandler {
            name: Some(handler.name.clone()),
            features: Some(NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
        }
    };
    (!status.runtime_handlers.is_empty()).then(|| status.runtime_handlers.iter().map(of).collect())
}

/// The names and sizes of images, largest first.
pub fn images(mut images: Vec<api::Image>, most: i32) -> Vec<ContainerImage> {
    images.sort_by_key(|image| std::cmp::Reverse(image.size));
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let names = |image: &api::Image| image.repo_digests.iter().chain(&image.repo_tags).take(5).cloned().collect();
    images
        .iter()
        .take(most)
        .map(|image| ContainerImage { names: Some(names(image)), size_bytes: i64::try_from(image.size).ok() })
        .collect()
}

/// The status, with conditions that keep the time of their last change.
pub fn compute(observed: &Observed<'_>, config: &KubeletConfiguration, previous: &NodeStatus) -> NodeStatus {
    let (capacity, allocatable) = facts::resources(observed.machine, config);
    let internal = |ip: &String| NodeAddress { type_: "InternalIP".into(), address: ip.clone() };
    let mut addresses: Vec<NodeAddress> = observed.ips.iter().map(internal).collect();
    addresses.push(NodeAddress { type_: "Hostname".into(), address: observed.name.to_owned() });
    NodeStatus {
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        addresses: Some(addresses),
        conditions: Some(conditions(observed, previous.conditions.as_deref().unwrap_or_default())),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.port) }),
        }),
        images: Some(observed.images.to_vec()),
        node_info: Some(observed.info.clone()),
        runtime_handlers: observed.runtime.and_then(handlers),
        features: observed
            .runtime
            .filter(|runtime| runtime.features.is_some())
            .map(|runtime| NodeFeatures { supplemental_groups_policy: Some(strict_groups(runtime)) }),
        ..Default::default()
    }
}

fn conditions(observed: &Observed<'_>, previous: &[NodeCondition]) -> Vec<NodeCondition> {
    let ready = observed.problems.is_empty();
    let decided = [
        (Pressure::Memory, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", "memory"),
        (Pressure::Disk, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", ""),
        (Pressure::Pid, "KubeletHasInsufficientPID", "KubeletHasSufficientPID", "PID"),
    ];
    let mut conditions: Vec<NodeCondition> = decided
        .into_iter()
        .map(|(pressure, reason_on, reason_off, what)| {
            let on = observed.pressures.contains(&pressure);
            let message = match (what, on) {
                ("", true) => "kubelet has disk pressure".to_owned(),
                ("", false) => "kubelet has no disk pressure".to_owned(),
                (what, true) => format!("kubelet has insufficient {what} available"),
                (what, false) => format!("kubelet has sufficient {what} available"),
            };
            let reason = if on { reason_on } else { reason_off };
            condition(observed.now, previous, pressure.condition(), on, reason, message)
        })
        .collect();
    let (reason, message) = match ready {
        true => ("KubeletReady", "kubelet is posting ready status".to_owned()),
        false => ("KubeletNotReady", format!("[{}]", observed.problems.join(", "))),
    };
    conditions.push(condition(observed.now, previous, "Ready", ready, reason, message));
    conditions
}

fn condition(
    now: Timestamp,
    previous: &[NodeCondition],
    kind: &str,
    on: bool,
    reason: &str,
    message: String,
) -> NodeCondition {
    let now = Time(crate::pod::condition::whole_seconds(now));
    let status = if on { "True" } else { "False" };
    let before = previous.iter().find(|old| old.type_ == kind && old.status == status);
    NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: before.and_then(|old| old.last_transition_time.clone()).or(Some(now)),
    }
}

/// Whether two statuses differ in more than their heartbeats.
pub fn changed(a: &NodeStatus, b: &NodeStatus) -> bool {
    let quiet = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    quiet(a) != quiet(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_not_ready_makes_the_node_not_ready_and_says_why() {
        let conditions = vec![
            api::RuntimeCondition { r#type: "RuntimeReady".into(), status: true, ..Default::default() },
            api::RuntimeCondition {
                r#type: "NetworkReady".into(),
                status: false,
                reason: "NetworkPluginNotReady".into(),
                message: "cni".into(),
            },
        ];
        let status = Some(api::RuntimeStatus { conditions });
        let runtime = api::StatusResponse { status, ..Default::default() };
        let problems = problems(Ok(&runtime));
        assert_eq!(
            problems,
            ["container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:cni"]
        );
        let (machine, info) = (Machine::default(), NodeSystemInfo::default());
        let observed = Observed {
            machine: &machine,
            name: "n",
            ips: &["10.0.0.1".to_owned()],
            info: &info,
            images: &[],
            problems: &problems,
            runtime: Some(&runtime),
            pressures: &[Pressure::Pid].into(),
            now: Timestamp::from_second(10).unwrap(),
        };
        let config = KubeletConfiguration::default();
        let first = compute(&observed, &config, &NodeStatus::default());
        let ready = first.conditions.as_ref().unwrap().iter().find(|c| c.type_ == "Ready").unwrap().clone();
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("KubeletNotReady")));
        let told =
            |kind: &str| first.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap().message.clone().unwrap();
        assert_eq!(told("PIDPressure"), "kubelet has insufficient PID available");
        assert_eq!(told("MemoryPressure"), "kubelet has sufficient memory available");
        let later =
            compute(&Observed { now: Timestamp::from_second(99).unwrap(), ..observed.clone() }, &config, &first);
        assert!(!changed(&first, &later), "a heartbeat is no change");
        let up =
            compute(&Observed { problems: &[], now: Timestamp::from_second(99).unwrap(), ..observed }, &config, &first);
        let ready = up.conditions.as_ref().unwrap().iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(ready.last_transition_time, Some(Time(Timestamp::from_second(99).unwrap())));
    }
}
