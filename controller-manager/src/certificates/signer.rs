//! Signing approved requests of the signers that Kubernetes knows, each with the authority that the flags give it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use component_base::client::unless_gone;
use component_base::informer::{Key, Store};
use component_base::pki::{Authority, Csr, Usage, Validity};
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::PostParams;
use kube::{Api, Client};

use super::recognize::{self, API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING};
use super::{condition, is_approved, is_issued, with_condition};
use crate::context::Context;
use crate::options::Controllers as Flags;

/// The shortest validity that a request can ask for.
const MIN_DURATION: Duration = Duration::from_secs(600);

struct Signer {
    client: Client,
    requests: Store<CertificateSigningRequest>,
    authorities: Vec<(&'static str, Authority)>,
    longest: Duration,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let authorities = authorities(&ctx.options.controllers)?;
    if authorities.is_empty() {
        tracing::info!("no signing authority is given: no certificates are signed");
        ctx.shutdown.cancelled().await;
        return Ok(());
    }
    let longest = ctx.options.controllers.cluster_signing_duration.0;
    super::run(ctx, |client, requests| Signer { client, requests, authorities, longest }).await
}

/// Each signer's authority: its own where one is given, else the common one.
fn authorities(flags: &Flags) -> Result<Vec<(&'static str, Authority)>, Error> {
    let common = (flags.cluster_signing_cert_file.as_deref(), flags.cluster_signing_key_file.as_deref());
    let own = [
        (
            KUBELET_SERVING,
            &flags.cluster_signing_kubelet_serving_cert_file,
            &flags.cluster_signing_kubelet_serving_key_file,
        ),
        (
            KUBELET_CLIENT,
            &flags.cluster_signing_kubelet_client_cert_file,
            &flags.cluster_signing_kubelet_client_key_file,
        ),
        (
            API_CLIENT,
            &flags.cluster_signing_kube_apiserver_client_cert_file,
            &flags.cluster_signing_kube_apiserver_client_key_file,
        ),
    ];
    let mut authorities = Vec::new();
    for (signer, certificate, key) in own {
        let files = match (certificate.as_deref(), key.as_deref()) {
            (None, None) => common,
            given => given,
        };
        if let (Some(certificate), Some(key)) = files {
            authorities.push((signer, Authority::load(&read(certificate)?, &read(key)?)?));
        }
    }
    Ok(authorities)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()).into())
}

/// How long the certificate is to be valid: as asked, between ten minutes and the longest that the flags allow.
fn duration(asked: Option<i32>, longest: Duration) -> Duration {
    let asked = asked.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
    asked.map_or(longest, |asked| asked.clamp(MIN_DURATION.min(longest), longest))
}

#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    /// The request can never be signed.
    Refuse(String),
    Sign(Vec<Usage>),
}

fn plan(csr: &CertificateSigningRequest) -> (Plan, Option<Csr>) {
    if !is_approved(csr) || is_issued(csr) || condition(csr, "Failed").is_some() {
        return (Plan::Nothing, None);
    }
    let request = match Csr::parse(&String::from_utf8_lossy(&csr.spec.request.0)) {
        Ok(request) => request,
        Err(error) => return (Plan::Refuse(format!("unable to parse csr: {error}")), None),
    };
    let words = csr.spec.usages.as_deref().unwrap_or_default();
    if let Err(mismatch) = recognize::check(&csr.spec.signer_name, &request, words) {
        return (Plan::Refuse(mismatch.to_string()), None);
    }
    let mut usages: Vec<Usage> = words.iter().filter_map(|word| Usage::from_word(word)).collect();
    usages.sort_unstable();
    usages.dedup();
    (Plan::Sign(usages), Some(request))
}

#[async_trait]
impl Controller for Signer {
    type Key = Key;

    fn name(&self) -> &'static str {
        "certificatesigningrequest-signing-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(csr) = self.requests.get(key) else { return Ok(Requeue::No) };
        let signer = self.authorities.iter().find(|(name, _)| *name == csr.spec.signer_name);
        let Some((_, authority)) = signer else { return Ok(Requeue::No) };
        let changed = match plan(&csr) {
            (Plan::Sign(usages), Some(request)) => {
                let validity = Validity::from(SystemTime::now(), duration(csr.spec.expiration_seconds, self.longest));
                let certificate = authority.sign(&request, &usages, validity)?;
                let mut issued = (*csr).clone();
                issued.status.get_or_insert_default().certificate = Some(ByteString(certificate.into_bytes()));
                issued
            }
            (Plan::Refuse(message), _) => {
                with_condition(&csr, "Failed", "SignerValidationFailure", &message, Timestamp::now())
            }
            _ => return Ok(Requeue::No),
        };
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        unless_gone(api.replace_status(&key.name, &PostParams::default(), &changed).await)?;
        Ok(Requeue::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use component_base::pki::{Certificate, KeyType, Names, Subject, create_csr, generate_key};

    fn approved(common_name: &str) -> CertificateSigningRequest {
        let key = generate_key(KeyType::EcdsaP256).unwrap();
        let text = create_csr(&key, &Subject::new(common_name, &["system:nodes"]), &Names::default()).unwrap();
        let mut csr = CertificateSigningRequest::default();
        csr.spec.request = ByteString(text.into_bytes());
        csr.spec.signer_name = KUBELET_CLIENT.to_owned();
        csr.spec.usages = Some(vec!["digital signature".into(), "client auth".into()]);
        with_condition(&csr, "Approved", "", "", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn only_approved_and_unsigned_requests_are_signed() {
        let csr = approved("system:node:n1");
        assert_eq!(plan(&csr).0, Plan::Sign(vec![Usage::DigitalSignature, Usage::ClientAuth]));
        let mut issued = csr.clone();
        issued.status.as_mut().unwrap().certificate = Some(ByteString(b"x".to_vec()));
        assert_eq!(plan(&issued).0, Plan::Nothing);
        assert_eq!(plan(&with_condition(&csr, "Denied", "", "", Timestamp::UNIX_EPOCH)).0, Plan::Nothing);
        assert_eq!(plan(&CertificateSigningRequest::default()).0, Plan::Nothing);
        assert!(matches!(plan(&approved("admin")).0, Plan::Refuse(_)));
    }

    #[test]
    fn the_certificate_is_the_requested_one() {
        let authority = Authority::generate("kubernetes", KeyType::EcdsaP256, SystemTime::now()).unwrap();
        let (Plan::Sign(usages), Some(request)) = plan(&approved("system:node:n1")) else { panic!("it is fine") };
        let validity = Validity::from(SystemTime::now(), Duration::from_secs(3600));
        let certificate = Certificate::parse(&authority.sign(&request, &usages, validity).unwrap()).unwrap();
        assert_eq!(certificate.subject.common_name, "system:node:n1");
        assert_eq!(certificate.public_key, request.public_key);
        assert!(!certificate.is_ca);
    }

    #[test]
    fn validity_is_as_asked_within_limits() {
        let hours = |h: u64| Duration::from_secs(h * 3600);
        assert_eq!(duration(None, hours(10)), hours(10));
        assert_eq!(duration(Some(7200), hours(10)), hours(2));
        assert_eq!(duration(Some(1), hours(10)), MIN_DURATION);
        assert_eq!(duration(Some(1_000_000), hours(10)), hours(10));
    }
}
