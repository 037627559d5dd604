//! Decoding led by a type: one pass over the input checks, normalizes and builds the object.
//!
//! The messages are those of Go's decoder, which Kubernetes' clients know: the first value of a wrong type is reported
//! after the whole input was read; unknown and duplicate fields are reported in the order of the input.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{DecodeError, json, yaml};
use crate::quantity;
use crate::schema::{Field, FieldType, Type, UnionKind};
use crate::time::Moment;

/// As many unknown and duplicate fields are reported at most.
const MAX_STRICT_ERRORS: usize = 100;

/// What came out of one input.
pub(super) struct Outcome {
    pub value: Option<Value>,
    /// The first value of a wrong type.
    pub error: Option<String>,
    /// Unknown and duplicate fields.
    pub strict: Vec<String>,
}

impl Outcome {
    pub(super) fn clean(value: Value) -> Self {
        Outcome { value: Some(value), error: None, strict: Vec::new() }
    }
}

#[derive(Default)]
struct Context {
    error: Option<String>,
    strict: Vec<String>,
    tracked: bool,
}

impl Context {
    fn wrong(&mut self, text: impl FnOnce() -> String) {
        if self.error.is_none() {
            self.error = Some(text());
        }
    }

    fn strict(&mut self, what: &str, at: &At<'_>) {
        if self.tracked {
            self.strict_at(what, &at.to_string());
        }
    }

    fn strict_at(&mut self, what: &str, path: &str) {
        if !self.tracked || self.strict.len() >= MAX_STRICT_ERRORS {
            return;
        }
        let text = format!("{what} field {path:?}");
        if !self.strict.contains(&text) {
            self.strict.push(text);
        }
    }

    /// Reads a value of which nothing is known, by a function that is given where keys that stand twice are noted.
    fn untyped<T, E>(&mut self, read: impl FnOnce(Option<&mut Vec<String>>) -> Result<T, E>) -> Result<T, E> {
        let mut duplicates = Vec::new();
        let value = read(self.tracked.then_some(&mut duplicates))?;
        for path in duplicates {
            self.strict_at("duplicate", &path);
        }
        Ok(value)
    }
}

pub(super) fn decode_json(ty: &Type, body: &[u8], tracked: bool) -> Result<Outcome, DecodeError> {
    let mut context = Context { tracked, ..Context::default() };
    let mut de = serde_json::Deserializer::from_slice(body);
    let value = decode_root(ty, &mut de, &mut context).and_then(|value| de.end().map(|()| value));
    let value = value.map_err(|error| json::syntax_error(&error, body))?;
    Ok(Outcome { value, error: context.error, strict: context.strict })
}

pub(super) fn decode_yaml(ty: &Type, body: &[u8], tracked: bool) -> Result<Outcome, DecodeError> {
    let (value, duplicates) = yaml::decode_tracked(body)?;
    let mut outcome = decode_value(ty, value, tracked);
    if tracked {
        outcome.strict.splice(0..0, duplicates);
    }
    Ok(outcome)
}

pub(super) fn decode_value(ty: &Type, value: Value, tracked: bool) -> Outcome {
    let mut context = Context { tracked, ..Context::default() };
    let value = decode_root(ty, value, &mut context).unwrap_or_else(|error| {
        context.wrong(|| error.to_string());
        None
    });
    Outcome { value, error: context.error, strict: context.strict }
}

fn decode_root<'de, D: Deserializer<'de>>(ty: &Type, de: D, context: &mut Context) -> Result<Option<Value>, D::Error> {
    de.deserialize_any(Message { ty, at: At::root(), context })
}

/// Where in the object the decoder is; lives on the stack and is printed only for messages.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    /// A field, and the type it is of.
    Field(&'a str, &'a Type),
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(super) fn root() -> Self {
        At { parent: None, step: Step::Root }
    }

    fn field(&'a self, name: &'a str, ty: &'a Type) -> At<'a> {
        At { parent: Some(self), step: Step::Field(name, ty) }
    }

    fn key(&'a self, key: &'a str) -> At<'a> {
        At { parent: Some(self), step: Step::Key(key) }
    }

    fn index(&'a self, index: usize) -> At<'a> {
        At { parent: Some(self), step: Step::Index(index) }
    }

    fn steps(&self) -> Vec<Step<'a>> {
        let mut steps = vec![self.step];
        let mut at = self.parent;
        while let Some(outer) = at {
            steps.push(outer.step);
            at = outer.parent;
        }
        steps.reverse();
        steps
    }

    /// `Go struct field PodSpec.spec.containers`, or `Go value` outside of any struct.
    fn go_position(&self) -> String {
        let steps = self.steps();
        let fields: Vec<&str> =
            steps.iter().filter_map(|s| if let Step::Field(name, _) = s { Some(*name) } else { None }).collect();
        let owner = steps.iter().rev().find_map(|s| if let Step::Field(_, ty) = s { Some(*ty) } else { None });
        match owner {
            Some(ty) => format!("Go struct field {}.{}", ty.short_name(), fields.join(".")),
            None => "Go value".to_owned(),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for step in self.steps() {
            match step {
                Step::Root => continue,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Field(name, _) | Step::Key(name) if first => f.write_str(name)?,
                Step::Field(name, _) | Step::Key(name) => write!(f, ".{name}")?,
            }
            first = false;
        }
        Ok(())
    }
}

