//! Client certificates: the common name is the user, the organizations are the groups.

use std::fmt::Write;
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::certificates::ClientCa;
use super::token_cache::TokenCache;
use super::{AuthError, AuthRequest, Authenticated, Authenticator};
use crate::clock::Clock;
use crate::user::{CREDENTIAL_ID, UserInfo};

/// How many certificates are remembered as verified.
const CACHE_ENTRIES: usize = 8192;
/// How long a verified certificate is not verified again.
const CACHE_TTL: Duration = Duration::from_secs(60);

/// Users with certificates of the cluster's client CA.
pub struct X509 {
    ca: ClientCa,
    clock: Clock,
    verified: TokenCache<Option<Authenticated>>,
}

impl X509 {
    pub fn new(ca: ClientCa, clock: Clock) -> Self {
        X509 { ca, verified: TokenCache::new(CACHE_ENTRIES, CACHE_TTL), clock }
    }

    fn verify(&self, chain: &[CertificateDer<'static>]) -> Result<Option<Authenticated>, AuthError> {
        self.ca.verify(chain, (self.clock)()).map_err(AuthError::Certificate)?;
        Ok(user_of(&chain[0])?.map(Authenticated::user))
    }
}

#[async_trait]
impl Authenticator for X509 {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Option<Authenticated>, AuthError> {
        if request.peer.is_empty() {
            return Ok(None);
        }
        let parts = request.peer.iter().map(AsRef::as_ref);
        self.verified.get_or_try_insert(parts, (self.clock)(), || self.verify(request.peer))
    }
}

/// The common name of a certificate's subject; empty if it has none.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Result<String, AuthError> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|e| AuthError::Certificate(e.to_string()))?;
    let name = parsed.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok()).unwrap_or("");
    Ok(name.to_owned())
}

/// The user that a certificate names; none if it has no common name.
fn user_of(certificate: &CertificateDer<'_>) -> Result<Option<UserInfo>, AuthError> {
    let name = common_name(certificate)?;
    if name.is_empty() {
        return Ok(None);
    }
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|e| AuthError::Certificate(e.to_string()))?;
    let groups = parsed.subject().iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    let mut credential = "X509SHA256=".to_owned();
    for byte in Sha256::digest(certificate) {
        write!(credential, "{byte:02x}").expect("writing to a string does not fail");
    }
    let extra = [(CREDENTIAL_ID.to_owned(), vec![credential])].into();
    Ok(Some(UserInfo { name, uid: String::new(), groups, extra }))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

    use super::*;
    use http::HeaderMap;

    fn authority() -> (ClientCa, Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "ca");
        let pem = params.self_signed(&key).expect("ca").pem();
        (ClientCa::from_pem(pem, "test").expect("bundle"), Issuer::new(params, key))
    }

    fn client(issuer: &Issuer<'static, KeyPair>, usage: ExtendedKeyUsagePurpose) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("key");
        params.signed_by(&key, issuer).expect("certificate").der().clone()
    }

    async fn ask(x509: &X509, peer: &[CertificateDer<'static>]) -> Result<Option<Authenticated>, AuthError> {
        x509.authenticate(&AuthRequest { headers: &HeaderMap::new(), peer, audiences: &[] }).await
    }

    #[tokio::test]
    async fn the_subject_names_user_and_groups() {
        let (ca, issuer) = authority();
        let x509 = X509::new(ca, crate::clock::system());
        assert_eq!(ask(&x509, &[]).await, Ok(None));
        let certificate = client(&issuer, ExtendedKeyUsagePurpose::ClientAuth);
        for _ in 0..2 {
            let found = ask(&x509, std::slice::from_ref(&certificate)).await.expect("valid").expect("a user");
            assert_eq!((found.user.name.as_str(), found.user.groups.as_slice()), ("jane", &["dev".to_owned()][..]));
            assert!(found.user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
        }
    }

    #[tokio::test]
    async fn certificates_of_others_and_for_servers_and_past_their_time_are_refused() {
        let (ca, issuer) = authority();
        let (_, stranger) = authority();
        let good = client(&issuer, ExtendedKeyUsagePurpose::ClientAuth);
        let x509 = X509::new(ca.clone(), crate::clock::system());
        for refused in [
            client(&stranger, ExtendedKeyUsagePurpose::ClientAuth),
            client(&issuer, ExtendedKeyUsagePurpose::ServerAuth),
        ] {
            assert!(matches!(ask(&x509, &[refused]).await, Err(AuthError::Certificate(_))));
        }
        let late = X509::new(ca, std::sync::Arc::new(|| jiff::Timestamp::from_second(90_000_000_000).expect("time")));
        assert!(matches!(ask(&late, &[good]).await, Err(AuthError::Certificate(_))));
    }
}
