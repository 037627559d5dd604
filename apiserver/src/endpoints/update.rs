//! Update (PUT) and the part of an update that it shares with patches.

use std::sync::Arc;

use apimachinery::{ApiError, meta};
use apiserver_admission::{Attributes, Operation};
use apiserver_storage::Object;
use http::StatusCode;
use serde_json::Value;

use super::read::parse_version;
use super::write::{Call, Change, is_released, settle};
use crate::managed::{self, Writer};

/// Which part of the object a request may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status.
    Main,
    Status,
    /// The containers' resources of a pod.
    Resize,
    /// The ephemeral containers of a pod.
    EphemeralContainers,
    /// The approval of a certificate request.
    Approval,
}

impl Part {
    /// The part that a subresource stands for.
    pub fn of(subresource: &str) -> Self {
        match subresource {
            "status" => Part::Status,
            "resize" => Part::Resize,
            "ephemeralcontainers" => Part::EphemeralContainers,
            "approval" => Part::Approval,
            _ => Part::Main,
        }
    }
}

impl Call<'_> {
    /// Replaces the object, or its status, by the one of the body. Objects of some kinds are created where there is none.
    ///
    /// # Errors
    /// `BadRequest`, `NotFound`, `Conflict`, `Invalid`, and what admission says.
    pub async fn update(&self, body: &[u8], part: Part) -> Result<(StatusCode, Arc<Object>), ApiError> {
        let mut value = self.decode(&self.served.resource.ty, body)?;
        let name = &self.info.name;
        match meta::name(&value) {
            "" => meta::set_name(&mut value, name),
            other if other != name => {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({other}) does not match the name on the URL ({name})"
                )));
            }
            _ => {}
        }
        self.check_namespace(&mut value)?;
        let writer = Writer::of(self)?;
        let dry_run = self.dry_run()?;
        let (value, writer) = (&value, &writer);
        let change = |current: Arc<Object>| async move {
            self.check_version(&current, self.expected_version(value)?)?;
            self.replace(&current, value.clone(), part, dry_run, writer).await
        };
        if part != Part::Main || !self.served.strategy.allow_create_on_update() {
            return Ok((StatusCode::OK, self.modify(name, dry_run, change).await?.object));
        }
        self.modify_or_create(dry_run, change, || self.create_value(value.clone(), writer.clone())).await
    }

    /// The version that the object must have, where the client says one.
    fn expected_version(&self, value: &Value) -> Result<Option<i64>, ApiError> {
        match meta::resource_version(value) {
            "" | "0" if self.served.strategy.allow_unconditional_update() => Ok(None),
            "" | "0" => {
                let path = apimachinery::field::Path::new("metadata").child("resourceVersion");
                let error = apimachinery::field::Error::invalid(&path, 0, "must be specified for an update");
                self.check(meta::name(value), vec![error]).map(|()| None)
            }
            version => parse_version(version).map(Some).map_err(|_| {
                let path = apimachinery::field::Path::new("metadata").child("resourceVersion");
                let error = apimachinery::field::Error::invalid(&path, version, "must be a number");
                ApiError::invalid(self.group(), &self.served.resource.kind, meta::name(value), &[error])
            }),
        }
    }

    /// `Conflict`, when the object has another version than the client says.
    pub fn check_version(&self, current: &Object, expected: Option<i64>) -> Result<(), ApiError> {
        match expected {
            Some(version) if version != current.revision => {
                Err(ApiError::modified(self.group(), self.plural(), current.name()))
            }
            _ => Ok(()),
        }
    }

    /// What becomes of the object when a client wants it to be `value` (in the served version).
    pub async fn replace(
        &self,
        current: &Object,
        value: Value,
        part: Part,
        dry_run: bool,
        writer: &Writer,
    ) -> Result<Change<'_>, ApiError> {
        let old = current.to_value();
        let name = current.name();
        let uid = meta::uid(&value);
        if !uid.is_empty() && uid != meta::uid(&old) {
            let detail =
                format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta::uid(&old));
            return Err(ApiError::conflict(self.group(), self.plural(), name, &detail));
        }
        let value = self.internalize(value);
        let mut value = managed::track(self, &old, value, writer);
        meta::set_resource_version(&mut value, meta::resource_version(&old));
        let strategy = &*self.served.strategy;
        let prepare = |value: &mut Value| match part {
            Part::Main => {
                self.with_strategy(value, |value| strategy.prepare_for_update(value, &self.for_strategy(&old)))
            }
            Part::Status => {
                self.with_strategy(value, |value| strategy.prepare_for_status_update(value, &self.for_strategy(&old)));
            }
            Part::Resize | Part::EphemeralContainers | Part::Approval => {
                super::parts::prepare(part, value, &old);
            }
        };
        prepare(&mut value);
        let options = Value::Null;
        let attributes = self.attributes(Operation::Update, name, &options, dry_run);
        self.server.admission.admit(&attributes, &mut value, Some(&old)).await?;
        self.with_strategy(&mut value, |value| strategy.default(value));
        prepare(&mut value);
        // Before anything else is looked at: what cannot be had is all that is reported then.
        let allocation = self.server.allocators.allocate(self, &mut value, Some(&old), dry_run).await?;
        match self.check_replaced(&mut value, &old, part, &attributes).await {
            Ok(()) if is_released(&value) => {
                settle(allocation, false).await;
                Ok(Change::Delete)
            }
            Ok(()) => Ok(Change::Write(value, allocation)),
            Err(error) => {
                settle(allocation, false).await;
                Err(error)
            }
        }
    }

    /// Whether an admitted and prepared object may replace the old one.
    async fn check_replaced(
        &self,
        value: &mut Value,
        old: &Value,
        part: Part,
        attributes: &Attributes<'_>,
    ) -> Result<(), ApiError> {
        let strategy = &*self.served.strategy;
        let errors = match part {
            Part::Main => strategy.validate_update(&self.for_strategy(value), &self.for_strategy(old)),
            Part::Status => strategy.validate_status_update(&self.for_strategy(value), &self.for_strategy(old)),
            Part::Resize | Part::EphemeralContainers | Part::Approval => super::parts::validate(part, value, old),
        };
        self.check(attributes.name, errors)?;
        apimachinery::schema::fill_zeros(self.stored_type(), value);
        self.warnings.add(match part {
            Part::Main => strategy.warnings(&self.for_strategy(value), Some(&self.for_strategy(old))),
            Part::Status => strategy.status_warnings(value),
            Part::Resize | Part::EphemeralContainers | Part::Approval => Vec::new(),
        });
        self.check_escalation(value, Some(old))?;
        self.warnings.add(self.server.admission.validate(attributes, Some(value), Some(old)).await?);
        Ok(())
    }
}
