//! Servers that the test itself runs: what probes and hooks ask, and where static pods come from.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::TcpListener;

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Gives the same answer to everyone, and notes what was asked.
#[derive(Clone)]
pub struct Http {
    pub port: u16,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Http {
    pub async fn start() -> Self {
        let (listener, port) = listen().await;
        let server = Self { port, answer: Arc::new(Mutex::new((200, String::new()))), asked: Arc::default() };
        let served = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let served = served.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = served.reply(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let builder = hyper::server::conn::http1::Builder::new();
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        server
    }

    fn reply(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let header = request.headers().get("x-test").map_or("", |value| value.to_str().unwrap());
        self.asked.lock().push(format!("{} {} {header}", request.method(), request.uri()));
        let (status, body) = self.answer.lock().clone();
        Response::builder().status(status).body(Full::from(body)).unwrap()
    }

    pub fn answer(&self, status: u16, body: impl Into<String>) {
        *self.answer.lock() = (status, body.into());
    }

    /// Method, path and the header `X-Test` of each request so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

/// A server of the gRPC health protocol.
#[derive(Clone)]
pub struct Health {
    pub port: u16,
    status: Arc<AtomicU8>,
    asked: Arc<Mutex<Vec<Bytes>>>,
}

impl Health {
    pub const SERVING: u8 = 1;
    pub const NOT_SERVING: u8 = 2;

    pub async fn start() -> Self {
        let (listener, port) = listen().await;
        let server = Self { port, status: Arc::new(AtomicU8::new(Self::SERVING)), asked: Arc::default() };
        let served = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let served = served.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let served = served.clone();
                    async move { Ok::<_, Infallible>(served.check(request).await) }
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        server
    }

    async fn check(
        &self,
        request: Request<Incoming>,
    ) -> Response<StreamBody<impl futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + use<>>> {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let asked = request.into_body().collect().await.unwrap().to_bytes();
        self.asked.lock().push(asked);
        let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, self.status.load(Ordering::Relaxed)]);
        let ok = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(HeaderMap::from_iter([ok])))];
        let body = StreamBody::new(futures::stream::iter(frames));
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    }

    pub fn set(&self, status: u8) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// Whether someone asked for the service of that name.
    pub fn was_asked(&self, service: &str) -> bool {
        let length = u8::try_from(service.len()).unwrap();
        let mut message = vec![0, 0, 0, 0, length + 2, 0x0a, length];
        message.extend_from_slice(service.as_bytes());
        self.asked.lock().iter().any(|asked| asked[..] == message[..])
    }
}
