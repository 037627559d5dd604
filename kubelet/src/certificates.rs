//! The kubelet's own certificates: the first one by bootstrap token, renewal before they end, and the serving certificate.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use component_base::pki::{self, Certificate, KeyType, Names, Subject};
use component_base::shutdown::Shutdown;
use component_base::{client, tls, version};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::config::{AuthInfo, Kubeconfig, NamedAuthInfo};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
const CLIENT_USAGES: &[&str] = &["digital signature", "client auth"];
const SERVING_USAGES: &[&str] = &["digital signature", "server auth"];
const CLIENT_FILE: &str = "kubelet-client-current.pem";
const SERVING_FILE: &str = "kubelet-server-current.pem";
/// How long a request may stay open before another is made.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Wait after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// The part of a certificate's life after which it is renewed, in percent.
const RENEW_AT: u32 = 80;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("{path}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error("the kubeconfig {path} cannot be used")]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    #[error("the API server does not take the certificate request")]
    Api(#[from] kube::Error),
    #[error("the certificate request {name} was {outcome}: {message}")]
    Refused { name: String, outcome: &'static str, message: String },
    #[error("the certificate request {0} was deleted before it was answered")]
    Deleted(String),
    #[error("the certificate request {0} was not answered in time")]
    Unanswered(String),
    #[error("the kubeconfig cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    #[error("neither --kubeconfig nor --bootstrap-kubeconfig names a file that exists")]
    NoKubeconfig,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// Makes sure that the kubeconfig exists and can be used: asks for a client certificate with the bootstrap credentials when there is none
/// or it has ended. `false` on shutdown.
pub async fn bootstrap(
    kubeconfig: &Path,
    bootstrap: Option<&Path>,
    directory: &Path,
    node: &str,
    shutdown: &Shutdown,
) -> Result<bool, Error> {
    let bootstrap = bootstrap.filter(|path| path.exists());
    if kubeconfig.exists() && (bootstrap.is_none() || is_usable(kubeconfig)?) {
        return Ok(true);
    }
    let bootstrap = bootstrap.ok_or(Error::NoKubeconfig)?;
    let client = client::from_kubeconfig(bootstrap, &version::user_agent("kubelet-bootstrap")).await?;
    loop {
        let outcome = tokio::select! {
            outcome = renew_client(&client, directory, node) => outcome,
            () = shutdown.cancelled() => return Ok(false),
        };
        match outcome {
            Ok(()) => break,
            Err(error) => tracing::warn!(error = crate::worker::chain(&error), "no client certificate yet"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = shutdown.cancelled() => return Ok(false),
        }
    }
    write_kubeconfig(kubeconfig, bootstrap, &directory.join(CLIENT_FILE))?;
    tracing::info!(kubeconfig = %kubeconfig.display(), "the node has its client certificate");
    Ok(true)
}

/// Whether no client certificate of a kubeconfig has ended.
fn is_usable(kubeconfig: &Path) -> Result<bool, Error> {
    let failed = |source| Error::Kubeconfig { path: kubeconfig.to_owned(), source: Box::new(source) };
    let config = Kubeconfig::read_from(kubeconfig).map_err(failed)?;
    let mut files = config.auth_infos.iter().filter_map(|user| user.auth_info.as_ref()?.client_certificate.as_ref());
    Ok(!files.any(|file| has_ended(Path::new(file))))
}

/// Whether a certificate is no use any more.
fn has_ended(path: &Path) -> bool {
    let read = std::fs::read_to_string(path).map_err(io(path)).and_then(|text| Ok(Certificate::parse(&text)?));
    match read {
        Ok(certificate) => certificate.validity.not_after <= SystemTime::now(),
        Err(error) => {
            tracing::warn!(error = crate::worker::chain(&error), "the client certificate cannot be used");
            true
        }
    }
}

/// The bootstrap kubeconfig with the new certificate in place of its token.
fn write_kubeconfig(to: &Path, from: &Path, certificate: &Path) -> Result<(), Error> {
    let failed = |source| Error::Kubeconfig { path: from.to_owned(), source: Box::new(source) };
    let mut config = Kubeconfig::read_from(from).map_err(failed)?;
    let path = Some(certificate.display().to_string());
    let auth = AuthInfo { client_certificate: path.clone(), client_key: path, ..Default::default() };
    let user = "default-auth".to_owned();
    config.auth_infos = vec![NamedAuthInfo { name: user.clone(), auth_info: Some(auth), other: Default::default() }];
    for context in config.contexts.iter_mut().filter_map(|context| context.context.as_mut()) {
        context.user = Some(user.clone());
    }
    write(to, &serde_json::to_string_pretty(&config)?)
}

/// Writes a file of secrets as a whole.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(io(parent))?;
    }
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).map_err(io(&fresh))?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).map_err(io(&fresh))?;
    std::fs::rename(&fresh, path).map_err(io(path))
}

