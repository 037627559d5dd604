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

/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of every authenticated user.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of requests without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of every node.
pub const NODES: &str = "system:nodes";
/// The extra field that says which credential was used.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// Before the namespace and name of a service account in its user name.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// Before the name of a node in its user name.
pub const NODE_PREFIX: &str = "system:node:";

impl UserInfo {
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The node that this user is the kubelet of; none for all others.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_PREFIX)?;
        (!name.is_empty() && self.in_group(NODES)).then_some(name)
    }
}

/// The user name of a service account.
pub fn service_account_name(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// The groups of a service account, without the one of all authenticated users.
pub fn service_account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}
