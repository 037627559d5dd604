//! The level `baseline`: nothing that is known to give power over the node.

use std::collections::BTreeSet;

use serde_json::Value;

use super::checks::{Pod, Violation};
use super::level::Version;
use super::setters::{Named, contexts, has_own_users, is_true, plural, quoted, setters, strings, values};
use crate::object::{containers, items, text};

const CAPABILITIES: [&str; 13] = [
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
];

/// SELinux types, with the version that allowed them.
const SELINUX_TYPES: [(&str, u32); 5] =
    [("", 0), ("container_t", 0), ("container_init_t", 0), ("container_kvm_t", 0), ("container_engine_t", 31)];

/// Safe sysctls, with the version that allowed them.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

const APPARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Since when seccomp profiles are fields; they were annotations before.
const SECCOMP_FIELDS: Version = Version::Minor(19);
/// Since when pods with users of their own may unmask /proc.
const OWN_USERS: Version = Version::Minor(35);

fn is_in(table: &[(&str, u32)], value: &str, version: Version) -> bool {
    table.iter().any(|(known, since)| *known == value && version >= Version::Minor(*since))
}

pub(super) fn host_namespaces(pod: Pod<'_>) -> Option<Violation> {
    let fields = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let set: Vec<String> = fields
        .filter(|field| pod.spec.get(field).and_then(Value::as_bool) == Some(true))
        .map(|field| format!("{field}=true"))
        .collect();
    (!set.is_empty()).then(|| Violation::new("host namespaces", set.join(", ")))
}

pub(super) fn privileged(pod: Pod<'_>) -> Option<Violation> {
    let who = Named::of(pod.spec, |c| is_true(c, "/securityContext/privileged")).shown()?;
    Some(Violation::new("privileged", format!("{who} must not set securityContext.privileged=true")))
}

pub(super) fn capabilities(pod: Pod<'_>) -> Option<Violation> {
    let pointer = "/securityContext/capabilities/add";
    let beyond = |capability: &&str| !CAPABILITIES.contains(capability);
    let who = Named::of(pod.spec, |c| strings(c, pointer).any(|capability| beyond(&capability))).shown()?;
    let added: BTreeSet<&str> = containers(pod.spec).flat_map(|c| strings(c, pointer)).filter(beyond).collect();
    let detail = format!("{who} must not include {} in securityContext.capabilities.add", quoted(added));
    Some(Violation::new("non-default capabilities", detail))
}

pub(super) fn host_paths(pod: Pod<'_>) -> Option<Violation> {
    let volumes = items(pod.spec, "/volumes").iter().filter(|v| v.get("hostPath").is_some_and(Value::is_object));
    let names: Vec<&str> = volumes.map(|v| text(v, "/name")).collect();
    let noun = plural(names.len(), "volume", "volumes");
    (!names.is_empty()).then(|| Violation::new("hostPath volumes", format!("{noun} {}", quoted(names))))
}

pub(super) fn host_ports(pod: Pod<'_>) -> Option<Violation> {
    let ports = |c: &Value| -> Vec<String> {
        let all = items(c, "/ports").iter().filter_map(|port| port.get("hostPort")?.as_i64());
        all.filter(|port| *port != 0).map(|port| port.to_string()).collect()
    };
    let named = Named::of(pod.spec, |c| !ports(c).is_empty());
    let who = named.shown()?;
    let all: Vec<String> = containers(pod.spec).flat_map(ports).collect::<BTreeSet<_>>().into_iter().collect();
    let (verb, noun) = (plural(named.count(), "uses", "use"), plural(all.len(), "hostPort", "hostPorts"));
    Some(Violation::new("hostPort", format!("{who} {verb} {noun} {}", all.join(", "))))
}

/// A probe or hook that names a host makes the kubelet connect to anywhere.
pub(super) fn host_probes(pod: Pod<'_>) -> Option<Violation> {
    const HANDLERS: [&str; 5] =
        ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
    fn hosts(container: &Value) -> BTreeSet<&str> {
        let handlers = HANDLERS.into_iter().filter_map(|pointer| container.pointer(pointer));
        let named = handlers.flat_map(|handler| [text(handler, "/httpGet/host"), text(handler, "/tcpSocket/host")]);
        named.filter(|host| !host.is_empty()).collect()
    }
    let mut named = Named::of(pod.spec, |c| !hosts(c).is_empty());
    named.0.sort_unstable();
    let who = named.shown()?;
    let all: BTreeSet<&str> = containers(pod.spec).flat_map(hosts).collect();
    let verb = plural(named.count(), "uses", "use");
    let noun = plural(all.len(), "probe or lifecycle host", "probe or lifecycle hosts");
    Some(Violation::new("probe or lifecycle host", format!("{who} {verb} {noun} {}", quoted(all))))
}

pub(super) fn proc_mount(pod: Pod<'_>) -> Option<Violation> {
    if pod.version >= OWN_USERS && has_own_users(pod.spec) {
        return None;
    }
    let is_bad = |mount: &str| !["", "Default"].contains(&mount);
    let who = Named::of(pod.spec, |c| is_bad(text(c, "/securityContext/procMount"))).shown()?;
    let bad = quoted(values(pod.spec, "/procMount", is_bad));
    Some(Violation::new("procMount", format!("{who} must not set securityContext.procMount to {bad}")))
}

