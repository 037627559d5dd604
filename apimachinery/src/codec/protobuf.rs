//! Protobuf as Kubernetes writes it: the bytes `k8s\0`, then a `runtime.Unknown` that names the kind and holds the
//! message. Fields stand in the order of their tags, maps in the order of their keys, and what is not a pointer in
//! Go is written even where it is zero, so that the same object always gives the same bytes.

mod decode;
mod encode;
mod wire;

use serde_json::Value;

pub use decode::decode_message;
pub use encode::encode_message;

use super::{DecodeError, EncodeError};
use crate::schema::{Schema, Type};
use wire::WireType;
pub(crate) use wire::{BackWriter, Reader};

/// What an enveloped message begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// The names of the kind, and the message's bytes, of an envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub raw: &'a [u8],
}

/// Opens an envelope without decoding what is in it.
///
/// # Errors
/// Bytes that are not an envelope.
pub fn open(body: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let Some(body) = body.strip_prefix(&MAGIC) else {
        return Err(DecodeError::Protobuf(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
        ));
    };
    if body.is_empty() {
        return Err(DecodeError::Protobuf("empty body"));
    }
    let mut envelope = Envelope::default();
    let mut reader = Reader::new(body);
    while let Some((tag, wire)) = reader.tag()? {
        match (tag, wire) {
            (1, WireType::Bytes) => open_type_meta(reader.bytes()?, &mut envelope)?,
            (2, WireType::Bytes) => envelope.raw = reader.bytes()?,
            _ => reader.skip(wire)?,
        }
    }
    Ok(envelope)
}

fn open_type_meta<'a>(body: &'a [u8], envelope: &mut Envelope<'a>) -> Result<(), DecodeError> {
    let mut reader = Reader::new(body);
    while let Some((tag, wire)) = reader.tag()? {
        match (tag, wire) {
            (1, WireType::Bytes) => envelope.api_version = reader.text()?,
            (2, WireType::Bytes) => envelope.kind = reader.text()?,
            _ => reader.skip(wire)?,
        }
    }
    Ok(())
}

/// Puts a message into an envelope.
pub fn envelop(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = BackWriter::with_capacity(raw.len() + api_version.len() + kind.len() + 32);
    out.bytes_field(4, b"");
    out.bytes_field(3, b"");
    out.bytes_field(2, raw);
    let end = out.len();
    out.bytes_field(2, kind.as_bytes());
    out.bytes_field(1, api_version.as_bytes());
    out.close_message(1, end);
    out.raw(&MAGIC);
    out.into_vec()
}

/// Decodes an enveloped object of any kind of the schema.
///
/// # Errors
/// Bytes that are not an envelope or not the message it names, and kinds that the schema does not have.
pub fn decode(schema: &Schema, body: &[u8]) -> Result<Value, DecodeError> {
    let envelope = open(body)?;
    let ty = schema.type_for_kind(envelope.api_version, envelope.kind).ok_or_else(|| DecodeError::UnknownKind {
        api_version: envelope.api_version.to_owned(),
        kind: envelope.kind.to_owned(),
    })?;
    decode_envelope(ty, &envelope)
}

/// Decodes a body that should be of that type. Another kind's message is not decoded, only named.
pub(super) fn decode_for(ty: &Type, body: &[u8]) -> Result<Value, DecodeError> {
    let envelope = open(body)?;
    let fits = envelope.kind.is_empty() || ty.gvk.is_empty() || ty.gvk.iter().any(|gvk| gvk.kind == envelope.kind);
    if fits {
        return decode_envelope(ty, &envelope);
    }
    let mut value = Value::Object(serde_json::Map::new());
    name_kind(&mut value, &envelope);
    Ok(value)
}

fn decode_envelope(ty: &Type, envelope: &Envelope<'_>) -> Result<Value, DecodeError> {
    let mut value = decode_message(ty, envelope.raw)?;
    name_kind(&mut value, envelope);
    Ok(value)
}

fn name_kind(value: &mut Value, envelope: &Envelope<'_>) {
    let Value::Object(map) = value else { return };
    for (key, text) in [("apiVersion", envelope.api_version), ("kind", envelope.kind)] {
        if !text.is_empty() {
            map.insert(key.to_owned(), text.into());
        }
    }
}

/// Encodes an object with its envelope; the object says its kind.
///
/// # Errors
/// Kinds that the schema does not have, and values that do not fit their fields.
pub fn encode(schema: &Schema, value: &Value) -> Result<Vec<u8>, EncodeError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let ty = schema
        .type_for_kind(api_version, kind)
        .ok_or_else(|| EncodeError::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() })?;
    Ok(envelop(api_version, kind, &encode_message(ty, value)?))
}
