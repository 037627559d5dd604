//! The layout of keys in etcd, as Kubernetes lays them out: `/registry/pods/<namespace>/<name>`.
//!
//! Built-in resources stand below their plural name, a few below an older one; everything that is served by an extension
//! mechanism (CustomResourceDefinitions and their objects, APIServices) stands below its group.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use apimachinery::schema::Schema;

/// The default of `--etcd-prefix`.
pub const ROOT: &str = "/registry/";

/// The prefix of the keys that the servers have for themselves: there are no objects below it.
pub const OWN: &str = "/registry/corten/";
/// Writing this key makes the watch report a revision when nothing else does.
pub const PROGRESS: &str = "/registry/corten/progress";
/// Held by the one server that may write, where there is one.
pub const SOLE: &str = "/registry/corten/sole-server";
/// The prefix of one key for each server that is alive.
pub const SERVERS: &str = "/registry/corten/servers/";

/// Resources whose key does not start with their plural name.
const RENAMED: &[(&str, &str, &str)] = &[
    ("", "endpoints", "services/endpoints"),
    ("", "nodes", "minions"),
    ("", "replicationcontrollers", "controllers"),
    ("", "services", "services/specs"),
    ("networking.k8s.io", "ingresses", "ingress"),
    ("apiregistration.k8s.io", "apiservices", "apiregistration.k8s.io/apiservices"),
    ("apiextensions.k8s.io", "customresourcedefinitions", "apiextensions.k8s.io/customresourcedefinitions"),
];

/// The prefix of all keys of a built-in resource, with a slash at the end.
pub fn builtin_prefix(group: &str, resource: &str) -> String {
    let renamed = RENAMED.iter().find(|(g, r, _)| *g == group && *r == resource);
    format!("{ROOT}{}/", renamed.map_or(resource, |(_, _, path)| path))
}

/// The prefix of all keys of a custom resource, with a slash at the end.
pub fn custom_prefix(group: &str, resource: &str) -> String {
    format!("{ROOT}{group}/{resource}/")
}

/// The groups of built-in resources.
static BUILTIN_GROUPS: LazyLock<BTreeSet<&'static str>> =
    LazyLock::new(|| Schema::builtin().resources().iter().map(|resource| resource.group.as_str()).collect());

/// The prefix of all keys of a resource, built in or custom, with a slash at the end.
pub fn prefix(group: &str, resource: &str) -> String {
    let builtin = BUILTIN_GROUPS.contains(group);
    if builtin { builtin_prefix(group, resource) } else { custom_prefix(group, resource) }
}

/// The parts of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The prefix of the resource, with a slash at the end.
    pub prefix: &'a str,
    /// Empty for cluster-scoped objects.
    pub namespace: &'a str,
    pub name: &'a str,
}

/// Takes a key apart. Keys that are not of an object have an empty name.
pub fn split(key: &str) -> Parts<'_> {
    let prefix = resource_prefix(key);
    let rest = &key[prefix.len()..];
    let (namespace, name) = rest.rsplit_once('/').unwrap_or(("", rest));
    Parts { prefix, namespace, name }
}

/// The resource's prefix of a key: one segment after the root, or two where the first is a group or `services`.
pub fn resource_prefix(key: &str) -> &str {
    let Some(rest) = key.strip_prefix(ROOT) else { return key };
    let Some(first) = rest.find('/') else { return key };
    let two = rest[..first].contains('.') || &rest[..first] == "services";
    let end = if two { rest[first + 1..].find('/').map(|second| first + 1 + second) } else { Some(first) };
    end.map_or(key, |end| &key[..ROOT.len() + end + 1])
}

/// The field of a resource that has an index and watch logs of its own.
#[derive(Debug)]
pub struct IndexedField {
    prefix: &'static str,
    /// As selectors call it.
    pub name: &'static str,
    pub path: &'static [&'static str],
}

const INDEXED_FIELDS: &[IndexedField] =
    &[IndexedField { prefix: "/registry/pods/", name: "spec.nodeName", path: &["spec", "nodeName"] }];

/// The indexed field of the resource with this prefix.
pub fn indexed_field(prefix: &str) -> Option<&'static IndexedField> {
    INDEXED_FIELDS.iter().find(|field| field.prefix == prefix)
}

/// The prefix of the keys of a namespaced object's namespace: the key up to its last slash.
pub fn parent(key: &str) -> &str {
    key.rfind('/').map_or(key, |slash| &key[..=slash])
}

/// The end of the range of keys that start with `prefix`.
pub fn range_end(prefix: &str) -> String {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    String::from_utf8(end).expect("prefixes end in a slash, and the next byte is a digit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_resources_have_the_prefixes_of_kubernetes() {
        assert_eq!(builtin_prefix("", "pods"), "/registry/pods/");
        assert_eq!(builtin_prefix("apps", "deployments"), "/registry/deployments/");
        assert_eq!(builtin_prefix("", "nodes"), "/registry/minions/");
        assert_eq!(builtin_prefix("", "services"), "/registry/services/specs/");
        assert_eq!(prefix("apps", "deployments"), "/registry/deployments/");
        assert_eq!(prefix("snapshot.storage.k8s.io", "volumes"), "/registry/snapshot.storage.k8s.io/volumes/");
    }

    #[test]
    fn keys_come_apart_at_the_resource() {
        let parts = split("/registry/pods/ns/p");
        assert_eq!((parts.prefix, parts.namespace, parts.name), ("/registry/pods/", "ns", "p"));
        let parts = split("/registry/services/endpoints/ns/e");
        assert_eq!((parts.prefix, parts.namespace, parts.name), ("/registry/services/endpoints/", "ns", "e"));
        let parts = split("/registry/minions/n1");
        assert_eq!((parts.prefix, parts.namespace, parts.name), ("/registry/minions/", "", "n1"));
        let parts = split("/registry/example.com/things/ns/t");
        assert_eq!((parts.prefix, parts.namespace, parts.name), ("/registry/example.com/things/", "ns", "t"));
        let parts = split("/registry/clusterroles/system:node");
        assert_eq!((parts.prefix, parts.namespace, parts.name), ("/registry/clusterroles/", "", "system:node"));
    }

    #[test]
    fn odd_keys_do_not_panic() {
        for key in ["", "/", "/registry/", "/registry/x", "/registry/a.b/", "/registry/a.b/c", "other"] {
            let _parts = split(key);
        }
        assert_eq!(range_end("/registry/pods/"), "/registry/pods0");
    }
}
