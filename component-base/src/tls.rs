//! TLS: certificates from files that are loaded again when they change, for servers and clients, and optional verification of client certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::client::install_crypto_provider;
use crate::pki;
use crate::shutdown::Shutdown;

/// How often files are looked at for changes.
pub(crate) const RELOAD_PERIOD: Duration = Duration::from_secs(10);

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file's path.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A text has no usable certificate or key.
    #[error("no usable {0}")]
    Pem(&'static str, #[source] rustls_pki_types::pem::Error),
    /// There are no certificates in a bundle.
    #[error("no certificates in {0}")]
    NoCertificates(String),
    /// rustls refuses the certificate or key.
    #[error("unusable certificate or key")]
    Tls(#[from] rustls::Error),
    /// The client CA bundle cannot be used.
    #[error("unusable client CA bundle")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
    /// A self-signed certificate cannot be made.
    #[error("cannot make a self-signed certificate")]
    SelfSigned(#[from] pki::Error),
}

/// Where a server's certificate comes from.
#[derive(Clone, Debug)]
pub enum ServingCertificate {
    /// PEM files, which are loaded again when they change.
    Files {
        /// Certificate chain.
        certificate: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// PEM texts.
    Pem(pki::Issued),
    /// A new self-signed certificate for these hosts, kept in memory.
    SelfSigned(Vec<String>),
}

impl ServingCertificate {
    /// From `--tls-cert-file` and `--tls-private-key-file`; without them self-signed for these hosts.
    pub fn from_flags(certificate: Option<&Path>, key: Option<&Path>, hosts: &[&str]) -> Self {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Self::Files { certificate: certificate.to_owned(), key: key.to_owned() },
            _ => Self::SelfSigned(hosts.iter().map(|&host| host.to_owned()).collect()),
        }
    }
}

/// The TLS side of a server.
#[derive(Clone)]
pub struct Server {
    /// For tokio-rustls; follows changes of the files by itself.
    pub config: Arc<ServerConfig>,
    certificate: Arc<ReloadingCertificate>,
}

impl Server {
    /// Sets TLS up: TLS 1.2 and 1.3, ALPN `h2` and `http/1.1`. With `client_ca` (a PEM bundle's path), clients may present a certificate, which must
    /// then be signed by it; without one in the request the connection is accepted, and it is for the server to say what it may do. A task
    /// follows the files' changes until shutdown; must be called within a tokio runtime.
    pub fn new(source: ServingCertificate, client_ca: Option<&Path>, shutdown: Shutdown) -> Result<Self, Error> {
        let verifier = client_ca.map(|path| ReloadingVerifier::new(path).map(Arc::new)).transpose()?;
        let shared = verifier.clone().map(|verifier| verifier as Arc<dyn ClientCertVerifier>);
        Self::build(source, shared, verifier, shutdown)
    }

    /// As [`Server::new`], with a verifier of the caller's own.
    pub fn with_verifier(
        source: ServingCertificate,
        verifier: Arc<dyn ClientCertVerifier>,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        Self::build(source, Some(verifier), None, shutdown)
    }

    fn build(
        source: ServingCertificate,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
        reloading: Option<Arc<ReloadingVerifier>>,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        install_crypto_provider();
        let certificate = Arc::new(ReloadingCertificate::new(source)?);
        let builder = ServerConfig::builder();
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        let followed = Arc::clone(&certificate);
        tokio::spawn(async move { follow(&followed, reloading.as_deref(), shutdown).await });
        Ok(Self { config: Arc::new(config), certificate })
    }

    /// Loads the files again now, for one who has just written them.
    pub fn reload(&self) -> Result<(), Error> {
        self.certificate.reload().map(drop)
    }
}

async fn follow(certificate: &ReloadingCertificate, verifier: Option<&ReloadingVerifier>, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(RELOAD_PERIOD);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = certificate.reload() {
            tracing::warn!(%error, "serving certificate cannot be reloaded, keeping the old one");
        }
        if let Some(Err(error)) = verifier.map(ReloadingVerifier::reload) {
            tracing::warn!(%error, "client CA bundle cannot be reloaded, keeping the old one");
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.display().to_string(), source })
}

/// Certificates and key as rustls signs with them.
pub fn certified_key(certificates: &[u8], key: &[u8]) -> Result<CertifiedKey, Error> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<_, _>>()
        .map_err(|source| Error::Pem("certificate", source))?;
    if chain.is_empty() {
        return Err(Error::NoCertificates("the serving certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| Error::Pem("private key", source))?;
    let provider = CryptoProvider::get_default()
        .map_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()), Arc::clone);
    Ok(CertifiedKey::from_der(chain, key, &provider)?)
}

/// The certificates of a PEM bundle as trust anchors.
pub fn roots(bundle: &[u8], name: &str) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        store.add(certificate.map_err(|source| Error::Pem("CA certificate", source))?)?;
    }
    if store.is_empty() {
        return Err(Error::NoCertificates(name.to_owned()));
    }
    Ok(store)
}

