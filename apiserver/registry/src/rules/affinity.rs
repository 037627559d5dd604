//! Affinity, node selectors and topology spread.

use apimachinery::names;
use serde_json::Value;

use crate::node::Node;
use crate::rules::labels;

/// A pod's `affinity`.
pub fn affinity(affinity: Node<'_>) {
    node_affinity(affinity.get("nodeAffinity"));
    for field in ["podAffinity", "podAntiAffinity"] {
        let terms = affinity.get(field);
        for term in terms.get("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_term(term);
        }
        for weighted in terms.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(weighted.get("weight"));
            pod_term(weighted.get("podAffinityTerm"));
        }
    }
}

fn weight(weight: Node<'_>) {
    if !(1..=100).contains(&weight.int()) {
        weight.invalid("must be in the range 1-100");
    }
}

fn node_affinity(affinity: Node<'_>) {
    let required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_set() {
        node_selector(required);
    }
    for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
        if term.get("weight").int() <= 0 || term.get("weight").int() > 100 {
            term.get("weight").invalid("must be in the range 1-100");
        }
        // A preference that no node can meet does no harm.
        node_term(term.get("preference"), false);
    }
}

/// A `core.v1 NodeSelector`.
pub fn node_selector(selector: Node<'_>) {
    let terms = selector.get("nodeSelectorTerms");
    if terms.is_empty() {
        terms.required("must have at least one node selector term");
    }
    for term in terms.items() {
        node_term(term, true);
    }
}

/// A `core.v1 NodeSelectorTerm`; `values` tells whether its values must be those that labels can have.
fn node_term(term: Node<'_>, values: bool) {
    for requirement in term.get("matchExpressions").items() {
        node_requirement(requirement, values);
    }
    for requirement in term.get("matchFields").items() {
        field_requirement(requirement);
    }
}

fn node_requirement(requirement: Node<'_>, check_values: bool) {
    let (operator, values) = (requirement.get("operator"), requirement.get("values"));
    match operator.str() {
        "In" | "NotIn" => {
            if values.is_empty() {
                values.required("must be specified when `operator` is 'In' or 'NotIn'");
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
        }
        "Gt" | "Lt" => {
            if values.len() != 1 {
                values.required("must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
        }
        _ => operator.invalid("not a valid selector operator"),
    }
    labels::name(requirement.get("key"));
    if check_values {
        values.items().for_each(|value| value.check(names::label_value));
    }
}

fn field_requirement(requirement: Node<'_>) {
    let (operator, values) = (requirement.get("operator"), requirement.get("values"));
    match operator.str() {
        "In" | "NotIn" => {
            if values.len() != 1 {
                values.required("must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
            }
        }
        _ => operator.invalid("not a valid selector operator"),
    }
    if requirement.get("key").str() == "metadata.name" {
        for value in values.items() {
            value.check(names::dns1123_subdomain);
        }
    } else {
        requirement.get("key").invalid("not a valid field selector key");
    }
}

fn pod_term(term: Node<'_>) {
    labels::selector(term.get("labelSelector"));
    labels::selector(term.get("namespaceSelector"));
    for namespace in term.get("namespaces").items() {
        for message in names::dns1123_label(namespace.str()) {
            term.get("namespace").invalid_value(namespace.str(), message);
        }
    }
    label_keys(term);
    let topology = term.get("topologyKey");
    if topology.is_empty() {
        topology.required("can not be empty");
    }
    for message in names::qualified_name(topology.str()) {
        topology.invalid(message);
    }
}

/// `matchLabelKeys` and their like need a selector that they add to.
fn keys_of_labels(keys: Node<'_>, selector: Node<'_>) {
    if keys.is_empty() {
        return;
    }
    if selector.is_set() {
        keys.items().for_each(labels::name);
    } else {
        keys.forbidden("must not be specified when labelSelector is not set");
    }
}

/// Keys that the selector has of its own, with their index. What the keys stand for was added to the selector when the pod was
/// made: only a second requirement is the user's.
fn selected_twice<'a>(keys: Node<'a>, selector: Node<'a>) -> Vec<(usize, &'a str)> {
    let mut selected: Vec<&str> = selector.get("matchLabels").entries().map(|(key, _)| key).collect();
    let mut twice = Vec::new();
    for expression in selector.get("matchExpressions").items() {
        let key = expression.get("key").str();
        if let (Some(index), true) = (keys.items().position(|k| k.str() == key), selected.contains(&key)) {
            twice.push((index, key));
        }
        selected.push(key);
    }
    twice
}

fn label_keys(term: Node<'_>) {
    let (selector, matched, mismatched) =
        (term.get("labelSelector"), term.get("matchLabelKeys"), term.get("mismatchLabelKeys"));
    keys_of_labels(matched, selector);
    keys_of_labels(mismatched, selector);
    for (index, key) in selected_twice(matched, selector) {
        term.index(index).invalid_value(key, "exists in both matchLabelKeys and labelSelector");
    }
    let mismatched = mismatched.value.as_array().map_or(&[][..], Vec::as_slice);
    for key in matched.items() {
        if mismatched.contains(key.value) {
            key.invalid("exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
}

/// `topologySpreadConstraints` of a pod.
pub fn topology_spread(constraints: Node<'_>) {
    const WHEN: [&str; 2] = ["DoNotSchedule", "ScheduleAnyway"];
    let pair = |c: Node<'_>| (c.get("topologyKey").value.clone(), c.get("whenUnsatisfiable").value.clone());
    for (i, constraint) in constraints.items().enumerate() {
        let (key, when) = (constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"));
        if constraint.get("maxSkew").int() <= 0 {
            constraint.get("maxSkew").invalid_value(constraint.get("maxSkew").int(), "must be greater than zero");
        }
        key.need();
        when.one_of(&WHEN);
        // The earlier one of two is reported.
        if constraints.items().skip(i + 1).any(|other| pair(other) == pair(constraint)) {
            let text = Value::from(format!("{{{}, {}}}", key.str(), when.str()));
            constraint.get("{topologyKey, whenUnsatisfiable}").with(&text).duplicate();
        }
        min_domains(constraint);
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.get(field).one_of_if_set(&["Honor", "Ignore"]);
        }
        spread_label_keys(constraint);
        labels::selector(constraint.get("labelSelector"));
    }
}

fn min_domains(constraint: Node<'_>) {
    let min = constraint.get("minDomains");
    min.positive_if_set();
    if min.is_set() && constraint.get("whenUnsatisfiable").str() != "DoNotSchedule" {
        min.invalid("can only use minDomains if whenUnsatisfiable=DoNotSchedule");
    }
}

fn spread_label_keys(constraint: Node<'_>) {
    let (keys, selector) = (constraint.get("matchLabelKeys"), constraint.get("labelSelector"));
    keys_of_labels(keys, selector);
    for (index, key) in selected_twice(keys, selector) {
        keys.index(index).invalid_value(key, "exists in both matchLabelKeys and labelSelector");
    }
}
