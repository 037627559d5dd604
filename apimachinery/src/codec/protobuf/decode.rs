//! From messages to values, led by the type.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::wire::{Reader, WireType};
use crate::codec::{DecodeError, typed};
use crate::quantity;
use crate::schema::{Field, FieldType, Layout, NodeKind, Type, UnionKind};
use crate::time::Moment;

/// Messages nested deeper than this are refused.
const MAX_DEPTH: usize = 127;

/// Decodes a bare message, without an envelope, into the normal form of the object.
///
/// # Errors
/// Bytes that are not such a message. Tags that the type does not have are skipped.
pub fn decode_message(ty: &Type, body: &[u8]) -> Result<Value, DecodeError> {
    read_message(ty, body, MAX_DEPTH).map(Value::Object)
}

fn read_message(ty: &Type, body: &[u8], depth: usize) -> Result<Map<String, Value>, DecodeError> {
    let mut map = Map::new();
    read_layout(ty, ty.layout(), body, &mut map, depth)?;
    crate::schema::fill_zeros_in(ty, &mut map);
    Ok(map)
}

fn read_layout(
    ty: &Type,
    layout: &Layout,
    body: &[u8],
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), DecodeError> {
    let depth = depth.checked_sub(1).ok_or(DecodeError::Protobuf("proto: message is nested too deep"))?;
    let mut reader = Reader::new(body);
    while let Some((tag, wire)) = reader.tag()? {
        match layout.at(tag) {
            None => reader.skip(wire)?,
            Some(NodeKind::Inlined(inner)) => {
                expect(wire, WireType::Bytes)?;
                read_layout(ty, inner, reader.bytes()?, map, depth)?;
            }
            Some(NodeKind::Field(index)) => {
                read_field(&ty.fields[usize::from(*index)], wire, &mut reader, map, depth)?;
            }
        }
    }
    Ok(())
}

fn expect(found: WireType, wanted: WireType) -> Result<(), DecodeError> {
    if found == wanted { Ok(()) } else { Err(DecodeError::Protobuf("proto: wrong wireType")) }
}

fn read_field(
    field: &Field,
    wire: WireType,
    reader: &mut Reader<'_>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), DecodeError> {
    match &field.ty {
        FieldType::List(item) => {
            let list = map.entry(field.name.as_str()).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = list else { return Ok(()) };
            if wire == WireType::Bytes && is_varint(&item.ty) {
                let mut packed = Reader::new(reader.bytes()?);
                while !packed.is_empty() {
                    items.push(read_value(&item.ty, WireType::Varint, &mut packed, depth)?);
                }
                return Ok(());
            }
            items.push(read_value(&item.ty, wire, reader, depth)?);
        }
        FieldType::Map(element) => {
            expect(wire, WireType::Bytes)?;
            let (key, value) = read_entry(&element.ty, reader.bytes()?, depth)?;
            let entries = map.entry(field.name.as_str()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(entries) = entries {
                entries.insert(key, value);
            }
        }
        ty => {
            let value = read_value(ty, wire, reader, depth)?;
            if is_kept(field, &value) {
                map.insert(field.name.clone(), value);
            }
        }
    }
    Ok(())
}

fn is_varint(ty: &FieldType) -> bool {
    matches!(ty, FieldType::Bool | FieldType::Int32 | FieldType::Int64)
}

/// Go writes the zero of what is not a pointer; it says nothing, and is not kept.
fn is_kept(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => false,
        _ if field.presence || !field.omit_empty => true,
        Value::String(text) => !text.is_empty() || matches!(field.ty, FieldType::IntOrString | FieldType::Raw),
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0) || matches!(field.ty, FieldType::IntOrString | FieldType::Raw),
        _ => true,
    }
}

