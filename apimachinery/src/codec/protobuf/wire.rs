//! Protobuf's wire format: a reader that borrows, and a writer that fills its buffer from the end, so that a message's
//! length is known when its header is written.

use crate::codec::DecodeError;

const TRUNCATED: DecodeError = DecodeError::Protobuf("proto: unexpected EOF");
const OVERFLOW: DecodeError = DecodeError::Protobuf("proto: integer overflow");
const BAD_WIRE_TYPE: DecodeError = DecodeError::Protobuf("proto: illegal wireType");
const BAD_TEXT: DecodeError = DecodeError::Protobuf("proto: string field contains invalid UTF-8");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint,
    Fixed64,
    Bytes,
    Fixed32,
}

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Reader { rest: body }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for (place, byte) in self.rest.iter().enumerate() {
            if place == 10 {
                return Err(OVERFLOW);
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[place + 1..];
                return Ok(value);
            }
        }
        Err(TRUNCATED)
    }

    /// The next field's tag and form; none at the end.
    pub(crate) fn tag(&mut self) -> Result<Option<(u32, WireType)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let header = self.varint()?;
        let wire = match header & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Bytes,
            5 => WireType::Fixed32,
            _ => return Err(BAD_WIRE_TYPE),
        };
        match u32::try_from(header >> 3) {
            Ok(tag) if tag > 0 => Ok(Some((tag, wire))),
            _ => Err(DecodeError::Protobuf("proto: illegal tag")),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.varint()?).map_err(|_| OVERFLOW)?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| BAD_TEXT)
    }

    pub(crate) fn fixed64(&mut self) -> Result<[u8; 8], DecodeError> {
        self.take(8)?.try_into().map_err(|_| TRUNCATED)
    }

    pub(crate) fn skip(&mut self, wire: WireType) -> Result<(), DecodeError> {
        match wire {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.take(8).map(drop),
            WireType::Bytes => self.bytes().map(drop),
            WireType::Fixed32 => self.take(4).map(drop),
        }
    }
}

/// Writes from the end to the beginning: what comes last is written first.
pub(crate) struct BackWriter {
    buffer: Vec<u8>,
    /// Where the written bytes begin.
    start: usize,
}

impl BackWriter {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let buffer = vec![0; capacity.max(64)];
        BackWriter { start: buffer.len(), buffer }
    }

    /// How much is written.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn reserve(&mut self, more: usize) {
        if self.start >= more {
            return;
        }
        let written = self.len();
        let mut grown = vec![0; (self.buffer.len() + more) * 2];
        let start = grown.len() - written;
        grown[start..].copy_from_slice(&self.buffer[self.start..]);
        self.buffer = grown;
        self.start = start;
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let start = self.start - bytes.len();
        self.buffer[start..self.start].copy_from_slice(bytes);
        self.start = start;
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        let mut bytes = [0_u8; 10];
        let mut length = 0;
        while value >= 0x80 {
            bytes[length] = (value as u8) | 0x80;
            value >>= 7;
            length += 1;
        }
        bytes[length] = value as u8;
        self.raw(&bytes[..=length]);
    }

    fn header(&mut self, tag: u32, wire: u64) {
        self.varint(u64::from(tag) << 3 | wire);
    }

    pub(crate) fn varint_field(&mut self, tag: u32, value: u64) {
        self.varint(value);
        self.header(tag, 0);
    }

    pub(crate) fn double_field(&mut self, tag: u32, value: f64) {
        self.raw(&value.to_le_bytes());
        self.header(tag, 1);
    }

    pub(crate) fn bytes_field(&mut self, tag: u32, value: &[u8]) {
        self.raw(value);
        self.varint(value.len() as u64);
        self.header(tag, 2);
    }

    /// Writes the header of a message whose content was written since `end` bytes were.
    pub(crate) fn close_message(&mut self, tag: u32, end: usize) {
        self.varint((self.len() - end) as u64);
        self.header(tag, 2);
    }

    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }
}
