//! The server's resources, and the names by which people call them: plural, singular, short, with or without the group.

mod cache;
mod fetch;

use std::cell::OnceCell;
use std::path::PathBuf;

pub use cache::{load, save};
pub use fetch::fetch;

use crate::error::{Result, usage};

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
    pub subresources: Vec<Subresource>,
}

/// What an object has below it: its scale, its status, its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    pub name: String,
    /// Group, version and kind of what is sent there.
    pub group: String,
    pub version: String,
    pub kind: String,
    pub verbs: Vec<String>,
}

impl Resource {
    /// `apps/v1`, `v1`.
    pub fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }

    /// The URL path of the collection, or of one object.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let mut path = format!("{root}/{}", self.api_version());
        if let Some(namespace) = namespace.filter(|namespace| self.namespaced && !namespace.is_empty()) {
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

    /// `deployment.apps`, `pod`: how messages name the kind.
    pub fn kind_with_group(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() { kind } else { format!("{kind}.{}", self.group) }
    }

    /// `Deployment.apps`, `Pod`: how messages name what a command has no way to deal with.
    pub fn group_kind(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// `"apps/v1, Resource=deployments"`, with its quotes.
    pub fn described(&self) -> String {
        format!("\"{}/{}, Resource={}\"", self.group, self.version, self.plural)
    }

    /// `deployments.apps`, `pods`.
    pub fn plural_with_group(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether the server takes a verb.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

/// `apps/v1`, `v1`.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// All resources, by group and version. Those of a cache are read when they are asked for.
#[derive(Debug, Default)]
pub struct Discovery {
    versions: Vec<GroupVersion>,
    /// Whether the server itself was asked.
    pub fresh: bool,
}

#[derive(Debug)]
struct GroupVersion {
    group: String,
    version: String,
    /// Whether it is the one to use for resources that other versions have too.
    preferred: bool,
    /// `None` where the cache is broken.
    resources: OnceCell<Option<Vec<Resource>>>,
    file: Option<PathBuf>,
}

impl GroupVersion {
    fn read(&self) -> Option<&[Resource]> {
        let read = || cache::resources(self.file.as_ref()?, &self.group, &self.version);
        self.resources.get_or_init(read).as_deref()
    }

    /// The resources; none where the cache is broken, so that what is looked for is missing and the server is asked.
    fn resources(&self) -> &[Resource] {
        self.read().unwrap_or_default()
    }
}

/// What an argument may mean.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    name: &'a str,
    group: Option<&'a str>,
    version: Option<&'a str>,
}

impl Discovery {
    /// Whether nothing is missing in the cache.
    pub fn is_whole(&self) -> bool {
        self.versions.iter().all(|version| version.read().is_some())
    }

    /// Every resource, preferred versions before the others of their group.
    pub fn all(&self) -> impl Iterator<Item = &Resource> {
        self.versions.iter().flat_map(GroupVersion::resources)
    }

    /// The resources of preferred versions, and those that only other versions have.
    pub fn preferred(&self) -> Vec<&Resource> {
        let mut found: Vec<&Resource> = Vec::new();
        for resource in self.all() {
            if !found.iter().any(|other| other.group == resource.group && other.plural == resource.plural) {
                found.push(resource);
            }
        }
        found
    }

    /// Groups and versions in the server's order, with whether each is the preferred version of its group.
    pub fn group_versions(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.versions.iter().map(|one| (one.group.as_str(), one.version.as_str(), one.preferred))
    }

    /// The resource that an argument names: `po`, `deployments.apps`, `deployments.v1.apps`.
    pub fn find(&self, argument: &str) -> Option<&Resource> {
        let argument = argument.to_lowercase();
        readings(&argument).into_iter().find_map(|wanted| self.lookup(&wanted))
    }

    /// As [`Discovery::find`], or an error that says that there is none.
    ///
    /// # Errors
    /// When there is none.
    pub fn need(&self, argument: &str) -> Result<&Resource> {
        match self.find(argument) {
            Some(resource) => Ok(resource),
            None => {
                let name = argument.split('.').next().unwrap_or_default();
                usage(format!("the server doesn't have a resource type \"{name}\""))
            }
        }
    }

    /// A full name goes before a short one, wherever it stands; a whole group before the beginning of one.
    fn lookup(&self, wanted: &Wanted<'_>) -> Option<&Resource> {
        let full = |resource: &Resource| {
            resource.plural == wanted.name
                || resource.singular == wanted.name
                || resource.kind.eq_ignore_ascii_case(wanted.name)
        };
        let short = |resource: &Resource| resource.short.iter().any(|short| short == wanted.name);
        let exact = |group: &str| wanted.group.is_none_or(|wanted| wanted == group);
        let prefix = |group: &str| wanted.group.is_some_and(|wanted| !wanted.is_empty() && group.starts_with(wanted));
        self.one(wanted, exact, full)
            .or_else(|| self.one(wanted, exact, short))
            .or_else(|| self.one(wanted, prefix, full))
            .or_else(|| self.one(wanted, prefix, short))
    }

    fn one(
        &self,
        wanted: &Wanted<'_>,
        group: impl Fn(&str) -> bool,
        called: impl Fn(&Resource) -> bool,
    ) -> Option<&Resource> {
        self.versions
            .iter()
            .filter(|one| group(&one.group) && wanted.version.is_none_or(|version| version == one.version))
            .flat_map(GroupVersion::resources)
            .find(|resource| called(resource))
    }

    /// The resources of a category, such as `all`.
    pub fn category(&self, name: &str) -> Vec<&Resource> {
        let of = |resource: &&Resource| resource.categories.iter().any(|category| category == name);
        self.preferred().into_iter().filter(of).collect()
    }

    /// The resource of an object's `apiVersion` and `kind`.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let of = |one: &&GroupVersion| one.group == group && one.version == version;
        self.versions.iter().filter(of).flat_map(GroupVersion::resources).find(|resource| resource.kind == kind)
    }
}

/// `a.v1.b` may be version `v1` of group `b`, or group `v1.b`.
fn readings(argument: &str) -> Vec<Wanted<'_>> {
    let Some((name, rest)) = argument.split_once('.') else {
        return vec![Wanted { name: argument, group: None, version: None }];
    };
    let mut readings = Vec::new();
    if let Some((version, group)) = rest.split_once('.') {
        readings.push(Wanted { name, group: Some(group), version: Some(version) });
    }
    readings.push(Wanted { name, group: Some(rest), version: None });
    readings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn discovery() -> Discovery {
        let resource = |plural: &str, singular: &str, kind: &str, short: &str| {
            json!({"resource": plural, "singularResource": singular, "scope": "Namespaced", "shortNames": [short],
                "responseKind": {"kind": kind}, "verbs": ["get"], "categories": ["all"]})
        };
        fetch::parse(&[
            json!({"items": [{"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [
                resource("pods", "pod", "Pod", "po"), resource("events", "event", "Event", "ev")]}]}]}),
            json!({"items": [
                {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                    resource("deployments", "deployment", "Deployment", "deploy")]}]},
                {"metadata": {"name": "example.com"}, "versions": [
                    {"version": "v2", "resources": [resource("po", "po", "Po", "x"), resource("events", "event", "Event", "ev")]},
                    {"version": "v1", "resources": [resource("po", "po", "Po", "x")]}]}]}),
        ])
    }

    #[test]
    fn resources_are_found_by_every_name() {
        let discovery = discovery();
        let found = |argument: &str| discovery.find(argument).map(|r| (r.plural_with_group(), r.version.clone()));
        for (argument, name, version) in [
            ("pods", "pods", "v1"),
            ("Pod", "pods", "v1"),
            ("pods.v1.", "pods", "v1"),
            ("deploy", "deployments.apps", "v1"),
            ("deployments.apps", "deployments.apps", "v1"),
            ("deploy.v1.apps", "deployments.apps", "v1"),
            ("events", "events", "v1"),
            ("events.example", "events.example.com", "v2"),
            // A full name goes before the short name of another.
            ("po", "po.example.com", "v2"),
            ("po.v1.example.com", "po.example.com", "v1"),
        ] {
            assert_eq!(found(argument), Some((name.to_owned(), version.to_owned())), "{argument}");
        }
        assert_eq!(found("none"), None);
        let error = discovery.need("none.apps").unwrap_err().report();
        assert_eq!(error, "error: the server doesn't have a resource type \"none\"");
    }

    #[test]
    fn a_category_has_each_resource_once() {
        let discovery = discovery();
        let names: Vec<_> = discovery.category("all").iter().map(|r| r.plural_with_group()).collect();
        assert_eq!(names, ["pods", "events", "deployments.apps", "po.example.com", "events.example.com"]);
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let discovery = discovery();
        save(&discovery, dir.path()).unwrap();
        let loaded = load(dir.path()).unwrap();
        assert!(!loaded.fresh);
        assert_eq!(loaded.all().collect::<Vec<_>>(), discovery.all().collect::<Vec<_>>());
        assert_eq!(loaded.group_versions().collect::<Vec<_>>(), discovery.group_versions().collect::<Vec<_>>());
        assert!(load(&dir.path().join("none")).is_none());
    }
}
