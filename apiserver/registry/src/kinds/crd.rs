//! Custom resource definitions: names, versions, and structural schemas.

use apimachinery::names;
use apiserver_cel::check::{Scope, Ty};
use serde_json::{Value, json};

use crate::custom::{self, status};
use crate::defaults::{at, object, set, set_empty};
use crate::node::Node;
use crate::rules::meta::Finalizers;
use crate::rules::{cel, webhook};
use crate::strategy::Kind;

pub const KIND: Kind = Kind {
    group: "apiextensions.k8s.io",
    resource: "customresourcedefinitions",
    finalizers: Finalizers::Qualified,
    default,
    create: store_versions,
    update: add_stored_version,
    deletion: status::begin_deletion,
    validate,
    creation: approval,
    transition,
    warnings: |root, _| unconverted(root.get("spec").get("conversion").get("strategy")),
    status: |root, _| stored_versions(root.get("status").get("storedVersions"), root.get("spec")),
    generation: true,
    ..Kind::PLAIN
};

fn default(definition: &mut Value) {
    let spec = object(definition, "spec");
    let names = object(spec, "names");
    let kind = names["kind"].as_str().unwrap_or("").to_owned();
    if !kind.is_empty() {
        set_empty(names, "singular", kind.to_lowercase());
        set_empty(names, "listKind", format!("{kind}List"));
    }
    set(spec, "conversion", json!({"strategy": "None"}));
    if let Some(service) = at(spec, &["conversion", "webhook", "clientConfig", "service"]) {
        set(service, "port", 443);
    }
}

/// The storage version is the first that objects are stored in.
fn store_versions(definition: &mut Value) {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let mut stored: Vec<Value> = Vec::new();
    for version in versions.filter(|v| v["storage"] == true) {
        if !stored.contains(&version["name"]) {
            stored.push(version["name"].clone());
        }
    }
    definition["status"] = json!({"conditions": null, "storedVersions": stored});
}

/// A version that objects are stored in from now on is one of those that they may be stored in.
fn add_stored_version(definition: &mut Value, _old: &Value) {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let Some(storage) = versions.filter(|v| v["storage"] == true).map(|v| v["name"].clone()).next() else { return };
    match definition["status"]["storedVersions"].as_array_mut() {
        Some(stored) if stored.contains(&storage) => {}
        Some(stored) => stored.push(storage),
        None => object(definition, "status")["storedVersions"] = json!([storage]),
    }
}

/// Definitions in the groups of Kubernetes itself say where they were approved.
fn approval(root: Node<'_>) {
    let annotation = root.get("metadata").get("annotations").entry("api-approved.kubernetes.io");
    match status::approval_fault(root.value) {
        Some((true, message)) => annotation.required(&message),
        Some((false, message)) => annotation.invalid(message),
        None => {}
    }
}

fn validate(root: Node<'_>) {
    let spec = root.get("spec");
    let (name, group, definition) = (root.get("metadata").get("name"), spec.get("group"), spec.get("names"));
    let wanted = format!("{}.{}", definition.get("plural").str(), group.str());
    if !name.is_empty() && name.str() != wanted {
        name.invalid(format!("must be spec.names.plural+\".\"+spec.group, {wanted:?}"));
    }
    self::group(group);
    spec.get("scope").need_one_of(&["Cluster", "Namespaced"]);
    self::names(definition);
    versions(spec);
    stored_versions(root.get("status").get("storedVersions"), spec);
    conversion(spec.get("conversion"));
    if spec.get("preserveUnknownFields").bool() {
        spec.get("preserveUnknownFields")
            .invalid("cannot set to true, set x-preserve-unknown-fields to true in spec.versions[*].schema instead");
    }
}

fn group(group: Node<'_>) {
    if !group.need() {
        return;
    }
    let messages = names::dns1123_subdomain(group.str());
    if !messages.is_empty() {
        group.invalid(messages.join(","));
    } else if !group.str().contains('.') {
        group.invalid("should be a domain with at least one dot");
    }
}

fn names(definition: Node<'_>) {
    let label = |node: Node<'_>, text: &str| {
        let messages = names::dns1035_label(text);
        if !messages.is_empty() {
            node.invalid(messages.join(","));
        }
    };
    for field in ["plural", "singular", "kind", "listKind"] {
        let node = definition.get(field);
        if node.need() {
            let lower = node.str().to_lowercase();
            label(node, if field.ends_with("ind") { &lower } else { node.str() });
        }
    }
    for list in ["shortNames", "categories"] {
        for item in definition.get(list).items() {
            label(item, item.str());
        }
    }
    let (kind, list) = (definition.get("kind"), definition.get("listKind"));
    if !kind.is_empty() && kind.str() == list.str() {
        list.invalid("kind and listKind may not be the same");
    }
}

