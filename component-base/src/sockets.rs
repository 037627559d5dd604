//! Options of TCP connections, the same for those that are accepted and those that are made.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How long a connection is silent before its other end is probed.
const PROBE_AFTER: Duration = Duration::from_secs(30);
/// How often it is probed; the kernel gives up after some (nine, where nothing else is set).
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// Sends what is written at once, and notices when the other end is gone without a word: streams may be silent for hours.
///
/// # Errors
/// Those of the system calls.
pub fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// [`tune`] for a connection that is of use without it.
pub fn try_tune(stream: &TcpStream) {
    if let Err(error) = tune(stream) {
        tracing::debug!(%error, "options of a connection cannot be set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silent_connections_are_probed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), PROBE_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE_EVERY);
    }
}
