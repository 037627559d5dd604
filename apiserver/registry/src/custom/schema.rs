//! The value validations of a structural schema: everything that it demands beyond the form of an object.
//!
//! Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions", validation; the meaning of the words is that of
//! OpenAPI 3.0.

mod format;
mod rules;
mod validate;

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::steps;
use rules::Rule;

pub(crate) use rules::escaped;
pub use validate::Ratchet;

/// How a list holds each item once.
#[derive(Debug, PartialEq)]
enum Unique {
    Set,
    /// By these fields, with their defaults.
    Map(Vec<(String, Value)>),
}

/// A bound of numbers.
#[derive(Debug)]
struct Bound {
    value: f64,
    exclusive: bool,
}

/// A schema, made ready.
#[derive(Default)]
pub struct Schema {
    /// `integer`, or several of them; empty means any.
    types: Vec<&'static str>,
    nullable: bool,
    embedded: bool,
    format: Option<String>,
    required: Vec<String>,
    properties: BTreeMap<String, Schema>,
    additional: Option<Box<Schema>>,
    items: Option<Box<Schema>>,
    allowed: Vec<Value>,
    minimum: Option<Bound>,
    maximum: Option<Bound>,
    multiple_of: Option<f64>,
    length: [Option<usize>; 2],
    item_count: [Option<usize>; 2],
    property_count: [Option<usize>; 2],
    pattern: Option<Regex>,
    all_of: Vec<Schema>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
    not: Option<Box<Schema>>,
    unique: Option<Unique>,
    rules: Vec<Rule>,
    /// Whether there are rules here or below.
    has_rules: bool,
    /// Whether this is the schema of a whole object.
    root: bool,
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

fn flag(schema: &Value, key: &str) -> bool {
    schema[key].as_bool().unwrap_or(false)
}

fn all(list: &Value) -> Vec<Schema> {
    list.as_array().into_iter().flatten().map(Schema::of).collect()
}

fn one(schema: &Value) -> Option<Box<Schema>> {
    schema.is_object().then(|| Box::new(Schema::of(schema)))
}

fn bound(schema: &Value, key: &str, exclusive: &str) -> Option<Bound> {
    Some(Bound { value: schema[key].as_f64()?, exclusive: flag(schema, exclusive) })
}

fn counts(schema: &Value, least: &str, most: &str) -> [Option<usize>; 2] {
    [least, most].map(|key| schema[key].as_u64().and_then(|count| usize::try_from(count).ok()))
}

fn unique(schema: &Value) -> Option<Unique> {
    match schema["x-kubernetes-list-type"].as_str()? {
        "set" => Some(Unique::Set),
        "map" => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let default = |key: &str| schema["items"]["properties"][key]["default"].clone();
            Some(Unique::Map(keys.map(|key| (key.to_owned(), default(key))).collect()))
        }
        _ => None,
    }
}

impl Schema {
    /// The schema of a whole object.
    pub fn of_object(schema: &Value) -> Self {
        Schema { root: true, ..Schema::of(schema) }
    }

    /// A schema from its JSON form.
    pub fn of(schema: &Value) -> Self {
        let types = match schema["type"].as_str() {
            _ if flag(schema, "x-kubernetes-int-or-string") => vec!["integer", "string"],
            Some(name) => TYPES.into_iter().filter(|known| *known == name).collect(),
            None => Vec::new(),
        };
        let properties = schema["properties"].as_object().into_iter().flatten();
        let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let schema = Schema {
            types,
            nullable: flag(schema, "nullable"),
            embedded: flag(schema, "x-kubernetes-embedded-resource"),
            format: schema["format"].as_str().filter(|name| format::is_known(name)).map(str::to_owned),
            required: required.map(str::to_owned).collect(),
            properties: properties.map(|(name, schema)| (name.clone(), Schema::of(schema))).collect(),
            additional: one(&schema["additionalProperties"]),
            items: one(&schema["items"]),
            allowed: schema["enum"].as_array().cloned().unwrap_or_default(),
            minimum: bound(schema, "minimum", "exclusiveMinimum"),
            maximum: bound(schema, "maximum", "exclusiveMaximum"),
            multiple_of: schema["multipleOf"].as_f64(),
            length: counts(schema, "minLength", "maxLength"),
            item_count: counts(schema, "minItems", "maxItems"),
            property_count: counts(schema, "minProperties", "maxProperties"),
            // The definition's own validation refuses what is no pattern.
            pattern: schema["pattern"].as_str().filter(|text| !text.is_empty()).and_then(|text| Regex::new(text).ok()),
            all_of: all(&schema["allOf"]),
            any_of: all(&schema["anyOf"]),
            one_of: all(&schema["oneOf"]),
            not: one(&schema["not"]),
            unique: unique(schema),
            rules: rules.map(Rule::of).collect(),
            has_rules: false,
            root: false,
        };
        schema.with_rules_counted()
    }

    fn with_rules_counted(mut self) -> Self {
        let single = [&self.additional, &self.items].into_iter().flatten().map(|below| &**below);
        let below = self.properties.values().chain(single).any(|below| below.has_rules);
        self.has_rules = below || !self.rules.is_empty();
        self
    }

    /// What is said of a property, or of an entry of a map.
    fn property(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(self.additional.as_deref())
    }
}
