//! Annotations of pods and their templates that mean something to Kubernetes, most of them the old form of a field.

use serde_json::Value;

use crate::node::Node;
use crate::rules::volume;

/// Marks the API's picture of a static pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The annotations of a pod or a template with this spec.
pub fn of_pod(annotations: Node<'_>, spec: Node<'_>) {
    let mirror = annotations.entry(MIRROR);
    if mirror.is_set() && spec.get("nodeName").is_empty() {
        mirror.invalid("must set spec.nodeName if mirror pod annotation is set");
    }
    let cost = annotations.entry(DELETION_COST);
    if cost.is_set() && !is_cost(cost.str()) {
        cost.invalid_value("", "must be a 32bit integer");
    }
    for (key, _) in annotations.entries() {
        if key == SECCOMP_OF_POD || key.starts_with(SECCOMP_OF_CONTAINER) {
            seccomp(annotations.child(key));
        }
        if let Some(container) = key.strip_prefix(APP_ARMOR) {
            app_armor(annotations.entry(key), container, spec);
        }
    }
}

/// A whole number without a sign of plus or leading zeros.
fn is_cost(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    text.parse::<i32>().is_ok() && !text.starts_with('+') && (digits == "0" || !digits.starts_with('0'))
}

fn seccomp(profile: Node<'_>) {
    match profile.str() {
        "runtime/default" | "docker/default" | "unconfined" => {}
        text => match text.strip_prefix("localhost/") {
            Some(path) => volume::local_descending_path(profile.with(&Value::from(path))),
            None => profile.invalid("must be a valid seccomp profile"),
        },
    }
}

fn app_armor(profile: Node<'_>, container: &str, spec: Node<'_>) {
    let known = CONTAINERS.iter().any(|list| spec.get(list).items().any(|c| c.get("name").str() == container));
    if !known {
        profile.invalid_value(container, "container not found");
    }
    let text = profile.str();
    if !matches!(text, "" | "runtime/default" | "unconfined") && !text.starts_with("localhost/") {
        profile.invalid(format!("invalid AppArmor profile name: {text:?}"));
    }
}

/// An annotation and the field that replaced it must say the same, where both are there.
pub fn agree(annotations: Node<'_>, spec: Node<'_>) {
    let context = spec.get("securityContext");
    let windows = spec.get("os").get("name").str() == "windows";
    profile_agrees(
        annotations.value[SECCOMP_OF_POD].as_str(),
        context.get("seccompProfile"),
        context.get("seccompProfile"),
    );
    for list in CONTAINERS {
        for container in spec.get(list).items() {
            let (own, name) = (container.get("securityContext"), container.get("name").str());
            let annotation = |prefix: &str| annotations.value[format!("{prefix}{name}").as_str()].as_str();
            let field = own.get("seccompProfile");
            profile_agrees(annotation(SECCOMP_OF_CONTAINER), field, field);
            let (field, of_pod) = (own.get("appArmorProfile"), context.get("appArmorProfile"));
            if !windows {
                profile_agrees(annotation(APP_ARMOR), if field.is_set() { field } else { of_pod }, field);
            }
        }
    }
}

/// `profile` is the field that counts, `at` where its failures are reported.
fn profile_agrees(annotation: Option<&str>, profile: Node<'_>, at: Node<'_>) {
    let Some(annotation) = annotation.filter(|_| profile.is_set()) else { return };
    let local = profile.get("localhostProfile");
    let fits = match profile.get("type").str() {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => matches!(annotation, "runtime/default" | "docker/default"),
        "Localhost" => match annotation.strip_prefix("localhost/") {
            Some(path) => {
                if path != local.str() || !local.is_set() {
                    at.get("localhostProfile").forbidden("profile in annotation and field must match");
                }
                true
            }
            None => false,
        },
        _ => true,
    };
    if !fits {
        at.get("type").forbidden("type in annotation and field must match");
    }
}

/// What an update may not do to a pod's annotations.
pub fn update(annotations: Node<'_>, old: &Value) {
    let fixed = |key: &str| key.starts_with(APP_ARMOR) || key == MIRROR;
    for (key, value) in old.as_object().into_iter().flatten().filter(|(key, _)| fixed(key)) {
        if annotations.value.get(key) != Some(value) {
            annotations.entry(key).forbidden("may not remove or update the annotation");
        }
    }
    for (key, value) in annotations.entries().filter(|(key, _)| fixed(key)) {
        if old.get(key).is_none() {
            value.forbidden("may not add the annotation");
        }
    }
}
