//! The server's resources, and the names by which people call them: plural, singular, short, with or without the group.

use futures::try_join;
use kube::Client;
use serde_json::Value;

use crate::api::{self, Call};
use crate::error::{Result, usage};

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// One kind of object that the server keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub singular: String,
    pub short: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Resource {
    /// `apps/v1`, `v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The URL path of the collection, or of one object.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let mut path = format!("{root}/{}", self.api_version());
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(&self.plural);
        if let Some(name) = name {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    /// `deployment.apps`, `pod`: how messages name the resource.
    pub fn singular_with_group(&self) -> String {
        let singular = if self.singular.is_empty() { self.kind.to_lowercase() } else { self.singular.clone() };
        if self.group.is_empty() { singular } else { format!("{singular}.{}", self.group) }
    }

    /// `deployments.apps`, `pods`.
    pub fn plural_with_group(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    fn is_called(&self, name: &str) -> bool {
        self.plural == name
            || self.singular == name
            || self.short.iter().any(|short| short == name)
            || self.kind.to_lowercase() == name
    }
}

/// All resources, preferred versions first.
#[derive(Debug, Default)]
pub struct Discovery {
    resources: Vec<Resource>,
}

impl Discovery {
    /// The resource that an argument names: `po`, `deployments.apps`, `deployments.v1.apps`.
    pub fn find(&self, argument: &str) -> Result<&Resource> {
        let argument = argument.to_lowercase();
        let (name, rest) = argument.split_once('.').map_or((argument.as_str(), None), |(n, r)| (n, Some(r)));
        let found = self.resources.iter().find(|resource| {
            resource.is_called(name)
                && rest.is_none_or(|rest| {
                    rest == resource.group || rest == format!("{}.{}", resource.version, resource.group)
                })
        });
        match found {
            Some(resource) => Ok(resource),
            None => usage(format!("the server doesn't have a resource type \"{argument}\"")),
        }
    }

    /// The resources of a category, such as `all`.
    pub fn category(&self, name: &str) -> Vec<&Resource> {
        let mut found: Vec<&Resource> = Vec::new();
        for resource in self.resources.iter().filter(|r| r.categories.iter().any(|category| category == name)) {
            if !found.iter().any(|other| other.group == resource.group && other.plural == resource.plural) {
                found.push(resource);
            }
        }
        found
    }

    /// The resource of an object's `apiVersion` and `kind`.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.kind == kind && resource.api_version() == api_version)
    }
}

/// Asks the server for its resources.
pub async fn fetch(client: &Client) -> Result<Discovery> {
    let (core, groups) = try_join!(
        api::get(client, Call::get("/api").accept(ACCEPT)),
        api::get(client, Call::get("/apis").accept(ACCEPT))
    )?;
    Ok(Discovery { resources: [core, groups].iter().flat_map(parse).collect() })
}

fn parse(document: &Value) -> Vec<Resource> {
    let mut resources = Vec::new();
    for group in list(document, "items") {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        for version in list(group, "versions") {
            let text = version["version"].as_str().unwrap_or_default();
            resources.extend(list(version, "resources").iter().map(|resource| one(resource, name, text)));
        }
    }
    resources
}

fn one(resource: &Value, group: &str, version: &str) -> Resource {
    let text = |key: &str| resource[key].as_str().unwrap_or_default().to_owned();
    let words = |key: &str| list(resource, key).iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: resource["responseKind"]["kind"].as_str().unwrap_or_default().to_owned(),
        plural: text("resource"),
        singular: text("singularResource"),
        short: words("shortNames"),
        categories: words("categories"),
        namespaced: resource["scope"] == "Namespaced",
        verbs: words("verbs"),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn discovery() -> Discovery {
        let document = json!({"items": [{"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
            {"resource": "deployments", "singularResource": "deployment", "shortNames": ["deploy"], "scope": "Namespaced",
             "categories": ["all"], "responseKind": {"kind": "Deployment"}, "verbs": ["get"]}]}]}]});
        Discovery { resources: parse(&document) }
    }

    #[test]
    fn a_resource_has_many_names() {
        let discovery = discovery();
        for name in ["deploy", "deployment", "deployments", "Deployment", "deployments.apps", "deploy.v1.apps"] {
            assert_eq!(discovery.find(name).unwrap().plural, "deployments", "{name}");
        }
        let error = discovery.find("foo").unwrap_err().to_string();
        assert_eq!(error, "error: the server doesn't have a resource type \"foo\"");
        assert!(discovery.find("deployments.batch").is_err());
    }

    #[test]
    fn paths_hold_group_and_namespace() {
        let discovery = discovery();
        let resource = discovery.find("deploy").unwrap();
        assert_eq!(resource.path(Some("a"), Some("b")), "/apis/apps/v1/namespaces/a/deployments/b");
        assert_eq!(resource.path(None, None), "/apis/apps/v1/deployments");
        assert_eq!(resource.singular_with_group(), "deployment.apps");
    }
}
