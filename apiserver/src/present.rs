//! How an object is shown to a client: in the encoding and form that it asked for.
//!
//! The usual case, JSON as stored, copies no byte: what the cache holds is what goes on the wire.

use std::borrow::Cow;
use std::sync::Arc;

use apimachinery::ApiError;
use apimachinery::codec::{protobuf, yaml};
use apimachinery::schema::{Schema, Type};
use apimachinery::time::Moment;
use apiserver_registry::printers;
use apiserver_storage::Object;
use apiserver_storage::object::{protobuf_item, put_varint, varint_len};
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};

use crate::body::{Body, ListBody, Slice};
use crate::negotiate::{Encoding, Form, Negotiated};
use crate::served::Served;

/// What precedes every protobuf message (Kubernetes API concepts, "Protobuf encoding idl").
const PROTOBUF_MAGIC: &[u8] = b"k8s\0";

/// How much of the object a row of a Table carries (`includeObject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    pub fn parse(parameter: &str) -> Result<Self, ApiError> {
        match parameter {
            "" | "Metadata" => Ok(IncludeObject::Metadata),
            "None" => Ok(IncludeObject::None),
            "Object" => Ok(IncludeObject::Object),
            other => Err(ApiError::bad_request(format!(
                "unrecognized includeObject value {other:?}, must be None, Object or Metadata"
            ))),
        }
    }
}

/// Where a list stands: the metadata of its answer.
#[derive(Clone, Debug, Default)]
pub struct ListPosition {
    pub revision: i64,
    pub continue_token: Option<String>,
    pub remaining: Option<usize>,
}

impl ListPosition {
    fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if let Some(token) = &self.continue_token {
            metadata["continue"] = token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

/// Shows objects of one resource to one client.
#[derive(Clone)]
pub struct Presenter {
    pub served: Arc<Served>,
    pub negotiated: Negotiated,
    pub include_object: IncludeObject,
}

/// The `k8s\0` envelope up to the message, and what follows it.
fn envelope(api_version: &str, kind: &str, length: usize) -> (BytesMut, Bytes) {
    let type_meta = 2 + api_version.len() + 2 + kind.len();
    let mut head = BytesMut::with_capacity(32 + type_meta);
    head.put_slice(PROTOBUF_MAGIC);
    head.put_u8(0x0a);
    put_varint(&mut head, type_meta);
    for (tag, text) in [(0x0a, api_version), (0x12, kind)] {
        head.put_u8(tag);
        put_varint(&mut head, text.len());
        head.put_slice(text.as_bytes());
    }
    head.put_u8(0x12);
    put_varint(&mut head, length);
    // `contentEncoding` and `contentType`, empty.
    (head, Bytes::from_static(&[0x1a, 0, 0x22, 0]))
}

/// A whole protobuf answer around a message.
pub fn enveloped(api_version: &str, kind: &str, message: &[u8]) -> Bytes {
    let (mut head, tail) = envelope(api_version, kind, message.len());
    head.put_slice(message);
    head.put(tail);
    head.freeze()
}

/// Any value of a known kind, in an encoding.
pub fn value(encoding: Encoding, value: &Value) -> Result<Bytes, ApiError> {
    match encoding {
        Encoding::Json => serde_json::to_vec(value).map(Bytes::from).map_err(ApiError::internal),
        Encoding::Yaml => Ok(Bytes::from(yaml::encode(value))),
        Encoding::Protobuf => protobuf::encode(Schema::builtin(), value).map(Bytes::from).map_err(ApiError::internal),
    }
}

impl Presenter {
    /// Whether the bytes that the cache holds are what the client gets.
    fn is_plain(&self, object: &Object) -> bool {
        let conversion = self.served.conversion.as_ref();
        self.negotiated.form == Form::Whole && conversion.is_none_or(|it| it.is_stored_as_served(object))
    }

    /// The object in the served version.
    pub fn served_value(&self, object: &Object) -> Value {
        let value = object.to_value();
        match &self.served.conversion {
            Some(conversion) => conversion.to_served(value),
            None => value,
        }
    }

    fn formed_value(&self, object: &Object) -> Value {
        match self.negotiated.form {
            Form::Table => {
                self.table(&[object], &ListPosition { revision: object.revision, ..Default::default() }, true)
            }
            Form::Metadata => metadata_only(object),
            Form::Whole | Form::AggregatedDiscovery => self.served_value(object),
        }
    }

    /// The whole answer for one object.
    pub fn object(&self, object: &Arc<Object>) -> Result<Slice, ApiError> {
        match self.negotiated.encoding {
            Encoding::Json if self.is_plain(object) => Ok(Slice::Json(object.clone())),
            Encoding::Protobuf if self.negotiated.form == Form::Whole => {
                let message = self.message(object)?;
                Ok(Slice::Bytes(enveloped(&self.served.api_version, &self.served.resource.kind, &message)))
            }
            encoding => value(encoding, &self.formed_value(object)).map(Slice::Bytes),
        }
    }

    /// The protobuf message of one object, without envelope.
    fn message<'o>(&self, object: &'o Object) -> Result<Cow<'o, [u8]>, ApiError> {
        let encode = |ty: &Type, value: &Value| protobuf::encode_message(ty, value).map_err(ApiError::internal);
        match self.negotiated.form {
            Form::Whole if self.served.conversion.is_none() => {
                object.protobuf(|object| encode(&self.served.resource.ty, &object.to_value())).map(Cow::Borrowed)
            }
            Form::Whole => encode(&self.served.resource.ty, &self.served_value(object)).map(Cow::Owned),
            _ => {
                let partial = metadata_only(object);
                let ty = Schema::builtin().type_for_kind("meta.k8s.io/v1", "PartialObjectMetadata");
                let ty = ty.ok_or_else(|| ApiError::internal("the table lacks PartialObjectMetadata"))?;
                encode(ty, &partial).map(Cow::Owned)
            }
        }
    }

