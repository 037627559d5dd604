//! Environment variables of containers, and where they come from.

use apimachinery::Quantity;
use serde_json::Value;

use super::page::Page;
use crate::fields::{self, Fields};

/// Whole maps that become variables.
pub fn sources(page: &mut Page, container: &Value) {
    let sources = container.list("envFrom");
    if sources.is_empty() {
        return;
    }
    page.line(2, "Environment Variables from:");
    for source in sources {
        let (from, map) = match () {
            () if source.has("configMapRef") => ("ConfigMap", source.at("configMapRef")),
            () if source.has("secretRef") => ("Secret", source.at("secretRef")),
            () => ("", source.at("none")),
        };
        let prefix = match source.text("prefix") {
            "" => String::new(),
            prefix => format!(" with prefix '{prefix}'"),
        };
        page.line(3, format_args!("{}\t{from}{prefix}\tOptional: {}", map.text("name"), map.flag("optional")));
    }
}

/// The variables one by one.
pub fn variables(page: &mut Page, container: &Value, pod: Option<&Value>) {
    let variables = container.list("env");
    let none = if variables.is_empty() { "\t<none>" } else { "" };
    page.line(2, format_args!("Environment:{none}"));
    for variable in variables {
        let name = variable.text("name");
        if !variable.has("valueFrom") {
            for (index, line) in variable.text("value").split('\n').enumerate() {
                match index {
                    0 => page.line(3, format_args!("{name}:\t{line}")),
                    _ => page.line(3, format_args!("\t{line}")),
                }
            }
        } else if let Some(text) = from(variable.at("valueFrom"), container, pod) {
            page.line(3, format_args!("{name}:\t{text}"));
        }
    }
}

fn from(source: &Value, container: &Value, pod: Option<&Value>) -> Option<String> {
    let key = |reference: &Value, of: &str| {
        let (key, name, optional) = (reference.text("key"), reference.text("name"), reference.flag("optional"));
        format!("<set to the key '{key}' {of} '{name}'>\tOptional: {optional}")
    };
    if source.has("fieldRef") {
        let reference = source.at("fieldRef");
        let (version, path) = (reference.text("apiVersion"), reference.text("fieldPath"));
        let known = version == "v1" || matches!(path, "metadata.name" | "metadata.namespace");
        let value = pod.filter(|_| known).map(|pod| field(pod, path)).unwrap_or_default();
        return Some(format!("{value} ({version}:{path})"));
    }
    if source.has("resourceFieldRef") {
        let reference = source.at("resourceFieldRef");
        let resource = reference.text("resource");
        let mut value = amount(reference, container).map(|amount| amount.to_string()).unwrap_or_default();
        if value == "0" && matches!(resource, "limits.cpu" | "limits.memory") {
            value = "node allocatable".to_owned();
        }
        return Some(format!("{value} ({resource})"));
    }
    if source.has("secretKeyRef") {
        return Some(key(source.at("secretKeyRef"), "in secret"));
    }
    source.has("configMapKeyRef").then(|| key(source.at("configMapKeyRef"), "of config map"))
}

/// A field of a pod as a variable's value; only metadata is known before the pod runs.
fn field(pod: &Value, path: &str) -> String {
    let metadata = pod.at("metadata");
    let quoted = |map: &Value| {
        let pair = |(key, value): (&String, &Value)| format!("{key}={:?}", fields::plain(value));
        map.map("").into_iter().flatten().map(pair).collect::<Vec<_>>().join("\n")
    };
    match path {
        "metadata.name" | "metadata.namespace" | "metadata.uid" => metadata.text(&path[9..]).to_owned(),
        "metadata.labels" | "metadata.annotations" => quoted(metadata.at(&path[9..])),
        // Of a map's single values nothing is told.
        _ => String::new(),
    }
}

/// An amount of the container's resources, in units of the divisor, rounded up.
fn amount(reference: &Value, container: &Value) -> Option<i64> {
    let (list, name) = reference.text("resource").split_once('.')?;
    if !matches!(list, "limits" | "requests") {
        return None;
    }
    let known = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !known {
        return None;
    }
    let parse = |value: &Value| fields::plain(value).parse::<Quantity>().ok().filter(|amount| !amount.is_zero());
    let amount = parse(&container["resources"][list][name]).unwrap_or(Quantity::ZERO);
    let (of, by): (fn(&Quantity) -> i64, i64) =
        if name == "cpu" { (Quantity::milli_value, 1000) } else { (Quantity::value, 1) };
    let divisor = parse(reference.at("divisor")).map_or(by, |divisor| of(&divisor));
    Some(of(&amount).div_euclid(divisor) + i64::from(of(&amount).rem_euclid(divisor) > 0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_say_where_they_come_from() {
        let pod = json!({"metadata": {"name": "p", "labels": {"a": "b"}}});
        let container = json!({"resources": {"limits": {"cpu": "1500m", "memory": "100Mi"}}});
        let of = |source: Value| from(&source, &container, Some(&pod)).unwrap();
        let field = |path: &str| of(json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}}));
        assert_eq!(field("metadata.name"), "p (v1:metadata.name)");
        assert_eq!(field("metadata.labels['a']"), " (v1:metadata.labels['a'])");
        assert_eq!(field("status.podIP"), " (v1:status.podIP)");
        let resource =
            |name: &str, divisor: &str| of(json!({"resourceFieldRef": {"resource": name, "divisor": divisor}}));
        assert_eq!(resource("limits.cpu", "0"), "2 (limits.cpu)");
        assert_eq!(resource("limits.memory", "1Mi"), "100 (limits.memory)");
        assert_eq!(resource("requests.cpu", "1m"), "0 (requests.cpu)");
        let secret = of(json!({"secretKeyRef": {"name": "s", "key": "k"}}));
        assert_eq!(secret, "<set to the key 'k' in secret 's'>\tOptional: false");
    }
}
