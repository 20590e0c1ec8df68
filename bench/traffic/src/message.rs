//! HTTP/1.1 messages, as pieces of them arrive.
//!
//! What flows in: bytes of one side of a connection. What flows out: heads, with what the bench needs of them, and where bodies end. The
//! other end is the proxy that is measured: what it writes is not distrusted, but bounded.

/// Heads are smaller.
const HEAD: usize = 64 * 1024;
const FIELDS: usize = 64;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) target: Target,
    pub(crate) body: Body,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// So many bytes.
    Bytes(usize),
    /// A WebSocket, with its Sec-WebSocket-Key.
    WebSocket(Vec<u8>),
    Unknown,
}

/// What a response says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Body,
}

/// The head of a request, with its length; nothing while it is incomplete.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<(usize, Request)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(bytes).map_err(|error| format!("a request's head: {error}"))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let path = request.path.unwrap_or_default();
    let target = match (path, field(request.headers, "sec-websocket-key")) {
        ("/ws", Some(key)) => Target::WebSocket(key.to_owned()),
        _ => bytes_asked(path).map_or(Target::Unknown, Target::Bytes),
    };
    Ok(Some((length, Request { target, body: Body::of(request.headers)? })))
}

/// The N of /bytes/N.
pub(crate) fn bytes_asked(path: &str) -> Option<usize> {
    path.strip_prefix("/bytes/")?.parse().ok()
}

/// The head of a response, with its length; nothing while it is incomplete.
pub(crate) fn response(bytes: &[u8]) -> Result<Option<(usize, Response)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes).map_err(|error| format!("a response's head: {error}"))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    Ok(Some((length, Response { status: response.code.unwrap_or_default(), body: Body::of(response.headers)? })))
}

fn field<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// Heads that come in pieces.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    kept: Vec<u8>,
}

impl Heads {
    /// The head that these bytes complete, and how many of them belong to it; nothing if they all do and more must come.
    pub(crate) fn take<T>(
        &mut self,
        bytes: &[u8],
        parse: impl Fn(&[u8]) -> Result<Option<(usize, T)>, String>,
    ) -> Result<Option<(usize, T)>, String> {
        let before = self.kept.len();
        let parsed = match before {
            0 => parse(bytes)?,
            _ => {
                self.kept.extend_from_slice(bytes);
                parse(&self.kept)?
            }
        };
        match parsed {
            Some((length, head)) => {
                self.kept.clear();
                Ok(Some((length - before, head)))
            }
            None if before + bytes.len() > HEAD => Err(format!("a head of more than {HEAD} bytes")),
            None => {
                if before == 0 {
                    self.kept.extend_from_slice(bytes);
                }
                Ok(None)
            }
        }
    }
}

/// A body that is being read: what is still to come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes.
    Length(usize),
    /// Chunks (RFC 9112, section 7.1).
    Chunked(Chunk),
}

/// Where in a chunked body the next byte stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    Size(usize),
    Extension(usize),
    Data(usize),
    /// In the end of the line after a chunk's data.
    End,
    /// In a line of the trailer section, of which so many bytes were read.
    Trailer(usize),
    Done,
}

impl Body {
    fn of(fields: &[httparse::Header<'_>]) -> Result<Self, String> {
        if field(fields, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked")) {
            return Ok(Self::Chunked(Chunk::Size(0)));
        }
        let Some(value) = field(fields, "content-length") else { return Ok(Self::Length(0)) };
        let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        length.map(Self::Length).ok_or_else(|| format!("Content-Length: {}", String::from_utf8_lossy(value)))
    }

    /// Whether all of it was read.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Done))
    }

    /// Takes what belongs to it from the front of the bytes, and says how many those are.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, String> {
        match self {
            Self::Length(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                Ok(taken)
            }
            Self::Chunked(chunk) => {
                let mut taken = 0;
                while *chunk != Chunk::Done && taken < bytes.len() {
                    taken += chunk.step(&bytes[taken..])?;
                }
                Ok(taken)
            }
        }
    }
}

impl Chunk {
    /// Takes a byte, or all of a chunk's data that is there. There is at least one byte.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let byte = bytes[0];
        let (next, taken) = match (&*self, byte) {
            (Self::Size(0) | Self::Extension(0), b'\n') => (Self::Trailer(0), 1),
            (Self::Size(size) | Self::Extension(size), b'\n') => (Self::Data(*size), 1),
            (Self::Size(size), b';' | b'\r' | b' ') | (Self::Extension(size), _) => (Self::Extension(*size), 1),
            (Self::Size(size), digit) => {
                let digit = char::from(digit).to_digit(16).ok_or_else(|| format!("a chunk's size has {digit:#x}"))?;
                let size = size.checked_mul(16).and_then(|size| size.checked_add(digit as usize));
                (Self::Size(size.ok_or("a chunk is too large")?), 1)
            }
            (Self::Data(left), _) if bytes.len() < *left => (Self::Data(left - bytes.len()), bytes.len()),
            (Self::Data(left), _) => (Self::End, *left),
            (Self::End, b'\n') => (Self::Size(0), 1),
            (Self::End, _) => (Self::End, 1),
            (Self::Trailer(0), b'\n') | (Self::Done, _) => (Self::Done, 1),
            (Self::Trailer(_), b'\n') => (Self::Trailer(0), 1),
            (Self::Trailer(read), b'\r') => (Self::Trailer(*read), 1),
            (Self::Trailer(read), _) => (Self::Trailer(read + 1), 1),
        };
        *self = next;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, Chunk, Heads, Target, request, response};

    #[test]
    fn a_head_may_come_in_pieces() {
        let bytes = b"POST /bytes/16 HTTP/1.1\r\nhost: a\r\nContent-Length: 3\r\n\r\nabc";
        for cut in 1..bytes.len() - 4 {
            let mut heads = Heads::default();
            assert_eq!(heads.take(&bytes[..cut], request).unwrap(), None, "{cut}");
            let (length, head) = heads.take(&bytes[cut..], request).unwrap().unwrap();
            assert_eq!(&bytes[cut + length..], b"abc");
            assert_eq!((head.target, head.body), (Target::Bytes(16), Body::Length(3)));
        }
    }

    #[test]
    fn a_response_has_a_status_and_a_length() {
        let bytes = b"HTTP/1.1 503 No\r\ncontent-length: 7\r\n\r\n";
        let (length, head) = response(bytes).unwrap().unwrap();
        assert_eq!((length, head.status, head.body), (bytes.len(), 503, Body::Length(7)));
        assert!(response(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").is_err());
    }

    #[test]
    fn a_websocket_has_a_key() {
        let bytes = b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n";
        let (_, head) = request(bytes).unwrap().unwrap();
        assert_eq!(head.target, Target::WebSocket(b"abc".to_vec()));
    }

    #[test]
    fn chunks_end_where_they_say() {
        let bytes = b"5;name=value\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nx: y\r\n\r\nnext";
        for cut in 0..bytes.len() {
            let mut body = Body::Chunked(Chunk::Size(0));
            let mut taken = body.take(&bytes[..cut]).unwrap();
            if !body.is_done() {
                assert_eq!(taken, cut);
                taken += body.take(&bytes[cut..]).unwrap();
            }
            assert!(body.is_done());
            assert_eq!(&bytes[taken..], b"next");
        }
        assert!(Body::Chunked(Chunk::Size(0)).take(b"x").is_err());
        assert!(Body::Chunked(Chunk::Size(0)).take(b"fffffffffffffffff").is_err());
    }
}
