//! How a node gets its certificates: the first one by bootstrap token, later ones before they end, and one to serve with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use component_base::pki::{Authority, Certificate, KeyType, Names, Usage, Validity};
use e2e::Options;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node as NodeObject, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::PostParams;
use kube::{Api, Client};
use kubeadm::config::BootstrapToken;
use kubeadm::kubeconfigs::{Credential, kubeconfig};
use kubeadm::objects::bootstrap_rights;
use kubeadm::tokens::{self, Token};
use rustls_pki_types::pem::PemObject;

use crate::support::api::{Cluster, eventually, on_runtime};
use crate::support::node::ADDRESS;

/// Certificates are dated back by five minutes; after four fifths of their life, a few seconds from now, they are renewed.
const SIGNED_FOR: &str = "83s";

/// A bootstrap token, and what lets it be used.
async fn make_token(client: &Client) -> Token {
    let token = Token::generate();
    let secret = tokens::secret(&token, &BootstrapToken::default(), Timestamp::now()).unwrap();
    let secret: Secret = serde_json::from_value(secret).unwrap();
    Api::namespaced(client.clone(), "kube-system").create(&PostParams::default(), &secret).await.unwrap();
    for object in bootstrap_rights() {
        let params = PostParams::default();
        if object["kind"] == "ClusterRole" {
            let role: ClusterRole = serde_json::from_value(object).unwrap();
            Api::all(client.clone()).create(&params, &role).await.map(drop).unwrap();
        } else {
            let binding: ClusterRoleBinding = serde_json::from_value(object).unwrap();
            Api::all(client.clone()).create(&params, &binding).await.map(drop).unwrap();
        }
    }
    token
}

fn certificate(path: &Path) -> Certificate {
    Certificate::parse(&fs::read_to_string(path).unwrap()).unwrap()
}

async fn renewed_at(client: &Client) -> Option<Timestamp> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    Some(leases.get_opt("n1").await.unwrap()?.spec?.renew_time?.0)
}

/// What the kubelet serves with, which is a certificate of the cluster for the node's address.
async fn handshake(ca: PathBuf) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pki_types::CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect((ADDRESS, 10250)).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(rustls_pki_types::ServerName::try_from(ADDRESS)?, stream).await?;
    let chain = stream.get_ref().1.peer_certificates().ok_or("no certificate")?;
    Ok(chain[0].to_vec())
}

/// The requests for serving certificates that nobody has decided about.
async fn open_requests(client: &Client) -> Vec<CertificateSigningRequest> {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let is_open = |request: &CertificateSigningRequest| {
        let decided = request.status.as_ref().is_some_and(|status| status.conditions.is_some());
        !decided && request.spec.signer_name == "kubernetes.io/kubelet-serving"
    };
    requests.list(&Default::default()).await.unwrap().items.into_iter().filter(is_open).collect()
}

async fn approve_serving_requests(client: &Client) {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    for mut request in open_requests(client).await {
        request.status.get_or_insert_default().conditions = Some(vec![CertificateSigningRequestCondition {
            type_: "Approved".into(),
            status: "True".into(),
            ..Default::default()
        }]);
        let name = request.metadata.name.clone().unwrap();
        requests.replace_subresource("approval", &name, &PostParams::default(), &request).await.unwrap();
    }
}

