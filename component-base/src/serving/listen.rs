//! Accepting connections: TLS, HTTP/1.1 with upgrades and HTTP/2, a bound on their number, and a graceful end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::Handler;
use crate::shutdown::Shutdown;
use crate::{sockets, tls};

/// Most connections at a time; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 1024;
/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests may go on after shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// Pause after accepting fails, for example when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its verified certificate chain, the client's own first; empty without one.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    pub address: SocketAddr,
    pub source: std::io::Error,
}

/// Opens a listening socket.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// Serves until shutdown; then no more connections are taken, and requests have five seconds to end. Without `tls` it is plain HTTP.
pub async fn serve(listener: TcpListener, tls: Option<tls::Server>, handler: Handler, shutdown: Shutdown) {
    let acceptor = tls.map(|tls| TlsAcceptor::from(tls.config));
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, address, permit)) = accepted else { continue };
        let (acceptor, handler, shutdown) = (acceptor.clone(), Arc::clone(&handler), shutdown.clone());
        connections.spawn(async move {
            connection(stream, address, acceptor, handler, shutdown).await;
            drop(permit);
        });
    }
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::debug!(connections = connections.len(), "connections were cut at the drain deadline");
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => {
            sockets::try_tune(&stream);
            Some((stream, address, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "accepting a connection failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    handler: Handler,
    shutdown: Shutdown,
) {
    let Some(acceptor) = acceptor else {
        return http(stream, Peer { address, certificates: Arc::from([]) }, handler, shutdown).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let peer = Peer {
                address,
                certificates: certificates.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            };
            http(stream, peer, handler, shutdown).await;
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
    }
}

async fn http<S>(stream: S, peer: Peer, handler: Handler, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = peer.address;
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%address, %error, "connection ended with an error");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::metrics::Registry;
    use crate::pki;
    use crate::serving::Routes;

    #[tokio::test]
    async fn https_serves_health_with_a_self_signed_certificate_and_ends_gracefully() {
        let issued = pki::self_signed_serving(["localhost", "127.0.0.1"], std::time::SystemTime::now()).unwrap();
        let authority = issued.certificate.clone();
        let shutdown = Shutdown::new();
        let server = tls::Server::new(tls::ServingCertificate::Pem(issued), None, shutdown.clone()).unwrap();
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let handler = Routes::new(Registry::new()).into_handler();
        let serving = tokio::spawn(serve(listener, Some(server), handler, shutdown.clone()));

        let roots = tls::roots(authority.as_bytes(), "test").unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
        shutdown.cancel();
        serving.await.unwrap();
    }
}
