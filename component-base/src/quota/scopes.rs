//! Which objects a quota with scopes is for.

use apimachinery::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, ResourceQuotaSpec, ScopedResourceSelectorRequirement as Requirement,
};

use super::Object;

/// The scopes of a quota, all as requirements.
pub fn of(spec: &ResourceQuotaSpec) -> impl Iterator<Item = Requirement> {
    let plain = spec.scopes.iter().flatten().map(|scope| Requirement {
        scope_name: scope.clone(),
        operator: "Exists".to_owned(),
        values: None,
    });
    let selector = spec.scope_selector.as_ref().and_then(|selector| selector.match_expressions.as_ref());
    plain.chain(selector.into_iter().flatten().cloned())
}

/// Whether a quota is for some objects only.
pub fn is_scoped(spec: &ResourceQuotaSpec) -> bool {
    of(spec).next().is_some()
}

/// Whether a quota is for an object: all of its scopes must be.
pub fn selects(spec: &ResourceQuotaSpec, object: Object<'_>) -> bool {
    of(spec).all(|requirement| matches(&requirement, object))
}

/// Whether an object is in a scope. Only pods and claims are in any.
pub fn matches(requirement: &Requirement, object: Object<'_>) -> bool {
    match object {
        Object::Pod(pod) => is_pod_in(requirement, pod),
        Object::Claim(claim) => requirement.scope_name == "VolumeAttributesClass" && is_claim_in(requirement, claim),
        Object::Service(_) | Object::Other(_) => false,
    }
}

fn is_pod_in(requirement: &Requirement, pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let is_terminating = || spec.and_then(|spec| spec.active_deadline_seconds).is_some_and(|seconds| seconds >= 0);
    match requirement.scope_name.as_str() {
        "Terminating" => is_terminating(),
        "NotTerminating" => !is_terminating(),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => has(requirement, spec.and_then(|spec| spec.priority_class_name.as_deref())),
        "CrossNamespacePodAffinity" => reaches_other_namespaces(pod),
        _ => false,
    }
}

/// By the classes that a claim has, will have and could not get.
fn is_claim_in(requirement: &Requirement, claim: &PersistentVolumeClaim) -> bool {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status
        .and_then(|status| status.modify_volume_status.as_ref())
        .and_then(|status| status.target_volume_attributes_class_name.as_deref());
    let all = [wanted, current, target];
    let any = || all.iter().flatten().any(|class| !class.is_empty());
    match requirement.operator.as_str() {
        "Exists" => any(),
        "DoesNotExist" => !any(),
        "In" => all.iter().any(|class| has(requirement, *class)),
        _ => all.iter().all(|class| has(requirement, *class)),
    }
}

/// Whether a class meets the requirement; none is no class.
fn has(requirement: &Requirement, class: Option<&str>) -> bool {
    let class = class.filter(|class| !class.is_empty());
    let is_listed = || class.is_some_and(|class| requirement.values.iter().flatten().any(|value| value == class));
    match requirement.operator.as_str() {
        "In" => is_listed(),
        "NotIn" => !is_listed(),
        "Exists" => class.is_some(),
        "DoesNotExist" => class.is_none(),
        _ => false,
    }
}

/// Whether no container asks for cpu or memory, nor is limited in it.
fn is_best_effort(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let resources = containers.filter_map(|container| container.resources.as_ref()).chain(&spec.resources);
    let lists = resources.flat_map(|resources| [&resources.requests, &resources.limits]);
    let asks = lists
        .flatten()
        .flatten()
        .any(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && !is_nothing(&amount.0));
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

fn is_nothing(amount: &str) -> bool {
    amount.parse::<Quantity>().is_ok_and(|amount| amount.is_zero())
}
