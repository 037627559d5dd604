//! CertificateApproval: who approves or denies a request may `approve` for its signer.

use std::sync::Arc;

use apimachinery::ApiError;
use apiserver_auth::Authorizer;
use async_trait::async_trait;
use serde_json::Value;

use super::csr;
use crate::object::text;
use crate::{Attributes, Operation, Plugin};

pub struct CertificateApproval {
    authorizer: Arc<dyn Authorizer>,
}

impl CertificateApproval {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        CertificateApproval { authorizer }
    }
}

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is_any(csr::GROUP, csr::RESOURCE) && a.subresource == "approval" && a.operation == Operation::Update
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let signer = old.or(object).map_or("", |request| text(request, "/spec/signerName"));
        if csr::may(&*self.authorizer, a.user, "approve", signer) {
            return Ok(());
        }
        let detail = format!("user not permitted to approve requests with signerName {signer:?}");
        Err(a.forbidden(object, &detail))
    }
}