#[test]
fn a_node_joins_with_a_token_and_renews_its_certificates() {
    on_runtime(async || {
        let flags = vec![("cluster-signing-duration".to_owned(), SIGNED_FOR.to_owned())];
        let options = Options { controller_manager: true, controller_manager_flags: flags, ..Default::default() };
        let configuration = "rotateCertificates: true\nserverTLSBootstrap: true\nnodeLeaseDurationSeconds: 4\n";
        let mut cluster = Cluster::prepare(options, configuration).await;
        let token = make_token(&cluster.client).await;
        let ca = cluster.plane.pki_dir().join("ca.crt");
        let authority = fs::read_to_string(&ca).unwrap();
        let credential = format!("{}.{}", token.id, token.secret);
        let text =
            kubeconfig("c", &cluster.plane.server(), &authority, "tls-bootstrap", &Credential::Token(&credential))
                .unwrap();
        let (first, own) = (cluster.node.path("bootstrap.conf"), cluster.node.path("kubelet.conf"));
        fs::write(&first, &text).unwrap();
        for (flag, path) in [("--bootstrap-kubeconfig", &first), ("--kubeconfig", &own)] {
            cluster.node.flags.extend([flag.to_owned(), path.display().to_string()]);
        }
        cluster.node.start_kubelet();

        let nodes: Api<NodeObject> = Api::all(cluster.client.clone());
        eventually("the node is registered", async || nodes.get_opt("n1").await.unwrap()).await;
        let current = cluster.node.path("pki/kubelet-client-current.pem");
        let (target, subject) = (fs::read_link(&current).unwrap(), certificate(&current).subject);
        assert_eq!(subject.common_name, "system:node:n1");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&current).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);

        // The serving certificate has to be approved by someone.
        assert!(handshake(ca.clone()).await.is_err(), "it serves with a certificate that is not the cluster's");
        eventually("the kubelet serves with a certificate of the cluster", async || {
            approve_serving_requests(&cluster.client).await;
            handshake(ca.clone()).await.ok()
        })
        .await;

        // The client certificate is renewed, and used: requests go on after the first one has ended.
        eventually("the client certificate is renewed", async || {
            (fs::read_link(&current).unwrap() != target).then_some(())
        })
        .await;
        assert_eq!(certificate(&current).subject, subject);
        let renewed = renewed_at(&cluster.client).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        eventually("the lease is renewed with the new certificate", async || {
            (renewed_at(&cluster.client).await > renewed).then_some(())
        })
        .await;

        // With its own credentials the token is not needed any more, and no certificate is asked for again.
        cluster.node.stop_kubelet();
        fs::remove_file(&first).unwrap();
        let before = fs::read_link(&current).unwrap();
        let renewed = renewed_at(&cluster.client).await;
        cluster.node.start_kubelet();
        eventually("the node is alive again", async || (renewed_at(&cluster.client).await > renewed).then_some(()))
            .await;
        assert!(certificate(&cluster.node.path("pki").join(before)).subject == subject);

        // A node that comes back after its certificate has ended needs the token once more.
        cluster.node.stop_kubelet();
        let key = fs::read_to_string(cluster.plane.pki_dir().join("ca.key")).unwrap();
        let past =
            Validity { not_before: SystemTime::UNIX_EPOCH, not_after: SystemTime::now() - Duration::from_secs(1) };
        let ended = Authority::load(&authority, &key)
            .unwrap()
            .issue(&subject, &Names::default(), Usage::CLIENT, past, KeyType::EcdsaP256)
            .unwrap();
        fs::write(&current, format!("{}\n{}", ended.certificate, ended.key)).unwrap();
        fs::write(&first, text).unwrap();
        let renewed = renewed_at(&cluster.client).await;
        cluster.node.start_kubelet();
        eventually("the node is back", async || (renewed_at(&cluster.client).await > renewed).then_some(())).await;
        assert!(certificate(&current).validity.not_after > SystemTime::now());
    });
}

#[test]
fn a_serving_certificate_is_renewed_while_the_kubelet_runs() {
    on_runtime(async || {
        let flags = vec![("cluster-signing-duration".to_owned(), SIGNED_FOR.to_owned())];
        let options = Options { controller_manager: true, controller_manager_flags: flags, ..Default::default() };
        let mut cluster = Cluster::prepare(options, "rotateCertificates: true\nserverTLSBootstrap: true\n").await;
        cluster.start().await;
        let kubelet = cluster.node.kubelet_pid();
        let ca = cluster.plane.pki_dir().join("ca.crt");
        let request =
            async |what: &str| eventually(what, async || open_requests(&cluster.client).await.into_iter().next()).await;

        let first = request("a serving certificate is asked for").await;
        assert_eq!(first.spec.username.as_deref(), Some("system:node:n1"));
        assert_eq!(first.spec.usages.unwrap(), ["digital signature", "server auth"]);
        assert!(handshake(ca.clone()).await.is_err(), "nobody has approved it");
        approve_serving_requests(&cluster.client).await;
        let served = eventually("it is served", async || handshake(ca.clone()).await.ok()).await;
        let kept = certificate(&cluster.node.path("pki/kubelet-server-current.pem"));

        // Near its end another is asked for, with another key; until it is there, the first one is served.
        let second = request("another serving certificate is asked for").await;
        assert_ne!((&first.metadata.name, &first.spec.request), (&second.metadata.name, &second.spec.request));
        assert_eq!(handshake(ca.clone()).await.unwrap(), served);
        approve_serving_requests(&cluster.client).await;
        eventually("the new one is served", async || handshake(ca.clone()).await.ok().filter(|now| *now != served))
            .await;
        let renewed = certificate(&cluster.node.path("pki/kubelet-server-current.pem"));
        assert_eq!((&renewed.subject, &renewed.names), (&kept.subject, &kept.names));
        assert!(renewed.validity.not_after > kept.validity.not_after);
        assert_eq!(cluster.node.kubelet_pid(), kubelet);
    });
}
