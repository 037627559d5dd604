//! What all writes have in common: reading the body, the system's own metadata fields, and the loop of read, change and
//! conditional write.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::codec::{self, FieldValidation, MediaType};
use apimachinery::field::{Error, Path};
use apimachinery::schema::{Schema, Type};
use apimachinery::{ApiError, Reason, meta, schema};
use apiserver_admission as admission;
use apiserver_auth::UserInfo;
use apiserver_auth::authorization::rbac::escalation;
use apiserver_storage::{Object, Written};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde_json::Value;

use crate::allocators::Allocation;
use crate::flowcontrol::Admitted;
use crate::negotiate::{self, Encoding};
use crate::request::{Query, RequestInfo};
use crate::served::Served;
use crate::server::Server;

/// How long events are kept (`--event-ttl`).
const EVENT_TTL: Duration = Duration::from_secs(3600);
/// How often a write is tried again when others write the same object.
const MAX_TRIES: usize = 32;

/// One authorized request for a resource.
pub struct Call<'a> {
    pub server: &'a Server,
    pub served: &'a Arc<Served>,
    pub info: &'a RequestInfo,
    pub query: &'a Query,
    pub headers: &'a HeaderMap,
    pub user: &'a UserInfo,
    pub warnings: Warnings,
    pub admitted: Mutex<Admitted>,
}

/// Warnings for the client, sent as `Warning` headers.
#[derive(Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    pub fn add(&self, warnings: impl IntoIterator<Item = String>) {
        self.0.lock().extend(warnings);
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

/// The result of a change: the object to write, with what was taken for it, or that it is to be deleted now.
pub enum Change<'a> {
    Write(Value, Option<Allocation<'a>>),
    Delete,
}

impl From<Value> for Change<'_> {
    fn from(value: Value) -> Self {
        Change::Write(value, None)
    }
}

/// Keeps what was taken for a write that was done, and gives it back otherwise.
pub async fn settle(allocation: Option<Allocation<'_>>, done: bool) {
    match allocation {
        Some(allocation) if done => allocation.keep().await,
        Some(allocation) => allocation.release().await,
        None => {}
    }
}

/// The object after a change, or its last state where the change was its end.
pub struct Modified {
    pub object: Arc<Object>,
    pub deleted: bool,
}

