//! Who asks, and what for: the two values that authentication produces and authorization decides on.

use std::collections::BTreeMap;

/// An authenticated user (Kubernetes documentation, "Authenticating").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a request wants to do (Kubernetes documentation, "Authorization overview", request attributes).
#[derive(Clone, Debug, Default)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, …; for non-resource requests the HTTP method in lower case.
    pub verb: &'a str,
    /// Whether this is a request for a resource; then `path` is not looked at, else only `verb` and `path` are.
    pub is_resource_request: bool,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Empty for cluster-scoped requests and for requests over all namespaces.
    pub namespace: &'a str,
    pub name: &'a str,
    pub path: &'a str,
    /// The raw `fieldSelector` of a list, watch or deletecollection.
    pub field_selector: &'a str,
    /// The raw `labelSelector` of a list, watch or deletecollection.
    pub label_selector: &'a str,
}

/// What one authorizer says; the first that has an opinion decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow { reason: String },
    Deny { reason: String },
    NoOpinion { reason: String },
}
