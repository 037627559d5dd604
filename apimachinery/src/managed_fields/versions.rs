//! Objects that are written in several versions: each manager's fields have the names of the version that it wrote.

use std::collections::BTreeMap;

use serde_json::Value;

use super::set::Set;
use super::shape::Shape;
use super::walk::{self, Comparison};
use crate::schema::Type;

/// The versions of an object. A [`Type`] alone stands for an object that has the same fields in all versions.
pub trait Versions {
    /// The type of a version; none when it is not served any more. Its managers are forgotten then.
    fn ty(&self, api_version: &str) -> Option<&Type>;

    /// The object in another version.
    fn convert(&self, object: &Value, from: &str, to: &str) -> Value;
}

impl Versions for Type {
    fn ty(&self, _api_version: &str) -> Option<&Type> {
        Some(self)
    }

    fn convert(&self, object: &Value, _from: &str, _to: &str) -> Value {
        object.clone()
    }
}

/// What a write changes, as each version names it.
pub(super) struct Changes<'a> {
    versions: &'a dyn Versions,
    /// The version of the two states.
    api_version: &'a str,
    old: &'a Value,
    new: &'a Value,
    ignored: &'a Set,
    known: BTreeMap<String, Option<Change>>,
}

/// What a write changes in one version.
pub(super) struct Change {
    /// Fields with another value, and new ones.
    pub set: Set,
    pub removed: Set,
}

impl From<Comparison> for Change {
    fn from(comparison: Comparison) -> Self {
        Change { set: comparison.modified.union(comparison.added), removed: comparison.removed }
    }
}

impl<'a> Changes<'a> {
    pub(super) fn new(
        versions: &'a dyn Versions,
        api_version: &'a str,
        old: &'a Value,
        new: &'a Value,
        ignored: &'a Set,
    ) -> Self {
        Changes { versions, api_version, old, new, ignored, known: BTreeMap::new() }
    }

    /// The change as a version names it; none for a version that is not served.
    pub(super) fn of(&mut self, api_version: &str) -> Option<&Change> {
        if !self.known.contains_key(api_version) {
            let change = self.compare(api_version);
            self.known.insert(api_version.to_owned(), change);
        }
        self.known[api_version].as_ref()
    }

    /// As [`Changes::of`], for the last who asks.
    pub(super) fn take(mut self, api_version: &str) -> Option<Change> {
        match self.known.remove(api_version) {
            Some(known) => known,
            None => self.compare(api_version),
        }
    }

    fn compare(&self, api_version: &str) -> Option<Change> {
        let shape = Shape::Object(self.versions.ty(api_version)?);
        let comparison = if api_version == self.api_version {
            walk::compare(shape, self.old, self.new)
        } else {
            let convert = |object: &Value| self.versions.convert(object, self.api_version, api_version);
            walk::compare(shape, &convert(self.old), &convert(self.new))
        };
        Some(comparison.without(self.ignored).into())
    }
}
