//! Certificates as kubeadm's phases need them, made with the shared `component_base::pki`.

use std::{net::IpAddr, time::SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use component_base::pki::{self, CERTIFICATE_VALIDITY, Certificate, KeyType, Names, Subject, Usage, Validity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use component_base::pki::{Error, Issued as KeyedCertificate};

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

impl From<KeyAlgorithm> for KeyType {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::EcdsaP256 => KeyType::EcdsaP256,
            KeyAlgorithm::Rsa2048 => KeyType::Rsa2048,
        }
    }
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

/// A key pair of its own, as for signing service account tokens: the private and the public key as PEM.
pub fn signing_keys(algorithm: KeyAlgorithm) -> Result<(String, String), Error> {
    let key = pki::generate_key(algorithm.into())?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// A self-signed certificate authority.
pub fn authority(common_name: &str, algorithm: KeyAlgorithm, now: Timestamp) -> Result<KeyedCertificate, Error> {
    let authority = pki::Authority::generate(common_name, algorithm.into(), SystemTime::from(now))?;
    Ok(KeyedCertificate { certificate: authority.certificate_pem().to_owned(), key: authority.key_pem().to_owned() })
}

/// A leaf certificate with a new key, signed by `ca`.
pub fn issue(
    ca: &KeyedCertificate,
    request: &Request,
    algorithm: KeyAlgorithm,
    now: Timestamp,
) -> Result<KeyedCertificate, Error> {
    let usages = match (request.server, request.client) {
        (true, true) => Usage::PEER,
        (true, false) => Usage::SERVER,
        (false, _) => Usage::CLIENT,
    };
    let subject = Subject { common_name: request.common_name.clone(), organizations: request.organizations.clone() };
    let names = Names { dns: request.dns_names.clone(), ips: request.addresses.clone(), ..Names::default() };
    let validity = Validity::from(SystemTime::from(now), CERTIFICATE_VALIDITY);
    pki::Authority::load(&ca.certificate, &ca.key)?.issue(&subject, &names, usages, validity, algorithm.into())
}

/// The pin of a certificate authority that `kubeadm join` is given: `sha256:` and the hash of its public key.
pub fn public_key_pin(certificate: &str) -> Result<String, Error> {
    let parsed = Certificate::parse(certificate)?;
    Ok(format!("sha256:{}", hex(digest(&SHA256, &parsed.public_key).as_ref())))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_carries_its_names_and_is_issued_by_its_authority() {
        for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::Rsa2048] {
            let ca = authority("kubernetes", algorithm, Timestamp::now()).unwrap();
            let request = Request {
                common_name: "kube-apiserver".into(),
                dns_names: vec!["kubernetes.default".into()],
                addresses: vec!["10.96.0.1".parse().unwrap()],
                server: true,
                ..Request::default()
            };
            let leaf = issue(&ca, &request, algorithm, Timestamp::now()).unwrap();
            let (leaf, ca) =
                (Certificate::parse(&leaf.certificate).unwrap(), Certificate::parse(&ca.certificate).unwrap());
            assert!(leaf.is_signed_by(&ca) && !leaf.is_ca && ca.is_ca);
            assert_eq!(leaf.names.dns, ["kubernetes.default"]);
            assert!(leaf.usages.contains(&Usage::ServerAuth) && !leaf.usages.contains(&Usage::ClientAuth));
        }
    }

    #[test]
    fn the_pin_is_the_hash_of_the_public_key() {
        let ca = authority("kubernetes", KeyAlgorithm::default(), Timestamp::now()).unwrap();
        let key = pem::parse(pki::parse_key(&ca.key).unwrap().public_key_pem()).unwrap();
        let hash = hex(digest(&SHA256, key.contents()).as_ref());
        assert_eq!(public_key_pin(&ca.certificate).unwrap(), format!("sha256:{hash}"));
    }
}
