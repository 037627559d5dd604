//! What plugins are told about a request.

use apimachinery::schema::Resource;
use apimachinery::{ApiError, meta};
use apiserver_auth::UserInfo;
use serde_json::Value;

/// What a request does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// A request, without the object.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub operation: Operation,
    pub resource: &'a Resource,
    pub subresource: &'a str,
    /// Empty for cluster-scoped resources; for a Namespace its own name or empty.
    pub namespace: &'a str,
    pub name: &'a str,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    /// The CreateOptions, UpdateOptions or DeleteOptions.
    pub options: &'a Value,
}

impl Attributes<'_> {
    /// Whether this is about the resource itself, not about a subresource of it.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.is_any(group, resource)
    }

    /// Whether this is about the resource or one of its subresources.
    pub fn is_any(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource
    }

    /// Whether the object is written: created or updated.
    pub fn writes(&self) -> bool {
        matches!(self.operation, Operation::Create | Operation::Update)
    }

    /// The refusal of this request.
    pub fn forbidden(&self, object: Option<&Value>, detail: &str) -> ApiError {
        let own = object.map_or("", |object| match meta::name(object) {
            "" => meta::generate_name(object),
            name => name,
        });
        let name = if self.name.is_empty() { own } else { self.name };
        ApiError::forbidden(&self.resource.group, &self.resource.resource, name, detail)
    }
}
