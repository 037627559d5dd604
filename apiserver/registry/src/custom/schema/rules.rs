//! `x-kubernetes-validations`: rules in CEL over a value, and over what it was before.
//!
//! Kubernetes documentation, "Validation rules"; KEP-2876, KEP-4008 (ratcheting).

use std::collections::HashMap;
use std::sync::Arc;

use apimachinery::field::{Error, ErrorKind, ErrorList, Path};
use apimachinery::time::Moment;
use apiserver_cel::{CompileError, Expression, libraries};
use cel::common::types::{CelBool, CelString};
use cel::objects::{Key, Map, OptionalValue};
use cel::{Context, Value as Cel};
use serde_json::Value;

use super::validate::{At, Ratchet, Step};
use super::{Schema, steps};

/// How much all rules of one object may cost: a step for each value that a loop may look at.
const BUDGET: u64 = 10_000_000;
/// How much one evaluation of one rule may cost.
const CALL_LIMIT: u64 = 1_000_000;

/// A rule of a schema.
pub(super) struct Rule {
    text: String,
    /// Or why it cannot be used.
    expression: Result<Expression, CompileError>,
    message: String,
    computed: Option<Expression>,
    reason: ErrorKind,
    field: Vec<String>,
    /// Whether the rule is about a change.
    transition: bool,
    /// Whether such a rule is asked of new values too.
    optional_old: bool,
}

fn reason(rule: &Value) -> ErrorKind {
    match rule["reason"].as_str() {
        Some("FieldValueRequired") => ErrorKind::Required,
        Some("FieldValueForbidden") => ErrorKind::Forbidden,
        Some("FieldValueDuplicate") => ErrorKind::Duplicate,
        _ => ErrorKind::Invalid,
    }
}

impl Rule {
    /// A rule from its JSON form.
    pub(super) fn of(rule: &Value) -> Self {
        let text = rule["rule"].as_str().unwrap_or_default().to_owned();
        let expression = Expression::compile(&text);
        let computed = rule["messageExpression"].as_str().filter(|text| !text.is_empty());
        Rule {
            transition: expression.as_ref().is_ok_and(|it| it.uses("oldSelf")),
            expression,
            message: rule["message"].as_str().unwrap_or_default().trim().to_owned(),
            // The definition's own validation refuses what cannot be read.
            computed: computed.and_then(|text| Expression::compile(text).ok()),
            reason: reason(rule),
            field: steps(&rule["fieldPath"].as_str().unwrap_or_default().replace("['", ".").replace("']", "")),
            optional_old: rule["optionalOldSelf"] == true,
            text,
        }
    }

    fn failure(&self, at: &At<'_>, kind: &str, detail: String) -> Error {
        let path = self.field.iter().fold(at.path(), |path, step| path.child(step));
        match self.reason {
            ErrorKind::Required => Error::required(&path, detail),
            ErrorKind::Forbidden => Error::forbidden(&path, detail),
            ErrorKind::Duplicate => Error::duplicate(&path, kind),
            _ => Error::invalid(&path, kind, detail),
        }
    }

    /// What is said of a rule that could not be evaluated.
    fn error(&self, error: &str) -> String {
        let text = if self.message.is_empty() { &self.text } else { &self.message };
        if error == "no such overload" {
            return format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {text}"
            );
        }
        format!("{error} evaluating rule: {text}")
    }

    fn message(&self, context: &Context<'_, '_>) -> String {
        let computed = self.computed.as_ref().and_then(|it| it.evaluate(context).ok());
        let computed = computed.as_ref().and_then(|value| value.downcast_ref::<CelString<'_>>()).map(CelString::inner);
        match computed {
            Some(text) if !text.trim().is_empty() && !text.contains('\n') => text.trim().to_owned(),
            _ if !self.message.is_empty() => self.message.clone(),
            _ => format!("failed rule: {}", self.text),
        }
    }
}

/// The rules of one object, being asked.
struct Asking<'e> {
    left: u64,
    errors: &'e mut ErrorList,
}