fn mismatch(context: &mut Context, at: &At<'_>, found: &str, expected: &str) {
    context.wrong(|| format!("json: cannot unmarshal {found} into {} of type {expected}", at.go_position()));
}

/// An object of a known type.
struct Message<'a, 'c> {
    ty: &'a Type,
    at: At<'a>,
    context: &'c mut Context,
}

/// A field's value, a list's item or a map's value.
struct Slot<'a, 'c> {
    field: &'a Field,
    at: At<'a>,
    context: &'c mut Context,
}

impl<'de> DeserializeSeed<'de> for Slot<'_, '_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Self::Value, D::Error> {
        de.deserialize_any(self)
    }
}

macro_rules! mismatched_scalars {
    () => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            mismatch(self.context, &self.at, "bool", &self.ty.go_name());
            Ok(None)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            mismatch(self.context, &self.at, "number", &self.ty.go_name());
            Ok(None)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            mismatch(self.context, &self.at, "number", &self.ty.go_name());
            Ok(None)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            mismatch(self.context, &self.at, "number", &self.ty.go_name());
            Ok(None)
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            mismatch(self.context, &self.at, "string", &self.ty.go_name());
            Ok(None)
        }
    };
}

impl<'de> Visitor<'de> for Message<'_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    mismatched_scalars!();

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        mismatch(self.context, &self.at, "array", &self.ty.go_name());
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        read_fields(self.ty, &self.at, self.context, access).map(|map| Some(Value::Object(map)))
    }
}

/// Reads the fields of a message and brings them to normal form.
fn read_fields<'de, A: MapAccess<'de>>(
    ty: &Type,
    at: &At<'_>,
    context: &mut Context,
    mut access: A,
) -> Result<Map<String, Value>, A::Error> {
    let mut map = Map::new();
    let mut seen = Seen::default();
    while let Some(key) = access.next_key_seed(KeyOf(ty))? {
        match key {
            Key::Known(index) => {
                let field = &ty.fields[index];
                let at = at.field(&field.name, ty);
                if seen.again(index) {
                    context.strict("duplicate", &at);
                }
                let value = access.next_value_seed(Slot { field, at, context })?;
                match value.filter(|value| is_kept(field, value)) {
                    Some(value) => map.insert(field.name.clone(), value),
                    None => map.remove(&field.name),
                };
            }
            Key::Unknown(name) if ty.preserve_unknown => {
                let at = at.key(&name);
                if map.contains_key(&name) {
                    context.strict("duplicate", &at);
                }
                let value = context.untyped(|duplicates| access.next_value_seed(Untyped { at, duplicates }))?;
                map.insert(name, value);
            }
            Key::Unknown(name) => {
                access.next_value::<IgnoredAny>()?;
                context.strict("unknown", &at.key(&name));
            }
        }
    }
    crate::schema::fill_zeros_in(ty, &mut map);
    Ok(map)
}

/// Go leaves out what is empty where being absent means the same.
fn is_kept(field: &Field, value: &Value) -> bool {
    if !field.omit_empty || field.presence || field.zero.is_some() {
        return true;
    }
    match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !matches!(field.ty, FieldType::Map(_)) || !map.is_empty(),
        Value::String(text) => !text.is_empty() || matches!(field.ty, FieldType::IntOrString | FieldType::Raw),
        Value::Bool(b) => *b || !matches!(field.ty, FieldType::Bool),
        Value::Number(n) => n.as_f64() != Some(0.0) || matches!(field.ty, FieldType::IntOrString | FieldType::Raw),
        Value::Null => true,
    }
}

/// Which fields of a message were there already.
#[derive(Default)]
struct Seen(u128);

impl Seen {
    fn again(&mut self, index: usize) -> bool {
        let bit = 1_u128 << (index & 127);
        let before = self.0 & bit != 0;
        self.0 |= bit;
        before
    }
}

enum Key {
    Known(usize),
    Unknown(String),
}

struct KeyOf<'a>(&'a Type);

