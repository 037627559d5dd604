//! Two upgraded connections joined into one: bytes go both ways until either end is gone, or nothing was carried for too long.

use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// What is carried at a time, in bytes; with the sockets' buffers it is all that waits for a slow reader.
const PIECE: usize = 32 * 1024;
/// How long an end may take to be told that the other is gone.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a connection ended before both its ends said so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of the connections broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// Nothing was carried for this long.
    #[error("nothing was carried for {0:?}")]
    Idle(Duration),
}

/// When something was carried last.
#[derive(Debug)]
pub struct Activity(Mutex<Instant>);

impl Default for Activity {
    fn default() -> Self {
        Activity(Mutex::new(Instant::now()))
    }
}

impl Activity {
    /// Something is carried now.
    pub fn mark(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Ends once nothing was carried for `limit`; never, where that is zero.
    pub async fn idle(&self, limit: Duration) {
        if limit.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let until = *self.0.lock() + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// Carries bytes both ways until one end is gone, and closes the other.
///
/// The end of one direction ends both: the protocols that are carried (SPDY, WebSocket) say inside of them when one direction
/// has ended, so a closed connection means that nobody is there any more. What was read until then is still delivered.
///
/// # Errors
/// A connection that broke, or `idle` without a byte in either direction (zero stands for no limit).
pub async fn relay<N, F>(near: N, far: F, idle: Duration) -> Result<(), Error>
where
    N: AsyncRead + AsyncWrite,
    F: AsyncRead + AsyncWrite,
{
    let (near_read, mut near_write) = tokio::io::split(near);
    let (far_read, mut far_write) = tokio::io::split(far);
    let activity = Activity::default();
    let ended = tokio::select! {
        ended = carry(near_read, &mut far_write, &activity) => ended.map_err(Error::from),
        ended = carry(far_read, &mut near_write, &activity) => ended.map_err(Error::from),
        () = activity.idle(idle) => Err(Error::Idle(idle)),
    };
    tokio::join!(close(&mut near_write), close(&mut far_write));
    ended
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    activity: &Activity,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        activity.mark();
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
        activity.mark();
    }
}

/// Says that nothing more comes. Does not wait for ever for an end that does not listen.
pub async fn close(writer: &mut (impl AsyncWrite + Unpin)) {
    match tokio::time::timeout(FAREWELL, writer.shutdown()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::trace!(%error, "the other end was gone already"),
        Err(_) => tracing::debug!("the end of a connection was not taken in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    const LIMIT: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn bytes_go_both_ways_until_one_end_is_gone() {
        let ((mut client, near), (far, mut server)) = (duplex(64), duplex(64));
        let joined = tokio::spawn(relay(near, far, LIMIT));
        client.write_all(b"question").await.unwrap();
        let mut asked = [0; 8];
        server.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"question");
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answered = String::new();
        client.read_to_string(&mut answered).await.unwrap();
        assert_eq!(answered, "answer", "what was said before the end arrives, and then the end");
        joined.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_is_gone_takes_the_server_with_it() {
        let ((client, near), (far, mut server)) = (duplex(64), duplex(64));
        let joined = tokio::spawn(relay(near, far, LIMIT));
        drop(client);
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        // The server says nothing more, and keeps its end open.
        joined.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_every_byte_puts_the_end_off() {
        let ((mut client, near), (far, mut server)) = (duplex(64), duplex(64));
        let begin = Instant::now();
        let joined = tokio::spawn(relay(near, far, LIMIT));
        tokio::time::sleep(LIMIT / 2).await;
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0; 1]).await.unwrap();
        let ended = joined.await.unwrap();
        assert!(matches!(ended, Err(Error::Idle(limit)) if limit == LIMIT), "{ended:?}");
        let took = begin.elapsed();
        assert!(took >= LIMIT * 3 / 2 && took < LIMIT * 2, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_silence_is_allowed() {
        let ((_client, near), (far, _server)) = (duplex(64), duplex(64));
        let waited = tokio::time::timeout(LIMIT * 1000, relay(near, far, Duration::ZERO)).await;
        assert!(waited.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_does_not_read_is_silence() {
        let ((mut client, near), (far, _server)) = (duplex(64), duplex(64));
        let joined = tokio::spawn(relay(near, far, LIMIT));
        let flood = tokio::spawn(async move { while client.write_all(&[0; 64]).await.is_ok() {} });
        let ended = joined.await.unwrap();
        assert!(matches!(ended, Err(Error::Idle(_))), "{ended:?}");
        flood.await.unwrap();
    }
}
