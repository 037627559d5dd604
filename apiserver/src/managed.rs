//! Who set which field: the `managedFields` of an object, kept by every write.
//!
//! Kubernetes documentation, "Server-Side Apply".

use apimachinery::{ApiError, meta};
use http::header::USER_AGENT;
use serde_json::Value;

use crate::endpoints::write::Call;

/// The longest name of a manager.
const MAX_NAME: usize = 128;

/// Who writes, as managed fields name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    pub manager: String,
}

impl Writer {
    /// The `fieldManager` of a request; without one the first part of its user agent.
    ///
    /// # Errors
    /// `BadRequest` when the name is too long or has characters that cannot be printed.
    pub fn of(call: &Call<'_>) -> Result<Self, ApiError> {
        let given = call.query.get("fieldManager");
        if given.len() > MAX_NAME {
            return Err(ApiError::bad_request(format!(
                "fieldManager: Too long: may not be more than {MAX_NAME} bytes"
            )));
        }
        if given.chars().any(char::is_control) {
            return Err(ApiError::bad_request(format!(
                "fieldManager: Invalid value: {given:?}: should not contain non-printable characters"
            )));
        }
        if !given.is_empty() {
            return Ok(Writer { manager: given.to_owned() });
        }
        let agent = call.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
        let manager: String = agent.split('/').next().unwrap_or(agent).chars().take(MAX_NAME).collect();
        Ok(Writer { manager })
    }
}

/// A new object starts with what its client says of managers taken away.
pub fn track_create(_call: &Call<'_>, value: &mut Value, _writer: &Writer) {
    meta::metadata_mut(value).remove("managedFields");
}

/// An update keeps the managers that are there.
pub fn track_update(_call: &Call<'_>, value: &mut Value, old: &Value, _writer: &Writer) {
    meta::set_managed_fields(value, meta::managed_fields(old).to_vec());
}
