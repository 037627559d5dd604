//! Making strategic merge patches: from two objects, and from three, as `kubectl apply` does.

use serde_json::{Map, Value};

use super::order::{Ordering, arrange, key_text};
use super::{DELETE_FROM, DIRECTIVE, Mode, Object, RETAIN_KEYS, SET_ORDER, Shape, merge_objects, replaces};
use crate::patch::PatchError;
use crate::schema::{Field, Type};

/// Which differences go into the patch.
#[derive(Clone, Copy)]
struct Wanted {
    changes: bool,
    deletions: bool,
}

/// The patch that makes one object of another; `{}` where they are equal.
pub fn two_way(ty: &Type, from: &Value, to: &Value) -> Value {
    let wanted = Wanted { changes: true, deletions: true };
    diff_values(from, to, Shape::Message(ty), wanted)
}

/// The patch that brings `current` to `modified`, and takes away what was in `original`, the last applied, and is no
/// longer in `modified`. What others added to `current` stays.
///
/// # Errors
/// Objects whose merged lists have items without their key.
pub fn three_way(ty: &Type, original: &Value, modified: &Value, current: &Value) -> Result<Value, PatchError> {
    let shape = Shape::Message(ty);
    let changes = diff_values(current, modified, shape, Wanted { changes: true, deletions: false });
    let deletions = diff_values(original, modified, shape, Wanted { changes: false, deletions: true });
    match (deletions, changes) {
        (Value::Object(deletions), Value::Object(changes)) => {
            merge_objects(deletions, changes, shape, Mode::Combine).map(Value::Object)
        }
        (_, changes) => Ok(changes),
    }
}

fn diff_values(from: &Value, to: &Value, shape: Shape<'_>, wanted: Wanted) -> Value {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => Value::Object(diff_objects(from, to, shape, wanted, false)),
        _ => to.clone(),
    }
}

fn diff_objects(from: &Object, to: &Object, shape: Shape<'_>, wanted: Wanted, retain: bool) -> Object {
    let mut patch = Map::new();
    for (key, new) in to {
        match from.get(key) {
            Some(old) => diff_entry(&mut patch, key, old, new, shape.field(key), wanted),
            None if wanted.changes && !new.is_null() => {
                patch.insert(key.clone(), new.clone());
            }
            None => {}
        }
    }
    if wanted.deletions {
        for key in from.keys().filter(|key| !to.contains_key(*key)) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    let added = to.keys().any(|key| !from.contains_key(key));
    if retain && (!patch.is_empty() || added) {
        let keys = to.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| Value::from(key.as_str()));
        patch.insert(RETAIN_KEYS.into(), keys.collect());
    }
    patch
}

fn diff_entry(patch: &mut Object, key: &str, old: &Value, new: &Value, field: Option<&Field>, wanted: Wanted) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(old), Value::Object(new)) if !replaces(field) => {
            let shape = field.map_or(Shape::Unknown, |field| Shape::of(&field.ty));
            let retain = field.is_some_and(|field| field.has_patch_strategy("retainKeys"));
            let below = diff_objects(old, new, shape, wanted, retain);
            if !below.is_empty() {
                patch.insert(key.to_owned(), Value::Object(below));
            }
        }
        (Value::Array(old), Value::Array(new)) => match field.filter(|f| f.has_patch_strategy("merge")) {
            Some(field) => diff_lists(patch, key, old, new, field, wanted),
            None if wanted.changes => {
                patch.insert(key.to_owned(), Value::Array(new.clone()));
            }
            None => {}
        },
        _ if wanted.changes => {
            patch.insert(key.to_owned(), new.clone());
        }
        _ => {}
    }
}

fn diff_lists(patch: &mut Object, key: &str, old: &[Value], new: &[Value], field: &Field, wanted: Wanted) {
    match field.patch_merge_key.as_deref() {
        Some(merge_key) if old.iter().chain(new).all(Value::is_object) => {
            diff_items(patch, key, old, new, field, merge_key, wanted);
        }
        _ => diff_scalars(patch, key, old, new, wanted),
    }
}

fn diff_scalars(patch: &mut Object, key: &str, old: &[Value], new: &[Value], wanted: Wanted) {
    let only_in = |list: &[Value], other: &[Value]| -> Vec<Value> {
        list.iter().filter(|value| !other.contains(value)).cloned().collect()
    };
    let added = if wanted.changes { only_in(new, old) } else { Vec::new() };
    let deleted = if wanted.deletions { only_in(old, new) } else { Vec::new() };
    if added.is_empty() && deleted.is_empty() {
        return;
    }
    if !added.is_empty() {
        patch.insert(key.to_owned(), Value::Array(added));
    }
    if !deleted.is_empty() {
        patch.insert(format!("{DELETE_FROM}{key}"), Value::Array(deleted));
    }
    patch.insert(format!("{SET_ORDER}{key}"), Value::Array(new.to_vec()));
}

fn diff_items(
    patch: &mut Object,
    key: &str,
    old: &[Value],
    new: &[Value],
    field: &Field,
    merge_key: &str,
    wanted: Wanted,
) {
    let find = |list: &'_ [Value], item: &Value| -> Option<usize> {
        let text = key_text(item, Some(merge_key));
        list.iter().position(|other| key_text(other, Some(merge_key)) == text)
    };
    let shape = field.ty.element().map_or(Shape::Unknown, |element| Shape::of(&element.ty));
    let mut items = Vec::new();
    for item in new {
        match find(old, item) {
            Some(at) => {
                let mut below = match (&old[at], item) {
                    (Value::Object(old), Value::Object(new)) => diff_objects(old, new, shape, wanted, false),
                    _ => Map::new(),
                };
                if !below.is_empty() {
                    below.insert(merge_key.to_owned(), item[merge_key].clone());
                    items.push(Value::Object(below));
                }
            }
            None if wanted.changes => items.push(item.clone()),
            None => {}
        }
    }
    let mut items = arrange(items, Ordering { wanted: new, before: &[], merge_key: Some(merge_key) });
    if wanted.deletions {
        let gone = old.iter().filter(|item| find(new, item).is_none());
        items.extend(gone.map(|item| {
            let entries = [(DIRECTIVE, Value::from("delete")), (merge_key, item[merge_key].clone())];
            Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        }));
    }
    let reordered = wanted.changes && !same_order(old, new, merge_key);
    if items.is_empty() && !reordered {
        return;
    }
    if !items.is_empty() {
        patch.insert(key.to_owned(), Value::Array(items));
    }
    let order = new
        .iter()
        .map(|item| Value::Object(std::iter::once((merge_key.to_owned(), item[merge_key].clone())).collect()));
    patch.insert(format!("{SET_ORDER}{key}"), order.collect());
}

/// Whether the items that both lists have stand in the same order.
fn same_order(old: &[Value], new: &[Value], merge_key: &str) -> bool {
    let keys = |list: &[Value], other: &[Value]| -> Vec<String> {
        let there: Vec<String> = other.iter().map(|item| key_text(item, Some(merge_key)).into_owned()).collect();
        list.iter().map(|item| key_text(item, Some(merge_key)).into_owned()).filter(|key| there.contains(key)).collect()
    };
    keys(old, new) == keys(new, old)
}