pub(super) fn selinux(pod: Pod<'_>) -> Option<Violation> {
    let bad_type = |kind: &str| !is_in(&SELINUX_TYPES, kind, pod.version);
    let sets = |context: &Value, field: &str| !text(context, &format!("/seLinuxOptions/{field}")).is_empty();
    let is_bad = |context: &Value| {
        bad_type(text(context, "/seLinuxOptions/type")) || sets(context, "user") || sets(context, "role")
    };
    let who = setters(pod.spec, is_bad);
    if who.is_empty() {
        return None;
    }
    let types = values(pod.spec, "/seLinuxOptions/type", bad_type);
    let mut faults = Vec::new();
    if !types.is_empty() {
        faults.push(format!("{} {}", plural(types.len(), "type", "types"), quoted(types)));
    }
    for field in ["user", "role"] {
        if contexts(pod.spec).any(|context| sets(context, field)) {
            faults.push(format!("{field} may not be set"));
        }
    }
    let (who, faults) = (who.join(" and "), faults.join("; "));
    Some(Violation::new("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {faults}")))
}

pub(super) fn seccomp(pod: Pod<'_>) -> Option<Violation> {
    if pod.version < SECCOMP_FIELDS {
        return seccomp_annotations(pod);
    }
    let is_bad = |kind: &str| !["RuntimeDefault", "Localhost"].contains(&kind);
    let sets = |context: &Value| context.pointer("/seccompProfile/type").and_then(Value::as_str).is_some_and(is_bad);
    let who = setters(pod.spec, sets);
    let bad = quoted(values(pod.spec, "/seccompProfile/type", is_bad));
    let detail = || format!("{} must not set securityContext.seccompProfile.type to {bad}", who.join(" and "));
    (!who.is_empty()).then(|| Violation::new("seccompProfile", detail()))
}

fn seccomp_annotations(pod: Pod<'_>) -> Option<Violation> {
    let of_containers = containers(pod.spec).map(|c| format!("{SECCOMP_PREFIX}{}", text(c, "/name")));
    let is_bad =
        |value: &str| !["runtime/default", "docker/default"].contains(&value) && !value.starts_with("localhost/");
    let bad: BTreeSet<String> = std::iter::once(SECCOMP_POD.to_owned())
        .chain(of_containers)
        .filter_map(|key| {
            let value = pod.metadata.get("annotations")?.get(&key)?.as_str()?;
            is_bad(value).then(|| format!("{key}={value:?}"))
        })
        .collect();
    let noun = plural(bad.len(), "annotation", "annotations");
    let list = bad.into_iter().collect::<Vec<_>>().join(", ");
    (!list.is_empty()).then(|| Violation::new("seccompProfile", format!("forbidden {noun} {list}")))
}

pub(super) fn sysctls(pod: Pod<'_>) -> Option<Violation> {
    let names = items(pod.spec, "/securityContext/sysctls").iter().map(|sysctl| text(sysctl, "/name"));
    let beyond: Vec<&str> = names.filter(|name| !is_in(&SYSCTLS, name, pod.version)).collect();
    (!beyond.is_empty()).then(|| Violation::new("forbidden sysctls", beyond.join(", ")))
}

pub(super) fn windows_host_process(pod: Pod<'_>) -> Option<Violation> {
    let who = setters(pod.spec, |context| is_true(context, "/windowsOptions/hostProcess")).join(" and ");
    let detail = || format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    (!who.is_empty()).then(|| Violation::new("hostProcess", detail()))
}

/// By field since 1.30, by annotation before; both are looked at for every version.
pub(super) fn apparmor(pod: Pod<'_>) -> Option<Violation> {
    let is_bad = |kind: &str| !["", "RuntimeDefault", "Localhost"].contains(&kind);
    let mut who = setters(pod.spec, |context| is_bad(text(context, "/appArmorProfile/type")));
    let mut bad: Vec<String> =
        values(pod.spec, "/appArmorProfile/type", is_bad).into_iter().map(str::to_owned).collect();
    let annotations = pod.metadata.get("annotations").and_then(Value::as_object);
    let is_allowed = |profile: &str| ["", "runtime/default"].contains(&profile) || profile.starts_with("localhost/");
    let mut noted: Vec<String> = annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(key, profile)| key.starts_with(APPARMOR_PREFIX) && !is_allowed(profile))
        .map(|(key, profile)| format!("{key}={profile:?}"))
        .collect();
    if !noted.is_empty() {
        noted.sort();
        who.push(plural(noted.len(), "annotation", "annotations").to_owned());
        bad.extend(noted);
    }
    let reason = plural(bad.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    let list = quoted(bad.iter().map(String::as_str));
    let detail = || format!("{} must not set AppArmor profile type to {list}", who.join(" and "));
    (!who.is_empty()).then(|| Violation::new(reason, detail()))
}
