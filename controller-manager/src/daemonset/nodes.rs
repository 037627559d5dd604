//! Which nodes a daemon set's pods run on: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint,
    Toleration,
};

use crate::taint_eviction::tolerates;

/// Taints that daemons live with: what they do is needed on such nodes too.
const DAEMON_TOLERATIONS: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";
const NAME_FIELD: &str = "metadata.name";

/// Whether a set's pod should start on a node, and whether one that is there may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// A pod should be there.
    pub run: bool,
    /// A pod that is there may stay.
    pub stay: bool,
}

/// What of a node decides where daemons run: when it changes, all sets are looked at.
pub fn fitness(node: &Node) -> impl PartialEq + use<> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let taints = taints.map(|taint| (taint.key.clone(), taint.effect.clone(), taint.value.clone())).collect::<Vec<_>>();
    (node.metadata.labels.clone(), taints)
}

/// A pod's tolerations with those that all daemons have.
pub fn with_daemon_tolerations(spec: &mut PodSpec) {
    let host_network = spec.host_network == Some(true);
    let tolerations = spec.tolerations.get_or_insert_default();
    let network = host_network.then_some((NETWORK_UNAVAILABLE, "NoSchedule"));
    for (key, effect) in DAEMON_TOLERATIONS.iter().copied().chain(network) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// Whether a set's pods belong on a node.
pub fn fit(set: &DaemonSet, node: &Node) -> Fit {
    let mut spec = set.spec.as_ref().and_then(|spec| spec.template.spec.clone()).unwrap_or_default();
    with_daemon_tolerations(&mut spec);
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let named = spec.node_name.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == name);
    if !named || !matches_affinity(&spec, node) {
        return Fit { run: false, stay: false };
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let untolerated = |effects: &[&str]| {
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        taints
            .filter(|taint| effects.contains(&taint.effect.as_str()))
            .any(|taint: &Taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
    };
    Fit { run: !untolerated(&["NoSchedule", "NoExecute"]), stay: !untolerated(&["NoExecute"]) }
}

fn matches_affinity(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    if spec.node_selector.iter().flatten().any(|(key, value)| labels.get(key) != Some(value)) {
        return false;
    }
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| matches_term(term, node, &labels)))
}

fn matches_term(term: &NodeSelectorTerm, node: &Node, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = node.metadata.name.as_deref();
    // A term without requirements matches nothing.
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|one| matches_requirement(one, labels.get(&one.key).map(String::as_str)))
        && fields.iter().all(|one| one.key == NAME_FIELD && matches_requirement(one, name))
}

fn matches_requirement(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
    let number = || value?.parse::<i64>().ok().zip(values.first()?.parse::<i64>().ok());
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number().is_some_and(|(own, bound)| own > bound),
        "Lt" => number().is_some_and(|(own, bound)| own < bound),
        _ => false,
    }
}

/// Ties a pod to a node, which the scheduler then binds it to.
pub fn pin(spec: &mut PodSpec, node: &str) {
    let requirement = NodeSelectorRequirement {
        key: NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![requirement]), match_expressions: None };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let node_affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    node_affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node that a daemon's pod runs on or is pinned to.
pub fn node_of(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(name) = spec.node_name.as_ref().filter(|name| !name.is_empty()) {
        return Some(name.clone());
    }
    let required =
        spec.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let mut pinned = fields.filter(|field| field.key == NAME_FIELD && field.operator == "In");
    pinned.find_map(|field| field.values.as_ref()?.first().cloned())
}

#[cfg(test)]
pub(crate) mod testing {
    use k8s_openapi::api::core::v1::NodeSpec;
    use kube::api::ObjectMeta;

    use super::*;

    /// A node with labels and taints (`key:Effect`).
    pub fn node(name: &str, labels: &[(&str, &str)], taints: &[&str]) -> Node {
        let taint = |text: &&str| {
            let (key, effect) = text.split_once(':').unwrap();
            Taint { key: key.into(), effect: effect.into(), ..Taint::default() }
        };
        Node {
            metadata: ObjectMeta {
                name: Some(name.into()),
                labels: Some(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec { taints: Some(taints.iter().map(taint).collect()), ..NodeSpec::default() }),
            status: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::testing::set;
    use super::testing::node;
    use super::*;

    #[test]
    fn daemons_live_with_conditions_but_not_with_other_taints() {
        for (taints, run, stay) in [
            (&[][..], true, true),
            (&["node.kubernetes.io/not-ready:NoExecute", "node.kubernetes.io/unschedulable:NoSchedule"], true, true),
            (&["dedicated:NoSchedule"], false, true),
            (&["dedicated:NoExecute"], false, false),
            (&["dedicated:PreferNoSchedule"], true, true),
            (&["node.kubernetes.io/network-unavailable:NoSchedule"], false, true),
        ] {
            assert_eq!(fit(&set("a"), &node("n", &[], taints)), Fit { run, stay }, "{taints:?}");
        }
        let mut hosted = set("a");
        hosted.spec.as_mut().unwrap().template.spec.as_mut().unwrap().host_network = Some(true);
        let unwired = node("n", &[], &["node.kubernetes.io/network-unavailable:NoSchedule"]);
        assert!(fit(&hosted, &unwired).run);
    }

    #[test]
    fn selectors_and_affinity_choose_nodes() {
        let mut chosen = set("a");
        let spec = chosen.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        spec.node_selector = Some(BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]));
        assert!(fit(&chosen, &node("n", &[("disk", "ssd")], &[])).run);
        assert!(!fit(&chosen, &node("n", &[("disk", "hdd")], &[])).run);
        let mut pinned = set("a");
        pin(pinned.spec.as_mut().unwrap().template.spec.as_mut().unwrap(), "n1");
        assert!(fit(&pinned, &node("n1", &[], &[])).run && !fit(&pinned, &node("n2", &[], &[])).run);
        for (operator, values, expected) in [
            ("Gt", &["5"][..], true),
            ("Lt", &["5"], false),
            ("Exists", &[], true),
            ("DoesNotExist", &[], false),
            ("NotIn", &["7"], false),
        ] {
            let requirement = NodeSelectorRequirement {
                key: "cores".into(),
                operator: operator.into(),
                values: Some(values.iter().map(|&value| value.to_owned()).collect()),
            };
            assert_eq!(matches_requirement(&requirement, Some("7")), expected, "{operator}");
        }
    }
}
