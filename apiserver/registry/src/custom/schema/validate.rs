//! Values held against their schema. The messages are those that Kubernetes' clients know.

use std::fmt;

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Map, Value};

use super::{Bound, Schema, Unique, format, rules};

/// What a value was before: a part that did not change is not looked at again (KEP-4008), so that objects can be changed which a
/// later definition would refuse.
#[derive(Clone, Copy)]
pub enum Ratchet<'a> {
    /// Everything counts.
    New,
    Was(&'a Value),
}

impl<'a> Ratchet<'a> {
    pub(super) fn excuses(self, value: &Value) -> bool {
        matches!(self, Ratchet::Was(old) if old == value)
    }

    pub(super) fn entry(self, key: &str) -> Self {
        match self {
            Ratchet::Was(old) => old.get(key).map_or(Ratchet::New, Ratchet::Was),
            Ratchet::New => Ratchet::New,
        }
    }

    /// The item of a list that has the same keys; items of other lists have no past.
    pub(super) fn item(self, unique: Option<&Unique>, item: &Value) -> Self {
        let (Ratchet::Was(Value::Array(old)), Some(Unique::Map(keys))) = (self, unique) else { return Ratchet::New };
        let same = |other: &&'a Value| {
            keys.iter().all(|(key, default)| key_of(other, key, default) == key_of(item, key, default))
        };
        old.iter().find(same).map_or(Ratchet::New, Ratchet::Was)
    }
}

fn key_of<'v>(item: &'v Value, key: &str, default: &'v Value) -> &'v Value {
    item.get(key).unwrap_or(default)
}

/// Where in the object a value is; printed only for messages.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) parent: Option<&'a At<'a>>,
    pub(super) step: Step<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Root,
    Name(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(super) fn name(&'a self, name: &'a str) -> At<'a> {
        At { parent: Some(self), step: Step::Name(name) }
    }

    pub(super) fn index(&'a self, index: usize) -> At<'a> {
        At { parent: Some(self), step: Step::Index(index) }
    }

    pub(super) fn path(&self) -> Path {
        let parent = self.parent.map_or_else(Path::root, At::path);
        match self.step {
            Step::Root => parent,
            Step::Name(name) => parent.child(name),
            Step::Index(index) => parent.index(index),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Root => Ok(()),
            _ => f.write_str(self.path().as_str()),
        }
    }
}

/// The name of a value's type.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Collects failures.
struct Found<'a>(&'a mut ErrorList);

impl Found<'_> {
    fn invalid(&mut self, at: &At<'_>, value: &Value, demand: impl fmt::Display) {
        self.0.push(Error::invalid(&at.path(), value.clone(), format!("{at} in body {demand}")));
    }

    fn wrong_type(&mut self, at: &At<'_>, expected: &str, value: impl Into<Value>) {
        let value = value.into();
        let detail = format!("{at} in body must be of type {expected}: {value}");
        self.0.push(Error::type_invalid(&at.path(), value, detail));
    }

    /// Failures of several schemas together are reported of the whole object.
    fn composite(&mut self, at: &At<'_>, demand: impl fmt::Display) {
        let text = format!("{:?} must {demand}", at.to_string());
        self.0.push(Error::invalid(&Path::root(), "", text));
    }
}

impl Schema {
    /// What is wrong with an object.
    pub fn validate(&self, object: &Value, old: Ratchet<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        self.value(object, old, &At { parent: None, step: Step::Root }, &mut errors);
        self.once(object, &At { parent: None, step: Step::Root }, old, &mut errors);
        if self.has_rules && errors.iter().any(rules::is_blocking) {
            errors.push(rules::not_asked());
        } else if self.has_rules {
            rules::validate(self, object, old, &mut errors);
        }
        errors
    }

    fn value(&self, value: &Value, old: Ratchet<'_>, at: &At<'_>, errors: &mut ErrorList) {
        if old.excuses(value) {
            return;
        }
        let found = &mut Found(errors);
        self.kind(value, at, found);
        self.listed(value, at, found);
        match value {
            Value::Null => return,
            Value::String(text) => self.text(text, at, found),
            Value::Number(number) => self.number(number.as_f64().unwrap_or(f64::NAN), value, at, found),
            Value::Array(items) => self.list(items, old, at, errors),
            Value::Object(map) => self.object(map, value, old, at, errors),
            Value::Bool(_) => {}
        }
        self.together(value, old, at, errors);
    }