impl<'de> DeserializeSeed<'de> for KeyOf<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Key, D::Error> {
        de.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyOf<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        Ok(match self.0.field_index(key) {
            Some(index) => Key::Known(index),
            None => Key::Unknown(key.to_owned()),
        })
    }
}

impl Slot<'_, '_> {
    fn mismatch(self, found: &str) -> Option<Value> {
        match &self.field.ty {
            FieldType::Quantity => self.context.wrong(|| quantity::ParseError::Format.to_string()),
            FieldType::Time | FieldType::MicroTime | FieldType::Duration => {
                self.context.wrong(|| format!("json: cannot unmarshal {found} into Go value of type string"));
            }
            FieldType::IntOrString => {
                self.context.wrong(|| format!("json: cannot unmarshal {found} into Go value of type int32"));
            }
            other => mismatch(self.context, &self.at, found, &other.go_name()),
        }
        None
    }

    fn quantity(self, text: &str) -> Option<Value> {
        let trimmed = text.trim();
        match quantity::canonical(trimmed) {
            Ok(canonical) => Some(Value::String(canonical.unwrap_or_else(|| trimmed.to_owned()))),
            Err(error) => {
                self.context.wrong(|| error.to_string());
                None
            }
        }
    }

    fn time(self, text: &str) -> Option<Value> {
        let micro = matches!(self.field.ty, FieldType::MicroTime);
        let Some(moment) = Moment::parse(text) else {
            let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
            self.context.wrong(|| format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""));
            return None;
        };
        if moment == Moment::ZERO {
            return None;
        }
        Some(Value::String(if micro { moment.to_micros() } else { moment.to_seconds() }))
    }

    fn bytes(self, text: &str) -> Option<Value> {
        let plain: String = if text.contains(['\n', '\r']) {
            text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect()
        } else {
            text.to_owned()
        };
        match STANDARD.decode(&plain) {
            Ok(_) => Some(Value::String(plain)),
            Err(error) => {
                let position = match error {
                    base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                    _ => plain.len().saturating_sub(plain.len() % 4),
                };
                self.context.wrong(|| format!("illegal base64 data at input byte {position}"));
                None
            }
        }
    }

    fn integer(self, number: Number) -> Option<Value> {
        let fits = match self.field.ty {
            FieldType::Int32 | FieldType::IntOrString => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            FieldType::Int64 => number.as_i64().is_some(),
            FieldType::Double | FieldType::Json | FieldType::Any | FieldType::Raw | FieldType::FieldsV1 => true,
            FieldType::Quantity => return self.quantity(&number.to_string()),
            _ if self.field.lax => true,
            _ => return self.mismatch("number"),
        };
        if fits {
            return Some(Value::Number(number));
        }
        self.mismatch(&format!("number {number}"))
    }
}

