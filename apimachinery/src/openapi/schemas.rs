//! The models of types.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::names::model_name;
use super::{Dialect, custom};
use crate::schema::{Field, FieldType, ListType, MapType, Schema, Type, UnionKind};

const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const DURATION: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Duration";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const JSON: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";

/// The models that a document needs, found as they are referred to.
pub(super) struct Components {
    pub dialect: Dialect,
    models: BTreeMap<String, Value>,
    /// Referred to, and not written yet.
    waiting: Vec<Arc<Type>>,
}

impl Components {
    pub(super) fn new(dialect: Dialect) -> Self {
        Components { dialect, models: BTreeMap::new(), waiting: Vec::new() }
    }

    /// A link to a type's model, which will be part of the document.
    pub(super) fn link(&mut self, ty: &Arc<Type>) -> Value {
        let name = model_name(ty);
        if !self.models.contains_key(&name) {
            self.models.insert(name.clone(), Value::Null);
            self.waiting.push(ty.clone());
        }
        self.dialect.reference(&name)
    }

    /// A link to a type of the table.
    pub(super) fn link_named(&mut self, name: &str) -> Value {
        match Schema::builtin().type_named(name) {
            Some(ty) => self.link(ty),
            None => json!({"type": "object"}),
        }
    }

    /// A link to the model of a custom resource's list.
    pub(super) fn link_list_of(&mut self, item: &Arc<Type>) -> Value {
        let name = format!("{}List", model_name(item));
        if !self.models.contains_key(&name) {
            let items = self.link(item);
            let metadata = self.link_named("meta.v1.ListMeta");
            let gvk: Vec<Value> = item
                .gvk
                .iter()
                .map(|gvk| json!({"group": gvk.group, "version": gvk.version, "kind": format!("{}List", gvk.kind)}))
                .collect();
            let model = json!({
                "type": "object",
                "required": ["items"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": metadata,
                    "items": {"type": "array", "items": items},
                },
                "x-kubernetes-group-version-kind": gvk,
            });
            self.models.insert(name.clone(), model);
        }
        self.dialect.reference(&name)
    }

    /// A link to one of the models that are scalars to JSON.
    fn link_basic(&mut self, name: &str) -> Value {
        if !self.models.contains_key(name) {
            let model = basic(self.dialect, name);
            self.models.insert(name.to_owned(), model);
        }
        self.dialect.reference(name)
    }

    pub(super) fn finish(mut self) -> Map<String, Value> {
        while let Some(ty) = self.waiting.pop() {
            let model = self.model(&ty);
            self.models.insert(model_name(&ty), model);
        }
        self.models.into_iter().collect()
    }

