//! One try of a probe: exec, HTTP, TCP or gRPC health.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container as Spec, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::host_of;
use crate::agent::Agent;

/// Most of an answer that is read.
const MAX_BODY: usize = 10 * 1024;
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 10;

/// Why a try did not succeed, in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The container is not as the probe demands.
    Failed(String),
    /// The probe could not be carried out, which says nothing about the container.
    Unknown(String),
}

/// Tries the probe once: whether it succeeds, perhaps with a warning.
pub async fn run(
    agent: &Agent,
    probe: &Probe,
    spec: &Spec,
    id: &str,
    ips: &[String],
    timeout: Duration,
) -> Result<Option<String>, Trouble> {
    if let Some(command) = &probe.exec {
        return exec(agent, id, command.command.as_deref().unwrap_or_default(), timeout).await.map(|()| None);
    }
    if let Some(get) = &probe.http_get {
        return http(get, spec, &host_of(get.host.as_deref(), ips), timeout).await.map_err(Trouble::Failed);
    }
    if let Some(tcp) = &probe.tcp_socket {
        let port = port(&tcp.port, spec).map_err(Trouble::Unknown)?;
        let host = host_of(tcp.host.as_deref(), ips);
        let connected = TcpStream::connect((host.as_str(), port)).await;
        return connected.map(|_| None).map_err(|error| Trouble::Failed(format!("dial tcp {host}:{port}: {error}")));
    }
    if let Some(grpc) = &probe.grpc {
        let port = u16::try_from(grpc.port).map_err(|_| Trouble::Unknown(format!("invalid port {}", grpc.port)))?;
        let service = grpc.service.as_deref().unwrap_or_default();
        return self::grpc(&host_of(None, ips), port, service).await.map(|()| None).map_err(Trouble::Failed);
    }
    Ok(None)
}

async fn exec(agent: &Agent, id: &str, command: &[String], timeout: Duration) -> Result<(), Trouble> {
    match agent.runtime.exec_sync(id, command, timeout).await {
        Ok(outcome) if outcome.exit_code == 0 => Ok(()),
        Ok(outcome) => Err(Trouble::Failed(String::from_utf8_lossy(&outcome.output).into_owned())),
        Err(error) if error.is_timeout() => Err(Trouble::Failed(format!("command timed out: {error}"))),
        Err(error) => Err(Trouble::Unknown(error.to_string())),
    }
}

/// A port by number, or by the name that the container gives it.
pub fn port(port: &IntOrString, spec: &Spec) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => {
            let named = spec.ports.iter().flatten().find(|port| port.name.as_deref() == Some(text));
            named.map(|port| port.container_port).or_else(|| text.parse().ok())
        }
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("invalid port {port:?}"))
}

/// GET; good from 200 to 399. Redirects within the host are followed; one that leads elsewhere is good enough, with a warning.
pub async fn http(get: &HTTPGetAction, spec: &Spec, host: &str, timeout: Duration) -> Result<Option<String>, String> {
    let port = port(&get.port, spec)?;
    let tls = get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut target = Target { tls, host: host.to_owned(), port, path };
    for _ in 0..MAX_REDIRECTS {
        let url = target.url();
        let answer = match tokio::time::timeout(timeout, ask(get, &target)).await {
            Ok(answer) => answer.map_err(|error| format!("Get \"{url}\": {error}"))?,
            Err(_) => return Err(format!("Get \"{url}\": timed out")),
        };
        let redirect = answer.location.as_deref().filter(|_| (300..400).contains(&answer.status));
        match redirect.map(|location| target.follow(location)) {
            Some(Some(next)) => target = next,
            Some(None) => return Ok(Some("Probe terminated redirects".to_owned())),
            None if (200..400).contains(&answer.status) => return Ok(None),
            None => return Err(format!("HTTP probe failed with statuscode: {}", answer.status)),
        }
    }
    Err(format!("Get \"{}\": stopped after {MAX_REDIRECTS} redirects", target.url()))
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl Target {
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    fn url(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.path)
    }

    /// Where a redirect leads, if it stays on the host.
    fn follow(&self, location: &str) -> Option<Self> {
        let uri: http::Uri = location.parse().ok()?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let Some(host) = uri.host() else {
            let path = if path.starts_with('/') { path } else { format!("/{path}") };
            return Some(Self { path, ..self.clone() });
        };
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        (host == self.host).then_some(Self { tls, host, port, path })
    }
}

struct Answer {
    status: u16,
    location: Option<String>,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn ask(get: &HTTPGetAction, target: &Target) -> Result<Answer, AnyError> {
    let mut request = http::Request::get(&target.path).header("connection", "close");
    for header in get.http_headers.iter().flatten() {
        request = request.header(&header.name, &header.value);
    }
    for (name, value) in [("host", target.authority().as_str()), ("user-agent", "kube-probe/1.36"), ("accept", "*/*")] {
        if !request.headers_ref().is_some_and(|headers| headers.contains_key(name)) {
            request = request.header(name, value);
        }
    }
    let request = request.body(Empty::<bytes::Bytes>::new())?;
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    if !target.tls {
        return send(stream, request).await;
    }
    let name = ServerName::try_from(target.host.clone())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(unverified()));
    send(connector.connect(name, stream).await?, request).await
}