/// Asks every rule of a schema of an object.
pub(super) fn validate(schema: &Schema, object: &Value, old: Ratchet<'_>, errors: &mut ErrorList) {
    let mut asking = Asking { left: BUDGET, errors };
    asking.value(schema, object, old, &At { parent: None, step: Step::Root });
}

impl Asking<'_> {
    fn value(&mut self, schema: &Schema, value: &Value, old: Ratchet<'_>, at: &At<'_>) {
        if !schema.has_rules || value.is_null() {
            return;
        }
        for rule in &schema.rules {
            if !self.rule(rule, schema, value, old, at) {
                return;
            }
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    if let Some(schema) = schema.property(name) {
                        self.value(schema, value, old.entry(name), &at.name(name));
                    }
                }
            }
            Value::Array(items) => {
                let Some(below) = &schema.items else { return };
                for (i, item) in items.iter().enumerate() {
                    self.value(below, item, old.item(schema.unique.as_ref(), item), &at.index(i));
                }
            }
            _ => {}
        }
    }

    /// Asks one rule. Tells whether there is anything left to spend.
    fn rule(&mut self, rule: &Rule, schema: &Schema, value: &Value, old: Ratchet<'_>, at: &At<'_>) -> bool {
        let before = match old {
            Ratchet::Was(old) if !old.is_null() => Some(old),
            _ => None,
        };
        let asked = if rule.transition { before.is_some() || rule.optional_old } else { !old.excuses(value) };
        if !asked {
            return true;
        }
        let kind = schema.types.first().copied().unwrap_or("object");
        let expression = match &rule.expression {
            Ok(expression) => expression,
            Err(error) => {
                self.errors.push(Error::invalid(&at.path(), kind, format!("rule compile error: {error}")));
                return true;
            }
        };
        let size = weight(value) + before.map_or(0, weight);
        let cost = expression.cost(size);
        if cost > CALL_LIMIT || cost > self.left {
            let detail = format!(
                "call cost exceeds limit for rule: {}; no further validation rules will be run due to call cost exceeds limit",
                rule.text
            );
            self.errors.push(Error::invalid(&at.path(), kind, detail));
            return false;
        }
        self.left -= cost;
        let mut context = Context::with_env(libraries());
        context.add_variable_from_value("self", schema.to_cel(value));
        match (rule.transition, rule.optional_old, before) {
            (true, true, before) => {
                let old = before.map_or_else(OptionalValue::none, |old| OptionalValue::of(schema.to_cel(old)));
                context.add_variable_from_value("oldSelf", Cel::Opaque(Arc::new(old)));
            }
            (true, false, Some(old)) => context.add_variable_from_value("oldSelf", schema.to_cel(old)),
            _ => {}
        }
        match expression.evaluate(&context) {
            Ok(value) if value.equals(&CelBool::TRUE) => {}
            Ok(_) => self.errors.push(rule.failure(at, kind, rule.message(&context))),
            Err(error) => self.errors.push(Error::invalid(&at.path(), kind, rule.error(&Expression::describe(&error)))),
        }
        true
    }
}

/// How many values there are in a value.
fn weight(value: &Value) -> u64 {
    match value {
        Value::Array(items) => 1 + items.iter().map(weight).sum::<u64>(),
        Value::Object(map) => 1 + map.values().map(weight).sum::<u64>(),
        _ => 1,
    }
}

/// Names that CEL keeps for itself.
const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
];

