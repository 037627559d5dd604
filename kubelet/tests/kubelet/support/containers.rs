//! Containers as tests write them, and as the API shows them.

use serde_json::{Value, json};

use super::api::BUSYBOX;

/// Ends at once on SIGTERM.
pub const SLEEP: &str = "trap 'exit 0' TERM; sleep 1000000 & wait";

/// A container with more fields.
pub fn with(mut container: Value, more: Value) -> Value {
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    container
}

/// A container that runs a script.
pub fn sh(script: &str, more: Value) -> Value {
    with(json!({"name": "c", "image": BUSYBOX, "command": ["sh", "-c", script]}), more)
}

/// The status of a pod's first container.
pub fn status(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}
