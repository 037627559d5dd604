//! Taints and tolerations.

use apimachinery::names;

use crate::node::Node;

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "PreferNoSchedule"];

/// A pod's tolerations.
pub fn tolerations(list: Node<'_>) {
    for toleration in list.items() {
        self::toleration(toleration);
    }
}

fn toleration(toleration: Node<'_>) {
    let (key, operator, value) = (toleration.get("key"), toleration.get("operator"), toleration.get("value"));
    key.check_if_set(names::qualified_name);
    if key.is_empty() && operator.str() != "Exists" {
        operator.invalid("operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
    }
    if toleration.get("tolerationSeconds").is_set() && toleration.get("effect").str() != "NoExecute" {
        toleration.get("effect").invalid("effect must be 'NoExecute' when `tolerationSeconds` is set");
    }
    match operator.str() {
        "Equal" | "" => {
            let messages = names::label_value(value.str());
            if !messages.is_empty() {
                operator.invalid_value(value.str(), messages.join(";"));
            }
        }
        "Exists" => {
            if !value.is_empty() {
                operator.invalid("value must be empty when `operator` is 'Exists'");
            }
        }
        _ => operator.not_supported(&["Equal", "Exists"]),
    }
    if !toleration.get("effect").is_empty() {
        toleration.get("effect").one_of(&EFFECTS);
    }
}

/// A node's taints: the pair of key and effect is unique.
pub fn taints(list: Node<'_>) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for taint in list.items() {
        let (key, effect) = (taint.get("key"), taint.get("effect"));
        key.check(names::qualified_name);
        let messages = names::label_value(taint.get("value").str());
        if !messages.is_empty() {
            taint.get("value").invalid(messages.join(";"));
        }
        effect.need_one_of(&EFFECTS);
        let pair = (key.str(), effect.str());
        if seen.contains(&pair) {
            taint.duplicate();
        }
        seen.push(pair);
    }
}
