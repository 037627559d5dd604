//! Aggregated ClusterRoles: their rules are those of the roles that their selectors pick.

use apimachinery::labels::Selector;
use serde_json::Value;

use crate::object::{items, name};

/// The rules that an aggregated role should have, in the order of the names of the roles they come from; none if the role
/// does not aggregate. `all` are the cluster's ClusterRoles.
pub fn aggregate(role: &Value, all: &[&Value]) -> Option<Vec<Value>> {
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors")?.as_array()?;
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        // A selector that cannot be read picks nothing.
        let selector = Selector::from_label_selector(Some(selector)).unwrap_or_else(|_| Selector::nothing());
        let mut chosen: Vec<&&Value> =
            all.iter().filter(|other| name(other) != name(role) && selector.matches_object(other)).collect();
        chosen.sort_by_key(|other| name(other));
        for rule in chosen.iter().flat_map(|other| items(other, "/rules")) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
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
