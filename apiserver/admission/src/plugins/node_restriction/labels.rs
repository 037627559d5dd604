//! Which labels a kubelet may set on its node.

use std::collections::BTreeSet;

use apimachinery::meta;
use serde_json::Value;

/// Labels of Kubernetes' own domains that kubelets set.
const ALLOWED: [&str; 12] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
];

/// Domains, with all below them, that are the kubelets' to fill.
const ALLOWED_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// The domain that administrators keep from kubelets.
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";

/// The labels that differ between the two objects and that a kubelet may not change.
pub(super) fn forbidden_changes(new: &Value, old: Option<&Value>) -> Vec<String> {
    let old = old.and_then(meta::labels);
    let new = meta::labels(new);
    let keys = new.into_iter().chain(old).flat_map(|labels| labels.keys());
    let get = |labels: Option<&serde_json::Map<String, Value>>, key: &str| labels.and_then(|l| l.get(key).cloned());
    let changed: BTreeSet<&String> = keys.filter(|key| get(new, key) != get(old, key)).collect();
    changed.into_iter().filter(|key| is_forbidden(key)).cloned().collect()
}

fn is_forbidden(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    if below(domain, RESTRICTED_DOMAIN) {
        return true;
    }
    let ours = below(domain, "kubernetes.io") || below(domain, "k8s.io");
    ours && !ALLOWED.contains(&key) && !ALLOWED_DOMAINS.iter().any(|allowed| below(domain, allowed))
}

fn below(domain: &str, parent: &str) -> bool {
    domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}
