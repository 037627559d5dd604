//! PodSecurity: namespaces say by labels which level of the Pod Security Standards their pods must meet.
//!
//! Kubernetes documentation, "Pod Security Admission" and "Pod Security Standards".

mod baseline;
mod checks;
mod configuration;
mod level;
mod restricted;
mod setters;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_storage::reader::{Change, GroupResource, Observer, Reader};
use async_trait::async_trait;
use parking_lot::RwLock;
use serde_json::Value;

use crate::object::{items, text};
use crate::{Attributes, Operation, Plugin};
use checks::{described, violations};
pub use configuration::{Configuration, KINDS};
use level::{Level, Policies, Policy};

const NAMESPACES: GroupResource<'static> = GroupResource::new("", "namespaces");
const PODS: GroupResource<'static> = GroupResource::new("", "pods");
/// How many of a namespace's pods are held against a new level.
const MAX_PODS_TO_CHECK: usize = 3000;
/// Subresources of pods that do not change what is checked.
const HARMLESS: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

pub struct PodSecurity {
    reader: Arc<dyn Reader>,
    configuration: Configuration,
    /// What each namespace says.
    policies: RwLock<HashMap<String, Policies>>,
}

impl PodSecurity {
    pub fn new(reader: Arc<dyn Reader>, configuration: Configuration) -> Self {
        PodSecurity { reader, configuration, policies: RwLock::default() }
    }

    fn known(&self, namespace: &str) -> Option<Policies> {
        self.policies.read().get(namespace).copied()
    }

    fn read(&self, namespace: &Value) -> Policies {
        Policies::of(namespace, self.configuration.defaults).0
    }

    /// What the namespace says, also if it is so new that nobody has told of it.
    async fn policies(&self, namespace: &str) -> Result<Policies, ApiError> {
        if let Some(policies) = self.known(namespace) {
            return Ok(policies);
        }
        let found = self.reader.get_consistent(NAMESPACES, "", namespace).await?;
        let found = found.ok_or_else(|| ApiError::internal(format!("failed to lookup namespace {namespace}")))?;
        Ok(self.read(&found))
    }

    fn exempts(&self, a: &Attributes<'_>) -> bool {
        let is_user = |exempt: &String| *exempt == a.user.name;
        self.exempts_namespace(a.namespace) || self.configuration.exemptions.usernames.iter().any(is_user)
    }

    fn exempts_namespace(&self, name: &str) -> bool {
        self.configuration.exemptions.namespaces.iter().any(|exempt| exempt == name)
    }

    /// What the policy forbids of the pod, as one line.
    fn fault(&self, policy: Policy, pod: &Value) -> Option<String> {
        if policy.level == Level::Privileged || self.exempts_class(pod) {
            return None;
        }
        described(&violations(policy, pod))
    }

    fn exempts_class(&self, pod: &Value) -> bool {
        let class = text(pod, "/spec/runtimeClassName");
        self.configuration.exemptions.runtime_classes.iter().any(|exempt| exempt == class)
    }

    /// Labels that are new must be such that they can be read.
    fn check_labels(&self, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        let errors = |namespace: &Value| Policies::of(namespace, self.configuration.defaults).1;
        let found = errors(new);
        let shown = |namespace: &Value| errors(namespace).iter().map(ToString::to_string).collect::<Vec<_>>();
        if found.is_empty() || old.is_some_and(|old| shown(old) == shown(new)) {
            return Ok(());
        }
        Err(ApiError::invalid("", "Namespace", meta::name(new), &found))
    }

    /// What the client is told who labels a namespace that is exempt.
    fn without_effect(&self, namespace: &Value) -> Vec<String> {
        let (name, policies) = (meta::name(namespace), self.read(namespace));
        let shown = policies.to_string();
        if shown.is_empty() || policies == self.configuration.defaults || !self.exempts_namespace(name) {
            return Vec::new();
        }
        vec![format!("namespace {name:?} is exempt from Pod Security, and the policy ({shown}) will be ignored")]
    }

