//! The `scale` subresource of a custom resource: where its definition says that the numbers and the selector are.

use serde_json::{Map, Value};

use super::steps;

/// Where an object has what its scale says.
pub struct Paths {
    pub spec: Vec<String>,
    pub status: Vec<String>,
    /// The selector, as text.
    pub selector: Option<Vec<String>>,
}

impl Paths {
    /// The paths of a version's `subresources.scale`, if it has one.
    pub fn of(scale: &Value) -> Option<Self> {
        Some(Paths {
            spec: steps(scale["specReplicasPath"].as_str()?),
            status: steps(scale["statusReplicasPath"].as_str()?),
            selector: scale["labelSelectorPath"].as_str().filter(|path| !path.is_empty()).map(steps),
        })
    }
}

/// What is at a path.
pub fn at<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, step| value.get(step)).filter(|value| !value.is_null())
}

/// Sets what is at a path, and makes what is missing on the way.
pub fn set(object: &mut Value, path: &[String], value: Value) {
    let Some((step, rest)) = path.split_first() else {
        *object = value;
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    set(&mut object[step.as_str()], rest, value);
}
