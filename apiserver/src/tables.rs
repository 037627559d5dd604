//! The columns and cells of Tables for kinds without columns of their own: the name and the time of creation.

use apimachinery::meta;
use serde_json::{Value, json};

/// The column definitions.
pub fn columns() -> Vec<Value> {
    let name = "Name must be unique within a namespace.";
    let created = "CreationTimestamp is a timestamp representing the server time when this object was created.";
    vec![
        json!({"name": "Name", "type": "string", "format": "name", "description": name, "priority": 0}),
        json!({"name": "Created At", "type": "date", "format": "", "description": created, "priority": 0}),
    ]
}

/// The cells of an object.
pub fn row(object: &Value) -> Vec<Value> {
    vec![meta::name(object).into(), meta::creation_timestamp(object).into()]
}
