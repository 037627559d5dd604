//! Aggregated ClusterRoles: their rules are those of the roles that their selectors pick.

use serde_json::Value;

use crate::object::{items, name, strings};

/// The rules that an aggregated role should have, in the order of the names of the roles they come from; none if the role
/// does not aggregate. `all` are the cluster's ClusterRoles.
pub fn aggregate(role: &Value, all: &[&Value]) -> Option<Vec<Value>> {
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors")?.as_array()?;
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let mut chosen: Vec<&&Value> =
            all.iter().filter(|other| name(other) != name(role) && selects(selector, other)).collect();
        chosen.sort_by_key(|other| name(other));
        for rule in chosen.iter().flat_map(|other| items(other, "/rules")) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

/// Whether a LabelSelector matches the labels of an object; an empty one matches all.
fn selects(selector: &Value, object: &Value) -> bool {
    let empty = serde_json::Map::new();
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object).unwrap_or(&empty);
    let wanted = selector.get("matchLabels").and_then(Value::as_object).unwrap_or(&empty);
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
        && items(selector, "/matchExpressions").iter().all(|expression| holds(expression, labels))
}

fn holds(expression: &Value, labels: &serde_json::Map<String, Value>) -> bool {
    let value = labels.get(crate::object::text(expression, "/key")).and_then(Value::as_str);
    let listed = value.is_some_and(|value| strings(expression, "values").iter().any(|v| v == value));
    match crate::object::text(expression, "/operator") {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_gathered_by_label_once_each() {
        let role = json!({
            "metadata": {"name": "view"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]},
        });
        let rule = |verb: &str| json!({"verbs": [verb]});
        let first = json!({"metadata": {"name": "b", "labels": {"to": "view"}}, "rules": [rule("list"), rule("get")]});
        let second = json!({"metadata": {"name": "a", "labels": {"to": "view"}}, "rules": [rule("get")]});
        let other = json!({"metadata": {"name": "c", "labels": {"to": "edit"}}, "rules": [rule("delete")]});
        assert_eq!(aggregate(&role, &[&first, &second, &other]), Some(vec![rule("get"), rule("list")]));
        assert_eq!(aggregate(&other, &[&first]), None);
    }
}