async fn renew_client(client: &Client, directory: &Path, node: &str) -> Result<(), Error> {
    let subject = Subject::new(format!("system:node:{node}"), &["system:nodes"]);
    let pair = request(client, CLIENT_SIGNER, CLIENT_USAGES, &subject, &Names::default()).await?;
    let name = format!("kubelet-client-{}.pem", jiff::Timestamp::now().strftime("%Y-%m-%d-%H-%M-%S"));
    write(&directory.join(&name), &pair)?;
    link(directory, &name, CLIENT_FILE)
}

/// Points the name of the current certificate at a file.
fn link(directory: &Path, to: &str, name: &str) -> Result<(), Error> {
    let (fresh, current) = (directory.join(format!("{name}.new")), directory.join(name));
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(&fresh)(error)),
        _ => {}
    }
    std::os::unix::fs::symlink(to, &fresh).map_err(io(&fresh))?;
    std::fs::rename(&fresh, &current).map_err(io(&current))
}

/// Asks for a certificate and waits for it: certificate and key in one PEM.
async fn request(
    client: &Client,
    signer: &str,
    usages: &[&str],
    subject: &Subject,
    names: &Names,
) -> Result<String, Error> {
    let key = pki::generate_key(KeyType::EcdsaP256)?;
    let csr = pki::create_csr(&key, subject, names)?;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let object = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".into()), ..Default::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(csr.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(usages.iter().map(|usage| (*usage).to_owned()).collect()),
            ..Default::default()
        },
        status: None,
    };
    let name = api.create(&PostParams::default(), &object).await?.metadata.name.unwrap_or_default();
    let certificate = match tokio::time::timeout(PATIENCE, answer(&api, &name)).await {
        Ok(answer) => answer?,
        Err(_) => return Err(Error::Unanswered(name)),
    };
    Ok(format!("{}\n{}", certificate.trim_end(), key.serialize_pem()))
}

