//! Reading the certificate request inside a CertificateSigningRequest.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::object::text;

pub(super) const GROUP: &str = "certificates.k8s.io";
pub(super) const RESOURCE: &str = "certificatesigningrequests";

/// The subject that is asked for.
pub(super) struct Subject {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
}

/// The subject; none if the request cannot be read.
pub(super) fn subject(object: &Value) -> Option<Subject> {
    let pem = STANDARD.decode(text(object, "/spec/request")).ok()?;
    let block = pem::parse(pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(block.contents()).ok()?;
    let subject = &request.certification_request_info.subject;
    let common_name = subject.iter_common_name().next().and_then(|cn| cn.as_str().ok()).unwrap_or_default().to_owned();
    let organizations = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    Some(Subject { common_name, organizations })
}

/// The common name that is asked for; none if the request cannot be read.
pub(super) fn common_name(object: &Value) -> Option<String> {
    subject(object).map(|subject| subject.common_name)
}

/// Whether the user has the verb on the signer, or on all signers of its domain.
pub(super) fn may(
    authorizer: &dyn apiserver_auth::Authorizer,
    user: &apiserver_auth::UserInfo,
    verb: &str,
    signer: &str,
) -> bool {
    let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
    [Some(signer.to_owned()), domain].into_iter().flatten().any(|name| {
        let asked = apiserver_auth::user::Attributes {
            verb,
            is_resource_request: true,
            group: GROUP,
            version: "*",
            resource: "signers",
            name: &name,
            ..Default::default()
        };
        authorizer.authorize(user, &asked).allowed()
    })
}