    fn kind(&self, value: &Value, at: &At<'_>, found: &mut Found<'_>) {
        let actual = type_of(value);
        let fits = match value {
            Value::Null => self.nullable,
            Value::Number(number) => {
                self.types.contains(&actual)
                    || self.types.contains(&"number")
                    || (self.types.contains(&"integer") && number.as_f64().is_some_and(|n| n.fract() == 0.0))
            }
            _ => self.types.contains(&actual),
        };
        if !self.types.is_empty() && !fits {
            found.wrong_type(at, &self.types.join(","), actual);
        }
    }

    fn listed(&self, value: &Value, at: &At<'_>, found: &mut Found<'_>) {
        if self.allowed.is_empty() || self.allowed.contains(value) || (value.is_null() && self.nullable) {
            return;
        }
        let texts: Vec<String> =
            self.allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        found.0.push(Error::not_supported(&at.path(), value.clone(), &texts));
    }

    fn text(&self, text: &str, at: &At<'_>, found: &mut Found<'_>) {
        let value = Value::from(text);
        let count = text.chars().count();
        if let Some(most) = self.length[1].filter(|most| count > *most) {
            found.0.push(Error::too_long(&at.path(), most));
        }
        if let Some(least) = self.length[0].filter(|least| count < *least) {
            found.invalid(at, &value, format!("should be at least {least} chars long"));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            found.invalid(at, &value, format!("should match '{pattern}'"));
        }
        if let Some(name) = self.format.as_deref().filter(|name| !format::holds(name, text)) {
            found.wrong_type(at, name, text);
        }
    }

    fn number(&self, number: f64, value: &Value, at: &At<'_>, found: &mut Found<'_>) {
        let differs = |part: f64| (part - part.round()).abs() > 1e-9;
        if let Some(factor) = self.multiple_of.filter(|factor| *factor > 0.0 && differs(number / factor)) {
            found.invalid(at, value, format!("should be a multiple of {factor}"));
        }
        match &self.maximum {
            Some(Bound { value: most, exclusive: true }) if number >= *most => {
                found.invalid(at, value, format!("should be less than {most}"));
            }
            Some(Bound { value: most, .. }) if number > *most => {
                found.invalid(at, value, format!("should be less than or equal to {most}"));
            }
            _ => {}
        }
        match &self.minimum {
            Some(Bound { value: least, exclusive: true }) if number <= *least => {
                found.invalid(at, value, format!("should be greater than {least}"));
            }
            Some(Bound { value: least, .. }) if number < *least => {
                found.invalid(at, value, format!("should be greater than or equal to {least}"));
            }
            _ => {}
        }
        let range = match self.format.as_deref() {
            Some("int32") => f64::from(i32::MIN)..=f64::from(i32::MAX),
            _ => return,
        };
        if !range.contains(&number) {
            found.invalid(at, value, "must be of type integer with format int32");
        }
    }

    fn list(&self, items: &[Value], old: Ratchet<'_>, at: &At<'_>, errors: &mut ErrorList) {
        if let Some(schema) = &self.items {
            for (i, item) in items.iter().enumerate() {
                schema.value(item, old.item(self.unique.as_ref(), item), &at.index(i), errors);
            }
        }
        let value = || Value::from(items.to_vec());
        if let Some(least) = self.item_count[0].filter(|least| items.len() < *least) {
            Found(errors).invalid(at, &value(), format!("should have at least {least} items"));
        }
        if let Some(most) = self.item_count[1].filter(|most| items.len() > *most) {
            errors.push(Error::too_many(&at.path(), items.len(), most));
        }
    }