/// A part of the versions. Where all have the same, Kubernetes reports it at the top of the spec.
fn parts<'a>(spec: Node<'a>, field: &'static str, hoisted: &'static str) -> Vec<Node<'a>> {
    let versions: Vec<Node<'a>> = spec.get("versions").items().collect();
    let Some(first) = versions.first() else { return Vec::new() };
    if versions.iter().all(|v| v.value.get(field) == first.value.get(field)) {
        return vec![spec.get(hoisted).with(first.get(field).value)];
    }
    versions.iter().map(|v| v.get(field)).collect()
}

fn versions(spec: Node<'_>) {
    let list = spec.get("versions");
    let (mut storage, mut unique) = (0, true);
    let mut seen: Vec<&str> = Vec::new();
    for (i, version) in list.items().enumerate() {
        let name = version.get("name");
        let messages = names::dns1035_label(name.str());
        if !messages.is_empty() {
            name.invalid_value(name.str(), messages.join(","));
            if i == 0 && !name.is_empty() {
                spec.get("version").with(name.value).invalid(messages.join(","));
            }
        }
        unique &= !seen.contains(&name.str());
        seen.push(name.str());
        storage += u32::from(version.get("storage").bool());
        if !version.get("schema").get("openAPIV3Schema").is_set() {
            version.get("schema").get("openAPIV3Schema").required("schemas are required");
        }
        let warning = version.get("deprecationWarning");
        if warning.is_set() && !version.get("deprecated").bool() {
            warning.invalid("can only be set for deprecated versions");
        }
    }
    if !unique {
        list.invalid("must contain unique version names");
    }
    if storage != 1 {
        list.invalid("must have exactly one version marked as storage version");
    }
    for part in parts(spec, "schema", "validation") {
        let schema = part.get("openAPIV3Schema");
        if schema.is_set() {
            root_schema(schema);
        }
    }
    parts(spec, "subresources", "subresources").into_iter().for_each(scale);
    let first = list.items().next().map(|version| &version.value["schema"]["openAPIV3Schema"]);
    for (i, part) in parts(spec, "selectableFields", "selectableFields").into_iter().enumerate() {
        let own = list.index(i).value["schema"].get("openAPIV3Schema");
        if let Some(schema) = own.or(first) {
            selectable_fields(part, schema);
        }
    }
    for part in parts(spec, "additionalPrinterColumns", "additionalPrinterColumns") {
        part.items().for_each(printer_column);
    }
}

fn stored_versions(stored: Node<'_>, spec: Node<'_>) {
    if stored.is_empty() {
        stored.invalid("must have at least one stored version");
        return;
    }
    let mut left: Vec<(usize, &str)> = stored.items().map(Node::str).enumerate().collect();
    for version in spec.get("versions").items() {
        let name = version.get("name").str();
        let known = left.iter().any(|(_, v)| *v == name);
        if version.get("storage").bool() && !known {
            stored.invalid(format!("must have the storage version {name}"));
        }
        left.retain(|(_, v)| *v != name);
    }
    for (i, _) in left {
        stored.index(i).invalid("must appear in spec.versions");
    }
}

