//! Certificate authorities, and what they issue.

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, IsCa, Issuer, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateDer;

use super::{
    AUTHORITY_VALIDITY, Certificate, Csr, Error, KeyType, Names, PrivateKey, Subject, Usage, Validity, generate_key,
    params, parse_key,
};

/// A certificate with its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: String,
}

/// A certificate authority that can sign.
pub struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, PrivateKey>,
    not_after: SystemTime,
}

impl Authority {
    /// Makes a self-signed authority, valid for ten years.
    pub fn generate(common_name: &str, kind: KeyType, now: SystemTime) -> Result<Self, Error> {
        let usages = [Usage::DigitalSignature, Usage::KeyEncipherment, Usage::CertSign];
        // As kubeadm does: the name is an alternative name too.
        let names = Names { dns: vec![common_name.to_owned()], ..Names::default() };
        let mut params = params(&Subject::new(common_name, &[]), &names, &usages)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Validity::from(now, AUTHORITY_VALIDITY).write(&mut params);
        let key = generate_key(kind)?;
        let certificate = params.self_signed(&key)?.pem();
        Self::load(&certificate, &key.serialize_pem())
    }

    /// Loads an authority from PEM texts; of several certificates the first is the signer.
    ///
    /// # Errors
    /// When a text is malformed, or the key is not the certificate's.
    pub fn load(certificate: &str, key: &str) -> Result<Self, Error> {
        let signer = parse_key(key)?;
        let first = Certificate::parse(certificate)?;
        if first.public_key != rcgen::PublicKeyData::subject_public_key_info(&signer) {
            return Err(Error::Malformed {
                what: "certificate authority",
                detail: "the key is not the certificate's".to_owned(),
            });
        }
        let der = CertificateDer::from(first.der);
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            not_after: first.validity.not_after,
            issuer: Issuer::from_ca_cert_der(&der, signer)?,
        })
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The authority's key, PEM. Keep it secret.
    pub fn key_pem(&self) -> &str {
        &self.key
    }

    /// Issues a certificate with a new key.
    pub fn issue(
        &self,
        subject: &Subject,
        names: &Names,
        usages: &[Usage],
        validity: Validity,
        kind: KeyType,
    ) -> Result<Issued, Error> {
        let key = generate_key(kind)?;
        let certificate = self.issue_for(&key, subject, names, usages, validity)?;
        Ok(Issued { certificate, key: key.serialize_pem() })
    }

    /// Issues a certificate for a key that exists; gives the certificate as PEM.
    pub fn issue_for(
        &self,
        key: &PrivateKey,
        subject: &Subject,
        names: &Names,
        usages: &[Usage],
        validity: Validity,
    ) -> Result<String, Error> {
        let mut params = params(subject, names, usages)?;
        self.write_common(&mut params, validity);
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }

    /// Signs a request: its subject, names and key, with these usages and this validity, which is cut at the authority's own end.
    pub fn sign(&self, request: &Csr, usages: &[Usage], validity: Validity) -> Result<String, Error> {
        let mut params = params(&request.subject, &request.names, usages)?;
        self.write_common(&mut params, validity);
        let key = SubjectPublicKeyInfo::from_der(&request.public_key)?;
        Ok(params.signed_by(&key, &self.issuer)?.pem())
    }

    fn write_common(&self, params: &mut rcgen::CertificateParams, validity: Validity) {
        let not_after = validity.not_after.min(self.not_after);
        Validity { not_after, ..validity }.write(params);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
    }
}

/// A self-signed serving certificate for these hosts (names or addresses), valid for a year: what a component serves with when it is given none.
pub fn self_signed_serving<S: AsRef<str>>(
    hosts: impl IntoIterator<Item = S>,
    now: SystemTime,
) -> Result<Issued, Error> {
    let hosts: Vec<S> = hosts.into_iter().collect();
    let common_name = hosts.first().map_or("localhost", |host| host.as_ref()).to_owned();
    let authority = Authority::generate(&format!("{common_name}-ca"), KeyType::EcdsaP256, now)?;
    let validity = Validity::from(now, Duration::from_secs(365 * 24 * 3600));
    let names = Names::from_hosts(hosts);
    let mut issued =
        authority.issue(&Subject::new(common_name, &[]), &names, Usage::SERVER, validity, KeyType::EcdsaP256)?;
    issued.certificate.push_str(authority.certificate_pem());
    Ok(issued)
}

#[cfg(test)]
mod tests {
    use super::super::{CERTIFICATE_VALIDITY, create_csr};
    use super::*;

    #[test]
    fn issued_certificates_say_what_was_asked() {
        let now = SystemTime::now();
        for kind in [KeyType::EcdsaP256, KeyType::Rsa2048] {
            let authority = Authority::generate("kubernetes", kind, now).unwrap();
            let names = Names::from_hosts(["kubernetes.default", "10.96.0.1", "::1"]);
            let subject = Subject::new("kube-apiserver", &["system:masters", "second"]);
            let validity = Validity::from(now, CERTIFICATE_VALIDITY);
            let issued = authority.issue(&subject, &names, Usage::SERVER, validity, kind).unwrap();
            let read = Certificate::parse(&issued.certificate).unwrap();
            assert_eq!(read.subject, subject);
            assert_eq!(read.issuer.common_name, "kubernetes");
            assert_eq!(read.names, names);
            assert!(!read.is_ca);
            assert_eq!(read.usages, [Usage::DigitalSignature, Usage::KeyEncipherment, Usage::ServerAuth]);
            assert!(read.is_signed_by(&Certificate::parse(authority.certificate_pem()).unwrap()));
            let stranger = Authority::generate("kubernetes", kind, now).unwrap();
            assert!(!read.is_signed_by(&Certificate::parse(stranger.certificate_pem()).unwrap()));
        }
    }

    #[test]
    fn a_request_is_signed_with_its_subject_and_key_and_not_beyond_the_authority() {
        let now = SystemTime::now();
        let authority = Authority::generate("kubernetes", KeyType::EcdsaP256, now).unwrap();
        let key = generate_key(KeyType::EcdsaP256).unwrap();
        let subject = Subject::new("system:node:n1", &["system:nodes"]);
        let csr = Csr::parse(&create_csr(&key, &subject, &Names::from_hosts(["n1", "192.0.2.1"])).unwrap()).unwrap();
        assert_eq!(csr.subject, subject);
        let far = Validity::from(now, AUTHORITY_VALIDITY * 3);
        let signed = Certificate::parse(&authority.sign(&csr, Usage::CLIENT, far).unwrap()).unwrap();
        assert_eq!(signed.subject, subject);
        assert_eq!(signed.names.dns, ["n1"]);
        assert_eq!(signed.public_key, rcgen::PublicKeyData::subject_public_key_info(&key));
        let end = Certificate::parse(authority.certificate_pem()).unwrap().validity.not_after;
        assert_eq!(signed.validity.not_after, end);
    }

    #[test]
    fn an_authority_is_not_loaded_with_a_foreign_key() {
        let now = SystemTime::now();
        let one = Authority::generate("one", KeyType::EcdsaP256, now).unwrap();
        let two = Authority::generate("two", KeyType::EcdsaP256, now).unwrap();
        assert!(Authority::load(one.certificate_pem(), two.key_pem()).is_err());
        assert!(Authority::load("nonsense", one.key_pem()).is_err());
    }
}
