//! Bodies of answers: whole, a list streamed in pieces, or a stream without an end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// The size of the pieces that a list is sent in. Each piece is one write to the socket.
const PIECE: usize = 128 * 1024;

/// The body of an answer.
pub enum Body {
    Full(Option<Bytes>),
    List(Box<ListBody>),
    Stream(BoxStream<'static, Result<Bytes, std::io::Error>>),
}

impl Body {
    pub fn empty() -> Self {
        Body::Full(None)
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Body::Full(Some(bytes.into()))
    }

    pub fn stream(stream: impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> Self {
        Body::Stream(stream.boxed())
    }
}

/// A list: a header, the items' bytes with separators, and a footer. Holds pointers to the items, not a copy of them.
pub struct ListBody {
    head: Bytes,
    items: std::vec::IntoIter<Bytes>,
    tail: Bytes,
    separators: Separators,
    first: bool,
    remaining: u64,
}

/// What stands between the items of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separators {
    /// A comma between two items.
    Json,
    /// The tag of the repeated field 2 and the item's length before each item.
    Protobuf,
}

/// The tag of field 2 with length-delimited content: `items` of every list message.
const ITEMS_TAG: u8 = 0x12;

/// How many bytes a varint takes.
pub fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Writes a varint.
pub fn put_varint(out: &mut impl BufMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

impl ListBody {
    pub fn new(head: Bytes, items: Vec<Bytes>, tail: Bytes, separators: Separators) -> Self {
        let between = Self::length(&items, separators) as u64;
        let remaining = head.len() as u64 + between + tail.len() as u64;
        ListBody { head, items: items.into_iter(), tail, separators, first: true, remaining }
    }

    /// The length of the items with their separators, in bytes.
    pub fn length(items: &[Bytes], separators: Separators) -> usize {
        match separators {
            Separators::Json => items.iter().map(|item| item.len() + 1).sum::<usize>().saturating_sub(1),
            Separators::Protobuf => items.iter().map(|item| 1 + varint_len(item.len()) + item.len()).sum(),
        }
    }

    fn piece(&mut self) -> Option<Bytes> {
        if self.remaining == 0 {
            return None;
        }
        let mut out = BytesMut::with_capacity(PIECE.min(self.remaining as usize) + 16);
        out.put(std::mem::take(&mut self.head));
        while out.len() < PIECE {
            // An item that does not fit any more begins the next piece; a large one goes out as it is.
            let Some(next) = self.items.as_slice().first() else { break };
            if !out.is_empty() && out.len() + next.len() > PIECE {
                break;
            }
            let item = self.items.next()?;
            self.separate(&mut out, item.len());
            out.put(item);
        }
        if self.items.as_slice().is_empty() {
            out.put(std::mem::take(&mut self.tail));
        }
        self.remaining -= out.len() as u64;
        Some(out.freeze())
    }

    fn separate(&mut self, out: &mut BytesMut, length: usize) {
        match self.separators {
            Separators::Json if !self.first => out.put_u8(b','),
            Separators::Json => {}
            Separators::Protobuf => {
                out.put_u8(ITEMS_TAG);
                put_varint(out, length);
            }
        }
        self.first = false;
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.get_mut() {
            Body::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::List(list) => Poll::Ready(list.piece().map(|piece| Ok(Frame::data(piece)))),
            Body::Stream(stream) => stream.poll_next_unpin(context).map(|next| next.map(|b| b.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Full(bytes) => bytes.is_none(),
            Body::List(list) => list.remaining == 0,
            Body::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::List(list) => SizeHint::with_exact(list.remaining),
            Body::Stream(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(mut list: ListBody) -> (Vec<u8>, usize) {
        let (mut out, mut pieces) = (Vec::new(), 0);
        while let Some(piece) = list.piece() {
            out.extend_from_slice(&piece);
            pieces += 1;
        }
        (out, pieces)
    }

    #[test]
    fn a_list_is_its_items_joined_by_commas() {
        let items = vec![Bytes::from_static(b"1"), Bytes::from_static(b"22")];
        let list = ListBody::new(Bytes::from_static(b"["), items, Bytes::from_static(b"]"), Separators::Json);
        assert_eq!(list.remaining, 6);
        assert_eq!(collect(list).0, b"[1,22]");
        let empty = ListBody::new(Bytes::from_static(b"["), vec![], Bytes::from_static(b"]"), Separators::Json);
        assert_eq!(collect(empty).0, b"[]");
    }

    #[test]
    fn a_large_list_comes_in_pieces_that_add_up() {
        let items: Vec<Bytes> = (0..500).map(|n| Bytes::from(vec![b'a' + (n % 26) as u8; 4_000])).collect();
        for separators in [Separators::Json, Separators::Protobuf] {
            let expected = ListBody::length(&items, separators) + 2;
            let list = ListBody::new(Bytes::from_static(b"["), items.clone(), Bytes::from_static(b"]"), separators);
            let (out, pieces) = collect(list);
            assert_eq!(out.len(), expected);
            assert!((15..=20).contains(&pieces), "{pieces}");
        }
    }

    #[test]
    fn varints_have_the_length_that_is_announced() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 5_000_000] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
        }
    }
}
