//! Label selectors, and the match of a selector with a template's labels.

use apimachinery::names;
use serde_json::Value;

use crate::node::Node;
use crate::rules::meta;

/// A `meta.v1 LabelSelector`, where there is one.
pub fn selector(selector: Node<'_>) {
    if !selector.is_set() {
        return;
    }
    meta::labels(selector.get("matchLabels"));
    for requirement in selector.get("matchExpressions").items() {
        self::requirement(requirement);
    }
}

fn requirement(requirement: Node<'_>) {
    let values = requirement.get("values");
    match requirement.get("operator").str() {
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
        _ => requirement.get("operator").invalid("not a valid selector operator"),
    }
    name(requirement.get("key"));
    for value in values.items() {
        value.check(names::label_value);
    }
}

/// A label's name.
pub fn name(name: Node<'_>) {
    name.check(names::qualified_name);
}

/// Whether a selector has no requirement at all.
pub fn is_empty(selector: &Value) -> bool {
    let none = |field: &str| match &selector[field] {
        Value::Object(o) => o.is_empty(),
        Value::Array(a) => a.is_empty(),
        _ => true,
    };
    none("matchLabels") && none("matchExpressions")
}

/// Whether a selector can be turned into a predicate: the names and values it holds are well formed.
pub fn is_valid(selector: &Value) -> bool {
    let labels = selector["matchLabels"].as_object();
    let labels_fit = labels
        .into_iter()
        .flatten()
        .all(|(k, v)| names::qualified_name(k).is_empty() && names::label_value(v.as_str().unwrap_or("")).is_empty());
    let expressions = selector["matchExpressions"].as_array().map_or(&[][..], Vec::as_slice);
    labels_fit && expressions.iter().all(valid_requirement)
}

fn valid_requirement(requirement: &Value) -> bool {
    let values = requirement["values"].as_array().map_or(&[][..], Vec::as_slice);
    let count_fits = match requirement["operator"].as_str().unwrap_or("") {
        "In" | "NotIn" => !values.is_empty(),
        "Exists" | "DoesNotExist" => values.is_empty(),
        _ => false,
    };
    count_fits
        && names::qualified_name(requirement["key"].as_str().unwrap_or("")).is_empty()
        && values.iter().all(|v| names::label_value(v.as_str().unwrap_or("")).is_empty())
}

/// Whether labels satisfy a selector. An absent selector selects nothing, an empty one everything.
pub fn matches(selector: &Value, labels: &Value) -> bool {
    if selector.is_null() {
        return false;
    }
    let wanted = selector["matchLabels"].as_object();
    let expressions = selector["matchExpressions"].as_array();
    wanted.into_iter().flatten().all(|(k, v)| labels.get(k) == Some(v))
        && expressions.into_iter().flatten().all(|r| requirement_matches(r, labels))
}

fn requirement_matches(requirement: &Value, labels: &Value) -> bool {
    let label = labels.get(requirement["key"].as_str().unwrap_or(""));
    let listed = || requirement["values"].as_array().is_some_and(|values| values.iter().any(|v| Some(v) == label));
    match requirement["operator"].as_str().unwrap_or("") {
        "In" => label.is_some() && listed(),
        "NotIn" => label.is_none() || !listed(),
        "Exists" => label.is_some(),
        "DoesNotExist" => label.is_none(),
        _ => false,
    }
}
