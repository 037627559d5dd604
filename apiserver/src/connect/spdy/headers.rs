//! Headers of streams: names and values with their lengths, compressed with zlib and the protocol's dictionary ("SPDY Protocol -
//! Draft 3.1", 2.6.10). The compression goes on from one block to the next.

use std::sync::LazyLock;

use bytes::{BufMut, Bytes, BytesMut};
use zlib_rs::{Deflate, DeflateFlush};

use super::Error;

/// The words that the dictionary begins with, each behind its length.
const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// What the dictionary ends with.
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
    Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
    chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
    publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut out = Vec::new();
    for word in WORDS {
        put(&mut out, word);
    }
    out.extend_from_slice(TEXT.as_bytes());
    out
});

/// zlib's level; blocks are tens of bytes.
const LEVEL: i32 = 6;
/// The dictionary fits into a window of 2 KiB.
const WINDOW_BITS: u8 = 11;
/// What a block may grow by when it is compressed: the stream's header, and the marker that ends each block.
const OVERHEAD: usize = 64;

/// A text behind its length.
fn put(out: &mut impl BufMut, text: &str) {
    // Texts that are longer than this are cut; ours have tens of bytes.
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.put_u32(length);
    out.put_slice(text.as_bytes());
}

/// Compresses the headers of one connection's streams.
pub struct Compressor(Deflate);

impl Compressor {
    pub fn new() -> Result<Self, Error> {
        let mut deflate = Deflate::new(LEVEL, true, WINDOW_BITS);
        deflate.set_dictionary(&DICTIONARY).map_err(|_| Error::Compression)?;
        Ok(Compressor(deflate))
    }

    /// The block of a stream's headers. Names are in lower case.
    pub fn block(&mut self, headers: &[(&str, &str)]) -> Result<Bytes, Error> {
        let mut plain = BytesMut::new();
        plain.put_u32(u32::try_from(headers.len()).map_err(|_| Error::Compression)?);
        for (name, value) in headers {
            put(&mut plain, name);
            put(&mut plain, value);
        }
        let mut out = vec![0; plain.len() + plain.len() / 8 + OVERHEAD];
        let (read, written) = (self.0.total_in(), self.0.total_out());
        self.0.compress(&plain, &mut out, DeflateFlush::SyncFlush).map_err(|_| Error::Compression)?;
        let (read, written) = ((self.0.total_in() - read) as usize, (self.0.total_out() - written) as usize);
        // A full buffer may lack the end of the block.
        if read < plain.len() || written == out.len() {
            return Err(Error::Compression);
        }
        out.truncate(written);
        Ok(out.into())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use bytes::Buf;
    use zlib_rs::{Inflate, InflateError, InflateFlush};

    /// The other end, as the protocol describes it.
    pub struct Decompressor(Inflate);

    impl Decompressor {
        pub fn new() -> Self {
            Decompressor(Inflate::new(true, 15))
        }

        pub fn headers(&mut self, mut block: &[u8]) -> Vec<(String, String)> {
            let mut out = vec![0; 64 * 1024];
            let before = self.0.total_out();
            let read = self.0.total_in();
            if let Err(InflateError::NeedDict { dict_id }) = self.0.decompress(block, &mut out, InflateFlush::SyncFlush)
            {
                assert_eq!(dict_id, 0xe3c6_a7c2, "the dictionary of SPDY/3");
                block.advance((self.0.total_in() - read) as usize);
                self.0.set_dictionary(&DICTIONARY).unwrap();
                self.0.decompress(block, &mut out, InflateFlush::SyncFlush).unwrap();
            }
            let mut plain = &out[..(self.0.total_out() - before) as usize];
            let text = |plain: &mut &[u8]| {
                let length = plain.get_u32() as usize;
                String::from_utf8(plain.copy_to_bytes(length).to_vec()).unwrap()
            };
            let count = plain.get_u32();
            let all = (0..count).map(|_| (text(&mut plain), text(&mut plain))).collect();
            assert!(plain.is_empty());
            all
        }
    }

    #[test]
    fn the_dictionary_is_that_of_the_protocol() {
        assert_eq!(DICTIONARY.len(), 1423);
        let mut deflate = Deflate::new(LEVEL, true, WINDOW_BITS);
        assert_eq!(deflate.set_dictionary(&DICTIONARY).unwrap(), 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_can_be_read_one_after_the_other() {
        let (mut here, mut there) = (Compressor::new().unwrap(), Decompressor::new());
        for headers in [vec![("streamtype", "error")], vec![("streamtype", "data"), ("port", "80")], vec![]] {
            let block = here.block(&headers).unwrap();
            let expected: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(there.headers(&block), expected);
        }
    }

    #[test]
    fn headers_that_do_not_compress_still_fit() {
        let value: String =
            (0..20_000).map(|n: u32| char::from(b'!' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 90)).collect();
        let block = Compressor::new().unwrap().block(&[("x", &value)]).unwrap();
        assert_eq!(Decompressor::new().headers(&block), [("x".to_owned(), value)]);
    }
}
