//! Certificate authorities, certificates and keys, as PEM. Nothing here touches a file.

use std::net::IpAddr;

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    RsaKeySize, SanType, SerialNumber, date_time_ymd,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The keys that `encryptionAlgorithm` of a ClusterConfiguration can name.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum KeyAlgorithm {
    /// The default here: a TLS handshake costs a tenth of RSA's.
    #[default]
    #[serde(rename = "ECDSA-P256")]
    EcdsaP256,
    #[serde(rename = "RSA-2048")]
    Rsa2048,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make or read a key or certificate")]
    Rcgen(#[from] rcgen::Error),
    #[error("not a name for a certificate: {0:?}")]
    Name(String),
    #[error("no certificate in the PEM text")]
    NoCertificate,
    #[error("cannot read the certificate: {0}")]
    Parse(String),
}

/// A certificate and its private key (PKCS#8), both as PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyedCertificate {
    pub certificate: String,
    pub key: String,
}

/// What a leaf certificate is to say.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub server: bool,
    pub client: bool,
}

const CA_YEARS: i64 = 10;
const LEAF_YEARS: i64 = 1;

/// A key pair of its own, as for signing service account tokens: the private and the public key as PEM.
pub fn signing_keys(algorithm: KeyAlgorithm) -> Result<(String, String), Error> {
    let key = new_key(algorithm)?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// A self-signed certificate authority, valid for ten years from the day of `now`.
pub fn authority(common_name: &str, algorithm: KeyAlgorithm, now: Timestamp) -> Result<KeyedCertificate, Error> {
    let key = new_key(algorithm)?;
    let mut params = CertificateParams::new(vec![common_name.to_owned()])?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    set_validity(&mut params, now, CA_YEARS);
    let certificate = params.self_signed(&key)?;
    Ok(KeyedCertificate { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A leaf certificate with a new key, signed by `ca`, valid for a year from the day of `now`.
pub fn issue(
    ca: &KeyedCertificate,
    request: &Request,
    algorithm: KeyAlgorithm,
    now: Timestamp,
) -> Result<KeyedCertificate, Error> {
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, KeyPair::from_pem(&ca.key)?)?;
    let key = new_key(algorithm)?;
    let certificate = leaf_params(request, now)?.signed_by(&key, &issuer)?;
    Ok(KeyedCertificate { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn leaf_params(request: &Request, now: Timestamp) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.remove(DnType::CommonName);
    for organization in &request.organizations {
        params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
    }
    params.distinguished_name.push(DnType::CommonName, request.common_name.as_str());
    for name in &request.dns_names {
        let name = name.as_str().try_into().map_err(|_| Error::Name(name.clone()))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.subject_alt_names.extend(request.addresses.iter().map(|address| SanType::IpAddress(*address)));
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    if request.server {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if request.client {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    set_validity(&mut params, now, LEAF_YEARS);
    Ok(params)
}

/// From the day before `now`, so that a clock a little behind accepts the certificate.
fn set_validity(params: &mut CertificateParams, now: Timestamp, years: i64) {
    let today = now.to_zoned(TimeZone::UTC).date();
    let start = today.saturating_sub(1.day());
    let end = today.saturating_add(years.years());
    params.not_before =
        date_time_ymd(i32::from(start.year()), start.month().unsigned_abs(), start.day().unsigned_abs());
    params.not_after = date_time_ymd(i32::from(end.year()), end.month().unsigned_abs(), end.day().unsigned_abs());
    let mut serial: [u8; 16] = rand::random();
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}

fn new_key(algorithm: KeyAlgorithm) -> Result<KeyPair, Error> {
    Ok(match algorithm {
        KeyAlgorithm::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        KeyAlgorithm::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?,
    })
}

/// The pin of a certificate authority that `kubeadm join` is given: `sha256:` and the hash of its public key.
pub fn public_key_pin(certificate: &str) -> Result<String, Error> {
    let pem = pem::parse(certificate).map_err(|_| Error::NoCertificate)?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(pem.contents()).map_err(|error| Error::Parse(error.to_string()))?;
    let hash = Sha256::digest(parsed.tbs_certificate.subject_pki.raw);
    Ok(format!("sha256:{}", hex(&hash)))
}

/// When a certificate ends, and whom it is for.
pub fn expiry(certificate: &str) -> Result<(Timestamp, String), Error> {
    let pem = pem::parse(certificate).map_err(|_| Error::NoCertificate)?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(pem.contents()).map_err(|error| Error::Parse(error.to_string()))?;
    let end = Timestamp::from_second(parsed.validity().not_after.timestamp())
        .map_err(|error| Error::Parse(error.to_string()))?;
    Ok((end, parsed.subject().to_string()))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T00:00:00Z".parse().unwrap()
    }

    fn parsed<T>(pem: &str, read: impl FnOnce(&x509_parser::certificate::X509Certificate<'_>) -> T) -> T {
        let pem = pem::parse(pem).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(pem.contents()).unwrap();
        read(&certificate)
    }

    #[test]
    fn a_leaf_carries_its_names_and_is_issued_by_its_authority() {
        for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::Rsa2048] {
            let ca = authority("kubernetes", algorithm, now()).unwrap();
            let request = Request {
                common_name: "kube-apiserver".into(),
                organizations: vec!["system:masters".into()],
                dns_names: vec!["kubernetes.default".into()],
                addresses: vec!["10.96.0.1".parse().unwrap()],
                server: true,
                client: false,
            };
            let leaf = issue(&ca, &request, algorithm, now()).unwrap();
            let issuer = parsed(&ca.certificate, |ca| ca.subject().to_string());
            parsed(&leaf.certificate, |leaf| {
                assert_eq!(leaf.issuer().to_string(), issuer);
                assert_eq!(leaf.subject().to_string(), "O=system:masters, CN=kube-apiserver");
                let usage = leaf.extended_key_usage().unwrap().unwrap().value;
                assert!(usage.server_auth && !usage.client_auth);
                assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
                assert!(!leaf.is_ca());
            });
        }
    }

    #[test]
    fn validity_is_ten_years_for_authorities_and_one_for_leaves() {
        let ca = authority("kubernetes", KeyAlgorithm::default(), now()).unwrap();
        let leaf = issue(&ca, &Request::default(), KeyAlgorithm::default(), now()).unwrap();
        assert_eq!(expiry(&ca.certificate).unwrap().0.to_string(), "2036-11-21T00:00:00Z");
        assert_eq!(expiry(&leaf.certificate).unwrap().0.to_string(), "2027-11-21T00:00:00Z");
    }

    #[test]
    fn the_pin_is_the_hash_of_the_public_key_as_openssl_prints_it() {
        // openssl x509 -pubkey | openssl pkey -pubin -outform der | sha256sum, of the certificate below.
        let ca = authority("kubernetes", KeyAlgorithm::default(), now()).unwrap();
        let key = KeyPair::from_pem(&ca.key).unwrap();
        let der = pem::parse(key.public_key_pem()).unwrap();
        assert_eq!(
            public_key_pin(&ca.certificate).unwrap(),
            format!("sha256:{}", hex(&Sha256::digest(der.contents())))
        );
    }
}