impl Call<'_> {
    pub fn group(&self) -> &str {
        &self.served.resource.group
    }

    pub fn plural(&self) -> &str {
        &self.served.resource.resource
    }

    pub fn key(&self, name: &str) -> String {
        self.served.key(&self.info.namespace, name)
    }

    pub fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(self.group(), self.plural(), name)
    }

    /// Whether nothing is to be stored.
    ///
    /// # Errors
    /// `Invalid` for anything but `All`.
    pub fn dry_run(&self) -> Result<bool, ApiError> {
        let mut any = false;
        for value in self.query.all("dryRun").filter(|value| !value.is_empty()) {
            if value != "All" {
                return Err(self.invalid_option(Error::not_supported(&Path::new("dryRun"), value, &["All"])));
            }
            any = true;
        }
        Ok(any)
    }

    /// How unknown fields are treated (`fieldValidation`).
    pub fn field_validation(&self) -> Result<FieldValidation, ApiError> {
        let text = self.query.get("fieldValidation");
        FieldValidation::parse(text).ok_or_else(|| {
            let supported = ["Ignore", "Strict", "Warn"];
            self.invalid_option(Error::not_supported(&Path::new("fieldValidation"), text, &supported))
        })
    }

    /// `Invalid`, for an option of the request.
    pub fn invalid_option(&self, error: Error) -> ApiError {
        let kind = match self.info.verb {
            "create" => "CreateOptions",
            "update" => "UpdateOptions",
            "patch" => "PatchOptions",
            _ => "DeleteOptions",
        };
        ApiError::invalid("meta.k8s.io", kind, "", &[error])
    }

    /// Reads the body as an object of the type.
    pub fn decode(&self, ty: &Type, body: &[u8]) -> Result<Value, ApiError> {
        let media = match negotiate::body_encoding(self.headers)? {
            Encoding::Json => MediaType::Json,
            Encoding::Yaml => MediaType::Yaml,
            Encoding::Protobuf if ty.published.is_some() => {
                return Err(ApiError::unsupported_media_type(&["application/json", "application/yaml"]));
            }
            Encoding::Protobuf => MediaType::Protobuf,
        };
        let decoded = codec::decode_object(Schema::builtin(), ty, media, body, self.field_validation()?)?;
        self.warnings.add(decoded.warnings);
        Ok(decoded.value)
    }

    /// Brings an object that was patched to normal form.
    pub fn conform(&self, value: Value) -> Result<Value, ApiError> {
        let conformed = codec::conform(&self.served.resource.ty, value, self.field_validation()?)?;
        self.warnings.add(conformed.warnings);
        Ok(conformed.value)
    }

    /// The object in its stored version, with defaults.
    pub fn internalize(&self, value: Value) -> Value {
        let mut value = match &self.served.conversion {
            Some(conversion) => conversion.to_stored(value),
            None => value,
        };
        schema::apply_defaults(self.stored_type(), &mut value);
        self.served.strategy.default(&mut value);
        value
    }

    /// A stored object in the version that its strategy knows.
    pub fn for_strategy<'v>(&self, value: &'v Value) -> Cow<'v, Value> {
        match &self.served.conversion {
            Some(conversion) if conversion.is_checked_as_served() => Cow::Owned(conversion.to_served(value.clone())),
            _ => Cow::Borrowed(value),
        }
    }

    /// Lets the strategy change a stored object, in the version that the strategy knows.
    pub fn with_strategy(&self, value: &mut Value, change: impl FnOnce(&mut Value)) {
        match &self.served.conversion {
            Some(conversion) if conversion.is_checked_as_served() => {
                let mut served = conversion.to_served(value.take());
                change(&mut served);
                *value = conversion.to_stored(served);
            }
            _ => change(value),
        }
    }

    /// The type that the object is stored in.
    pub fn stored_type(&self) -> &Type {
        &self.served.stored_type
    }

    /// What admission is told about the request.
    pub fn attributes<'b>(
        &'b self,
        operation: admission::Operation,
        name: &'b str,
        options: &'b Value,
        dry_run: bool,
    ) -> admission::Attributes<'b> {
        admission::Attributes {
            operation,
            resource: &self.served.resource,
            subresource: &self.info.subresource,
            namespace: &self.info.namespace,
            name,
            user: self.user,
            dry_run,
            options,
            request: self,
        }
    }

    /// Whether the user may give the rights that a role or binding would give (Kubernetes documentation, "Using RBAC
    /// Authorization", privilege escalation prevention).
    pub fn check_escalation(&self, value: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        if self.group() != "rbac.authorization.k8s.io" {
            return Ok(());
        }
        let authorizer = &*self.server.authorizer;
        match self.plural() {
            "roles" | "clusterroles" => escalation::check_role(authorizer, self.user, value, old),
            _ => escalation::check_binding(authorizer, &self.server.rbac, self.user, value),
        }
    }

    /// `Invalid`, when there are errors.
    pub fn check(&self, name: &str, errors: Vec<apimachinery::field::Error>) -> Result<(), ApiError> {
        if errors.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(self.group(), &self.served.resource.kind, name, &errors))
    }

    /// How long the object lives, for those that expire.
    pub fn ttl(&self) -> Option<Duration> {
        (self.served.custom.is_none() && self.plural() == "events").then_some(EVENT_TTL)
    }

    /// The object as it is now: from the cache, or from etcd when the cache does not have it (yet).
    pub async fn current(&self, name: &str) -> Result<Arc<Object>, ApiError> {
        self.find(name).await?.ok_or_else(|| self.not_found(name))
    }

    async fn find(&self, name: &str) -> Result<Option<Arc<Object>>, ApiError> {
        let key = self.key(name);
        match self.server.store.cache().get(&key) {
            Some(object) => Ok(Some(object)),
            None => Ok(self.server.store.get_from_etcd(&key).await?),
        }
    }

    /// Reads the object, changes it, and writes it if nobody else has meanwhile; else does it again.
    ///
    /// `change` gets the object as it stands and must not have effects of its own. When it refuses an object that came from
    /// the cache, it is asked again with the one in etcd, if that is another one: the cache may be behind.
    pub async fn modify<'a, F, C>(&'a self, name: &str, dry_run: bool, change: F) -> Result<Modified, ApiError>
    where
        F: Fn(Arc<Object>) -> C,
        C: Future<Output = Result<Change<'a>, ApiError>> + Send,
    {
        self.modify_found(name, dry_run, change).await?.ok_or_else(|| self.not_found(name))
    }

    /// As [`Call::modify`]; none where there is no object.
    async fn modify_found<'a, F, C>(
        &'a self,
        name: &str,
        dry_run: bool,
        change: F,
    ) -> Result<Option<Modified>, ApiError>
    where
        F: Fn(Arc<Object>) -> C,
        C: Future<Output = Result<Change<'a>, ApiError>> + Send,
    {
        let Some(mut current) = self.find(name).await? else { return Ok(None) };
        let mut fresh = false;
        for _ in 0..MAX_TRIES {
            let changed = change(current.clone()).await;
            let deleted = matches!(changed, Ok(Change::Delete));
            let written = match changed {
                Err(error) if fresh => return Err(error),
                Err(error) => match self.overtaken(&current).await? {
                    Some(read) => Written::Conflict(read),
                    None => return Err(error),
                },
                Ok(Change::Write(value, allocation)) => {
                    let written = self.write(&current, value, fresh, dry_run).await;
                    settle(allocation, matches!(written, Ok(Written::Done(_)))).await;
                    written?
                }
                Ok(Change::Delete) if dry_run => self.unwritten(&current, current.clone(), fresh).await?,
                Ok(Change::Delete) => self.server.store.delete(&current).await?,
            };
            match written {
                Written::Done(object) => return Ok(Some(Modified { object, deleted })),
                Written::Conflict(Some(object)) => (current, fresh) = (object, true),
                Written::Conflict(None) => return Ok(None),
            }
        }
        Err(ApiError::modified(self.group(), self.plural(), name))
    }

    /// Changes the object, or creates it where there is none, for which the user needs the right. Somebody else may create or
    /// delete it meanwhile: then it is the other of the two.
    pub async fn modify_or_create<'a, F, C, N>(
        &'a self,
        dry_run: bool,
        change: F,
        create: impl Fn() -> N,
    ) -> Result<(StatusCode, Arc<Object>), ApiError>
    where
        F: Fn(Arc<Object>) -> C,
        C: Future<Output = Result<Change<'a>, ApiError>> + Send,
        N: Future<Output = Result<Arc<Object>, ApiError>> + Send,
    {
        let name = &self.info.name;
        for _ in 0..MAX_TRIES {
            if let Some(modified) = self.modify_found(name, dry_run, &change).await? {
                return Ok((StatusCode::OK, modified.object));
            }
            self.server.check_right(self.user, self.info, "create")?;
            match create().await {
                Err(error) if error.is(Reason::AlreadyExists) => {}
                created => return Ok((StatusCode::CREATED, created?)),
            }
        }
        Err(ApiError::modified(self.group(), self.plural(), name))
    }

    /// Writes a changed object, unless it is the same or this is a trial.
    async fn write(
        &self,
        current: &Arc<Object>,
        value: Value,
        fresh: bool,
        dry_run: bool,
    ) -> Result<Written, ApiError> {
        let json = to_stored(value)?;
        if json == current.stored() {
            return self.unwritten(current, current.clone(), fresh).await;
        }
        if dry_run {
            return self.unwritten(current, dry(&current.key, &json, current.revision)?, fresh).await;
        }
        Ok(self.server.store.update(&current.key, json, current.revision, self.ttl()).await?)
    }

    /// The outcome of a change that nothing is written for. No write has compared its object with the one in etcd then, behind which
    /// the cache may be.
    async fn unwritten(&self, current: &Arc<Object>, outcome: Arc<Object>, fresh: bool) -> Result<Written, ApiError> {
        if fresh {
            return Ok(Written::Done(outcome));
        }
        Ok(self.overtaken(current).await?.map_or(Written::Done(outcome), Written::Conflict))
    }

    /// What is in etcd, where it is not what the cache had.
    async fn overtaken(&self, current: &Object) -> Result<Option<Option<Arc<Object>>>, ApiError> {
        let read = self.server.store.get_from_etcd(&current.key).await?;
        let same = read.as_ref().is_some_and(|read| read.revision == current.revision);
        Ok((!same).then_some(read))
    }
}

/// An object that was not stored, as it would have been.
pub fn dry(key: &str, json: &[u8], revision: i64) -> Result<Arc<Object>, ApiError> {
    Object::new(key.into(), json, revision).map(Arc::new).map_err(ApiError::internal)
}

/// The bytes to store: the object without `resourceVersion` and `selfLink`.
pub fn to_stored(mut value: Value) -> Result<Vec<u8>, ApiError> {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
    }
    serde_json::to_vec(&value).map_err(ApiError::internal)
}

/// Whether an object that is being deleted has nothing left that holds it.
pub fn is_released(value: &Value) -> bool {
    let deleting = meta::deletion_timestamp(value).is_some();
    let grace = value["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let spec_finalizers =
        value["kind"] == "Namespace" && value["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    deleting && grace == 0 && meta::finalizers(value).next().is_none() && !spec_finalizers
}
