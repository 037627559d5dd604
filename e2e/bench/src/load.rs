//! Load: connections of our own over TLS, each asking again as soon as it has its answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use e2e::ControlPlane;
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    Http1,
    Http2,
}

const WINDOW: u32 = 16 << 20;
const HTTP2_FRAME: u32 = 1 << 20;

/// A server and who asks it.
#[derive(Clone)]
pub struct Target {
    port: u16,
    tls: Arc<rustls::ClientConfig>,
}

/// One request, made again and again. `{}` in the path or body is the number of the request.
#[derive(Clone)]
pub struct Shot {
    pub method: &'static str,
    pub path: String,
    pub accept: &'static str,
    pub body: Option<String>,
}

impl Shot {
    pub fn get(path: &str) -> Self {
        Shot { method: "GET", path: path.to_owned(), accept: "application/json", body: None }
    }

    fn request(&self, protocol: Protocol, number: u64) -> Result<Request<Full<Bytes>>> {
        let fill = |text: &str| text.replace("{}", &number.to_string());
        let path = fill(&self.path);
        let uri = if protocol == Protocol::Http2 { format!("https://localhost{path}") } else { path };
        let body = self.body.as_deref().map(fill).unwrap_or_default();
        let request = Request::builder().method(self.method).uri(uri).header("accept", self.accept);
        let request = if protocol == Protocol::Http1 { request.header("host", "localhost") } else { request };
        let request = request.header("content-type", "application/json");
        Ok(request.body(Full::new(body.into()))?)
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub requests: u64,
    pub bytes: u64,
    pub seconds: f64,
    latencies: Vec<Duration>,
}

impl Measured {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    pub fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }

    pub fn p99(&self) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort();
        sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
    }
}

impl Target {
    pub fn new(plane: &ControlPlane) -> Result<Self> {
        let pair = plane.certificate_for("bench", &["system:masters"])?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(plane.pki_dir().join("ca.crt"))?)?;
        let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?;
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        Ok(Target { port: plane.apiserver_port(), tls: Arc::new(tls) })
    }

    /// Another server with the same certificate.
    pub fn with_port(&self, port: u16) -> Self {
        Target { port, tls: self.tls.clone() }
    }

    async fn connect(&self, protocol: Protocol) -> Result<TlsStream<TcpStream>> {
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![if protocol == Protocol::Http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(TlsConnector::from(Arc::new(tls)).connect(ServerName::try_from("localhost")?, stream).await?)
    }

    async fn connection(&self, protocol: Protocol) -> Result<Connection> {
        let io = TokioIo::new(self.connect(protocol).await?);
        Ok(match protocol {
            Protocol::Http1 => {
                let (sender, connection) = conn::http1::handshake(io).await?;
                tokio::spawn(connection);
                Connection::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = conn::http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(WINDOW)
                    .initial_connection_window_size(WINDOW)
                    .max_frame_size(HTTP2_FRAME)
                    .handshake(io)
                    .await?;
                tokio::spawn(connection);
                Connection::Http2(sender)
            }
        })
    }

    /// Asks over `connections` for `duration`, or until `most` requests are made. Any answer but a success is an error.
    pub async fn load(
        &self,
        shot: &Shot,
        protocol: Protocol,
        connections: usize,
        duration: Duration,
        most: u64,
    ) -> Result<Measured> {
        let numbers = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(self.connection(protocol).await?);
        }
        let start = Instant::now();
        let tasks: Vec<_> = open
            .into_iter()
            .map(|mut connection| {
                let (shot, numbers) = (shot.clone(), numbers.clone());
                tokio::spawn(async move {
                    let mut measured = Measured::default();
                    while start.elapsed() < duration {
                        let number = numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if number >= most {
                            break;
                        }
                        let begun = Instant::now();
                        measured.bytes += connection.shoot(shot.request(protocol, number)?).await?;
                        measured.latencies.push(begun.elapsed());
                        measured.requests += 1;
                    }
                    anyhow::Ok(measured)
                })
            })
            .collect();
        let mut all = Measured::default();
        for task in tasks {
            let one = task.await??;
            all.requests += one.requests;
            all.bytes += one.bytes;
            all.latencies.extend(one.latencies);
        }
        all.seconds = start.elapsed().as_secs_f64();
        Ok(all)
    }
}

enum Connection {
    Http1(conn::http1::SendRequest<Full<Bytes>>),
    Http2(conn::http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Sends a request and reads the whole answer; its size.
    async fn shoot(&mut self, request: Request<Full<Bytes>>) -> Result<u64> {
        let what = format!("{} {}", request.method(), request.uri());
        let response = match self {
            Connection::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Connection::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let status = response.status();
        if !status.is_success() {
            let body = response.into_body().collect().await?.to_bytes();
            bail!("{what}: {status}: {}", String::from_utf8_lossy(&body[..body.len().min(500)]));
        }
        drain(response.into_body()).await.context(what)
    }
}

async fn drain(mut body: Incoming) -> Result<u64> {
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            size += data.len() as u64;
        }
    }
    Ok(size)
}
