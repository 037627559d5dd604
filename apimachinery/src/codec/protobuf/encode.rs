//! From values to messages, led by the type.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::wire::BackWriter;
use crate::codec::EncodeError;
use crate::schema::{Field, FieldType, Layout, NodeKind, Type, UnionKind};
use crate::time::Moment;

/// Encodes an object as its bare message, without the envelope.
///
/// # Errors
/// Types without a message (custom resources), and values that do not fit their fields.
pub fn encode_message(ty: &Type, value: &Value) -> Result<Vec<u8>, EncodeError> {
    if ty.proto.is_none() {
        return Err(EncodeError::NoMessage(ty.name.clone()));
    }
    let mut out = BackWriter::with_capacity(2048);
    write_message(&mut out, ty, value)?;
    Ok(out.into_vec())
}

fn wrong(field: &Field, expected: &'static str) -> EncodeError {
    EncodeError::Type { field: field.name.clone(), expected }
}

/// As many fields as any type has.
const MAX_FIELDS: usize = 64;

fn write_message(out: &mut BackWriter, ty: &Type, value: &Value) -> Result<(), EncodeError> {
    let Value::Object(map) = value else {
        return Err(EncodeError::Type { field: ty.name.clone(), expected: "object" });
    };
    write_fields(out, ty, map)
}

fn write_fields(out: &mut BackWriter, ty: &Type, map: &Map<String, Value>) -> Result<(), EncodeError> {
    let mut slots: [Option<&Value>; MAX_FIELDS] = [None; MAX_FIELDS];
    for (key, value) in map {
        if let Some(index) = ty.field_index(key)
            && !value.is_null()
        {
            slots[index] = Some(value);
        }
    }
    write_layout(out, ty, ty.layout(), &slots)
}

fn write_layout(
    out: &mut BackWriter,
    ty: &Type,
    layout: &Layout,
    slots: &[Option<&Value>; MAX_FIELDS],
) -> Result<(), EncodeError> {
    for node in layout.nodes.iter().rev() {
        match &node.what {
            NodeKind::Inlined(inner) => {
                let end = out.len();
                write_layout(out, ty, inner, slots)?;
                out.close_message(node.tag, end);
            }
            NodeKind::Field(index) => {
                let index = usize::from(*index);
                let field = &ty.fields[index];
                match slots[index] {
                    Some(value) => write_field(out, field, node.tag, value)?,
                    None if !field.presence => write_zero(out, field, node.tag)?,
                    None => {}
                }
            }
        }
    }
    Ok(())
}

/// What Go writes for a field that is not a pointer and was never set.
fn write_zero(out: &mut BackWriter, field: &Field, tag: u32) -> Result<(), EncodeError> {
    match &field.ty {
        FieldType::Bool | FieldType::Int32 | FieldType::Int64 => out.varint_field(tag, 0),
        FieldType::Double => out.double_field(tag, 0.0),
        FieldType::String => out.bytes_field(tag, b""),
        FieldType::Time | FieldType::MicroTime | FieldType::Raw | FieldType::Json | FieldType::FieldsV1 => {
            out.bytes_field(tag, b"");
        }
        FieldType::Quantity => out.bytes_field(tag, &[0x0a, 1, b'0']),
        FieldType::IntOrString => write_int_or_string(out, tag, 0, 0, ""),
        FieldType::Duration => {
            let end = out.len();
            out.varint_field(1, 0);
            out.close_message(tag, end);
        }
        FieldType::Message(ty) => {
            let end = out.len();
            write_fields(out, ty, &Map::new())?;
            out.close_message(tag, end);
        }
        FieldType::Bytes
        | FieldType::Union(..)
        | FieldType::Object
        | FieldType::Any
        | FieldType::List(_)
        | FieldType::Map(_) => {}
    }
    Ok(())
}

fn write_field(out: &mut BackWriter, field: &Field, tag: u32, value: &Value) -> Result<(), EncodeError> {
    match (&field.ty, value) {
        (FieldType::List(item), Value::Array(items)) => {
            items.iter().rev().try_for_each(|value| write_value(out, field, &item.ty, tag, value))
        }
        (FieldType::List(_), _) => Err(wrong(field, "array")),
        (FieldType::Map(element), Value::Object(map)) => write_map(out, field, element, tag, map),
        (FieldType::Map(_), _) => Err(wrong(field, "object")),
        _ => write_value(out, field, &field.ty, tag, value),
    }
}

/// Entries are messages of a key and a value, both always written.
fn write_map(
    out: &mut BackWriter,
    field: &Field,
    element: &Field,
    tag: u32,
    map: &Map<String, Value>,
) -> Result<(), EncodeError> {
    for (key, value) in map.iter().rev() {
        let end = out.len();
        match (&element.ty, value) {
            // A list as a map's value is a message of one repeated field.
            (FieldType::List(item), Value::Array(items)) => {
                let end = out.len();
                items.iter().rev().try_for_each(|value| write_value(out, field, &item.ty, 1, value))?;
                out.close_message(2, end);
            }
            (ty, value) => write_value(out, field, ty, 2, value)?,
        }
        out.bytes_field(1, key.as_bytes());
        out.close_message(tag, end);
    }
    Ok(())
}

