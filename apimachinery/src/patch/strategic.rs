//! Strategic merge patch: a merge patch that knows, from the schema, which lists are merged and by which key.
//!
//! "Strategic merge patch" in Kubernetes' API conventions. Directives: `$patch` (`replace`, `delete`), `$retainKeys`,
//! `$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>`.

mod diff;
mod order;

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::{Field, FieldType, Type};
use order::{Ordering, arrange, key_text, present};

pub use diff::{three_way, two_way};

pub(super) const DIRECTIVE: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
pub(super) const SET_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;

/// What the schema knows of a value.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    Message(&'a Type),
    /// A map or a list, by its values or items.
    Elements(&'a Field),
    Unknown,
}

impl<'a> Shape<'a> {
    pub(super) fn of(ty: &'a FieldType) -> Self {
        match ty {
            FieldType::Message(ty) => Shape::Message(ty),
            FieldType::Map(element) | FieldType::List(element) => Shape::Elements(element),
            _ => Shape::Unknown,
        }
    }

    /// The field of that name, where the schema has one.
    pub(super) fn field(self, name: &str) -> Option<&'a Field> {
        match self {
            Shape::Message(ty) => ty.field(name),
            Shape::Elements(element) => Some(element),
            Shape::Unknown => None,
        }
    }
}

/// What is done with the parts of a patch that only make sense against an object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A patch is applied to an object: directives are carried out, nulls remove.
    Apply,
    /// Two patches become one: directives and nulls are kept.
    Combine,
}

/// Applies a patch to an object of that type.
///
/// # Errors
/// Patches that are not objects, unknown directives, and items of merged lists without their key.
pub fn apply(ty: &Type, object: Value, patch: Value) -> Result<Value, PatchError> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(PatchError::Malformed("error decoding patch: a strategic merge patch is an object".into()));
    };
    merge_objects(object, patch, Shape::Message(ty), Mode::Apply).map(Value::Object)
}

pub(super) fn merge_objects(
    mut object: Object,
    mut patch: Object,
    shape: Shape<'_>,
    mode: Mode,
) -> Result<Object, PatchError> {
    if mode == Mode::Apply {
        match patch.remove(DIRECTIVE) {
            None => {}
            Some(Value::String(directive)) => match directive.as_str() {
                "replace" => return Ok(without_directives(patch)),
                "delete" => return Ok(Object::new()),
                "merge" => {}
                other => return Err(PatchError::Malformed(format!("unknown patch type '{other}' in map"))),
            },
            Some(_) => return Err(PatchError::Malformed("the $patch directive is not a string".into())),
        }
        retain_keys(&mut object, &mut patch)?;
        set_orders(&mut object, &mut patch, shape)?;
    }
    for (key, value) in patch {
        merge_entry(&mut object, key, value, shape, mode)?;
    }
    Ok(object)
}

fn merge_entry(object: &mut Object, key: String, value: Value, shape: Shape<'_>, mode: Mode) -> Result<(), PatchError> {
    if mode == Mode::Apply
        && let Some(name) = key.strip_prefix(DELETE_FROM)
    {
        return delete_from(object, name, &value);
    }
    if value.is_null() && mode == Mode::Apply {
        object.remove(&key);
        return Ok(());
    }
    let field = shape.field(&key);
    let merged = match (object.remove(&key), value) {
        (Some(Value::Object(before)), Value::Object(patch)) if !replaces(field) => {
            let below = field.map_or(Shape::Unknown, |field| Shape::of(&field.ty));
            Value::Object(merge_objects(before, patch, below, mode)?)
        }
        (Some(Value::Array(before)), Value::Array(patch)) => match field.filter(|f| f.has_patch_strategy("merge")) {
            Some(field) => Value::Array(merge_lists(before, patch, field, mode)?),
            None => cleaned(Value::Array(patch), mode),
        },
        (_, value) => cleaned(value, mode),
    };
    object.insert(key, merged);
    Ok(())
}

fn replaces(field: Option<&Field>) -> bool {
    field.is_some_and(|field| field.has_patch_strategy("replace"))
}

/// A value that meets nothing: what only makes sense against something is dropped.
fn cleaned(value: Value, mode: Mode) -> Value {
    match (mode, value) {
        (Mode::Apply, Value::Object(map)) => Value::Object(without_directives(map)),
        (Mode::Apply, Value::Array(items)) => {
            let deleted = |item: &Value| item.get(DIRECTIVE).is_some_and(|d| d == "delete");
            Value::Array(items.into_iter().filter(|item| !deleted(item)).map(|item| cleaned(item, mode)).collect())
        }
        (_, value) => value,
    }
}

fn without_directives(map: Object) -> Object {
    let directive = |key: &str| {
        key == DIRECTIVE || key == RETAIN_KEYS || key.starts_with(DELETE_FROM) || key.starts_with(SET_ORDER)
    };
    map.into_iter()
        .filter(|(key, value)| !directive(key) && !value.is_null())
        .map(|(key, value)| (key, cleaned(value, Mode::Apply)))
        .collect()
}

/// `$retainKeys` lists all that may stay.
fn retain_keys(object: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(list) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || PatchError::Malformed("invalid patch format of retainKeys".into());
    let list = list.as_array().ok_or_else(malformed)?;
    let keys: Vec<&str> = list.iter().map(|key| key.as_str().ok_or_else(malformed)).collect::<Result<_, _>>()?;
    let foreign = patch.iter().any(|(key, value)| {
        !value.is_null()
            && !keys.contains(&key.as_str())
            && !key.starts_with(DELETE_FROM)
            && !key.starts_with(SET_ORDER)
            && key != DIRECTIVE
    });
    if foreign {
        return Err(malformed());
    }
    object.retain(|key, _| keys.contains(&key.as_str()));
    Ok(())
}

