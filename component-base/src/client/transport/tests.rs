//! Against real servers over TLS on the loopback.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use bytes::Bytes;
use futures::future::join_all;
use http::{StatusCode, Version};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::pki::{self, Issued, KeyType, Names, Subject, Usage, Validity};
use crate::serving::{self, Handler, Peer, text};
use crate::shutdown::Shutdown;
use crate::tls::{self, ReloadingCertificate, ServingCertificate};

/// What a server saw of a request.
type Seen = (SocketAddr, Version, Option<String>);

/// A server that answers with nothing but a line, and tells what it saw. It holds every answer back until `hold` allows it.
struct Server {
    seen: Arc<Mutex<Vec<Seen>>>,
    hold: Arc<tokio::sync::Semaphore>,
    address: SocketAddr,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

struct Authority {
    authority: pki::Authority,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let authority = pki::Authority::generate("test", KeyType::EcdsaP256, SystemTime::now()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), authority.certificate_pem()).unwrap();
        Self { authority, dir }
    }

    fn issue(&self, name: &str, usage: Usage) -> Issued {
        let validity = Validity::from(SystemTime::now(), Duration::from_secs(3600));
        let names = Names::from_hosts(["localhost"]);
        let usages = [Usage::DigitalSignature, usage];
        self.authority.issue(&Subject::new(name, &[]), &names, &usages, validity, KeyType::EcdsaP256).unwrap()
    }

    fn roots(&self) -> rustls::RootCertStore {
        tls::roots(self.authority.certificate_pem().as_bytes(), "test").unwrap()
    }

    async fn serve(&self, address: SocketAddr, protocols: &[&[u8]]) -> Server {
        let shutdown = Shutdown::new();
        let certificate = ServingCertificate::Pem(self.issue("server", Usage::ServerAuth));
        let authority = self.dir.path().join("ca.crt");
        let mut server = tls::Server::new(certificate, Some(&authority), shutdown.clone()).unwrap();
        Arc::make_mut(&mut server.config).alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let (seen, hold) = (Arc::new(Mutex::new(Vec::new())), Arc::new(tokio::sync::Semaphore::new(0)));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler = answer(Arc::clone(&seen), Arc::clone(&hold));
        let task = tokio::spawn(serving::serve(listener, Some(server), handler, shutdown.clone()));
        Server { seen, hold, address, shutdown, task }
    }
}

fn answer(seen: Arc<Mutex<Vec<Seen>>>, hold: Arc<tokio::sync::Semaphore>) -> Handler {
    Arc::new(move |mut request| {
        let peer = request.extensions().get::<Peer>().unwrap().clone();
        let subject = peer.certificates.first().map(|der| pki::Certificate::from_der(der).unwrap().subject.common_name);
        seen.lock().push((peer.address, request.version(), subject));
        let hold = Arc::clone(&hold);
        Box::pin(async move {
            if request.headers().contains_key(UPGRADE) {
                tokio::spawn(async move {
                    let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                    let mut word = [0; 4];
                    stream.read_exact(&mut word).await.unwrap();
                    stream.write_all(&word).await.unwrap();
                });
                let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
                response.headers_mut().insert(UPGRADE, http::HeaderValue::from_static("echo"));
                return response;
            }
            hold.acquire().await.unwrap().forget();
            text(StatusCode::OK, "answer")
        })
    })
}

impl Server {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }

    /// The connections over which requests came.
    fn connections(&self) -> HashSet<SocketAddr> {
        self.seen.lock().iter().map(|(address, _, _)| *address).collect()
    }

    fn last(&self) -> Seen {
        self.seen.lock().last().unwrap().clone()
    }

    fn request(&self) -> Request<Body> {
        let uri = format!("https://localhost:{}/", self.address.port());
        Request::get(uri).body(Body::from(Bytes::new())).unwrap()
    }
}

fn transport(tls: &rustls::ClientConfig, keep_alive: KeepAlive) -> Transport {
    Transport::new(tls, None, None, keep_alive).unwrap()
}

fn anonymous(authority: &Authority) -> Transport {
    let config = rustls::ClientConfig::builder().with_root_certificates(authority.roots()).with_no_client_auth();
    transport(&config, KeepAlive::default())
}

