//! What an exec or attach session knows, without I/O: which streams it has, what a message of the client is for the kubelet, and what a
//! frame of the kubelet is for the client.

use apimachinery::ApiError;
use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;

use crate::connect::spdy::{Frame, REFUSED_STREAM};

/// The channel of a message that closes another.
const CLOSE: u8 = 255;
/// The longest status that a kubelet may send, in bytes.
const MAX_STATUS: usize = 64 * 1024;

/// What a client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// A channel, with its number in WebSocket messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    /// The command's end, as a `Status`.
    Error = 3,
    /// The terminal's size.
    Resize = 4,
}

impl Channel {
    /// The value of the `streamType` header.
    fn kind(self) -> &'static str {
        match self {
            Channel::Stdin => "stdin",
            Channel::Stdout => "stdout",
            Channel::Stderr => "stderr",
            Channel::Error => "error",
            Channel::Resize => "resize",
        }
    }
}

impl Streams {
    /// The channels that there are, in the order in which their streams are opened. A terminal has no stderr of its own.
    fn channels(self) -> impl Iterator<Item = Channel> {
        let wanted = [
            (Channel::Error, true),
            (Channel::Stdin, self.stdin),
            (Channel::Stdout, self.stdout),
            (Channel::Stderr, self.stderr && !self.tty),
            (Channel::Resize, self.tty),
        ];
        wanted.into_iter().filter_map(|(channel, wanted)| wanted.then_some(channel))
    }

    /// The headers that open the streams.
    pub fn headers(self) -> impl Iterator<Item = Vec<(&'static str, &'static str)>> {
        self.channels().map(|channel| vec![("streamtype", channel.kind())])
    }

    /// The channel's stream at the kubelet: a client's streams have odd ids.
    fn stream(self, wanted: Channel) -> Option<u32> {
        (1..).step_by(2).zip(self.channels()).find_map(|(id, channel)| (channel == wanted).then_some(id))
    }

    fn channel(self, stream: u32) -> Option<Channel> {
        (1..).step_by(2).zip(self.channels()).find_map(|(id, channel)| (id == stream).then_some(channel))
    }

    /// The channel that an empty message is sent on first, so that the client sees that the connection stands.
    pub fn greeted(self) -> Channel {
        match (self.stdout, self.stderr) {
            (true, _) => Channel::Stdout,
            (_, true) => Channel::Stderr,
            _ => Channel::Error,
        }
    }
}

/// The client's side: its channels that are still open.
#[derive(Debug)]
pub struct Input {
    stdin: Option<u32>,
    resize: Option<u32>,
}

impl Input {
    pub fn new(streams: Streams) -> Self {
        Input { stdin: streams.stream(Channel::Stdin), resize: streams.stream(Channel::Resize) }
    }

    /// What a message is for the kubelet: data of a stream, or its end. `None` for messages that are for nobody, as upstream ignores
    /// them: on channels that were not asked for, that are closed, or that only the kubelet writes to.
    pub fn take(&mut self, mut message: Bytes) -> Option<Frame> {
        let number = message.try_get_u8().ok()?;
        if number == CLOSE {
            let stream = self.open(message.try_get_u8().ok()?)?.take()?;
            return Some(Frame::Data { stream, fin: true, payload: Bytes::new() });
        }
        let stream = (*self.open(number)?)?;
        (!message.is_empty()).then_some(Frame::Data { stream, fin: false, payload: message })
    }

    fn open(&mut self, number: u8) -> Option<&mut Option<u32>> {
        match number {
            number if number == Channel::Stdin as u8 => Some(&mut self.stdin),
            number if number == Channel::Resize as u8 => Some(&mut self.resize),
            _ => None,
        }
    }
}

/// What to do about a frame of the kubelet.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// All streams are accepted: input may flow.
    Opened,
    /// To the client, on this channel.
    Output(Channel, Bytes),
    /// Back to the kubelet.
    Answer(Frame),
    /// The session cannot go on, for this reason.
    Fail(String),
}

/// The kubelet's side.
#[derive(Debug)]
pub struct Output {
    streams: Streams,
    /// Channels whose streams the kubelet has not accepted yet.
    unanswered: Vec<Channel>,
    /// Channels on which the kubelet may say more.
    open: Vec<Channel>,
    status: BytesMut,
}

impl Output {
    pub fn new(streams: Streams) -> Self {
        let said = |channel: &Channel| matches!(channel, Channel::Stdout | Channel::Stderr | Channel::Error);
        Output {
            streams,
            unanswered: streams.channels().collect(),
            open: streams.channels().filter(said).collect(),
            status: BytesMut::new(),
        }
    }

