//! The behaviour of a custom resource: that of every kind, and what its definition demands.

use apimachinery::field::ErrorList;
use apimachinery::schema::Resource;
use serde_json::Value;

use super::schema::{Ratchet, Schema};
use crate::rules::meta::Finalizers;
use crate::strategy::{Kind, Row, Strategy};

/// The strategy of one version of a custom resource.
pub struct CustomStrategy {
    row: Row,
    schema: Schema,
    deprecation: Option<String>,
}

const KIND: Kind = Kind { generation: true, finalizers: Finalizers::Qualified, ..Kind::PLAIN };

impl CustomStrategy {
    pub(super) fn new(resource: &Resource, deprecation: Option<String>) -> Self {
        let schema = resource.ty.published.as_ref().map(Schema::of_object).unwrap_or_default();
        let row = Row { kind: KIND, namespaced: Some(resource.namespaced), has_status: resource.has_status() };
        CustomStrategy { row, schema, deprecation }
    }
}

impl Strategy for CustomStrategy {
    fn default(&self, _obj: &mut Value) {}

    fn prepare_for_create(&self, obj: &mut Value) {
        self.row.prepare_for_create(obj);
    }

    fn prepare_for_update(&self, obj: &mut Value, old: &Value) {
        self.row.prepare_for_update(obj, old);
        // A status without a subresource of its own is wanted like everything else.
        if !self.row.has_status && obj["status"] != old["status"] {
            let before = old["metadata"]["generation"].as_i64().unwrap_or(0);
            obj["metadata"]["generation"] = (before + 1).into();
        }
    }

    fn prepare_for_status_update(&self, obj: &mut Value, old: &Value) {
        let (status, managed) = (obj["status"].take(), obj["metadata"]["managedFields"].take());
        let version = obj["metadata"]["resourceVersion"].take();
        *obj = old.clone();
        let Some(object) = obj.as_object_mut() else { return };
        object.remove("status");
        if !status.is_null() {
            object.insert("status".into(), status);
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            for (field, value) in [("managedFields", managed), ("resourceVersion", version)] {
                if !value.is_null() {
                    metadata.insert(field.into(), value);
                }
            }
        }
    }

    fn validate(&self, obj: &Value) -> ErrorList {
        let mut errors = self.row.validate(obj);
        errors.extend(self.schema.validate(obj, Ratchet::New));
        errors
    }

    fn validate_update(&self, obj: &Value, old: &Value) -> ErrorList {
        let mut errors = self.row.validate_update(obj, old);
        errors.extend(self.schema.validate(obj, Ratchet::Was(old)));
        errors
    }

    fn validate_status_update(&self, obj: &Value, old: &Value) -> ErrorList {
        let mut errors = self.row.validate_status_update(obj, old);
        errors.extend(self.schema.validate(obj, Ratchet::Was(old)));
        errors
    }

    fn warnings(&self, _obj: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    fn status_warnings(&self, _obj: &Value) -> Vec<String> {
        Vec::new()
    }

    fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }

    fn allow_create_on_update(&self) -> bool {
        false
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn begin_deletion(&self, _obj: &mut Value, _now: &str) {}

    fn graceful_deletion(&self, _obj: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }

    fn selectable_fields(&self, _obj: &Value) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
