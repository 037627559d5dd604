//! The level `restricted`: what hardened pods do without.

use std::collections::BTreeSet;

use serde_json::Value;

use super::checks::{Pod, Violation};
use super::level::Version;
use super::setters::{Named, has_own_users, plural, quoted, setters, strings, values};
use crate::object::{containers, items, text};

const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
/// Since when the rules that say nothing on Windows are not asked there.
const KNOWS_WINDOWS: Version = Version::Minor(25);
/// Since when pods with users of their own may be root among them.
const OWN_USERS: Version = Version::Minor(35);

fn is_for_windows(pod: Pod<'_>) -> bool {
    pod.version >= KNOWS_WINDOWS && text(pod.spec, "/os/name") == "windows"
}

pub(super) fn volumes(pod: Pod<'_>) -> Option<Violation> {
    fn kind(volume: &Value) -> Option<&str> {
        let fields = volume.as_object()?.iter().filter(|(key, value)| *key != "name" && !value.is_null());
        let sources: Vec<&str> = fields.map(|(key, _)| key.as_str()).collect();
        match sources.first() {
            None => Some("unknown"),
            Some(first) => (!sources.iter().any(|source| VOLUMES.contains(source))).then_some(first),
        }
    }
    let bad: Vec<(&str, &str)> =
        items(pod.spec, "/volumes").iter().filter_map(|v| Some((text(v, "/name"), kind(v)?))).collect();
    let kinds: BTreeSet<&str> = bad.iter().map(|(_, kind)| *kind).collect();
    let (noun, verb) = (plural(bad.len(), "volume", "volumes"), plural(bad.len(), "uses", "use"));
    let types = plural(kinds.len(), "restricted volume type", "restricted volume types");
    let detail = || format!("{noun} {} {verb} {types} {}", quoted(bad.iter().map(|(name, _)| *name)), quoted(kinds));
    (!bad.is_empty()).then(|| Violation::new("restricted volume types", detail()))
}

pub(super) fn privilege_escalation(pod: Pod<'_>) -> Option<Violation> {
    if is_for_windows(pod) {
        return None;
    }
    let pointer = "/securityContext/allowPrivilegeEscalation";
    let who = Named::of(pod.spec, |c| c.pointer(pointer).and_then(Value::as_bool) != Some(false)).shown()?;
    let detail = format!("{who} must set securityContext.allowPrivilegeEscalation=false");
    Some(Violation::new("allowPrivilegeEscalation != false", detail))
}

/// Each container says yes itself, or leaves it to a pod that does; none says no.
pub(super) fn run_as_non_root(pod: Pod<'_>) -> Option<Violation> {
    if pod.version >= OWN_USERS && has_own_users(pod.spec) {
        return None;
    }
    let says = |context: &Value| context.get("runAsNonRoot").and_then(Value::as_bool);
    let who = setters(pod.spec, |context| says(context) == Some(false)).join(" and ");
    let detail = if who.is_empty() {
        let of = |owner: &Value| owner.get("securityContext").and_then(says);
        let silent = Named::of(pod.spec, |c| of(pod.spec).is_none() && of(c).is_none()).shown()?;
        format!("pod or {silent} must set securityContext.runAsNonRoot=true")
    } else {
        format!("{who} must not set securityContext.runAsNonRoot=false")
    };
    Some(Violation::new("runAsNonRoot != true", detail))
}

pub(super) fn run_as_user(pod: Pod<'_>) -> Option<Violation> {
    if pod.version >= OWN_USERS && has_own_users(pod.spec) {
        return None;
    }
    let is_root = |context: &Value| context.get("runAsUser").and_then(Value::as_i64) == Some(0);
    let who = setters(pod.spec, is_root).join(" and ");
    (!who.is_empty()).then(|| Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0")))
}

pub(super) fn seccomp(pod: Pod<'_>) -> Option<Violation> {
    if is_for_windows(pod) {
        return None;
    }
    let pointer = "/seccompProfile/type";
    let is_bad = |kind: &str| !["RuntimeDefault", "Localhost"].contains(&kind);
    let says = |context: &Value| context.pointer(pointer).and_then(Value::as_str).map(is_bad);
    let who = setters(pod.spec, |context| says(context) == Some(true)).join(" and ");
    let detail = if who.is_empty() {
        let of = |owner: &Value| owner.get("securityContext").and_then(says);
        let silent = Named::of(pod.spec, |c| of(pod.spec).is_none() && of(c).is_none()).shown()?;
        format!("pod or {silent} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"")
    } else {
        let bad = quoted(values(pod.spec, pointer, is_bad));
        format!("{who} must not set securityContext.seccompProfile.type to {bad}")
    };
    Some(Violation::new("seccompProfile", detail))
}

pub(super) fn capabilities(pod: Pod<'_>) -> Option<Violation> {
    if is_for_windows(pod) {
        return None;
    }
    let drops_all = |c: &Value| strings(c, "/securityContext/capabilities/drop").any(|capability| capability == "ALL");
    fn beyond(container: &Value) -> impl Iterator<Item = &str> {
        strings(container, "/securityContext/capabilities/add").filter(|capability| *capability != "NET_BIND_SERVICE")
    }
    let mut faults = Vec::new();
    if let Some(who) = Named::of(pod.spec, |c| !drops_all(c)).shown() {
        faults.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if let Some(who) = Named::of(pod.spec, |c| beyond(c).next().is_some()).shown() {
        let added: BTreeSet<&str> = containers(pod.spec).flat_map(beyond).collect();
        faults.push(format!("{who} must not include {} in securityContext.capabilities.add", quoted(added)));
    }
    (!faults.is_empty()).then(|| Violation::new("unrestricted capabilities", faults.join("; ")))
}
