//! One object as the watch cache holds it: its key, its revision and the bytes that go on the wire.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use crate::keys;
use crate::scan;

/// An object at one revision. Immutable; its encodings other than JSON are filled on first use.
pub struct Object {
    /// The etcd key.
    pub key: Arc<str>,
    /// The etcd revision of its last change: its `resourceVersion`.
    pub revision: i64,
    /// The JSON that goes on the wire, `metadata.resourceVersion` included.
    pub json: Bytes,
    labels: Range<u32>,
    /// Where the value of the resource's indexed field is; empty when it has none.
    indexed: Range<u32>,
    protobuf: OnceLock<Bytes>,
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
        let mut json = BytesMut::with_capacity(stored.len() + 48);
        json.put_slice(&stored[..outline.metadata]);
        json.put_slice(br#""resourceVersion":""#);
        json.put_slice(itoa::Buffer::new().format(revision).as_bytes());
        json.put_slice(if outline.metadata_is_empty { b"\"" } else { b"\"," });
        let shift = json.len() - outline.metadata;
        json.put_slice(&stored[outline.metadata..]);
        let labels = if outline.labels.is_empty() {
            0..0
        } else {
            (outline.labels.start + shift) as u32..(outline.labels.end + shift) as u32
        };
        let field = keys::indexed_field(keys::resource_prefix(&key)).and_then(|field| scan::range(&json, field.path));
        let indexed = field.map_or(0..0, |range| range.start as u32..range.end as u32);
        Ok(Object { key, revision, json: json.freeze(), labels, indexed, protobuf: OnceLock::new() })
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
        let at = scan::outline(&self.json).expect("checked when the object was made").metadata;
        let mut out = Vec::with_capacity(self.json.len());
        out.extend_from_slice(&self.json[..at]);
        let rest = &self.json[at + inserted - 1..];
        out.extend_from_slice(rest.strip_prefix(b",").unwrap_or(rest));
        out
    }

    /// The raw JSON object `metadata.labels`, or nothing.
    pub fn labels(&self) -> &[u8] {
        &self.json[self.labels.start as usize..self.labels.end as usize]
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
        scan::text(&self.json, path)
    }

    /// The value of the resource's indexed field.
    pub fn indexed_text(&self) -> Option<Cow<'_, str>> {
        scan::literal(self.json.get(self.indexed.start as usize..self.indexed.end as usize)?)
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
        serde_json::from_slice(&self.json).unwrap_or(Value::Null)
    }

    /// The protobuf message of the object (no envelope), made by `encode` on first use.
    pub fn protobuf<E>(&self, encode: impl FnOnce(&Object) -> Result<Bytes, E>) -> Result<Bytes, E> {
        if let Some(bytes) = self.protobuf.get() {
            return Ok(bytes.clone());
        }
        let bytes = encode(self)?;
        Ok(self.protobuf.get_or_init(|| bytes).clone())
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
    fn a_value_without_metadata_is_refused() {
        assert!(Object::new("/registry/x/y".into(), b"[1]", 1).is_err());
    }
}