    /// The object of a watch event: JSON, or for protobuf an enveloped message.
    fn event_object(&self, object: &Arc<Object>, columns: bool) -> Result<Slice, ApiError> {
        match (self.negotiated.encoding, self.negotiated.form) {
            (Encoding::Protobuf, Form::Whole) => self.object(object),
            (Encoding::Protobuf, _) => {
                let message = self.message(object)?;
                Ok(Slice::Bytes(enveloped("meta.k8s.io/v1", "PartialObjectMetadata", &message)))
            }
            (_, Form::Table) => {
                let position = ListPosition { revision: object.revision, ..Default::default() };
                value(Encoding::Json, &self.table(&[object], &position, columns)).map(Slice::Bytes)
            }
            _ if self.is_plain(object) => Ok(Slice::Json(object.clone())),
            _ => value(Encoding::Json, &self.formed_value(object)).map(Slice::Bytes),
        }
    }

    /// Writes one watch event. `columns`: whether a Table still has to say its columns.
    pub fn event(&self, out: &mut BytesMut, kind: &str, object: &Arc<Object>, columns: bool) -> Result<(), ApiError> {
        let object = self.event_object(object, columns)?;
        put_event(out, self.negotiated.encoding, kind, object.as_ref());
        Ok(())
    }

    /// Writes a watch event that carries a value of its own: a bookmark or a `Status`.
    pub fn event_value(&self, out: &mut BytesMut, kind: &str, object: &Value) -> Result<(), ApiError> {
        let encoding = match self.negotiated.encoding {
            Encoding::Yaml => Encoding::Json,
            other => other,
        };
        put_event(out, encoding, kind, &value(encoding, object)?);
        Ok(())
    }

