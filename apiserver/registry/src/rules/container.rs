//! Containers of every sort: regular, init, ephemeral.

use apimachinery::names;
use serde_json::Value;

use crate::node::Node;
use crate::rules::{env, probe, resources, security, volume};

/// What the containers of one pod are held against.
pub struct Scope<'a> {
    pub volumes: Vec<(&'a str, &'a Value)>,
    pub claim_names: Vec<&'a str>,
    pub host_users: bool,
    /// `terminationGracePeriodSeconds`.
    pub grace: Option<i64>,
    pub restart_policy: &'a str,
    /// Whether this is a pod's spec, not a template's.
    pub is_pod: bool,
}

/// `containers`, `initContainers` and `ephemeralContainers` of a pod spec.
pub fn all<'a>(spec: Node<'a>, scope: &Scope<'a>) {
    let (regular, init) = (spec.get("containers"), spec.get("initContainers"));
    if regular.is_empty() {
        regular.required("");
    }
    let mut names: Vec<&str> = Vec::new();
    for container in regular.items() {
        self::regular(container, scope);
        unique_name(container, &mut names);
    }
    host_port_conflicts(regular.items());
    for container in init.items() {
        self::init(container, scope);
        // Nameless ones are namesakes of a nameless container only.
        if !container.get("name").is_empty() || names.contains(&"") {
            unique_name(container, &mut names);
        }
        host_port_conflicts(std::iter::once(container));
    }
    for container in spec.get("ephemeralContainers").items() {
        ephemeral(container, scope, spec);
        unique_name(container, &mut names);
    }
}

fn unique_name<'a>(container: Node<'a>, names: &mut Vec<&'a str>) {
    let name = container.get("name");
    if names.contains(&name.str()) {
        name.duplicate();
    } else {
        names.push(name.str());
    }
}

fn regular<'a>(container: Node<'a>, scope: &Scope<'a>) {
    common(container, scope);
    if scope.is_pod {
        trimmed_image(container.get("image"));
    }
    probe::lifecycle(container.get("lifecycle"), scope.grace);
    probe::of_container(container);
    restart_policy(container, &["Always", "OnFailure", "Never"]);
}

fn init<'a>(container: Node<'a>, scope: &Scope<'a>) {
    common(container, scope);
    if scope.is_pod {
        trimmed_image(container.get("image"));
    }
    restart_policy(container, &["Always", "OnFailure", "Never"]);
    if container.get("restartPolicy").str() == "Always" {
        probe::lifecycle(container.get("lifecycle"), scope.grace);
        probe::of_container(container);
        return;
    }
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if container.get(field).is_set() {
            container.get(field).forbidden("may not be set for init containers without restartPolicy=Always");
        }
    }
}

fn ephemeral<'a>(container: Node<'a>, scope: &Scope<'a>, spec: Node<'a>) {
    common(container, scope);
    trimmed_image(container.get("image"));
    let target = container.get("targetContainerName");
    let known = ["containers", "initContainers"]
        .iter()
        .any(|list| spec.get(list).items().any(|c| c.get("name").str() == target.str()));
    if !target.is_empty() && !known {
        target.not_found();
    }
    for field in [
        "ports",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
    ] {
        if !container.get(field).is_empty() {
            container.get(field).forbidden("cannot be set for an Ephemeral Container");
        }
    }
    for mount in container.get("volumeMounts").items() {
        for field in ["subPath", "subPathExpr"] {
            if !mount.get(field).is_empty() {
                mount.get(field).forbidden("cannot be set for an Ephemeral Container");
            }
        }
    }
}

fn restart_policy(container: Node<'_>, allowed: &[&str]) {
    let (policy, rules) = (container.get("restartPolicy"), container.get("restartPolicyRules"));
    policy.one_of_if_set(allowed);
    if rules.is_empty() {
        return;
    }
    if !policy.is_set() {
        policy.required("must specify restartPolicy when restart rules are used");
    }
    rules.at_most(20);
    for rule in rules.items() {
        rule.get("action").one_of(&["Restart", "RestartAllContainers"]);
        let codes = rule.get("exitCodes");
        if codes.is_set() {
            codes.get("operator").one_of(&["In", "NotIn"]);
            codes.get("values").at_most(255);
        } else {
            codes.required("must be specified");
        }
    }
}

