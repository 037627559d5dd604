//! Certificates and keys: authorities, issued certificates, signing requests, and reading what others made.
//!
//! All PEM texts are what openssl and upstream's kubeadm read and write. Keys are PKCS#8; PKCS#1 and SEC1 keys are understood too.

mod authority;
mod read;
mod request;

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use authority::{Authority, Issued, self_signed_serving};
pub use read::{Certificate, Csr, split_pem};
pub use request::create_csr;

/// How far back validity starts, so that clocks which are behind accept it at once.
pub const BACKDATE: Duration = Duration::from_secs(300);
/// Validity of authorities, as in kubeadm: ten years.
pub const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Validity of kubeadm's certificates: one year.
pub const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

/// What went wrong with a certificate, key or request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Generating or signing failed, or a key cannot be used.
    #[error("cannot sign or generate")]
    Generate(#[from] rcgen::Error),
    /// A text is not PEM.
    #[error("not well-formed PEM")]
    Pem(#[source] pem::PemError),
    /// A PEM text has no block of this kind.
    #[error("no {0} found in PEM")]
    Missing(&'static str),
    /// The DER content is not well formed.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What the parser says.
        detail: String,
    },
    /// The request's signature is not that of its key.
    #[error("the certificate request's signature does not match its key")]
    RequestSignature,
    /// A subject that cannot be written.
    #[error("a subject with {0} organizations is not supported (at most 2)")]
    Organizations(usize),
}

/// Which kind of key to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA over P-256: small and quick.
    #[default]
    EcdsaP256,
    /// RSA of 2048 bits, kubeadm's default; service account keys are of this kind (RS256).
    Rsa2048,
}

/// A private key that can sign.
pub type PrivateKey = rcgen::KeyPair;

/// Makes a key.
pub fn generate_key(kind: KeyType) -> Result<PrivateKey, Error> {
    Ok(match kind {
        KeyType::EcdsaP256 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        KeyType::Rsa2048 => rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?,
    })
}

/// Reads a private key (PKCS#8, PKCS#1 or SEC1 PEM; other blocks in the text, such as EC parameters and certificates, are passed over).
pub fn parse_key(text: &str) -> Result<PrivateKey, Error> {
    let blocks = pem::parse_many(text).map_err(Error::Pem)?;
    let key = blocks.into_iter().find(|block| block.tag().ends_with("PRIVATE KEY"));
    let key = key.ok_or(Error::Missing("private key"))?;
    Ok(rcgen::KeyPair::from_pem(&pem::encode(&key))?)
}

/// The public half of a key, as the DER of its SubjectPublicKeyInfo.
pub fn public_key_der(key: &PrivateKey) -> Vec<u8> {
    rcgen::PublicKeyData::subject_public_key_info(key)
}

/// Whom a certificate names: user and groups for clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The common name: the user's name.
    pub common_name: String,
    /// Organizations: the user's groups. At most two can be written.
    pub organizations: Vec<String>,
}

impl Subject {
    /// A subject with a common name and organizations.
    pub fn new(common_name: impl Into<String>, organizations: &[&str]) -> Self {
        Self {
            common_name: common_name.into(),
            organizations: organizations.iter().map(|&organization| organization.to_owned()).collect(),
        }
    }
}

/// Subject alternative names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// DNS names, which may start with `*.`.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
    /// Mail addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
}

impl Names {
    /// Sorts texts into IP addresses and DNS names.
    pub fn from_hosts<S: AsRef<str>>(hosts: impl IntoIterator<Item = S>) -> Self {
        let mut names = Self::default();
        for host in hosts {
            match host.as_ref().parse() {
                Ok(ip) => names.ips.push(ip),
                Err(_) => names.dns.push(host.as_ref().to_owned()),
            }
        }
        names
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ips.is_empty() && self.emails.is_empty() && self.uris.is_empty()
    }
}

/// What a key may be used for; the words of `certificates.k8s.io` usages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Usage {
    DigitalSignature,
    KeyEncipherment,
    CertSign,
    CrlSign,
    ClientAuth,
    ServerAuth,
}

