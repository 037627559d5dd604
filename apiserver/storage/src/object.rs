//! One object as the watch cache holds it: its key, its revision and the bytes that go on the wire.
//!
//! The bytes are kept with what precedes them as an item of a list, so that a list is written from slices of its objects.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::BufMut;
use serde_json::Value;

use crate::keys;
use crate::scan;

/// An object at one revision. Immutable; its encodings other than JSON are filled on first use.
pub struct Object {
    /// The etcd key.
    pub key: Arc<str>,
    /// The etcd revision of its last change: its `resourceVersion`.
    pub revision: i64,
    /// A comma and the JSON that goes on the wire, `metadata.resourceVersion` included.
    json: Box<[u8]>,
    labels: Range<u32>,
    /// Where the value of the resource's indexed field is; empty when it has none.
    indexed: Range<u32>,
    protobuf: OnceLock<Message>,
}

/// A protobuf message, after its tag and length as an item of a list.
struct Message {
    bytes: Box<[u8]>,
    start: usize,
}

/// The tag of field 2 with length-delimited content: `items` of every list message.
const ITEMS_TAG: u8 = 0x12;

/// How many bytes a varint takes.
pub fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Writes a varint.
pub fn put_varint(out: &mut impl BufMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A message as an item of a list.
pub fn protobuf_item(message: &[u8]) -> Vec<u8> {
    let mut item = Vec::with_capacity(1 + varint_len(message.len()) + message.len());
    item.push(ITEMS_TAG);
    put_varint(&mut item, message.len());
    item.extend_from_slice(message);
    item
}

/// Why a stored value cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the value at {key} is not an object with metadata")]
pub struct Malformed {
    pub key: String,
}

impl Object {
    /// An object from its stored JSON (without `resourceVersion`) and the revision it was stored at.
    pub fn new(key: Arc<str>, stored: &[u8], revision: i64) -> Result<Self, Malformed> {
        let outline = scan::outline(stored).ok_or_else(|| Malformed { key: key.to_string() })?;
        let mut json = Vec::with_capacity(stored.len() + 48);
        json.push(b',');
        json.put_slice(&stored[..outline.metadata]);
        json.put_slice(br#""resourceVersion":""#);
        json.put_slice(itoa::Buffer::new().format(revision).as_bytes());
        json.put_slice(if outline.metadata_is_empty { b"\"" } else { b"\"," });
        let shift = json.len() - 1 - outline.metadata;
        json.put_slice(&stored[outline.metadata..]);
        let labels = if outline.labels.is_empty() {
            0..0
        } else {
            (outline.labels.start + shift) as u32..(outline.labels.end + shift) as u32
        };
        let field =
            keys::indexed_field(keys::resource_prefix(&key)).and_then(|field| scan::range(&json[1..], field.path));
        let indexed = field.map_or(0..0, |range| range.start as u32..range.end as u32);
        Ok(Object { key, revision, json: json.into_boxed_slice(), labels, indexed, protobuf: OnceLock::new() })
    }

    /// The JSON that goes on the wire.
    pub fn json(&self) -> &[u8] {
        &self.json[1..]
    }

    /// The JSON as an item of a list that is not its first: after a comma.
    pub fn json_item(&self) -> &[u8] {
        &self.json
    }

    /// The same object as of a later revision: what a DELETED event carries.
    #[must_use]
    pub fn at_revision(&self, revision: i64) -> Self {
        Object::new(self.key.clone(), &self.stored(), revision).expect("an object keeps its metadata")
    }

    /// The JSON without `resourceVersion`, as it is stored.
    pub fn stored(&self) -> Vec<u8> {
        let mut digits = itoa::Buffer::new();
        let inserted = br#""resourceVersion":"","#.len() + digits.format(self.revision).len();
        let at = scan::outline(self.json()).expect("checked when the object was made").metadata;
        let mut out = Vec::with_capacity(self.json.len());
        out.extend_from_slice(&self.json()[..at]);
        let rest = &self.json()[at + inserted - 1..];
        out.extend_from_slice(rest.strip_prefix(b",").unwrap_or(rest));
        out
    }

    /// The raw JSON object `metadata.labels`, or nothing.
    pub fn labels(&self) -> &[u8] {
        &self.json()[self.labels.start as usize..self.labels.end as usize]
    }

    fn raw(&self, path: &[&str]) -> Option<&[u8]> {
        scan::range(self.json(), path).map(|range| &self.json()[range])
    }

    /// The value of one label.
    pub fn label(&self, key: &str) -> Option<&str> {
        scan::label(self.labels(), key)
    }

    /// The text at a path of members, such as `["spec", "nodeName"]`.
    pub fn text(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        if keys::indexed_field(keys::resource_prefix(&self.key)).is_some_and(|field| field.path == path) {
            return self.indexed_text();
        }
        scan::text(self.json(), path)
    }

    /// The value of the resource's indexed field.
    pub fn indexed_text(&self) -> Option<Cow<'_, str>> {
        scan::literal(self.json().get(self.indexed.start as usize..self.indexed.end as usize)?)
    }

    /// The object's name: the last part of its key.
    pub fn name(&self) -> &str {
        keys::split(&self.key).name
    }

    /// The object's namespace, empty when it has none.
    pub fn namespace(&self) -> &str {
        keys::split(&self.key).namespace
    }

    /// The parsed object.
    pub fn to_value(&self) -> Value {
        serde_json::from_slice(self.json()).unwrap_or(Value::Null)
    }

    /// The parsed object with null for its `metadata.managedFields`, which are often half of it.
    pub fn to_unmanaged_value(&self) -> Value {
        let json = self.json();
        let Some(managed) = scan::range(json, &["metadata", "managedFields"]) else { return self.to_value() };
        let without = [&json[..managed.start], b"null", &json[managed.end..]].concat();
        serde_json::from_slice(&without).unwrap_or(Value::Null)
    }

    /// Whether the members at the paths are the same bytes in both.
    pub fn agrees_with(&self, other: &Object, paths: &[&[&str]]) -> bool {
        paths.iter().all(|path| self.raw(path) == other.raw(path))
    }

    /// The protobuf message of the object (no envelope), made by `encode` on first use.
    pub fn protobuf<E>(&self, encode: impl FnOnce(&Object) -> Result<Vec<u8>, E>) -> Result<&[u8], E> {
        if self.protobuf.get().is_none() {
            let message = encode(self)?;
            let start = 1 + varint_len(message.len());
            self.protobuf.get_or_init(|| Message { bytes: protobuf_item(&message).into_boxed_slice(), start });
        }
        Ok(self.protobuf.get().map_or(&[], |message| &message.bytes[message.start..]))
    }

    /// The message as an item of a list; empty before [`Object::protobuf`] was called.
    pub fn protobuf_item(&self) -> &[u8] {
        self.protobuf.get().map_or(&[], |message| &message.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(stored: &str, revision: i64) -> Object {
        Object::new("/registry/pods/ns/p".into(), stored.as_bytes(), revision).expect("an object")
    }

    #[test]
    fn the_revision_is_spliced_into_the_metadata() {
        let pod = object(r#"{"kind":"Pod","metadata":{"labels":{"a":"b"},"name":"p"}}"#, 42);
        let value = pod.to_value();
        assert_eq!(value["metadata"]["resourceVersion"], "42");
        assert_eq!(pod.label("a"), Some("b"));
        assert_eq!((pod.namespace(), pod.name()), ("ns", "p"));
    }

    #[test]
    fn the_stored_form_comes_back_unchanged() {
        for stored in [r#"{"metadata":{"labels":{"a":"b"},"name":"p"},"x":1}"#, r#"{"metadata":{}}"#] {
            let pod = object(stored, 7);
            assert_eq!(pod.stored(), stored.as_bytes());
            let later = pod.at_revision(1234);
            assert_eq!(later.to_value()["metadata"]["resourceVersion"], "1234");
            assert_eq!(later.stored(), stored.as_bytes());
        }
    }

    #[test]
    fn items_of_lists_are_the_object_after_what_separates_it() {
        let pod = object(r#"{"metadata":{}}"#, 7);
        assert_eq!(pod.json_item().split_first(), Some((&b',', pod.json())));
        assert_eq!(pod.protobuf_item(), b"");
        for _ in 0..2 {
            let message = pod.protobuf(|_| Ok::<_, ()>(vec![7; 300])).expect("encoded");
            assert_eq!(message, [7; 300]);
        }
        assert_eq!(pod.protobuf_item(), [&[ITEMS_TAG, 0xac, 0x02][..], &[7; 300]].concat());
    }

    #[test]
    fn varints_have_the_length_that_is_announced() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 5_000_000] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
        }
    }

    #[test]
    fn managed_fields_are_left_out_and_members_compared_as_bytes() {
        let old = object(r#"{"metadata":{"managedFields":[{"a":1}],"name":"p"},"spec":{"x":1},"status":{"y":1}}"#, 7);
        let new = object(r#"{"metadata":{"name":"p"},"spec":{"x":1},"status":{"y":2}}"#, 8);
        assert_eq!(old.to_unmanaged_value()["metadata"]["managedFields"], Value::Null);
        assert_eq!(old.to_unmanaged_value()["status"]["y"], 1);
        assert_eq!(new.to_unmanaged_value(), new.to_value());
        assert!(old.agrees_with(&new, &[&["spec"], &["metadata", "name"], &["absent"]]));
        assert!(
            !old.agrees_with(&new, &[&["spec"], &["status"]])
                && !old.agrees_with(&new, &[&["metadata", "managedFields"]])
        );
    }

    #[test]
    fn a_value_without_metadata_is_refused() {
        assert!(Object::new("/registry/x/y".into(), b"[1]", 1).is_err());
    }
}
