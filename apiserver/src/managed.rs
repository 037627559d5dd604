//! Who set which field: the `managedFields` of an object, kept by every write.
//!
//! Kubernetes documentation, "Server-Side Apply".

use apimachinery::field::{Error, Path};
use apimachinery::managed_fields::{self, Set};
use apimachinery::{ApiError, meta, time};
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
    /// `Invalid` when the name is too long or has characters that cannot be printed.
    pub fn of(call: &Call<'_>) -> Result<Self, ApiError> {
        let given = call.query.get("fieldManager");
        let path = Path::new("fieldManager");
        if given.len() > MAX_NAME {
            return Err(call.invalid_option(Error::too_long(&path, MAX_NAME)));
        }
        if given.chars().any(char::is_control) {
            let detail = "should not contain non-printable characters";
            return Err(call.invalid_option(Error::invalid(&path, given, detail)));
        }
        if !given.is_empty() {
            return Ok(Writer { manager: given.to_owned(), applies: false });
        }
        let agent = call.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
        let manager: String = agent.split('/').next().unwrap_or(agent).chars().take(MAX_NAME).collect();
        Ok(Writer { manager, applies: false })
    }
}

/// Notes what the writer changed between two stored states of an object; `live` is null where it is being created. An applied
/// object has its managers already.
pub fn track(call: &Call<'_>, live: &Value, mut value: Value, writer: &Writer) -> Value {
    if writer.applies {
        return value;
    }
    let reset = managed_fields::reset_fields(&call.served.resource, &call.info.subresource);
    let now = time::now_rfc3339();
    let fields = writer.fields(call, &now, &reset);
    let Some(conversion) = &call.served.conversion else {
        return managed_fields::update(call.served.versions(), live, value, &fields);
    };
    // Fields have the names of the version that is written.
    let live = if live.is_null() { Value::Null } else { conversion.to_served(live.clone()) };
    let served = conversion.to_served(value.clone());
    let tracked = managed_fields::update(call.served.versions(), &live, served, &fields);
    meta::set_managed_fields(&mut value, meta::managed_fields(&tracked).to_vec());
    value
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
        Ok(managed_fields::apply(call.served.versions(), live, applied, &fields, force)?)
    }
}
