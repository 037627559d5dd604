//! The versions of a custom resource with the strategy `None`: they differ in `apiVersion`, and in the fields that their schemas know.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::managed_fields::Versions;
use apimachinery::schema::{self, Type};
use apiserver_storage::Object;
use serde_json::Value;

use super::Conversion;

/// The types of a custom resource's versions, by `apiVersion`.
pub type Types = Arc<BTreeMap<String, Arc<Type>>>;

/// Between one served version and the stored one.
///
/// What was written under another definition is brought to the form of the present one when it is read: fields that are not known
/// are dropped, and defaults are set.
pub struct Custom {
    pub types: Types,
    pub served: String,
    pub stored: String,
    /// The revision of the present definition: objects that are newer were written under it.
    pub since: i64,
}

fn version_of(object: &Value) -> &str {
    object["apiVersion"].as_str().unwrap_or_default()
}

/// Brings an object to a version: without the fields that the version does not know.
fn convert(types: &Types, mut object: Value, to: &str) -> Value {
    if version_of(&object) != to
        && let Some(map) = object.as_object_mut()
    {
        map.insert("apiVersion".into(), to.into());
    }
    if let Some(ty) = types.get(to) {
        schema::prune(ty, &mut object);
    }
    object
}

/// The fields of an object that its own version knows, and that version's defaults.
fn complete(types: &Types, object: &mut Value) {
    if let Some(ty) = types.get(version_of(object)) {
        schema::prune(ty, object);
        schema::apply_defaults(ty, object);
    }
}

impl Conversion for Custom {
    fn to_stored(&self, mut object: Value) -> Value {
        complete(&self.types, &mut object);
        if self.served == self.stored { object } else { convert(&self.types, object, &self.stored) }
    }

    fn to_served(&self, mut object: Value) -> Value {
        complete(&self.types, &mut object);
        if version_of(&object) == self.served { object } else { convert(&self.types, object, &self.served) }
    }

    fn is_stored_as_served(&self, object: &Object) -> bool {
        object.revision > self.since && object.text(&["apiVersion"]).is_some_and(|version| version == self.served)
    }

    fn is_checked_as_served(&self) -> bool {
        true
    }
}

/// The versions that managed fields may name.
pub struct AllVersions(pub Types);

impl Versions for AllVersions {
    fn ty(&self, api_version: &str) -> Option<&Type> {
        self.0.get(api_version).map(|ty| &**ty)
    }

    fn convert(&self, object: &Value, _from: &str, to: &str) -> Value {
        convert(&self.0, object.clone(), to)
    }
}
