//! Exec and attach for clients that speak `v5.channel.k8s.io` over WebSocket: translated to the SPDY streams that kubelets serve
//! (KEP-4006). A message begins with its channel's number; 255 and a channel's number close that channel, as its half-close.

pub mod session;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use component_base::relay::Activity;
use futures::future::FusedFuture;
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::codec::{FramedRead, FramedWrite};

use super::spdy::frame::MAX_PIECE;
use super::spdy::{self, Codec, Frame};
use super::websocket;
use session::{Channel, Input, Output, Step, Streams};

/// The WebSocket subprotocol that is translated.
pub const PROTOCOL: &str = "v5.channel.k8s.io";
/// The protocol of the streams at the kubelet.
pub const NODE_PROTOCOL: &str = "v4.channel.k8s.io";

/// How long a kubelet may take to accept the streams.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a kubelet may take to hear that it is over.
const FAREWELL: Duration = Duration::from_secs(5);
/// Data frames that wait for the kubelet to take them. Past that the client is not read any more.
const WAITING_DATA: usize = 1;
/// Answers to the kubelet's own frames that wait to be sent. Past that they are dropped: the kubelet does not read them.
const WAITING_ANSWERS: usize = 16;

const OK: u16 = 200;
const BAD_REQUEST: u16 = 400;
const INTERNAL_ERROR: u16 = 500;

/// Why a session is over.
enum End {
    /// The kubelet has said all that it has to say.
    Finished,
    /// Nobody is left to tell.
    ClientGone,
    /// The client sent what is no WebSocket, or too much at once.
    ClientWrong(Error),
    /// The session cannot go on, for this reason.
    Failed(String),
}

/// The two ways into the connection to the kubelet.
struct Node {
    data: mpsc::Sender<Frame>,
    answers: mpsc::Sender<Frame>,
}

/// Carries a session from its first to its last byte. The code is that of the session, not of the command: 200 where the kubelet told
/// how the command ended.
pub async fn run<C, N>(client: WebSocketStream<C>, node: N, streams: Streams) -> u16
where
    C: AsyncRead + AsyncWrite + Unpin,
    N: AsyncRead + AsyncWrite,
{
    let (mut to_client, mut from_client) = client.split();
    let mut output = Output::new(streams);
    let end = match spdy::open(streams.headers()) {
        Ok(opening) => exchange(&mut to_client, &mut from_client, node, opening, streams, &mut output).await,
        Err(error) => End::Failed(error.to_string()),
    };
    let reason = match end {
        End::ClientGone => return INTERNAL_ERROR,
        End::ClientWrong(error) => {
            websocket::refuse(to_client, &error).await;
            return BAD_REQUEST;
        }
        End::Finished => None,
        End::Failed(reason) => Some(reason),
    };
    let status = output.status(reason.as_deref());
    websocket::finish(to_client, from_client, vec![message(Channel::Error, &status.text)]).await;
    if status.told { OK } else { INTERNAL_ERROR }
}

/// Everything but the status; when this ends, so has the connection to the kubelet.
async fn exchange<N>(
    to_client: &mut (impl Sink<Message, Error = Error> + Unpin),
    from_client: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    node: N,
    opening: Bytes,
    streams: Streams,
    output: &mut Output,
) -> End
where
    N: AsyncRead + AsyncWrite,
{
    let (node_read, node_write) = tokio::io::split(node);
    let (data, waiting_data) = mpsc::channel(WAITING_DATA);
    let (answers, waiting_answers) = mpsc::channel(WAITING_ANSWERS);
    let writing = write(node_write, opening, waiting_data, waiting_answers).fuse();
    tokio::pin!(writing);
    let end = {
        let frames = FramedRead::with_capacity(node_read, Codec::default(), MAX_PIECE);
        let talking = talk(to_client, from_client, frames, Node { data, answers }, streams, output);
        tokio::pin!(talking);
        tokio::select! {
            end = &mut talking => end,
            // What the kubelet still says is worth hearing when it takes nothing more.
            () = &mut writing => talking.await,
        }
    };
    if !writing.is_terminated() && tokio::time::timeout(FAREWELL, writing).await.is_err() {
        tracing::debug!("a kubelet did not take the end of a session in time");
    }
    end
}