    fn object(&self, map: &Map<String, Value>, value: &Value, old: Ratchet<'_>, at: &At<'_>, errors: &mut ErrorList) {
        if let Some(least) = self.property_count[0].filter(|least| map.len() < *least) {
            Found(errors).invalid(at, value, format!("should have at least {least} properties"));
        }
        if let Some(most) = self.property_count[1].filter(|most| map.len() > *most) {
            errors.push(Error::too_many(&at.path(), map.len(), most));
        }
        for name in self.required.iter().filter(|name| !map.contains_key(*name)) {
            errors.push(Error::required(&at.name(name).path(), ""));
        }
        if self.embedded {
            for name in ["apiVersion", "kind"] {
                if map.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                    errors.push(Error::required(&at.name(name).path(), "must not be empty"));
                }
            }
        }
        for (name, value) in map {
            if let Some(schema) = self.property(name) {
                schema.value(value, old.entry(name), &at.name(name), errors);
            }
        }
    }

    /// `allOf`, `anyOf`, `oneOf` and `not`.
    fn together(&self, value: &Value, old: Ratchet<'_>, at: &At<'_>, errors: &mut ErrorList) {
        let tried = |schema: &Schema| {
            let mut errors = ErrorList::new();
            schema.value(value, Ratchet::New, at, &mut errors);
            errors
        };
        if !self.any_of.is_empty() {
            let all: Vec<ErrorList> = self.any_of.iter().map(tried).collect();
            if all.iter().all(|errors| !errors.is_empty()) {
                Found(errors).composite(at, "validate at least one schema (anyOf)");
                errors.extend(nearest(all));
            }
        }
        if !self.one_of.is_empty() {
            let all: Vec<ErrorList> = self.one_of.iter().map(tried).collect();
            let valid = all.iter().filter(|errors| errors.is_empty()).count();
            if valid != 1 {
                let how = if valid == 0 { "none valid".to_owned() } else { format!("{valid} valid alternatives") };
                Found(errors).composite(at, format!("validate one and only one schema (oneOf). Found {how}"));
            }
            if valid == 0 {
                errors.extend(nearest(all));
            }
        }
        let mut failed = 0;
        for schema in &self.all_of {
            let before = errors.len();
            schema.value(value, old, at, errors);
            failed += usize::from(errors.len() > before);
        }
        if failed > 0 {
            let none = if failed == self.all_of.len() { ". None validated" } else { "" };
            Found(errors).composite(at, format!("validate all the schemas (allOf){none}"));
        }
        if self.not.as_ref().is_some_and(|schema| tried(schema).is_empty()) {
            Found(errors).composite(at, "not validate the schema (not)");
        }
    }

    /// Sets and maps hold nothing twice (`x-kubernetes-list-type`).
    fn once(&self, value: &Value, at: &At<'_>, old: Ratchet<'_>, errors: &mut ErrorList) {
        if old.excuses(value) {
            return;
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    if let Some(schema) = self.property(name) {
                        schema.once(value, &at.name(name), old.entry(name), errors);
                    }
                }
            }
            Value::Array(items) => {
                let identity = |item: &Value| match &self.unique {
                    Some(Unique::Map(keys)) => {
                        let fields =
                            keys.iter().map(|(key, default)| (key.clone(), key_of(item, key, default).clone()));
                        Value::Object(fields.collect())
                    }
                    _ => item.clone(),
                };
                let ids: Vec<Value> = items.iter().map(identity).collect();
                for (i, item) in items.iter().enumerate() {
                    if self.unique.is_some() && ids[..i].contains(&ids[i]) {
                        errors.push(Error::duplicate(&at.index(i).path(), ids[i].clone()));
                    }
                    if let Some(schema) = &self.items {
                        schema.once(item, &at.index(i), old.item(self.unique.as_ref(), item), errors);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The failures of the schema that was missed by the least.
fn nearest(all: Vec<ErrorList>) -> ErrorList {
    all.into_iter().min_by_key(Vec::len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(schema: Value, value: Value) -> Vec<String> {
        let schema = Schema::of(&json!({"type": "object", "properties": {"x": schema}}));
        schema.validate(&json!({"x": value}), Ratchet::New).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn failures_are_said_in_the_words_that_clients_know() {
        let cases = [
            (
                json!({"type": "integer"}),
                json!("a"),
                r#"x: Invalid value: "string": x in body must be of type integer: "string""#,
            ),
            (
                json!({"type": "string"}),
                Value::Null,
                r#"x: Invalid value: "null": x in body must be of type string: "null""#,
            ),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!(true),
                r#"x: Invalid value: "boolean": x in body must be of type integer,string: "boolean""#,
            ),
            (
                json!({"type": "integer", "minimum": 1}),
                json!(0),
                "x: Invalid value: 0: x in body should be greater than or equal to 1",
            ),
            (
                json!({"type": "integer", "maximum": 10}),
                json!(15),
                "x: Invalid value: 15: x in body should be less than or equal to 10",
            ),
            (
                json!({"type": "number", "maximum": 1, "exclusiveMaximum": true}),
                json!(1),
                "x: Invalid value: 1: x in body should be less than 1",
            ),
            (
                json!({"type": "integer", "multipleOf": 3}),
                json!(4),
                "x: Invalid value: 4: x in body should be a multiple of 3",
            ),
            (
                json!({"type": "string", "pattern": "^a+$"}),
                json!("b"),
                r#"x: Invalid value: "b": x in body should match '^a+$'"#,
            ),
            (
                json!({"type": "string", "minLength": 2}),
                json!("b"),
                r#"x: Invalid value: "b": x in body should be at least 2 chars long"#,
            ),
            (json!({"type": "string", "maxLength": 1}), json!("bb"), "x: Too long: may not be more than 1 bytes"),
            (
                json!({"type": "string", "enum": ["b", "a"]}),
                json!("c"),
                r#"x: Unsupported value: "c": supported values: "a", "b""#,
            ),
            (
                json!({"type": "string", "format": "ipv4"}),
                json!("c"),
                r#"x: Invalid value: "c": x in body must be of type ipv4: "c""#,
            ),
            (
                json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
                json!(["a", "b"]),
                "x: Too many: 2: must have at most 1 items",
            ),
            (
                json!({"type": "array", "items": {"type": "integer"}}),
                json!([1, "b"]),
                r#"x[1]: Invalid value: "string": x[1] in body must be of type integer: "string""#,
            ),
            (json!({"type": "object", "required": ["y"]}), json!({}), "x.y: Required value"),
            (
                json!({"type": "object", "maxProperties": 1}),
                json!({"a": 1, "b": 2}),
                "x: Too many: 2: must have at most 1 items",
            ),
            (
                json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
                json!(["a", "a"]),
                r#"x[1]: Duplicate value: "a""#,
            ),
            (
                json!({"type": "string", "not": {"enum": ["a"]}}),
                json!("a"),
                r#"<nil>: Invalid value: "": "x" must not validate the schema (not)"#,
            ),
            (
                json!({"type": "integer", "oneOf": [{"minimum": 1}, {"minimum": 2}]}),
                json!(3),
                r#"<nil>: Invalid value: "": "x" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ),
        ];
        for (schema, value, expected) in cases {
            assert_eq!(messages(schema.clone(), value), [expected], "{schema}");
        }
        assert_eq!(messages(json!({"type": "string", "nullable": true}), Value::Null), [""; 0]);
        assert_eq!(messages(json!({"type": "number"}), json!(1)), [""; 0]);
        let any = json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]});
        assert_eq!(
            messages(any, json!(3)),
            [
                r#"<nil>: Invalid value: "": "x" must validate at least one schema (anyOf)"#,
                "x: Invalid value: 3: x in body should be greater than or equal to 5",
            ]
        );
    }

    #[test]
    fn items_of_a_map_are_told_apart_by_their_keys_with_defaults() {
        let schema = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "proto"],
            "items": {"type": "object", "properties": {"port": {"type": "integer"}, "proto": {"type": "string", "default": "TCP"}}}});
        let items = json!([{"port": 1}, {"port": 1, "proto": "UDP"}, {"port": 1, "proto": "TCP"}]);
        assert_eq!(messages(schema, items), [r#"x[2]: Duplicate value: {"port":1,"proto":"TCP"}"#]);
    }

    #[test]
    fn what_did_not_change_is_not_looked_at_again() {
        let schema = Schema::of(&json!({"type": "object", "properties": {
            "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1}}}));
        let old = json!({"a": "long", "b": "b"});
        assert_eq!(schema.validate(&json!({"a": "long", "b": "c"}), Ratchet::Was(&old)), vec![]);
        let errors = schema.validate(&json!({"a": "longer", "b": "c"}), Ratchet::Was(&old));
        assert_eq!(errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), ["a"]);
    }
}
