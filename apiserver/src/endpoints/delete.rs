//! Delete and deletecollection: grace periods, finalizers, propagation, preconditions.
//!
//! Kubernetes documentation, "Garbage collection", "Finalizers", "Pod lifecycle: termination".

use std::sync::Arc;

use apimachinery::codec::{self, FieldValidation, MediaType};
use apimachinery::field::{Error, Path};
use apimachinery::schema::Schema;
use apimachinery::status::{Details, Status};
use apimachinery::time::Moment;
use apimachinery::{ApiError, meta};
use apiserver_admission::Operation;
use apiserver_storage::Object;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use super::read;
use super::write::{Call, Change, Modified, is_released};
use crate::negotiate::{self, Encoding};
use crate::selection::Selection;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// What `propagationPolicy` may say.
const PROPAGATIONS: [&str; 3] = ["Background", "Foreground", "Orphan"];
/// How many objects of a collection are deleted at once.
const COLLECTION_WORKERS: usize = 8;
/// Resources whose delete answers with the object instead of a `Status`.
const ANSWERS_WITH_OBJECT: &[&str] = &[
    "pods",
    "podtemplates",
    "namespaces",
    "services",
    "serviceaccounts",
    "persistentvolumes",
    "persistentvolumeclaims",
    "resourcequotas",
    "storageclasses",
    "volumeattachments",
    "volumeattributesclasses",
    "csidrivers",
    "csinodes",
];

/// `DeleteOptions`, from the body and the query.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub grace_period: Option<i64>,
    pub propagation: Option<String>,
    pub orphan: Option<bool>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    value: Value,
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

impl Options {
    /// Options from a `DeleteOptions` object.
    pub fn from_value(value: Value) -> Self {
        Options {
            grace_period: value["gracePeriodSeconds"].as_i64(),
            propagation: text(&value["propagationPolicy"]),
            orphan: value["orphanDependents"].as_bool(),
            uid: text(&value["preconditions"]["uid"]),
            resource_version: text(&value["preconditions"]["resourceVersion"]),
            value,
        }
    }

    fn check(&self) -> Result<(), ApiError> {
        let path = Path::new("propagationPolicy");
        let mut errors = Vec::new();
        match &self.propagation {
            Some(policy) if self.orphan.is_some() => {
                let detail = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(Error::invalid(&path, policy.clone(), detail));
            }
            Some(policy) if !PROPAGATIONS.contains(&policy.as_str()) => {
                errors.push(Error::not_supported(&path, policy.as_str(), &PROPAGATIONS));
            }
            _ => {}
        }
        for mode in self.value["dryRun"].as_array().into_iter().flatten().filter(|mode| *mode != "All") {
            errors.push(Error::not_supported(&Path::new("dryRun"), mode.as_str().unwrap_or_default(), &["All"]));
        }
        if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &errors)) }
    }
}

/// What a delete came to.
pub enum Deleted {
    /// The object is gone; its last state.
    Gone(Arc<Object>),
    /// The object is marked, and goes when its grace period is over or its finalizers are done.
    Pending(Arc<Object>),
}

impl Deleted {
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Deleted::Gone(object) | Deleted::Pending(object) => object,
        }
    }
}

