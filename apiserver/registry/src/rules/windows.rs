//! Pods that say which operating system they are for, and Windows' host processes.

use crate::node::Node;

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

fn containers(spec: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    CONTAINERS.into_iter().flat_map(move |list| spec.get(list).items())
}

/// `os` of a pod, and what may not be set for it.
pub fn os(spec: Node<'_>) {
    let (os, name) = (spec.get("os"), spec.get("os").get("name"));
    if !os.is_set() {
        return;
    }
    match name.str() {
        "" => name.required("cannot be empty"),
        "linux" => linux(spec),
        "windows" => windows(spec),
        other => os.not_supported_value(other, &["linux", "windows"]),
    }
}

fn linux(spec: Node<'_>) {
    let contexts = containers(spec).map(|container| container.get("securityContext"));
    for context in std::iter::once(spec.get("securityContext")).chain(contexts) {
        if context.get("windowsOptions").is_set() {
            context.get("windowsOptions").forbidden("windows options cannot be set for a linux pod");
        }
    }
}

fn windows(spec: Node<'_>) {
    const OF_POD: [&str; 11] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    const OF_CONTAINER: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    let refuse = |field: Node<'_>| field.forbidden("cannot be set for a windows pod");
    for field in ["hostUsers", "shareProcessNamespace"] {
        if spec.get(field).is_set() {
            refuse(spec.get(field));
        }
    }
    for field in ["hostPID", "hostIPC"] {
        if spec.get(field).bool() {
            refuse(spec.get(field));
        }
    }
    let context = spec.get("securityContext");
    OF_POD.into_iter().map(|field| context.get(field)).filter(|field| field.is_set()).for_each(refuse);
    for container in containers(spec) {
        let context = container.get("securityContext");
        OF_CONTAINER.into_iter().map(|field| context.get(field)).filter(|field| field.is_set()).for_each(refuse);
    }
}

fn option(context: Node<'_>) -> Node<'_> {
    context.get("windowsOptions").get("hostProcess")
}

/// Containers that are processes of a Windows host: all of a pod's or none, and in the host's network.
pub fn host_process(spec: Node<'_>) {
    let of_pod = option(spec.get("securityContext"));
    let (mut all, mut of_host) = (0, 0);
    for container in containers(spec) {
        all += 1;
        let own = option(container.get("securityContext"));
        if own.is_set() && of_pod.is_set() && own.bool() != of_pod.bool() {
            own.invalid(format!(
                "pod hostProcess value must be identical if both are specified, was {}",
                of_pod.bool()
            ));
        }
        of_host += usize::from(if own.is_set() { own.bool() } else { of_pod.bool() });
    }
    if of_host == 0 {
        return;
    }
    if of_host != all {
        spec.invalid_value(
            "",
            "If pod contains any hostProcess containers then all containers must be HostProcess containers",
        );
    }
    if !spec.get("hostNetwork").bool() {
        spec.get("hostNetwork")
            .invalid_value(false, "hostNetwork must be true if pod contains any hostProcess containers");
    }
}
