//! Custom resources: what a CustomResourceDefinition says, made ready for the generic endpoints.
//!
//! "Extend the Kubernetes API with CustomResourceDefinitions" in Kubernetes' documentation.

pub mod columns;
pub mod scale;
pub mod schema;
pub mod status;
pub mod strategy;

use std::sync::Arc;

use apimachinery::schema::{Gvk, Resource, Subresource, custom_type};
use serde_json::Value;

use columns::Columns;
use scale::Paths;
use strategy::CustomStrategy;

/// The finalizer of a definition whose objects are still to be deleted.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// What can be done with every custom resource.
const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

/// A definition, made ready.
pub struct Definition {
    pub group: String,
    pub plural: String,
    /// Whether it is being deleted: nothing new may be created.
    pub terminating: bool,
    /// The name of the version that objects are stored in.
    pub storage: String,
    /// Every version, also those that are not served: objects may be stored in them.
    pub versions: Vec<Version>,
}

/// One version of a definition.
pub struct Version {
    pub served: bool,
    pub resource: Arc<Resource>,
    pub list_kind: String,
    pub strategy: CustomStrategy,
    pub columns: Columns,
    /// The fields that field selectors may name, as paths.
    pub fields: Vec<Vec<String>>,
    pub scale: Option<Paths>,
}

/// Whether a condition of a definition holds.
pub fn is_true(definition: &Value, condition: &str) -> bool {
    let all = definition["status"]["conditions"].as_array();
    all.is_some_and(|all| all.iter().any(|c| c["type"] == condition && c["status"] == "True"))
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The steps of a path such as `.spec.color`.
fn steps(path: &str) -> Vec<String> {
    path.trim_start_matches('.').split('.').filter(|step| !step.is_empty()).map(str::to_owned).collect()
}

impl Definition {
    /// A definition from its object. Names are those that were accepted, or that are asked for where none is yet.
    pub fn of(definition: &Value) -> Self {
        let spec = &definition["spec"];
        let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
        let storage = versions.iter().find(|version| version["storage"] == true);
        Definition {
            group: text(&spec["group"]),
            plural: text(&spec["names"]["plural"]),
            terminating: !definition["metadata"]["deletionTimestamp"].is_null(),
            storage: storage.map(|version| text(&version["name"])).unwrap_or_default(),
            versions: versions.iter().map(|version| Version::of(definition, version)).collect(),
        }
    }
}

impl Version {
    fn of(definition: &Value, version: &Value) -> Self {
        let spec = &definition["spec"];
        let accepted = &definition["status"]["acceptedNames"];
        let taken = accepted["kind"].as_str().is_some_and(|kind| !kind.is_empty());
        let names = if taken { accepted } else { &spec["names"] };
        let (group, name, kind) = (text(&spec["group"]), text(&version["name"]), text(&names["kind"]));
        let schema = version["schema"].get("openAPIV3Schema").filter(|schema| !schema.is_null());
        let gvk = Gvk { group: group.clone(), version: name.clone(), kind: kind.clone() };
        let namespaced = spec["scope"] == "Namespaced";
        let scale = Paths::of(&version["subresources"]["scale"]);
        let has_status = version["subresources"].get("status").is_some_and(|status| !status.is_null());
        let resource = Resource {
            resource: text(&spec["names"]["plural"]),
            singular: text(&names["singular"]),
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            namespaced,
            verbs: VERBS.map(str::to_owned).into(),
            subresources: subresources(&gvk, has_status, scale.is_some()),
            ty: custom_type(gvk, schema),
            group,
            version: name,
            kind,
        };
        let fields = version["selectableFields"].as_array().into_iter().flatten();
        Version {
            served: version["served"] == true,
            strategy: CustomStrategy::new(&resource, deprecation(&resource, version)),
            columns: Columns::of(&version["additionalPrinterColumns"]),
            list_kind: text(&names["listKind"]),
            fields: fields.filter_map(|field| field["jsonPath"].as_str()).map(steps).collect(),
            scale,
            resource: Arc::new(resource),
        }
    }
}

fn subresources(gvk: &Gvk, status: bool, scale: bool) -> Vec<Subresource> {
    let subresource = |name: &str, group: &str, version: &str, kind: &str| Subresource {
        name: name.into(),
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        verbs: SUBRESOURCE_VERBS.map(str::to_owned).into(),
    };
    let status = status.then(|| subresource("status", &gvk.group, &gvk.version, &gvk.kind));
    let scale = scale.then(|| subresource("scale", "autoscaling", "v1", "Scale"));
    status.into_iter().chain(scale).collect()
}

/// The warning that every request for a deprecated version gets.
fn deprecation(resource: &Resource, version: &Value) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    let given = version["deprecationWarning"].as_str().filter(|text| !text.is_empty());
    Some(given.map_or_else(|| format!("{} {} is deprecated", resource.api_version(), resource.kind), str::to_owned))
}
