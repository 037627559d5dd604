//! The level `baseline`: nothing that is known to give power over the node.

use serde_json::Value;

use super::{contexts, named, strings};
use crate::object::{containers, items, text};

const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
    "",
];

const SELINUX_TYPES: [&str; 6] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t", "container_user_t"];

const SYSCTLS: [&str; 11] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

const APPARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

/// All violations, each with who commits it.
pub(super) fn check(metadata: &Value, spec: &Value) -> Vec<String> {
    let mut found: Vec<Option<String>> = common(metadata, spec);
    found.push(capabilities(spec));
    found.push(host_paths(spec));
    found.push(seccomp(spec));
    found.into_iter().flatten().collect()
}

/// The checks that `restricted` has as they are; it has stricter ones for the rest.
pub(super) fn common(metadata: &Value, spec: &Value) -> Vec<Option<String>> {
    vec![
        apparmor(metadata, spec),
        host_namespaces(spec),
        host_ports(spec),
        host_probes(spec),
        privileged(spec),
        proc_mount(spec),
        selinux(spec),
        sysctls(spec),
        windows_host_process(spec),
    ]
}

fn is_true(value: &Value, field: &str) -> bool {
    value.get(field).and_then(Value::as_bool) == Some(true)
}

fn host_namespaces(spec: &Value) -> Option<String> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| is_true(spec, field))
        .map(|field| format!("{field}=true"))
        .collect();
    (!set.is_empty()).then(|| format!("host namespaces ({})", set.join(", ")))
}

fn privileged(spec: &Value) -> Option<String> {
    let (who, _) = named(spec, |c| c.pointer("/securityContext/privileged").and_then(Value::as_bool) == Some(true))?;
    Some(format!("privileged ({who} must not set securityContext.privileged=true)"))
}

fn capabilities(spec: &Value) -> Option<String> {
    let pointer = "/securityContext/capabilities/add";
    let beyond = |capability: &&str| !CAPABILITIES.contains(capability);
    let (who, _) = named(spec, |c| strings(c, pointer).any(|capability| beyond(&capability)))?;
    let mut added: Vec<String> =
        containers(spec).flat_map(|c| strings(c, pointer)).filter(beyond).map(|c| format!("{c:?}")).collect();
    added.sort();
    added.dedup();
    let list = added.join(", ");
    Some(format!("non-default capabilities ({who} must not include {list} in securityContext.capabilities.add)"))
}

fn host_paths(spec: &Value) -> Option<String> {
    let volumes = items(spec, "/volumes").iter().filter(|v| v.get("hostPath").is_some_and(Value::is_object));
    let names: Vec<String> = volumes.map(|v| format!("{:?}", text(v, "/name"))).collect();
    match names.len() {
        0 => None,
        1 => Some(format!("hostPath volumes (volume {})", names[0])),
        _ => Some(format!("hostPath volumes (volumes {})", names.join(", "))),
    }
}

fn host_ports(spec: &Value) -> Option<String> {
    let ports = |c: &Value| -> Vec<i64> {
        let all = items(c, "/ports").iter().filter_map(|port| port.get("hostPort")?.as_i64());
        all.filter(|port| *port != 0).collect()
    };
    let (who, count) = named(spec, |c| !ports(c).is_empty())?;
    let mut all: Vec<i64> = containers(spec).flat_map(ports).collect();
    all.sort_unstable();
    all.dedup();
    let list: Vec<String> = all.iter().map(ToString::to_string).collect();
    let (verb, noun) = (if count == 1 { "uses" } else { "use" }, if all.len() == 1 { "hostPort" } else { "hostPorts" });
    Some(format!("hostPort ({who} {verb} {noun} {})", list.join(", ")))
}

