//! Role-based access control, compiled: a decision looks its subjects up and walks their rules.
//!
//! Kubernetes documentation, "Using RBAC Authorization".

pub mod aggregate;
pub mod escalation;
mod index;
pub mod rule;

use std::sync::Arc;

use apiserver_storage::reader::{Change, GroupResource, Observer};
use parking_lot::RwLock;

use super::{Authorizer, UserRules};
use crate::user::{Attributes, Decision, UserInfo};
use index::Index;
pub use rule::Rule;

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

const RESOURCES: [GroupResource<'static>; 4] = [
    GroupResource::new(GROUP, "roles"),
    GroupResource::new(GROUP, "clusterroles"),
    GroupResource::new(GROUP, "rolebindings"),
    GroupResource::new(GROUP, "clusterrolebindings"),
];

/// The RBAC authorizer; it learns roles and bindings as an [`Observer`].
#[derive(Default)]
pub struct Rbac {
    index: RwLock<Index>,
}

impl Rbac {
    /// The rules of a role; none if there is no such role. An empty namespace means a ClusterRole.
    pub fn role(&self, namespace: &str, name: &str) -> Option<Vec<Arc<Rule>>> {
        self.index.read().role(namespace, name).map(<[_]>::to_vec)
    }
}

impl Authorizer for Rbac {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let index = self.index.read();
        let namespace = if attributes.is_resource_request { attributes.namespace } else { "" };
        let mut missing = Vec::new();
        for grant in index.grants(user, namespace) {
            match index.role_of(grant) {
                Some(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    return Decision::allow(grant.explain());
                }
                Some(_) => {}
                None => missing.push(grant.missing()),
            }
        }
        Decision::no_opinion(explain_missing(&mut missing))
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> UserRules {
        let index = self.index.read();
        let mut out = UserRules::default();
        for grant in index.grants(user, namespace) {
            match index.role_of(grant) {
                Some(rules) => out.rules.extend(rules.iter().cloned()),
                None => out.errors.push(grant.missing()),
            }
        }
        out
    }
}

impl Observer for Rbac {
    fn resources(&self) -> &'static [GroupResource<'static>] {
        &RESOURCES
    }

    fn observe(&self, change: &Change<'_>) {
        self.index.write().apply(change);
    }
}

fn explain_missing(missing: &mut Vec<String>) -> String {
    missing.dedup();
    match missing.as_slice() {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests;