impl Call<'_> {
    /// The options of a delete.
    pub fn delete_options(&self, body: &[u8]) -> Result<Options, ApiError> {
        let mut options =
            if body.is_empty() { Options::default() } else { Options::from_value(self.decode_options(body)?) };
        if body.is_empty() {
            options.grace_period = match self.query.get("gracePeriodSeconds") {
                "" => None,
                text => Some(
                    text.parse().map_err(|_| ApiError::bad_request(format!("invalid gracePeriodSeconds {text:?}")))?,
                ),
            };
            options.propagation =
                Some(self.query.get("propagationPolicy").to_owned()).filter(|policy| !policy.is_empty());
            options.orphan = self.query.has("orphanDependents").then(|| self.query.flag("orphanDependents"));
            options.value = self.query_options(&options);
        }
        options.check()?;
        Ok(options)
    }

    /// The options of a query as the object that they could have been.
    fn query_options(&self, options: &Options) -> Value {
        let dry_run: Vec<&str> = self.query.all("dryRun").filter(|mode| !mode.is_empty()).collect();
        let fields = [
            ("gracePeriodSeconds", options.grace_period.map(Value::from)),
            ("propagationPolicy", options.propagation.clone().map(Value::from)),
            ("orphanDependents", options.orphan.map(Value::from)),
            ("dryRun", (!dry_run.is_empty()).then(|| dry_run.into())),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(given.collect())
    }

    fn decode_options(&self, body: &[u8]) -> Result<Value, ApiError> {
        let schema = Schema::builtin();
        let ty = schema.type_for_kind("meta.k8s.io/v1", "DeleteOptions");
        let ty = ty.ok_or_else(|| ApiError::internal("the table lacks DeleteOptions"))?;
        let media = match negotiate::body_encoding(self.headers)? {
            Encoding::Json => MediaType::Json,
            Encoding::Yaml => MediaType::Yaml,
            Encoding::Protobuf => MediaType::Protobuf,
        };
        codec::decode_object(schema, ty, media, body, FieldValidation::Ignore).map(|decoded| decoded.value)
    }

    /// Whether a delete is a trial, by its query or its body.
    pub fn delete_dry_run(&self, options: &Options) -> Result<bool, ApiError> {
        let in_body = options.value["dryRun"].as_array().is_some_and(|all| all.iter().any(|one| one == "All"));
        Ok(in_body || self.dry_run()?)
    }

    /// Deletes one object.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when a precondition does not hold; what admission says.
    pub async fn delete(&self, name: &str, options: &Options) -> Result<Deleted, ApiError> {
        let dry_run = self.delete_dry_run(options)?;
        let change = |current: Arc<Object>| async move {
            let old = current.to_value();
            self.check_preconditions(&current, &old, options)?;
            // What an eviction does has been admitted as an eviction.
            if self.info.subresource.is_empty() {
                let attributes = self.attributes(Operation::Delete, name, &options.value, dry_run);
                self.server.admission.admit(&attributes, &mut Value::Null, Some(&old)).await?;
                self.warnings.add(self.server.admission.validate(&attributes, None, Some(&old)).await?);
            }
            self.plan_delete(old, options)
        };
        let Modified { object, deleted } = self.modify(name, dry_run, change).await?;
        if !deleted {
            return Ok(Deleted::Pending(object));
        }
        if !dry_run {
            self.server.allocators.deleted(self, &object).await;
        }
        Ok(Deleted::Gone(object))
    }

    fn check_preconditions(&self, current: &Object, old: &Value, options: &Options) -> Result<(), ApiError> {
        let conflict = |what: &str, wanted: &str, found: &str| {
            let detail =
                format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
            Err(ApiError::conflict(self.group(), self.plural(), current.name(), &detail))
        };
        match &options.uid {
            Some(uid) if uid != meta::uid(old) => return conflict("UID", uid, meta::uid(old)),
            _ => {}
        }
        match &options.resource_version {
            Some(version) if *version != current.revision.to_string() => {
                conflict("ResourceVersion", version, &current.revision.to_string())
            }
            _ => Ok(()),
        }
    }

    /// What a delete does to an object: marks it, or removes it. Pure but for the clock.
    fn plan_delete(&self, mut object: Value, options: &Options) -> Result<Change<'static>, ApiError> {
        if self.group().is_empty() && self.plural() == "namespaces" {
            return self.plan_namespace(object);
        }
        if meta::deletion_timestamp(&object).is_none() {
            self.served.strategy.begin_deletion(&mut object, &Moment::now().to_seconds());
        }
        let finalizers = self.finalizers(&object, options);
        let changed = !finalizers.iter().map(String::as_str).eq(meta::finalizers(&object));
        let grace = self.served.strategy.graceful_deletion(&object, options.grace_period);
        let marked = meta::deletion_timestamp(&object).is_some();
        if let Some(grace) = grace.filter(|grace| *grace > 0) {
            if marked && meta::deletion_grace_period_seconds(&object).is_some_and(|left| left <= grace) && !changed {
                return Ok(object.into());
            }
            mark(&mut object, grace);
            meta::set_finalizers(&mut object, finalizers);
            return Ok(object.into());
        }
        if finalizers.is_empty() {
            return Ok(Change::Delete);
        }
        if !marked || meta::deletion_grace_period_seconds(&object) != Some(0) {
            mark(&mut object, 0);
        }
        meta::set_finalizers(&mut object, finalizers);
        Ok(object.into())
    }

    /// A namespace goes through the phase Terminating, until its content is gone and its finalizers are done.
    fn plan_namespace(&self, mut object: Value) -> Result<Change<'static>, ApiError> {
        if meta::deletion_timestamp(&object).is_some() {
            if is_released(&object) {
                return Ok(Change::Delete);
            }
            let detail = "The system is ensuring all content is removed from this namespace.  Upon completion, this \
                          namespace will automatically be purged by the system.";
            return Err(ApiError::conflict(self.group(), self.plural(), meta::name(&object), detail));
        }
        mark(&mut object, 0);
        meta::metadata_mut(&mut object).remove("deletionGracePeriodSeconds");
        object["status"]["phase"] = "Terminating".into();
        Ok(if is_released(&object) { Change::Delete } else { object.into() })
    }

    /// The finalizers that the object has after the delete: what the propagation policy adds and takes away.
    fn finalizers(&self, object: &Value, options: &Options) -> Vec<String> {
        let mut finalizers: Vec<String> = meta::finalizers(object).map(str::to_owned).collect();
        let wanted = match (options.propagation.as_deref(), options.orphan) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(ORPHAN),
            (Some("Foreground"), _) => Some(FOREGROUND),
            (Some("Background"), _) | (None, Some(false)) => None,
            _ if finalizers.iter().any(|f| f == ORPHAN) => Some(ORPHAN),
            _ if finalizers.iter().any(|f| f == FOREGROUND) => Some(FOREGROUND),
            _ => self.orphans_by_default().then_some(ORPHAN),
        };
        finalizers.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
        finalizers.extend(wanted.map(str::to_owned));
        finalizers
    }

    /// Kinds whose dependents stay when no policy is given, as in the versions they come from.
    fn orphans_by_default(&self) -> bool {
        matches!((self.group(), self.plural()), ("", "replicationcontrollers") | ("batch", "jobs"))
    }

    /// Deletes every selected object. The answer is the objects as they were.
    pub async fn delete_collection(&self, options: &Options) -> Result<read::List, ApiError> {
        let selection = Selection::of(self.served, self.info, self.query)?;
        let list = read::list(&self.server.store, &selection, self.query).await?;
        let deletes = futures::stream::iter(list.items.clone()).map(|object| self.delete_member(object, options));
        deletes.buffer_unordered(COLLECTION_WORKERS).try_collect::<Vec<()>>().await?;
        Ok(list)
    }

    async fn delete_member(&self, object: Arc<Object>, options: &Options) -> Result<(), ApiError> {
        let mut info = self.info.clone();
        info.namespace = object.namespace().to_owned();
        let call = Call { info: &info, warnings: Default::default(), admitted: Default::default(), ..*self };
        let deleted = call.delete(object.name(), options).await;
        self.warnings.add(call.warnings.take());
        match deleted {
            Err(error) if error.code() == 404 => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// What the client of a delete is told: the object, or a `Status`.
    pub fn delete_status(&self, deleted: &Deleted) -> Option<Status> {
        let Deleted::Gone(object) = deleted else { return None };
        if self.served.custom.is_none() && ANSWERS_WITH_OBJECT.contains(&self.plural()) {
            return None;
        }
        let uid = object.text(&["metadata", "uid"]).unwrap_or_default().into_owned();
        Some(Status {
            kind: "Status".into(),
            api_version: "v1".into(),
            status: "Success".into(),
            details: Some(Details {
                name: object.name().to_owned(),
                group: self.group().to_owned(),
                kind: self.plural().to_owned(),
                uid,
                ..Details::default()
            }),
            ..Status::default()
        })
    }
}

/// Marks an object as being deleted, with so many seconds to go.
fn mark(object: &mut Value, grace: i64) {
    let already = meta::deletion_timestamp(object).is_some();
    meta::set_deletion_timestamp(object, &in_seconds(grace));
    meta::set_deletion_grace_period_seconds(object, Some(grace));
    let generation = meta::generation(object);
    if !already && generation > 0 {
        meta::set_generation(object, generation + 1);
    }
}

/// The present and so many seconds, in RFC 3339.
fn in_seconds(seconds: i64) -> String {
    let now = Moment::now();
    Moment { seconds: now.seconds + seconds, ..now }.to_seconds()
}
