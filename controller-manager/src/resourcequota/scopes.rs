//! Which pods a quota with scopes is for: pure.

use k8s_openapi::api::core::v1::{Pod, ResourceQuotaSpec, ScopedResourceSelectorRequirement};

/// Whether a quota is for some pods only, and then for nothing else.
pub fn is_scoped(spec: &ResourceQuotaSpec) -> bool {
    spec.scopes.as_ref().is_some_and(|scopes| !scopes.is_empty())
        || spec
            .scope_selector
            .as_ref()
            .and_then(|selector| selector.match_expressions.as_ref())
            .is_some_and(|all| !all.is_empty())
}

/// Whether a quota is for a pod: all of its scopes must be.
pub fn selects(spec: &ResourceQuotaSpec, pod: &Pod) -> bool {
    let mut scopes = spec.scopes.iter().flatten();
    let selector = spec.scope_selector.as_ref().and_then(|selector| selector.match_expressions.as_ref());
    let mut expressions = selector.into_iter().flatten();
    scopes.all(|scope| has(scope, pod)) && expressions.all(|expression| matches(expression, pod))
}

fn has(scope: &str, pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    match scope {
        "Terminating" => spec.is_some_and(|spec| spec.active_deadline_seconds.is_some()),
        "NotTerminating" => !has("Terminating", pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => spec.and_then(|spec| spec.priority_class_name.as_ref()).is_some_and(|name| !name.is_empty()),
        "CrossNamespacePodAffinity" => reaches_other_namespaces(pod),
        _ => false,
    }
}

fn matches(expression: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref()).unwrap_or_default();
    let is_listed = expression.values.iter().flatten().any(|value| value == class);
    match (expression.operator.as_str(), expression.scope_name.as_str()) {
        ("In", "PriorityClass") => is_listed,
        ("NotIn", "PriorityClass") => !is_listed,
        ("Exists", scope) => has(scope, pod),
        ("DoesNotExist", scope) => !has(scope, pod),
        _ => false,
    }
}

/// Whether no container asks for cpu or memory, nor is limited in it.
fn is_best_effort(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let resources = containers.filter_map(|container| container.resources.as_ref()).chain(&spec.resources);
    let lists = resources.flat_map(|resources| [&resources.requests, &resources.limits]);
    let asks =
        lists.flatten().flatten().any(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && amount.0 != "0");
    !asks
}

fn reaches_other_namespaces(pod: &Pod) -> bool {
    let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else { return false };
    let (towards, away) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
    let required = towards
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .chain(away.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref()));
    let preferred = towards
        .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .chain(away.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref()));
    let terms = required.flatten().chain(preferred.flatten().map(|weighted| &weighted.pod_affinity_term));
    terms.into_iter().any(|term| {
        term.namespaces.as_ref().is_some_and(|names| !names.is_empty()) || term.namespace_selector.is_some()
    })
}
