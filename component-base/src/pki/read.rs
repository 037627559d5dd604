//! Reading certificates and requests that others made.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::{Error, Names, Subject, Usage, Validity};

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The whole certificate, DER.
    pub der: Vec<u8>,
    /// Whom it names.
    pub subject: Subject,
    /// Who signed it.
    pub issuer: Subject,
    /// Subject alternative names.
    pub names: Names,
    /// When it holds.
    pub validity: Validity,
    /// The serial number, lower-case hexadecimal.
    pub serial: String,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Its usages, as far as [`Usage`] knows them, in that type's order.
    pub usages: Vec<Usage>,
    /// The public key, DER of SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
}

/// What a certificate signing request says. Its signature has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    /// Whom it names.
    pub subject: Subject,
    /// The names that it asks for.
    pub names: Names,
    /// The public key, DER of SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
}

fn malformed(what: &'static str) -> impl Fn(String) -> Error {
    move |detail| Error::Malformed { what, detail }
}

/// The DER contents of all certificates in a PEM text.
pub fn split_pem(text: &str) -> Result<Vec<Vec<u8>>, Error> {
    let blocks = pem::parse_many(text).map_err(Error::Pem)?;
    Ok(blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE").map(pem::Pem::into_contents).collect())
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_all(text)?.into_iter().next().ok_or(Error::Missing("certificate"))
    }

    /// Reads all certificates of a PEM text.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, Error> {
        split_pem(text)?.iter().map(|der| Self::from_der(der)).collect()
    }

    /// Reads a DER certificate, such as a TLS peer's.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let malformed = malformed("certificate");
        let (_, x509) = X509Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
        let names = x509.subject_alternative_name().map_err(|error| malformed(error.to_string()))?;
        Ok(Self {
            der: der.to_vec(),
            subject: subject(x509.subject()),
            issuer: subject(x509.issuer()),
            names: names.map(|extension| alternative_names(&extension.value.general_names)).unwrap_or_default(),
            validity: Validity {
                not_before: system_time(&x509.validity().not_before),
                not_after: system_time(&x509.validity().not_after),
            },
            serial: x509.serial.to_str_radix(16),
            is_ca: x509.is_ca(),
            usages: usages(&x509),
            public_key: x509.public_key().raw.to_vec(),
        })
    }

    /// Whether `authority`'s key made this certificate's signature, under its name. Validity and chains are not looked at.
    pub fn is_signed_by(&self, authority: &Certificate) -> bool {
        let (Ok((_, own)), Ok((_, ca))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&authority.der))
        else {
            return false;
        };
        own.issuer().as_raw() == ca.subject().as_raw() && own.verify_signature(Some(ca.public_key())).is_ok()
    }
}

impl Csr {
    /// Reads a PEM request and verifies its signature.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let block = pem::parse(text).map_err(Error::Pem)?;
        if !matches!(block.tag(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
            return Err(Error::Missing("certificate request"));
        }
        let malformed = malformed("certificate request");
        let (rest, request) =
            X509CertificationRequest::from_der(block.contents()).map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("trailing data".to_owned()));
        }
        request.verify_signature().map_err(|_| Error::RequestSignature)?;
        let mut names = Names::default();
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(san) = extension {
                names = alternative_names(&san.general_names);
            }
        }
        let info = &request.certification_request_info;
        Ok(Self { subject: subject(&info.subject), names, public_key: info.subject_pki.raw.to_vec() })
    }
}

fn subject(name: &X509Name<'_>) -> Subject {
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().map(str::to_owned).ok();
    Subject {
        common_name: name.iter_common_name().filter_map(text).last().unwrap_or_default(),
        organizations: name.iter_organization().filter_map(text).collect(),
    }
}

fn alternative_names(general: &[GeneralName<'_>]) -> Names {
    let mut names = Names::default();
    for name in general {
        match name {
            GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
            GeneralName::RFC822Name(email) => names.emails.push((*email).to_owned()),
            GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => {
                if let Some(ip) = ip_address(bytes) {
                    names.ips.push(ip);
                }
            }
            _ => {}
        }
    }
    names
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn usages(x509: &X509Certificate<'_>) -> Vec<Usage> {
    let mut usages = Vec::new();
    let mut push = |is_set: bool, usage| {
        if is_set {
            usages.push(usage);
        }
    };
    if let Ok(Some(key)) = x509.key_usage() {
        push(key.value.digital_signature(), Usage::DigitalSignature);
        push(key.value.key_encipherment(), Usage::KeyEncipherment);
        push(key.value.key_cert_sign(), Usage::CertSign);
        push(key.value.crl_sign(), Usage::CrlSign);
    }
    if let Ok(Some(extended)) = x509.extended_key_usage() {
        push(extended.value.client_auth, Usage::ClientAuth);
        push(extended.value.server_auth, Usage::ServerAuth);
    }
    usages
}

fn system_time(time: &ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}
