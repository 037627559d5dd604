//! OpenAPI schemas in words. Pure.

use serde_json::Value;

use super::wrap::{indent, wrap};
use crate::fields::{self, Fields};

const WIDTH: usize = 76;
/// How many values of an enumeration are shown beside its field.
const SHOWN: usize = 4;

/// An OpenAPI document.
#[derive(Clone, Copy)]
pub struct Document<'a>(pub &'a Value);

impl<'a> Document<'a> {
    /// The schema of a kind.
    pub fn of_kind(self, group: &str, version: &str, kind: &str) -> Option<&'a Value> {
        let is = |gvk: &Value| gvk.text("group") == group && gvk.text("version") == version && gvk.text("kind") == kind;
        let schemas = self.0.at("components.schemas").as_object()?;
        schemas.values().find(|schema| schema["x-kubernetes-group-version-kind"].list("").iter().any(is))
    }

    /// What a reference means; the schema itself where it is none.
    fn resolved(self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
            Some(name) => &self.0["components"]["schemas"][name],
            None => schema,
        }
    }

    /// The schemas that describe the same value, the outermost first: references, parts, items and values.
    fn layers(self, schema: &'a Value) -> Vec<&'a Value> {
        let mut layers = vec![schema];
        let mut at = schema;
        loop {
            let resolved = self.resolved(at);
            let next = if !std::ptr::eq(resolved, at) {
                resolved
            } else if let [only] = at.list("allOf") {
                only
            } else if at.has("items") {
                &at["items"]
            } else if at["additionalProperties"].is_object() {
                &at["additionalProperties"]
            } else {
                return layers;
            };
            if layers.iter().any(|layer| std::ptr::eq(*layer, next)) {
                return layers;
            }
            layers.push(next);
            at = next;
        }
    }

    /// The fields of a value, or of its items.
    fn properties(self, schema: &'a Value) -> Option<(&'a Value, &'a serde_json::Map<String, Value>)> {
        self.layers(schema).into_iter().find_map(|layer| Some((layer, layer.map("properties")?)))
    }

    /// The schema that a path of fields leads to.
    pub fn follow(self, schema: &'a Value, path: &[String]) -> Option<&'a Value> {
        path.iter().try_fold(schema, |schema, field| self.properties(schema)?.1.get(field))
    }

    /// A type in words: `[]Container`, `map[string]string`.
    fn type_of(self, schema: &'a Value) -> String {
        if schema.has("items") {
            return format!("[]{}", self.type_of(&schema["items"]));
        }
        if schema["additionalProperties"].is_object() {
            return format!("map[string]{}", self.type_of(&schema["additionalProperties"]));
        }
        if let ([only], None) = (schema.list("allOf"), schema.map("properties")) {
            return self.type_of(only);
        }
        if let Some(reference) = schema["$ref"].as_str() {
            return match self.resolved(schema).text("type") {
                "" | "object" => reference.rsplit(['/', '.']).next().unwrap_or("Object").to_owned(),
                plain => plain.to_owned(),
            };
        }
        match schema.text("type") {
            "" | "object" => "Object".to_owned(),
            plain => plain.to_owned(),
        }
    }

    /// A field, or the whole where there is no name, and what is below it.
    pub fn print(self, schema: &'a Value, name: Option<&str>, recursive: bool) -> String {
        let mut text = String::new();
        if let Some(name) = name {
            text.push_str(&format!("FIELD: {name} <{}>\n", self.type_of(schema)));
            for (place, value) in schema.list("enum").iter().enumerate() {
                let heading = if place == 0 { "ENUM:\n" } else { "" };
                text.push_str(&format!("{heading}    {}\n", enum_value(value)));
            }
            text.push_str(if schema.list("enum").is_empty() { "\n\n" } else { "\n" });
        }
        let described: String = self
            .layers(schema)
            .iter()
            .map(|layer| layer.text("description"))
            .filter(|description| !description.is_empty())
            .map(|description| format!("{description}\n"))
            .collect();
        let described = fields::or(&described, "<empty>");
        text.push_str(&format!("DESCRIPTION:\n{}\n", indent(&wrap(described, WIDTH), 4)));
        let fields = self.fields(schema, 1, recursive, &mut Vec::new());
        if !fields.is_empty() {
            text.push_str(&format!("FIELDS:\n{fields}"));
        }
        text
    }

    /// The lines of a schema's fields. A schema within itself is not entered again.
    fn fields(self, schema: &'a Value, level: usize, recursive: bool, within: &mut Vec<&'a Value>) -> String {
        let Some((of, properties)) = self.properties(schema) else { return String::new() };
        if within.iter().any(|outer| std::ptr::eq(*outer, of)) {
            return String::new();
        }
        within.push(of);
        let required = of.texts("required");
        let blanks = "  ".repeat(level);
        let mut text = String::new();
        for (name, field) in properties {
            let mark = if required.contains(&name.as_str()) { " -required-" } else { "" };
            text.push_str(&format!("{blanks}{name}\t<{}>{mark}\n", self.type_of(field)));
            if let values @ [_, ..] = field.list("enum") {
                text.push_str(&format!("{blanks}enum: {}\n", some_values(values)));
            }
            if recursive {
                text.push_str(&self.fields(field, level + 1, recursive, within));
            } else {
                let description = fields::or(field.text("description"), "<no description>");
                text.push_str(&format!("{}\n\n", indent(&wrap(description, WIDTH), 4)));
            }
        }
        within.pop();
        text
    }
}

fn enum_value(value: &Value) -> String {
    match fields::plain(value) {
        empty if empty.is_empty() => "\"\"".to_owned(),
        text => text,
    }
}

fn some_values(values: &[Value]) -> String {
    let mut shown: Vec<String> = values.iter().take(SHOWN).map(enum_value).collect();
    if values.len() > SHOWN {
        shown.push("....".to_owned());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({"components": {"schemas": {
            "a.b.Thing": {"type": "object", "description": "A thing.", "x-kubernetes-group-version-kind": [{"group": "g", "version": "v1", "kind": "Thing"}],
                "required": ["spec"], "properties": {"spec": {"allOf": [{"$ref": "#/components/schemas/a.b.Spec"}], "description": "How."},
                "when": {"$ref": "#/components/schemas/a.b.Time"}, "mode": {"type": "string", "enum": ["A", ""]}}},
            "a.b.Spec": {"type": "object", "description": "A spec.", "properties": {"labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "again": {"type": "array", "items": {"$ref": "#/components/schemas/a.b.Spec"}}}},
            "a.b.Time": {"type": "string"}}}})
    }

    #[test]
    fn a_kind_has_its_fields_with_their_types() {
        let document = document();
        let document = Document(&document);
        let root = document.of_kind("g", "v1", "Thing").unwrap();
        let text = "DESCRIPTION:\n    A thing.\n    \nFIELDS:\n  mode\t<string>\n  enum: A, \"\"\n    <no description>\n\n  spec\t<Spec> -required-\n    How.\n\n  when\t<string>\n    <no description>\n\n";
        assert_eq!(document.print(root, None, false), text);
        let path = ["spec".to_owned(), "again".to_owned()];
        let again = document.follow(root, &path).unwrap();
        let text = "FIELD: again <[]Spec>\n\n\nDESCRIPTION:\n    A spec.\n    \nFIELDS:\n  again\t<[]Spec>\n  labels\t<map[string]string>\n";
        assert_eq!(document.print(again, Some("again"), true), text);
        assert!(document.follow(root, &["nope".to_owned()]).is_none());
    }
}
