//! A container's log: as the body of an answer, or, where a WebSocket is asked for, as its messages (`binary.k8s.io`, or
//! `base64.binary.k8s.io` for clients that take only text).

use std::sync::Arc;

use apimachinery::field::{Error as FieldError, Path};
use apimachinery::{ApiError, field};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::websocket::{self, Handshake};
use super::{forward, route};
use crate::body::Body;
use crate::request::Query;
use crate::served::Served;
use crate::server::{Context, Server};

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// How messages look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Binary,
    Base64,
}

impl Form {
    /// The first of the offered subprotocols that is known, and its form; without an offer messages are binary.
    ///
    /// # Errors
    /// `BadRequest` where only others are offered.
    fn choose<'a>(offered: impl Iterator<Item = &'a str>) -> Result<(Option<&'a str>, Form), ApiError> {
        let mut offered = offered.peekable();
        if offered.peek().is_none() {
            return Ok((None, Form::Binary));
        }
        let known = |name: &'a str| match name {
            BINARY => Some((Some(name), Form::Binary)),
            BASE64 => Some((Some(name), Form::Base64)),
            _ => None,
        };
        let refused = || ApiError::bad_request(format!("the subprotocol must be {BINARY} or {BASE64}"));
        offered.find_map(known).ok_or_else(refused)
    }

    fn message(self, piece: &[u8]) -> Message {
        match self {
            Form::Binary => Message::Binary(Bytes::copy_from_slice(piece)),
            Form::Base64 => Message::text(STANDARD.encode(piece)),
        }
    }
}

pub async fn answer(
    server: &Server,
    context: &Context,
    served: &Arc<Served>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    validate(&context.info.name, &context.query)?;
    let socket = match websocket::is_upgrade(request.headers()) {
        true => Some((Handshake::of(request.headers())?, Form::choose(websocket::protocols(request.headers()))?)),
        false => None,
    };
    let socket = socket.map(|(handshake, (protocol, form))| (handshake, protocol.map(str::to_owned), form));
    let Some((target, path)) = route::log(server, context, served).await? else {
        // A pod without a node has no log yet.
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    };
    let (headers, pieces) = forward::fetch(server, &target, &path).await?;
    if let Some((handshake, protocol, form)) = socket {
        return handshake.accept(&mut request, protocol.as_deref(), move |client| send(client, pieces, form));
    }
    let mut response = Response::new(Body::stream(pieces));
    *response.headers_mut() = headers;
    Ok(response)
}

/// Sends a log until its end, or until the client is gone. An empty message comes first: it says that the connection stands.
async fn send<C>(client: WebSocketStream<C>, mut pieces: impl Stream<Item = std::io::Result<Bytes>> + Unpin, form: Form)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (mut to_client, mut from_client) = client.split();
    let sending = async {
        to_client.send(form.message(b"")).await?;
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => to_client.send(form.message(&piece)).await?,
                Err(error) => {
                    tracing::debug!(%error, "a kubelet broke a log off");
                    break;
                }
            }
        }
        Ok::<(), tokio_tungstenite::tungstenite::Error>(())
    };
    // The client has nothing to say; that it is gone is only seen by listening.
    let listening = async { while let Some(Ok(_)) = from_client.next().await {} };
    let ended = tokio::select! {
        ended = sending => ended,
        () = listening => return,
    };
    match ended {
        Ok(()) => websocket::finish(to_client, from_client, Vec::new()).await,
        Err(error) => tracing::debug!(%error, "a client does not take a log any more"),
    }
}

/// The options of a log, as Kubernetes checks them before it asks a kubelet.
fn validate(pod: &str, query: &Query) -> Result<(), ApiError> {
    let number = |name: &str| -> Result<Option<i64>, ApiError> {
        let text = query.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        let invalid = |_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
        text.parse().map(Some).map_err(invalid)
    };
    let mut errors: Vec<field::Error> = Vec::new();
    let mut at_least = |name: &str, least: i64, detail: &str| -> Result<bool, ApiError> {
        let value = number(name)?;
        if let Some(value) = value.filter(|value| *value < least) {
            errors.push(FieldError::invalid(&Path::new(name), value, detail));
        }
        Ok(value.is_some())
    };
    let tail = at_least("tailLines", 0, "must be greater than or equal to 0")?;
    at_least("limitBytes", 1, "must be greater than 0")?;
    let since_seconds = at_least("sinceSeconds", 1, "must be greater than 0")?;
    if since_seconds && !query.get("sinceTime").is_empty() {
        errors.push(FieldError::forbidden(
            &Path::root(),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    match query.get("stream") {
        "" | "All" => {}
        "Stdout" | "Stderr" if tail => {
            errors
                .push(FieldError::forbidden(&Path::root(), "`tailLines` and specific `stream` are mutually exclusive"));
        }
        "Stdout" | "Stderr" => {}
        other => errors.push(FieldError::not_supported(&Path::new("stream"), other, &["All", "Stderr", "Stdout"])),
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid("", "PodLogOptions", pod, &errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_before_the_kubelet_is_asked() {
        for (query, expected) in [
            ("", Ok(())),
            ("tailLines=0&limitBytes=1&sinceSeconds=1&follow=true", Ok(())),
            ("stream=Stdout", Ok(())),
            ("tailLines=x", Err(400)),
            ("tailLines=-1", Err(422)),
            ("limitBytes=0", Err(422)),
            ("sinceSeconds=0", Err(422)),
            ("sinceSeconds=5&sinceTime=2026-01-01T00:00:00Z", Err(422)),
            ("stream=stdout", Err(422)),
            ("stream=Stderr&tailLines=5", Err(422)),
        ] {
            let found = validate("p", &Query::parse(Some(query))).map_err(|error| error.code());
            assert_eq!(found, expected, "{query}");
        }
        let both = validate("p", &Query::parse(Some("tailLines=-1&limitBytes=0"))).expect_err("two faults");
        assert_eq!(both.0.details.map(|details| details.causes.len()), Some(2), "every fault is named");
    }

    #[test]
    fn messages_have_the_form_that_the_client_takes() {
        let choose =
            |offered: &'static [&'static str]| Form::choose(offered.iter().copied()).map_err(|error| error.code());
        assert_eq!(choose(&[]), Ok((None, Form::Binary)));
        assert_eq!(choose(&["x", BASE64, BINARY]), Ok((Some(BASE64), Form::Base64)));
        assert_eq!(choose(&["v4.channel.k8s.io"]), Err(400));
        assert_eq!(Form::Base64.message(b"a line\n"), Message::text("YSBsaW5lCg=="));
        assert_eq!(Form::Binary.message(b"\xff"), Message::binary(&b"\xff"[..]));
    }
}