/// Content of files, to see whether they changed.
type Contents = (Vec<u8>, Vec<u8>);

/// A certificate with its key, which is loaded again when its files have changed.
#[derive(Debug)]
pub(crate) struct ReloadingCertificate {
    files: Option<(PathBuf, PathBuf)>,
    loaded: ArcSwap<(Contents, Arc<CertifiedKey>)>,
}

impl ReloadingCertificate {
    pub(crate) fn new(source: ServingCertificate) -> Result<Self, Error> {
        let (files, contents) = match source {
            ServingCertificate::Files { certificate, key } => {
                let contents = (read(&certificate)?, read(&key)?);
                (Some((certificate, key)), contents)
            }
            ServingCertificate::Pem(issued) => (None, (issued.certificate.into_bytes(), issued.key.into_bytes())),
            ServingCertificate::SelfSigned(hosts) => {
                let issued = pki::self_signed_serving(hosts, std::time::SystemTime::now())?;
                (None, (issued.certificate.into_bytes(), issued.key.into_bytes()))
            }
        };
        let key = Arc::new(certified_key(&contents.0, &contents.1)?);
        Ok(Self { files, loaded: ArcSwap::from_pointee((contents, key)) })
    }

    /// Loads the files if they have changed; says whether they have. While they do not fit each other the old ones stay.
    pub(crate) fn reload(&self) -> Result<bool, Error> {
        let Some((certificate, key)) = &self.files else { return Ok(false) };
        let contents = (read(certificate)?, read(key)?);
        if self.loaded.load().0 == contents {
            return Ok(false);
        }
        let key = Arc::new(certified_key(&contents.0, &contents.1)?);
        self.loaded.store(Arc::new((contents, key)));
        tracing::info!(certificate = %certificate.display(), "certificate loaded again");
        Ok(true)
    }
}

impl ResolvesClientCert for ReloadingCertificate {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = Arc::clone(&self.loaded.load().1);
        key.key.choose_scheme(schemes).is_some().then_some(key)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for ReloadingCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.loaded.load().1))
    }
}

#[derive(Debug)]
struct ReloadingVerifier {
    path: PathBuf,
    loaded: ArcSwap<(Vec<u8>, Arc<dyn ClientCertVerifier>)>,
}

impl ReloadingVerifier {
    fn new(path: &Path) -> Result<Self, Error> {
        let bundle = read(path)?;
        let verifier = Self::build(&bundle, path)?;
        Ok(Self { path: path.to_owned(), loaded: ArcSwap::from_pointee((bundle, verifier)) })
    }

    fn build(bundle: &[u8], path: &Path) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let roots = roots(bundle, &path.display().to_string())?;
        Ok(WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().clear_root_hint_subjects().build()?)
    }

    fn reload(&self) -> Result<(), Error> {
        let bundle = read(&self.path)?;
        if self.loaded.load().0 == bundle {
            return Ok(());
        }
        let verifier = Self::build(&bundle, &self.path)?;
        self.loaded.store(Arc::new((bundle, verifier)));
        tracing::info!(path = %self.path.display(), "client CA bundle loaded again");
        Ok(())
    }
}

impl ClientCertVerifier for ReloadingVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.loaded.load().1.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.loaded.load().1.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.loaded.load().1.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.loaded.load().1.supported_verify_schemes()
    }
}

/// Takes any server certificate whose key the server holds: for peers that are identified in another way, as kubelets are by the
/// address of their node when no certificate authority for them is given.
#[derive(Debug)]
pub struct AcceptAnyServer(rustls::crypto::CryptoProvider);

impl Default for AcceptAnyServer {
    fn default() -> Self {
        AcceptAnyServer(rustls::crypto::aws_lc_rs::default_provider())
    }
}

impl rustls::client::danger::ServerCertVerifier for AcceptAnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
