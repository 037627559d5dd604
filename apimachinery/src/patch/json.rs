//! JSON patch (RFC 6902), with the limits of Kubernetes, and negative indices, which count from a list's end.

use serde_json::Value;

use super::PatchError;

/// As many operations a patch may have.
pub const MAX_OPERATIONS: usize = 10_000;
/// As many bytes all `copy` operations of a patch may add together.
pub const MAX_COPIED_BYTES: usize = 30 << 20;

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Add { path: Pointer, value: Value },
    Remove { path: Pointer },
    Replace { path: Pointer, value: Value },
    Move { from: Pointer, path: Pointer },
    Copy { from: Pointer, path: Pointer },
    Test { path: Pointer, value: Value },
}

/// A JSON pointer (RFC 6901), taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    parts: Vec<String>,
}

impl Pointer {
    fn parse(text: &str) -> Result<Self, PatchError> {
        let parts = match text.strip_prefix('/') {
            Some(rest) => rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect(),
            None if text.is_empty() => Vec::new(),
            None => return Err(PatchError::DoesNotApply(format!("the path {text:?} does not start with '/'"))),
        };
        Ok(Pointer { text: text.to_owned(), parts })
    }
}

/// Reads a patch from its JSON.
///
/// # Errors
/// What is not a list of operations, and too many of them.
pub fn parse(patch: &Value) -> Result<Vec<Operation>, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::Malformed("error decoding patch: a JSON patch is a list of operations".into()));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations { count: operations.len(), max: MAX_OPERATIONS });
    }
    operations.iter().map(parse_operation).collect()
}

fn parse_operation(operation: &Value) -> Result<Operation, PatchError> {
    let text = |key: &str| {
        operation
            .get(key)
            .and_then(Value::as_str)
            .ok_or_else(|| PatchError::Malformed(format!("error decoding patch: an operation has no {key:?}")))
    };
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    let path = Pointer::parse(text("path")?)?;
    Ok(match text("op")? {
        "add" => Operation::Add { path, value: value() },
        "remove" => Operation::Remove { path },
        "replace" => Operation::Replace { path, value: value() },
        "move" => Operation::Move { from: Pointer::parse(text("from")?)?, path },
        "copy" => Operation::Copy { from: Pointer::parse(text("from")?)?, path },
        "test" => Operation::Test { path, value: value() },
        other => return Err(PatchError::DoesNotApply(format!("unexpected kind of operation: {other}"))),
    })
}

/// Applies a patch; the object is unchanged where it fails.
///
/// # Errors
/// As [`parse`], and operations that do not fit the object.
pub fn apply(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let mut result = object.clone();
    let mut copied = 0;
    for operation in parse(patch)? {
        apply_one(&mut result, operation, &mut copied)?;
    }
    Ok(result)
}

fn apply_one(object: &mut Value, operation: Operation, copied: &mut usize) -> Result<(), PatchError> {
    match operation {
        Operation::Add { path, value } => add(object, "add", &path, value),
        Operation::Remove { path } => remove(object, "remove", &path).map(drop),
        Operation::Replace { path, value } => {
            *find_mut(object, &path).ok_or_else(|| missing("replace", &path))? = value;
            Ok(())
        }
        Operation::Move { from, path } => {
            if path.parts.len() > from.parts.len() && path.parts.starts_with(&from.parts) {
                return Err(PatchError::DoesNotApply(format!("cannot move {} into itself", from.text)));
            }
            let value = remove(object, "move", &from)?;
            add(object, "move", &path, value)
        }
        Operation::Copy { from, path } => {
            let value = find(object, &from).ok_or_else(|| missing("copy", &from))?.clone();
            *copied += size(&value);
            if *copied > MAX_COPIED_BYTES {
                return Err(PatchError::CopiesTooMuch(MAX_COPIED_BYTES));
            }
            add(object, "copy", &path, value)
        }
        Operation::Test { path, value } => {
            let found = find(object, &path);
            let equal = match found {
                Some(found) => equal(found, &value),
                None => value.is_null(),
            };
            if equal { Ok(()) } else { Err(PatchError::DoesNotApply(format!("testing value {} failed", path.text))) }
        }
    }
}

fn missing(operation: &str, path: &Pointer) -> PatchError {
    PatchError::DoesNotApply(format!("{operation} operation does not apply: doc is missing path: {}", path.text))
}

/// Numbers are equal by value, whether written with a fraction or not.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

/// About as many bytes as the value has in JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + size(value) + 4).sum::<usize>() + 2,
        _ => 8,
    }
}

/// The place in a list; negative counts from the end.
fn place(part: &str, length: usize) -> Option<usize> {
    if let Some(back) = part.strip_prefix('-') {
        return length.checked_sub(back.parse().ok().filter(|n| *n > 0)?);
    }
    if part.len() > 1 && part.starts_with('0') {
        return None;
    }
    part.parse().ok()
}

