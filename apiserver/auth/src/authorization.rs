//! May this user do this: authorizers decide from memory, without a look at the store.
//!
//! Kubernetes documentation, "Authorization".

pub mod node;
pub mod rbac;
pub mod union;

use std::sync::Arc;

use apimachinery::{ApiError, Reason};

use crate::user::{Attributes, Decision, UserInfo};
pub use rbac::Rule;

/// Decides requests.
pub trait Authorizer: Send + Sync {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision;

    /// What the user may do in a namespace, as far as this authorizer can say it in rules.
    fn rules(&self, user: &UserInfo, namespace: &str) -> UserRules;
}

/// The rules that hold for one user in one namespace.
#[derive(Clone, Debug, Default)]
pub struct UserRules {
    pub rules: Vec<Arc<Rule>>,
    /// Whether the user may do more than the rules say.
    pub incomplete: bool,
    pub errors: Vec<String>,
}

impl Decision {
    pub fn allowed(&self) -> bool {
        matches!(self, Decision::Allow { .. })
    }

    pub fn reason(&self) -> &str {
        match self {
            Decision::Allow { reason } | Decision::Deny { reason } | Decision::NoOpinion { reason } => reason,
        }
    }

    pub(crate) fn allow(reason: impl Into<String>) -> Self {
        Decision::Allow { reason: reason.into() }
    }

    pub(crate) fn no_opinion(reason: impl Into<String>) -> Self {
        Decision::NoOpinion { reason: reason.into() }
    }
}

impl Attributes<'_> {
    /// Whether the request can change nothing.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch")
    }
}

/// What a user without the right is told.
pub fn forbidden(user: &UserInfo, attributes: &Attributes<'_>, reason: &str) -> ApiError {
    let who = if user.name.is_empty() { String::new() } else { format!("User {:?} ", user.name) };
    let suffix = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if !attributes.is_resource_request {
        let message = format!("forbidden: {who}cannot {} path {:?}{suffix}", attributes.verb, attributes.path);
        return ApiError::new(Reason::Forbidden, message).about("", "", "");
    }
    let resource = match attributes.subresource {
        "" => attributes.resource.to_owned(),
        sub => format!("{}/{sub}", attributes.resource),
    };
    let place = match attributes.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let detail = format!(
        "{who}cannot {} resource {resource:?} in API group {:?} {place}{suffix}",
        attributes.verb, attributes.group
    );
    ApiError::forbidden(attributes.group, attributes.resource, attributes.name, &detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_who_what_and_where() {
        let user = UserInfo { name: "jane".into(), ..UserInfo::default() };
        let mut attributes = Attributes {
            verb: "get",
            is_resource_request: true,
            resource: "pods",
            subresource: "log",
            namespace: "dev",
            name: "web",
            ..Attributes::default()
        };
        assert_eq!(
            forbidden(&user, &attributes, "").0.message,
            r#"pods "web" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "dev""#
        );
        (attributes.namespace, attributes.name, attributes.group) = ("", "", "apps");
        assert_eq!(
            forbidden(&user, &attributes, "why").0.message,
            r#"pods.apps is forbidden: User "jane" cannot get resource "pods/log" in API group "apps" at the cluster scope: why"#
        );
        let path = Attributes { verb: "get", path: "/metrics", ..Attributes::default() };
        assert_eq!(forbidden(&user, &path, "").0.message, r#"forbidden: User "jane" cannot get path "/metrics""#);
    }
}
