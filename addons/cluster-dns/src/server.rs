//! DNS over UDP and TCP: sockets on one side, `Resolver::respond` on the other.

use crate::answer::{Resolver, Transport};
use component_base::shutdown::Shutdown;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Requests by UDP that wait for upstream at a time. Past it the newest is dropped, and its client asks again.
const MAX_UDP_REQUESTS: usize = 1024;
/// Connections at a time; more wait.
const MAX_CONNECTIONS: usize = 256;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// The pause after a socket fails, so that a lasting failure does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// The sockets of one address.
pub struct Server {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    resolver: Arc<Resolver>,
}

impl Server {
    /// Port 0 takes a free one, the same for both.
    pub async fn bind(address: SocketAddr, resolver: Arc<Resolver>) -> std::io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let udp = UdpSocket::bind(tcp.local_addr()?).await?;
        Ok(Self { udp: Arc::new(udp), tcp, resolver })
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    pub async fn run(self, shutdown: Shutdown) {
        let udp = serve_udp(self.udp, self.resolver.clone());
        let tcp = serve_tcp(self.tcp, self.resolver);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = udp => {}
            () = tcp => {}
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, resolver: Arc<Resolver>) {
    let permits = Arc::new(Semaphore::new(MAX_UDP_REQUESTS));
    let mut buffer = vec![0; 4096];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "receiving failed");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            tracing::warn!(limit = MAX_UDP_REQUESTS, "too many requests are open; one was dropped");
            continue;
        };
        let (socket, resolver, request) = (socket.clone(), resolver.clone(), buffer[..length].to_vec());
        tokio::spawn(async move {
            if let Some(response) = resolver.respond(&request, Transport::Udp).await
                && let Err(error) = socket.send_to(&response, peer).await
            {
                tracing::debug!(%error, %peer, "an answer could not be sent");
            }
            drop(permit);
        });
    }
}

async fn serve_tcp(listener: TcpListener, resolver: Arc<Resolver>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let resolver = resolver.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &resolver).await {
                        tracing::debug!(%error, %peer, "a connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accepting failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Requests and responses in turn, each after its length, until the client is done or silent.
async fn converse(mut stream: TcpStream, resolver: &Resolver) -> std::io::Result<()> {
    loop {
        let Ok(length) = timeout(IDLE, stream.read_u16()).await else { return Ok(()) };
        let length = match length {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            length => length?,
        };
        let mut request = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut request)).await??;
        let Some(response) = resolver.respond(&request, Transport::Tcp).await else { return Ok(()) };
        let Ok(length) = u16::try_from(response.len()) else { return Ok(()) };
        let framed = [&length.to_be_bytes(), response.as_slice()].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}
