//! CertificateSigning: who writes a certificate into a request may `sign` for its signer.

use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_auth::Authorizer;
use async_trait::async_trait;
use serde_json::Value;

use super::csr;
use crate::object::{items, text};
use crate::{Attributes, Operation, Plugin};

pub struct CertificateSigning {
    authorizer: Arc<dyn Authorizer>,
}

impl CertificateSigning {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        CertificateSigning { authorizer }
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is_any(csr::GROUP, csr::RESOURCE) && a.subresource == "status" && a.operation == Operation::Update
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let (Some(new), Some(old)) = (object, old) else { return Ok(()) };
        let same_certificate = text(new, "/status/certificate") == text(old, "/status/certificate");
        if same_certificate && items(new, "/status/conditions") == items(old, "/status/conditions") {
            return Ok(());
        }
        let signer = text(old, "/spec/signerName");
        if csr::may(&*self.authorizer, a.user, "sign", signer) {
            return Ok(());
        }
        let detail = format!("user not permitted to sign requests with signerName {signer:?}");
        Err(a.forbidden(object, &detail))
    }
}

#[cfg(test)]
mod tests {
    use apiserver_auth::authorization::UserRules;
    use apiserver_auth::user::{Attributes as Asked, Decision, UserInfo};
    use serde_json::json;

    use super::super::certificate_approval::CertificateApproval;
    use super::*;
    use crate::testing::attributes;

    /// Allows one verb on one signer.
    struct Only(&'static str, &'static str);

    impl Authorizer for Only {
        fn authorize(&self, _: &UserInfo, asked: &Asked<'_>) -> Decision {
            match (asked.verb, asked.resource, asked.name) == (self.0, "signers", self.1) {
                true => Decision::Allow { reason: String::new() },
                false => Decision::NoOpinion { reason: String::new() },
            }
        }

        fn rules(&self, _: &UserInfo, _: &str) -> UserRules {
            UserRules::default()
        }
    }

    fn request(certificate: &str) -> Value {
        json!({"metadata": {"name": "r"}, "spec": {"signerName": "example.com/own"}, "status": {"certificate": certificate}})
    }

    #[tokio::test]
    async fn signing_and_approving_take_the_right_for_the_signer() {
        for (signer, wanted) in [("example.com/own", true), ("example.com/*", true), ("example.com/other", false)] {
            let mut a = attributes(Operation::Update, csr::GROUP, csr::RESOURCE);
            a.subresource = "status";
            let (new, old) = (request("x"), request(""));
            let plugin = CertificateSigning::new(Arc::new(Only("sign", signer)));
            assert!(plugin.handles(&a));
            assert_eq!(plugin.validate(&a, Some(&new), Some(&old)).await.is_ok(), wanted, "{signer}");
            assert!(plugin.validate(&a, Some(&old), Some(&old)).await.is_ok(), "nothing is signed");
            a.subresource = "approval";
            let plugin = CertificateApproval::new(Arc::new(Only("approve", signer)));
            assert!(plugin.handles(&a));
            assert_eq!(plugin.validate(&a, Some(&new), Some(&old)).await.is_ok(), wanted, "{signer}");
        }
    }
}
