//! What plugins are told about a request.

use std::sync::Arc;

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

impl Operation {
    /// The name in rules and reviews.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
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
    /// The DeleteOptions; those of other operations are known to `request`.
    pub options: &'a Value,
    /// What is made for those few plugins that show the object to others.
    pub request: &'a dyn Request,
}

/// A group, a version, and a kind or a resource of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    pub group: String,
    pub version: String,
    pub name: String,
}

/// One form that an object can be shown in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub kind: Name,
    pub resource: Name,
}

/// What a request knows of the forms of its object, and whom it answers. Nothing of it is made before it is asked for.
pub trait Request: Send + Sync {
    /// The other forms that the same objects are served in.
    fn other_forms(&self) -> Vec<Form>;

    /// The resource as it is served in a form.
    fn resource(&self, form: &Form) -> Option<Arc<Resource>>;

    /// A stored object in a form.
    fn show(&self, stored: &Value, form: &Form) -> Value;

    /// The object to store, when this one in a form was made of `stored`; with defaults.
    ///
    /// # Errors
    /// What is no object of the form.
    fn take(&self, shown: Value, form: &Form, stored: &Value) -> Result<Value, ApiError>;

    /// The CreateOptions or UpdateOptions.
    fn options(&self, operation: Operation) -> Value;

    /// Tells the client something.
    fn warn(&self, warning: String);
}

impl std::fmt::Debug for dyn Request + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request")
    }
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

    /// The form that the object was sent in: its kind is that of the subresource where that has one.
    pub fn form(&self) -> Form {
        let name = |group: &str, version: &str, name: &str| Name {
            group: group.to_owned(),
            version: version.to_owned(),
            name: name.to_owned(),
        };
        let row = self.resource;
        let kind = match row.subresource(self.subresource) {
            Some(sub) => name(&sub.group, &sub.version, &sub.kind),
            None => name(&row.group, &row.version, &row.kind),
        };
        Form { kind, resource: name(&row.group, &row.version, &row.resource) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::attributes;

    #[test]
    fn the_kind_of_a_subresource_is_its_own() {
        let pods = attributes(Operation::Create, "", "pods");
        let eviction = Attributes { subresource: "eviction", ..pods }.form();
        assert_eq!((eviction.kind.group.as_str(), eviction.kind.name.as_str()), ("policy", "Eviction"));
        assert_eq!((eviction.resource.group.as_str(), eviction.resource.name.as_str()), ("", "pods"));
    }
}
