//! Patch: JSON patch, JSON merge patch, strategic merge patch. Server-side apply has a module of its own.
//!
//! Kubernetes documentation, "Kubernetes API concepts": patch and apply.

use std::sync::Arc;

use apimachinery::codec::{json, yaml};
use apimachinery::field::{Error, Path};
use apimachinery::patch::{json as json_patch, merge, strategic};
use apimachinery::schema::Type;
use apimachinery::{ApiError, meta};
use apiserver_storage::Object;
use http::StatusCode;
use serde_json::Value;

use super::read::parse_version;
use super::update::Part;
use super::write::Call;
use crate::managed::Writer;
use crate::negotiate::{self, CUSTOM_PATCH_TYPES, PATCH_TYPES};

/// The media type of server-side apply.
const APPLY: &str = "application/apply-patch+yaml";

/// A patch that has been read.
pub enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// Reads a patch of a media type.
    pub fn parse(media_type: &str, body: &[u8]) -> Result<Self, ApiError> {
        let bad = |error: &dyn std::fmt::Display| ApiError::bad_request(format!("error decoding patch: {error}"));
        let value = json::decode(body).map_err(|error| bad(&error))?;
        match media_type {
            "application/json-patch+json" => Ok(Patch::Json(value)),
            "application/merge-patch+json" => Ok(Patch::Merge(value)),
            _ => Ok(Patch::Strategic(value)),
        }
    }

    /// The patched object, which is of the type.
    pub fn apply(&self, ty: &Type, object: &Value) -> Result<Value, ApiError> {
        match self {
            Patch::Json(patch) => Ok(json_patch::apply(object, patch)?),
            Patch::Merge(patch) => {
                let mut object = object.clone();
                merge::apply(&mut object, patch);
                Ok(object)
            }
            Patch::Strategic(patch) => Ok(strategic::apply(ty, object.clone(), patch.clone())?),
        }
    }
}

impl Call<'_> {
    /// Patches the object, or its status.
    ///
    /// # Errors
    /// `UnsupportedMediaType`, `BadRequest`, `NotFound`, `Conflict`, `Invalid`, and what admission says.
    pub async fn patch(&self, body: &[u8], part: Part) -> Result<(StatusCode, Arc<Object>), ApiError> {
        let media_type = self.patch_type()?;
        if media_type == APPLY {
            return self.apply(body, part).await;
        }
        if self.query.has("force") {
            return Err(
                self.invalid_option(Error::forbidden(&Path::new("force"), "may not be specified for non-apply patch"))
            );
        }
        let writer = Writer::of(self)?;
        let dry_run = self.dry_run()?;
        let patch = Patch::parse(media_type, body)?;
        let (patch, writer) = (&patch, &writer);
        let change = |current: Arc<Object>| async move {
            let base = self.to_served(&current);
            let patched = patch.apply(&self.served.resource.ty, &base)?;
            let version = meta::resource_version(&patched);
            if version != meta::resource_version(&base) && !version.is_empty() {
                self.check_version(&current, Some(parse_version(version)?))?;
            }
            self.check_identity(&base, &patched)?;
            let value = self.conform(patched).map_err(|error| self.ill_typed(&base, &error))?;
            self.replace(&current, value, part, dry_run, writer).await
        };
        Ok((StatusCode::OK, self.modify(&self.info.name, dry_run, change).await?.object))
    }

    /// Server-side apply: creates the object, or lays the configuration over the one that is there.
    async fn apply(&self, body: &[u8], part: Part) -> Result<(StatusCode, Arc<Object>), ApiError> {
        if self.query.get("fieldManager").is_empty() {
            let error = Error::required(&Path::new("fieldManager"), "is required for apply patch");
            return Err(self.invalid_option(error));
        }
        let writer = Writer { applies: true, ..Writer::of(self)? };
        let force = self.query.flag("force");
        let dry_run = self.dry_run()?;
        let applied =
            yaml::decode(body).map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
        let (applied, writer) = (&applied, &writer);
        let change = |current: Arc<Object>| async move {
            let base = self.to_served(&current);
            let version = meta::resource_version(applied);
            if !version.is_empty() {
                self.check_version(&current, Some(parse_version(version)?))?;
            }
            let merged = writer.apply(self, &base, applied, force)?;
            self.check_identity(&base, &merged)?;
            self.replace(&current, self.conform(merged)?, part, dry_run, writer).await
        };
        if part != Part::Main {
            return Ok((StatusCode::OK, self.modify(&self.info.name, dry_run, change).await?.object));
        }
        let create = || async move {
            let merged = writer.apply(self, &Value::Null, applied, force)?;
            self.create_value(self.conform(merged)?, writer.clone()).await
        };
        self.modify_or_create(dry_run, change, create).await
    }

    /// The media type of the patch.
    pub fn patch_type(&self) -> Result<&'static str, ApiError> {
        let custom = self.served.custom.is_some();
        negotiate::patch_type(self.headers, if custom { CUSTOM_PATCH_TYPES } else { PATCH_TYPES })
    }

    /// What a patch is answered that leaves something which is not of the type.
    fn ill_typed(&self, base: &Value, error: &ApiError) -> ApiError {
        let error = Error::invalid(&Path::new("patch"), Value::Null, error.to_string());
        ApiError::invalid(self.group(), &self.served.resource.kind, meta::name(base), &[error])
    }

    /// The object in the served version.
    pub fn to_served(&self, object: &Object) -> Value {
        let value = object.to_value();
        match &self.served.conversion {
            Some(conversion) => conversion.to_served(value),
            None => value,
        }
    }

    fn check_identity(&self, base: &Value, patched: &Value) -> Result<(), ApiError> {
        for (what, old, new) in [
            ("name", meta::name(base), meta::name(patched)),
            ("namespace", meta::namespace(base), meta::namespace(patched)),
        ] {
            if old != new && what == "name" {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({new}) does not match the name on the URL ({old})"
                )));
            }
            if old != new {
                return Err(ApiError::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
        }
        Ok(())
    }
}