    /// What the client is told who makes a namespace stricter than its pods.
    fn stricter(&self, namespace: &Value, old: &Value) -> Vec<String> {
        let name = meta::name(namespace);
        let (new, old) = (self.read(namespace).enforce, self.read(old).enforce);
        let is_relaxed = new.version == old.version && new.level <= old.level;
        if new == old || new.level == Level::Privileged || is_relaxed {
            return Vec::new();
        }
        if self.exempts_namespace(name) {
            return self.without_effect(namespace);
        }
        let pods = self.reader.list(PODS, Some(name));
        let checked = &pods[..pods.len().min(MAX_PODS_TO_CHECK)];
        let mut warnings = Vec::new();
        if checked.len() < pods.len() {
            let (checked, all) = (checked.len(), pods.len());
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {checked} of {all} existing pods"
            ));
        }
        let found = self.reasons(new, checked);
        if !found.is_empty() {
            warnings.push(format!(
                "existing pods in namespace {name:?} violate the new PodSecurity enforce level {:?}",
                new.to_string()
            ));
        }
        warnings.extend(found);
        warnings
    }

    /// The reasons against pods, each once, with the first of the pods and how many others there are.
    fn reasons(&self, policy: Policy, pods: &[Arc<Value>]) -> Vec<String> {
        let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !self.exempts_class(pod)) {
            let reasons: Vec<String> = violations(policy, pod).into_iter().map(|violation| violation.reason).collect();
            if !reasons.is_empty() {
                by_reason.entry(reasons.join(", ")).or_default().push(meta::name(pod));
            }
        }
        let line = |(reason, names): (String, Vec<&str>)| {
            let first = names.iter().min().copied().unwrap_or_default();
            match names.len() {
                1 => format!("{first}: {reason}"),
                2 => format!("{first} (and 1 other pod): {reason}"),
                many => format!("{first} (and {} other pods): {reason}", many - 1),
            }
        };
        let mut lines: Vec<String> = by_reason.into_iter().map(line).collect();
        lines.sort();
        lines
    }
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        let pods = a.is_any("", "pods") && !HARMLESS.contains(&a.subresource);
        a.writes() && (pods || a.is("", "namespaces") || template_pointer(a).is_some())
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let Some(new) = object else { return Ok(()) };
        if a.is("", "namespaces") {
            return self.check_labels(new, old);
        }
        if !a.is_any("", "pods") || self.exempts(a) {
            return Ok(());
        }
        let policy = self.policies(a.namespace).await?.enforce;
        if policy.level == Level::Privileged || !matters(a, new, old) {
            return Ok(());
        }
        match self.fault(policy, new) {
            Some(list) => Err(a.forbidden(object, &format!("violates PodSecurity {:?}: {list}", policy.to_string()))),
            None => Ok(()),
        }
    }

    fn warnings(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Vec<String> {
        let Some(new) = object else { return Vec::new() };
        if a.is("", "namespaces") {
            return old.map_or_else(|| self.without_effect(new), |old| self.stricter(new, old));
        }
        let policy = self.known(a.namespace).unwrap_or(self.configuration.defaults).warn;
        if policy.level == Level::Privileged || self.exempts(a) {
            return Vec::new();
        }
        let pod = match template_pointer(a) {
            Some(pointer) => new.pointer(pointer),
            None => Some(new).filter(|new| matters(a, new, old)),
        };
        let found = pod.and_then(|pod| self.fault(policy, pod));
        found.map(|list| format!("would violate PodSecurity {:?}: {list}", policy.to_string())).into_iter().collect()
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        Some(self)
    }
}

impl Observer for PodSecurity {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        &[NAMESPACES]
    }

    fn members(&self, _: GroupResource<'_>) -> &'static [&'static [&'static str]] {
        &[&["metadata", "labels"]]
    }

    fn observe(&self, change: &Change<'_>) {
        let mut policies = self.policies.write();
        match &change.new {
            Some(namespace) => policies.insert(change.name.to_owned(), self.read(namespace)),
            None => policies.remove(change.name),
        };
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
    let seccomp = |pod: &Value| -> BTreeMap<String, String> {
        let all = meta::annotations(pod).into_iter().flatten();
        let marks = all.filter(|(key, _)| key.contains("seccomp.security.alpha.kubernetes.io/"));
        marks.map(|(key, value)| (key.clone(), value.to_string())).collect()
    };
    let images = |pod: &Value, list: &str| -> Vec<(String, String)> {
        items(pod, list).iter().map(|c| (text(c, "/name").to_owned(), text(c, "/image").to_owned())).collect()
    };
    let same = |list: &str| images(new, list) == images(old, list);
    // Ephemeral containers are only added.
    let known = images(old, "/spec/ephemeralContainers");
    let is_added = images(new, "/spec/ephemeralContainers").iter().any(|own| !known.contains(own));
    !same("/spec/containers") || !same("/spec/initContainers") || is_added || seccomp(new) != seccomp(old)
}

#[cfg(test)]
mod tests;
