//! The API as a table: every resource, every type and every field, with links that make walking an object free of look-ups.
//!
//! [`Schema::builtin`] is read once from the table in `proto`. A CustomResourceDefinition's structural schema becomes
//! the same types:
//!
//! - an object with `properties` is a [`Type`] of its own (anonymous: named after the kind and the path), whose
//!   fields carry `default`, `nullable`, `enum`, list and map types exactly as the built-in ones do;
//! - `additionalProperties` is [`FieldType::Map`], `items` is [`FieldType::List`]; both describe their elements by a
//!   [`Field`] without a name, so that elements have list types, defaults and nullability of their own;
//! - `x-kubernetes-preserve-unknown-fields` is [`Type::preserve_unknown`] (with `properties`) or [`FieldType::Any`];
//! - scalars and `x-kubernetes-int-or-string` are [`FieldType::Any`], and every field is [`Field::lax`]: whether a value is what it
//!   should be is for the validation of custom resources to say;
//! - `x-kubernetes-embedded-resource` is a `Type` that has `apiVersion`, `kind` and a `metadata` linked to the built-in
//!   `meta.v1.ObjectMeta`;
//! - `metadata` at the top is always that same link.
//!
//! Custom types have no protobuf name ([`Type::proto`] is `None`): they are served as JSON and YAML only.

mod custom;
mod defaults;
mod load;
mod types;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

pub use custom::{custom_type, prune};
pub(crate) use defaults::fill_zeros_in;
pub use defaults::{apply_defaults, fill_zeros};
pub use load::LoadError;
pub use types::{Field, FieldType, Gvk, ListType, MapType, Type, TypeRef, UnionKind};
pub(crate) use types::{Layout, NodeKind};

/// A subresource of a resource: `status`, `scale`, `binding`, `log`, …
#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: String,
    /// The group of the subresource's kind (`autoscaling` for `scale`).
    pub group: String,
    /// The version of the subresource's kind.
    pub version: String,
    pub kind: String,
    pub verbs: Vec<String>,
}

/// A resource of the API: a row of the table.
#[derive(Debug)]
pub struct Resource {
    pub group: String,
    pub version: String,
    /// The plural name, as in paths.
    pub resource: String,
    pub kind: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub subresources: Vec<Subresource>,
    /// The type of its objects.
    pub ty: Arc<Type>,
}

impl Resource {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether the status is written through a subresource of its own.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Whether the version is generally available (`v1`, `v2`, not `v1beta1`).
    pub fn is_ga(&self) -> bool {
        !self.version.contains("alpha") && !self.version.contains("beta")
    }

    /// Whether the resource itself has that verb.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// Resources and types, and how to find them.
#[derive(Debug, Default)]
pub struct Schema {
    resources: Vec<Arc<Resource>>,
    types: HashMap<String, Arc<Type>>,
    by_resource: HashMap<(String, String, String), Arc<Resource>>,
    by_kind: HashMap<(String, String, String), Arc<Resource>>,
    /// `apiVersion` to kind to type.
    kinds: HashMap<String, HashMap<String, Arc<Type>>>,
}

impl Schema {
    /// The built-in API, read on first use.
    pub fn builtin() -> &'static Schema {
        static BUILTIN: OnceLock<Schema> = OnceLock::new();
        BUILTIN
            .get_or_init(|| load::parse(proto::KUBERNETES_TABLE).expect("the table is part of the program and tested"))
    }

    /// Reads a table of the form of the built-in one.
    ///
    /// # Errors
    /// What is not such a table.
    pub fn from_table(table: &str) -> Result<Schema, LoadError> {
        load::parse(table)
    }

    /// Every resource, in the table's order.
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// The resource of a path.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_resource.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// The resource whose objects are of that kind.
    pub fn resource_for_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.by_kind.get(&(group.to_owned(), version.to_owned(), kind.to_owned()))
    }

    /// A type by the table's name: `core.v1.Pod`.
    pub fn type_named(&self, name: &str) -> Option<&Arc<Type>> {
        self.types.get(name)
    }

    /// The type of an object by its `apiVersion` and `kind`; lists, options and reviews too.
    pub fn type_for_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Type>> {
        self.kinds.get(api_version)?.get(kind)
    }

    /// Every type, in no order.
    pub fn types(&self) -> impl Iterator<Item = &Arc<Type>> {
        self.types.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_loads_and_links() {
        let schema = Schema::builtin();
        let pods = schema.resource("", "v1", "pods").expect("pods");
        assert_eq!(pods.kind, "Pod");
        assert_eq!(pods.ty.name, "core.v1.Pod");
        assert!(pods.has_status() && pods.namespaced && pods.is_ga());
        assert_eq!(schema.resource_for_kind("apps", "v1", "Deployment").expect("kind").resource, "deployments");
        let spec = pods.ty.field("spec").and_then(|f| f.ty.message()).expect("spec");
        let containers = spec.field("containers").expect("containers");
        assert_eq!(containers.list_type, Some(ListType::Map));
        assert_eq!(containers.list_map_keys, ["name"]);
        let FieldType::List(item) = &containers.ty else { panic!("a list") };
        assert_eq!(item.ty.message().expect("item").name, "core.v1.Container");
    }

    #[test]
    fn every_kind_of_a_request_or_answer_has_a_type() {
        let schema = Schema::builtin();
        for (api_version, kind) in [
            ("v1", "PodList"),
            ("v1", "DeleteOptions"),
            ("apps/v1", "DeleteOptions"),
            ("v1", "Status"),
            ("meta.k8s.io/v1", "DeleteOptions"),
            ("meta.k8s.io/v1", "PartialObjectMetadata"),
            ("autoscaling/v1", "Scale"),
            ("policy/v1", "Eviction"),
            ("authentication.k8s.io/v1", "TokenRequest"),
            ("v1", "Binding"),
            ("v1", "List"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ] {
            assert!(schema.type_for_kind(api_version, kind).is_some(), "{api_version} {kind}");
        }
        for resource in schema.resources() {
            for sub in &resource.subresources {
                let api_version =
                    if sub.group.is_empty() { sub.version.clone() } else { format!("{}/{}", sub.group, sub.version) };
                assert!(schema.type_for_kind(&api_version, &sub.kind).is_some(), "{api_version} {}", sub.kind);
            }
        }
    }

    #[test]
    fn a_recursive_type_links_to_itself() {
        let props = Schema::builtin().type_named("apiextensions.v1.JSONSchemaProps").expect("type");
        let not = props.field("not").and_then(|f| f.ty.message()).expect("not");
        assert_eq!(not.name, props.name);
    }
}