/// The name that expressions have for a property.
pub(crate) fn escaped(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__").replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}

fn text(text: &str) -> Cel {
    Cel::String(Arc::new(text.to_owned()))
}

fn map(entries: impl Iterator<Item = (String, Cel)>) -> Cel {
    let entries: HashMap<Key, Cel> = entries.map(|(key, value)| (Key::String(Arc::new(key)), value)).collect();
    Cel::Map(Map { map: Arc::new(entries) })
}

impl Schema {
    /// A value as expressions see it: only what the schema names, in the types that it says.
    fn to_cel(&self, value: &Value) -> Cel {
        match value {
            Value::Null => Cel::Null,
            Value::Bool(bool) => Cel::Bool(*bool),
            Value::Number(number) if self.types == ["number"] => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
            Value::Number(number) => match number.as_i64() {
                Some(int) => Cel::Int(int),
                None => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(string) => self.text_to_cel(string),
            Value::Array(items) => {
                let item = |item| self.items.as_ref().map_or_else(|| untyped(item), |schema| schema.to_cel(item));
                Cel::List(Arc::new(items.iter().map(item).collect()))
            }
            Value::Object(entries) => self.object_to_cel(entries),
        }
    }

    fn object_to_cel(&self, entries: &serde_json::Map<String, Value>) -> Cel {
        if let Some(schema) = &self.additional {
            return map(entries.iter().map(|(key, value)| (key.clone(), schema.to_cel(value))));
        }
        let own = |name: &str| (self.root || self.embedded) && matches!(name, "apiVersion" | "kind");
        let entry = |(name, value): (&String, &Value)| match self.properties.get(name) {
            _ if name == "metadata" && (self.root || self.embedded) => Some((name.clone(), identity(value))),
            Some(schema) => Some((escaped(name), schema.to_cel(value))),
            None if own(name) => Some((name.clone(), untyped(value))),
            None => None,
        };
        map(entries.iter().filter_map(entry))
    }

    fn text_to_cel(&self, string: &str) -> Cel {
        let parsed = match self.format.as_deref() {
            Some("date-time" | "datetime") => instant(string),
            Some("date") => instant(&format!("{string}T00:00:00Z")),
            _ => None,
        };
        parsed.unwrap_or_else(|| text(string))
    }
}

fn instant(string: &str) -> Option<Cel> {
    let moment = Moment::parse(string)?;
    let utc = chrono::DateTime::from_timestamp(moment.seconds, moment.nanos)?;
    Some(Cel::Timestamp(utc.fixed_offset()))
}

/// What expressions see of an object's metadata.
fn identity(metadata: &Value) -> Cel {
    let names = ["name", "generateName"].into_iter();
    map(names.filter_map(|name| Some((name.to_owned(), text(metadata[name].as_str()?)))))
}

fn untyped(value: &Value) -> Cel {
    match value {
        Value::Object(entries) => map(entries.iter().map(|(key, value)| (key.clone(), untyped(value)))),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(untyped).collect())),
        scalar => Schema::default().to_cel(scalar),
    }
}

/// Failures after which rules are not asked: they may rely on the form of the object.
pub(super) fn is_blocking(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Required | ErrorKind::TooLong | ErrorKind::TooMany | ErrorKind::TypeInvalid)
}

