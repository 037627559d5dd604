//! Connections to the API server: one HTTP/2 connection that all requests of a client share, and HTTP/1.1 for servers that have no HTTP/2 and for
//! requests that become something else (exec, attach, port-forward).
//!
//! Which protocol the server speaks is asked once, by the first connection. A connection that ends is made anew by the next request.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::header::UPGRADE;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tower::{BoxError, Service};

use super::Error;
use super::limit::Limiter;

/// Longest time for a connection and its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// What a server may send of one answer before it is read. One page of a list fits, so that a list is not slowed by round trips.
const STREAM_WINDOW: u32 = 2 << 20;
/// The same for all answers of a connection together: many streams that are read slowly must not hold up the others.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// Large frames, so that a list is few of them.
const FRAME_SIZE: u32 = 256 << 10;

/// When a connection is given up as dead.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepAlive {
    /// When nothing arrived for this long, a sign of life is asked for…
    pub ping_after: Duration,
    /// …which must come within this time.
    pub timeout: Duration,
}

impl Default for KeepAlive {
    /// As client-go.
    fn default() -> Self {
        Self { ping_after: Duration::from_secs(30), timeout: Duration::from_secs(15) }
    }
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type Pool = Client<Connector, Body>;

/// The server spoke HTTP/2 before, and does no more. Whoever meets this asks again which protocol it speaks.
#[derive(Debug, thiserror::Error)]
#[error("the server does not speak HTTP/2 any more")]
struct NoHttp2;

/// The lowest layer of a client. Clones share the connections.
#[derive(Clone)]
pub(super) struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    /// Offers HTTP/2 and HTTP/1.1.
    any: HttpsConnector<HttpConnector>,
    /// Offers HTTP/1.1.
    http1: HttpsConnector<HttpConnector>,
    keep_alive: KeepAlive,
    limiter: Option<Limiter>,
    pools: ArcSwap<Pools>,
}

struct Pools {
    has_http2: OnceCell<bool>,
    http2: Pool,
    http1: Pool,
    /// The connections with which the server was asked are the first of their pool.
    first_http2: First,
    first_http1: First,
}

type First = Arc<Mutex<Option<Stream>>>;

impl Transport {
    /// For one server. `server_name` is the name that its certificate must have, if not that of the URL.
    pub(super) fn new(
        tls: &rustls::ClientConfig,
        server_name: Option<&str>,
        limiter: Option<Limiter>,
        keep_alive: KeepAlive,
    ) -> Result<Self, Error> {
        let connector = |protocols: &[&[u8]]| {
            let mut tls = tls.clone();
            tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            // A resumed session would go on with the certificate of the first.
            tls.resumption = rustls::client::Resumption::disabled();
            https_connector(tls, server_name, keep_alive)
        };
        let (any, http1) = (connector(&[b"h2", b"http/1.1"])?, connector(&[b"http/1.1"])?);
        let shared = Arc::new_cyclic(|shared| {
            let pools = ArcSwap::from_pointee(Pools::new(&any, &http1, keep_alive, shared));
            Shared { any, http1, keep_alive, limiter, pools }
        });
        Ok(Self { shared })
    }

    /// Lets go of the connections: what is under way on them ends there, new requests make new ones.
    pub(super) fn renew(&self) {
        self.shared.renew();
    }

    /// To be called from what must not keep the connections alive.
    pub(super) fn downgrade(&self) -> WeakTransport {
        WeakTransport(Arc::downgrade(&self.shared))
    }
}

/// See [`Transport::downgrade`].
pub(super) struct WeakTransport(Weak<Shared>);

impl WeakTransport {
    /// The transport, if it is still in use.
    pub(super) fn upgrade(&self) -> Option<Transport> {
        self.0.upgrade().map(|shared| Transport { shared })
    }
}

impl Shared {
    fn renew(self: &Arc<Self>) {
        let fresh = Pools::new(&self.any, &self.http1, self.keep_alive, &Arc::downgrade(self));
        self.pools.store(Arc::new(fresh));
    }
}