fn common<'a>(container: Node<'a>, scope: &Scope<'a>) {
    container.get("name").need_check(names::dns1123_label);
    container.get("image").need();
    container.get("terminationMessagePolicy").need_one_of(&["File", "FallbackToLogsOnError"]);
    container.get("imagePullPolicy").need_one_of(&["Always", "IfNotPresent", "Never"]);
    ports(container.get("ports"));
    env::env(container.get("env"));
    env::env_from(container.get("envFrom"));
    mounts(container, scope);
    devices(container, scope);
    resources::requirements(container.get("resources"));
    claims(container.get("resources").get("claims"), scope);
    resize_policy(container.get("resizePolicy"), scope.restart_policy);
    security::of_container(container.get("securityContext"), scope.host_users);
}

/// Templates may have spaces around an image, for controllers that put one in their place.
pub fn trimmed_image(image: Node<'_>) {
    if image.str().trim() != image.str() {
        image.invalid("must not have leading or trailing whitespace");
    }
}

/// A container's claims are among those of its pod; none is named twice, whole or in part.
fn claims(claims: Node<'_>, scope: &Scope<'_>) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for claim in claims.items() {
        let (name, request) = (claim.get("name").str(), claim.get("request"));
        if name.is_empty() {
            claim.required("");
            continue;
        }
        let whole = seen.contains(&(name, ""));
        if whole {
            claim.duplicate();
        } else {
            request.check_if_set(names::dns1123_label);
            let overlaps = seen.iter().any(|(n, r)| *n == name && (*r == request.str() || request.is_empty()));
            if overlaps {
                claim.duplicate();
            }
            seen.push((name, request.str()));
        }
        if !scope.claim_names.contains(&name) {
            claim.not_found();
        }
    }
}

