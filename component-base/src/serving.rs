//! The HTTP server of a component: `/healthz`, `/livez`, `/readyz`, `/metrics`, `/version` and routes of the component's own, over HTTPS or plain HTTP.

pub mod delegated;
mod flags;
mod health;
mod listen;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;

pub use flags::{Error, Flags};
pub use health::{Check, Checks};
pub use listen::{BindError, Peer, bind, serve};

use crate::metrics::{CONTENT_TYPE, Registry};
use crate::version;

/// The body of answers: whole or streamed.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// What answers a request. The connection's [`Peer`] is in the request's extensions.
pub type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Decides about a request before it is answered: `Err` is the answer of one that may not pass (401 or 403).
pub type Guard = Arc<dyn Fn(RequestHead) -> BoxFuture<'static, Result<(), Response<Body>>> + Send + Sync>;

/// What a [`Guard`] looks at.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: http::Method,
    /// The path, without the query.
    pub path: String,
    /// The token of `Authorization: Bearer …`.
    pub bearer_token: Option<String>,
    /// Who is at the other end.
    pub peer: Option<Peer>,
}

impl RequestHead {
    /// The head of a request.
    pub fn of<B>(request: &Request<B>) -> Self {
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            bearer_token: bearer.map(|(_, token)| token.trim().to_owned()),
            peer: request.extensions().get::<Peer>().cloned(),
        }
    }
}

/// A whole answer.
pub fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// A plain text answer.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", body)
}

/// The routes that every component has, with its own behind them.
#[derive(Clone)]
pub struct Routes {
    registry: Registry,
    healthz: Checks,
    livez: Checks,
    readyz: Checks,
    guard: Option<(Guard, Arc<[String]>)>,
    extra: Option<Handler>,
}

impl Routes {
    /// Health without checks, and the metrics of this registry.
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            healthz: Checks::default(),
            livez: Checks::default(),
            readyz: Checks::default(),
            guard: None,
            extra: None,
        }
    }

    /// Adds a check to `/healthz`, `/livez` and `/readyz`.
    #[must_use]
    pub fn with_check(mut self, check: Check) -> Self {
        self.healthz.add(check.clone());
        self.livez.add(check.clone());
        self.readyz.add(check);
        self
    }

    /// Adds a check to `/readyz` only.
    #[must_use]
    pub fn with_ready_check(mut self, check: Check) -> Self {
        self.readyz.add(check);
        self
    }

    /// Asks a guard about every request whose path is not one of `open` (a trailing `*` stands for any rest).
    #[must_use]
    pub fn with_guard(mut self, guard: Guard, open: &[&str]) -> Self {
        self.guard = Some((guard, open.iter().map(|&path| path.to_owned()).collect()));
        self
    }

    /// Gives all other paths to a handler of the component's own, after the guard.
    #[must_use]
    pub fn with_extra(mut self, extra: Handler) -> Self {
        self.extra = Some(extra);
        self
    }

    /// As a handler for [`serve`].
    pub fn into_handler(self) -> Handler {
        let routes = Arc::new(self);
        Arc::new(move |request| {
            let routes = Arc::clone(&routes);
            Box::pin(async move { routes.answer(request).await })
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if let Some((guard, open)) = &self.guard {
            let head = RequestHead::of(&request);
            if !open.iter().any(|pattern| matches_path(pattern, &head.path))
                && let Err(refusal) = guard(head).await
            {
                return refusal;
            }
        }
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        for (root, checks) in [("/healthz", &self.healthz), ("/livez", &self.livez), ("/readyz", &self.readyz)] {
            if let Some(rest) = path.strip_prefix(root)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                return checks.answer(root, rest.trim_start_matches('/'), query).await;
            }
        }
        match path {
            "/metrics" => respond(StatusCode::OK, CONTENT_TYPE, self.registry.encode()),
            "/version" => respond(StatusCode::OK, "application/json", version_document()),
            _ => match &self.extra {
                Some(extra) => extra(request).await,
                None => text(StatusCode::NOT_FOUND, "404 page not found\n"),
            },
        }
    }
}

fn matches_path(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

fn version_document() -> String {
    serde_json::json!({
        "major": version::MAJOR,
        "minor": version::MINOR,
        "gitVersion": version::GIT_VERSION,
        "platform": version::platform(),
    })
    .to_string()
}
