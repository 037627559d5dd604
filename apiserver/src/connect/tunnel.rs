//! Port-forward for clients that speak `SPDY/3.1+portforward.k8s.io` over WebSocket: the messages carry the bytes of a SPDY connection,
//! which the kubelet serves (KEP-4006). Nothing looks into them.

use bytes::{Bytes, BytesMut};
use component_base::relay::{self, Activity};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::websocket;

/// Before the name of the tunnelled protocol in that of the WebSocket's.
const PREFIX: &str = "SPDY/3.1+";
const SUFFIX: &str = ".k8s.io";
/// What is read from the kubelet at a time, in bytes.
const PIECE: usize = 32 * 1024;

/// The protocols inside of the tunnels that a client offers, best first.
pub fn protocols<'a>(offered: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    offered.filter(|name| name.ends_with(SUFFIX)).filter_map(|name| name.strip_prefix(PREFIX)).collect()
}

/// The WebSocket's subprotocol for a tunnelled protocol.
pub fn protocol(tunnelled: &str) -> String {
    format!("{PREFIX}{tunnelled}")
}

/// Why a tunnel is over.
enum End {
    NodeGone,
    ClientGone,
    ClientWrong(Error),
}

/// Carries bytes both ways until one end is gone, or nothing was carried for too long.
pub async fn run<C, N>(client: WebSocketStream<C>, node: N)
where
    C: AsyncRead + AsyncWrite + Unpin,
    N: AsyncRead + AsyncWrite,
{
    let (mut to_client, mut from_client) = client.split();
    let (node_read, mut node_write) = tokio::io::split(node);
    let activity = Activity::default();
    let end = tokio::select! {
        end = up(&mut from_client, &mut node_write, &activity) => end,
        end = down(node_read, &mut to_client, &activity) => end,
        () = activity.idle(websocket::IDLE_TIMEOUT) => End::NodeGone,
    };
    relay::close(&mut node_write).await;
    drop(node_write);
    match end {
        End::ClientGone => {}
        End::ClientWrong(error) => websocket::refuse(to_client, &error).await,
        End::NodeGone => websocket::finish(to_client, from_client, Vec::new()).await,
    }
}

async fn up(
    from_client: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    node: &mut (impl AsyncWrite + Unpin),
    activity: &Activity,
) -> End {
    while let Some(message) = from_client.next().await {
        let bytes: Bytes = match message {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Text(text)) => text.into(),
            Ok(Message::Close(_)) => break,
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Err(error) => return End::ClientWrong(error),
        };
        activity.mark();
        let written = async {
            node.write_all(&bytes).await?;
            node.flush().await
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "a kubelet takes no more of a tunnel");
            return End::NodeGone;
        }
        activity.mark();
    }
    End::ClientGone
}

async fn down(
    mut node: impl AsyncRead + Unpin,
    to_client: &mut (impl Sink<Message, Error = Error> + Unpin),
    activity: &Activity,
) -> End {
    let mut buffer = BytesMut::with_capacity(PIECE);
    loop {
        buffer.reserve(PIECE);
        match node.read_buf(&mut buffer).await {
            Ok(0) => return End::NodeGone,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a kubelet broke a tunnel");
                return End::NodeGone;
            }
        }
        activity.mark();
        if to_client.send(Message::Binary(buffer.split().freeze())).await.is_err() {
            return End::ClientGone;
        }
        activity.mark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[test]
    fn tunnelled_protocols_have_a_prefix() {
        let offered =
            ["SPDY/3.1+portforward.k8s.io", "v4.channel.k8s.io", "SPDY/3.1+other", "SPDY/3.1+v2.portforward.k8s.io"];
        assert_eq!(protocols(offered.into_iter()), ["portforward.k8s.io", "v2.portforward.k8s.io"]);
        assert_eq!(protocol("portforward.k8s.io"), offered[0]);
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_until_the_kubelet_ends() {
        let ((near, client), (node, mut kubelet)) = (tokio::io::duplex(256), tokio::io::duplex(256));
        let tunnel = tokio::spawn(run(websocket::socket(near).await, node));
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        client.send(Message::binary(&b"question"[..])).await.unwrap();
        let mut asked = [0; 8];
        kubelet.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"question");
        kubelet.write_all(b"answer").await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(&b"answer"[..]));
        kubelet.write_all(b"last").await.unwrap();
        kubelet.shutdown().await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(&b"last"[..]));
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
        assert!(client.next().await.is_none());
        tunnel.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_is_gone_ends_the_kubelets_side() {
        let ((near, client), (node, mut kubelet)) = (tokio::io::duplex(256), tokio::io::duplex(256));
        let tunnel = tokio::spawn(run(websocket::socket(near).await, node));
        drop(client);
        assert_eq!(kubelet.read(&mut [0; 8]).await.unwrap(), 0);
        tunnel.await.unwrap();
    }
}