fn read_entry(ty: &FieldType, body: &[u8], depth: usize) -> Result<(String, Value), DecodeError> {
    let mut reader = Reader::new(body);
    let (mut key, mut value) = (String::new(), None);
    while let Some((tag, wire)) = reader.tag()? {
        match (tag, wire) {
            (1, WireType::Bytes) => key = reader.text()?.to_owned(),
            (2, wire) => {
                value = Some(match ty {
                    FieldType::List(item) => read_wrapped_list(&item.ty, reader.bytes()?, depth)?,
                    ty => read_value(ty, wire, &mut reader, depth)?,
                });
            }
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok((key, value.unwrap_or_else(|| typed::zero(ty))))
}

fn read_wrapped_list(item: &FieldType, body: &[u8], depth: usize) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(body);
    let mut items = Vec::new();
    while let Some((tag, wire)) = reader.tag()? {
        match tag {
            1 => items.push(read_value(item, wire, &mut reader, depth)?),
            _ => reader.skip(wire)?,
        }
    }
    Ok(Value::Array(items))
}

fn read_value(ty: &FieldType, wire: WireType, reader: &mut Reader<'_>, depth: usize) -> Result<Value, DecodeError> {
    let wanted = match ty {
        FieldType::Bool | FieldType::Int32 | FieldType::Int64 => WireType::Varint,
        FieldType::Double => WireType::Fixed64,
        _ => WireType::Bytes,
    };
    expect(wire, wanted)?;
    Ok(match ty {
        FieldType::Bool => Value::Bool(reader.varint()? != 0),
        FieldType::Int32 => Value::from(reader.varint()? as i32),
        FieldType::Int64 => Value::from(reader.varint()?.cast_signed()),
        FieldType::Double => {
            typed::plain_number(f64::from_le_bytes(reader.fixed64()?)).map_or(Value::Null, Value::Number)
        }
        FieldType::String => Value::String(reader.text()?.to_owned()),
        FieldType::Bytes => Value::String(STANDARD.encode(reader.bytes()?)),
        FieldType::Message(inner) => Value::Object(read_message(inner, reader.bytes()?, depth)?),
        FieldType::Quantity => read_quantity(reader.bytes()?)?,
        FieldType::Time | FieldType::MicroTime => read_time(ty, reader.bytes()?)?,
        FieldType::IntOrString => read_int_or_string(reader.bytes()?)?,
        FieldType::Raw | FieldType::Json | FieldType::FieldsV1 | FieldType::Object | FieldType::Any => {
            read_json(reader.bytes()?)?
        }
        FieldType::Union(kind, props) => read_union(*kind, props, reader.bytes()?, depth)?,
        FieldType::Duration | FieldType::List(_) | FieldType::Map(_) => {
            return Err(DecodeError::Protobuf("proto: a field of this type is not part of any message"));
        }
    })
}

fn read_quantity(body: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(body);
    let mut text = "";
    while let Some((tag, wire)) = reader.tag()? {
        match (tag, wire) {
            (1, WireType::Bytes) => text = reader.text()?,
            (_, wire) => reader.skip(wire)?,
        }
    }
    if text.is_empty() {
        return Ok("0".into());
    }
    let canonical = quantity::canonical(text).map_err(|error| DecodeError::Type(error.to_string()))?;
    Ok(Value::String(canonical.unwrap_or_else(|| text.to_owned())))
}

fn read_time(ty: &FieldType, body: &[u8]) -> Result<Value, DecodeError> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let mut reader = Reader::new(body);
    let (mut seconds, mut nanos) = (0, 0);
    while let Some((tag, wire)) = reader.tag()? {
        match (tag, wire) {
            (1, WireType::Varint) => seconds = reader.varint()?.cast_signed(),
            (2, WireType::Varint) => nanos = reader.varint()? as u32,
            (_, wire) => reader.skip(wire)?,
        }
    }
    const YEAR_10000: i64 = 253_402_300_800;
    if !(Moment::ZERO.seconds..YEAR_10000).contains(&seconds) || nanos >= 1_000_000_000 {
        return Err(DecodeError::Protobuf("proto: time is out of range"));
    }
    let moment = Moment { seconds, nanos };
    Ok(match ty {
        _ if moment == Moment::ZERO => Value::Null,
        FieldType::MicroTime => moment.to_micros().into(),
        _ => moment.to_seconds().into(),
    })
}

fn read_int_or_string(body: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(body);
    let (mut is_text, mut int, mut text) = (false, 0, "");
    while let Some((tag, wire)) = reader.tag()? {
        match (tag, wire) {
            (1, WireType::Varint) => is_text = reader.varint()? == 1,
            (2, WireType::Varint) => int = reader.varint()? as i32,
            (3, WireType::Bytes) => text = reader.text()?,
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok(if is_text { text.into() } else { int.into() })
}

fn read_json(body: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(body);
    let mut raw: &[u8] = b"";
    while let Some((tag, wire)) = reader.tag()? {
        match (tag, wire) {
            (1, WireType::Bytes) => raw = reader.bytes()?,
            (_, wire) => reader.skip(wire)?,
        }
    }
    if raw.is_empty() { Ok(Value::Null) } else { crate::codec::json::decode(raw) }
}

fn read_union(kind: UnionKind, props: &Type, body: &[u8], depth: usize) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(body);
    let (mut allows, mut schema, mut items) = (false, None, Vec::new());
    while let Some((tag, wire)) = reader.tag()? {
        match (kind, tag, wire) {
            (UnionKind::SchemaOrBool, 1, WireType::Varint) => allows = reader.varint()? != 0,
            (UnionKind::SchemaOrBool, 2, WireType::Bytes) | (_, 1, WireType::Bytes) => {
                schema = Some(read_message(props, reader.bytes()?, depth)?);
            }
            (UnionKind::SchemaOrArray, 2, WireType::Bytes) => {
                items.push(Value::Object(read_message(props, reader.bytes()?, depth)?));
            }
            (UnionKind::SchemaOrStringArray, 2, WireType::Bytes) => items.push(reader.text()?.into()),
            (_, _, wire) => reader.skip(wire)?,
        }
    }
    Ok(match (schema, kind) {
        (Some(schema), _) => Value::Object(schema),
        (None, UnionKind::SchemaOrBool) => Value::Bool(allows),
        (None, _) => Value::Array(items),
    })
}
