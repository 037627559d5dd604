//! Removing requests that are of no use any more.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use component_base::informer::{Key, Store};
use component_base::pki::Certificate;
use component_base::runner::{Controller, Error, Requeue};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, Client};

use super::{condition, is_issued};
use crate::context::Context;
use crate::writes;

const HOUR: Duration = Duration::from_secs(3600);
/// Decided requests are kept for this long after the decision.
const KEEP_DECIDED: Duration = HOUR;
/// Undecided ones after they were made.
const KEEP_PENDING: Duration = Duration::from_secs(24 * 3600);

struct Cleaner {
    client: Client,
    requests: Store<CertificateSigningRequest>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    super::run(ctx, |client, requests| Cleaner { client, requests }).await
}

fn system_time(time: Option<&Time>) -> Option<SystemTime> {
    time.map(|t| SystemTime::from(t.0))
}

/// When the request is to be removed.
fn end(csr: &CertificateSigningRequest) -> Option<SystemTime> {
    let created = system_time(csr.metadata.creation_timestamp.as_ref())?;
    let decided = |kind| condition(csr, kind).map(|c| system_time(c.last_update_time.as_ref()).unwrap_or(created));
    let after_decision = ["Denied", "Failed", "Approved"].into_iter().find_map(decided).map(|at| at + KEEP_DECIDED);
    let issued = is_issued(csr).then(|| csr.status.as_ref()?.certificate.as_ref()).flatten();
    let expiry =
        issued.and_then(|c| Certificate::parse(&String::from_utf8_lossy(&c.0)).ok()).map(|c| c.validity.not_after);
    let latest = after_decision.unwrap_or(created + KEEP_PENDING);
    Some(expiry.map_or(latest, |expiry| expiry.min(latest)))
}

#[async_trait]
impl Controller for Cleaner {
    type Key = Key;

    fn name(&self) -> &'static str {
        "certificatesigningrequest-cleaner-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(csr) = self.requests.get(key) else { return Ok(Requeue::No) };
        let Some(end) = end(&csr) else { return Ok(Requeue::No) };
        if let Ok(left) = end.duration_since(SystemTime::now())
            && !left.is_zero()
        {
            return Ok(Requeue::After(left));
        }
        writes::delete(&Api::<CertificateSigningRequest>::all(self.client.clone()), &csr.metadata).await?;
        Ok(Requeue::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::with_condition;
    use jiff::Timestamp;

    #[test]
    fn decided_requests_stay_an_hour_and_others_a_day() {
        let mut csr = CertificateSigningRequest::default();
        csr.metadata.creation_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert_eq!(end(&csr), Some(SystemTime::UNIX_EPOCH + KEEP_PENDING));
        let later = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(100);
        for kind in ["Approved", "Denied", "Failed"] {
            let decided = with_condition(&csr, kind, "", "", later);
            assert_eq!(end(&decided), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(100) + KEEP_DECIDED), "{kind}");
        }
    }
}
