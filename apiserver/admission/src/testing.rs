//! A cluster state and requests for unit tests.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use apimachinery::ApiError;
use apimachinery::schema::{Resource, Schema};
use apiserver_auth::UserInfo;
use apiserver_storage::reader::{Change, GroupResource, Observer, Reader};
use async_trait::async_trait;
use parking_lot::RwLock;
use serde_json::Value;

use crate::attributes::{Form, Name, Request};
use crate::writer::Outcome;
use crate::{Attributes, Operation, Plugin, Writer};

static NOBODY: LazyLock<UserInfo> = LazyLock::new(UserInfo::default);
static NULL: Value = Value::Null;

/// What a request knows whose objects have these other forms too, which differ in the version only; its client is told nothing.
pub(crate) struct Forms(pub Vec<Form>);

static PLAIN: Forms = Forms(Vec::new());

/// A form of a group and version, with a kind and a resource.
pub(crate) fn form(group: &str, version: &str, kind: &str, resource: &str) -> Form {
    let name = |name: &str| Name { group: group.to_owned(), version: version.to_owned(), name: name.to_owned() };
    Form { kind: name(kind), resource: name(resource) }
}

impl Request for Forms {
    fn other_forms(&self) -> Vec<Form> {
        self.0.clone()
    }

    fn resource(&self, form: &Form) -> Option<Arc<Resource>> {
        let Name { group, version, name } = &form.resource;
        Schema::builtin().resource(group, version, name).cloned()
    }

    fn show(&self, stored: &Value, form: &Form) -> Value {
        let mut shown = stored.clone();
        if self.0.contains(form) {
            shown["apiVersion"] = format!("{}/{}", form.kind.group, form.kind.version).into();
        }
        shown
    }

    fn take(&self, mut shown: Value, form: &Form, stored: &Value) -> Result<Value, ApiError> {
        if self.0.contains(form) {
            shown["apiVersion"] = stored["apiVersion"].clone();
        }
        Ok(shown)
    }

    fn options(&self, _: Operation) -> Value {
        Value::Null
    }

    fn warn(&self, _: String) {}
}

/// A request on a resource of version v1, in the namespace `dev` where it has one, by nobody in particular.
pub(crate) fn attributes(operation: Operation, group: &str, resource: &str) -> Attributes<'static> {
    let resource = Schema::builtin().resource(group, "v1", resource).expect("a resource");
    Attributes {
        operation,
        resource,
        subresource: "",
        namespace: if resource.namespaced { "dev" } else { "" },
        name: "",
        user: &NOBODY,
        dry_run: false,
        options: &NULL,
        request: &PLAIN,
    }
}

/// What the plugin makes of the object, if it passes both halves.
pub(crate) async fn admit(plugin: &dyn Plugin, a: &Attributes<'_>, mut object: Value) -> Result<Value, ApiError> {
    if plugin.handles(a) {
        plugin.admit(a, &mut object, None).await?;
        plugin.validate(a, Some(&object), None).await?;
    }
    Ok(object)
}

/// Tells an observer of a new object.
pub(crate) fn observe(observer: &dyn Observer, resource: GroupResource<'_>, object: &Value) {
    observer.observe(&Change {
        resource,
        namespace: apimachinery::meta::namespace(object),
        name: apimachinery::meta::name(object),
        old: None,
        new: Some(Arc::new(object.clone())),
    });
}

type Key = (String, String, String);

/// Objects by resource (with its group, as `deployments.apps`), namespace and name.
#[derive(Default)]
pub(crate) struct State(RwLock<BTreeMap<Key, Arc<Value>>>);

impl State {
    pub(crate) fn put(&self, resource: &str, object: Value) {
        let part = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
        let key = (resource.to_owned(), part("namespace"), part("name"));
        self.0.write().insert(key, Arc::new(object));
    }
}

/// Writes count up the `resourceVersion`; every other task runs before each.
#[async_trait]
impl Writer for State {
    async fn write(&self, resource: GroupResource<'_>, object: &Value) -> Result<Outcome, ApiError> {
        tokio::task::yield_now().await;
        let (namespace, name) = (apimachinery::meta::namespace(object), apimachinery::meta::name(object));
        let current = self.get(resource, namespace, name);
        let version = |object: &Value| apimachinery::meta::resource_version(object).to_owned();
        if current.as_deref().map(version).unwrap_or_default() != version(object) {
            return Ok(Outcome::Conflict(current));
        }
        let mut object = object.clone();
        let next = version(&object).parse::<u64>().unwrap_or(0) + 1;
        apimachinery::meta::set_resource_version(&mut object, &next.to_string());
        self.put(&qualified(resource), object.clone());
        Ok(Outcome::Done(Arc::new(object)))
    }
}

fn qualified(resource: GroupResource<'_>) -> String {
    match resource.group {
        "" => resource.resource.to_owned(),
        group => format!("{}.{group}", resource.resource),
    }
}

#[async_trait]
impl Reader for State {
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0.read().get(&(qualified(resource), namespace.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, resource: GroupResource<'_>, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let resource = qualified(resource);
        let matches = |key: &Key| key.0 == resource && namespace.is_none_or(|namespace| key.1 == namespace);
        self.0.read().iter().filter(|(key, _)| matches(key)).map(|(_, object)| Arc::clone(object)).collect()
    }

    async fn get_consistent(
        &self,
        resource: GroupResource<'_>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, ApiError> {
        Ok(self.get(resource, namespace, name))
    }
}
