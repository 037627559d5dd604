//! Bodies of answers: whole, a list from slices of its objects, or a stream without an end.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use apiserver_storage::Object;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// The size of the pieces that a list is sent in, in bytes.
const PIECE: usize = 256 * 1024;
/// Slices that are shorter are copied together: each slice costs the layers below about as much as copying this many bytes.
const SHORT: usize = 2048;

/// Some bytes of an answer, shared with where they come from.
#[derive(Clone)]
pub enum Slice {
    Bytes(Bytes),
    /// An object's JSON.
    Json(Arc<Object>),
    /// An object's JSON after a comma.
    JsonItem(Arc<Object>),
    /// An object's protobuf message after its tag and length.
    ProtobufItem(Arc<Object>),
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        match self {
            Slice::Bytes(bytes) => bytes,
            Slice::Json(object) => object.json(),
            Slice::JsonItem(object) => object.json_item(),
            Slice::ProtobufItem(object) => object.protobuf_item(),
        }
    }
}

/// What is sent at once: slices in a row.
#[derive(Default)]
pub struct Piece {
    slices: VecDeque<Slice>,
    /// How much of the first slice is sent already.
    sent: usize,
    remaining: usize,
}

impl Piece {
    fn push(&mut self, slice: Slice) {
        let length = slice.as_ref().len();
        if length > 0 {
            self.remaining += length;
            self.slices.push_back(slice);
        }
    }
}

impl From<Slice> for Piece {
    fn from(slice: Slice) -> Self {
        let mut piece = Piece::default();
        piece.push(slice);
        piece
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.slices.front().map_or(&[], |slice| &slice.as_ref()[self.sent..])
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (place, slice) in out.iter_mut().zip(&self.slices) {
            let skipped = if filled == 0 { self.sent } else { 0 };
            *place = IoSlice::new(&slice.as_ref()[skipped..]);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining, "{count} of {} bytes", self.remaining);
        self.remaining -= count;
        self.sent += count;
        while let Some(length) = self.slices.front().map(|slice| slice.as_ref().len()).filter(|l| *l <= self.sent) {
            self.sent -= length;
            self.slices.pop_front();
        }
    }
}

/// The body of an answer.
pub enum Body {
    Full(Option<Slice>),
    List(Box<ListBody>),
    Stream(BoxStream<'static, Result<Bytes, std::io::Error>>),
}

impl Body {
    pub fn empty() -> Self {
        Body::Full(None)
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Slice::Bytes(bytes.into()).into()
    }

    pub fn stream(stream: impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> Self {
        Body::Stream(stream.boxed())
    }
}

impl From<Slice> for Body {
    fn from(slice: Slice) -> Self {
        Body::Full(Some(slice))
    }
}

/// A list: a header, the items, each after what separates it from the one before, and a footer.
pub struct ListBody {
    head: Bytes,
    items: std::vec::IntoIter<Slice>,
    tail: Bytes,
    /// How much the first item has before it that only the following ones need.
    skip: usize,
    remaining: u64,
}

impl ListBody {
    /// `skip`: how many bytes of the first item are left out.
    pub fn new(head: Bytes, items: Vec<Slice>, tail: Bytes, skip: usize) -> Self {
        let skip = if items.is_empty() { 0 } else { skip };
        let remaining = (head.len() + Self::length(&items) - skip + tail.len()) as u64;
        ListBody { head, items: items.into_iter(), tail, skip, remaining }
    }

    /// The length of the items with what separates them, in bytes.
    pub fn length(items: &[Slice]) -> usize {
        items.iter().map(|item| item.as_ref().len()).sum()
    }

    fn piece(&mut self) -> Option<Piece> {
        if self.remaining == 0 {
            return None;
        }
        let mut piece = Piece::default();
        let mut short = BytesMut::new();
        short.put(std::mem::take(&mut self.head));
        while piece.remaining + short.len() < PIECE {
            let Some(item) = self.items.next() else {
                short.put(std::mem::take(&mut self.tail));
                break;
            };
            let skip = std::mem::take(&mut self.skip);
            let bytes = &item.as_ref()[skip..];
            if bytes.len() < SHORT || skip > 0 {
                short.put_slice(bytes);
            } else {
                piece.push(Slice::Bytes(short.split().freeze()));
                piece.push(item);
            }
        }
        piece.push(Slice::Bytes(short.freeze()));
        self.remaining -= piece.remaining as u64;
        Some(piece)
    }
}

impl HttpBody for Body {
    type Data = Piece;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, std::io::Error>>> {
        let piece = |slice: Slice| Frame::data(Piece::from(slice));
        match self.get_mut() {
            Body::Full(whole) => Poll::Ready(whole.take().map(|slice| Ok(piece(slice)))),
            Body::List(list) => Poll::Ready(list.piece().map(|piece| Ok(Frame::data(piece)))),
            Body::Stream(stream) => {
                stream.poll_next_unpin(context).map(|next| next.map(|bytes| bytes.map(|b| piece(Slice::Bytes(b)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Full(whole) => whole.is_none(),
            Body::List(list) => list.remaining == 0,
            Body::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(whole) => SizeHint::with_exact(whole.as_ref().map_or(0, |slice| slice.as_ref().len() as u64)),
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
        while let Some(mut piece) = list.piece() {
            // As a socket takes it: from several slices at once, and not always to the end of one.
            while piece.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = piece.chunks_vectored(&mut slices);
                let all: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                assert!(all.starts_with(piece.chunk()));
                let taken = all.len().min(3001);
                out.extend_from_slice(&all[..taken]);
                piece.advance(taken);
            }
            pieces += 1;
        }
        (out, pieces)
    }

    fn item(text: &[u8]) -> Slice {
        Slice::Bytes(Bytes::copy_from_slice(text))
    }

    #[test]
    fn a_list_is_its_items_without_what_precedes_the_first() {
        let ends = || (Bytes::from_static(b"["), Bytes::from_static(b"]"));
        let (head, tail) = ends();
        let list = ListBody::new(head, vec![item(b",1"), item(b",22")], tail, 1);
        assert_eq!(list.remaining, 6);
        assert_eq!(collect(list).0, b"[1,22]");
        let (head, tail) = ends();
        assert_eq!(collect(ListBody::new(head, vec![], tail, 1)).0, b"[]");
    }

    #[test]
    fn a_large_list_comes_in_pieces_that_add_up() {
        let texts: Vec<Vec<u8>> =
            (0..1000usize).map(|n| vec![b'a' + (n % 26) as u8; if n % 3 == 0 { 90 } else { 4000 }]).collect();
        let items: Vec<Slice> = texts.iter().map(|text| item(text)).collect();
        let list = ListBody::new(Bytes::from_static(b"["), items, Bytes::from_static(b"]"), 0);
        let announced = list.remaining;
        let (out, pieces) = collect(list);
        assert_eq!(out, [b"[", &texts.concat()[..], b"]"].concat());
        assert_eq!(out.len() as u64, announced);
        assert!((10..=12).contains(&pieces), "{pieces}");
    }
}
