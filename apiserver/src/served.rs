//! The resources that are served: a row of the API's table with where its objects are stored and what is special about it.

use std::collections::HashMap;
use std::sync::Arc;

use apimachinery::schema::{Resource, Schema};
use apiserver_registry::Strategy;
use apiserver_storage::keys;

use crate::conversion::{self, Conversion};

/// One resource in one version.
pub struct Served {
    pub resource: Arc<Resource>,
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// The prefix of its keys, with a slash at the end.
    pub prefix: String,
    pub strategy: &'static dyn Strategy,
    /// How its version differs from the stored one.
    pub conversion: Option<&'static dyn Conversion>,
}

impl Served {
    fn builtin(resource: &Arc<Resource>) -> Self {
        let (group, plural) = conversion::storage(&resource.group, &resource.resource);
        Served {
            api_version: resource.api_version(),
            prefix: keys::builtin_prefix(group, plural),
            strategy: apiserver_registry::strategy(&resource.group, &resource.resource),
            conversion: conversion::of(resource),
            resource: resource.clone(),
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
        format!("{}List", self.resource.kind)
    }
}

/// Every served resource.
pub struct Resources {
    all: Vec<Arc<Served>>,
    by_path: HashMap<String, Arc<Served>>,
}

fn path(group: &str, version: &str, resource: &str) -> String {
    format!("{group}/{version}/{resource}")
}

impl Resources {
    /// The built-in resources of generally available versions.
    pub fn builtin() -> Self {
        let rows = Schema::builtin().resources().iter().filter(|resource| resource.is_ga());
        let all: Vec<Arc<Served>> = rows.map(|resource| Arc::new(Served::builtin(resource))).collect();
        let by_path = all.iter().map(|served| {
            let row = &served.resource;
            (path(&row.group, &row.version, &row.resource), served.clone())
        });
        Resources { by_path: by_path.collect(), all }
    }

    /// The resource of a path.
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Served>> {
        self.by_path.get(&path(group, version, resource))
    }

    /// A built-in resource that the server itself uses.
    pub fn builtin_resource(&self, group: &str, resource: &str) -> &Arc<Served> {
        let found = self.all.iter().find(|s| s.resource.group == group && s.resource.resource == resource);
        found.expect("the server only asks for resources of its own table")
    }

    /// All of them, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.all.iter()
    }
}
