//! The field and label selectors of access reviews (KEP-4601): as raw text, or as a list of requirements.

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::object::{items, strings, text};

const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// What is wrong with the selectors of `resourceAttributes`.
pub fn validate(attributes: &Value, path: &Path) -> ErrorList {
    let both = ["fieldSelector", "labelSelector"].into_iter();
    both.flat_map(|field| match attributes.get(field).filter(|value| value.is_object()) {
        Some(selector) => validate_one(selector, field, &path.child(field)),
        None => Vec::new(),
    })
    .collect()
}

fn validate_one(selector: &Value, field: &str, path: &Path) -> ErrorList {
    let raw = text(selector, "/rawSelector");
    let requirements = items(selector, "/requirements");
    let mut errors = Vec::new();
    if !raw.is_empty() && !requirements.is_empty() {
        let detail = "may not specified at the same time as requirements";
        errors.push(Error::invalid(&path.child("rawSelector"), raw, detail));
    }
    if raw.is_empty() && requirements.is_empty() {
        let detail = format!("when {field} is specified, requirements or rawSelector is required");
        errors.push(Error::required(&path.child("requirements"), detail));
    }
    for (index, requirement) in requirements.iter().enumerate() {
        errors.extend(validate_requirement(requirement, &path.child("requirements").index(index)));
    }
    errors
}

fn validate_requirement(requirement: &Value, path: &Path) -> ErrorList {
    let mut errors = Vec::new();
    if text(requirement, "/key").is_empty() {
        errors.push(Error::required(&path.child("key"), "must be specified"));
    }
    let (operator, values) = (text(requirement, "/operator"), strings(requirement, "values"));
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(Error::required(&path.child("values"), detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&path.child("values"), detail));
        }
        known if OPERATORS.contains(&known) => {}
        other => errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator")),
    }
    errors
}

/// The field selector as text. What field selectors cannot say is left out: it only narrows, so authorizers see less.
pub fn fields(attributes: &Value) -> String {
    let Some(selector) = attributes.get("fieldSelector") else { return String::new() };
    let raw = text(selector, "/rawSelector");
    if !raw.is_empty() {
        return raw.to_owned();
    }
    let terms = items(selector, "/requirements").iter().filter_map(|requirement| {
        let (key, values) = (text(requirement, "/key"), strings(requirement, "values"));
        match (text(requirement, "/operator"), values.as_slice()) {
            ("In", [one]) => Some(format!("{key}={one}")),
            ("NotIn", [one]) => Some(format!("{key}!={one}")),
            _ => None,
        }
    });
    terms.collect::<Vec<_>>().join(",")
}

/// The label selector as text.
pub fn labels(attributes: &Value) -> String {
    let Some(selector) = attributes.get("labelSelector") else { return String::new() };
    let raw = text(selector, "/rawSelector");
    if !raw.is_empty() {
        return raw.to_owned();
    }
    let terms = items(selector, "/requirements").iter().filter_map(|requirement| {
        let (key, values) = (text(requirement, "/key"), strings(requirement, "values").join(","));
        match text(requirement, "/operator") {
            "In" => Some(format!("{key} in ({values})")),
            "NotIn" => Some(format!("{key} notin ({values})")),
            "Exists" => Some(key.to_owned()),
            "DoesNotExist" => Some(format!("!{key}")),
            _ => None,
        }
    });
    terms.collect::<Vec<_>>().join(",")
}
