//! Documents of version 2 as protobuf, which clients of Kubernetes up to 1.26 read: the messages of `openapi.v2` in gnostic's
//! `OpenAPIv2.proto`, as far as our documents have them.

use serde_json::{Map, Value};

use crate::codec::protobuf::BackWriter;

/// How a value is written.
enum Shape {
    Text,
    Flag,
    Integer,
    Number,
    /// Any value: a message that has it as YAML.
    Any,
    Message(&'static Message),
    /// A list: each item is a field of its own.
    Each(&'static Shape),
    /// A message that has the value as its only field.
    Within(u32, &'static Shape),
    /// One of several: the one at the index that the value says.
    OneOf(&'static [Shape], fn(&Value) -> usize),
}

/// The fields of a message, and what becomes of the members of an object that have another name.
struct Message {
    /// Name in the document, tag, shape.
    fields: &'static [(&'static str, u32, Shape)],
    /// The tag of extensions, whose names begin with `x-`.
    extensions: Option<u32>,
    /// The tag and the values' shape of entries that the document names.
    entries: Option<(u32, Shape)>,
}

impl Message {
    const fn of(fields: &'static [(&'static str, u32, Shape)], extensions: u32) -> Self {
        Message { fields, extensions: Some(extensions), entries: None }
    }

    const fn map(tag: u32, shape: Shape) -> Self {
        Message { fields: &[], extensions: None, entries: Some((tag, shape)) }
    }

    /// The tag and shape of a member, and whether it is written with its name.
    fn member(&self, name: &str) -> Option<(u32, &Shape, bool)> {
        if let Some((_, tag, shape)) = self.fields.iter().find(|(field, ..)| *field == name) {
            return Some((*tag, shape, false));
        }
        if let Some(tag) = self.extensions.filter(|_| name.starts_with("x-")) {
            return Some((tag, &Shape::Any, true));
        }
        self.entries.as_ref().map(|(tag, shape)| (*tag, shape, true))
    }
}

static DOCUMENT: Message = Message::of(
    &[
        ("swagger", 1, Shape::Text),
        ("info", 2, Shape::Message(&INFO)),
        ("paths", 8, Shape::Message(&PATHS)),
        ("definitions", 9, Shape::Message(&SCHEMAS)),
        ("security", 12, Shape::Each(&Shape::Message(&REQUIREMENT))),
        ("securityDefinitions", 13, Shape::Message(&SECURITY)),
    ],
    16,
);
static INFO: Message = Message::of(&[("title", 1, Shape::Text), ("version", 2, Shape::Text)], 7);
static REQUIREMENT: Message = Message::map(1, Shape::Within(1, &Shape::Each(&Shape::Text)));
/// Each is one of the forms of security; ours is by a key.
static SECURITY: Message = Message::map(1, Shape::Within(2, &Shape::Message(&API_KEY)));
static API_KEY: Message = Message::of(
    &[("type", 1, Shape::Text), ("name", 2, Shape::Text), ("in", 3, Shape::Text), ("description", 4, Shape::Text)],
    5,
);
static PATHS: Message = Message { fields: &[], extensions: Some(1), entries: Some((2, Shape::Message(&PATH))) };
static PATH: Message = Message::of(
    &[
        ("get", 2, Shape::Message(&OPERATION)),
        ("put", 3, Shape::Message(&OPERATION)),
        ("post", 4, Shape::Message(&OPERATION)),
        ("delete", 5, Shape::Message(&OPERATION)),
        ("options", 6, Shape::Message(&OPERATION)),
        ("head", 7, Shape::Message(&OPERATION)),
        ("patch", 8, Shape::Message(&OPERATION)),
        ("parameters", 9, PARAMETERS),
    ],
    10,
);
static OPERATION: Message = Message::of(
    &[
        ("tags", 1, Shape::Each(&Shape::Text)),
        ("summary", 2, Shape::Text),
        ("description", 3, Shape::Text),
        ("operationId", 5, Shape::Text),
        ("produces", 6, Shape::Each(&Shape::Text)),
        ("consumes", 7, Shape::Each(&Shape::Text)),
        ("parameters", 8, PARAMETERS),
        ("responses", 9, Shape::Message(&RESPONSES)),
        ("schemes", 10, Shape::Each(&Shape::Text)),
        ("deprecated", 11, Shape::Flag),
    ],
    13,
);
const PARAMETERS: Shape = Shape::Each(&Shape::Within(1, &Shape::OneOf(&PARAMETER, place)));
static PARAMETER: [Shape; 3] = [
    Shape::Within(1, &Shape::Message(&BODY)),
    Shape::Within(2, &Shape::Within(3, &Shape::Message(&QUERY))),
    Shape::Within(2, &Shape::Within(4, &Shape::Message(&IN_PATH))),
];
static BODY: Message = Message::of(
    &[
        ("description", 1, Shape::Text),
        ("name", 2, Shape::Text),
        ("in", 3, Shape::Text),
        ("required", 4, Shape::Flag),
        ("schema", 5, Shape::Message(&SCHEMA)),
    ],
    6,
);
static QUERY: Message = Message::of(
    &[
        ("required", 1, Shape::Flag),
        ("in", 2, Shape::Text),
        ("description", 3, Shape::Text),
        ("name", 4, Shape::Text),
        ("type", 6, Shape::Text),
        ("format", 7, Shape::Text),
        ("uniqueItems", 20, Shape::Flag),
    ],
    23,
);
static IN_PATH: Message = Message::of(
    &[
        ("required", 1, Shape::Flag),
        ("in", 2, Shape::Text),
        ("description", 3, Shape::Text),
        ("name", 4, Shape::Text),
        ("type", 5, Shape::Text),
        ("format", 6, Shape::Text),
        ("uniqueItems", 19, Shape::Flag),
    ],
    22,
);
/// By their codes; each is a response and not a reference to one.
static RESPONSES: Message =
    Message { fields: &[], extensions: Some(2), entries: Some((1, Shape::Within(1, &Shape::Message(&RESPONSE)))) };