fn write_value(
    out: &mut BackWriter,
    field: &Field,
    ty: &FieldType,
    tag: u32,
    value: &Value,
) -> Result<(), EncodeError> {
    match ty {
        FieldType::Message(inner) => {
            let end = out.len();
            write_message(out, inner, value)?;
            out.close_message(tag, end);
        }
        FieldType::String => out.bytes_field(tag, value.as_str().ok_or_else(|| wrong(field, "string"))?.as_bytes()),
        FieldType::Bool => out.varint_field(tag, u64::from(value.as_bool().ok_or_else(|| wrong(field, "bool"))?)),
        FieldType::Int32 | FieldType::Int64 => {
            out.varint_field(tag, value.as_i64().ok_or_else(|| wrong(field, "integer"))?.cast_unsigned());
        }
        FieldType::Double => out.double_field(tag, value.as_f64().ok_or_else(|| wrong(field, "number"))?),
        FieldType::Bytes => {
            let text = value.as_str().ok_or_else(|| wrong(field, "string"))?;
            out.bytes_field(tag, &STANDARD.decode(text).map_err(|_| wrong(field, "base64"))?);
        }
        FieldType::Quantity => {
            let end = out.len();
            match value {
                Value::String(text) => out.bytes_field(1, text.as_bytes()),
                Value::Number(number) => out.bytes_field(1, number.to_string().as_bytes()),
                _ => return Err(wrong(field, "quantity")),
            }
            out.close_message(tag, end);
        }
        FieldType::Time | FieldType::MicroTime => write_time(out, field, ty, tag, value)?,
        FieldType::IntOrString => match value {
            Value::Number(number) => {
                let number = number.as_i64().ok_or_else(|| wrong(field, "int or string"))?;
                write_int_or_string(out, tag, 0, number, "");
            }
            Value::String(text) => write_int_or_string(out, tag, 1, 0, text),
            _ => return Err(wrong(field, "int or string")),
        },
        FieldType::Raw | FieldType::Json | FieldType::FieldsV1 | FieldType::Object | FieldType::Any => {
            let end = out.len();
            out.bytes_field(1, &crate::codec::json::encode(value));
            out.close_message(tag, end);
        }
        FieldType::Union(kind, props) => write_union(out, field, *kind, props, tag, value)?,
        FieldType::Duration => return Err(wrong(field, "duration")),
        FieldType::List(_) | FieldType::Map(_) => return Err(wrong(field, "a list or map of its own")),
    }
    Ok(())
}

fn write_time(out: &mut BackWriter, field: &Field, ty: &FieldType, tag: u32, value: &Value) -> Result<(), EncodeError> {
    let end = out.len();
    // A time that is null, as an entry of a map may be, is an empty message.
    if !value.is_null() {
        let moment = value.as_str().and_then(Moment::parse).ok_or_else(|| wrong(field, "time"))?;
        let nanos = if matches!(ty, FieldType::MicroTime) { moment.nanos / 1000 * 1000 } else { 0 };
        out.varint_field(2, nanos.into());
        out.varint_field(1, moment.seconds.cast_unsigned());
    }
    out.close_message(tag, end);
    Ok(())
}

fn write_int_or_string(out: &mut BackWriter, tag: u32, kind: u64, int: i64, text: &str) {
    let end = out.len();
    out.bytes_field(3, text.as_bytes());
    out.varint_field(2, int.cast_unsigned());
    out.varint_field(1, kind);
    out.close_message(tag, end);
}

fn write_union(
    out: &mut BackWriter,
    field: &Field,
    kind: UnionKind,
    props: &Type,
    tag: u32,
    value: &Value,
) -> Result<(), EncodeError> {
    let end = out.len();
    match (kind, value) {
        (UnionKind::SchemaOrBool, Value::Bool(allows)) => out.varint_field(1, u64::from(*allows)),
        (UnionKind::SchemaOrBool, Value::Object(map)) => {
            write_nested(out, props, 2, map)?;
            out.varint_field(1, 1);
        }
        (_, Value::Object(map)) => write_nested(out, props, 1, map)?,
        (UnionKind::SchemaOrArray, Value::Array(items)) => {
            for item in items.iter().rev() {
                write_nested(out, props, 2, item.as_object().ok_or_else(|| wrong(field, "object"))?)?;
            }
        }
        (UnionKind::SchemaOrStringArray, Value::Array(items)) => {
            for item in items.iter().rev() {
                out.bytes_field(2, item.as_str().ok_or_else(|| wrong(field, "string"))?.as_bytes());
            }
        }
        _ => return Err(wrong(field, "schema")),
    }
    out.close_message(tag, end);
    Ok(())
}

fn write_nested(out: &mut BackWriter, ty: &Type, tag: u32, map: &Map<String, Value>) -> Result<(), EncodeError> {
    let end = out.len();
    write_fields(out, ty, map)?;
    out.close_message(tag, end);
    Ok(())
}
