//! PodSecurity: namespaces say by labels which level of the Pod Security Standards their pods must meet.
//!
//! Kubernetes documentation, "Pod Security Admission" and "Pod Security Standards".

mod baseline;
mod level;
mod restricted;

use std::sync::Arc;

use apimachinery::field::{Error, Path};
use apimachinery::{ApiError, meta};
use apiserver_storage::reader::{GroupResource, Reader};
use async_trait::async_trait;
use serde_json::Value;

use crate::object::{containers, items, text};
use crate::{Attributes, Operation, Plugin};
use level::{Level, Policy};

const NAMESPACES: GroupResource<'static> = GroupResource::new("", "namespaces");

pub struct PodSecurity {
    reader: Arc<dyn Reader>,
}

impl PodSecurity {
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        PodSecurity { reader }
    }

    /// The policy of one mode (`enforce`, `warn`) of the request's namespace.
    fn policy(&self, a: &Attributes<'_>, mode: &str) -> Policy {
        let namespace = self.reader.get(NAMESPACES, "", a.namespace);
        namespace.map_or_else(Policy::default, |namespace| Policy::of(&namespace, mode))
    }
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        let pods = a.is_any("", "pods") && ["", "ephemeralcontainers", "resize"].contains(&a.subresource);
        a.writes() && (pods || a.is("", "namespaces") || template_pointer(a).is_some())
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let Some(new) = object else { return Ok(()) };
        if a.is("", "namespaces") {
            return check_labels(new, old);
        }
        if !a.is_any("", "pods") || !matters(a, new, old) {
            return Ok(());
        }
        let policy = self.policy(a, "enforce");
        match violations(policy.level, new) {
            Some(list) => Err(a.forbidden(object, &format!("violates PodSecurity {:?}: {list}", policy.to_string()))),
            None => Ok(()),
        }
    }

    fn warnings(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Vec<String> {
        let Some(new) = object.filter(|_| !a.is("", "namespaces")) else { return Vec::new() };
        let pod = match template_pointer(a) {
            Some(pointer) => new.pointer(pointer),
            None => Some(new).filter(|new| matters(a, new, old)),
        };
        let policy = self.policy(a, "warn");
        let found = pod.and_then(|pod| violations(policy.level, pod));
        found.map(|list| format!("would violate PodSecurity {:?}: {list}", policy.to_string())).into_iter().collect()
    }
}

/// Where the pod template of a workload is; none for other resources.
fn template_pointer(a: &Attributes<'_>) -> Option<&'static str> {
    let workloads = [
        ("", "replicationcontrollers", "/spec/template"),
        ("", "podtemplates", "/template"),
        ("apps", "replicasets", "/spec/template"),
        ("apps", "deployments", "/spec/template"),
        ("apps", "statefulsets", "/spec/template"),
        ("apps", "daemonsets", "/spec/template"),
        ("batch", "jobs", "/spec/template"),
        ("batch", "cronjobs", "/spec/jobTemplate/spec/template"),
    ];
    workloads.into_iter().find(|(group, resource, _)| a.is(group, resource)).map(|(_, _, pointer)| pointer)
}

/// Whether the write could change what the level says: a pod that was let in stays, unless its containers change.
fn matters(a: &Attributes<'_>, new: &Value, old: Option<&Value>) -> bool {
    let (Operation::Update, Some(old)) = (a.operation, old) else { return true };
    if meta::deletion_timestamp(new).is_some() {
        return false;
    }
    let images = |pod: &Value| -> Vec<(String, String)> {
        let names = containers(&pod["spec"]).map(|c| (text(c, "/name").to_owned(), text(c, "/image").to_owned()));
        names.collect()
    };
    images(new) != images(old) || meta::annotations(new) != meta::annotations(old)
}

/// What violates the level, as one line; none if nothing does.
fn violations(level: Level, pod: &Value) -> Option<String> {
    let null = Value::Null;
    let (metadata, spec) = (pod.get("metadata").unwrap_or(&null), pod.get("spec").unwrap_or(&null));
    let found: Vec<String> = match level {
        Level::Privileged => Vec::new(),
        Level::Baseline => baseline::check(metadata, spec),
        Level::Restricted => restricted::check(metadata, spec),
    };
    (!found.is_empty()).then(|| found.join(", "))
}

/// Levels and versions that are new in a namespace's labels must be such that they can be read.
fn check_labels(new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    for mode in ["enforce", "audit", "warn"] {
        for (key, valid, detail) in [
            (
                level::label(mode),
                Level::parse as fn(&str) -> Option<Level>,
                "must be one of privileged, baseline, restricted",
            ),
            (level::version_label(mode), level::is_version, "must be \"latest\" or \"v1.x\""),
        ] {
            let value = meta::label(new, &key);
            let changed = old.is_none_or(|old| meta::label(old, &key) != value);
            if let Some(value) = value.filter(|value| changed && valid(value).is_none()) {
                errors.push(Error::invalid(&Path::new("metadata").child("labels").key(&key), value, detail));
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid("", "Namespace", meta::name(new), &errors)) }
}

/// The names of the containers that the condition holds for, as messages show them; none if there are none.
fn named(spec: &Value, holds: impl Fn(&Value) -> bool) -> Option<(String, usize)> {
    let names: Vec<String> = containers(spec).filter(|c| holds(c)).map(|c| format!("{:?}", text(c, "/name"))).collect();
    match names.len() {
        0 => None,
        1 => Some((format!("container {}", names[0]), 1)),
        many => Some((format!("containers {}", names.join(", ")), many)),
    }
}

/// The security contexts of a pod and of its containers, each with how messages call it.
fn contexts(spec: &Value) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    if let Some(context) = spec.get("securityContext").filter(|context| context.is_object()) {
        all.push(("pod".to_owned(), context));
    }
    for container in containers(spec) {
        if let Some(context) = container.get("securityContext").filter(|context| context.is_object()) {
            all.push((format!("container {:?}", text(container, "/name")), context));
        }
    }
    all
}

/// The strings of a list.
fn strings<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    items(value, pointer).iter().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests;
