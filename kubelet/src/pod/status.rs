//! The status of a pod, computed from what is observed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus, VolumeMount, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::condition::{self, whole_seconds};
use super::plan::ProbeView;
use super::resize::Pending;
use super::{Kind, qos};
use crate::runtime::{Container, PodView, State};

/// Why a container does not run, when the runtime cannot know.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// A pod that the kubelet itself ended, such as `Evicted` or `DeadlineExceeded`.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub reason: String,
    pub message: String,
    /// The pod is ended for the node's sake, not its own: it shows as a disruption.
    pub disrupts: bool,
}

impl Failure {
    /// A pod that failed by itself, or was never let in.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), disrupts: false }
    }
}

/// What the status is computed from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub pod: &'a Pod,
    pub view: &'a PodView,
    pub probes: &'a ProbeView,
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// The prefix of container ids: the runtime's name.
    pub runtime: &'a str,
    pub host_ips: &'a [String],
    pub failure: Option<&'a Failure>,
    /// The pod with the resources that it was given.
    pub given: &'a Pod,
    /// The containers that run with other resources.
    pub differing: &'a BTreeSet<String>,
    /// Why the pod has not the resources that it asks for.
    pub pending: Option<&'a Pending>,
    pub resize_error: Option<&'a str>,
    /// Nothing runs any more and nothing will.
    pub finished: bool,
    /// The status before this one.
    pub previous: &'a PodStatus,
    pub now: Timestamp,
}

/// Computes the status.
pub fn compute(input: Input<'_>) -> PodStatus {
    let spec = super::spec(input.pod);
    let of = |kind, container: &Spec| container_status(&input, kind, container);
    let init: Vec<ContainerStatus> =
        spec.init_containers.iter().flatten().map(|c| of(super::kind_of_init(c), c)).collect();
    let regular: Vec<ContainerStatus> = spec.containers.iter().map(|c| of(Kind::Regular, c)).collect();
    let ephemeral: Vec<ContainerStatus> =
        spec.ephemeral_containers.iter().flatten().map(|c| of(Kind::Ephemeral, &super::as_container(c))).collect();
    let phase = match input.failure {
        Some(_) => "Failed",
        None => phase(&input, &init, &regular),
    };
    let generation = input.pod.metadata.generation;
    let decided = conditions(&input, phase, &init, &regular);
    let previous = input.previous;
    let (pod_ip, pod_ips) = addresses(&input);
    // A pod that was never let in has no containers to tell of.
    let refused = input.failure.is_some() && input.view.sandboxes.is_empty() && input.view.containers.is_empty();
    let some = |list: Vec<ContainerStatus>| (!list.is_empty() && !refused).then_some(list);
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(condition::merge(
            previous.conditions.as_deref().unwrap_or_default(),
            decided,
            generation,
            input.now,
        )),
        init_container_statuses: some(init),
        container_statuses: some(regular),
        ephemeral_container_statuses: some(ephemeral),
        host_ip: input.host_ips.first().cloned(),
        host_ips: Some(input.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip,
        pod_ips,
        message: input.failure.map(|failure| failure.message.clone()),
        reason: input.failure.map(|failure| failure.reason.clone()),
        qos_class: previous.qos_class.clone().or_else(|| Some(qos::class(input.pod).name().to_owned())),
        start_time: previous.start_time.clone().or(Some(Time(whole_seconds(input.now)))),
        observed_generation: generation,
        nominated_node_name: previous.nominated_node_name.clone(),
        resource_claim_statuses: previous.resource_claim_statuses.clone(),
        ..Default::default()
    }
}

fn addresses(input: &Input<'_>) -> (Option<String>, Option<Vec<PodIP>>) {
    let sandbox = input.view.sandboxes.first();
    let ips: Vec<String> = if super::host_network(input.pod) {
        if sandbox.is_some() { input.host_ips.to_vec() } else { Vec::new() }
    } else {
        sandbox.map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    };
    if ips.is_empty() {
        // A pod that has ended keeps the addresses it had.
        return (input.previous.pod_ip.clone(), input.previous.pod_ips.clone());
    }
    (ips.first().cloned(), Some(ips.into_iter().map(|ip| PodIP { ip }).collect()))
}

