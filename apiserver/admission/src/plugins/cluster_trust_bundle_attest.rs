//! ClusterTrustBundleAttest: who publishes trust anchors of a signer may `attest` for it.

use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_auth::Authorizer;
use async_trait::async_trait;
use serde_json::Value;

use super::csr;
use crate::object::text;
use crate::{Attributes, Plugin};

pub struct ClusterTrustBundleAttest {
    authorizer: Arc<dyn Authorizer>,
}

impl ClusterTrustBundleAttest {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        ClusterTrustBundleAttest { authorizer }
    }
}

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is(csr::GROUP, "clustertrustbundles") && a.writes()
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let Some(new) = object else { return Ok(()) };
        let signer = text(new, "/spec/signerName");
        // A bundle of no signer speaks for nobody; one that stays as it is (the garbage collector's updates) says nothing new.
        let is_same = old.is_some_and(|old| old.get("spec") == new.get("spec"));
        if signer.is_empty() || is_same || csr::may(&*self.authorizer, a.user, "attest", signer) {
            return Ok(());
        }
        Err(a.forbidden(object, &format!("user not permitted to attest for signerName {signer:?}")))
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::schema::Schema;
    use apiserver_auth::authorization::union::{AlwaysAllow, AlwaysDeny};
    use serde_json::json;

    use super::*;
    use crate::Operation;
    use crate::testing::attributes;

    #[tokio::test]
    async fn anchors_of_a_signer_take_the_right_to_attest_for_it() {
        let resource = Schema::builtin().resource(csr::GROUP, "v1beta1", "clustertrustbundles").expect("a resource");
        let a = Attributes { resource, ..attributes(Operation::Update, csr::GROUP, csr::RESOURCE) };
        let bundle = |signer: &str| json!({"metadata": {"name": "b"}, "spec": {"signerName": signer}});
        let refuse = ClusterTrustBundleAttest::new(Arc::new(AlwaysDeny));
        let check =
            async |new: &str, old: &str| refuse.validate(&a, Some(&bundle(new)), Some(&bundle(old))).await.is_ok();
        assert!(!check("example.com/own", "").await);
        assert!(check("example.com/own", "example.com/own").await);
        assert!(check("", "example.com/own").await);
        let allow = ClusterTrustBundleAttest::new(Arc::new(AlwaysAllow));
        assert_eq!(allow.validate(&a, Some(&bundle("example.com/own")), None).await, Ok(()));
    }
}
