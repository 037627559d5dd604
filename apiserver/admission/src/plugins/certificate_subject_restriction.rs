//! CertificateSubjectRestriction: nobody becomes a member of `system:masters` by a certificate request.

use apimachinery::ApiError;
use apiserver_auth::user::MASTERS;
use async_trait::async_trait;
use serde_json::Value;

use super::csr;
use crate::object::text;
use crate::{Attributes, Operation, Plugin};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is(csr::GROUP, csr::RESOURCE) && a.operation == Operation::Create
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, _: Option<&Value>) -> Result<(), ApiError> {
        let Some(request) = object.filter(|request| text(request, "/spec/signerName") == SIGNER) else { return Ok(()) };
        let Some(subject) = csr::subject(request) else {
            return Err(a.forbidden(object, "unable to parse csr"));
        };
        if subject.organizations.iter().any(|group| group == MASTERS) {
            let detail = format!("use of {SIGNER} signer with {MASTERS} group in subject is not allowed");
            return Err(a.forbidden(object, &detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    use super::*;
    use crate::testing::{admit, attributes};

    fn request(signer: &str, group: &str) -> Value {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.distinguished_name.push(DnType::OrganizationName, group);
        let pem =
            params.serialize_request(&KeyPair::generate().expect("a key")).expect("a request").pem().expect("PEM");
        json!({"metadata": {"name": "r"}, "spec": {"signerName": signer, "request": STANDARD.encode(pem)}})
    }

    #[tokio::test]
    async fn masters_are_not_made_by_request() {
        let a = attributes(Operation::Create, csr::GROUP, csr::RESOURCE);
        let check = async |object: Value| admit(&CertificateSubjectRestriction, &a, object).await.is_ok();
        assert!(check(request(SIGNER, "dev")).await);
        assert!(!check(request(SIGNER, MASTERS)).await);
        assert!(check(request("example.com/own", MASTERS)).await);
        assert!(!check(json!({"spec": {"signerName": SIGNER, "request": "eA=="}})).await);
        assert_eq!(csr::common_name(&request(SIGNER, "dev")).as_deref(), Some("jane"));
    }
}
