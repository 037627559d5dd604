//! Events, as old clients write them (group "") and as new ones do (events.k8s.io).

use apimachinery::names;
use serde_json::Value;

use crate::node::Node;
use crate::strategy::Kind;

const TEMPLATE: Kind = Kind { resource: "events", create_on_update: true, fields, ..Kind::PLAIN };

pub const CORE: Kind = Kind { group: "", create: |event| nulls(event, &["eventTime"]), validate: core, ..TEMPLATE };
pub const NEW: Kind = Kind {
    group: "events.k8s.io",
    create: |event| nulls(event, &["deprecatedFirstTimestamp", "deprecatedLastTimestamp"]),
    validate: new,
    ..TEMPLATE
};

/// Times that are written although there is none.
fn nulls(event: &mut Value, fields: &[&str]) {
    for field in fields {
        crate::defaults::set(event, field, Value::Null);
    }
}

const WORD_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

/// An event about an object of the cluster is kept in the default namespace.
fn namespace(root: Node<'_>, about: Node<'_>) {
    let at = about.get("namespace");
    let own = root.get("metadata").get("namespace").str();
    if at.is_empty() {
        if !matches!(own, "" | "default" | "kube-system") {
            at.invalid("namespace of the event and of its object must match");
        }
    } else if at.str() != own {
        at.invalid("does not match event.namespace");
    }
}

fn core(root: Node<'_>) {
    namespace(root, root.get("involvedObject"));
    // Clients of the new group can write here too: the event time tells them.
    if root.get("eventTime").is_set() {
        common(root, root.get("reportingComponent"), root.get("message"));
    }
}

fn new(root: Node<'_>) {
    if !root.get("eventTime").is_set() {
        root.get("eventTime").required("");
    }
    common(root, root.get("reportingController"), root.get("note"));
    let kind = root.get("type");
    if !matches!(kind.str(), "Normal" | "Warning") {
        kind.invalid("has invalid value: must be Normal or Warning");
    }
    for field in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
        if root.get(field).is_set() {
            root.get(field).invalid("needs to be unset");
        }
    }
}

fn common(root: Node<'_>, controller: Node<'_>, note: Node<'_>) {
    controller.need();
    controller.check(names::qualified_name);
    for word in [root.get("reportingInstance"), root.get("action"), root.get("reason")] {
        if word.need() && word.len() > WORD_MAX {
            word.invalid(format!("can have at most {WORD_MAX} characters"));
        }
    }
    if note.len() > NOTE_MAX {
        note.invalid(format!("can have at most {NOTE_MAX} characters"));
    }
}

/// The same names in both groups, as old clients know them.
fn fields(event: &Value) -> Vec<(&'static str, String)> {
    let about = if event["regarding"].is_object() { &event["regarding"] } else { &event["involvedObject"] };
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let source = event["source"]["component"].as_str().or_else(|| event["deprecatedSource"]["component"].as_str());
    let reporter = event["reportingComponent"].as_str().or_else(|| event["reportingController"].as_str());
    let mut out: Vec<(&'static str, String)> = Vec::new();
    for (old, new, field) in [
        ("involvedObject.kind", "regarding.kind", "kind"),
        ("involvedObject.namespace", "regarding.namespace", "namespace"),
        ("involvedObject.name", "regarding.name", "name"),
        ("involvedObject.uid", "regarding.uid", "uid"),
        ("involvedObject.apiVersion", "regarding.apiVersion", "apiVersion"),
        ("involvedObject.resourceVersion", "regarding.resourceVersion", "resourceVersion"),
        ("involvedObject.fieldPath", "regarding.fieldPath", "fieldPath"),
    ] {
        out.push((old, text(&about[field])));
        out.push((new, text(&about[field])));
    }
    out.push(("reason", text(&event["reason"])));
    out.push(("reportingComponent", reporter.unwrap_or("").to_owned()));
    out.push(("reportingController", reporter.unwrap_or("").to_owned()));
    out.push(("source", source.filter(|s| !s.is_empty()).or(reporter).unwrap_or("").to_owned()));
    out.push(("type", text(&event["type"])));
    out
}