impl Usage {
    /// Reads the word of a CertificateSigningRequest's `spec.usages`, as far as it is known.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "digital signature" | "signing" => Self::DigitalSignature,
            "key encipherment" => Self::KeyEncipherment,
            "cert sign" => Self::CertSign,
            "crl sign" => Self::CrlSign,
            "client auth" => Self::ClientAuth,
            "server auth" => Self::ServerAuth,
            _ => return None,
        })
    }

    /// The word in a CertificateSigningRequest's `spec.usages`.
    pub fn word(self) -> &'static str {
        match self {
            Self::DigitalSignature => "digital signature",
            Self::KeyEncipherment => "key encipherment",
            Self::CertSign => "cert sign",
            Self::CrlSign => "crl sign",
            Self::ClientAuth => "client auth",
            Self::ServerAuth => "server auth",
        }
    }

    /// For a client's certificate.
    pub const CLIENT: &'static [Self] = &[Self::DigitalSignature, Self::KeyEncipherment, Self::ClientAuth];
    /// For a server's certificate.
    pub const SERVER: &'static [Self] = &[Self::DigitalSignature, Self::KeyEncipherment, Self::ServerAuth];
    /// For one that is both, such as etcd's.
    pub const PEER: &'static [Self] =
        &[Self::DigitalSignature, Self::KeyEncipherment, Self::ServerAuth, Self::ClientAuth];
}

/// From when until when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Start.
    pub not_before: SystemTime,
    /// End.
    pub not_after: SystemTime,
}

impl Validity {
    /// From [`BACKDATE`] ago until `duration` from `now`.
    pub fn from(now: SystemTime, duration: Duration) -> Self {
        Self { not_before: now - BACKDATE, not_after: now + duration }
    }

    fn write(self, params: &mut rcgen::CertificateParams) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let since =
            |time: SystemTime| Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        params.not_before = epoch + since(self.not_before);
        params.not_after = epoch + since(self.not_after);
    }
}

/// Subject, names and usages as rcgen wants them.
fn params(subject: &Subject, names: &Names, usages: &[Usage]) -> Result<rcgen::CertificateParams, Error> {
    use rcgen::{ExtendedKeyUsagePurpose as Extended, KeyUsagePurpose as Purpose, SanType};
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = distinguished_name(subject)?;
    for name in &names.dns {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    for ip in &names.ips {
        params.subject_alt_names.push(SanType::IpAddress(*ip));
    }
    for email in &names.emails {
        params.subject_alt_names.push(SanType::Rfc822Name(email.as_str().try_into()?));
    }
    for uri in &names.uris {
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
    }
    for usage in usages {
        match usage {
            Usage::DigitalSignature => params.key_usages.push(Purpose::DigitalSignature),
            Usage::KeyEncipherment => params.key_usages.push(Purpose::KeyEncipherment),
            Usage::CertSign => params.key_usages.push(Purpose::KeyCertSign),
            Usage::CrlSign => params.key_usages.push(Purpose::CrlSign),
            Usage::ClientAuth => params.extended_key_usages.push(Extended::ClientAuth),
            Usage::ServerAuth => params.extended_key_usages.push(Extended::ServerAuth),
        }
    }
    Ok(params)
}

/// rcgen keeps one value per type of attribute; a second organization goes in by its number.
fn distinguished_name(subject: &Subject) -> Result<rcgen::DistinguishedName, Error> {
    use rcgen::DnType;
    let mut name = rcgen::DistinguishedName::new();
    let types = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
    if subject.organizations.len() > types.len() {
        return Err(Error::Organizations(subject.organizations.len()));
    }
    for (kind, organization) in types.into_iter().zip(&subject.organizations) {
        name.push(kind, organization.as_str());
    }
    if !subject.common_name.is_empty() {
        name.push(DnType::CommonName, subject.common_name.as_str());
    }
    Ok(name)
}
