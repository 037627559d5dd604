//! Discovery: which groups, versions and resources are served, plain and aggregated.
//!
//! Kubernetes documentation, "The Kubernetes API", Discovery API.

use std::sync::Arc;

use apimachinery::schema::{Resource, Subresource};
use apimachinery::version;
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::served::Served;

/// The order in which groups are listed: as the original lists them, by its priority of groups.
const GROUP_ORDER: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
];

/// The discovery documents, made once for a set of resources.
pub struct Discovery {
    groups: Vec<Group>,
    /// The aggregated documents of `/api` and `/apis`.
    pub aggregated: [Aggregated; 2],
}

/// An aggregated document with its entity tag.
pub struct Aggregated {
    pub body: Bytes,
    pub etag: String,
}

struct Group {
    name: String,
    /// Preferred version first.
    versions: Vec<Version>,
}

struct Version {
    name: String,
    resources: Vec<Arc<Served>>,
}

impl Discovery {
    pub fn new<'a>(resources: impl Iterator<Item = &'a Arc<Served>>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for served in resources {
            let row = &served.resource;
            let group = match groups.iter_mut().find(|group| group.name == row.group) {
                Some(group) => group,
                None => {
                    groups.push(Group { name: row.group.clone(), versions: Vec::new() });
                    groups.last_mut().expect("just pushed")
                }
            };
            match group.versions.iter_mut().find(|version| version.name == row.version) {
                Some(version) => version.resources.push(served.clone()),
                None => group.versions.push(Version { name: row.version.clone(), resources: vec![served.clone()] }),
            }
        }
        let rank = |name: &str| GROUP_ORDER.iter().position(|known| *known == name).unwrap_or(GROUP_ORDER.len());
        groups.sort_by(|a, b| (rank(&a.name), &a.name).cmp(&(rank(&b.name), &b.name)));
        for group in &mut groups {
            group.versions.sort_by(|a, b| version::compare(&b.name, &a.name));
        }
        let aggregated =
            [true, false].map(|core| aggregate(groups.iter().filter(|group| group.name.is_empty() == core)));
        Discovery { groups, aggregated }
    }

    /// `/api`.
    pub fn core_versions(&self, address: &str) -> Value {
        json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]})
    }

    /// `/apis`.
    pub fn group_list(&self) -> Value {
        let groups = self.groups.iter().filter(|group| !group.name.is_empty()).map(Group::document);
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups.collect::<Vec<_>>()})
    }

    /// `/apis/<group>`.
    pub fn group(&self, name: &str) -> Option<Value> {
        let group = self.groups.iter().find(|group| group.name == name && !name.is_empty())?;
        let mut document = group.document();
        document["kind"] = "APIGroup".into();
        document["apiVersion"] = "v1".into();
        Some(document)
    }

    /// `/api/v1` and `/apis/<group>/<version>`.
    pub fn resources(&self, group: &str, version: &str) -> Option<Value> {
        let group = self.groups.iter().find(|candidate| candidate.name == group)?;
        let version = group.versions.iter().find(|candidate| candidate.name == version)?;
        let resources: Vec<Value> = version.resources.iter().flat_map(|served| plain(&served.resource)).collect();
        let group_version = group_version(&group.name, &version.name);
        let mut document = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources});
        if !group.name.is_empty() {
            document["apiVersion"] = "v1".into();
        }
        Some(document)
    }

    /// The groups and versions, for the root's list of paths.
    pub fn paths(&self) -> Vec<String> {
        let groups = self.groups.iter().filter(|group| !group.name.is_empty());
        let mut paths: Vec<String> = groups
            .flat_map(|group| {
                let versions = group.versions.iter().map(|version| format!("/apis/{}/{}", group.name, version.name));
                std::iter::once(format!("/apis/{}", group.name)).chain(versions).collect::<Vec<_>>()
            })
            .collect();
        paths.sort();
        paths
    }
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

impl Group {
    fn document(&self) -> Value {
        let versions: Vec<Value> = self
            .versions
            .iter()
            .map(|version| json!({"groupVersion": group_version(&self.name, &version.name), "version": version.name}))
            .collect();
        json!({"name": self.name, "versions": versions, "preferredVersion": versions[0]})
    }
}

/// The entries of a resource and its subresources in an `APIResourceList`.
fn plain(resource: &Resource) -> Vec<Value> {
    let mut main = json!({"name": resource.resource, "singularName": resource.singular,
        "namespaced": resource.namespaced, "kind": resource.kind, "verbs": resource.verbs});
    if !resource.short_names.is_empty() {
        main["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        main["categories"] = json!(resource.categories);
    }
    if resource.has_verb("list") && resource.has_verb("create") {
        main["storageVersionHash"] = storage_version_hash(resource).into();
    }
    let subresources = resource.subresources.iter().map(|sub| plain_subresource(resource, sub));
    std::iter::once(main).chain(subresources).collect()
}

fn plain_subresource(resource: &Resource, sub: &Subresource) -> Value {
    let mut entry = json!({"name": format!("{}/{}", resource.resource, sub.name), "singularName": "",
        "namespaced": resource.namespaced, "kind": sub.kind, "verbs": sub.verbs});
    if sub.group != resource.group || sub.version != resource.version {
        if !sub.group.is_empty() {
            entry["group"] = sub.group.as_str().into();
        }
        entry["version"] = sub.version.as_str().into();
    }
    entry
}

/// Changes when objects are stored in another version (KEP-1904).
fn storage_version_hash(resource: &Resource) -> String {
    use base64::Engine;
    let (group, plural) = crate::conversion::storage(&resource.group, &resource.resource);
    let digest = Sha256::digest(format!(
        "{group}/{}/{}",
        if plural == "events" { "v1" } else { &resource.version },
        resource.kind
    ));
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

/// An `APIGroupDiscoveryList` (KEP-3352).
fn aggregate<'a>(groups: impl Iterator<Item = &'a Group>) -> Aggregated {
    let items: Vec<Value> = groups
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> =
                        version.resources.iter().map(|s| aggregated_resource(&s.resource)).collect();
                    json!({"version": version.name, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let document = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
    let body = Bytes::from(document.to_string());
    let etag = Sha256::digest(&body).iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    Aggregated { body, etag: format!("\"{etag}\"") }
}

fn kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn aggregated_resource(resource: &Resource) -> Value {
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|sub| {
            json!({"subresource": sub.name, "responseKind": kind(&sub.group, &sub.version, &sub.kind), "verbs": sub.verbs})
        })
        .collect();
    let mut entry = json!({"resource": resource.resource,
        "responseKind": kind(&resource.group, &resource.version, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular, "verbs": resource.verbs});
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}
