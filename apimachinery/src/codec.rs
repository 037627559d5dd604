//! From bytes to objects and back: JSON, YAML and protobuf, all led by the schema.
//!
//! [`decode_object`] is what a request's body goes through: decoding, type checks, unknown and duplicate fields as
//! `fieldValidation` asks, and the normal form that Kubernetes gives an object by reading it into Go and writing it.

pub mod json;
pub mod protobuf;
mod typed;
pub mod yaml;

use serde_json::{Map, Value};

use crate::schema::{Schema, Type};
use crate::status::ApiError;

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    Json,
    Yaml,
    Protobuf,
}

/// What happens to unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

impl FieldValidation {
    /// The value of the `fieldValidation` parameter; empty is the default.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "Ignore" => Some(FieldValidation::Ignore),
            "" | "Warn" => Some(FieldValidation::Warn),
            "Strict" => Some(FieldValidation::Strict),
            _ => None,
        }
    }
}

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or too deep.
    #[error("{0}")]
    Json(String),
    /// Not YAML.
    #[error("error converting YAML to JSON: {0}")]
    Yaml(String),
    /// Not the expected protobuf.
    #[error("{0}")]
    Protobuf(&'static str),
    /// A message of a kind that the schema does not have.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
    /// A value that does not fit its field.
    #[error("{0}")]
    Type(String),
}

/// An object that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
    #[error("{field}: expected {expected}")]
    Type { field: String, expected: &'static str },
    #[error("objects of type {0} are not written as protobuf")]
    NoMessage(String),
}

/// A decoded body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// What `fieldValidation=Warn` tells the client.
    pub warnings: Vec<String>,
}

/// Decodes a request's body as an object of that type.
///
/// The object comes back in normal form: nulls and empty optional fields dropped, the zero values that Kubernetes
/// always writes filled in (`resources: {}`), quantities and times in canonical form, `apiVersion` and `kind` set.
///
/// # Errors
/// `BadRequest` with the message of Kubernetes: for bytes that cannot be read, values of the wrong type, another kind
/// than the type's, and, where validation is strict, unknown and duplicate fields.
pub fn decode_object(
    _schema: &Schema,
    ty: &Type,
    media: MediaType,
    body: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    let tracked = validation != FieldValidation::Ignore;
    let outcome = match media {
        MediaType::Json => typed::decode_json(ty, body, tracked),
        MediaType::Yaml => typed::decode_yaml(ty, body, tracked),
        MediaType::Protobuf => protobuf::decode_for(ty, body).map(typed::Outcome::clean),
    };
    let outcome = outcome.map_err(|error| unrecognized(ty, &error, body))?;
    finish(ty, outcome, validation)
}

/// Checks an object that is decoded already, and brings it to normal form: the result of a patch, say.
///
/// # Errors
/// As [`decode_object`].
pub fn conform(ty: &Type, value: Value, validation: FieldValidation) -> Result<Decoded, ApiError> {
    let outcome = typed::decode_value(ty, value, validation != FieldValidation::Ignore);
    finish(ty, outcome, validation)
}

fn finish(ty: &Type, outcome: typed::Outcome, validation: FieldValidation) -> Result<Decoded, ApiError> {
    let typed::Outcome { value, error, strict } = outcome;
    let mut map = match value {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    check_kind(ty, &map)?;
    if let Some(error) = error {
        return Err(cannot_be_handled(ty, &map, &error));
    }
    if validation == FieldValidation::Strict && !strict.is_empty() {
        let text = format!("strict decoding error: {}", strict.join(", "));
        return Err(cannot_be_handled(ty, &map, &text));
    }
    if let Some(gvk) = ty.gvk.first() {
        if text(&map, "apiVersion").is_empty() {
            map.insert("apiVersion".into(), gvk.api_version().into());
        }
        if text(&map, "kind").is_empty() {
            map.insert("kind".into(), gvk.kind.as_str().into());
        }
    }
    Ok(Decoded { value: Value::Object(map), warnings: strict })
}

fn text<'v>(map: &'v Map<String, Value>, key: &str) -> &'v str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn version_of(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or(api_version)
}

/// The object's own kind must be one of the type's; one that is missing is taken from the type.
fn check_kind(ty: &Type, map: &Map<String, Value>) -> Result<(), ApiError> {
    let Some(first) = ty.gvk.first() else { return Ok(()) };
    let (api_version, kind) = (text(map, "apiVersion"), text(map, "kind"));
    let kind_fits = kind.is_empty() || ty.gvk.iter().any(|gvk| gvk.kind == kind);
    let version_fits =
        api_version.is_empty() || ty.is_meta() || ty.gvk.iter().any(|gvk| gvk.api_version() == api_version);
    if kind_fits && version_fits {
        return Ok(());
    }
    let known = Schema::builtin().type_for_kind(api_version, kind);
    if let Some(known) = known.filter(|_| !kind_fits) {
        let message = format!(
            "{kind} in version {:?} cannot be handled as a {}: converting ({}) to ({}): unknown conversion",
            version_of(api_version),
            first.kind,
            known.go_name(),
            ty.go_name()
        );
        return Err(ApiError::bad_request(message));
    }
    if kind_fits && (known.is_some() || kind.is_empty()) {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            first.api_version()
        )));
    }
    let message = format!("no kind {kind:?} is registered for version {api_version:?}");
    Err(cannot_be_handled(ty, map, &message))
}

fn cannot_be_handled(ty: &Type, map: &Map<String, Value>, error: &str) -> ApiError {
    let Some(expected) = ty.gvk.first() else { return ApiError::bad_request(error) };
    let kind = Some(text(map, "kind")).filter(|kind| !kind.is_empty()).unwrap_or(&expected.kind);
    let version = Some(version_of(text(map, "apiVersion"))).filter(|v| !v.is_empty()).unwrap_or(&expected.version);
    ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {}: {error}", expected.kind))
}

fn unrecognized(ty: &Type, error: &DecodeError, body: &[u8]) -> ApiError {
    let expected = ty.gvk.first().map_or(ty.short_name(), |gvk| gvk.kind.as_str());
    let error = match error {
        DecodeError::Json(text) => format!("couldn't get version/kind; json parse error: {text}"),
        other => other.to_string(),
    };
    let summary = summarize(body);
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {expected}): {error} ({summary})"
    ))
}

/// The beginning of a body, for a message: JSON as it is, anything else in hexadecimal.
fn summarize(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let (shown, more) = if body.len() > SHOWN { (&body[..SHOWN], " ...") } else { (body, "") };
    match body.first() {
        None => "<empty>".into(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => shown.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + more,
    }
}

#[cfg(test)]
mod tests;