/// What is said where rules were not asked.
pub(super) fn not_asked() -> Error {
    let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to \
                  complete validation";
    Error::invalid(&Path::root(), Value::Null, detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(spec: Value, value: Value, old: Option<Value>) -> Vec<String> {
        let schema = Schema::of_object(&json!({"type": "object", "properties": {"spec": spec}}));
        let object = |spec: &Value| json!({"apiVersion": "t/v1", "kind": "T", "metadata": {"name": "n"}, "spec": spec});
        let old = old.map(|old| object(&old));
        let old = old.as_ref().map_or(Ratchet::New, Ratchet::Was);
        schema.validate(&object(&value), old).iter().map(ToString::to_string).collect()
    }

    fn spec(rules: Value) -> Value {
        json!({"type": "object", "x-kubernetes-validations": rules, "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"}, "ratio": {"type": "number"},
            "name": {"type": "string"}, "when": {"type": "string", "format": "date-time"}, "in": {"type": "string"},
            "list": {"type": "array", "items": {"type": "string"}},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
            "a-b": {"type": "string"}}})
    }

    #[test]
    fn rules_see_the_value_in_the_types_of_its_schema() {
        let value = json!({"min": 1, "max": 3, "ratio": 2, "name": "abc", "when": "2026-01-01T00:00:00Z", "in": "x",
            "list": ["a", "b"], "map": {"k": 1}, "a-b": "c"});
        for rule in [
            "self.min <= self.max",
            "self.ratio > 1.5",
            "self.name.matches('^a.c$') && self.name.startsWith('a') && size(self.name) == 3",
            "self.when < timestamp('2027-01-01T00:00:00Z')",
            "self.__in__ == 'x' && self.a__dash__b == 'c'",
            "self.list.all(x, x in ['a', 'b']) && self.list.exists_one(x, x == 'a')",
            "self.map.all(k, self.map[k] > 0) && 'k' in self.map",
            "has(self.min) && !has(self.nothing)",
            "self.name.upperAscii() == 'ABC' && self.list.join('-') == 'a-b'",
        ] {
            assert_eq!(found(spec(json!([{"rule": rule}])), value.clone(), None), [""; 0], "{rule}");
        }
    }

    #[test]
    fn a_failed_rule_is_said_as_its_author_wants_it() {
        let value = json!({"min": 5, "max": 3});
        let rule = |more: Value| {
            let mut rule = json!({"rule": "self.min <= self.max"});
            rule.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
            found(spec(json!([rule])), value.clone(), None).join("; ")
        };
        assert_eq!(rule(json!({})), r#"spec: Invalid value: "object": failed rule: self.min <= self.max"#);
        assert_eq!(rule(json!({"message": "too small"})), r#"spec: Invalid value: "object": too small"#);
        let computed = json!({"messageExpression": "'max is ' + string(self.max)", "message": "x"});
        assert_eq!(rule(computed), r#"spec: Invalid value: "object": max is 3"#);
        let field = json!({"message": "no", "fieldPath": ".max", "reason": "FieldValueForbidden"});
        assert_eq!(rule(field), "spec.max: Forbidden: no");
    }

    #[test]
    fn rules_about_changes_are_asked_of_changes() {
        let fixed = spec(json!([{"rule": "self.name == oldSelf.name", "message": "is immutable"}]));
        assert_eq!(found(fixed.clone(), json!({"name": "a"}), None), [""; 0]);
        assert_eq!(found(fixed.clone(), json!({"name": "a"}), Some(json!({"name": "a"}))), [""; 0]);
        let message = r#"spec: Invalid value: "object": is immutable"#;
        assert_eq!(found(fixed, json!({"name": "b"}), Some(json!({"name": "a"}))), [message]);
        let optional = spec(json!([{"rule": "oldSelf.hasValue() || self.name == 'first'", "optionalOldSelf": true}]));
        assert_eq!(found(optional.clone(), json!({"name": "b"}), None).len(), 1);
        assert_eq!(found(optional.clone(), json!({"name": "first"}), None), [""; 0]);
        assert_eq!(found(optional, json!({"name": "b"}), Some(json!({"name": "a"}))), [""; 0]);
    }

    #[test]
    fn what_did_not_change_is_not_asked_again_and_what_is_ill_formed_not_at_all() {
        let rules = spec(json!([{"rule": "self.min <= self.max"}]));
        let bad = json!({"min": 5, "max": 3});
        assert_eq!(found(rules.clone(), bad.clone(), Some(bad)), [""; 0]);
        let errors = found(rules, json!({"min": "x", "max": 3}), None);
        assert_eq!(errors.len(), 2);
        assert!(errors[1].contains("some validation rules were not checked"), "{errors:?}");
    }

    #[test]
    fn a_rule_that_would_cost_too_much_is_not_asked() {
        let rule =
            json!([{"rule": "self.list.all(a, self.list.all(b, self.list.all(c, a != b || b != c || a == c)))"}]);
        let list: Vec<String> = (0..200).map(|i| i.to_string()).collect();
        let errors = found(spec(rule), json!({"list": list}), None);
        assert!(errors.len() == 1 && errors[0].contains("call cost exceeds limit"), "{errors:?}");
    }
}
