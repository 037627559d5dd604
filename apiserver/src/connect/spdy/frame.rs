//! Frames on the wire ("SPDY Protocol - Draft 3.1", 2.2 and 2.6). Data comes in pieces as it arrives, so that no frame, however
//! large, has to fit into memory; control frames have a limit.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::Error;

/// The largest control frame that is read, without its header, in bytes.
pub const MAX_CONTROL: usize = 64 * 1024;
/// The largest piece of a data frame that is handed on at a time, in bytes.
pub const MAX_PIECE: usize = 32 * 1024;
/// The largest data frame: its length has 24 bits.
pub const MAX_LENGTH: usize = (1 << 24) - 1;

const HEADER: usize = 8;
const CONTROL: u32 = 1 << 31;
const VERSION: u16 = 3;
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// A frame. `fin` says that its sender sends nothing more on the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream; the block is its headers, compressed.
    SynStream { stream: u32, fin: bool, block: Bytes },
    /// Accepts a stream.
    SynReply { stream: u32, fin: bool, block: Bytes },
    /// Ends a stream at once, both ways.
    RstStream { stream: u32, status: u32 },
    /// Is answered with the same by the other end; even ids are the server's.
    Ping(u32),
    /// No more streams are accepted.
    GoAway { last: u32, status: u32 },
    /// More headers.
    Headers { stream: u32, fin: bool, block: Bytes },
    /// How many more bytes may be sent. Kubernetes' peers keep no such count.
    WindowUpdate { stream: u32, delta: u32 },
    /// A piece of a stream.
    Data { stream: u32, fin: bool, payload: Bytes },
    /// A control frame of another type: settings, or one that is to be ignored.
    Other(u16),
}

/// Reads and writes frames.
#[derive(Debug, Default)]
pub struct Codec {
    /// The data frame that is being read.
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    stream: u32,
    fin: bool,
    left: usize,
}

impl Codec {
    /// What is there of the data frame that is being read.
    fn piece(&mut self, source: &mut BytesMut) -> Option<Frame> {
        let rest = self.rest.as_mut()?;
        let length = rest.left.min(source.len()).min(MAX_PIECE);
        if length == 0 && rest.left > 0 {
            return None;
        }
        rest.left -= length;
        let (stream, last) = (rest.stream, rest.left == 0);
        let fin = rest.fin && last;
        if last {
            self.rest = None;
        }
        Some(Frame::Data { stream, fin, payload: source.split_to(length).freeze() })
    }
}

impl Decoder for Codec {
    type Item = Frame;
    type Error = Error;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, Error> {
        if self.rest.is_some() {
            return Ok(self.piece(source));
        }
        let Some(mut header) = source.get(..HEADER) else { return Ok(None) };
        let (word, flags_and_length) = (header.get_u32(), header.get_u32());
        let flags = (flags_and_length >> 24) as u8;
        let length = (flags_and_length & 0x00ff_ffff) as usize;
        let fin = flags & FIN != 0;
        if word & CONTROL == 0 {
            source.advance(HEADER);
            self.rest = Some(Rest { stream: word, fin, left: length });
            return Ok(self.piece(source));
        }
        let (version, kind) = ((word >> 16) as u16 & 0x7fff, word as u16);
        if version != VERSION {
            return Err(Error::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(Error::TooLarge(length));
        }
        if source.len() < HEADER + length {
            source.reserve(HEADER + length - source.len());
            return Ok(None);
        }
        source.advance(HEADER);
        let body = source.split_to(length).freeze();
        control(kind, fin, body).ok_or(Error::Malformed { kind }).map(Some)
    }
}

/// The control frame of this type; `None` where the body is too short for it.
fn control(kind: u16, fin: bool, mut body: Bytes) -> Option<Frame> {
    let number = |body: &mut Bytes| body.try_get_u32().ok();
    let id = |number: u32| number & !CONTROL;
    Some(match kind {
        SYN_STREAM => {
            let stream = id(number(&mut body)?);
            // The associated stream, the priority and the credential slot mean nothing here.
            let block = body.get(6..).map(|block| body.slice_ref(block))?;
            Frame::SynStream { stream, fin, block }
        }
        SYN_REPLY => Frame::SynReply { stream: id(number(&mut body)?), fin, block: body },
        HEADERS => Frame::Headers { stream: id(number(&mut body)?), fin, block: body },
        RST_STREAM => Frame::RstStream { stream: id(number(&mut body)?), status: number(&mut body)? },
        PING => Frame::Ping(number(&mut body)?),
        GOAWAY => Frame::GoAway { last: id(number(&mut body)?), status: number(&mut body)? },
        WINDOW_UPDATE => Frame::WindowUpdate { stream: id(number(&mut body)?), delta: id(number(&mut body)?) },
        other => Frame::Other(other),
    })
}

impl Encoder<Frame> for Codec {
    type Error = Error;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), Error> {
        match frame {
            Frame::SynStream { stream, fin, block } => {
                put_control(out, SYN_STREAM, fin, 10 + block.len())?;
                out.put_u32(stream & !CONTROL);
                out.put_bytes(0, 6);
                out.put(block);
            }
            Frame::SynReply { stream, fin, block } => put_headers(out, SYN_REPLY, stream, fin, block)?,
            Frame::Headers { stream, fin, block } => put_headers(out, HEADERS, stream, fin, block)?,
            Frame::RstStream { stream, status } => put_pair(out, RST_STREAM, stream, status)?,
            Frame::GoAway { last, status } => put_pair(out, GOAWAY, last, status)?,
            Frame::WindowUpdate { stream, delta } => put_pair(out, WINDOW_UPDATE, stream, delta)?,
            Frame::Ping(id) => {
                put_control(out, PING, false, 4)?;
                out.put_u32(id);
            }
            Frame::Data { stream, fin, payload } => {
                out.reserve(HEADER + payload.len());
                out.put_u32(stream & !CONTROL);
                put_length(out, fin, payload.len())?;
                out.put(payload);
            }
            // Such a frame is only ever read.
            Frame::Other(kind) => return Err(Error::Malformed { kind }),
        }
        Ok(())
    }
}

