//! From client-side to server-side apply: what kubectl applied itself, as its annotation says, it may apply through the server without
//! a conflict, and the annotation is kept up to date so that the way back is open.
//!
//! Only for the manager `kubectl`: who calls himself something else does not want this. "Server-Side Apply" in Kubernetes'
//! documentation, "Migration between client-side and server-side apply".

use serde_json::Value;

use super::set::Set;
use super::shape::Shape;
use super::walk;
use crate::meta;

pub(super) const MANAGER: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The most bytes that the annotations of an object may have.
const ANNOTATIONS_MAX: usize = 256 * 1024;

fn annotation(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][ANNOTATION].as_str().filter(|text| !text.is_empty())
}

/// The fields that were applied by the client and are as it left them.
pub(super) fn fields(shape: Shape<'_>, live: &Value, api_version: &str) -> Set {
    let applied: Option<Value> = annotation(live).and_then(|text| serde_json::from_str(text).ok());
    let Some(applied) = applied.filter(|applied| meta::api_version(applied) == api_version) else {
        return Set::default();
    };
    let comparison = walk::compare(shape, &applied, live);
    let mut fields = walk::fields_of(shape, &applied);
    for changed in [&comparison.modified, &comparison.added, &comparison.removed] {
        fields.subtract(changed);
    }
    fields
}

/// Notes the applied configuration in the object, if it has such a note already.
pub(super) fn renew(object: &mut Value, applied: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut applied = applied.clone();
    if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else { return };
    annotations.insert(ANNOTATION.to_owned(), as_go_writes(&applied).into());
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(size).sum::<usize>() > ANNOTATIONS_MAX {
        annotations.remove(ANNOTATION);
    }
}

/// JSON with a line's end, in which what HTML has a meaning for is escaped.
fn as_go_writes(value: &Value) -> String {
    let mut text = value.to_string();
    for (plain, escaped) in
        [("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u{2028}", "\\u2028"), ("\u{2029}", "\\u2029")]
    {
        if text.contains(plain) {
            text = text.replace(plain, escaped);
        }
    }
    text + "\n"
}
