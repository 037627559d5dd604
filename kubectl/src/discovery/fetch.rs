//! Asking the server for its resources.

use std::cell::OnceCell;

use futures::try_join;
use serde_json::Value;

use super::{Discovery, GroupVersion, Resource, Subresource, group_version};
use crate::api::{Call, Client};
use crate::error::Result;
use crate::fields::Fields;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// Asks the server for its resources: by two requests, or one per version where it is too old for that.
///
/// # Errors
/// When the server is not reached, or refuses.
pub async fn fetch(client: &Client) -> Result<Discovery> {
    let (core, groups) = (Call::get("/api").accept(AGGREGATED), Call::get("/apis").accept(AGGREGATED));
    let (core, groups) = try_join!(client.json(&core), client.json(&groups))?;
    if core.has("items") {
        return Ok(parse(&[core, groups]));
    }
    let mut versions = Vec::new();
    for version in core.texts("versions") {
        versions.push(("".to_owned(), version.to_owned(), versions.is_empty()));
    }
    for group in groups.list("groups") {
        let preferred = group.text("preferredVersion.version");
        for version in group.list("versions") {
            let version = version.text("version");
            versions.push((group.text("name").to_owned(), version.to_owned(), version == preferred));
        }
    }
    let mut found = Discovery { versions: Vec::new(), fresh: true };
    for (group, version, preferred) in versions {
        let root = if group.is_empty() { "/api" } else { "/apis" };
        let list = client.json(&Call::get(format!("{root}/{}", group_version(&group, &version)))).await?;
        let resources = OnceCell::from(Some(resources_of_list(&list, &group, &version)));
        found.versions.push(GroupVersion { group, version, preferred, resources, file: None });
    }
    Ok(found)
}

/// Reads aggregated discovery documents.
pub(super) fn parse(documents: &[Value]) -> Discovery {
    let mut versions = Vec::new();
    for group in documents.iter().flat_map(|document| document.list("items")) {
        let name = group.text("metadata.name");
        for (place, version) in group.list("versions").iter().enumerate() {
            let text = version.text("version");
            let resources = version.list("resources").iter().map(|resource| one(resource, name, text)).collect();
            versions.push(GroupVersion {
                group: name.to_owned(),
                version: text.to_owned(),
                preferred: place == 0,
                resources: OnceCell::from(Some(resources)),
                file: None,
            });
        }
    }
    Discovery { versions, fresh: true }
}

fn owned(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}

fn one(resource: &Value, group: &str, version: &str) -> Resource {
    let text = |path: &str| resource.text(path).to_owned();
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: text("responseKind.kind"),
        plural: text("resource"),
        singular: text("singularResource"),
        short: owned(resource.texts("shortNames")),
        categories: owned(resource.texts("categories")),
        namespaced: resource.text("scope") == "Namespaced",
        verbs: owned(resource.texts("verbs")),
        subresources: resource.list("subresources").iter().map(subresource).collect(),
    }
}

fn subresource(value: &Value) -> Subresource {
    let text = |path: &str| value.text(path).to_owned();
    Subresource {
        name: text("subresource"),
        group: text("responseKind.group"),
        version: text("responseKind.version"),
        kind: text("responseKind.kind"),
        verbs: owned(value.texts("verbs")),
    }
}

/// Reads an `APIResourceList`.
pub(super) fn resources_of_list(list: &Value, group: &str, version: &str) -> Vec<Resource> {
    let (below, own): (Vec<&Value>, Vec<&Value>) =
        list.list("resources").iter().partition(|resource| resource.text("name").contains('/'));
    let below_of = |plural: &str| {
        let of = |value: &&&Value| value.text("name").split_once('/').is_some_and(|(parent, _)| parent == plural);
        below.iter().filter(of).map(|value| listed_subresource(value)).collect()
    };
    let resource = |value: &Value| Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: value.text("kind").to_owned(),
        plural: value.text("name").to_owned(),
        singular: value.text("singularName").to_owned(),
        short: owned(value.texts("shortNames")),
        categories: owned(value.texts("categories")),
        namespaced: value.flag("namespaced"),
        verbs: owned(value.texts("verbs")),
        subresources: below_of(value.text("name")),
    };
    own.into_iter().map(resource).collect()
}

fn listed_subresource(value: &Value) -> Subresource {
    Subresource {
        name: value.text("name").split_once('/').map(|(_, name)| name.to_owned()).unwrap_or_default(),
        group: value.text("group").to_owned(),
        version: value.text("version").to_owned(),
        kind: value.text("kind").to_owned(),
        verbs: owned(value.texts("verbs")),
    }
}