fn put_control(out: &mut BytesMut, kind: u16, fin: bool, length: usize) -> Result<(), Error> {
    out.put_u32(CONTROL | u32::from(VERSION) << 16 | u32::from(kind));
    put_length(out, fin, length)
}

fn put_length(out: &mut BytesMut, fin: bool, length: usize) -> Result<(), Error> {
    if length > MAX_LENGTH {
        return Err(Error::TooLarge(length));
    }
    out.put_u8(if fin { FIN } else { 0 });
    out.put_uint(length as u64, 3);
    Ok(())
}

fn put_headers(out: &mut BytesMut, kind: u16, stream: u32, fin: bool, block: Bytes) -> Result<(), Error> {
    put_control(out, kind, fin, 4 + block.len())?;
    out.put_u32(stream & !CONTROL);
    out.put(block);
    Ok(())
}

fn put_pair(out: &mut BytesMut, kind: u16, first: u32, second: u32) -> Result<(), Error> {
    put_control(out, kind, false, 8)?;
    out.put_u32(first);
    out.put_u32(second);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(frames: &[Frame]) -> BytesMut {
        let mut out = BytesMut::new();
        for frame in frames {
            Codec::default().encode(frame.clone(), &mut out).unwrap();
        }
        out
    }

    /// What a decoder says of bytes that arrive in these pieces.
    fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Frame>, Error> {
        let (mut codec, mut buffer, mut frames) = (Codec::default(), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(frame) = codec.decode(&mut buffer)? {
                frames.push(frame);
            }
            assert!(buffer.len() < HEADER + MAX_CONTROL, "what waits is bounded");
        }
        Ok(frames)
    }

    /// The same frames with the pieces of each stream's data joined.
    fn joined(frames: Vec<Frame>) -> Vec<Frame> {
        let mut all: Vec<Frame> = Vec::new();
        for frame in frames {
            match (all.last_mut(), frame) {
                (
                    Some(Frame::Data { stream, fin, payload }),
                    Frame::Data { stream: same, fin: last, payload: more },
                ) if *stream == same && !*fin => {
                    *payload = [payload.as_ref(), more.as_ref()].concat().into();
                    *fin = last;
                }
                (_, frame) => all.push(frame),
            }
        }
        all
    }

    #[test]
    fn frames_look_as_the_protocol_says() {
        let cases: [(Frame, &[u8]); 6] = [
            (Frame::Ping(2), &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]),
            (Frame::RstStream { stream: 5, status: 3 }, &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 3]),
            (Frame::GoAway { last: 9, status: 0 }, &[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0]),
            (
                Frame::SynStream { stream: 1, fin: false, block: Bytes::from_static(b"h") },
                &[0x80, 3, 0, 1, 0, 0, 0, 11, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, b'h'],
            ),
            (Frame::SynReply { stream: 1, fin: true, block: Bytes::new() }, &[0x80, 3, 0, 2, 1, 0, 0, 4, 0, 0, 0, 1]),
            (
                Frame::Data { stream: 3, fin: true, payload: Bytes::from_static(b"hi") },
                &[0, 0, 0, 3, 1, 0, 0, 2, b'h', b'i'],
            ),
        ];
        for (frame, bytes) in cases {
            assert_eq!(encoded(std::slice::from_ref(&frame)), bytes);
            assert_eq!(decoded([bytes]).unwrap(), [frame]);
        }
    }

    #[test]
    fn frames_of_no_use_are_passed_over_and_wrong_ones_refused() {
        let settings = [0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0];
        assert_eq!(decoded([&settings[..]]).unwrap(), [Frame::Other(4)]);
        assert!(matches!(decoded([&[0x80, 2, 0, 6, 0, 0, 0, 4][..]]), Err(Error::Version(2))));
        assert!(matches!(decoded([&[0x80, 3, 0, 1, 0, 1, 0, 1][..]]), Err(Error::TooLarge(0x1_0001))));
        for kind in [1_u8, 2, 3, 6, 7, 8, 9] {
            let short = [0x80, 3, 0, kind, 0, 0, 0, 3, 1, 2, 3];
            assert!(matches!(decoded([&short[..]]), Err(Error::Malformed { .. })), "{kind}");
        }
    }

    #[test]
    fn a_large_data_frame_comes_in_pieces_and_ends_with_the_last() {
        let payload: Bytes = (0..3 * MAX_PIECE + 5).map(|n| n as u8).collect();
        let bytes = encoded(&[Frame::Data { stream: 1, fin: true, payload: payload.clone() }]);
        let frames = decoded(bytes.chunks(50_000)).unwrap();
        assert!(frames.len() > 3);
        let (last, before) = frames.split_last().unwrap();
        assert!(before.iter().all(|frame| matches!(frame, Frame::Data { fin: false, .. })));
        assert!(matches!(last, Frame::Data { fin: true, .. }));
        assert_eq!(joined(frames), [Frame::Data { stream: 1, fin: true, payload }]);
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let id = 1..CONTROL;
        let block = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        prop_oneof![
            (id.clone(), any::<bool>(), block()).prop_map(|(stream, fin, block)| Frame::SynStream {
                stream,
                fin,
                block
            }),
            (id.clone(), any::<bool>(), block()).prop_map(|(stream, fin, block)| Frame::SynReply {
                stream,
                fin,
                block
            }),
            (id.clone(), any::<bool>(), block()).prop_map(|(stream, fin, block)| Frame::Headers { stream, fin, block }),
            (id.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
            any::<u32>().prop_map(Frame::Ping),
            (id.clone(), any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
            (id.clone(), id.clone()).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
            (id, any::<bool>(), block()).prop_map(|(stream, fin, payload)| Frame::Data { stream, fin, payload }),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_the_wire_however_it_cuts_them(
            frames in proptest::collection::vec(frame(), 0..12),
            size in 1_usize..64,
        ) {
            let bytes = encoded(&frames);
            prop_assert_eq!(joined(decoded(bytes.chunks(size)).unwrap()), joined(frames));
        }

        #[test]
        fn garbage_is_refused_or_read_and_never_more_than_that(
            bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
            size in 1_usize..500,
        ) {
            let whole = decoded([&bytes[..]]).map(joined).map_err(|error| error.to_string());
            let cut = decoded(bytes.chunks(size)).map(joined).map_err(|error| error.to_string());
            prop_assert_eq!(whole, cut);
        }

        #[test]
        fn garbage_behind_a_proper_header_is_refused_or_read(
            kind in 0_u16..12,
            flags in any::<u8>(),
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut bytes = BytesMut::new();
            bytes.put_u32(CONTROL | u32::from(VERSION) << 16 | u32::from(kind));
            bytes.put_u8(flags);
            bytes.put_uint(body.len() as u64, 3);
            bytes.put(&body[..]);
            match decoded([&bytes[..]]) {
                Ok(frames) => prop_assert_eq!(frames.len(), 1),
                Err(error) => prop_assert!(matches!(error, Error::Malformed { .. }), "{}", error),
            }
        }
    }
}
