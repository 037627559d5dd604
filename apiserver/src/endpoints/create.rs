//! Create.

use std::sync::Arc;

use apimachinery::{ApiError, Reason, meta, names, schema, time};
use apiserver_admission::{Attributes, Operation};
use apiserver_storage::{Object, Written};
use serde_json::Value;

use super::write::{Call, dry, settle, to_stored};
use crate::managed::{self, Writer};

/// How many names are tried for an object with a `generateName`.
const NAME_TRIES: usize = 8;

/// Nothing is created that is being deleted already.
fn remove_deletion(value: &mut Value) {
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        meta::metadata_mut(value).remove(field);
    }
}

impl Call<'_> {
    /// Creates the object of the body.
    ///
    /// # Errors
    /// `BadRequest`, `Forbidden`, `Invalid`, `AlreadyExists`, and what admission says.
    pub async fn create(&self, body: &[u8]) -> Result<Arc<Object>, ApiError> {
        let value = self.decode(&self.served.resource.ty, body)?;
        self.create_value(value, Writer::of(self)?).await
    }

    /// Creates a decoded object.
    pub async fn create_value(&self, mut value: Value, writer: Writer) -> Result<Arc<Object>, ApiError> {
        if self.served.custom.as_ref().is_some_and(|custom| custom.terminating) {
            let message = "create not allowed while custom resource definition is terminating";
            return Err(ApiError::new(Reason::MethodNotAllowed, message).about(self.group(), self.plural(), ""));
        }
        let dry_run = self.dry_run()?;
        self.prepare_identity(&mut value)?;
        if !meta::name(&value).is_empty() || meta::generate_name(&value).is_empty() {
            return self.create_once(value, dry_run, &writer).await;
        }
        for attempt in 1.. {
            let mut named = value.clone();
            meta::set_name(&mut named, &names::generate(meta::generate_name(&value)));
            match self.create_once(named, dry_run, &writer).await {
                Err(error) if error.is(Reason::AlreadyExists) && attempt < NAME_TRIES => {}
                result => return result,
            }
        }
        unreachable!("the loop returns at its last attempt")
    }

    async fn create_once(&self, value: Value, dry_run: bool, writer: &Writer) -> Result<Arc<Object>, ApiError> {
        let mut value = self.internalize(value);
        self.stamp_requester(&mut value);
        let mut value = managed::track(self, &Value::Null, value, writer);
        let name = meta::name(&value).to_owned();
        let options = Value::Null;
        let attributes = self.attributes(Operation::Create, &name, &options, dry_run);
        let (uid, created) = (meta::uid(&value).to_owned(), value["metadata"]["creationTimestamp"].clone());
        self.server.admission.admit(&attributes, &mut value, None).await?;
        // Who admits may have another name in mind, but no other namespace, and no say in what is the system's.
        self.check_namespace(&mut value)?;
        meta::set_uid(&mut value, &uid);
        meta::metadata_mut(&mut value).insert("creationTimestamp".into(), created);
        remove_deletion(&mut value);
        let name = meta::name(&value).to_owned();
        let attributes = Attributes { name: &name, ..attributes };
        self.with_strategy(&mut value, |value| self.served.strategy.default(value));
        // Before anything else is looked at: what cannot be had is all that is reported then.
        let allocation = self.server.allocators.allocate(self, &mut value, None, dry_run).await?;
        let stored = self.store_new(value, &attributes, dry_run).await;
        settle(allocation, stored.is_ok()).await;
        stored
    }

    /// Prepares, checks and writes an admitted object.
    async fn store_new(
        &self,
        mut value: Value,
        attributes: &Attributes<'_>,
        dry_run: bool,
    ) -> Result<Arc<Object>, ApiError> {
        let name = attributes.name;
        let strategy = &*self.served.strategy;
        let warnings = strategy.warnings(&self.for_strategy(&value), None);
        self.with_strategy(&mut value, |value| strategy.prepare_for_create(value));
        self.check(name, strategy.validate(&self.for_strategy(&value)))?;
        schema::fill_zeros(self.stored_type(), &mut value);
        self.warnings.add(warnings);
        self.check_escalation(&value, None)?;
        self.warnings.add(self.server.admission.validate(attributes, Some(&value), None).await?);
        let key = self.key(name);
        let json = to_stored(value)?;
        let exists = || ApiError::already_exists(self.group(), self.plural(), name);
        if dry_run {
            let found = self.server.store.get_from_etcd(&key).await?;
            return if found.is_some() { Err(exists()) } else { dry(&key, &json, 0) };
        }
        match self.server.store.create(&key, json, self.ttl()).await? {
            Written::Done(object) => Ok(object),
            Written::Conflict(_) => Err(exists()),
        }
    }

    /// A certificate request says who made it, which signers and approvers go by (KEP-1513); what the client says of it does not count.
    fn stamp_requester(&self, value: &mut Value) {
        if (self.group(), self.plural()) != ("certificates.k8s.io", "certificatesigningrequests") {
            return;
        }
        let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) else { return };
        for field in ["username", "uid", "groups", "extra"] {
            spec.remove(field);
        }
        let user = self.user;
        spec.insert("username".into(), user.name.as_str().into());
        if !user.uid.is_empty() {
            spec.insert("uid".into(), user.uid.as_str().into());
        }
        if !user.groups.is_empty() {
            spec.insert("groups".into(), user.groups.clone().into());
        }
        if !user.extra.is_empty() {
            spec.insert("extra".into(), serde_json::json!(user.extra));
        }
    }

    /// The system's own fields of a new object, and the checks of those that the path says too.
    fn prepare_identity(&self, value: &mut Value) -> Result<(), ApiError> {
        if !meta::resource_version(value).is_empty() {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        self.check_namespace(value)?;
        if !self.info.name.is_empty() {
            meta::set_name(value, &self.info.name);
        }
        remove_deletion(value);
        meta::set_uid(value, &uuid::Uuid::new_v4().to_string());
        meta::set_creation_timestamp(value, &time::now_rfc3339());
        Ok(())
    }

    /// Fills the namespace from the path, or finds that the body says another.
    pub fn check_namespace(&self, value: &mut Value) -> Result<(), ApiError> {
        if !self.served.resource.namespaced {
            meta::metadata_mut(value).remove("namespace");
            return Ok(());
        }
        match meta::namespace(value) {
            "" => meta::set_namespace(value, &self.info.namespace),
            namespace if namespace != self.info.namespace => {
                return Err(ApiError::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            _ => {}
        }
        Ok(())
    }
}
