//! Who set which field: the `managedFields` of an object, kept by every write.
//!
//! Kubernetes documentation, "Server-Side Apply".

use apimachinery::managed_fields::{self, Set};
use apimachinery::{ApiError, time};
use http::header::USER_AGENT;
use serde_json::Value;

use crate::endpoints::write::Call;

/// The longest name of a manager.
const MAX_NAME: usize = 128;

/// Who writes, as managed fields name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    pub manager: String,
    /// Whether this is a server-side apply.
    pub applies: bool,
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
            return Ok(Writer { manager: given.to_owned(), applies: false });
        }
        let agent = call.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
        let manager: String = agent.split('/').next().unwrap_or(agent).chars().take(MAX_NAME).collect();
        Ok(Writer { manager, applies: false })
    }
}

/// Notes what the writer changed between two states of an object; `live` is null where it is being created. An applied object
/// has its managers already.
pub fn track(call: &Call<'_>, live: &Value, value: Value, writer: &Writer) -> Value {
    if writer.applies {
        return value;
    }
    let reset = managed_fields::reset_fields(&call.served.resource, &call.info.subresource);
    let now = time::now_rfc3339();
    managed_fields::update(call.stored_type(), live, value, &writer.fields(call, &now, &reset))
}

impl Writer {
    fn fields<'a>(&'a self, call: &'a Call<'_>, now: &'a str, reset: &'a Set) -> managed_fields::Writer<'a> {
        managed_fields::Writer {
            manager: &self.manager,
            subresource: &call.info.subresource,
            api_version: &call.served.api_version,
            now,
            reset,
        }
    }

    /// Lays an applied configuration over the live object, which is null where there is none.
    ///
    /// # Errors
    /// `Conflict` with every owner of a field that others manage; `BadRequest` for configurations that cannot be merged.
    pub fn apply(&self, call: &Call<'_>, live: &Value, applied: &Value, force: bool) -> Result<Value, ApiError> {
        let reset = managed_fields::reset_fields(&call.served.resource, &call.info.subresource);
        let now = time::now_rfc3339();
        let fields = self.fields(call, &now, &reset);
        Ok(managed_fields::apply(&call.served.resource.ty, live, applied, &fields, force)?)
    }
}