impl<'de> Visitor<'de> for Slot<'_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        let kept = self.field.nullable || self.field.lax || matches!(self.field.ty, FieldType::Any);
        Ok(kept.then_some(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(match self.field.ty {
            FieldType::Bool
            | FieldType::Any
            | FieldType::Json
            | FieldType::Raw
            | FieldType::FieldsV1
            | FieldType::Union(UnionKind::SchemaOrBool, _) => Some(Value::Bool(value)),
            _ if self.field.lax => Some(Value::Bool(value)),
            _ => self.mismatch("bool"),
        })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(self.integer(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(self.integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(match (&self.field.ty, plain_number(value)) {
            (FieldType::Double | FieldType::Json | FieldType::Any | FieldType::Raw, Some(number)) => {
                Some(Value::Number(number))
            }
            (FieldType::Int32 | FieldType::Int64 | FieldType::IntOrString, _) => {
                self.mismatch(&format!("number {}", Value::from(value)))
            }
            (FieldType::Quantity, _) => self.quantity(&value.to_string()),
            (_, Some(number)) if self.field.lax => Some(Value::Number(number)),
            _ => self.mismatch("number"),
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(match self.field.ty {
            FieldType::Quantity => self.quantity(value),
            FieldType::Time | FieldType::MicroTime => self.time(value),
            FieldType::Bytes => self.bytes(value),
            FieldType::String
            | FieldType::IntOrString
            | FieldType::Duration
            | FieldType::Any
            | FieldType::Json
            | FieldType::Raw
            | FieldType::FieldsV1 => Some(Value::String(value.to_owned())),
            _ if self.field.lax => Some(Value::String(value.to_owned())),
            _ => self.mismatch("string"),
        })
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Self::Value, E> {
        match self.field.ty {
            FieldType::String | FieldType::IntOrString => Ok(Some(Value::String(value))),
            _ => self.visit_str(&value),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        match &self.field.ty {
            FieldType::List(item) => read_items(item, &self.at, self.context, seq).map(|v| Some(Value::Array(v))),
            FieldType::Any | FieldType::Json | FieldType::Raw | FieldType::FieldsV1 => {
                self.context.untyped(|duplicates| Untyped { at: self.at, duplicates }.visit_seq(seq)).map(Some)
            }
            _ if self.field.lax => {
                self.context.untyped(|duplicates| Untyped { at: self.at, duplicates }.visit_seq(seq)).map(Some)
            }
            FieldType::Union(UnionKind::SchemaOrArray, link) => {
                let item = Field::new("", FieldType::Message(link.clone()));
                read_items(&item, &self.at, self.context, seq).map(|v| Some(Value::Array(v)))
            }
            FieldType::Union(UnionKind::SchemaOrStringArray, _) => {
                let item = Field::new("", FieldType::String);
                read_items(&item, &self.at, self.context, seq).map(|v| Some(Value::Array(v)))
            }
            _ => {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(self.mismatch("array"))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        match &self.field.ty {
            FieldType::Message(ty) | FieldType::Union(_, ty) => {
                read_fields(ty, &self.at, self.context, access).map(|map| Some(Value::Object(map)))
            }
            FieldType::Map(value) => {
                read_entries(value, &self.at, self.context, access).map(|map| Some(Value::Object(map)))
            }
            FieldType::Any | FieldType::Json | FieldType::Raw | FieldType::FieldsV1 | FieldType::Object => {
                self.context.untyped(|duplicates| Untyped { at: self.at, duplicates }.visit_map(access)).map(Some)
            }
            _ if self.field.lax => {
                self.context.untyped(|duplicates| Untyped { at: self.at, duplicates }.visit_map(access)).map(Some)
            }
            _ => {
                while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(self.mismatch("object"))
            }
        }
    }
}

fn read_items<'de, A: SeqAccess<'de>>(
    item: &Field,
    at: &At<'_>,
    context: &mut Context,
    mut seq: A,
) -> Result<Vec<Value>, A::Error> {
    let mut items = Vec::new();
    loop {
        let slot = Slot { field: item, at: at.index(items.len()), context };
        match seq.next_element_seed(slot)? {
            Some(value) => items.push(value.unwrap_or_else(|| zero(&item.ty))),
            None => return Ok(items),
        }
    }
}

fn read_entries<'de, A: MapAccess<'de>>(
    element: &Field,
    at: &At<'_>,
    context: &mut Context,
    mut access: A,
) -> Result<Map<String, Value>, A::Error> {
    let mut map = Map::new();
    while let Some(key) = access.next_key::<String>()? {
        let at = at.key(&key);
        if map.contains_key(&key) {
            context.strict("duplicate", &at);
        }
        let value = access.next_value_seed(Slot { field: element, at, context })?;
        map.insert(key, value.unwrap_or_else(|| zero(&element.ty)));
    }
    Ok(map)
}

/// What Go reads from null where something has to be there.
pub(super) fn zero(ty: &FieldType) -> Value {
    match ty {
        FieldType::Bool => Value::Bool(false),
        FieldType::Int32 | FieldType::Int64 | FieldType::Double | FieldType::IntOrString => 0.into(),
        FieldType::String | FieldType::Bytes | FieldType::Duration => "".into(),
        FieldType::Quantity => "0".into(),
        FieldType::Message(ty) | FieldType::Union(_, ty) => {
            let mut map = Map::new();
            crate::schema::fill_zeros_in(ty, &mut map);
            Value::Object(map)
        }
        FieldType::List(_) => Value::Array(Vec::new()),
        FieldType::Map(_) | FieldType::Object => Value::Object(Map::new()),
        FieldType::Time
        | FieldType::MicroTime
        | FieldType::Any
        | FieldType::Raw
        | FieldType::Json
        | FieldType::FieldsV1 => Value::Null,
    }
}

/// A number as JSON writes it: whole numbers without a fraction. None for what JSON cannot write.
pub(super) fn plain_number(value: f64) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Some((value as i64).into());
    }
    Number::from_f64(value)
}

/// A value of which nothing is known.
pub(super) struct Untyped<'a, 'c> {
    pub at: At<'a>,
    pub duplicates: Option<&'c mut Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Untyped<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Value, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Untyped<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(plain_number(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let item = Untyped { at: self.at.index(items.len()), duplicates: self.duplicates.as_deref_mut() };
            match seq.next_element_seed(item)? {
                Some(value) => items.push(value),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let at = self.at.key(&key);
            if let Some(duplicates) = self.duplicates.as_deref_mut()
                && map.contains_key(&key)
            {
                duplicates.push(at.to_string());
            }
            let value = access.next_value_seed(Untyped { at, duplicates: self.duplicates.as_deref_mut() })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
