//! The resources that are served: a row of the API's table with where its objects are stored and what is special about it.
//!
//! The built-in ones are there from the start. Custom resources come and go with their definitions: what is served of them is
//! one immutable set, which is replaced as a whole. A request for a built-in resource does not look at it.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use apimachinery::managed_fields::Versions;
use apimachinery::schema::{Resource, Schema, Type};
use apiserver_registry::Strategy;
use apiserver_registry::custom::Version;
use apiserver_storage::keys;
use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::conversion::custom::Types;
use crate::conversion::{self, Conversion};
use crate::discovery::Discovery;
use crate::openapi::Documents;
use crate::selection::SelectableField;

/// The strategy of a resource.
pub enum Behaviour {
    Builtin(&'static dyn Strategy),
    Custom(Arc<Version>),
}

impl Deref for Behaviour {
    type Target = dyn Strategy;

    fn deref(&self) -> &Self::Target {
        match self {
            Behaviour::Builtin(strategy) => *strategy,
            Behaviour::Custom(version) => &version.strategy,
        }
    }
}

/// What only custom resources have.
pub struct Custom {
    pub version: Arc<Version>,
    pub fields: Vec<Arc<SelectableField>>,
    /// Whether the definition is being deleted: nothing new may be created.
    pub terminating: bool,
    /// Ends watches: the definition is another now, or gone.
    pub end: CancellationToken,
}

/// One resource in one version.
pub struct Served {
    pub resource: Arc<Resource>,
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// The prefix of its keys, with a slash at the end.
    pub prefix: String,
    pub strategy: Behaviour,
    /// How its version differs from the stored one.
    pub conversion: Option<Box<dyn Conversion>>,
    /// The type that its objects are stored in.
    pub stored_type: Arc<Type>,
    /// All of its versions, where there is more than one.
    pub versions: Option<Box<dyn Versions + Send + Sync>>,
    pub custom: Option<Custom>,
}

impl Served {
    fn builtin(resource: &Arc<Resource>) -> Self {
        let (group, plural) = conversion::storage(&resource.group, &resource.resource);
        let conversion = conversion::of(resource);
        let stored = conversion.as_ref().and_then(|_| conversion::stored_row(resource)).unwrap_or(resource);
        Served {
            api_version: resource.api_version(),
            prefix: keys::builtin_prefix(group, plural),
            strategy: Behaviour::Builtin(apiserver_registry::strategy(&resource.group, &resource.resource)),
            conversion,
            stored_type: stored.ty.clone(),
            versions: conversion::forms(resource),
            resource: resource.clone(),
            custom: None,
        }
    }

    /// The key of an object. A request for a Namespace itself carries its name as namespace too.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if namespace.is_empty() || !self.resource.namespaced {
            format!("{}{name}", self.prefix)
        } else {
            format!("{}{namespace}/{name}", self.prefix)
        }
    }

    /// The kind of its lists.
    pub fn list_kind(&self) -> String {
        match &self.custom {
            Some(custom) => custom.version.list_kind.clone(),
            None => format!("{}List", self.resource.kind),
        }
    }

    /// All versions that managed fields may name.
    pub fn versions(&self) -> &dyn Versions {
        match &self.versions {
            Some(versions) => &**versions,
            None => &*self.resource.ty,
        }
    }
}

/// What the versions of a definition have in common.
pub struct Made {
    pub types: Types,
    pub since: i64,
    /// The name of the stored version.
    pub stored: String,
    pub terminating: bool,
    pub end: CancellationToken,
}

impl Served {
    /// One version of a custom resource.
    pub fn custom(version: Arc<Version>, made: &Made) -> Self {
        let resource = version.resource.clone();
        let api_version = resource.api_version();
        let stored = format!("{}/{}", resource.group, made.stored);
        let conversion = conversion::custom::Custom {
            types: made.types.clone(),
            served: api_version.clone(),
            stored: stored.clone(),
            since: made.since,
        };
        let versions = conversion::custom::AllVersions(made.types.clone());
        Served {
            prefix: keys::custom_prefix(&resource.group, &resource.resource),
            stored_type: made.types.get(&stored).unwrap_or(&resource.ty).clone(),
            strategy: Behaviour::Custom(version.clone()),
            conversion: Some(Box::new(conversion)),
            versions: Some(Box::new(versions)),
            custom: Some(Custom {
                fields: version.fields.iter().map(|path| Arc::new(SelectableField::custom(path))).collect(),
                terminating: made.terminating,
                end: made.end.clone(),
                version,
            }),
            api_version,
            resource,
        }
    }
}

/// Resources by their paths.
#[derive(Default)]
struct Set {
    all: Vec<Arc<Served>>,
    by_path: HashMap<String, Arc<Served>>,
}

fn path(group: &str, version: &str, resource: &str) -> String {
    format!("{group}/{version}/{resource}")
}

impl Set {
    fn new(all: Vec<Arc<Served>>) -> Self {
        let by_path = all.iter().map(|served| {
            let row = &served.resource;
            (path(&row.group, &row.version, &row.resource), served.clone())
        });
        Set { by_path: by_path.collect(), all }
    }
}

/// The custom resources that are served at one moment, and the documents that tell of everything that is.
pub struct Published {
    builtin: Arc<Set>,
    custom: Set,
    discovery: OnceLock<Discovery>,
    pub openapi: Documents,
}

impl Published {
    fn new(builtin: Arc<Set>, custom: Vec<Arc<Served>>, openapi: Documents) -> Self {
        Published { builtin, custom: Set::new(custom), discovery: OnceLock::new(), openapi }
    }

    /// Every resource: the built-in ones in the table's order, then the custom ones.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.builtin.all.iter().chain(&self.custom.all)
    }

    /// The built-in resources alone.
    pub fn builtin(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.builtin.all.iter()
    }

    /// The custom resources alone.
    pub fn custom(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.custom.all.iter()
    }

    /// The discovery documents, made when they are first asked for.
    pub fn discovery(&self) -> &Discovery {
        self.discovery.get_or_init(|| Discovery::new(self.iter()))
    }
}

/// Every served resource.
pub struct Resources {
    builtin: Arc<Set>,
    published: ArcSwap<Published>,
}

impl Resources {
    /// The built-in resources of generally available versions.
    pub fn builtin() -> Self {
        let rows = Schema::builtin().resources().iter().filter(|resource| resource.is_ga());
        let builtin = Arc::new(Set::new(rows.map(|resource| Arc::new(Served::builtin(resource))).collect()));
        let published = Published::new(builtin.clone(), Vec::new(), Documents::default());
        Resources { published: ArcSwap::from_pointee(published), builtin }
    }

    /// The resource of a path.
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Served>> {
        let path = path(group, version, resource);
        self.builtin.by_path.get(&path).cloned().or_else(|| self.published.load().custom.by_path.get(&path).cloned())
    }

    /// A built-in resource that the server itself uses.
    pub fn builtin_resource(&self, group: &str, resource: &str) -> &Arc<Served> {
        let found = self.builtin.all.iter().find(|s| s.resource.group == group && s.resource.resource == resource);
        found.expect("the server only asks for resources of its own table")
    }

    /// What is served now.
    pub fn published(&self) -> Arc<Published> {
        self.published.load_full()
    }

    /// Replaces the custom resources.
    pub fn publish(&self, custom: Vec<Arc<Served>>) {
        let openapi = self.published.load().openapi.successor();
        self.published.store(Arc::new(Published::new(self.builtin.clone(), custom, openapi)));
    }
}