/// A probe or hook that names a host makes the kubelet connect to anywhere.
fn host_probes(spec: &Value) -> Option<String> {
    const HANDLERS: [&str; 5] =
        ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
    let (who, count) = named(spec, |c| {
        let handlers = HANDLERS.into_iter().filter_map(|pointer| c.pointer(pointer));
        handlers.into_iter().any(|handler| {
            [text(handler, "/httpGet/host"), text(handler, "/tcpSocket/host")].iter().any(|host| !host.is_empty())
        })
    })?;
    let verb = if count == 1 { "uses" } else { "use" };
    Some(format!("probe or lifecycle host ({who} {verb} probe or lifecycle hosts)"))
}

fn proc_mount(spec: &Value) -> Option<String> {
    let (who, _) = named(spec, |c| !["", "Default"].contains(&text(c, "/securityContext/procMount")))?;
    Some(format!("procMount ({who} must not set securityContext.procMount to \"Unmasked\")"))
}

fn selinux(spec: &Value) -> Option<String> {
    let mut faults = Vec::new();
    let mut who = Vec::new();
    for (name, context) in contexts(spec) {
        let Some(options) = context.get("seLinuxOptions") else { continue };
        let kind = text(options, "/type");
        let before = faults.len();
        if !SELINUX_TYPES.contains(&kind) {
            faults.push(format!("type {kind:?}"));
        }
        for field in ["user", "role"] {
            if options.get(field).and_then(Value::as_str).is_some_and(|value| !value.is_empty()) {
                faults.push(format!("{field} may not be set"));
            }
        }
        if faults.len() > before {
            who.push(name);
        }
    }
    faults.dedup();
    (!faults.is_empty()).then(|| {
        format!(
            "seLinuxOptions ({} set forbidden securityContext.seLinuxOptions: {})",
            who.join(", "),
            faults.join("; ")
        )
    })
}

fn seccomp(spec: &Value) -> Option<String> {
    let unconfined = |(_, context): &(String, &Value)| text(context, "/seccompProfile/type") == "Unconfined";
    let who: Vec<String> = contexts(spec).into_iter().filter(unconfined).map(|(name, _)| name).collect();
    let shown = who.join(", ");
    (!who.is_empty())
        .then(|| format!("seccompProfile ({shown} must not set securityContext.seccompProfile.type to \"Unconfined\")"))
}

fn sysctls(spec: &Value) -> Option<String> {
    let names = items(spec, "/securityContext/sysctls").iter().map(|sysctl| text(sysctl, "/name"));
    let mut beyond: Vec<&str> = names.filter(|name| !SYSCTLS.contains(name)).collect();
    beyond.sort_unstable();
    (!beyond.is_empty()).then(|| format!("forbidden sysctls ({})", beyond.join(", ")))
}

fn windows_host_process(spec: &Value) -> Option<String> {
    let set = |(_, context): &(String, &Value)| {
        context.pointer("/windowsOptions/hostProcess").and_then(Value::as_bool) == Some(true)
    };
    let who: Vec<String> = contexts(spec).into_iter().filter(set).map(|(name, _)| name).collect();
    let shown = who.join(" and ");
    (!who.is_empty())
        .then(|| format!("hostProcess ({shown} must not set securityContext.windowsOptions.hostProcess=true)"))
}

/// By field since 1.30, by annotation before.
fn apparmor(metadata: &Value, spec: &Value) -> Option<String> {
    let mut faults: Vec<String> = contexts(spec)
        .into_iter()
        .filter(|(_, context)| text(context, "/appArmorProfile/type") == "Unconfined")
        .map(|(name, _)| format!("{name} must not set AppArmor profile type to \"Unconfined\""))
        .collect();
    let annotations = metadata.get("annotations").and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        let profile = value.as_str().unwrap_or_default();
        let allowed = ["", "runtime/default"].contains(&profile) || profile.starts_with("localhost/");
        if key.starts_with(APPARMOR_PREFIX) && !allowed {
            faults.push(format!("annotation {key}={profile:?}"));
        }
    }
    let title = if faults.len() == 1 { "forbidden AppArmor profile" } else { "forbidden AppArmor profiles" };
    (!faults.is_empty()).then(|| format!("{title} ({})", faults.join(", ")))
}