/// Writes frames to the kubelet, its own business first, until nobody sends any more.
async fn write(
    node: impl AsyncWrite + Unpin,
    opening: Bytes,
    mut data: mpsc::Receiver<Frame>,
    mut answers: mpsc::Receiver<Frame>,
) {
    let all = async {
        let mut node = FramedWrite::new(node, Codec::default());
        node.get_mut().write_all(&opening).await?;
        node.get_mut().flush().await?;
        loop {
            let frame = tokio::select! {
                biased;
                Some(frame) = answers.recv() => frame,
                Some(frame) = data.recv() => frame,
                else => break,
            };
            node.send(frame).await?;
        }
        node.send(Frame::GoAway { last: 0, status: 0 }).await?;
        node.close().await
    };
    if let Err(error) = all.await {
        tracing::debug!(%error, "a kubelet takes no more of a session");
    }
}

/// Listens to both ends until one of them is through, or both are silent for too long.
async fn talk(
    to_client: &mut (impl Sink<Message, Error = Error> + Unpin),
    from_client: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    frames: impl Stream<Item = Result<Frame, spdy::Error>> + Unpin,
    node: Node,
    streams: Streams,
    output: &mut Output,
) -> End {
    let activity = Activity::default();
    let (open, opened) = watch::channel(false);
    let in_time = async {
        if tokio::time::timeout(OPEN_TIMEOUT, opened.clone().wait_for(|open| *open)).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        end = listen(from_client, Input::new(streams), &node.data, opened.clone(), &activity) => end,
        end = speak(to_client, frames, streams, output, &node.answers, &open, &activity) => end,
        () = in_time => End::Failed(format!("the kubelet did not accept the streams within {OPEN_TIMEOUT:?}")),
        () = activity.idle(websocket::IDLE_TIMEOUT) => {
            End::Failed(format!("nothing was said for {:?}", websocket::IDLE_TIMEOUT))
        }
    }
}

/// From the client to the kubelet.
async fn listen(
    from_client: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    mut input: Input,
    data: &mpsc::Sender<Frame>,
    mut opened: watch::Receiver<bool>,
    activity: &Activity,
) -> End {
    // The kubelet throws away what comes on a stream before it has accepted it.
    if opened.wait_for(|open| *open).await.is_err() {
        return End::ClientGone;
    }
    while let Some(message) = from_client.next().await {
        let message = match message {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Text(text)) => text.into(),
            Ok(Message::Close(_)) => break,
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Err(error) => return End::ClientWrong(error),
        };
        let Some(Frame::Data { stream, fin, mut payload }) = input.take(message) else { continue };
        activity.mark();
        loop {
            let piece = payload.split_to(payload.len().min(MAX_PIECE));
            let frame = Frame::Data { stream, fin: fin && payload.is_empty(), payload: piece };
            // A kubelet that takes nothing more has ended the session, or will: its own words say how.
            if data.send(frame).await.is_err() || payload.is_empty() {
                break;
            }
            activity.mark();
        }
    }
    End::ClientGone
}

/// From the kubelet to the client.
async fn speak(
    to_client: &mut (impl Sink<Message, Error = Error> + Unpin),
    mut frames: impl Stream<Item = Result<Frame, spdy::Error>> + Unpin,
    streams: Streams,
    output: &mut Output,
    answers: &mpsc::Sender<Frame>,
    open: &watch::Sender<bool>,
    activity: &Activity,
) -> End {
    if to_client.send(message(streams.greeted(), b"")).await.is_err() {
        return End::ClientGone;
    }
    while !output.finished() {
        let frame = match frames.next().await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return End::Failed(format!("the connection to the kubelet broke: {error}")),
            None => break,
        };
        match output.take(frame) {
            Step::Nothing => {}
            Step::Opened => {
                open.send_replace(true);
            }
            Step::Output(channel, payload) => {
                activity.mark();
                if to_client.send(message(channel, &payload)).await.is_err() {
                    return End::ClientGone;
                }
                activity.mark();
            }
            Step::Answer(frame) => {
                if answers.try_send(frame).is_err() {
                    tracing::debug!("a kubelet does not read the answers to its frames");
                }
            }
            Step::Fail(reason) => return End::Failed(reason),
        }
    }
    End::Finished
}

