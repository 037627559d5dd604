//! What webhooks have in common, wherever one is configured.

use apimachinery::names;
use serde_json::Value;

use crate::node::Node;
use crate::rules::probe;

/// A client configuration: either a URL or a service.
pub fn client_config(config: Node<'_>) {
    let (url, service) = (config.get("url"), config.get("service"));
    match (url.is_set(), service.is_set()) {
        (true, false) => self::url(url),
        (false, true) => {
            // Kubernetes reports the one missing under the other's name; clients may rely on the path.
            for (field, reported) in [("name", "namespace"), ("namespace", "name")] {
                if service.get(field).is_empty() {
                    service.get(reported).required("");
                }
            }
            path(service.get("path"));
            probe::port_number(service.get("port"));
        }
        _ => config.required("exactly one of url or service is required"),
    }
}

fn url(url: Node<'_>) {
    let (scheme, rest) = url.str().split_once("://").unwrap_or(("", ""));
    if scheme != "https" {
        url.invalid("'https' is the only allowed URL scheme");
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if authority.is_empty() {
        url.invalid("host must be specified");
    }
    if authority.contains('@') {
        url.invalid("user information is not permitted in the URL");
    }
    if tail.contains('#') {
        url.invalid("fragments are not permitted in the URL");
    }
    if tail.contains('?') {
        url.invalid("query parameters are not permitted in the URL");
    }
}

/// A URL path whose segments are domain names.
fn path(path: Node<'_>) {
    let text = path.str();
    if text.is_empty() || text == "/" {
        return;
    }
    if text == "//" {
        path.invalid("segment[0] may not be empty");
        return;
    }
    if !text.starts_with('/') {
        path.invalid("must start with a '/'");
    }
    let rest: String = text.chars().skip(1).collect();
    let rest = rest.strip_suffix('/').unwrap_or(&rest);
    for (i, segment) in rest.split('/').enumerate() {
        if segment.is_empty() {
            path.invalid(format!("segment[{i}] may not be empty"));
            continue;
        }
        for message in names::dns1123_subdomain(segment) {
            path.invalid(format!("segment[{i}]: {message}"));
        }
    }
}

/// Operations and the resources they are done to.
pub fn rule(rule: Node<'_>) {
    let operations = rule.get("operations");
    if operations.is_empty() {
        operations.required("");
    }
    wildcard_alone(operations);
    for operation in operations.items() {
        operation.one_of(&["CREATE", "UPDATE", "DELETE", "CONNECT", "*"]);
    }
    let (groups, versions, resources) = (rule.get("apiGroups"), rule.get("apiVersions"), rule.get("resources"));
    for list in [groups, versions, resources] {
        if list.is_empty() {
            list.required("");
        }
    }
    wildcard_alone(groups);
    wildcard_alone(versions);
    for version in versions.items() {
        version.need();
    }
    self::resources(resources);
    rule.get("scope").one_of_if_set(&["*", "Cluster", "Namespaced"]);
}

fn wildcard_alone(list: Node<'_>) {
    if list.len() > 1 && list.items().any(|item| item.str() == "*") {
        list.invalid("if '*' is present, must not specify others");
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/scale`, `*` and `*/*`, none of which covers another.
fn resources(list: Node<'_>) {
    let (mut of_any, mut all_of): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let has = |word: &str| list.items().any(|r| r.str() == word);
    for resource in list.items() {
        let text = resource.str();
        if text.is_empty() {
            resource.required("");
            continue;
        }
        let Some((name, sub)) = text.split_once('/') else { continue };
        if of_any.contains(&sub) {
            resource.invalid(format!("if '*/{sub}' is present, must not specify {text}"));
        }
        if all_of.contains(&name) {
            resource.invalid(format!("if '{name}/*' is present, must not specify {text}"));
        }
        if sub == "*" {
            all_of.push(name);
        }
        if name == "*" {
            of_any.push(sub);
        }
    }
    if list.len() > 1 && has("*/*") {
        list.invalid("if '*/*' is present, must not specify other resources");
    }
    // As Kubernetes has it, the last of those without a subresource counts.
    let last = list.items().filter(|r| !r.is_empty() && !r.str().contains('/')).last();
    if has("*") && last.is_some_and(|r| r.str() != "*") {
        list.invalid("if '*' is present, must not specify other resources without subresources");
    }
}

/// Names of versions, at least one of which is known.
pub fn review_versions(versions: Node<'_>, known: &[&str]) {
    if versions.is_empty() {
        versions.required("must specify one of the known versions");
        return;
    }
    let mut seen: Vec<&Value> = Vec::new();
    for version in versions.items() {
        if seen.contains(&version.value) {
            version.invalid("duplicate version");
            continue;
        }
        seen.push(version.value);
        for message in names::dns1035_label(version.str()) {
            version.invalid(message);
        }
    }
    if !versions.items().any(|v| known.contains(&v.str())) {
        versions.invalid(format!("must include at least one of {}", known.join(", ")));
    }
}
