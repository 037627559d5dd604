//! The review kinds: objects that are asked with, answered in their status, and never stored.
//!
//! Each is a function from the object posted to the object answered. Kubernetes documentation, "Checking API access".

pub mod access;
pub mod rules;
pub mod selectors;
pub mod subject;
pub mod token;

use serde_json::{Map, Value, json};

use crate::UserInfo;

/// A `UserInfo` as the API shows it.
pub fn user_to_value(user: &UserInfo) -> Value {
    let mut out = Map::new();
    let mut set = |key: &str, value: Value| out.insert(key.to_owned(), value);
    if !user.name.is_empty() {
        set("username", user.name.clone().into());
    }
    if !user.uid.is_empty() {
        set("uid", user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        set("groups", user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        set("extra", json!(user.extra));
    }
    Value::Object(out)
}

/// The object with its status set.
fn answered(object: &Value, status: Value) -> Value {
    let mut object = object.clone();
    object["status"] = status;
    object
}

#[cfg(test)]
mod tests;