fn message(channel: Channel, payload: &[u8]) -> Message {
    let mut out = BytesMut::with_capacity(1 + payload.len());
    out.put_u8(channel as u8);
    out.put_slice(payload);
    Message::Binary(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::Value;
    use tokio::io::DuplexStream;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;
    use tokio_tungstenite::tungstenite::protocol::Role;
    use tokio_util::codec::Framed;

    const STREAMS: Streams = Streams { stdin: true, stdout: true, stderr: false, tty: false };
    const ERROR: u32 = 1;
    const STDIN: u32 = 3;
    const STDOUT: u32 = 5;
    const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;

    /// A session between a client and a kubelet that are both in the test's hands.
    struct Rig {
        client: WebSocketStream<DuplexStream>,
        kubelet: Framed<DuplexStream, Codec>,
        session: JoinHandle<u16>,
    }

    impl Rig {
        async fn start() -> Self {
            let (near, client) = tokio::io::duplex(4 * 1024);
            let (node, kubelet) = tokio::io::duplex(4 * 1024);
            let near = websocket::socket(near).await;
            let session = tokio::spawn(run(near, node, STREAMS));
            let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
            Rig { client, kubelet: Framed::new(kubelet, Codec::default()), session }
        }

        /// The kubelet accepts all streams.
        async fn open(&mut self) {
            for id in [ERROR, STDIN, STDOUT] {
                let frame = self.frame().await;
                assert!(matches!(frame, Frame::SynStream { stream, fin: false, .. } if stream == id), "{frame:?}");
            }
            for stream in [ERROR, STDIN, STDOUT] {
                self.kubelet.send(Frame::SynReply { stream, fin: false, block: Bytes::new() }).await.unwrap();
            }
            assert_eq!(self.message().await, &b"\x01"[..], "the connection stands");
        }

        async fn frame(&mut self) -> Frame {
            self.kubelet.next().await.expect("the connection is open").expect("a frame")
        }

        async fn message(&mut self) -> Bytes {
            self.client.next().await.expect("the connection is open").expect("a message").into_data()
        }

        async fn say(&mut self, stream: u32, fin: bool, text: &'static str) {
            self.kubelet.send(Frame::Data { stream, fin, payload: text.into() }).await.unwrap();
        }

        /// The status and the close that end a session.
        async fn status(&mut self) -> Value {
            let message = self.message().await;
            assert_eq!(message.first(), Some(&3), "{message:?}");
            let end = self.client.next().await;
            let normal = |end: &Message| matches!(end, Message::Close(Some(frame)) if frame.code == 1000.into());
            assert!(matches!(&end, Some(Ok(end)) if normal(end)), "{end:?}");
            assert!(self.client.next().await.is_none());
            serde_json::from_slice(&message[1..]).unwrap()
        }
    }

    fn data(stream: u32, fin: bool, payload: &'static str) -> Frame {
        Frame::Data { stream, fin, payload: payload.into() }
    }

    #[tokio::test]
    async fn a_session_from_its_first_to_its_last_byte() {
        let mut rig = Rig::start().await;
        rig.client.send(Message::binary(&b"\0early"[..])).await.unwrap();
        rig.open().await;
        assert_eq!(rig.frame().await, data(STDIN, false, "early"), "what came before the streams were open is kept");
        rig.say(STDOUT, false, "out").await;
        assert_eq!(rig.message().await, &b"\x01out"[..]);
        rig.client.send(Message::text("\0text")).await.unwrap();
        assert_eq!(rig.frame().await, data(STDIN, false, "text"));
        rig.client.send(Message::binary(&b"\xff\0"[..])).await.unwrap();
        assert_eq!(rig.frame().await, data(STDIN, true, ""));
        rig.say(STDOUT, true, "end").await;
        assert_eq!(rig.message().await, &b"\x01end"[..]);
        rig.say(ERROR, true, SUCCESS).await;
        assert_eq!(rig.frame().await, Frame::GoAway { last: 0, status: 0 });
        assert!(rig.kubelet.next().await.is_none(), "the kubelet is let go at once");
        assert_eq!(rig.status().await["status"], "Success");
        assert_eq!(rig.session.await.unwrap(), OK);
    }

    #[tokio::test]
    async fn a_kubelet_that_takes_no_input_is_still_heard_and_answered() {
        let mut rig = Rig::start().await;
        rig.open().await;
        let (mut to, mut from) = rig.client.split();
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = taken.clone();
        let flood = tokio::spawn(async move {
            while to.send(Message::binary(vec![0; 1000])).await.is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        // The input fills everything on the way, as nobody takes it; output comes all the same.
        for _ in 0..50 {
            rig.kubelet.send(data(STDOUT, false, "still here")).await.unwrap();
            assert_eq!(from.next().await.unwrap().unwrap().into_data(), &b"\x01still here"[..]);
        }
        rig.kubelet.send(Frame::Ping(2)).await.unwrap();
        rig.kubelet.send(data(STDOUT, false, "after the ping")).await.unwrap();
        assert_eq!(from.next().await.unwrap().unwrap().into_data(), &b"\x01after the ping"[..]);
        let mut waited = 0;
        loop {
            match rig.kubelet.next().await.unwrap().unwrap() {
                Frame::Ping(2) => break,
                Frame::Data { stream: STDIN, payload, .. } => waited += payload.len(),
                other => panic!("{other:?}"),
            }
        }
        assert!(waited < 64 * 1024, "the answer overtakes what waits: {waited} bytes came first");
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken < 100, "what waits is bounded: {taken} messages were taken");
        drop(rig.kubelet);
        let last = from.next().await.unwrap().unwrap().into_data();
        assert_eq!(last.first(), Some(&3));
        while from.next().await.is_some() {}
        flood.await.unwrap();
        rig.session.await.unwrap();
    }

    #[tokio::test]
    async fn a_large_message_goes_in_frames_of_bounded_size() {
        let mut rig = Rig::start().await;
        rig.open().await;
        let message: Vec<u8> = std::iter::once(0).chain((0..100_000).map(|n: u32| n as u8)).collect();
        let expected = message[1..].to_vec();
        let sent = tokio::spawn(async move {
            rig.client.send(Message::binary(message)).await.unwrap();
            rig.client
        });
        let mut came = Vec::new();
        while came.len() < expected.len() {
            let Some(Ok(Frame::Data { stream: STDIN, fin: false, payload })) = rig.kubelet.next().await else {
                panic!("data of the input");
            };
            assert!(payload.len() <= MAX_PIECE);
            came.extend_from_slice(&payload);
        }
        assert!(came == expected);
        drop(sent.await.unwrap());
        rig.session.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_is_gone_ends_the_kubelets_side() {
        let mut rig = Rig::start().await;
        rig.open().await;
        drop(rig.client);
        assert_eq!(rig.kubelet.next().await.unwrap().unwrap(), Frame::GoAway { last: 0, status: 0 });
        assert!(rig.kubelet.next().await.is_none());
        rig.session.await.unwrap();
    }

    #[tokio::test]
    async fn a_kubelet_that_is_gone_or_talks_nonsense_fails_the_command() {
        for nonsense in [None, Some(&[0x80, 9, 0, 1, 0, 0, 0, 0][..])] {
            let mut rig = Rig::start().await;
            rig.open().await;
            if let Some(nonsense) = nonsense {
                rig.kubelet.get_mut().write_all(nonsense).await.unwrap();
            } else {
                rig.kubelet.get_mut().shutdown().await.unwrap();
            }
            let status = rig.status().await;
            assert_eq!((status["status"].as_str(), status["code"].as_u64()), (Some("Failure"), Some(500)), "{status}");
            assert_eq!(rig.session.await.unwrap(), INTERNAL_ERROR);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_are_never_accepted_fail_the_command() {
        let mut rig = Rig::start().await;
        let began = Instant::now();
        assert_eq!(rig.message().await, &b"\x01"[..]);
        let status = rig.status().await;
        assert!(status["message"].as_str().is_some_and(|text| text.contains("did not accept")), "{status}");
        assert!(began.elapsed() >= OPEN_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_session_and_pings_are_silence() {
        let mut rig = Rig::start().await;
        rig.open().await;
        let began = Instant::now();
        tokio::time::sleep(websocket::IDLE_TIMEOUT / 2).await;
        rig.say(STDOUT, false, "x").await;
        assert_eq!(rig.message().await, &b"\x01x"[..]);
        tokio::time::sleep(websocket::IDLE_TIMEOUT / 2).await;
        rig.client.send(Message::Ping(Bytes::new())).await.unwrap();
        assert!(matches!(rig.client.next().await, Some(Ok(Message::Pong(_)))));
        let status = rig.status().await;
        assert!(status["message"].as_str().is_some_and(|text| text.contains("nothing was said")), "{status}");
        let took = began.elapsed();
        assert!(took >= websocket::IDLE_TIMEOUT * 3 / 2 && took < websocket::IDLE_TIMEOUT * 2, "{took:?}");
    }

    #[tokio::test]
    async fn what_is_no_websocket_is_refused() {
        let mut rig = Rig::start().await;
        rig.open().await;
        // A text that is not UTF-8.
        rig.client.get_mut().write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xff]).await.unwrap();
        let end = rig.client.next().await;
        let wrong = |end: &Message| matches!(end, Message::Close(Some(frame)) if frame.code == 1002.into());
        assert!(matches!(&end, Some(Ok(end)) if wrong(end)), "{end:?}");
        assert_eq!(rig.session.await.unwrap(), BAD_REQUEST);
    }
}