    /// Whether the kubelet has said everything.
    pub fn finished(&self) -> bool {
        self.open.is_empty()
    }

    pub fn take(&mut self, frame: Frame) -> Step {
        match frame {
            Frame::SynReply { stream, fin, .. } => self.answered(stream, fin),
            Frame::RstStream { stream, .. } => self.reset(stream),
            Frame::Data { stream, fin, payload } => self.data(stream, fin, payload),
            Frame::Headers { stream, fin: true, .. } => {
                self.end(stream);
                Step::Nothing
            }
            // The server's pings are even; odd ones would be answers to ours.
            Frame::Ping(id) if id % 2 == 0 => Step::Answer(Frame::Ping(id)),
            Frame::SynStream { stream, .. } => Step::Answer(Frame::RstStream { stream, status: REFUSED_STREAM }),
            Frame::Ping(_)
            | Frame::GoAway { .. }
            | Frame::Headers { .. }
            | Frame::WindowUpdate { .. }
            | Frame::Other(_) => Step::Nothing,
        }
    }

    fn answered(&mut self, stream: u32, fin: bool) -> Step {
        if fin {
            self.end(stream);
        }
        let before = self.unanswered.len();
        let channel = self.streams.channel(stream);
        self.unanswered.retain(|waiting| Some(*waiting) != channel);
        if before > 0 && self.unanswered.is_empty() { Step::Opened } else { Step::Nothing }
    }

    fn reset(&mut self, stream: u32) -> Step {
        let refused = self.streams.channel(stream).filter(|channel| self.unanswered.contains(channel));
        self.end(stream);
        match refused {
            Some(channel) => Step::Fail(format!("the kubelet refused the stream of {}", channel.kind())),
            None => Step::Nothing,
        }
    }

    fn end(&mut self, stream: u32) {
        let channel = self.streams.channel(stream);
        self.open.retain(|open| Some(*open) != channel);
    }

    fn data(&mut self, stream: u32, fin: bool, payload: Bytes) -> Step {
        let channel = self.streams.channel(stream).filter(|channel| self.open.contains(channel));
        if fin {
            self.end(stream);
        }
        match channel {
            Some(Channel::Error) if self.status.len() + payload.len() > MAX_STATUS => {
                Step::Fail(format!("the kubelet's status is longer than {MAX_STATUS} bytes"))
            }
            Some(Channel::Error) => {
                self.status.extend_from_slice(&payload);
                Step::Nothing
            }
            Some(channel) if !payload.is_empty() => Step::Output(channel, payload),
            _ => Step::Nothing,
        }
    }

