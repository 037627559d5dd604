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

/// Tries the probe once; the error is for people.
pub async fn run(
    agent: &Agent,
    probe: &Probe,
    spec: &Spec,
    id: &str,
    ips: &[String],
    timeout: Duration,
) -> Result<(), String> {
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        let outcome = agent.runtime.exec_sync(id, &command, timeout).await.map_err(|error| error.to_string())?;
        let output = String::from_utf8_lossy(&outcome.output).into_owned();
        return if outcome.exit_code == 0 { Ok(()) } else { Err(output) };
    }
    if let Some(get) = &probe.http_get {
        return http(get, spec, &host_of(get.host.as_deref(), ips), timeout).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        let port = port(&tcp.port, spec)?;
        let host = host_of(tcp.host.as_deref(), ips);
        return TcpStream::connect((host.as_str(), port))
            .await
            .map(drop)
            .map_err(|error| format!("dial tcp {host}:{port}: {error}"));
    }
    if let Some(grpc) = &probe.grpc {
        let port = u16::try_from(grpc.port).map_err(|_| format!("invalid port {}", grpc.port))?;
        return self::grpc(&host_of(None, ips), port, grpc.service.as_deref().unwrap_or_default()).await;
    }
    Ok(())
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

/// GET; good from 200 to 399.
pub async fn http(get: &HTTPGetAction, spec: &Spec, host: &str, timeout: Duration) -> Result<(), String> {
    let port = port(&get.port, spec)?;
    let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let tls = get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let url = format!("{}://{authority}{path}", if tls { "https" } else { "http" });
    let mut request = http::Request::get(&path);
    let mut has = (false, false, false);
    for header in get.http_headers.iter().flatten() {
        has.0 |= header.name.eq_ignore_ascii_case("host");
        has.1 |= header.name.eq_ignore_ascii_case("user-agent");
        has.2 |= header.name.eq_ignore_ascii_case("accept");
        request = request.header(&header.name, &header.value);
    }
    for (set, name, value) in
        [(has.0, "host", authority.as_str()), (has.1, "user-agent", "kube-probe/1.36"), (has.2, "accept", "*/*")]
    {
        if !set {
            request = request.header(name, value);
        }
    }
    let request =
        request.header("connection", "close").body(Empty::<bytes::Bytes>::new()).map_err(|error| error.to_string())?;
    let failed = |error: &dyn std::fmt::Display| format!("Get \"{url}\": {error}");
    let work = async {
        let stream = TcpStream::connect((host, port)).await.map_err(|error| failed(&error))?;
        if tls {
            let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
            let connector = tokio_rustls::TlsConnector::from(Arc::new(unverified()));
            let stream = connector.connect(name, stream).await.map_err(|error| failed(&error))?;
            send(stream, request).await.map_err(|error| failed(&error))
        } else {
            send(stream, request).await.map_err(|error| failed(&error))
        }
    };
    let status = tokio::time::timeout(timeout, work).await.map_err(|_| failed(&"timed out"))??;
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {status}")) }
}

async fn send<S>(
    stream: S,
    request: http::Request<Empty<bytes::Bytes>>,
) -> Result<u16, Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    // What is longer than a probe's answer should be is cut off with the connection.
    if Limited::new(answer.into_body(), MAX_BODY).collect().await.is_err() {
        tracing::trace!("the probe's answer was cut");
    }
    driver.abort();
    Ok(status)
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
