//! Sending a request on, and relaying what comes back.

use std::time::Duration;

use apimachinery::ApiError;
use apimachinery::status::{Reason, Status};
use bytes::Bytes;
use component_base::{relay, sockets};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::rt::{Read, Write};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::route::Target;
use super::{spdy, websocket};
use crate::body::Body;
use crate::server::Server;

/// Headers that belong to one connection and do not travel further (RFC 9110, 7.6.1).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// The subprotocols of a SPDY upgrade, in the request one header each, in the answer the chosen one.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// How long a kubelet may take to upgrade a connection.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(60);
/// What is read of a refusal, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;

/// An upgraded connection to a kubelet.
pub struct Upgrade {
    pub connection: TokioIo<Upgraded>,
    /// The subprotocol that the kubelet has chosen.
    pub protocol: String,
}

/// Sends a client's request on, and gives back what comes, a body or an upgraded connection, as it is.
pub async fn pass(
    server: &Server,
    target: &Target,
    path: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let client = hyper::upgrade::on(&mut request);
    let request = outgoing(target, path, request)?;
    let upgrading = request.headers().contains_key(UPGRADE);
    let (sender, mut response) = send(server, target, request).await?;
    if upgrading && response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let backend = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            match tokio::try_join!(client, backend) {
                Ok((client, backend)) => {
                    let (client, backend) = (TokioIo::new(client), TokioIo::new(backend));
                    if let Err(error) = relay::relay(client, backend, websocket::IDLE_TIMEOUT).await {
                        tracing::debug!(%error, "an upgraded connection ended with an error");
                    }
                }
                Err(error) => tracing::debug!(%error, "an upgrade failed"),
            }
        });
        let (head, _) = response.into_parts();
        return Ok(Response::from_parts(head, Body::empty()));
    }
    let (mut head, body) = response.into_parts();
    strip(&mut head.headers);
    Ok(Response::from_parts(head, Body::stream(chunks(body, sender))))
}

/// Reads from a kubelet: its answer's headers and body.
///
/// # Errors
/// The kubelet's refusal as a `Status`.
pub async fn fetch(
    server: &Server,
    target: &Target,
    path: &str,
) -> Result<(HeaderMap, BoxStream<'static, std::io::Result<Bytes>>), ApiError> {
    let request = Request::get(uri(path)?).header(HOST, host(target)?).body(Empty::<Bytes>::new());
    let (sender, response) = send(server, target, request.map_err(ApiError::internal)?).await?;
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let (mut head, body) = response.into_parts();
    strip(&mut head.headers);
    Ok((head.headers, chunks(body, sender).boxed()))
}

/// A SPDY connection to a kubelet that speaks one of these protocols.
///
/// # Errors
/// The kubelet's refusal as a `Status`.
pub async fn upgrade(server: &Server, target: &Target, path: &str, protocols: &[&str]) -> Result<Upgrade, ApiError> {
    let mut request = Request::post(uri(path)?)
        .header(HOST, host(target)?)
        .header(CONNECTION, HeaderValue::from_static("Upgrade"))
        .header(UPGRADE, HeaderValue::from_static(spdy::PROTOCOL));
    for protocol in protocols {
        request = request.header(STREAM_PROTOCOL, *protocol);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(ApiError::internal)?;
    let asked = async {
        let (_sender, mut response) = send(server, target, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        let protocol = response.headers().get(STREAM_PROTOCOL).and_then(|value| value.to_str().ok());
        let protocol = protocol.map(str::to_owned).unwrap_or_default();
        if !protocols.contains(&protocol.as_str()) {
            return Err(ApiError::internal(format!("the kubelet speaks {protocol:?}, which nobody asked for")));
        }
        let connection = hyper::upgrade::on(&mut response).await.map_err(unreachable)?;
        Ok(Upgrade { connection: TokioIo::new(connection), protocol })
    };
    let timed_out = |_| Err(ApiError::internal(format!("the kubelet did not upgrade within {UPGRADE_TIMEOUT:?}")));
    tokio::time::timeout(UPGRADE_TIMEOUT, asked).await.unwrap_or_else(timed_out)
}

/// Sends a request over a connection of its own, which lives as long as the sender or the upgrade does.
async fn send<B>(
    server: &Server,
    target: &Target,
    request: Request<B>,
) -> Result<(SendRequest<B>, Response<Incoming>), ApiError>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match target {
        Target::Kubelet(endpoint) => exchange(server.kubelet.connect(endpoint).await?, request).await,
        Target::Plain { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await;
            let stream = stream.map_err(|error| unreachable(format!("dial tcp {host}:{port}: {error}")))?;
            sockets::try_tune(&stream);
            exchange(TokioIo::new(stream), request).await
        }
    }
}

async fn exchange<S, B>(stream: S, request: Request<B>) -> Result<(SendRequest<B>, Response<Incoming>), ApiError>
where
    S: Read + Write + Unpin + Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = handshake(stream).await.map_err(unreachable)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a backend ended with an error");
        }
    });
    let response = sender.send_request(request).await.map_err(unreachable)?;
    Ok((sender, response))
}