/// What is wrong with a policy is reported at the list.
fn resize_policy(list: Node<'_>, restart: &str) {
    let mut seen: Vec<&str> = Vec::new();
    let word = |value: Node<'_>, words: &[&str]| {
        if value.is_empty() {
            list.required("");
        } else if !words.contains(&value.str()) {
            list.with(value.value).not_supported(words);
        }
    };
    for policy in list.items() {
        let (resource, on_resize) = (policy.get("resourceName"), policy.get("restartPolicy"));
        if seen.contains(&resource.str()) {
            policy.duplicate();
        }
        seen.push(resource.str());
        word(resource, &["cpu", "memory"]);
        word(on_resize, &["NotRequired", "RestartContainer"]);
        if restart == "Never" && on_resize.str() != "NotRequired" {
            list.with(on_resize.value).invalid("must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}

fn ports(list: Node<'_>) {
    let mut names: Vec<&str> = Vec::new();
    for port in list.items() {
        let name = port.get("name");
        if !name.is_empty() {
            if !names::port_name(name.str()).is_empty() {
                name.check(names::port_name);
            } else if names.contains(&name.str()) {
                name.duplicate();
            } else {
                names.push(name.str());
            }
        }
        let (inside, outside) = (port.get("containerPort"), port.get("hostPort"));
        if inside.int() == 0 {
            inside.required("");
        } else {
            probe::port_number(inside);
        }
        if outside.int() != 0 {
            probe::port_number(outside);
        }
        port.get("protocol").need_one_of(&["TCP", "UDP", "SCTP"]);
    }
}

/// In the host's network a container's port is the host's. A template may leave the host's out.
pub fn host_network_ports(containers: Node<'_>, is_pod: bool) {
    for container in containers.items() {
        for port in container.get("ports").items() {
            let (inside, outside) = (port.get("containerPort").int(), port.get("hostPort"));
            if (is_pod || outside.int() != 0) && outside.int() != inside {
                outside.invalid_value(outside.int(), "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn host_port_conflicts<'a>(containers: impl Iterator<Item = Node<'a>>) {
    let mut seen: Vec<(&str, &str, i64)> = Vec::new();
    for container in containers {
        for port in container.get("ports").items() {
            let host = port.get("hostPort");
            if host.int() == 0 {
                continue;
            }
            let key = (port.get("protocol").str(), port.get("hostIP").str(), host.int());
            if seen.contains(&key) {
                host.duplicate();
            } else {
                seen.push(key);
            }
        }
    }
}

/// What is wrong with the way in which a volume is mounted is reported at the list.
fn mounts<'a>(container: Node<'a>, scope: &Scope<'a>) {
    let (list, devices) = (container.get("volumeMounts"), container.get("volumeDevices"));
    let device = |field: &'static str, value: &str| devices.items().any(|d| d.get(field).str() == value);
    let mut paths: Vec<&str> = Vec::new();
    for mount in list.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        name.need();
        if !scope.volumes.iter().any(|(n, _)| *n == name.str()) {
            name.not_found();
        }
        path.need();
        if paths.contains(&path.str()) {
            path.invalid("must be unique");
        }
        paths.push(path.str());
        if device("name", name.str()) {
            name.invalid("must not already exist in volumeDevices");
        }
        if device("devicePath", path.str()) {
            path.invalid("must not already exist as a path in volumeDevices");
        }
        sub_path(list, mount);
        propagation(list, mount, container);
        recursive_read_only(list, mount);
    }
}

fn sub_path(list: Node<'_>, mount: Node<'_>) {
    let (sub, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
    if !sub.is_empty() {
        volume::local_descending_path(list.get("subPath").with(sub.value));
    }
    if !expression.is_empty() {
        if !sub.is_empty() {
            expression.invalid("subPathExpr and subPath are mutually exclusive");
        }
        volume::local_descending_path(list.get("subPathExpr").with(expression.value));
    }
}

fn propagation(list: Node<'_>, mount: Node<'_>, container: Node<'_>) {
    let mode = list.get("mountPropagation").with(mount.get("mountPropagation").value);
    mode.one_of_if_set(&["Bidirectional", "HostToContainer", "None"]);
    if mode.str() == "Bidirectional" && !container.get("securityContext").get("privileged").bool() {
        mode.forbidden("Bidirectional mount propagation is available only to privileged containers");
    }
}

fn recursive_read_only(list: Node<'_>, mount: Node<'_>) {
    let mode = list.get("recursiveReadOnly").with(mount.get("recursiveReadOnly").value);
    if !mode.is_set() {
        return;
    }
    mode.one_of(&["Disabled", "IfPossible", "Enabled"]);
    if matches!(mode.str(), "IfPossible" | "Enabled") {
        if !mount.get("readOnly").bool() {
            mode.forbidden("may only be specified when readOnly is true");
        }
        let propagation = mount.get("mountPropagation");
        if propagation.is_set() && propagation.str() != "None" {
            mode.forbidden("may only be specified when mountPropagation is None or not specified");
        }
    }
}

fn devices<'a>(container: Node<'a>, scope: &Scope<'a>) {
    let mounts = container.get("volumeMounts");
    let mounted = |field: &'static str, value: &str| mounts.items().any(|m| m.get(field).str() == value);
    let (mut names, mut paths): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for device in container.get("volumeDevices").items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        name.need();
        if names.contains(&name.str()) {
            name.invalid("must be unique");
        }
        match scope.volumes.iter().find(|(n, _)| *n == name.str()) {
            None => name.not_found(),
            Some((_, v)) if v["persistentVolumeClaim"].is_null() && v["ephemeral"].is_null() => {
                name.invalid("can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode");
            }
            Some(_) => {}
        }
        path.need();
        if paths.contains(&path.str()) {
            path.invalid("must be unique");
        }
        if path.str().split('/').any(|p| p == "..") {
            path.invalid("can not contain backsteps ('..')");
        } else {
            paths.push(path.str());
        }
        if mounted("name", name.str()) {
            name.invalid("must not already exist in volumeMounts");
        }
        if mounted("mountPath", path.str()) {
            path.invalid("must not already exist as a path in volumeMounts");
        }
        if !name.is_empty() {
            names.push(name.str());
        }
    }
}