    /// How the command ended: what the kubelet said, or that it did not say, for this reason.
    pub fn status(self, reason: Option<&str>) -> CommandStatus {
        if serde_json::from_slice::<Value>(&self.status).is_ok_and(|status| status.is_object()) {
            return CommandStatus { text: self.status.freeze(), told: true };
        }
        let said = String::from_utf8_lossy(&self.status);
        let reason = reason.unwrap_or(match said.trim() {
            "" => "the kubelet ended the session without telling how the command ended",
            said => said,
        });
        CommandStatus { text: ApiError::internal(reason).to_value().to_string().into(), told: false }
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct CommandStatus {
    /// A `Status` in JSON.
    pub text: Bytes,
    /// Whether the kubelet told it.
    pub told: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true, tty: false };
    const TERMINAL: Streams = Streams { stdin: true, stdout: true, stderr: true, tty: true };

    fn data(stream: u32, fin: bool, payload: &'static str) -> Frame {
        Frame::Data { stream, fin, payload: payload.into() }
    }

    fn reply(stream: u32) -> Frame {
        Frame::SynReply { stream, fin: false, block: Bytes::new() }
    }

    #[test]
    fn streams_are_those_that_were_asked_for_and_the_error() {
        let kinds = |streams: Streams| streams.headers().map(|headers| headers[0].1).collect::<Vec<_>>();
        assert_eq!(kinds(ALL), ["error", "stdin", "stdout", "stderr"]);
        assert_eq!(kinds(TERMINAL), ["error", "stdin", "stdout", "resize"]);
        assert_eq!(kinds(Streams { stdout: true, ..Streams::default() }), ["error", "stdout"]);
        assert_eq!(kinds(Streams::default()), ["error"]);
    }

    #[test]
    fn messages_become_data_and_closes_become_ends() {
        let mut input = Input::new(TERMINAL);
        for (message, expected) in [
            (&b""[..], None),
            (b"\0", None),
            (b"\0ls\n", Some(data(3, false, "ls\n"))),
            (b"\x04{\"Width\":80}", Some(data(7, false, "{\"Width\":80}"))),
            (b"\x01no", None),
            (b"\x03no", None),
            (b"\x09no", None),
            (b"\xff", None),
            (b"\xff\x01", None),
            (b"\xff\0", Some(data(3, true, ""))),
            (b"\xff\0", None),
            (b"\0late", None),
            (b"\x04{}", Some(data(7, false, "{}"))),
        ] {
            assert_eq!(input.take(Bytes::from_static(message)), expected, "{message:?}");
        }
        let mut input = Input::new(Streams { stdout: true, ..Streams::default() });
        assert_eq!(input.take(Bytes::from_static(b"\0not asked for")), None);
        assert_eq!(input.take(Bytes::from_static(b"\x04{}")), None, "there is no terminal");
    }

    #[test]
    fn input_flows_once_every_stream_is_accepted() {
        let mut output = Output::new(ALL);
        for stream in [1, 3, 7] {
            assert_eq!(output.take(reply(stream)), Step::Nothing);
        }
        assert_eq!(output.take(reply(99)), Step::Nothing, "no such stream");
        assert_eq!(output.take(reply(5)), Step::Opened);
        assert_eq!(output.take(reply(5)), Step::Nothing, "only once");
    }

    #[test]
    fn a_stream_that_is_refused_fails_the_session() {
        let mut output = Output::new(ALL);
        let step = output.take(Frame::RstStream { stream: 5, status: 3 });
        assert_eq!(step, Step::Fail("the kubelet refused the stream of stdout".into()));
    }

    #[test]
    fn output_comes_on_its_channel_until_all_have_ended() {
        let mut output = Output::new(ALL);
        for stream in [1, 3, 5, 7] {
            output.take(reply(stream));
        }
        assert_eq!(output.take(data(5, false, "out")), Step::Output(Channel::Stdout, "out".into()));
        assert_eq!(output.take(data(7, true, "err")), Step::Output(Channel::Stderr, "err".into()));
        assert_eq!(output.take(data(7, false, "after its end")), Step::Nothing);
        assert_eq!(output.take(data(3, false, "input has no output")), Step::Nothing);
        assert_eq!(output.take(data(1, false, "{\"status\":")), Step::Nothing);
        assert_eq!(output.take(data(1, true, "\"Success\"}")), Step::Nothing);
        assert!(!output.finished());
        assert_eq!(output.take(Frame::RstStream { stream: 5, status: 5 }), Step::Nothing);
        assert!(output.finished());
        let status = output.status(Some("the connection broke after that"));
        assert!(status.told && status.text == "{\"status\":\"Success\"}", "{status:?}");
    }

    #[test]
    fn a_session_that_ends_without_a_status_has_failed() {
        for (said, reason, expected) in [
            ("", None, "without telling how the command ended"),
            ("", Some("it broke"), "it broke"),
            ("no such command", None, "no such command"),
            ("{\"status\":", Some("it broke"), "it broke"),
        ] {
            let mut output = Output::new(ALL);
            output.take(data(1, false, said));
            let status = output.status(reason);
            assert!(!status.told);
            let status: Value = serde_json::from_slice(&status.text).unwrap();
            assert_eq!((status["status"].as_str(), status["code"].as_u64()), (Some("Failure"), Some(500)));
            assert!(status["message"].as_str().is_some_and(|text| text.ends_with(expected)), "{status}");
        }
    }

    #[test]
    fn a_status_has_a_limit() {
        let mut output = Output::new(ALL);
        let payload = Bytes::from(vec![b'x'; MAX_STATUS]);
        assert_eq!(output.take(Frame::Data { stream: 1, fin: false, payload }), Step::Nothing);
        assert!(matches!(output.take(data(1, false, "y")), Step::Fail(_)));
    }

    #[test]
    fn the_kubelets_own_frames_are_answered() {
        let mut output = Output::new(ALL);
        assert_eq!(output.take(Frame::Ping(2)), Step::Answer(Frame::Ping(2)));
        assert_eq!(output.take(Frame::Ping(1)), Step::Nothing);
        let pushed = Frame::SynStream { stream: 2, fin: false, block: Bytes::new() };
        assert_eq!(output.take(pushed), Step::Answer(Frame::RstStream { stream: 2, status: REFUSED_STREAM }));
        assert_eq!(output.take(Frame::GoAway { last: 7, status: 0 }), Step::Nothing);
    }
}
