//! Objects of kinds that have no description of their own: every field, with its name in words.

use serde_json::Value;

use super::Subject;
use super::page::{Page, go};

const SKIPPED: [&str; 5] =
    [".metadata.managedFields", ".metadata.name", ".metadata.namespace", ".metadata.labels", ".metadata.annotations"];
const ACRONYMS: [&str; 5] = ["API", "URL", "UID", "OSB", "GUID"];

/// Writes any object.
pub fn describe(subject: &Subject<'_>) -> Page {
    let mut page = Page::default();
    page.head(subject.object);
    page.tags(subject.object);
    fields(&mut page, 0, subject.object, "");
    page
}

fn fields(page: &mut Page, level: usize, value: &Value, path: &str) {
    for (field, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{field}");
        if SKIPPED.contains(&path.as_str()) {
            continue;
        }
        let label = label(field);
        match value {
            Value::Object(_) => {
                page.line(level, format_args!("{label}:"));
                fields(page, level + 1, value, &path);
            }
            Value::Array(items) => {
                page.line(level, format_args!("{label}:"));
                for item in items {
                    match item {
                        Value::Object(_) => fields(page, level + 1, item, &path),
                        other => page.line(level + 1, go(other)),
                    }
                }
            }
            other => page.field(level, &label, go(other)),
        }
    }
}

/// `apiVersion` is `API Version`. What has digits or signs stays as it is.
fn label(field: &str) -> String {
    if field.chars().any(|c| !c.is_alphabetic() && c != '-') {
        return field.to_owned();
    }
    words(field).iter().map(|word| title(word)).collect::<Vec<_>>().join(" ")
}

fn title(word: &str) -> String {
    let upper = word.to_uppercase();
    if ACRONYMS.contains(&upper.as_str()) {
        return upper;
    }
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Words begin at a capital after a small letter, and at the last capital before a small letter.
fn words(field: &str) -> Vec<String> {
    #[derive(PartialEq, Clone, Copy)]
    enum Class {
        Lower,
        Upper,
        Other,
    }
    let class = |c: char| match c {
        c if c.is_lowercase() => Class::Lower,
        c if c.is_uppercase() => Class::Upper,
        _ => Class::Other,
    };
    let mut runs: Vec<(Class, String)> = Vec::new();
    for c in field.chars() {
        match runs.last_mut().filter(|(last, _)| *last == class(c)) {
            Some((_, run)) => run.push(c),
            None => runs.push((class(c), c.to_string())),
        }
    }
    for index in 1..runs.len() {
        if runs[index - 1].0 == Class::Upper
            && runs[index].0 == Class::Lower
            && let Some(last) = runs[index - 1].1.pop()
        {
            runs[index].1.insert(0, last);
        }
    }
    runs.into_iter().map(|(_, run)| run).filter(|run| !run.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_words() {
        for (field, text) in [
            ("apiVersion", "API Version"),
            ("uid", "UID"),
            ("podCIDRs", "Pod CID Rs"),
            ("creationTimestamp", "Creation Timestamp"),
            ("loadBalancerIP", "Load Balancer IP"),
            ("a.b", "a.b"),
            ("x-y", "X - Y"),
            ("ipv4", "ipv4"),
        ] {
            assert_eq!(label(field), text, "{field}");
        }
    }
}
