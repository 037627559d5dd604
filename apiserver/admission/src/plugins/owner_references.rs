//! OwnerReferencesPermissionEnforcement: who hands an object to the garbage collector could have deleted it, and who makes
//! an owner's deletion wait could have set the owner's finalizers.

use std::sync::Arc;

use apimachinery::schema::Schema;
use apimachinery::{ApiError, meta};
use apiserver_auth::Authorizer;
use apiserver_auth::user::Attributes as Asked;
use async_trait::async_trait;
use serde_json::Value;

use crate::object::text;
use crate::{Attributes, Operation, Plugin};

pub struct OwnerReferencesPermissionEnforcement {
    authorizer: Arc<dyn Authorizer>,
}

impl OwnerReferencesPermissionEnforcement {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        OwnerReferencesPermissionEnforcement { authorizer }
    }

    fn may_delete(&self, a: &Attributes<'_>) -> bool {
        let asked = Asked {
            verb: "delete",
            is_resource_request: true,
            group: &a.resource.group,
            version: &a.resource.version,
            resource: &a.resource.resource,
            subresource: a.subresource,
            namespace: a.namespace,
            name: a.name,
            ..Asked::default()
        };
        self.authorizer.authorize(a.user, &asked).allowed()
    }

    fn may_set_finalizers(&self, a: &Attributes<'_>, owner: &Value) -> bool {
        let (group, version) = meta::group_version(text(owner, "/apiVersion"));
        let Some(resource) = Schema::builtin().resource_for_kind(group, version, text(owner, "/kind")) else {
            return false;
        };
        let asked = Asked {
            verb: "update",
            is_resource_request: true,
            group,
            version,
            resource: &resource.resource,
            subresource: "finalizers",
            namespace: if resource.namespaced { a.namespace } else { "" },
            name: text(owner, "/name"),
            ..Asked::default()
        };
        self.authorizer.authorize(a.user, &asked).allowed()
    }
}

#[async_trait]
impl Plugin for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        // A pod's status is the one subresource through which owner references cannot be written.
        a.writes() && !(a.is_any("", "pods") && a.subresource == "status")
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let Some(new) = object else { return Ok(()) };
        let before = old.map_or(&[][..], meta::owner_references);
        let now = meta::owner_references(new);
        if a.operation == Operation::Update && before != now && !self.may_delete(a) {
            return Err(a.forbidden(object, "cannot set an ownerRef on a resource you can't delete"));
        }
        let blocks = |owner: &&Value| owner.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true);
        let blocked = |owner: &Value| before.iter().filter(blocks).any(|old| text(old, "/uid") == text(owner, "/uid"));
        for owner in now.iter().filter(blocks).filter(|owner| !blocked(owner)) {
            if !self.may_set_finalizers(a, owner) {
                let detail = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on";
                return Err(a.forbidden(object, detail));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use apiserver_auth::authorization::union::{AlwaysAllow, AlwaysDeny};
    use serde_json::json;

    use super::*;
    use crate::testing::attributes;

    #[tokio::test]
    async fn owners_are_set_by_those_with_the_rights() {
        let owned = |block: bool| {
            let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "blockOwnerDeletion": block});
            json!({"metadata": {"name": "p", "ownerReferences": [owner]}})
        };
        let free = json!({"metadata": {"name": "p"}});
        let refuse = OwnerReferencesPermissionEnforcement::new(Arc::new(AlwaysDeny));
        let allow = OwnerReferencesPermissionEnforcement::new(Arc::new(AlwaysAllow));
        let create = attributes(Operation::Create, "", "pods");
        let update = attributes(Operation::Update, "", "pods");
        let cases = [
            (&create, owned(false), None, true),
            (&create, owned(true), None, false),
            (&update, owned(false), Some(free.clone()), false),
            (&update, owned(true), Some(owned(true)), true),
            (&update, free.clone(), Some(free), true),
        ];
        for (a, new, old, wanted) in cases {
            assert_eq!(refuse.validate(a, Some(&new), old.as_ref()).await.is_ok(), wanted, "{new} {old:?}");
            assert!(allow.validate(a, Some(&new), old.as_ref()).await.is_ok());
        }
    }
}