fn root_schema(schema: Node<'_>) {
    let kind = schema.get("type");
    if kind.is_empty() {
        kind.required("must not be empty at the root");
    } else if kind.str() != "object" {
        kind.invalid("must be object at the root");
    }
    if schema.get("nullable").bool() {
        schema.get("nullable").forbidden("nullable cannot be true at the root");
    }
    self::schema(schema, true);
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// A schema says what its values are, and so do all below it.
fn schema(schema: Node<'_>, root: bool) {
    let kind = schema.get("type");
    let untyped =
        schema.get("x-kubernetes-int-or-string").bool() || schema.get("x-kubernetes-preserve-unknown-fields").bool();
    if kind.is_empty() {
        if !untyped && !root {
            kind.required("must not be empty for specified object fields");
        }
    } else if !TYPES.contains(&kind.str()) {
        kind.not_supported(&TYPES);
    } else if schema.get("x-kubernetes-int-or-string").bool() {
        kind.invalid("must be empty if x-kubernetes-int-or-string is true");
    }
    if kind.str() == "array" && !schema.get("items").is_set() {
        schema.get("items").required("must be specified");
    }
    for field in ["definitions", "dependencies", "id", "patternProperties", "$ref"] {
        if schema.value.get(field).is_some_and(|v| !v.is_null()) {
            schema.get(field).forbidden("not supported in structural schemas");
        }
    }
    if schema.get("uniqueItems").bool() {
        schema
            .get("uniqueItems")
            .forbidden("uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
    }
    if !schema.get("properties").is_empty() && schema.get("additionalProperties").is_set() {
        schema.get("additionalProperties").forbidden("additionalProperties and properties are mutual exclusive");
    }
    let pattern = schema.get("pattern");
    if let Err(error) = regex::Regex::new(pattern.str()) {
        pattern.invalid(format!("must be a valid regular expression: {error}"));
    }
    default_value(schema);
    list_and_map_types(schema);
    rules(schema);
    for (_, property) in schema.get("properties").entries() {
        self::schema(property, false);
    }
    for field in ["items", "additionalProperties"] {
        if schema.get(field).value.is_object() {
            self::schema(schema.get(field), false);
        }
    }
}

/// A default is a value that the schema allows.
fn default_value(schema: Node<'_>) {
    let default = schema.get("default");
    if !default.is_set() {
        return;
    }
    for error in custom::schema::Schema::of(schema.value).validate(default.value, custom::schema::Ratchet::New) {
        default.invalid(error.to_string());
    }
}

/// How many fields can be selected on at most.
const MAX_SELECTABLE_FIELDS: usize = 8;

/// The fields that field selectors may name are scalars that the schema describes (KEP-4358).
fn selectable_fields(fields: Node<'_>, schema: &Value) {
    fields.at_most(MAX_SELECTABLE_FIELDS);
    let mut seen: Vec<&str> = Vec::new();
    for field in fields.items() {
        let path = field.get("jsonPath");
        if !path.need() {
            continue;
        }
        let found = path
            .str()
            .strip_prefix('.')
            .and_then(|rest| rest.split('.').try_fold(schema, |schema, name| schema.get("properties")?.get(name)));
        let kind = found.and_then(|schema| schema["type"].as_str());
        if !matches!(kind, Some("string" | "integer" | "boolean")) || path.str().starts_with(".metadata.") {
            path.invalid(
                "must be the path of a string, an integer or a boolean outside of the metadata, such as .spec.color",
            );
        }
        if seen.contains(&path.str()) {
            path.duplicate();
        }
        seen.push(path.str());
    }
}

fn list_and_map_types(schema: Node<'_>) {
    let (list, map, keys) = (
        schema.get("x-kubernetes-list-type"),
        schema.get("x-kubernetes-map-type"),
        schema.get("x-kubernetes-list-map-keys"),
    );
    let kind = schema.get("type");
    if list.is_set() {
        list.one_of(&["atomic", "map", "set"]);
        if kind.str() != "array" {
            if kind.is_empty() {
                kind.required("must be array if x-kubernetes-list-type is specified");
            } else {
                kind.invalid("must be array if x-kubernetes-list-type is specified");
            }
        }
    }
    if list.str() == "map" {
        if keys.is_empty() {
            keys.required("must not be empty if x-kubernetes-list-type is map");
        }
        for key in keys.items() {
            if schema.get("items").get("properties").value.get(key.str()).is_none() {
                key.invalid("must be the name of a property of items");
            }
        }
    } else if !keys.is_empty() {
        keys.forbidden("must be empty if x-kubernetes-list-type is not map");
    }
    if map.is_set() {
        map.one_of(&["atomic", "granular"]);
        if kind.str() != "object" {
            kind.invalid("must be object if x-kubernetes-map-type is specified");
        }
    }
}

/// `x-kubernetes-validations`, whose `self` has the fields of the schema.
fn rules(schema: Node<'_>) {
    let ty = || cel::type_of_schema(schema.value, is_root(schema));
    for rule in schema.get("x-kubernetes-validations").items() {
        let old = if rule.get("optionalOldSelf").bool() { Ty::Named("optional") } else { ty() };
        let scope = Scope::default().with("self", ty()).with("oldSelf", old);
        cel::predicate(rule.get("rule"), &scope);
        let (message, computed) = (rule.get("message"), rule.get("messageExpression"));
        if message.is_set() && message.str().contains('\n') {
            message.invalid("message must not contain line breaks");
        }
        if !computed.is_empty() {
            cel::expression(computed, &scope);
        }
        rule.get("reason").one_of_if_set(&[
            "FieldValueDuplicate",
            "FieldValueForbidden",
            "FieldValueInvalid",
            "FieldValueRequired",
        ]);
    }
}

/// The root schema has the fields of every object.
fn is_root(schema: Node<'_>) -> bool {
    schema.path().as_str().ends_with("openAPIV3Schema")
}

/// A path of field names, such as `.spec.replicas`.
fn simple_path(path: &str) -> bool {
    let field = |f: &str| !f.is_empty() && f.chars().all(|c| c.is_ascii_alphanumeric() || "_-[]'\"\\/".contains(c));
    path.strip_prefix('.').is_some_and(|rest| rest.split('.').all(field))
}

fn scale(subresources: Node<'_>) {
    let scale = subresources.get("scale");
    if !scale.is_set() {
        return;
    }
    for (field, prefix) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let path = scale.get(field);
        if !path.need() {
            continue;
        }
        if !simple_path(path.str()) {
            path.invalid("must be a simple json path in dot notation");
        } else if !path.str().starts_with(prefix) {
            path.invalid(format!("should be a json path under {prefix}"));
        }
    }
    let selector = scale.get("labelSelectorPath");
    if !selector.is_empty()
        && !(simple_path(selector.str())
            && (selector.str().starts_with(".spec.") || selector.str().starts_with(".status.")))
    {
        selector.invalid("should be a json path under either .spec or .status");
    }
}

fn printer_column(column: Node<'_>) {
    const FORMATS: [&str; 8] = ["int32", "int64", "float", "double", "byte", "date", "date-time", "password"];
    column.get("name").need();
    let (kind, format) = (column.get("type"), column.get("format"));
    if kind.need() && !matches!(kind.str(), "boolean" | "date" | "integer" | "number" | "string") {
        kind.invalid("must be one of boolean, date, integer, number, string");
    }
    if !format.is_empty() && !FORMATS.contains(&format.str()) {
        format.invalid(format!("must be one of {}", FORMATS.join(",")));
    }
    let path = column.get("JSONPath").with(column.get("jsonPath").value);
    if path.need() && !(path.str().starts_with('.') || path.str().starts_with('[')) {
        path.invalid("must be a json path in dot notation");
    }
}

/// Conversion webhooks are not asked yet: who relies on one must hear of it.
fn unconverted(strategy: Node<'_>) {
    if strategy.str() == "Webhook" {
        strategy.warn("conversion webhooks are not called yet; versions are converted as with the strategy None");
    }
}

fn conversion(conversion: Node<'_>) {
    let (strategy, webhook) = (conversion.get("strategy"), conversion.get("webhook"));
    strategy.need_one_of(&["None", "Webhook"]);
    if strategy.str() == "Webhook" {
        if webhook.get("clientConfig").is_set() {
            webhook::client_config(webhook.get("clientConfig"));
        } else {
            webhook.get("clientConfig").required("required when strategy is set to Webhook");
        }
        webhook::review_versions(webhook.get("conversionReviewVersions"), &["v1", "v1beta1"]);
    } else if webhook.is_set() {
        webhook.forbidden("should not be set when strategy is not set to Webhook");
    }
}

/// Once the names are taken, group, scope, kind and plural stay.
fn transition(root: Node<'_>, old: &Value) {
    let established = old["status"]["conditions"]
        .as_array()
        .is_some_and(|c| c.iter().any(|c| c["type"] == "Established" && c["status"] == "True"));
    let (spec, before) = (root.get("spec"), &old["spec"]);
    spec.get("group").immutable(&before["group"]);
    spec.get("names").get("plural").immutable(&before["names"]["plural"]);
    if established {
        spec.get("scope").immutable(&before["scope"]);
        spec.get("names").get("kind").immutable(&before["names"]["kind"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(schema: Value, more: Value) -> Vec<String> {
        let mut version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": {"x": schema}}}}}});
        version.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        let definition = json!({"spec": {"versions": [version]}});
        let context = crate::node::Context::default();
        versions(context.root(&definition).get("spec"));
        context.into_errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn who_asks_for_a_conversion_webhook_is_told_that_it_is_not_called() {
        let warned = |strategy: &str| {
            let context = crate::node::Context::default();
            (KIND.warnings)(context.root(&json!({"spec": {"conversion": {"strategy": strategy}}})), None);
            context.into_warnings().len()
        };
        assert_eq!((warned("Webhook"), warned("None")), (1, 0));
    }

    #[test]
    fn defaults_patterns_and_selectable_fields_must_make_sense() {
        let x = "spec.validation.openAPIV3Schema.properties[spec].properties[x]";
        let text = json!({"type": "string", "pattern": "^a", "default": "ab"});
        assert_eq!(faults(text.clone(), json!({})), [""; 0]);
        assert_eq!(faults(json!({"type": "string", "pattern": "("}), json!({})), [format!("{x}.pattern")]);
        assert_eq!(faults(json!({"type": "string", "default": 1}), json!({})), [format!("{x}.default")]);
        assert_eq!(faults(json!({"type": "integer", "minimum": 2, "default": 1}), json!({})), [format!("{x}.default")]);
        let select = |paths: &[&str]| {
            let fields: Vec<Value> = paths.iter().map(|path| json!({"jsonPath": path})).collect();
            faults(text.clone(), json!({"selectableFields": fields}))
        };
        assert_eq!(select(&[".spec.x"]), [""; 0]);
        let first = "spec.selectableFields[0].jsonPath";
        assert_eq!(select(&[".spec"]), [first]);
        assert_eq!(select(&[".spec.y"]), [first]);
        assert_eq!(select(&[".spec.x", ".spec.x"]), ["spec.selectableFields[1].jsonPath"]);
    }
}