impl Pools {
    fn new(
        any: &HttpsConnector<HttpConnector>,
        http1: &HttpsConnector<HttpConnector>,
        keep_alive: KeepAlive,
        shared: &Weak<Shared>,
    ) -> Self {
        let (first_http2, first_http1) = (First::default(), First::default());
        let connector = |tls: &HttpsConnector<HttpConnector>, first: &First, wants_http2| Connector {
            tls: tls.clone(),
            first: Arc::clone(first),
            wants_http2,
            shared: shared.clone(),
        };
        let mut builder = Client::builder(TokioExecutor::new());
        builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new());
        let http1_pool = builder.build(connector(http1, &first_http1, false));
        builder
            .http2_only(true)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_frame_size(FRAME_SIZE)
            .http2_keep_alive_interval(keep_alive.ping_after)
            .http2_keep_alive_timeout(keep_alive.timeout)
            .http2_keep_alive_while_idle(true);
        let http2_pool = builder.build(connector(any, &first_http2, true));
        Self { has_http2: OnceCell::new(), http2: http2_pool, http1: http1_pool, first_http2, first_http1 }
    }

    /// The pool for ordinary requests, after asking the server if that was not done yet.
    async fn ordinary(&self, shared: &Shared, uri: &Uri) -> Result<&Pool, BoxError> {
        let ask = || async {
            let stream = connect(&mut shared.any.clone(), uri.clone()).await?;
            let has_http2 = stream.connected().is_negotiated_h2();
            let first = if has_http2 { &self.first_http2 } else { &self.first_http1 };
            first.lock().replace(stream);
            Ok::<_, BoxError>(has_http2)
        };
        Ok(if *self.has_http2.get_or_try_init(ask).await? { &self.http2 } else { &self.http1 })
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Incoming>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if let Some(limiter) = &shared.limiter {
                limiter.wait().await;
            }
            let pools = shared.pools.load_full();
            let becomes_another_protocol = request.headers().contains_key(UPGRADE);
            let pool = match becomes_another_protocol {
                true => &pools.http1,
                false => pools.ordinary(&shared, request.uri()).await?,
            };
            let (method, uri, start) = (request.method().clone(), request.uri().clone(), Instant::now());
            let outcome = pool.request(request).await;
            let status = outcome.as_ref().map_or(0, |response| response.status().as_u16());
            tracing::trace!(%method, %uri, status, seconds = start.elapsed().as_secs_f64(), "request");
            Ok(outcome?)
        })
    }
}

/// Makes the connections of one pool.
#[derive(Clone)]
struct Connector {
    tls: HttpsConnector<HttpConnector>,
    first: First,
    wants_http2: bool,
    shared: Weak<Shared>,
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Stream, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tls.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if let Some(first) = self.first.lock().take() {
            return Box::pin(std::future::ready(Ok(first)));
        }
        let mut connector = self.clone();
        Box::pin(async move {
            let stream = connect(&mut connector.tls, uri).await?;
            if connector.wants_http2 && !stream.connected().is_negotiated_h2() {
                if let Some(shared) = connector.shared.upgrade() {
                    shared.renew();
                }
                return Err(NoHttp2.into());
            }
            Ok(stream)
        })
    }
}

async fn connect(connector: &mut HttpsConnector<HttpConnector>, uri: Uri) -> Result<Stream, BoxError> {
    std::future::poll_fn(|cx| connector.poll_ready(cx)).await?;
    match tokio::time::timeout(CONNECT_TIMEOUT, connector.call(uri)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no connection within {CONNECT_TIMEOUT:?}").into()),
    }
}

fn https_connector(
    tls: rustls::ClientConfig,
    server_name: Option<&str>,
    keep_alive: KeepAlive,
) -> Result<HttpsConnector<HttpConnector>, Error> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    // For HTTP/1.1, which has no pings.
    http.set_keepalive(Some(keep_alive.ping_after));
    let names: Arc<dyn hyper_rustls::ResolveServerName + Send + Sync> = match server_name {
        None => Arc::new(DefaultServerNameResolver::default()),
        Some(name) => {
            let name = name.to_owned();
            let parsed = name.clone().try_into().map_err(|_| Error::ServerName(name))?;
            Arc::new(FixedServerNameResolver::new(parsed))
        }
    };
    Ok(HttpsConnector::new(http, tls, false, names))
}

#[cfg(test)]
mod tests;