/// Watches a request until it is decided: the certificate.
async fn answer(api: &Api<CertificateSigningRequest>, name: &str) -> Result<String, Error> {
    let open = |request: Option<&CertificateSigningRequest>| request.is_some_and(|request| decision(request).is_none());
    loop {
        match await_condition(api.clone(), name, |request: Option<&CertificateSigningRequest>| !open(request)).await {
            Ok(Some(request)) => match decision(&request) {
                Some(Ok(certificate)) => return Ok(certificate),
                Some(Err((outcome, message))) => {
                    return Err(Error::Refused { name: name.to_owned(), outcome, message });
                }
                None => {}
            },
            Ok(None) => return Err(Error::Deleted(name.to_owned())),
            Err(error) => {
                tracing::warn!(request = name, error = crate::worker::chain(&error), "the request cannot be watched");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// What was decided about a request: the certificate, or what happened to it instead and why. Pure.
fn decision(request: &CertificateSigningRequest) -> Option<Result<String, (&'static str, String)>> {
    let status = request.status.as_ref()?;
    for condition in status.conditions.iter().flatten() {
        let outcome = match condition.type_.as_str() {
            "Denied" => "denied",
            "Failed" => "not signed",
            _ => continue,
        };
        return Some(Err((outcome, condition.message.clone().unwrap_or_default())));
    }
    let certificate = status.certificate.as_ref().filter(|certificate| !certificate.0.is_empty())?;
    Some(Ok(String::from_utf8_lossy(&certificate.0).into_owned()))
}

/// How long until a certificate is to be renewed. Pure.
fn until_renewal(from: SystemTime, to: SystemTime, now: SystemTime) -> Duration {
    let life = to.duration_since(from).unwrap_or(Duration::ZERO);
    let due = from + life * RENEW_AT / 100;
    due.duration_since(now).unwrap_or(Duration::ZERO)
}

fn renewal_of(path: &Path) -> Result<Duration, Error> {
    let text = std::fs::read_to_string(path).map_err(io(path))?;
    let certificate = Certificate::parse(&text)?;
    Ok(until_renewal(certificate.validity.not_before, certificate.validity.not_after, SystemTime::now()))
}

/// Renews the client certificate before it ends; the client takes the new one from its files. A kubeconfig with a certificate of its own is
/// left alone. Once the certificate has ended, as when the node slept, only the bootstrap credentials help.
pub async fn rotate_client(client: Client, bootstrap: Option<PathBuf>, directory: PathBuf, node: String) {
    let current = directory.join(CLIENT_FILE);
    if !current.exists() {
        return;
    }
    loop {
        match renewal_of(&current) {
            Ok(wait) => tokio::time::sleep(wait).await,
            Err(error) => tracing::warn!(error = crate::worker::chain(&error), "the client certificate cannot be read"),
        }
        let renewed = async {
            match bootstrap.as_deref().filter(|path| path.exists() && has_ended(&current)) {
                Some(path) => {
                    let client = client::from_kubeconfig(path, &version::user_agent("kubelet-bootstrap")).await?;
                    renew_client(&client, &directory, &node).await
                }
                None => renew_client(&client, &directory, &node).await,
            }
        };
        match renewed.await {
            Ok(()) => tracing::info!("the client certificate is renewed"),
            Err(error) => {
                tracing::warn!(error = crate::worker::chain(&error), "the client certificate is not renewed yet");
                tokio::time::sleep(RETRY * 5).await;
            }
        }
    }
}

/// The serving certificate: as configured, else self-signed and kept in the directory.
pub fn serving(
    configured: (Option<&Path>, Option<&Path>),
    directory: &Path,
    hosts: &[String],
    bootstrap: bool,
) -> Result<tls::ServingCertificate, Error> {
    if let (Some(certificate), Some(key)) = configured {
        return Ok(tls::ServingCertificate::Files { certificate: certificate.to_owned(), key: key.to_owned() });
    }
    let file = directory.join(if bootstrap { SERVING_FILE } else { "kubelet-self-signed.pem" });
    let usable = renewal_of(&file).is_ok_and(|left| left > Duration::ZERO);
    if !usable {
        let issued = pki::self_signed_serving(hosts, SystemTime::now())?;
        write(&file, &format!("{}\n{}", issued.certificate.trim_end(), issued.key))?;
    }
    Ok(tls::ServingCertificate::Files { certificate: file.clone(), key: file })
}

/// For how long the file's certificate need not be renewed, if it is one that the cluster gave for this subject and these names.
fn serves(file: &Path, subject: &Subject, names: &Names) -> Option<Duration> {
    let certificate = Certificate::parse(&std::fs::read_to_string(file).ok()?).ok()?;
    let is_theirs = certificate.subject == *subject
        && names.dns.iter().all(|name| certificate.names.dns.contains(name))
        && names.ips.iter().all(|ip| certificate.names.ips.contains(ip));
    let left = until_renewal(certificate.validity.not_before, certificate.validity.not_after, SystemTime::now());
    Some(left).filter(|left| is_theirs && *left > Duration::ZERO)
}

/// Asks for a serving certificate of the cluster, and again before it ends. The server loads the file when it changes.
pub async fn rotate_serving(client: Client, directory: PathBuf, node: String, hosts: Vec<String>) {
    let file = directory.join(SERVING_FILE);
    let subject = Subject::new(format!("system:node:{node}"), &["system:nodes"]);
    let names = Names::from_hosts(&hosts);
    loop {
        if let Some(left) = serves(&file, &subject, &names) {
            tokio::time::sleep(left).await;
        }
        let renewed = async {
            let pair = request(&client, SERVING_SIGNER, SERVING_USAGES, &subject, &names).await?;
            write(&file, &pair)
        };
        if let Err(error) = renewed.await {
            tracing::warn!(error = crate::worker::chain(&error), "no serving certificate of the cluster yet");
            tokio::time::sleep(RETRY * 5).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_open_until_it_is_signed_denied_or_failed() {
        let decided = |status: serde_json::Value| {
            let request = serde_json::json!({"spec": {"request": "", "signerName": ""}, "status": status});
            decision(&serde_json::from_value(request).unwrap())
        };
        assert_eq!(decided(serde_json::json!({})), None);
        assert_eq!(decided(serde_json::json!({"conditions": [{"type": "Approved", "status": "True"}]})), None);
        assert_eq!(decided(serde_json::json!({"certificate": "UEVN"})), Some(Ok("PEM".into())));
        for (kind, outcome) in [("Denied", "denied"), ("Failed", "not signed")] {
            let status = serde_json::json!({"conditions": [{"type": kind, "status": "True", "message": "m"}]});
            assert_eq!(decided(status), Some(Err((outcome, "m".to_owned()))));
        }
    }

    #[test]
    fn a_serving_certificate_is_asked_for_unless_the_clusters_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let hosts = ["node1".to_owned(), "10.0.0.1".to_owned()];
        serving((None, None), directory.path(), &hosts, true).unwrap();
        let file = directory.path().join(SERVING_FILE);
        let (subject, names) = (Subject::new("system:node:node1", &["system:nodes"]), Names::from_hosts(&hosts));
        assert_eq!(serves(&file, &subject, &names), None, "it is self-signed");
        let ca = pki::Authority::generate("ca", KeyType::EcdsaP256, SystemTime::now()).unwrap();
        let validity = pki::Validity::from(SystemTime::now(), Duration::from_secs(1000));
        let issued = ca.issue(&subject, &names, pki::Usage::SERVER, validity, KeyType::EcdsaP256).unwrap();
        write(&file, &issued.certificate).unwrap();
        assert!(serves(&file, &subject, &names).is_some_and(|left| left < Duration::from_secs(1000)));
        let moved = Names::from_hosts(["node1", "10.0.0.2"]);
        assert_eq!(serves(&file, &subject, &moved), None, "the node has another address");
    }

    #[test]
    fn a_kubeconfig_is_no_use_once_its_certificate_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, file) = (directory.path().join("c.pem"), directory.path().join("kubelet.conf"));
        let from =
            serde_json::json!({"clusters": [], "contexts": [], "users": [{"name": "u", "user": {"token": "t"}}]});
        write(&file, &from.to_string()).unwrap();
        assert!(is_usable(&file).unwrap(), "a token does not end");
        let own = directory.path().join("own.conf");
        write_kubeconfig(&own, &file, &certificate).unwrap();
        assert!(!is_usable(&own).unwrap(), "there is no certificate");
        let ca = pki::Authority::generate("ca", KeyType::EcdsaP256, SystemTime::now()).unwrap();
        for (ended, usable) in [(Duration::from_secs(50), true), (Duration::ZERO, false)] {
            let validity = pki::Validity::from(SystemTime::now(), ended);
            let subject = Subject::new("system:node:n", &["system:nodes"]);
            let issued =
                ca.issue(&subject, &Names::default(), pki::Usage::CLIENT, validity, KeyType::EcdsaP256).unwrap();
            write(&certificate, &issued.certificate).unwrap();
            assert_eq!(is_usable(&own).unwrap(), usable);
        }
    }

    #[test]
    fn certificates_are_renewed_after_four_fifths_of_their_life() {
        let start = SystemTime::UNIX_EPOCH;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(until_renewal(at(0), at(100), at(0)), Duration::from_secs(80));
        assert_eq!(until_renewal(at(0), at(100), at(90)), Duration::ZERO);
    }

    #[test]
    fn a_self_signed_serving_certificate_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let hosts = ["node1".to_owned(), "10.0.0.1".to_owned()];
        serving((None, None), directory.path(), &hosts, false).unwrap();
        let file = directory.path().join("kubelet-self-signed.pem");
        let first = std::fs::read(&file).unwrap();
        serving((None, None), directory.path(), &hosts, false).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), first);
        let read = Certificate::parse(&String::from_utf8(first).unwrap()).unwrap();
        assert_eq!(read.names.dns, ["node1"]);
    }
}