fn time(at: Timestamp) -> Time {
    Time(whole_seconds(at))
}

fn terminated(container: &Container, runtime: &str) -> ContainerState {
    let reason = match container.reason.as_str() {
        "" if container.exit_code == 0 => "Completed",
        "" => "Error",
        reason => reason,
    };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("{runtime}://{}", container.id)),
            exit_code: container.exit_code,
            reason: Some(reason.to_owned()),
            message: (!container.message.is_empty()).then(|| container.message.clone()),
            started_at: container.started_at.map(time),
            finished_at: container.finished_at.map(time),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..Default::default()
    }
}

fn container_status(input: &Input<'_>, kind: Kind, spec: &Spec) -> ContainerStatus {
    let mut all = input.view.containers.iter().filter(|container| container.name == spec.name);
    let current = all.next();
    let last_dead = all.find(|container| container.state == State::Exited);
    let why = input.waiting.get(&spec.name);
    let mut status = ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        volume_mounts: volume_mounts(spec),
        last_state: Some(last_dead.map(|dead| terminated(dead, input.runtime)).unwrap_or_default()),
        ..Default::default()
    };
    let Some(current) = current else {
        return never_created(input, kind, status, why);
    };
    status.container_id = Some(format!("{}://{}", input.runtime, current.id));
    status.image = if current.image.is_empty() { status.image } else { current.image.clone() };
    status.image_id.clone_from(&current.image_id);
    status.restart_count = i32::try_from(current.attempt).unwrap_or(i32::MAX);
    tell_resources(input, spec, &mut status);
    match current.state {
        State::Running | State::Unknown => running(input, kind, spec, current, &mut status),
        State::Created => {
            status.state = Some(waiting(why.map_or("ContainerCreating", |w| &w.reason), why.map_or("", |w| &w.message)))
        }
        State::Exited => match why {
            Some(why) if !input.finished => {
                status.state = Some(waiting(&why.reason, &why.message));
                status.last_state = Some(terminated(current, input.runtime));
            }
            _ => status.state = Some(terminated(current, input.runtime)),
        },
    }
    status.started.get_or_insert(false);
    if kind == Kind::Init {
        status.ready = current.state == State::Exited && current.exit_code == 0;
    }
    status
}

/// The resources in force, and those that the container was given. Where they differ, those before are still in force.
fn tell_resources(input: &Input<'_>, spec: &Spec, status: &mut ContainerStatus) {
    let given = super::container(input.given, &spec.name).and_then(|(_, container)| container.resources.clone());
    status.allocated_resources = given.as_ref().and_then(|given| given.requests.clone());
    let lists = [&input.previous.container_statuses, &input.previous.init_container_statuses];
    let before = lists.into_iter().flatten().flatten().find(|old| old.name == spec.name);
    status.resources = match before.filter(|_| input.differing.contains(&spec.name)) {
        Some(before) => before.resources.clone(),
        None => given,
    };
}

fn volume_mounts(spec: &Spec) -> Option<Vec<VolumeMountStatus>> {
    let of = |mount: &VolumeMount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: mount.recursive_read_only.as_ref().map(|_| "Disabled".to_owned()),
        ..Default::default()
    };
    spec.volume_mounts.as_ref().map(|mounts| mounts.iter().map(of).collect())
}

fn running(input: &Input<'_>, kind: Kind, spec: &Spec, current: &Container, status: &mut ContainerStatus) {
    let since = current.started_at.unwrap_or(current.created_at);
    status.state = Some(ContainerState {
        running: Some(ContainerStateRunning { started_at: Some(time(since)) }),
        ..Default::default()
    });
    let started = input.probes.started.get(&current.id).copied().unwrap_or(spec.startup_probe.is_none());
    let ready = input.probes.ready.get(&current.id).copied().unwrap_or(spec.readiness_probe.is_none());
    status.started = Some(started);
    status.ready = kind != Kind::Ephemeral && kind != Kind::Init && started && ready;
}