fn unreachable(error: impl std::fmt::Display) -> ApiError {
    ApiError::unavailable(format!("error trying to reach service: {error}"))
}

/// A body in pieces. The sender lives as long: dropping it would close the connection.
fn chunks<B: Send + 'static>(
    body: Incoming,
    sender: SendRequest<B>,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    body.into_data_stream().map(move |piece: Result<Bytes, hyper::Error>| {
        let _alive = &sender;
        piece.map_err(std::io::Error::other)
    })
}

/// What a kubelet's refusal is to the client.
async fn refusal(response: Response<Incoming>) -> ApiError {
    let status = response.status();
    match Limited::new(response.into_body(), MAX_REFUSAL).collect().await {
        Ok(body) => refused(status, &body.to_bytes()),
        Err(error) => ApiError::internal(format!("the kubelet answered {status}, and then: {error}")),
    }
}

/// A `Status` is passed on, a text becomes one. That a kubelet does not let this server in is no fault of the client's.
fn refused(code: StatusCode, body: &[u8]) -> ApiError {
    if let Ok(status) = serde_json::from_slice::<Status>(body)
        && status.kind == "Status"
        && status.code >= 400
    {
        return ApiError(Box::new(status));
    }
    let text = String::from_utf8_lossy(body).trim().to_owned();
    let reason = match code {
        StatusCode::BAD_REQUEST => Reason::BadRequest,
        StatusCode::NOT_FOUND => Reason::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Reason::MethodNotAllowed,
        StatusCode::UNPROCESSABLE_ENTITY => Reason::Invalid,
        StatusCode::TOO_MANY_REQUESTS => Reason::TooManyRequests,
        StatusCode::SERVICE_UNAVAILABLE => Reason::ServiceUnavailable,
        StatusCode::GATEWAY_TIMEOUT => Reason::Timeout,
        StatusCode::INTERNAL_SERVER_ERROR => return ApiError::internal(text),
        code => return ApiError::internal(format!("the kubelet answered {code}: {text}")),
    };
    ApiError::new(reason, text)
}

fn outgoing(target: &Target, path: &str, request: Request<Incoming>) -> Result<Request<Incoming>, ApiError> {
    let (mut head, body) = request.into_parts();
    let upgrade = head.headers.get(UPGRADE).cloned();
    strip(&mut head.headers);
    if let Some(protocol) = upgrade {
        head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers.insert(UPGRADE, protocol);
    }
    head.headers.insert(HOST, host(target)?);
    head.uri = uri(path)?.into();
    head.version = http::Version::HTTP_11;
    head.extensions.clear();
    Ok(Request::from_parts(head, body))
}

fn host(target: &Target) -> Result<HeaderValue, ApiError> {
    let (host, port) = match target {
        Target::Kubelet(endpoint) => (&endpoint.host, endpoint.port),
        Target::Plain { host, port } => (host, *port),
    };
    let host = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    host.parse().map_err(ApiError::internal)
}

fn uri(path: &str) -> Result<PathAndQuery, ApiError> {
    path.parse::<PathAndQuery>().map_err(ApiError::internal)
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_kubelets_are_told_as_a_status() {
        for (code, body, expected) in [
            (404, "container not found (\"a\")\n", (404, "NotFound", "container not found (\"a\")")),
            (400, "you must specify at least 1 of stdin", (400, "BadRequest", "you must specify at least 1 of stdin")),
            (500, "no such task", (500, "InternalError", "Internal error occurred: no such task")),
            (403, "no", (500, "InternalError", "Internal error occurred: the kubelet answered 403 Forbidden: no")),
            (502, "no", (500, "InternalError", "Internal error occurred: the kubelet answered 502 Bad Gateway: no")),
            (
                500,
                r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"m","reason":"Timeout","code":504}"#,
                (504, "Timeout", "m"),
            ),
        ] {
            let error = refused(StatusCode::from_u16(code).unwrap(), body.as_bytes());
            assert_eq!((error.code(), error.0.reason.as_str(), error.0.message.as_str()), expected);
        }
    }

    #[test]
    fn addresses_of_hosts_are_written_as_urls_write_them() {
        let plain = |host: &str| Target::Plain { host: host.into(), port: 80 };
        assert_eq!(host(&plain("10.0.0.1")).unwrap(), "10.0.0.1:80");
        assert_eq!(host(&plain("fd00::1")).unwrap(), "[fd00::1]:80");
    }
}