    fn model(&mut self, ty: &Type) -> Value {
        if let Some(schema) = &ty.published {
            return custom::model(self, ty, schema);
        }
        let mut properties = Map::new();
        for field in &ty.fields {
            let property = self.property(field);
            properties.insert(field.name.clone(), property);
        }
        let mut model = Map::new();
        model.insert("type".into(), "object".into());
        let required: Vec<Value> = ty.fields.iter().filter(|f| f.required).map(|f| f.name.as_str().into()).collect();
        if !required.is_empty() {
            model.insert("required".into(), Value::Array(required));
        }
        if !properties.is_empty() {
            model.insert("properties".into(), Value::Object(properties));
        }
        if !ty.gvk.is_empty() {
            let gvk = ty.gvk.iter().map(|g| json!({"group": g.group, "version": g.version, "kind": g.kind}));
            model.insert("x-kubernetes-group-version-kind".into(), gvk.collect());
        }
        if ty.map_type == Some(MapType::Atomic) {
            model.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        if ty.preserve_unknown {
            model.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
        }
        if ty.embedded_resource {
            model.insert("x-kubernetes-embedded-resource".into(), true.into());
        }
        Value::Object(model)
    }

    fn property(&mut self, field: &Field) -> Value {
        let mut property = match self.of_type(&field.ty) {
            Value::Object(map) => map,
            other => return other,
        };
        let extensions = extensions(field);
        // Beside a link nothing else is read: in version 3 the link moves below `allOf`.
        if !extensions.is_empty() && property.contains_key("$ref") && self.dialect == Dialect::V3 {
            property = [("allOf".to_owned(), Value::Array(vec![Value::Object(property)]))].into_iter().collect();
        }
        property.extend(extensions);
        Value::Object(property)
    }

    fn of_type(&mut self, ty: &FieldType) -> Value {
        match ty {
            FieldType::Bool => json!({"type": "boolean"}),
            FieldType::Int32 => json!({"type": "integer", "format": "int32"}),
            FieldType::Int64 => json!({"type": "integer", "format": "int64"}),
            FieldType::Double => json!({"type": "number", "format": "double"}),
            FieldType::String => json!({"type": "string"}),
            FieldType::Bytes => json!({"type": "string", "format": "byte"}),
            FieldType::Time => self.link_basic(TIME),
            FieldType::MicroTime => self.link_basic(MICRO_TIME),
            FieldType::Duration => self.link_basic(DURATION),
            FieldType::Quantity => self.link_basic(QUANTITY),
            FieldType::IntOrString => self.link_basic(INT_OR_STRING),
            FieldType::Raw => self.link_basic(RAW),
            FieldType::FieldsV1 => self.link_basic(FIELDS),
            FieldType::Json => self.link_basic(JSON),
            FieldType::Union(kind, _) => self.link_basic(union_name(*kind)),
            FieldType::Object => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            FieldType::Any => json!({"x-kubernetes-preserve-unknown-fields": true}),
            FieldType::Message(link) if is_anonymous(link) => self.model(link),
            FieldType::Message(link) => self.link(link.arc()),
            FieldType::List(item) => json!({"type": "array", "items": self.property(item)}),
            FieldType::Map(value) => json!({"type": "object", "additionalProperties": self.property(value)}),
        }
    }
}

/// Objects within a custom resource have no name of their own.
fn is_anonymous(ty: &Type) -> bool {
    ty.proto.is_none() && ty.gvk.is_empty() && !ty.is_meta() && !ty.name.starts_with("machinery.")
}

fn union_name(kind: UnionKind) -> &'static str {
    match kind {
        UnionKind::SchemaOrBool => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        UnionKind::SchemaOrArray => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        UnionKind::SchemaOrStringArray => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray"
        }
    }
}

fn basic(dialect: Dialect, name: &str) -> Value {
    match (name, dialect) {
        (TIME | MICRO_TIME, _) => json!({"type": "string", "format": "date-time"}),
        (DURATION, _) | (QUANTITY, Dialect::V2) => json!({"type": "string"}),
        (QUANTITY, Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (INT_OR_STRING, Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
        (INT_OR_STRING, Dialect::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        (RAW | FIELDS, _) => json!({"type": "object"}),
        _ => json!({}),
    }
}

fn extensions(field: &Field) -> Map<String, Value> {
    let mut out = Map::new();
    let mut set = |key: &str, value: Value| out.insert(key.to_owned(), value);
    if let Some(default) = &field.default {
        set("default", default.clone());
    }
    if !field.enum_values.is_empty() {
        set("enum", field.enum_values.clone().into());
    }
    if field.nullable {
        set("nullable", true.into());
    }
    match field.list_type {
        Some(ListType::Atomic) => drop(set("x-kubernetes-list-type", "atomic".into())),
        Some(ListType::Set) => drop(set("x-kubernetes-list-type", "set".into())),
        Some(ListType::Map) => drop(set("x-kubernetes-list-type", "map".into())),
        None => {}
    }
    if !field.list_map_keys.is_empty() {
        set("x-kubernetes-list-map-keys", field.list_map_keys.clone().into());
    }
    match field.map_type {
        Some(MapType::Atomic) => drop(set("x-kubernetes-map-type", "atomic".into())),
        Some(MapType::Granular) => drop(set("x-kubernetes-map-type", "granular".into())),
        None => {}
    }
    if let Some(strategy) = &field.patch_strategy {
        set("x-kubernetes-patch-strategy", strategy.as_str().into());
    }
    if let Some(key) = &field.patch_merge_key {
        set("x-kubernetes-patch-merge-key", key.as_str().into());
    }
    out
}
