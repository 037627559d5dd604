//! The level `restricted`: what hardened pods do without.

use serde_json::Value;

use super::{baseline, contexts, named, strings};
use crate::object::{containers, items, text};

const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
/// Fields of a volume that do not say what it is.
const NOT_SOURCES: [&str; 1] = ["name"];

/// All violations, each with who commits it.
pub(super) fn check(metadata: &Value, spec: &Value) -> Vec<String> {
    let mut found: Vec<Option<String>> = baseline::common(metadata, spec);
    found.push(volumes(spec));
    found.push(run_as_non_root(spec));
    found.push(run_as_user(spec));
    // These say nothing on Windows.
    if text(spec, "/os/name") != "windows" {
        found.push(privilege_escalation(spec));
        found.push(capabilities(spec));
        found.push(seccomp(spec));
    }
    found.into_iter().flatten().collect()
}

fn volumes(spec: &Value) -> Option<String> {
    let kind = |volume: &Value| -> Option<String> {
        let fields = volume.as_object()?.iter().filter(|(_, value)| !value.is_null());
        let mut sources = fields.map(|(key, _)| key.as_str()).filter(|key| !NOT_SOURCES.contains(key));
        sources.find(|source| !VOLUMES.contains(source)).map(str::to_owned)
    };
    let bad: Vec<(&str, String)> =
        items(spec, "/volumes").iter().filter_map(|volume| Some((text(volume, "/name"), kind(volume)?))).collect();
    let names: Vec<String> = bad.iter().map(|(name, _)| format!("{name:?}")).collect();
    let mut kinds: Vec<String> = bad.iter().map(|(_, kind)| format!("{kind:?}")).collect();
    kinds.sort();
    kinds.dedup();
    let types = if kinds.len() == 1 { "type" } else { "types" };
    let list = kinds.join(", ");
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("restricted volume types (volume {one} uses restricted volume {types} {list})")),
        many => {
            Some(format!("restricted volume types (volumes {} use restricted volume {types} {list})", many.join(", ")))
        }
    }
}

fn privilege_escalation(spec: &Value) -> Option<String> {
    let pointer = "/securityContext/allowPrivilegeEscalation";
    let (who, _) = named(spec, |c| c.pointer(pointer).and_then(Value::as_bool) != Some(false))?;
    Some(format!("allowPrivilegeEscalation != false ({who} must set securityContext.allowPrivilegeEscalation=false)"))
}

/// Each container says yes itself, or leaves it to a pod that does; none says no.
fn run_as_non_root(spec: &Value) -> Option<String> {
    let says = |value: &Value| value.pointer("/securityContext/runAsNonRoot").and_then(Value::as_bool);
    let mut faults = Vec::new();
    if says(spec) == Some(false) {
        faults.push("pod must not set securityContext.runAsNonRoot=false".to_owned());
    }
    if let Some((who, _)) = named(spec, |c| says(c) == Some(false)) {
        faults.push(format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if faults.is_empty()
        && says(spec) != Some(true)
        && let Some((who, _)) = named(spec, |c| says(c).is_none())
    {
        faults.push(format!("pod or {who} must set securityContext.runAsNonRoot=true"));
    }
    (!faults.is_empty()).then(|| format!("runAsNonRoot != true ({})", faults.join(", ")))
}

fn run_as_user(spec: &Value) -> Option<String> {
    let root = |(_, context): &(String, &Value)| context.get("runAsUser").and_then(Value::as_i64) == Some(0);
    let who: Vec<String> = contexts(spec).into_iter().filter(root).map(|(name, _)| name).collect();
    let shown = who.join(" and ");
    (!who.is_empty()).then(|| format!("runAsUser=0 ({shown} must not set runAsUser=0)"))
}

fn seccomp(spec: &Value) -> Option<String> {
    let kind = |value: &Value| text(value, "/securityContext/seccompProfile/type").to_owned();
    let good = |kind: &str| ["RuntimeDefault", "Localhost"].contains(&kind);
    let pod = kind(spec);
    let mut faults = Vec::new();
    if !pod.is_empty() && !good(&pod) {
        faults.push(format!("pod must not set securityContext.seccompProfile.type to {pod:?}"));
    }
    let bad = |c: &Value| !kind(c).is_empty() && !good(&kind(c));
    if let Some((who, _)) = named(spec, bad) {
        let first = containers(spec).find(|c| bad(c)).map(kind).unwrap_or_default();
        faults.push(format!("{who} must not set securityContext.seccompProfile.type to {first:?}"));
    }
    if !good(&pod)
        && let Some((who, _)) = named(spec, |c| kind(c).is_empty())
    {
        faults.push(format!(
            "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        ));
    }
    (!faults.is_empty()).then(|| format!("seccompProfile ({})", faults.join(", ")))
}

fn capabilities(spec: &Value) -> Option<String> {
    let drops_all = |c: &Value| strings(c, "/securityContext/capabilities/drop").any(|capability| capability == "ALL");
    let beyond = |c: &Value| -> Vec<String> {
        let added = strings(c, "/securityContext/capabilities/add");
        added.filter(|capability| *capability != "NET_BIND_SERVICE").map(|c| format!("{c:?}")).collect()
    };
    let mut faults = Vec::new();
    if let Some((who, _)) = named(spec, |c| !drops_all(c)) {
        faults.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if let Some((who, _)) = named(spec, |c| !beyond(c).is_empty()) {
        let mut added: Vec<String> = containers(spec).flat_map(beyond).collect();
        added.sort();
        added.dedup();
        faults.push(format!("{who} must not include {} in securityContext.capabilities.add", added.join(", ")));
    }
    (!faults.is_empty()).then(|| format!("unrestricted capabilities ({})", faults.join("; ")))
}