static RESPONSE: Message =
    Message::of(&[("description", 1, Shape::Text), ("schema", 2, Shape::Within(1, &Shape::Message(&SCHEMA)))], 5);
/// Schemas by their names: definitions, and properties.
static SCHEMAS: Message = Message::map(1, Shape::Message(&SCHEMA));
static SCHEMA: Message = Message::of(
    &[
        ("$ref", 1, Shape::Text),
        ("format", 2, Shape::Text),
        ("title", 3, Shape::Text),
        ("description", 4, Shape::Text),
        ("default", 5, Shape::Any),
        ("multipleOf", 6, Shape::Number),
        ("maximum", 7, Shape::Number),
        ("exclusiveMaximum", 8, Shape::Flag),
        ("minimum", 9, Shape::Number),
        ("exclusiveMinimum", 10, Shape::Flag),
        ("maxLength", 11, Shape::Integer),
        ("minLength", 12, Shape::Integer),
        ("pattern", 13, Shape::Text),
        ("maxItems", 14, Shape::Integer),
        ("minItems", 15, Shape::Integer),
        ("uniqueItems", 16, Shape::Flag),
        ("maxProperties", 17, Shape::Integer),
        ("minProperties", 18, Shape::Integer),
        ("required", 19, Shape::Each(&Shape::Text)),
        ("enum", 20, Shape::Each(&Shape::Any)),
        ("additionalProperties", 21, Shape::OneOf(&ADDITIONAL, |value| usize::from(value.is_boolean()))),
        ("type", 22, Shape::Within(1, &Shape::Text)),
        ("items", 23, Shape::Within(1, &Shape::Message(&SCHEMA))),
        ("allOf", 24, Shape::Each(&Shape::Message(&SCHEMA))),
        ("properties", 25, Shape::Message(&SCHEMAS)),
        ("discriminator", 26, Shape::Text),
        ("readOnly", 27, Shape::Flag),
        ("externalDocs", 29, Shape::Message(&EXTERNAL_DOCS)),
        ("example", 30, Shape::Any),
    ],
    31,
);
static ADDITIONAL: [Shape; 2] = [Shape::Within(1, &Shape::Message(&SCHEMA)), Shape::Within(2, &Shape::Flag)];
static EXTERNAL_DOCS: Message = Message::of(&[("description", 1, Shape::Text), ("url", 2, Shape::Text)], 3);

/// Which kind of parameter it is.
fn place(parameter: &Value) -> usize {
    match parameter["in"].as_str() {
        Some("body") => 0,
        Some("path") => 2,
        _ => 1,
    }
}

/// A document of version 2 as an `openapi.v2.Document`. What that message has no place for is left out, as elsewhere.
pub fn encode_v2(document: &Value) -> Vec<u8> {
    let mut out = BackWriter::with_capacity(1 << 20);
    if let Value::Object(members) = document {
        write_members(&mut out, &DOCUMENT, members);
    }
    out.into_vec()
}

fn write_members(out: &mut BackWriter, message: &Message, members: &Map<String, Value>) {
    for (name, value) in members.iter().rev() {
        let Some((tag, shape, named)) = message.member(name) else { continue };
        if named {
            let end = out.len();
            write(out, shape, 2, value);
            out.bytes_field(1, name.as_bytes());
            out.close_message(tag, end);
        } else {
            write(out, shape, tag, value);
        }
    }
}

/// Writes a field; a value that is not of its shape is left out.
fn write(out: &mut BackWriter, shape: &Shape, tag: u32, value: &Value) {
    let end = out.len();
    match (shape, value) {
        (Shape::Text, Value::String(text)) => out.bytes_field(tag, text.as_bytes()),
        (Shape::Flag, Value::Bool(flag)) => out.varint_field(tag, u64::from(*flag)),
        (Shape::Integer, Value::Number(number)) => {
            if let Some(number) = number.as_i64() {
                out.varint_field(tag, number.cast_unsigned());
            }
        }
        (Shape::Number, Value::Number(number)) => {
            if let Some(number) = number.as_f64() {
                out.double_field(tag, number);
            }
        }
        (Shape::Any, value) => {
            out.bytes_field(2, format!("{value}\n").as_bytes());
            out.close_message(tag, end);
        }
        (Shape::Message(message), Value::Object(members)) => {
            write_members(out, message, members);
            out.close_message(tag, end);
        }
        (Shape::Each(shape), Value::Array(items)) => {
            for item in items.iter().rev() {
                write(out, shape, tag, item);
            }
        }
        (Shape::Within(inner, shape), value) => {
            write(out, shape, *inner, value);
            out.close_message(tag, end);
        }
        (Shape::OneOf(shapes, which), value) => write(out, &shapes[which(value)], tag, value),
        _ => {}
    }
}
