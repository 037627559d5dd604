//! The paths of resources and what can be done there.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Dialect;
use super::names::{capitalized, operation_group};
use super::schemas::Components;
use crate::schema::{Resource, Schema, Type};

const ANSWERS: [&str; 4] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"];
const WATCH_ANSWERS: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Custom resources have no protobuf messages, and no merge keys for strategic patches.
const CUSTOM_ANSWERS: [&str; 2] = ["application/json", "application/yaml"];
const CUSTOM_PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// What an operation does, to which kind.
struct Operation<'a> {
    /// The verb of the API.
    verb: &'a str,
    /// The method of HTTP.
    method: &'static str,
    action: &'static str,
    gvk: Value,
    id: String,
    tag: String,
    /// The model of the body, and of the answer.
    body: Option<Value>,
    answer: Value,
    /// Whether the resource is a custom one.
    custom: bool,
}

/// Adds the paths of a resource and of its subresources.
pub(super) fn add(paths: &mut Map<String, Value>, components: &mut Components, resource: &Resource) {
    let root = match resource.group.as_str() {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    let base = match resource.namespaced {
        true => format!("{root}/namespaces/{{namespace}}/{}", resource.resource),
        false => format!("{root}/{}", resource.resource),
    };
    let collection =
        [("list", "get", "list"), ("create", "post", "post"), ("deletecollection", "delete", "deletecollection")];
    let object =
        [("get", "get", "get"), ("update", "put", "put"), ("patch", "patch", "patch"), ("delete", "delete", "delete")];
    add_path(paths, components, resource, &base, &collection);
    add_path(paths, components, resource, &format!("{base}/{{name}}"), &object);
    if resource.namespaced && resource.has_verb("list") {
        add_path(paths, components, resource, &format!("{root}/{}", resource.resource), &collection[..1]);
    }
    for sub in &resource.subresources {
        let api_version = match sub.group.as_str() {
            "" => sub.version.clone(),
            group => format!("{group}/{}", sub.version),
        };
        let ty = if sub.kind == resource.kind { Some(&resource.ty) } else { None };
        let Some(ty) = ty.or_else(|| Schema::builtin().type_for_kind(&api_version, &sub.kind)) else { continue };
        let path = format!("{base}/{{name}}/{}", sub.name);
        let gvk = json!({"group": sub.group, "version": sub.version, "kind": sub.kind});
        let all = [("create", "post", "post")].into_iter().chain(object);
        for (verb, method, action) in all.filter(|(verb, ..)| sub.verbs.iter().any(|v| v == verb)) {
            let id = operation_id(action, resource, &capitalized(&sub.name), path.contains("{namespace}"));
            let link = components.link(ty);
            let body = has_body(verb).then(|| link.clone());
            let tag = tag(resource);
            let operation = Operation {
                verb,
                method,
                action,
                gvk: gvk.clone(),
                id,
                tag,
                body,
                answer: link,
                custom: is_custom(resource),
            };
            insert(paths, components, &path, operation);
        }
    }
}

fn add_path(
    paths: &mut Map<String, Value>,
    components: &mut Components,
    resource: &Resource,
    path: &str,
    verbs: &[(&'static str, &'static str, &'static str)],
) {
    let gvk = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    for (verb, method, action) in verbs.iter().copied().filter(|(verb, ..)| resource.has_verb(verb)) {
        let suffix = if resource.namespaced && !path.contains("{namespace}") { "ForAllNamespaces" } else { "" };
        let id = operation_id(action, resource, suffix, path.contains("{namespace}"));
        let answer = match verb {
            "list" => list_link(components, resource),
            "delete" | "deletecollection" => components.link_named("meta.v1.Status"),
            _ => components.link(&resource.ty),
        };
        let body = match verb {
            "delete" | "deletecollection" => Some(components.link_named("meta.v1.DeleteOptions")),
            "patch" => Some(patch_model(components)),
            _ => has_body(verb).then(|| components.link(&resource.ty)),
        };
        let tag = tag(resource);
        let operation =
            Operation { verb, method, action, gvk: gvk.clone(), id, tag, body, answer, custom: is_custom(resource) };
        insert(paths, components, path, operation);
    }
}

fn is_custom(resource: &Resource) -> bool {
    resource.ty.published.is_some()
}

fn has_body(verb: &str) -> bool {
    matches!(verb, "create" | "update" | "patch")
}

fn patch_model(components: &Components) -> Value {
    match components.dialect {
        Dialect::V2 => json!({"type": "object"}),
        Dialect::V3 => json!({}),
    }
}

fn list_link(components: &mut Components, resource: &Resource) -> Value {
    let kind = format!("{}List", resource.kind);
    let list: Option<&Arc<Type>> = Schema::builtin().type_for_kind(&resource.api_version(), &kind);
    match list {
        Some(list) => components.link(list),
        None => components.link_list_of(&resource.ty),
    }
}

fn tag(resource: &Resource) -> String {
    let group = resource.group.strip_suffix(".k8s.io").unwrap_or(&resource.group);
    let group = if group.is_empty() { "core".to_owned() } else { group.replace(['.', '-'], "_") };
    format!("{group}_{}", resource.version)
}

fn operation_id(action: &str, resource: &Resource, suffix: &str, namespaced: bool) -> String {
    let verb = match action {
        "get" => "read",
        "post" => "create",
        "put" => "replace",
        "deletecollection" => "deleteCollection",
        other => other,
    };
    let scope = if namespaced { "Namespaced" } else { "" };
    let group = operation_group(&resource.group, &resource.version);
    format!("{verb}{group}{scope}{}{suffix}", resource.kind)
}

fn insert(paths: &mut Map<String, Value>, components: &Components, path: &str, operation: Operation<'_>) {
    let dialect = components.dialect;
    let item = paths.entry(path).or_insert_with(|| json!({"parameters": path_parameters(dialect, path)}));
    let method = operation.method;
    item[method] = described(dialect, operation);
}

fn parameter(dialect: Dialect, place: &str, name: &str, ty: &str) -> Value {
    let mut parameter = json!({"name": name, "in": place});
    match dialect {
        Dialect::V2 => {
            parameter["type"] = ty.into();
            parameter["uniqueItems"] = true.into();
        }
        Dialect::V3 => parameter["schema"] = json!({"type": ty, "uniqueItems": true}),
    }
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

fn path_parameters(dialect: Dialect, path: &str) -> Vec<Value> {
    let names = ["name", "namespace"].into_iter().filter(|name| path.contains(&format!("{{{name}}}")));
    let pretty = parameter(dialect, "query", "pretty", "string");
    names.map(|name| parameter(dialect, "path", name, "string")).chain([pretty]).collect()
}

fn query_parameters(dialect: Dialect, verb: &str) -> Vec<Value> {
    let text = |name: &&str| parameter(dialect, "query", name, "string");
    let list = ["continue", "fieldSelector", "labelSelector", "resourceVersion", "resourceVersionMatch"];
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    let delete = ["dryRun", "propagationPolicy"];
    let mut parameters: Vec<Value> = match verb {
        "list" => list.iter().map(text).collect(),
        "create" | "update" | "patch" => write.iter().map(text).collect(),
        "delete" => delete.iter().map(text).collect(),
        "deletecollection" => list.iter().chain(&delete).map(text).collect(),
        _ => Vec::new(),
    };
    let mut add = |name: &str, ty: &str| parameters.push(parameter(dialect, "query", name, ty));
    if matches!(verb, "list" | "deletecollection") {
        for name in ["limit", "timeoutSeconds"] {
            add(name, "integer");
        }
        add("sendInitialEvents", "boolean");
    }
    match verb {
        "list" => {
            add("watch", "boolean");
            add("allowWatchBookmarks", "boolean");
        }
        "patch" => add("force", "boolean"),
        "delete" | "deletecollection" => {
            add("gracePeriodSeconds", "integer");
            add("orphanDependents", "boolean");
        }
        _ => {}
    }
    parameters
}

fn described(dialect: Dialect, operation: Operation<'_>) -> Value {
    let mut answers: Vec<&str> = if operation.custom { CUSTOM_ANSWERS.to_vec() } else { ANSWERS.to_vec() };
    if operation.verb == "list" && !operation.custom {
        answers.extend(WATCH_ANSWERS);
    }
    let consumed: &[&str] = match (operation.verb, operation.custom) {
        ("patch", false) => &PATCHES,
        ("patch", true) => &CUSTOM_PATCHES,
        _ => &["*/*"],
    };
    let mut parameters = query_parameters(dialect, operation.verb);
    let content = |types: &[&str], model: &Value| -> Value {
        Value::Object(types.iter().map(|media| ((*media).to_owned(), json!({"schema": model}))).collect())
    };
    let mut responses = Map::new();
    let codes: &[&str] = match operation.verb {
        "create" => &["200", "201", "202"],
        "update" | "patch" => &["200", "201"],
        "delete" => &["200", "202"],
        _ => &["200"],
    };
    for code in codes {
        let description = match *code {
            "201" => "Created",
            "202" => "Accepted",
            _ => "OK",
        };
        let response = match dialect {
            Dialect::V2 => json!({"description": description, "schema": operation.answer}),
            Dialect::V3 => json!({"description": description, "content": content(&answers, &operation.answer)}),
        };
        responses.insert((*code).to_owned(), response);
    }
    responses.insert("401".into(), json!({"description": "Unauthorized"}));
    let mut out = json!({
        "operationId": operation.id,
        "tags": [operation.tag],
        "responses": responses,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk,
    });
    let required = !matches!(operation.verb, "delete" | "deletecollection");
    match (dialect, operation.body) {
        (Dialect::V2, Some(body)) => {
            let mut parameter = json!({"name": "body", "in": "body", "schema": body});
            if required {
                parameter["required"] = true.into();
            }
            parameters.insert(0, parameter);
        }
        (Dialect::V3, Some(body)) => {
            out["requestBody"] = json!({"content": content(consumed, &body), "required": required});
        }
        (_, None) => {}
    }
    if dialect == Dialect::V2 {
        out["consumes"] = consumed.iter().copied().collect();
        out["produces"] = answers.iter().copied().collect();
        out["schemes"] = json!(["https"]);
    }
    if !parameters.is_empty() {
        out["parameters"] = Value::Array(parameters);
    }
    out
}
