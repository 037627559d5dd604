//! CustomResourceDefinitions at work: each one that is established is served, from the moment that its clients can know of it.
//!
//! [`Definitions`] is told of every change of a definition before readers see it, and publishes what it makes. [`run`] decides
//! nothing about serving: it writes the definitions' status, and deletes the objects of those that are being deleted.

mod controller;

use std::collections::BTreeMap;
use std::sync::Arc;

use apiserver_registry::custom::{self, Definition};
use apiserver_storage::reader::{Change, GroupResource, Observer};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::conversion::custom::Types;
use crate::served::{Made, Resources, Served};

pub use controller::run;

/// The resource of definitions.
const RESOURCE: GroupResource<'static> = GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions");

/// A definition, and what is made of it.
#[derive(Clone)]
struct Known {
    object: Arc<Value>,
    /// The revision that its present spec is known from.
    since: i64,
    made: Option<Arc<Compiled>>,
}

/// What is made of an established definition.
struct Compiled {
    /// The versions that are served.
    served: Vec<Arc<Served>>,
    /// The version that is stored, served or not.
    stored: Option<Arc<Served>>,
    /// Ends the watches of its objects.
    end: CancellationToken,
}

/// Every definition there is.
pub struct Definitions {
    resources: Arc<Resources>,
    shutdown: CancellationToken,
    known: Mutex<BTreeMap<String, Known>>,
    changed: Notify,
}

/// Everything of a definition that decides how its objects are served.
fn decisive(definition: &Value) -> [&Value; 3] {
    let status = &definition["status"];
    [&definition["spec"], &status["acceptedNames"], &definition["metadata"]["deletionTimestamp"]]
}

impl Definitions {
    /// No definitions yet; the cache shows those that there are.
    pub fn new(resources: Arc<Resources>, shutdown: CancellationToken) -> Self {
        Definitions { resources, shutdown, known: Mutex::default(), changed: Notify::new() }
    }

    fn objects(&self) -> Vec<Arc<Value>> {
        self.known.lock().values().map(|known| known.object.clone()).collect()
    }

    /// The stored form of a definition's objects.
    fn stored(&self, name: &str) -> Option<Arc<Served>> {
        self.known.lock().get(name)?.made.as_ref()?.stored.clone()
    }

    fn make(&self, object: &Arc<Value>, old: Option<&Known>) -> Known {
        let revision = object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
        let since = old.filter(|old| old.object["spec"] == object["spec"]).map_or(revision, |old| old.since);
        let reusable = old.filter(|old| decisive(&old.object) == decisive(object)).and_then(|old| old.made.clone());
        let made = custom::is_true(object, "Established")
            .then(|| reusable.unwrap_or_else(|| Arc::new(self.compile(object, since))));
        Known { object: object.clone(), since, made }
    }

    fn compile(&self, object: &Value, since: i64) -> Compiled {
        let definition = Definition::of(object);
        let types: Types = Arc::new(
            definition
                .versions
                .iter()
                .map(|version| (version.resource.api_version(), version.resource.ty.clone()))
                .collect(),
        );
        let end = self.shutdown.child_token();
        let made =
            Made { types, since, stored: definition.storage, terminating: definition.terminating, end: end.clone() };
        let all: Vec<Arc<Served>> =
            definition.versions.into_iter().map(|version| Arc::new(Served::custom(Arc::new(version), &made))).collect();
        let is_served = |served: &&Arc<Served>| served.custom.as_ref().is_some_and(|custom| custom.version.served);
        Compiled {
            served: all.iter().filter(is_served).cloned().collect(),
            stored: all.into_iter().find(|served| served.resource.version == made.stored),
            end,
        }
    }
}

impl Observer for Definitions {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        &[RESOURCE]
    }

    fn observe(&self, change: &Change<'_>) {
        let mut known = self.known.lock();
        let old = known.remove(change.name);
        if let Some(object) = &change.new {
            known.insert(change.name.to_owned(), self.make(object, old.as_ref()));
        }
        let before = old.and_then(|old| old.made);
        let after = known.get(change.name).and_then(|known| known.made.clone());
        if before.as_ref().map(Arc::as_ptr) != after.as_ref().map(Arc::as_ptr) {
            let made = known.values().filter_map(|known| known.made.as_ref());
            self.resources.publish(made.flat_map(|made| made.served.iter().cloned()).collect());
            // Watches go on with what was made before: they end, and their clients list again.
            if let Some(before) = before {
                before.end.cancel();
            }
        }
        drop(known);
        self.changed.notify_one();
    }
}
