//! Containers of every sort: regular, init, ephemeral.

use apimachinery::names;
use serde_json::Value;

use crate::node::Node;
use crate::rules::{env, probe, resources, security, volume};

/// What the containers of one pod are held against.
pub struct Scope<'a> {
    pub volumes: Vec<(&'a str, &'a Value)>,
    pub claim_names: Vec<&'a str>,
    pub host_network: bool,
    pub host_users: bool,
}

/// `containers`, `initContainers` and `ephemeralContainers` of a pod spec.
pub fn all<'a>(spec: Node<'a>, scope: &Scope<'a>) {
    let (regular, init) = (spec.get("containers"), spec.get("initContainers"));
    if regular.is_empty() {
        regular.required("");
    }
    let mut names: Vec<&str> = Vec::new();
    for container in regular.items() {
        self::regular(container, scope, &mut names);
    }
    for container in init.items() {
        self::init(container, scope, &mut names);
    }
    for container in spec.get("ephemeralContainers").items() {
        ephemeral(container, scope, &mut names, spec);
    }
    host_port_conflicts(regular.items());
    for container in init.items() {
        host_port_conflicts(std::iter::once(container));
    }
}

fn regular<'a>(container: Node<'a>, scope: &Scope<'a>, names: &mut Vec<&'a str>) {
    common(container, scope, names);
    probe::lifecycle(container.get("lifecycle"));
    probe::of_container(container);
    restart_policy(container, &["Always", "OnFailure", "Never"]);
}

fn init<'a>(container: Node<'a>, scope: &Scope<'a>, names: &mut Vec<&'a str>) {
    common(container, scope, names);
    restart_policy(container, &["Always", "OnFailure", "Never"]);
    if container.get("restartPolicy").str() == "Always" {
        probe::lifecycle(container.get("lifecycle"));
        probe::of_container(container);
        return;
    }
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if container.get(field).is_set() {
            container.get(field).forbidden("may not be set for init containers without restartPolicy=Always");
        }
    }
}

fn ephemeral<'a>(container: Node<'a>, scope: &Scope<'a>, names: &mut Vec<&'a str>, spec: Node<'a>) {
    common(container, scope, names);
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

fn common<'a>(container: Node<'a>, scope: &Scope<'a>, names: &mut Vec<&'a str>) {
    let name = container.get("name");
    if name.is_empty() {
        name.required("");
    } else {
        name.check(names::dns1123_label);
        if names.contains(&name.str()) {
            name.duplicate();
        } else {
            names.push(name.str());
        }
    }
    image(container.get("image"));
    container.get("terminationMessagePolicy").need_one_of(&["File", "FallbackToLogsOnError"]);
    container.get("imagePullPolicy").need_one_of(&["Always", "IfNotPresent", "Never"]);
    ports(container.get("ports"), scope.host_network);
    env::env(container.get("env"));
    env::env_from(container.get("envFrom"));
    mounts(container, scope);
    devices(container, scope);
    resources::requirements(container.get("resources"));
    claims(container.get("resources").get("claims"), scope);
    resize_policy(container.get("resizePolicy"));
    security::of_container(container.get("securityContext"), scope.host_users);
}

fn image(image: Node<'_>) {
    if image.need() && image.str().trim() != image.str() {
        image.invalid("must not have leading or trailing whitespace");
    }
}

fn claims(claims: Node<'_>, scope: &Scope<'_>) {
    for claim in claims.items() {
        if !claim.get("name").is_empty() && !scope.claim_names.contains(&claim.get("name").str()) {
            claim.not_found();
        }
    }
}

fn resize_policy(list: Node<'_>) {
    let mut seen: Vec<&str> = Vec::new();
    for policy in list.items() {
        let name = policy.get("resourceName");
        if seen.contains(&name.str()) {
            list.duplicate();
        }
        seen.push(name.str());
        if name.is_empty() {
            name.required("");
        } else {
            name.one_of(&["cpu", "memory"]);
        }
        let restart = policy.get("restartPolicy");
        restart.need_one_of(&["NotRequired", "RestartContainer"]);
    }
}