fn find<'v>(object: &'v Value, path: &Pointer) -> Option<&'v Value> {
    path.parts.iter().try_fold(object, |value, part| match value {
        Value::Object(map) => map.get(part),
        Value::Array(items) => items.get(place(part, items.len())?),
        _ => None,
    })
}

fn find_mut<'v>(object: &'v mut Value, path: &Pointer) -> Option<&'v mut Value> {
    walk(object, &path.parts)
}

fn walk<'v>(object: &'v mut Value, parts: &[String]) -> Option<&'v mut Value> {
    parts.iter().try_fold(object, |value, part| match value {
        Value::Object(map) => map.get_mut(part),
        Value::Array(items) => {
            let at = place(part, items.len())?;
            items.get_mut(at)
        }
        _ => None,
    })
}

fn add(object: &mut Value, operation: &str, path: &Pointer, value: Value) -> Result<(), PatchError> {
    let Some((last, parents)) = path.parts.split_last() else {
        *object = value;
        return Ok(());
    };
    let parent = walk(object, parents).ok_or_else(|| missing(operation, path))?;
    match parent {
        Value::Object(map) => {
            map.insert(last.clone(), value);
            Ok(())
        }
        Value::Array(items) if last == "-" => {
            items.push(value);
            Ok(())
        }
        Value::Array(items) => {
            // One place more than there are items: the end.
            let at = place(last, items.len() + usize::from(last.starts_with('-')));
            let at = at.filter(|at| *at <= items.len()).ok_or_else(|| {
                PatchError::DoesNotApply(format!(
                    "{operation} operation does not apply: doc is missing path: {}: invalid index referenced",
                    path.text
                ))
            })?;
            items.insert(at, value);
            Ok(())
        }
        _ => Err(missing(operation, path)),
    }
}

fn remove(object: &mut Value, operation: &str, path: &Pointer) -> Result<Value, PatchError> {
    let (last, parents) = path.parts.split_last().ok_or_else(|| missing(operation, path))?;
    let found = match walk(object, parents) {
        Some(Value::Object(map)) => map.remove(last),
        Some(Value::Array(items)) => place(last, items.len()).filter(|at| *at < items.len()).map(|at| items.remove(at)),
        _ => None,
    };
    found.ok_or_else(|| missing(operation, path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_change_the_object() {
        let object = json!({"a": {"b~/c": 1}, "l": [1, 2, 3]});
        for (patch, want) in [
            (json!([{"op": "add", "path": "/x", "value": null}]), json!({"a": {"b~/c": 1}, "l": [1, 2, 3], "x": null})),
            (json!([{"op": "add", "path": "/l/-", "value": 4}]), json!({"a": {"b~/c": 1}, "l": [1, 2, 3, 4]})),
            (json!([{"op": "add", "path": "/l/1", "value": 9}]), json!({"a": {"b~/c": 1}, "l": [1, 9, 2, 3]})),
            (json!([{"op": "remove", "path": "/l/-1"}]), json!({"a": {"b~/c": 1}, "l": [1, 2]})),
            (json!([{"op": "replace", "path": "/a/b~0~1c", "value": 2}]), json!({"a": {"b~/c": 2}, "l": [1, 2, 3]})),
            (json!([{"op": "move", "from": "/l/0", "path": "/l/2"}]), json!({"a": {"b~/c": 1}, "l": [2, 3, 1]})),
            (json!([{"op": "copy", "from": "/l/0", "path": "/y"}]), json!({"a": {"b~/c": 1}, "l": [1, 2, 3], "y": 1})),
            (
                json!([{"op": "test", "path": "/l", "value": [1, 2.0, 3]}, {"op": "test", "path": "/absent", "value": null}]),
                object.clone(),
            ),
        ] {
            assert_eq!(apply(&object, &patch).expect("applies"), want, "{patch}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_as_invalid() {
        let object = json!({"a": 1, "l": [1]});
        for patch in [
            json!([{"op": "remove", "path": "/x"}]),
            json!([{"op": "replace", "path": "/x", "value": 1}]),
            json!([{"op": "add", "path": "/x/y", "value": 1}]),
            json!([{"op": "add", "path": "/l/2", "value": 1}]),
            json!([{"op": "test", "path": "/a", "value": 2}]),
            json!([{"op": "move", "from": "/l", "path": "/l/0"}]),
            json!([{"op": "remove", "path": "/l/1"}]),
        ] {
            let error: crate::ApiError = apply(&object, &patch).expect_err("does not apply").into();
            assert_eq!(error.code(), 422, "{patch}");
        }
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        for patch in [json!({}), json!([1]), json!([{"op": "add"}])] {
            let error: crate::ApiError = parse(&patch).expect_err("no patch").into();
            assert_eq!(error.code(), 400, "{patch}");
        }
        let many = Value::Array(vec![json!({"op": "remove", "path": "/a"}); MAX_OPERATIONS + 1]);
        let error: crate::ApiError = parse(&many).expect_err("too many").into();
        assert_eq!(error.code(), 413);
    }
}
