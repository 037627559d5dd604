//! Approving the client certificates of kubelets whose requester may have them, as SubjectAccessReviews say.

use std::collections::BTreeMap;

use async_trait::async_trait;
use component_base::client::unless_gone;
use component_base::informer::{Key, Store};
use component_base::pki::Csr;
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::PostParams;
use kube::{Api, Client};

use super::recognize::{self, KUBELET_CLIENT};
use super::{condition, is_issued, with_condition};
use crate::context::Context;

struct Approver {
    client: Client,
    requests: Store<CertificateSigningRequest>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    super::run(ctx, |client, requests| Approver { client, requests }).await
}

/// A right that lets the requester have the certificate, and what is said when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ground {
    subresource: &'static str,
    message: &'static str,
}

/// Renewing one's own certificate.
const SELF: Ground = Ground {
    subresource: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
/// A first certificate, as with a bootstrap token.
const ANY: Ground = Ground {
    subresource: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};

/// On which grounds the request could be approved; none if it is not a kubelet's or is decided already.
fn grounds(csr: &CertificateSigningRequest) -> Vec<Ground> {
    let decided = is_issued(csr) || condition(csr, "Approved").is_some() || condition(csr, "Denied").is_some();
    if decided || csr.spec.signer_name != KUBELET_CLIENT {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&csr.spec.request.0);
    let Ok(request) = Csr::parse(&text) else { return Vec::new() };
    if recognize::check(KUBELET_CLIENT, &request, csr.spec.usages.as_deref().unwrap_or_default()).is_err() {
        return Vec::new();
    }
    let own = csr.spec.username.as_deref() == Some(&request.subject.common_name);
    if own { vec![SELF, ANY] } else { vec![ANY] }
}

/// The question whether the requester has the right.
fn review(csr: &CertificateSigningRequest, ground: Ground) -> SubjectAccessReview {
    let extra: Option<BTreeMap<String, Vec<String>>> = csr.spec.extra.clone();
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: csr.spec.username.clone(),
            uid: csr.spec.uid.clone(),
            groups: csr.spec.groups.clone(),
            extra,
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                verb: Some("create".to_owned()),
                subresource: Some(ground.subresource.to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

#[async_trait]
impl Controller for Approver {
    type Key = Key;

    fn name(&self) -> &'static str {
        "certificatesigningrequest-approving-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(csr) = self.requests.get(key) else { return Ok(Requeue::No) };
        for ground in grounds(&csr) {
            if self.is_allowed(&review(&csr, ground)).await? {
                self.approve(&csr, ground).await?;
                break;
            }
        }
        Ok(Requeue::No)
    }
}

impl Approver {
    async fn is_allowed(&self, review: &SubjectAccessReview) -> Result<bool, kube::Error> {
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), review).await?;
        Ok(answer.status.is_some_and(|s| s.allowed))
    }

    async fn approve(&self, csr: &CertificateSigningRequest, ground: Ground) -> Result<(), Error> {
        let approved = with_condition(csr, "Approved", "AutoApproved", ground.message, Timestamp::now());
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let name = csr.metadata.name.as_deref().unwrap_or_default();
        unless_gone(api.replace_subresource("approval", name, &PostParams::default(), &approved).await)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use component_base::pki::{KeyType, Names, Subject, create_csr, generate_key};
    use k8s_openapi::ByteString;

    fn csr(signer: &str, username: &str) -> CertificateSigningRequest {
        let key = generate_key(KeyType::EcdsaP256).unwrap();
        let text = create_csr(&key, &Subject::new("system:node:n1", &["system:nodes"]), &Names::default()).unwrap();
        let mut csr = CertificateSigningRequest::default();
        csr.spec.request = ByteString(text.into_bytes());
        csr.spec.signer_name = signer.to_owned();
        csr.spec.username = Some(username.to_owned());
        csr.spec.usages = Some(vec!["digital signature".into(), "client auth".into()]);
        csr
    }

    #[test]
    fn a_kubelet_may_renew_its_own_and_a_bootstrapper_get_any() {
        assert_eq!(grounds(&csr(KUBELET_CLIENT, "system:node:n1")), [SELF, ANY]);
        assert_eq!(grounds(&csr(KUBELET_CLIENT, "system:bootstrap:abcdef")), [ANY]);
    }

    #[test]
    fn what_is_not_a_kubelets_or_is_decided_is_left_alone() {
        assert!(grounds(&csr(recognize::KUBELET_SERVING, "system:node:n1")).is_empty());
        let request = csr(KUBELET_CLIENT, "system:node:n1");
        for kind in ["Approved", "Denied"] {
            assert!(grounds(&with_condition(&request, kind, "", "", Timestamp::UNIX_EPOCH)).is_empty(), "{kind}");
        }
        let mut broken = request;
        broken.spec.request = ByteString(b"nonsense".to_vec());
        assert!(grounds(&broken).is_empty());
    }

    #[test]
    fn the_question_is_about_the_requester() {
        let review = review(&csr(KUBELET_CLIENT, "system:bootstrap:abcdef"), ANY);
        assert_eq!(review.spec.user.as_deref(), Some("system:bootstrap:abcdef"));
        assert_eq!(review.spec.resource_attributes.unwrap().subresource.as_deref(), Some("nodeclient"));
    }
}