    /// A bookmark's object: the kind and a resource version.
    pub fn bookmark(&self, revision: i64, initial_events_end: bool) -> Value {
        let (api_version, kind) = match self.negotiated.form {
            Form::Table => ("meta.k8s.io/v1", "Table"),
            Form::Metadata => ("meta.k8s.io/v1", "PartialObjectMetadata"),
            _ => (self.served.api_version.as_str(), self.served.resource.kind.as_str()),
        };
        let mut object =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"resourceVersion": revision.to_string()}});
        if initial_events_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        object
    }

    /// The whole answer for a list.
    pub fn list(&self, objects: Vec<Arc<Object>>, position: &ListPosition) -> Result<Body, ApiError> {
        match (self.negotiated.encoding, self.negotiated.form) {
            (encoding, Form::Table) => {
                let all: Vec<&Object> = objects.iter().map(|object| &**object).collect();
                value(encoding, &self.table(&all, position, true)).map(Body::full)
            }
            (Encoding::Json, _) => self.json_list(objects, position),
            (Encoding::Protobuf, _) => self.protobuf_list(objects, position),
            (Encoding::Yaml, _) => {
                let items: Vec<Value> = objects.iter().map(|object| self.formed_value(object)).collect();
                let (api_version, kind) = self.list_type();
                let list =
                    json!({"apiVersion": api_version, "kind": kind, "metadata": position.metadata(), "items": items});
                value(Encoding::Yaml, &list).map(Body::full)
            }
        }
    }

    fn list_type(&self) -> (&str, String) {
        match self.negotiated.form {
            Form::Metadata => ("meta.k8s.io/v1", "PartialObjectMetadataList".to_owned()),
            _ => (&self.served.api_version, self.served.list_kind()),
        }
    }

    fn json_list(&self, objects: Vec<Arc<Object>>, position: &ListPosition) -> Result<Body, ApiError> {
        let (api_version, kind) = self.list_type();
        let metadata = position.metadata();
        let head = format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#);
        let item = |object: Arc<Object>| match self.is_plain(&object) {
            true => Ok(Slice::JsonItem(object)),
            false => self.formed_item(&object),
        };
        let items = objects.into_iter().map(item).collect::<Result<_, ApiError>>()?;
        Ok(Body::List(Box::new(ListBody::new(head.into(), items, Bytes::from_static(b"]}"), 1))))
    }

    /// An object that is not sent as it is stored, as JSON after a comma.
    fn formed_item(&self, object: &Object) -> Result<Slice, ApiError> {
        let mut item = vec![b','];
        serde_json::to_writer(&mut item, &self.formed_value(object)).map_err(ApiError::internal)?;
        Ok(Slice::Bytes(item.into()))
    }

    fn protobuf_list_item(&self, object: Arc<Object>) -> Result<Slice, ApiError> {
        if let Cow::Owned(message) = self.message(&object)? {
            return Ok(Slice::Bytes(protobuf_item(&message).into()));
        }
        Ok(Slice::ProtobufItem(object))
    }

    fn protobuf_list(&self, objects: Vec<Arc<Object>>, position: &ListPosition) -> Result<Body, ApiError> {
        let (api_version, kind) = self.list_type();
        let items = objects.into_iter().map(|object| self.protobuf_list_item(object)).collect::<Result<Vec<_>, _>>()?;
        let list_meta = Schema::builtin()
            .type_named("meta.v1.ListMeta")
            .ok_or_else(|| ApiError::internal("the table lacks ListMeta"))?;
        let metadata = protobuf::encode_message(list_meta, &position.metadata()).map_err(ApiError::internal)?;
        let length = 1 + varint_len(metadata.len()) + metadata.len() + ListBody::length(&items);
        let (mut head, tail) = envelope(api_version, &kind, length);
        head.put_u8(0x0a);
        put_varint(&mut head, metadata.len());
        head.put_slice(&metadata);
        Ok(Body::List(Box::new(ListBody::new(head.freeze(), items, tail, 0))))
    }

    fn table(&self, objects: &[&Object], position: &ListPosition, with_columns: bool) -> Value {
        let now = Moment::now();
        let rows: Vec<Value> = objects
            .iter()
            .map(|object| {
                let value = self.served_value(object);
                let cells = self.cells(&value, now);
                match self.include_object {
                    IncludeObject::None => json!({"cells": cells}),
                    IncludeObject::Metadata => json!({"cells": cells, "object": metadata_only(object)}),
                    IncludeObject::Object => json!({"cells": cells, "object": value}),
                }
            })
            .collect();
        let columns = if with_columns { self.columns() } else { Vec::new() };
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table", "metadata": position.metadata(),
            "columnDefinitions": columns, "rows": rows})
    }

    fn columns(&self) -> Vec<Value> {
        let resource = &self.served.resource;
        match &self.served.custom {
            Some(custom) => custom.version.columns.definitions(),
            None => printers::columns(&resource.group, &resource.resource).iter().map(column).collect(),
        }
    }

    fn cells(&self, object: &Value, now: Moment) -> Vec<Value> {
        let resource = &self.served.resource;
        match &self.served.custom {
            Some(custom) => custom.version.columns.cells(object, now),
            None => printers::row(&resource.group, &resource.resource, object, now),
        }
    }
}

fn column(column: &printers::Column) -> Value {
    json!({"name": column.name, "type": column.type_, "format": column.format, "description": column.description,
        "priority": column.priority})
}

/// The `PartialObjectMetadata` of an object.
fn metadata_only(object: &Object) -> Value {
    let range = apiserver_storage::scan::range(object.json(), &["metadata"]);
    let raw = range.map_or(&b"{}"[..], |range| &object.json()[range]);
    let metadata: Value = serde_json::from_slice(raw).unwrap_or_default();
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata})
}

/// Writes one event of a watch: a line of JSON, or a length-prefixed `WatchEvent` message.
fn put_event(out: &mut BytesMut, encoding: Encoding, kind: &str, object: &[u8]) {
    match encoding {
        Encoding::Json | Encoding::Yaml => {
            out.reserve(object.len() + kind.len() + 24);
            out.put_slice(br#"{"type":""#);
            out.put_slice(kind.as_bytes());
            out.put_slice(br#"","object":"#);
            out.put_slice(object);
            out.put_slice(b"}\n");
        }
        Encoding::Protobuf => {
            let raw = 1 + varint_len(object.len()) + object.len();
            let message = 2 + kind.len() + 1 + varint_len(raw) + raw;
            out.reserve(message + 4);
            out.put_u32(message as u32);
            out.put_u8(0x0a);
            put_varint(out, kind.len());
            out.put_slice(kind.as_bytes());
            out.put_u8(0x12);
            put_varint(out, raw);
            out.put_u8(0x0a);
            put_varint(out, object.len());
            out.put_slice(object);
        }
    }
}
