//! OpenAPI documents from the schema: version 3 per group and version, and version 2 for everything.
//!
//! Made from the same table that decodes and merges, so that what clients learn here is what the server does. Descriptions are not part
//! of the table.

mod custom;
mod names;
mod operations;
mod protobuf;
mod schemas;

use serde_json::{Map, Value, json};

use crate::schema::Resource;
use schemas::Components;

pub use names::model_name;
pub use protobuf::encode_v2;

/// The two forms of OpenAPI that clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// A link to a model.
    fn reference(self, name: &str) -> Value {
        match self {
            Dialect::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Dialect::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// The document of version 3 for resources, which are of one group and version; `version` is the server's.
pub fn v3(version: &str, resources: &[&Resource]) -> Value {
    let (paths, models) = parts(Dialect::V3, resources);
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "components": {
            "schemas": models,
            "securitySchemes": {"BearerToken": {
                "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header",
            }},
        },
    })
}

/// The document of version 2 for all resources.
pub fn v2(version: &str, resources: &[&Resource]) -> Value {
    let (paths, models) = parts(Dialect::V2, resources);
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "definitions": models,
        "securityDefinitions": {"BearerToken": {
            "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header",
        }},
        "security": [{"BearerToken": []}],
    })
}

fn parts(dialect: Dialect, resources: &[&Resource]) -> (Map<String, Value>, Map<String, Value>) {
    let mut components = Components::new(dialect);
    let mut paths = Map::new();
    for resource in resources {
        operations::add(&mut paths, &mut components, resource);
    }
    (paths, components.finish())
}

#[cfg(test)]
mod tests;
