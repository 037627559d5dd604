//! SPDY/3.1, as much of it as a client of a kubelet's streams needs ("SPDY Protocol - Draft 3.1"): frames, and the headers that
//! open streams. What a peer says in headers is not looked at: the kubelet's answers have none.

pub mod frame;
mod headers;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Encoder;

pub use frame::{Codec, Frame};

/// What the `Upgrade` header says.
pub const PROTOCOL: &str = "SPDY/3.1";

/// The status of a `RST_STREAM` that refuses a stream.
pub const REFUSED_STREAM: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a frame of version {0}, not 3")]
    Version(u16),
    #[error("a control frame of {0} bytes")]
    TooLarge(usize),
    #[error("a frame of type {kind} is malformed")]
    Malformed { kind: u16 },
    #[error("the headers of a stream cannot be compressed")]
    Compression,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The bytes that open streams, one for each list of headers: the ids are 1, 3, 5 and so on, as a client's are.
///
/// # Errors
/// Headers that do not fit into a frame.
pub fn open<'a>(streams: impl IntoIterator<Item = Vec<(&'a str, &'a str)>>) -> Result<Bytes, Error> {
    let mut compressor = headers::Compressor::new()?;
    let mut out = BytesMut::new();
    for (stream, headers) in (1..).step_by(2).zip(streams) {
        let block = compressor.block(&headers)?;
        Codec::default().encode(Frame::SynStream { stream, fin: false, block }, &mut out)?;
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::codec::Decoder;

    #[test]
    fn streams_are_opened_with_odd_ids_and_readable_headers() {
        let mut bytes = BytesMut::from(&open(["error", "stdin"].map(|kind| vec![("streamtype", kind)])).unwrap()[..]);
        let mut decompressor = headers::tests::Decompressor::new();
        for (id, kind) in [(1, "error"), (3, "stdin")] {
            let Some(Frame::SynStream { stream, fin, block }) = Codec::default().decode(&mut bytes).unwrap() else {
                panic!("a stream is opened");
            };
            assert_eq!((stream, fin), (id, false));
            assert_eq!(decompressor.headers(&block), [("streamtype".to_owned(), kind.to_owned())]);
        }
        assert!(bytes.is_empty());
    }
}