async fn send<S>(stream: S, request: http::Request<Empty<bytes::Bytes>>) -> Result<Answer, AnyError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let location = answer.headers().get(http::header::LOCATION);
    let location = location.and_then(|location| location.to_str().ok()).map(str::to_owned);
    // What is longer than a probe's answer should be is cut off with the connection.
    if Limited::new(answer.into_body(), MAX_BODY).collect().await.is_err() {
        tracing::trace!("the probe's answer was cut");
    }
    driver.abort();
    Ok(Answer { status, location })
}

/// The gRPC health protocol, `grpc.health.v1.Health/Check`.
async fn grpc(host: &str, port: u16, service: &str) -> Result<(), String> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Request {
        #[prost(string, tag = "1")]
        service: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Answer {
        #[prost(int32, tag = "1")]
        status: i32,
    }
    const SERVING: i32 = 1;
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("http://{authority}")).map_err(|error| error.to_string())?;
    let channel =
        endpoint.connect().await.map_err(|error| format!("failed to connect service {authority:?}: {error}"))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| error.to_string())?;
    let codec = tonic_prost::ProstCodec::<Request, Answer>::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(Request { service: service.to_owned() });
    let answer =
        client.unary(request, path, codec).await.map_err(|status| format!("rpc failed: {}", status.message()))?;
    match answer.into_inner().status {
        SERVING => Ok(()),
        status => Err(format!("service unhealthy (responded with {status})")),
    }
}

/// Probes ask whether something answers, not who: certificates of pods are not checked, as in Kubernetes.
fn unverified() -> rustls::ClientConfig {
    component_base::client::install_crypto_provider();
    rustls::ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(Anyone)).with_no_client_auth()
}

#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_within_the_host() {
        let target = Target { tls: false, host: "10.0.0.1".into(), port: 80, path: "/a".into() };
        let url = |location: &str| target.follow(location).map(|next| next.url());
        assert_eq!(url("/b?c=d").as_deref(), Some("http://10.0.0.1:80/b?c=d"));
        assert_eq!(url("http://10.0.0.1:8080/b").as_deref(), Some("http://10.0.0.1:8080/b"));
        assert_eq!(url("https://10.0.0.1/").as_deref(), Some("https://10.0.0.1:443/"));
        assert_eq!(url("http://10.0.0.2/"), None);
        let six = Target { host: "fd00::1".into(), ..target };
        assert_eq!(six.follow("http://[fd00::1]:81/x").unwrap().url(), "http://[fd00::1]:81/x");
    }

    #[tokio::test]
    async fn a_redirect_to_elsewhere_is_good_with_a_warning() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        for (answer, expected) in [
            ("302 Found\r\nLocation: http://10.0.0.2/", Ok(Some("Probe terminated redirects".to_owned()))),
            ("204 No Content", Ok(None)),
            ("503 Busy", Err("HTTP probe failed with statuscode: 503".to_owned())),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = i32::from(listener.local_addr().unwrap().port());
            let served = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
            });
            let get = HTTPGetAction { port: IntOrString::Int(port), ..Default::default() };
            assert_eq!(http(&get, &Spec::default(), "127.0.0.1", Duration::from_secs(5)).await, expected);
            served.await.unwrap();
        }
    }

    /// A server of the gRPC health protocol that answers with that status; gives its port.
    async fn health_server(status: u8) -> u16 {
        use hyper::body::Frame;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let asked = request.into_body().collect().await.unwrap().to_bytes();
                // The message's frame, and in it the service's name.
                assert_eq!(&asked[..], b"\0\0\0\0\x05\x0a\x03web");
                let message = bytes::Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
                let trailers = http::HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    http::HeaderValue::from_static("0"),
                )]);
                let frames = [Ok::<_, std::convert::Infallible>(Frame::data(message)), Ok(Frame::trailers(trailers))];
                let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
                http::Response::builder().header("content-type", "application/grpc").body(body)
            });
            let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            server.serve_connection(TokioIo::new(stream), service).await.ok();
        });
        port
    }

    #[tokio::test]
    async fn a_grpc_service_is_healthy_when_it_says_that_it_serves() {
        assert_eq!(grpc("127.0.0.1", health_server(1).await, "web").await, Ok(()));
        let refused = grpc("127.0.0.1", health_server(2).await, "web").await;
        assert_eq!(refused, Err("service unhealthy (responded with 2)".to_owned()));
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert!(grpc("127.0.0.1", closed, "web").await.unwrap_err().contains("failed to connect"));
    }
}