async fn get(transport: &Transport, request: Request<Body>) -> Result<String, BoxError> {
    let response = transport.clone().call(request).await?;
    Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const BOTH: &[&[u8]] = &[b"h2", b"http/1.1"];
const ONLY_HTTP1: &[&[u8]] = &[b"http/1.1"];

#[tokio::test]
async fn many_requests_at_a_time_share_one_connection() {
    let authority = Authority::new();
    let server = authority.serve(ANY_PORT, BOTH).await;
    let transport = anonymous(&authority);
    let requests = join_all((0..60).map(|_| get(&transport, server.request())));
    let all_are_there = async {
        while server.seen.lock().len() < 60 {
            tokio::task::yield_now().await;
        }
        server.hold.add_permits(60);
    };
    let (answers, ()) = futures::join!(requests, all_are_there);
    assert!(answers.into_iter().all(|answer| answer.unwrap() == "answer"));
    assert_eq!(server.connections().len(), 1);
    assert_eq!(server.last().1, Version::HTTP_2);
}

#[tokio::test]
async fn a_server_without_http2_is_spoken_to_in_http1() {
    let authority = Authority::new();
    let server = authority.serve(ANY_PORT, ONLY_HTTP1).await;
    server.hold.add_permits(3);
    let transport = anonymous(&authority);
    for _ in 0..3 {
        assert_eq!(get(&transport, server.request()).await.unwrap(), "answer");
    }
    assert_eq!(server.last().1, Version::HTTP_11);
    assert_eq!(server.connections().len(), 1, "the connection that asked is used, and used again");
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_even_with_another_protocol() {
    let authority = Authority::new();
    let first = authority.serve(ANY_PORT, BOTH).await;
    let address = first.address;
    first.hold.add_permits(1);
    let transport = anonymous(&authority);
    assert_eq!(get(&transport, first.request()).await.unwrap(), "answer");
    first.stop().await;
    for (protocols, expected) in [(BOTH, Version::HTTP_2), (ONLY_HTTP1, Version::HTTP_11)] {
        let server = authority.serve(address, protocols).await;
        server.hold.add_permits(9);
        let mut failures = 0;
        while get(&transport, server.request()).await.is_err() {
            failures += 1;
            assert!(failures < 3, "it is not found");
        }
        assert_eq!(server.last().1, expected);
        server.stop().await;
    }
}

#[tokio::test]
async fn what_becomes_another_protocol_goes_over_http1() {
    let authority = Authority::new();
    let server = authority.serve(ANY_PORT, BOTH).await;
    server.hold.add_permits(1);
    let transport = anonymous(&authority);
    get(&transport, server.request()).await.unwrap();
    let mut request = server.request();
    request.headers_mut().insert(UPGRADE, http::HeaderValue::from_static("echo"));
    request.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("Upgrade"));
    let response = transport.clone().call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
    assert_eq!(server.last().1, Version::HTTP_11);
    assert_eq!(server.connections().len(), 2);
}

#[tokio::test]
async fn a_replaced_client_certificate_is_shown_by_new_connections() {
    let authority = Authority::new();
    let server = authority.serve(ANY_PORT, BOTH).await;
    server.hold.add_permits(3);
    let files = ["certificate", "key"].map(|name| authority.dir.path().join(name));
    let write = |name: &str| {
        let issued = authority.issue(name, Usage::ClientAuth);
        std::fs::write(&files[0], issued.certificate).unwrap();
        std::fs::write(&files[1], issued.key).unwrap();
    };
    write("before");
    let source = ServingCertificate::Files { certificate: files[0].clone(), key: files[1].clone() };
    let identity = Arc::new(ReloadingCertificate::new(source).unwrap());
    let resolver = Arc::clone(&identity) as Arc<dyn rustls::client::ResolvesClientCert>;
    let config =
        rustls::ClientConfig::builder().with_root_certificates(authority.roots()).with_client_cert_resolver(resolver);
    let transport = transport(&config, KeepAlive::default());
    get(&transport, server.request()).await.unwrap();
    assert_eq!(server.last().2.as_deref(), Some("before"));
    write("after");
    std::fs::write(&files[1], "half written").unwrap();
    assert!(identity.reload().is_err());
    get(&transport, server.request()).await.unwrap();
    assert_eq!(server.last().2.as_deref(), Some("before"));
    write("after");
    assert!(identity.reload().unwrap());
    transport.renew();
    get(&transport, server.request()).await.unwrap();
    assert_eq!(server.last().2.as_deref(), Some("after"));
}

/// A connection through which nothing passes any more from some time on, as when the other machine is gone.
async fn going_silent(target: SocketAddr, silent: Shutdown) -> SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(target).await.unwrap();
        tokio::select! {
            outcome = tokio::io::copy_bidirectional(&mut near, &mut far) => drop(outcome.unwrap()),
            () = silent.cancelled() => std::future::pending().await,
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed() {
    let authority = Authority::new();
    let mut server = authority.serve(ANY_PORT, BOTH).await;
    let silent = Shutdown::new();
    server.address = going_silent(server.address, silent.clone()).await;
    let config = rustls::ClientConfig::builder().with_root_certificates(authority.roots()).with_no_client_auth();
    let keep_alive = KeepAlive { ping_after: Duration::from_millis(100), timeout: Duration::from_millis(100) };
    let transport = transport(&config, keep_alive);
    let watch = tokio::spawn({
        let (transport, request) = (transport.clone(), server.request());
        async move { get(&transport, request).await }
    });
    while server.seen.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    silent.cancel();
    let outcome = tokio::time::timeout(Duration::from_secs(30), watch).await.expect("it is noticed").unwrap();
    assert!(outcome.is_err());
}
