use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::SystemTime;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::pki::{Authority, KeyType, Names, Subject, Usage, Validity};
use crate::tls::ServingCertificate;

/// Leads to one port of this machine, whatever is asked for; port 0 stands for no Service.
struct Here(u16);

impl Resolver for Here {
    fn resolve(&self, _: &str, name: &str, _: u16) -> Result<(String, u16), String> {
        if self.0 == 0 { Err(format!("service {name:?} not found")) } else { Ok(("localhost".to_owned(), self.0)) }
    }
}

/// A server whose certificate is for the hosts, and the authority that signed it.
async fn serve(hosts: &[&str]) -> (SocketAddr, String) {
    let now = SystemTime::now();
    let authority = Authority::generate("ca", KeyType::EcdsaP256, now).expect("an authority");
    let validity = Validity::from(now, Duration::from_secs(3600));
    let issued = authority
        .issue(
            &Subject::new("hook", &[]),
            &Names::from_hosts(hosts),
            &[Usage::ServerAuth],
            validity,
            KeyType::EcdsaP256,
        )
        .expect("a certificate");
    let tls = tls::Server::new(ServingCertificate::Pem(issued), None, CancellationToken::new()).expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut connections = 0;
        while let Ok((stream, _)) = listener.accept().await {
            connections += 1;
            let acceptor = TlsAcceptor::from(tls.config.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| respond(request, connections));
                drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    (address, authority.certificate_pem().to_owned())
}

async fn respond(request: Request<Incoming>, connection: u32) -> Result<Response<Full<Bytes>>, Infallible> {
    let (code, body) = match request.uri().path() {
        "/absent" => (404, Bytes::from("x")),
        "/broken" => (500, Bytes::from("oh no\n")),
        "/status" => (409, Bytes::from(r#"{"kind":"Status","message":"not now"}"#)),
        "/large" => (200, Bytes::from(vec![b'x'; MAX_ANSWER + 1])),
        "/slow" => std::future::pending().await,
        path => (200, Bytes::from(format!("{path}?{} on {connection}", request.uri().query().unwrap_or_default()))),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = http::StatusCode::from_u16(code).expect("a code");
    Ok(response)
}

fn client(address: Address, authorities: &str, resolver: Here) -> Client {
    let target = Target { address, authorities: authorities.as_bytes().to_vec() };
    Client::new(&target, Arc::new(resolver)).expect("a client")
}

async fn post(client: &Client) -> Result<String, String> {
    let answer = client.post("{}", Duration::from_secs(5)).await;
    answer.map(|body| String::from_utf8_lossy(&body).into_owned()).map_err(|error| error.to_string())
}

fn service(path: &str) -> Address {
    Address::Service { namespace: "ns".into(), name: "hook".into(), path: path.into(), port: 443 }
}

#[tokio::test]
async fn a_service_is_called_by_its_name_over_a_connection_that_is_kept() {
    let (address, authority) = serve(&["hook.ns.svc"]).await;
    let client = client(service("review"), &authority, Here(address.port()));
    for _ in 0..2 {
        assert_eq!(post(&client).await, Ok("/review?timeout=5s on 1".to_owned()));
    }
}

#[tokio::test]
async fn who_cannot_be_reached_or_known_is_told_in_the_words_of_kubernetes() {
    let (address, authority) = serve(&["127.0.0.1"]).await;
    let url = |path: &str| Address::Url(format!("https://{address}{path}"));
    let other = Authority::generate("other", KeyType::EcdsaP256, SystemTime::now()).expect("an authority");
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let stranger = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    for (target, authorities, resolver, said) in [
        (url("/a"), other.certificate_pem(), Here(0), stranger.to_owned()),
        (url("/a"), "", Here(0), stranger.to_owned()),
        (
            Address::Url(format!("https://{closed}/a")),
            authority.as_str(),
            Here(0),
            format!("dial tcp {closed}: connect: connection refused"),
        ),
        (service("a"), &authority, Here(0), "service \"hook\" not found".to_owned()),
    ] {
        let expected = format!("Post {:?}: {said}", format!("{}?timeout=5s", target.url()));
        assert_eq!(post(&client(target, authorities, resolver)).await, Err(expected));
    }
    let wrong_name = post(&client(service("a"), &authority, Here(address.port()))).await.expect_err("another name");
    assert!(
        wrong_name.contains("x509: certificate is valid for") && wrong_name.ends_with("hook.ns.svc"),
        "{wrong_name}"
    );
    for (path, said) in [
        ("/absent", "the server could not find the requested resource"),
        ("/broken", "an error on the server (\"oh no\") has prevented the request from succeeding"),
        ("/status", "not now"),
    ] {
        assert_eq!(post(&client(url(path), &authority, Here(0))).await, Err(said.to_owned()));
    }
    let large = post(&client(url("/large"), &authority, Here(0))).await.expect_err("too large");
    assert!(large.ends_with("response body too large: limit is 8388608"), "{large}");
    let slow = client(url("/slow"), &authority, Here(0)).post("{}", Duration::from_secs(1)).await.expect_err("late");
    assert_eq!(slow.to_string(), format!("Post \"https://{address}/slow?timeout=1s\": context deadline exceeded"));
}
