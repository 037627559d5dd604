//! Certificates in TLS: which chains lead to a CA of ours, and a handshake that asks for a certificate without judging it.
//!
//! Two CAs may sign client certificates (the cluster's and the front proxies'), and a certificate of neither must be answered
//! with 401, not with a TLS alert. So the handshake only proves possession of the key, and authenticators judge the chain.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not PEM: {reason}")]
    Pem { path: String, reason: String },
    #[error("{path} holds no usable CA certificate")]
    Empty { path: String },
    #[error("the CA certificates cannot be used: {0}")]
    Verifier(String),
}

/// A bundle of CA certificates that client certificates are checked against.
#[derive(Clone, Debug)]
pub struct ClientCa {
    /// The bundle as it was read.
    pub pem: String,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientCa {
    pub fn from_file(path: &Path) -> Result<Self, CertificatesError> {
        let shown = path.display().to_string();
        let pem =
            std::fs::read_to_string(path).map_err(|source| CertificatesError::Read { path: shown.clone(), source })?;
        Self::from_pem(pem, &shown)
    }

    /// `origin` is what messages call the bundle.
    pub fn from_pem(pem: String, origin: &str) -> Result<Self, CertificatesError> {
        let blocks =
            pem::parse_many(&pem).map_err(|e| CertificatesError::Pem { path: origin.into(), reason: e.to_string() })?;
        let mut roots = RootCertStore::empty();
        let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
        let (added, _) =
            roots.add_parsable_certificates(certificates.map(|block| CertificateDer::from(block.into_contents())));
        if added == 0 {
            return Err(CertificatesError::Empty { path: origin.into() });
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|e| CertificatesError::Verifier(e.to_string()))?;
        Ok(ClientCa { pem, verifier })
    }

    /// Whether the chain leads to this CA, is within its time, and may be used by clients.
    pub fn verify(&self, chain: &[CertificateDer<'static>], now: jiff::Timestamp) -> Result<(), String> {
        let (leaf, intermediates) = chain.split_first().ok_or("no certificate")?;
        let since_epoch = std::time::Duration::from_secs(now.as_second().max(0).unsigned_abs());
        self.verifier
            .verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(since_epoch))
            .map(drop)
            .map_err(|e| e.to_string())
    }

    /// The names of the CAs, as the handshake tells them to clients.
    fn subjects(&self) -> Vec<DistinguishedName> {
        self.verifier.root_hint_subjects().to_vec()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// For the server's TLS configuration: asks for a client certificate, takes any or none, and proves that the client holds its key.
#[derive(Debug)]
pub struct RequestClientCert {
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl RequestClientCert {
    /// `authorities` are named to the client as those whose certificates are of use.
    pub fn new<'a>(authorities: impl IntoIterator<Item = &'a ClientCa>) -> Self {
        RequestClientCert {
            hints: authorities.into_iter().flat_map(ClientCa::subjects).collect(),
            provider: provider(),
        }
    }
}

impl ClientCertVerifier for RequestClientCert {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::client::ResolvesClientCert;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
    use rustls::sign::CertifiedKey;
    use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

    use super::*;

    struct Own {
        certificate: CertificateDer<'static>,
        key: KeyPair,
    }

    impl Own {
        fn new() -> Self {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
            Own { certificate: params.self_signed(&key).expect("a certificate").der().clone(), key }
        }

        fn der(&self) -> PrivateKeyDer<'static> {
            PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
        }
    }

    /// Shows a certificate, and signs with a key that may not be its own.
    #[derive(Debug)]
    struct Shows(Arc<CertifiedKey>);

    impl ResolvesClientCert for Shows {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    fn server(own: &Own) -> ServerConnection {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(Arc::new(RequestClientCert::new([])))
            .with_single_cert(vec![own.certificate.clone()], own.der())
            .expect("a configuration");
        ServerConnection::new(Arc::new(config)).expect("a connection")
    }

    fn client(server: &Own, shown: Option<(&Own, &Own)>) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(server.certificate.clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = provider().key_provider.load_private_key(key.der()).expect("a key");
                let pair = CertifiedKey::new(vec![certificate.certificate.clone()], key);
                builder.with_client_cert_resolver(Arc::new(Shows(Arc::new(pair))))
            }
        };
        ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").expect("a name"))
            .expect("a connection")
    }

    /// Carries bytes between the two until both have finished; the certificates that the server has seen.
    fn handshake(mut client: ClientConnection, mut server: ServerConnection) -> Result<usize, rustls::Error> {
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).expect("memory");
            server.read_tls(&mut bytes.as_slice()).expect("memory");
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).expect("memory");
            client.read_tls(&mut bytes.as_slice()).expect("memory");
            client.process_new_packets()?;
        }
        Ok(server.peer_certificates().map_or(0, <[_]>::len))
    }

    #[test]
    fn any_certificate_is_taken_from_who_has_its_key() {
        let (own, stranger, thief) = (Own::new(), Own::new(), Own::new());
        assert_eq!(handshake(client(&own, None), server(&own)), Ok(0));
        assert_eq!(handshake(client(&own, Some((&stranger, &stranger))), server(&own)), Ok(1));
        assert!(handshake(client(&own, Some((&stranger, &thief))), server(&own)).is_err(), "not its own key");
    }
}
