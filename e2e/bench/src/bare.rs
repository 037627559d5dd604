//! The limit beside the rows: a server of nothing but hyper and rustls that sends bytes it already has.

use std::{convert::Infallible, net::TcpListener, path::Path, process::Command, sync::Arc};

use anyhow::{Context, Result};
use bytes::Bytes;
use e2e::{ControlPlane, control_plane::wait_for_port, process::Process};
use futures::stream;
use http_body_util::StreamBody;
use hyper::{Request, Response, body::Frame, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::{TlsAcceptor, rustls};

/// How much of an answer is written at once.
const PIECE: usize = 128 << 10;
const HTTP2_FRAME: u32 = 1 << 20;

/// The server as a process of its own, and where it listens.
pub struct Bare {
    pub process: Process,
    pub port: u16,
}

impl Bare {
    /// Starts this very program as the server, with the certificate of the apiserver.
    pub async fn start(plane: &ControlPlane) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--bare-server").arg(port.to_string()).arg("--pki").arg(plane.pki_dir());
        let mut process = Process::start("the bare server", &mut command, &plane.pki_dir().join("bare.log"))?;
        wait_for_port(&mut process, port).await?;
        Ok(Bare { process, port })
    }
}

/// Serves `/<size>`: that many bytes. It runs until it is killed.
pub async fn serve(port: u16, pki: &Path) -> Result<()> {
    let chain = CertificateDer::pem_file_iter(pki.join("apiserver.crt"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(pki.join("apiserver.key"))?;
    let mut tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let piece = Bytes::from(vec![b'x'; PIECE]);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(acceptor.clone(), stream, piece.clone()));
    }
}

async fn connection(acceptor: TlsAcceptor, stream: tokio::net::TcpStream, piece: Bytes) {
    let service = service_fn(move |request| answer(request, piece.clone()));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_frame_size(HTTP2_FRAME).max_send_buf_size(1 << 20);
    let served = async {
        let stream = acceptor.accept(stream).await.context("handshake")?;
        builder.serve_connection(TokioIo::new(stream), service).await.map_err(anyhow::Error::from_boxed)
    };
    // A client that goes away is how a measurement ends.
    if let Err(error) = served.await {
        eprintln!("{error:#}");
    }
}

type Pieces = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn answer(request: Request<Incoming>, piece: Bytes) -> Result<Response<Pieces>> {
    let size: usize = request.uri().path().trim_start_matches('/').parse()?;
    let pieces = (0..size).step_by(PIECE).map(|start| Ok(Frame::data(piece.slice(..PIECE.min(size - start)))));
    let body = StreamBody::new(stream::iter(pieces.collect::<Vec<_>>()));
    Ok(Response::builder().header("content-length", size).body(body)?)
}