fn never_created(input: &Input<'_>, kind: Kind, mut status: ContainerStatus, why: Option<&Waiting>) -> ContainerStatus {
    // Containers that were collected are remembered by the status that told of them.
    let lists = [&input.previous.container_statuses, &input.previous.init_container_statuses];
    let before = lists.into_iter().flatten().flatten().find(|old| old.name == status.name);
    if let Some(before) = before.filter(|old| old.state.as_ref().is_some_and(|state| state.terminated.is_some())) {
        return before.clone();
    }
    status.started = Some(false);
    status.state = Some(match why {
        Some(why) => waiting(&why.reason, &why.message),
        None if kind == Kind::Regular
            && super::spec(input.pod).init_containers.as_ref().is_some_and(|c| !c.is_empty()) =>
        {
            waiting("PodInitializing", "")
        }
        None if matches!(kind, Kind::Init | Kind::Sidecar) => waiting("PodInitializing", ""),
        None => waiting("ContainerCreating", ""),
    });
    if let Some(before) = before {
        status.restart_count = before.restart_count;
    }
    status
}

fn exit_code(state: Option<&ContainerState>) -> Option<i32> {
    Some(state?.terminated.as_ref()?.exit_code)
}

fn phase(input: &Input<'_>, init: &[ContainerStatus], regular: &[ContainerStatus]) -> &'static str {
    let policy = super::restart_policy(input.pod);
    let (mut pending_init, mut failed_init) = (false, false);
    for (status, spec) in init.iter().zip(super::spec(input.pod).init_containers.iter().flatten()) {
        if super::kind_of_init(spec) == Kind::Sidecar {
            let ran = exit_code(status.state.as_ref()).is_some() || exit_code(status.last_state.as_ref()).is_some();
            pending_init |= status.started != Some(true) && !ran;
            continue;
        }
        match (exit_code(status.state.as_ref()), exit_code(status.last_state.as_ref())) {
            (Some(0), _) => {}
            (Some(_), _) => failed_init = true,
            (None, Some(code)) if code != 0 && status.state.as_ref().is_some_and(|s| s.waiting.is_some()) => {
                failed_init = true
            }
            _ => pending_init = true,
        }
    }
    let count = |of: &dyn Fn(&ContainerStatus) -> bool| regular.iter().filter(|status| of(status)).count();
    let is_running = |s: &ContainerStatus| s.state.as_ref().is_some_and(|state| state.running.is_some());
    let ended = |s: &ContainerStatus| {
        exit_code(s.state.as_ref()).or_else(|| {
            s.state.as_ref()?.waiting.as_ref()?;
            exit_code(s.last_state.as_ref())
        })
    };
    let waiting = count(&|s| !is_running(s) && ended(s).is_none());
    let running = count(&is_running);
    let stopped = count(&|s| ended(s).is_some());
    let succeeded = count(&|s| exit_code(s.state.as_ref()) == Some(0));
    match () {
        () if failed_init && policy == "Never" => "Failed",
        // A pod whose containers have run before is past its initialization, even if it goes through it again.
        () if (pending_init || failed_init) && running + stopped == 0 => "Pending",
        () if pending_init && input.previous.phase.as_deref() != Some("Running") && running + stopped == 0 => "Pending",
        () if waiting > 0 && input.finished && stopped > 0 => "Failed",
        () if waiting > 0 => "Pending",
        () if running > 0 => "Running",
        () if stopped > 0 && policy == "Always" && !input.finished => "Running",
        () if stopped > 0 && stopped == succeeded => "Succeeded",
        () if stopped > 0 && (policy == "Never" || input.finished) => "Failed",
        () if stopped > 0 => "Running",
        () => "Pending",
    }
}

fn conditions(
    input: &Input<'_>,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> Vec<PodCondition> {
    let sandbox = input.view.ready_sandbox().is_some_and(|s| !s.ips.is_empty() || super::host_network(input.pod));
    let initialized = initialized(input, phase, init, regular);
    let containers = containers_ready(input, phase, init, regular);
    let ready = pod_ready(input, &containers);
    let mut all = vec![
        condition::new("PodReadyToStartContainers", sandbox, None, None),
        initialized,
        ready,
        containers,
        condition::new("PodScheduled", true, None, None),
    ];
    if let Some(failure) = input.failure.filter(|failure| failure.disrupts) {
        let (reason, message) = (condition::TERMINATION_BY_KUBELET, Some(failure.message.clone()));
        all.push(condition::new("DisruptionTarget", true, Some(reason), message));
    }
    all.extend(resize_conditions(input));
    all
}

fn resize_conditions(input: &Input<'_>) -> impl Iterator<Item = PodCondition> {
    let pending = input.pending.map(|pending| {
        let (reason, message) = match pending {
            Pending::Deferred(message) => ("Deferred", message),
            Pending::Infeasible(message) => ("Infeasible", message),
        };
        condition::new(condition::RESIZE_PENDING, true, Some(reason), Some(message.clone()))
    });
    let going = (!input.differing.is_empty()).then(|| {
        let error = input.resize_error.map(str::to_owned);
        condition::new(condition::RESIZE_IN_PROGRESS, true, error.as_ref().map(|_| "Error"), error)
    });
    pending.into_iter().chain(going)
}

fn initialized(input: &Input<'_>, phase: &str, init: &[ContainerStatus], regular: &[ContainerStatus]) -> PodCondition {
    if phase == "Succeeded" {
        return condition::new("Initialized", true, Some("PodCompleted"), None);
    }
    let specs = super::spec(input.pod).init_containers.iter().flatten();
    let open: Vec<&str> = init
        .iter()
        .zip(specs)
        .filter(|(status, spec)| match super::kind_of_init(spec) {
            Kind::Sidecar => status.started != Some(true),
            _ => !status.ready,
        })
        .map(|(status, _)| status.name.as_str())
        .collect();
    let past = regular.iter().any(|s| s.container_id.is_some());
    if open.is_empty() || past {
        return condition::new("Initialized", true, None, None);
    }
    let message = format!("containers with incomplete status: [{}]", open.join(" "));
    condition::new("Initialized", false, Some("ContainersNotInitialized"), Some(message))
}

fn containers_ready(
    input: &Input<'_>,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> PodCondition {
    match phase {
        "Succeeded" => return condition::new("ContainersReady", false, Some("PodCompleted"), None),
        "Failed" => return condition::new("ContainersReady", false, Some("PodFailed"), None),
        _ => {}
    }
    let sidecars = init
        .iter()
        .zip(super::spec(input.pod).init_containers.iter().flatten())
        .filter(|(_, spec)| super::kind_of_init(spec) == Kind::Sidecar)
        .map(|(status, _)| status);
    let unready: Vec<&str> =
        sidecars.chain(regular).filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    if unready.is_empty() {
        return condition::new("ContainersReady", true, None, None);
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    condition::new("ContainersReady", false, Some("ContainersNotReady"), Some(message))
}

fn pod_ready(input: &Input<'_>, containers: &PodCondition) -> PodCondition {
    let mut ready = PodCondition { type_: "Ready".into(), ..containers.clone() };
    if containers.status != "True" {
        return ready;
    }
    let set = input.previous.conditions.as_deref().unwrap_or_default();
    let missing: Vec<String> = super::spec(input.pod)
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| match set.iter().find(|condition| condition.type_ == gate.condition_type) {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(condition) if condition.status != "True" => Some(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, condition.status
            )),
            Some(_) => None,
        })
        .collect();
    if !missing.is_empty() {
        ready = condition::new("Ready", false, Some("ReadinessGatesNotReady"), Some(missing.join(", ")));
    }
    ready
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