fn delete_from(object: &mut Object, name: &str, deleted: &Value) -> Result<(), PatchError> {
    let Value::Array(deleted) = deleted else {
        return Err(PatchError::Malformed("invalid patch format of primitive list".into()));
    };
    if let Some(Value::Array(items)) = object.get_mut(name) {
        items.retain(|item| !deleted.contains(item));
    }
    Ok(())
}

/// Carries out every `$setElementOrder`: the list is merged here, and put into that order.
fn set_orders(object: &mut Object, patch: &mut Object, shape: Shape<'_>) -> Result<(), PatchError> {
    let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for key in keys {
        let name = key[SET_ORDER.len()..].to_owned();
        let (Some(Value::Array(wanted)), Some(field)) = (patch.remove(&key), shape.field(&name)) else {
            return Err(PatchError::Malformed("invalid patch format of setElementOrder list".into()));
        };
        let merge_key = field.patch_merge_key.as_deref();
        if let Some(deleted) = patch.remove(&format!("{DELETE_FROM}{name}")) {
            delete_from(object, &name, &deleted)?;
        }
        let before = match object.get(&name) {
            Some(Value::Array(items)) => items.clone(),
            _ => Vec::new(),
        };
        match patch.remove(&name) {
            Some(value @ Value::Array(_)) => {
                check_order(value.as_array().map_or(&[], Vec::as_slice), &wanted, merge_key)?;
                merge_entry(object, name.clone(), value, shape, Mode::Apply)?;
            }
            Some(other) => {
                merge_entry(object, name.clone(), other, shape, Mode::Apply)?;
                continue;
            }
            None => {}
        }
        if let Some(Value::Array(items)) = object.get_mut(&name) {
            let merged = std::mem::take(items);
            *items = arrange(merged, Ordering { wanted: &wanted, before: &before, merge_key });
        }
    }
    Ok(())
}

/// What a patch adds must stand in the order's list too, in the same order.
fn check_order(patch: &[Value], wanted: &[Value], merge_key: Option<&str>) -> Result<(), PatchError> {
    let kept = patch.iter().filter(|item| item.get(DIRECTIVE).is_none_or(|d| d != "delete"));
    let mut last = 0;
    for item in kept {
        let found = wanted[last..].iter().position(|other| key_text(other, merge_key) == key_text(item, merge_key));
        let Some(found) = found else {
            return Err(PatchError::Malformed("the order in patch list doesn't match $setElementOrder list".into()));
        };
        last += found;
    }
    Ok(())
}

fn merge_lists(before: Vec<Value>, patch: Vec<Value>, field: &Field, mode: Mode) -> Result<Vec<Value>, PatchError> {
    if before.is_empty() && patch.is_empty() {
        return Ok(before);
    }
    let objects = patch.iter().chain(&before).any(Value::is_object);
    if !objects {
        return Ok(merge_scalars(before, patch));
    }
    let merge_key = field
        .patch_merge_key
        .as_deref()
        .ok_or_else(|| PatchError::Malformed(format!("cannot merge lists without merge key for {}", field.name)))?;
    merge_items(before, patch, field, merge_key, mode)
}

fn merge_scalars(before: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(before.len() + patch.len());
    for value in before.iter().chain(&patch) {
        if !merged.contains(value) {
            merged.push(value.clone());
        }
    }
    arrange(merged, Ordering { wanted: &patch, before: &before, merge_key: None })
}

fn merge_items(
    mut items: Vec<Value>,
    patch: Vec<Value>,
    field: &Field,
    merge_key: &str,
    mode: Mode,
) -> Result<Vec<Value>, PatchError> {
    let shape = field.ty.element().map_or(Shape::Unknown, |element| Shape::of(&element.ty));
    let mut kept = Vec::with_capacity(patch.len());
    let mut replace = false;
    for mut item in patch {
        if mode == Mode::Combine {
            kept.push(item);
            continue;
        }
        let directive = item.as_object_mut().and_then(|map| map.remove(DIRECTIVE));
        match directive.as_ref().map(|d| d.as_str().unwrap_or_default()) {
            None | Some("merge") => kept.push(item),
            Some("replace") => {
                replace = true;
                // An item of only the directive stands for the whole list.
                if item.as_object().is_some_and(|map| !map.is_empty()) {
                    kept.push(item);
                }
            }
            Some("delete") => {
                let deleted = item
                    .get(merge_key)
                    .ok_or_else(|| PatchError::Malformed("delete patch type with no merge key defined".into()))?;
                items.retain(|other| !same_key(other.get(merge_key), Some(deleted)));
            }
            Some(other) => {
                return Err(PatchError::Malformed(format!("unknown patch type '{other}' in list")));
            }
        }
    }
    if replace {
        return Ok(kept.into_iter().map(|item| cleaned(item, mode)).collect());
    }
    let before = items.clone();
    for item in &kept {
        let key = item.get(merge_key).ok_or_else(|| {
            PatchError::Malformed(format!("map: {item} does not contain declared merge key: {merge_key}"))
        })?;
        let found = items.iter_mut().find(|other| same_key(other.get(merge_key), Some(key)));
        match (found, item) {
            (Some(place), Value::Object(patch)) => {
                let Value::Object(before) = std::mem::take(place) else { continue };
                *place = Value::Object(merge_objects(before, patch.clone(), shape, mode)?);
            }
            (_, item) => items.push(cleaned(item.clone(), mode)),
        }
    }
    Ok(arrange(items, Ordering { wanted: &kept, before: &before, merge_key: Some(merge_key) }))
}

fn same_key(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => present(a) == present(b),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
