//! Objects as values of expressions, and back.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString, CelUInt,
};
use cel::common::value::Val;
use serde_json::{Map, Number, Value};

/// An object as expressions see it, where no schema says more of its types. Texts are borrowed.
pub fn to_val<'v>(value: &'v Value) -> Box<dyn Val + 'v> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        Value::Number(number) => number_val(number),
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(to_val).collect::<Vec<_>>())),
        Value::Object(entries) => {
            let entry = |(key, value): (&'v String, &'v Value)| {
                (CelMapKey::String(CelString::from(key.as_str())), to_val(value))
            };
            Box::new(CelMap::from(entries.iter().map(entry).collect::<HashMap<_, _>>()))
        }
    }
}

fn number_val<'v>(number: &Number) -> Box<dyn Val + 'v> {
    match number.as_i64() {
        Some(int) => Box::new(CelInt::from(int)),
        None => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
    }
}

/// A value that is no JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotJson(String);

impl std::fmt::Display for NotJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unsupported type: {}", self.0)
    }
}

impl std::error::Error for NotJson {}

/// A value as JSON.
///
/// # Errors
/// Values of types that JSON does not have, and maps whose keys are no texts.
pub fn to_json(value: &dyn Val) -> Result<Value, NotJson> {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return Ok(text.inner().into());
    }
    if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        return object(map);
    }
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        return list.inner().iter().map(|item| to_json(item.as_ref())).collect::<Result<Vec<_>, _>>().map(Value::Array);
    }
    if let Some(optional) = value.downcast_ref::<CelOptional<'_>>() {
        return optional.option().map_or(Ok(Value::Null), to_json);
    }
    scalar(value).ok_or_else(|| NotJson(value.get_type().name().to_owned()))
}

fn object(map: &CelMap<'_>) -> Result<Value, NotJson> {
    let mut entries = Map::new();
    for (key, value) in map.inner() {
        let CelMapKey::String(key) = key else { return Err(NotJson("map with keys that are not strings".to_owned())) };
        entries.insert(key.inner().to_owned(), to_json(value.as_ref())?);
    }
    Ok(Value::Object(entries))
}

fn scalar(value: &dyn Val) -> Option<Value> {
    if value.downcast_ref::<CelNull>().is_some() {
        return Some(Value::Null);
    }
    let truth = value.downcast_ref::<CelBool>().map(|truth| Value::from(*truth.inner()));
    let int = || value.downcast_ref::<CelInt>().map(|int| Value::from(*int.inner()));
    let uint = || value.downcast_ref::<CelUInt>().map(|uint| Value::from(*uint.inner()));
    let double = || value.downcast_ref::<CelDouble>().map(|double| Value::from(*double.inner()));
    let bytes = || value.downcast_ref::<CelBytes<'_>>().map(|bytes| Value::from(STANDARD.encode(bytes.inner())));
    truth.or_else(int).or_else(uint).or_else(double).or_else(bytes)
}
