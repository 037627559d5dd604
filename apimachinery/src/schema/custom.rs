//! The types of custom resources, from their structural schemas.
//!
//! "Extend the Kubernetes API with CustomResourceDefinitions", "Specifying a structural schema".

use std::sync::Arc;

use serde_json::Value;

use super::Schema;
use super::types::{Field, FieldType, Gvk, ListType, MapType, Type, TypeRef};

/// The type of a custom resource's objects, from the `openAPIV3Schema` of one of its versions; without a schema, every
/// field is kept.
pub fn custom_type(gvk: Gvk, schema: Option<&Value>) -> Arc<Type> {
    let preserve_all =
        Value::Object([("x-kubernetes-preserve-unknown-fields".to_owned(), true.into())].into_iter().collect());
    let schema = schema.unwrap_or(&preserve_all);
    let name = format!("{}.{}.{}", gvk.group, gvk.version, gvk.kind);
    let mut ty = object_type(&name, schema, true);
    ty.gvk = vec![gvk];
    ty.published = Some(schema.clone());
    Arc::new(ty)
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn text<'v>(schema: &'v Value, key: &str) -> &'v str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// An object with properties. A resource of its own, at the top or embedded, also has a kind and metadata.
fn object_type(name: &str, schema: &Value, resource: bool) -> Type {
    let properties = schema.get("properties").and_then(Value::as_object);
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let own = |key: &str| resource && matches!(key, "apiVersion" | "kind" | "metadata");
    let mut fields: Vec<Field> = properties
        .into_iter()
        .flatten()
        .filter(|(key, _)| !own(key))
        .map(|(key, schema)| {
            let mut field = described(&format!("{name}.{key}"), key, schema);
            field.required = required.contains(&key.as_str());
            field
        })
        .collect();
    if resource {
        fields.push(Field::new("apiVersion", FieldType::String));
        fields.push(Field::new("kind", FieldType::String));
        if let Some(metadata) = Schema::builtin().type_named("meta.v1.ObjectMeta") {
            fields.push(Field::new("metadata", FieldType::Message(TypeRef::to(metadata.clone()))));
        }
    }
    let mut ty = Type::new(name, fields);
    ty.preserve_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields");
    ty.embedded_resource = flag(schema, "x-kubernetes-embedded-resource");
    ty
}

/// A property, an item or an additional property.
fn described(path: &str, name: &str, schema: &Value) -> Field {
    let mut field = Field::new(name, field_type(path, schema));
    field.lax = true;
    field.nullable = flag(schema, "nullable");
    field.default = schema.get("default").cloned();
    field.list_type = match text(schema, "x-kubernetes-list-type") {
        "set" => Some(ListType::Set),
        "map" => Some(ListType::Map),
        "atomic" => Some(ListType::Atomic),
        _ => None,
    };
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
    field.list_map_keys = keys.filter_map(Value::as_str).map(str::to_owned).collect();
    field.map_type = match text(schema, "x-kubernetes-map-type") {
        "atomic" => Some(MapType::Atomic),
        "granular" => Some(MapType::Granular),
        _ => None,
    };
    let values = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    field.enum_values = values.filter_map(Value::as_str).map(str::to_owned).collect();
    field
}

/// Only what has parts is told apart: whether a scalar is what it should be is for the validation to say, which knows more.
fn field_type(path: &str, schema: &Value) -> FieldType {
    match text(schema, "type") {
        "object" => map_or_object(path, schema),
        "array" => {
            let any = Value::Object(serde_json::Map::new());
            let items = schema.get("items").unwrap_or(&any);
            FieldType::List(Box::new(described(&format!("{path}[]"), "", items)))
        }
        _ if flag(schema, "x-kubernetes-int-or-string") => FieldType::Any,
        // `x-kubernetes-preserve-unknown-fields` without a type may still say something of some fields.
        "" if schema.get("properties").is_some() => map_or_object(path, schema),
        _ => FieldType::Any,
    }
}

/// Removes the fields that the type does not know, at every depth; metadata is left as it is.
pub fn prune(ty: &Type, value: &mut Value) {
    if let (None, Value::Object(map)) = (&ty.proto, value) {
        if !ty.preserve_unknown {
            map.retain(|name, _| ty.field_index(name).is_some());
        }
        for (name, value) in map {
            if let Some(field) = ty.field(name) {
                prune_below(field, value);
            }
        }
    }
}

fn prune_below(field: &Field, value: &mut Value) {
    match (&field.ty, value) {
        (FieldType::Message(ty), value) => prune(ty, value),
        (FieldType::List(item), Value::Array(items)) => items.iter_mut().for_each(|value| prune_below(item, value)),
        (FieldType::Map(element), Value::Object(map)) => {
            map.values_mut().for_each(|value| prune_below(element, value));
        }
        _ => {}
    }
}

fn map_or_object(path: &str, schema: &Value) -> FieldType {
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let has_properties = schema.get("properties").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    match schema.get("additionalProperties") {
        Some(values @ Value::Object(_)) if !has_properties => {
            FieldType::Map(Box::new(described(&format!("{path}{{}}"), "", values)))
        }
        Some(Value::Bool(true)) if !has_properties => FieldType::Object,
        _ if !has_properties && !embedded && flag(schema, "x-kubernetes-preserve-unknown-fields") => FieldType::Object,
        _ => FieldType::Message(TypeRef::to(Arc::new(object_type(path, schema, embedded)))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::codec::{FieldValidation, conform};
    use crate::schema::apply_defaults;

    #[test]
    fn a_structural_schema_prunes_defaults_and_keeps_what_it_is_told_to() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "default": {}, "properties": {
                "size": {"type": "integer", "default": 3},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "nul": {"type": "string", "nullable": true},
                "either": {"x-kubernetes-int-or-string": true},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "string", "default": "d"}}}},
                "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            }},
        }});
        let gvk = Gvk { group: "t.example.com".into(), version: "v1".into(), kind: "Thing".into() };
        let ty = custom_type(gvk, Some(&schema));
        let value = json!({
            "apiVersion": "t.example.com/v1", "kind": "Thing", "metadata": {"name": "x", "unknown": 1},
            "spec": {"free": {"a": [1]}, "nul": null, "either": "5%", "map": {"k": {}}, "other": 1, "pod": {"metadata": {"name": "p"}, "z": 1}},
        });
        let mut decoded = conform(&ty, value, FieldValidation::Warn).expect("conforms");
        apply_defaults(&ty, &mut decoded.value);
        assert_eq!(decoded.warnings, [r#"unknown field "metadata.unknown""#, r#"unknown field "spec.other""#]);
        assert_eq!(
            decoded.value["spec"],
            json!({
                "free": {"a": [1]}, "nul": null, "either": "5%", "size": 3, "map": {"k": {"x": "d"}}, "pod": {"metadata": {"name": "p"}, "z": 1},
            })
        );
    }
}
