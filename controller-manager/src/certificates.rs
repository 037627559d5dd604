//! CertificateSigningRequests: approving those of kubelets, signing what is approved, and cleaning up.

pub mod approver;
pub mod cleaner;
mod recognize;
pub mod signer;

use component_base::informer::{Key, Store};
use component_base::runner::{Controller, Error};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;

use crate::context::Context;

/// Runs a controller of requests.
async fn run<C>(
    ctx: Context,
    controller: impl FnOnce(Client, Store<CertificateSigningRequest>) -> C,
) -> Result<(), Error>
where
    C: Controller<Key = Key>,
{
    let client = ctx.client("certificate-controller").await?;
    let requests = ctx.informers.get::<CertificateSigningRequest>();
    let queue = ctx.keys_of(&requests);
    requests.synced().await;
    ctx.run(controller(client, requests.store()), queue, 1).await;
    Ok(())
}

/// The condition of that type, if it is there.
fn condition<'a>(csr: &'a CertificateSigningRequest, kind: &str) -> Option<&'a CertificateSigningRequestCondition> {
    csr.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == kind)
}

fn is_approved(csr: &CertificateSigningRequest) -> bool {
    condition(csr, "Approved").is_some() && condition(csr, "Denied").is_none()
}

fn is_issued(csr: &CertificateSigningRequest) -> bool {
    csr.status.as_ref().and_then(|s| s.certificate.as_ref()).is_some_and(|c| !c.0.is_empty())
}

/// The request with one more condition.
fn with_condition(
    csr: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> CertificateSigningRequest {
    let mut csr = csr.clone();
    let conditions = csr.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(now)),
        last_update_time: Some(Time(now)),
    });
    csr
}