fn ports(list: Node<'_>, host_network: bool) {
    let mut names: Vec<&str> = Vec::new();
    for port in list.items() {
        let name = port.get("name");
        if !name.is_empty() {
            let messages = names::port_name(name.str());
            if messages.is_empty() {
                if names.contains(&name.str()) {
                    name.duplicate();
                }
                names.push(name.str());
            } else {
                name.check(names::port_name);
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
            if host_network && outside.int() != inside.int() {
                inside.invalid("must match `hostPort` when `hostNetwork` is true");
            }
        }
        port.get("protocol").need_one_of(&["TCP", "UDP", "SCTP"]);
        let host_ip = port.get("hostIP");
        if !host_ip.is_empty() {
            crate::rules::ip::address(host_ip);
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

fn mounts<'a>(container: Node<'a>, scope: &Scope<'a>) {
    let mut paths: Vec<&str> = Vec::new();
    for mount in container.get("volumeMounts").items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        if name.is_empty() {
            name.required("");
        }
        if !scope.volumes.iter().any(|(n, _)| *n == name.str()) && !name.is_empty() {
            name.not_found();
        }
        path.need();
        if paths.contains(&path.str()) {
            path.invalid("must be unique");
        }
        paths.push(path.str());
        sub_path(mount);
        propagation(mount, container);
        recursive_read_only(mount);
        for device in container.get("volumeDevices").items() {
            if device.get("devicePath").str() == path.str() && !path.is_empty() {
                path.invalid("must not already exist as a path in volumeDevices");
            }
            if device.get("name").str() == name.str() && !name.is_empty() {
                name.invalid("must not already exist in volumeDevices");
            }
        }
    }
}

fn sub_path(mount: Node<'_>) {
    let (sub, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
    volume::local_descending_path(sub);
    if !expression.is_empty() {
        if !sub.is_empty() {
            expression.invalid("subPathExpr and subPath are mutually exclusive");
        }
        volume::local_descending_path(expression);
    }
}

fn propagation(mount: Node<'_>, container: Node<'_>) {
    let mode = mount.get("mountPropagation");
    mode.one_of_if_set(&["Bidirectional", "HostToContainer", "None"]);
    if mode.str() == "Bidirectional" && !container.get("securityContext").get("privileged").bool() {
        mode.forbidden("Bidirectional mount propagation is available only to privileged containers");
    }
}

fn recursive_read_only(mount: Node<'_>) {
    let mode = mount.get("recursiveReadOnly");
    if !mode.is_set() {
        return;
    }
    mode.one_of(&["Disabled", "IfPossible", "Enabled"]);
    if matches!(mode.str(), "IfPossible" | "Enabled") {
        if !mount.get("readOnly").bool() {
            mode.forbidden("may only be specified when readOnly is true");
        }
        if !matches!(mount.get("mountPropagation").str(), "" | "None") {
            mode.forbidden("may only be specified when mountPropagation is None or not specified");
        }
    }
}

fn devices<'a>(container: Node<'a>, scope: &Scope<'a>) {
    let (mut names, mut paths): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for device in container.get("volumeDevices").items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        if name.need() {
            if names.contains(&name.str()) {
                name.invalid("must be unique");
            }
            match scope.volumes.iter().find(|(n, _)| *n == name.str()) {
                None => name.not_found(),
                Some((_, v)) if v["persistentVolumeClaim"].is_null() && v["ephemeral"].is_null() => {
                    name.invalid(
                        "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                    );
                }
                Some(_) => {}
            }
        }
        if path.need() {
            if paths.contains(&path.str()) {
                path.invalid("must be unique");
            }
            if path.str().split('/').any(|p| p == "..") {
                path.invalid("can not contain backsteps ('..')");
            }
        }
        names.push(name.str());
        paths.push(path.str());
    }
}
