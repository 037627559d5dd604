//! The server's side of a WebSocket (RFC 6455): the handshake, and the end of a connection.

use std::future::Future;
use std::time::Duration;

use apimachinery::ApiError;
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::body::Body;

/// A connection to a client.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// How long a connection may be silent before it is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 60 * 60);
/// How long a client may take to read what was sent before the end, and to close.
const FINISH_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a client may take to hear what it did wrong.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest message that is taken from a client, in bytes. Clients send what they read, which is tens of kilobytes; some send a
/// whole file at once.
const MAX_MESSAGE: usize = 32 * 1024 * 1024;
/// What is read of a connection at a time, in bytes.
const READ_BUFFER: usize = 16 * 1024;
const VERSION: &str = "13";

/// Whether a WebSocket is asked for.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let has = |name, word| words(headers, name).any(|found: &str| found.eq_ignore_ascii_case(word));
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// The subprotocols that the client speaks, best first.
pub fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    words(headers, SEC_WEBSOCKET_PROTOCOL)
}

/// The elements of a header that is a list.
fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// A request for a WebSocket that can be granted.
pub struct Handshake {
    key: HeaderValue,
}

impl Handshake {
    /// # Errors
    /// `BadRequest` for a request that is none for a WebSocket, or for one of another version.
    pub fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        if !is_upgrade(headers) {
            return Err(ApiError::bad_request("you must specify an upgrade to a WebSocket"));
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
            return Err(ApiError::bad_request(format!("the version of the WebSocket must be {VERSION}")));
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).cloned();
        Ok(Handshake { key: key.ok_or_else(|| ApiError::bad_request("the WebSocket has no key"))? })
    }

    /// The answer that grants the request. `serve` gets the connection once the answer is sent, in a task of its own, which ends
    /// with the connection.
    pub fn accept<F>(
        self,
        request: &mut Request<Incoming>,
        protocol: Option<&str>,
        serve: impl FnOnce(Socket) -> F + Send + 'static,
    ) -> Result<Response<Body>, ApiError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let accept = derive_accept_key(self.key.as_bytes());
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept.parse().map_err(ApiError::internal)?);
        if let Some(protocol) = protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol.parse().map_err(ApiError::internal)?);
        }
        let upgrade = hyper::upgrade::on(request);
        tokio::spawn(async move {
            match upgrade.await {
                Ok(connection) => serve(socket(TokioIo::new(connection)).await).await,
                Err(error) => tracing::debug!(%error, "a WebSocket was not made"),
            }
        });
        Ok(response)
    }
}

/// The server's end of a connection on which the handshake is done.
pub async fn socket<C>(connection: C) -> WebSocketStream<C>
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await
}

/// Sends the last messages, then says that it is over, and waits for the client to say so too. Until then whatever it sends is read
/// and thrown away: a connection that is closed with something unread is reset, and what the client had not read yet would be lost.
pub async fn finish<S, R>(mut to: S, mut from: R, last: Vec<Message>)
where
    S: Sink<Message, Error = Error> + Unpin,
    R: Stream<Item = Result<Message, Error>> + Unpin,
{
    let farewell = async {
        for message in last {
            to.send(message).await?;
        }
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        to.send(Message::Close(Some(normal))).await?;
        while let Some(message) = from.next().await {
            message?;
        }
        Ok::<(), Error>(())
    };
    match tokio::time::timeout(FINISH_TIMEOUT, farewell).await {
        Ok(Ok(()) | Err(Error::ConnectionClosed)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a WebSocket ended before it was closed"),
        Err(_) => tracing::debug!("a WebSocket was not closed by its client in time"),
    }
}

/// Tells a client that sent what cannot be taken what was wrong with it.
pub async fn refuse<S>(mut to: S, error: &Error)
where
    S: Sink<Message, Error = Error> + Unpin,
{
    tracing::debug!(%error, "a client's WebSocket ended with an error");
    let code = match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Protocol(_) | Error::Utf8(_) => CloseCode::Protocol,
        // Nobody is there to be told.
        _ => return,
    };
    // A reason has up to 123 bytes.
    let reason: String = error.to_string().chars().filter(char::is_ascii).take(123).collect();
    let frame = CloseFrame { code, reason: reason.into() };
    if let Ok(Err(error)) = tokio::time::timeout(REFUSE_TIMEOUT, to.send(Message::Close(Some(frame)))).await {
        tracing::trace!(%error, "the client was gone already");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn an_upgrade_to_a_websocket_is_recognized() {
        assert!(is_upgrade(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])));
        assert!(!is_upgrade(&headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")])));
        assert!(!is_upgrade(&headers(&[("connection", "keep-alive"), ("upgrade", "websocket")])));
        assert!(!is_upgrade(&headers(&[])));
    }

    #[test]
    fn protocols_may_stand_in_one_header_or_several() {
        let mut all = headers(&[("sec-websocket-protocol", "a.k8s.io, b.k8s.io,")]);
        all.append("sec-websocket-protocol", HeaderValue::from_static("c.k8s.io"));
        assert_eq!(protocols(&all).collect::<Vec<_>>(), ["a.k8s.io", "b.k8s.io", "c.k8s.io"]);
    }

    #[test]
    fn a_handshake_needs_a_version_and_a_key() {
        let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
        let with = |more: &[(&'static str, &'static str)]| headers(&[&upgrade[..], more].concat());
        assert!(Handshake::of(&with(&[("sec-websocket-version", "13"), ("sec-websocket-key", "eA==")])).is_ok());
        for more in [
            &[("sec-websocket-version", "13")][..],
            &[("sec-websocket-version", "8"), ("sec-websocket-key", "eA==")],
            &[],
        ] {
            assert_eq!(Handshake::of(&with(more)).err().map(|error| error.code()), Some(400), "{more:?}");
        }
        assert_eq!(Handshake::of(&headers(&[])).err().map(|error| error.code()), Some(400));
    }

    #[tokio::test]
    async fn the_end_waits_for_a_slow_client_to_read_everything() {
        let (near, far) = tokio::io::duplex(64);
        let (to, from) = socket(near).await.split();
        let big = vec![7; 100_000];
        let finished = tokio::spawn(finish(to, from, vec![Message::binary(big.clone()), Message::text("status")]));
        let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(big));
        client.send(Message::text("still talking")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("status"));
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
        assert!(client.next().await.is_none(), "the close is answered, and the connection ends");
        finished.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_does_not_wait_for_ever() {
        let (near, _far) = tokio::io::duplex(64);
        let (to, from) = socket(near).await.split();
        let began = tokio::time::Instant::now();
        finish(to, from, vec![Message::binary(vec![0; 1000])]).await;
        assert_eq!(began.elapsed(), FINISH_TIMEOUT);
    }
}
