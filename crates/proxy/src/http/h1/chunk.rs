//! The chunked transfer coding (RFC 9112 section 7.1), both ways. Pure, without I/O.
//!
//! In: the connection's read buffer. Out: data without its framing, then the trailer fields, if any, then the end; or why
//! the body is refused. Of a client nothing is read leniently: sizes are digits alone, lines end with CR LF, and a chunk
//! extension is refused, since RFC 9112 lets a recipient ignore what it does not know and no one can know that the next one
//! will. A backend's extensions are skipped and its forbidden trailer fields left out: nothing of its framing is passed on.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName};

use super::head::{FieldSpan, FieldSpans, LineLimits, LineScanner};
use super::options::{Options, UnderscorePolicy};
use super::refusal::Refusal;

/// Chunks shorter than this are joined with those that follow, if they are there already: a body of many tiny chunks must
/// not cost its receiver a frame for each byte.
const SMALL_CHUNK: usize = 1024;
const JOINED_CHUNKS: usize = 8 * 1024;

/// Bytes of a backend's chunk extension.
const MAX_EXTENSION: usize = 4 * 1024;

/// Decodes one chunked body.
#[derive(Debug, Default)]
pub struct ChunkDecoder {
    state: State,
    next: Option<Result<Decoded, Refusal>>,
    sender: Sender,
}

/// Who sends a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sender {
    #[default]
    Client,
    Backend,
}

/// What a step of decoding gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// Some of the body, never empty.
    Data(Bytes),
    /// The trailer fields, at least one. The end comes next.
    Trailers(HeaderMap),
    /// The body is over. What is left in the buffer is the next request's.
    End,
    /// More bytes are needed.
    Incomplete,
}

#[derive(Debug)]
enum State {
    /// In a chunk's size.
    Size {
        value: u64,
        digits: usize,
    },
    /// In a backend's chunk extension.
    Extension {
        value: u64,
        length: usize,
    },
    /// Between the two bytes of the line end after the size.
    SizeEnd {
        value: u64,
    },
    /// In a chunk's data, which has this much left.
    Data {
        left: u64,
    },
    /// Before, or between, the two bytes of the line end after the data.
    DataEnd {
        seen_cr: bool,
    },
    /// At the first line after the last chunk.
    Last,
    /// In a trailer section that has at least one field.
    Trailers(Box<Trailers>),
    Done,
}

#[derive(Debug, Default)]
struct Trailers {
    lines: LineScanner,
    fields: FieldSpans,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { value: 0, digits: 0 }
    }
}

impl ChunkDecoder {
    /// For the body of a backend's response.
    pub(crate) fn of_backend() -> Self {
        Self { sender: Sender::Backend, ..Self::default() }
    }

    /// Decodes what is in `input`, and takes it out. To be called again until it is [`Decoded::End`] or a refusal.
    pub fn decode(&mut self, input: &mut BytesMut, options: &Options) -> Result<Decoded, Refusal> {
        if let Some(next) = self.next.take() {
            return next;
        }
        let first = match self.step(input, options)? {
            Decoded::Data(data) if data.len() < SMALL_CHUNK && !input.is_empty() => data,
            other => return Ok(other),
        };
        let mut joined = BytesMut::from(&first[..]);
        while joined.len() < JOINED_CHUNKS {
            match self.step(input, options) {
                Ok(Decoded::Data(data)) => joined.extend_from_slice(&data),
                Ok(Decoded::Incomplete) => break,
                other => {
                    self.next = Some(other);
                    break;
                }
            }
        }
        Ok(Decoded::Data(joined.freeze()))
    }

    /// Whether the body is over.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done) && self.next.is_none()
    }

    fn step(&mut self, input: &mut BytesMut, options: &Options) -> Result<Decoded, Refusal> {
        loop {
            match &mut self.state {
                State::Done => return Ok(Decoded::End),
                State::Last => match (input.first(), input.get(1)) {
                    (None, _) | (Some(b'\r'), None) => return Ok(Decoded::Incomplete),
                    (Some(b'\r'), Some(b'\n')) => {
                        input.advance(2);
                        self.state = State::Done;
                    }
                    _ => self.state = State::Trailers(Box::default()),
                },
                State::Trailers(trailers) => {
                    let Some(trailers) = trailers.parse(input, options, self.sender)? else {
                        return Ok(Decoded::Incomplete);
                    };
                    self.state = State::Done;
                    if !trailers.is_empty() {
                        return Ok(Decoded::Trailers(trailers));
                    }
                }
                State::Data { left } if !input.is_empty() => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= length as u64;
                    if *left == 0 {
                        self.state = State::DataEnd { seen_cr: false };
                    }
                    return Ok(Decoded::Data(input.split_to(length).freeze()));
                }
                _ => {
                    let Some(byte) = input.first().copied() else {
                        return Ok(Decoded::Incomplete);
                    };
                    self.framing_byte(byte, options)?;
                    input.advance(1);
                }
            }
        }
    }

    /// One byte of a size line, or of the line end after the data.
    fn framing_byte(&mut self, byte: u8, options: &Options) -> Result<(), Refusal> {
        self.state = match (&self.state, byte) {
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                if *digits == options.max_chunk_digits || *value > (i64::MAX >> 4) as u64 {
                    return Err(Refusal::ChunkSizeTooLarge);
                }
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, b'\n') => return Err(Refusal::BareLf),
            (State::Size { digits: 0, .. }, _) => return Err(Refusal::InvalidChunkSize),
            (State::Size { value, .. }, b'\r') => State::SizeEnd { value: *value },
            (State::Size { .. }, b'\n') => return Err(Refusal::BareLf),
            (State::Size { value, .. }, b';' | b' ' | b'\t') if self.sender == Sender::Backend => {
                State::Extension { value: *value, length: 0 }
            }
            (State::Size { .. }, b';') => return Err(Refusal::ChunkExtension),
            (State::Size { .. }, _) => return Err(Refusal::InvalidChunkSize),
            (State::Extension { value, .. }, b'\r') => State::SizeEnd { value: *value },
            (State::Extension { .. }, b'\n') => return Err(Refusal::BareLf),
            (State::Extension { length, .. }, _) if *length == MAX_EXTENSION => return Err(Refusal::ChunkExtension),
            (State::Extension { value, length }, _) => State::Extension { value: *value, length: length + 1 },
            (State::SizeEnd { value: 0 }, b'\n') => State::Last,
            (State::SizeEnd { value }, b'\n') => State::Data { left: *value },
            (State::SizeEnd { .. }, _) => return Err(Refusal::BareCr),
            (State::DataEnd { seen_cr: false }, b'\r') => State::DataEnd { seen_cr: true },
            (State::DataEnd { seen_cr: true }, b'\n') => State::default(),
            (_, _) => return Err(Refusal::InvalidChunkEnd),
        };
        Ok(())
    }
}

impl Trailers {
    fn parse(&mut self, input: &mut BytesMut, options: &Options, sender: Sender) -> Result<Option<HeaderMap>, Refusal> {
        let limits = LineLimits {
            line: options.max_line_bytes,
            section: options.max_trailer_bytes,
            section_too_large: Refusal::TrailersTooLarge,
        };
        loop {
            match self.lines.next(input, limits, Refusal::TrailersTooLarge)? {
                None => return Ok(None),
                Some(line) if line.is_empty() => break,
                Some(_) if self.fields.len() == options.max_fields => return Err(Refusal::TooManyFields),
                Some(line) => self.fields.push(FieldSpan::parse(input, line)?),
            }
        }
        let bytes = input.split_to(self.lines.position()).freeze();
        let mut trailers = HeaderMap::new();
        for field in &self.fields {
            let value = field.value(&bytes)?;
            let name = HeaderName::from_bytes(field.name(&bytes)).map_err(|_| Refusal::InvalidHeaderName)?;
            match (is_forbidden_trailer(&name), sender) {
                (true, Sender::Client) => return Err(Refusal::ForbiddenTrailer),
                (true, Sender::Backend) => continue,
                (false, _) => {}
            }
            match options.underscores {
                UnderscorePolicy::Refuse if name.as_str().contains('_') => return Err(Refusal::UnderscoreInHeaderName),
                UnderscorePolicy::Drop if name.as_str().contains('_') => continue,
                _ => trailers.try_append(name, value).map_err(|_| Refusal::TooManyFields)?,
            };
        }
        Ok(Some(trailers))
    }
}

/// Fields that must be known before the content, or that say who asks for what: never taken from a trailer section
/// (RFC 9110 section 6.5.1), and never written into one.
pub(crate) fn is_forbidden_trailer(name: &HeaderName) -> bool {
    const NAMES: &[&str] = &[
        "age",
        "authorization",
        "cache-control",
        "connection",
        "cookie",
        "date",
        "expect",
        "expires",
        "forwarded",
        "host",
        "location",
        "max-forwards",
        "origin",
        "pragma",
        "range",
        "retry-after",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "via",
        "warning",
        "www-authenticate",
    ];
    const PREFIXES: &[&str] = &[
        "access-control-",
        "content-",
        "if-",
        "keep-alive",
        "proxy-",
        "sec-",
        "x-forwarded-",
        "x-real-",
        "x-request-",
    ];
    NAMES.contains(&name.as_str()) || PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// Writes the line before a chunk's data. `length` is not 0, which would end the body.
pub(super) fn write_size(out: &mut Vec<u8>, length: usize) {
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[length >> (digit * 4) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes what ends a body: the last chunk, the trailer fields that may be there, the empty line.
pub(crate) fn write_end(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| !is_forbidden_trailer(name)) {
        super::response::write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::{ChunkDecoder, Decoded};
    use crate::http::h1::{Options, Refusal};
    use bytes::BytesMut;

    fn decode(input: &[u8]) -> (Vec<u8>, usize, Result<bool, Refusal>) {
        let (mut decoder, mut input, mut data, mut trailers) =
            (ChunkDecoder::default(), BytesMut::from(input), Vec::new(), 0);
        loop {
            match decoder.decode(&mut input, &Options::default()) {
                Ok(Decoded::Data(bytes)) => data.extend_from_slice(&bytes),
                Ok(Decoded::Trailers(fields)) => trailers = fields.len(),
                Ok(Decoded::End) => return (data, trailers, Ok(true)),
                Ok(Decoded::Incomplete) => return (data, trailers, Ok(false)),
                Err(refusal) => return (data, trailers, Err(refusal)),
            }
        }
    }

    #[test]
    fn bodies() {
        let cases: &[(&[u8], &[u8], usize)] = &[
            (b"0\r\n\r\n", b"", 0),
            (b"000\r\n\r\n", b"", 0),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello", 0),
            (b"1\r\na\r\n02\r\nbc\r\nA\r\n0123456789\r\n0\r\n\r\n", b"abc0123456789", 0),
            (b"3\r\n\r\n\r\r\n0\r\nx-sum: 1\r\n\r\n", b"\r\n\r", 1),
            (b"0\r\na: 1\r\na: 2\r\nb_c: 3\r\n\r\nrest", b"", 2),
        ];
        for (input, data, trailers) in cases {
            assert_eq!(decode(input), (data.to_vec(), *trailers, Ok(true)), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn refused() {
        let cases: &[(&[u8], Refusal)] = &[
            (b"\r\n", Refusal::InvalidChunkSize),
            (b"\n", Refusal::BareLf),
            (b"5\nhello", Refusal::BareLf),
            (b"5\rhello", Refusal::BareCr),
            (b" 5\r\nhello", Refusal::InvalidChunkSize),
            (b"5 \r\nhello", Refusal::InvalidChunkSize),
            (b"5\t;a\r\nhello", Refusal::InvalidChunkSize),
            (b"0x5\r\nhello", Refusal::InvalidChunkSize),
            (b"+5\r\nhello", Refusal::InvalidChunkSize),
            (b"-1\r\nhello", Refusal::InvalidChunkSize),
            (b"5_0\r\nhello", Refusal::InvalidChunkSize),
            (b"g\r\n", Refusal::InvalidChunkSize),
            (b"5;a=b\r\nhello", Refusal::ChunkExtension),
            (b"5;\r\nhello", Refusal::ChunkExtension),
            (b"0;a\n\r\n", Refusal::ChunkExtension),
            (b"00000000000000005\r\nhello", Refusal::ChunkSizeTooLarge),
            (b"8000000000000000\r\n", Refusal::ChunkSizeTooLarge),
            (b"10000000000000005\r\nhello", Refusal::ChunkSizeTooLarge),
            (b"5\r\nhelloX", Refusal::InvalidChunkEnd),
            (b"5\r\nhello\n0\r\n\r\n", Refusal::InvalidChunkEnd),
            (b"5\r\nhello\rX", Refusal::InvalidChunkEnd),
            (b"5\r\nhello0\r\n\r\n", Refusal::InvalidChunkEnd),
            (b"0\r\n\n", Refusal::BareLf),
            (b"0\r\nx: 1\n\r\n", Refusal::BareLf),
            (b"0\r\n x: 1\r\n\r\n", Refusal::ObsFold),
            (b"0\r\nx : 1\r\n\r\n", Refusal::SpaceBeforeColon),
            (b"0\r\nx: 1\r2\r\n\r\n", Refusal::BareCr),
            (b"0\r\nx: \x00\r\n\r\n", Refusal::InvalidHeaderValue),
            (b"0\r\nContent-Length: 5\r\n\r\n", Refusal::ForbiddenTrailer),
            (b"0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::ForbiddenTrailer),
            (b"0\r\nHost: a\r\n\r\n", Refusal::ForbiddenTrailer),
            (b"0\r\nAuthorization: a\r\n\r\n", Refusal::ForbiddenTrailer),
            (b"0\r\nX-Forwarded-For: a\r\n\r\n", Refusal::ForbiddenTrailer),
            (b"0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::SpaceBeforeColon),
        ];
        for (input, refusal) in cases {
            assert_eq!(decode(input).2, Err(*refusal), "{}", input.escape_ascii());
        }
        let long = [b"0\r\nx: ".to_vec(), vec![b'a'; 9000]].concat();
        assert_eq!(decode(&long).2, Err(Refusal::TrailersTooLarge));
        let many = [b"0\r\n".to_vec(), b"x: 1\r\n".repeat(129), b"\r\n".to_vec()].concat();
        assert_eq!(decode(&many).2, Err(Refusal::TooManyFields));
    }

    #[test]
    fn tiny_chunks_are_joined() {
        let input = [b"1\r\nx\r\n".repeat(1000), b"0\r\n\r\n".to_vec()].concat();
        let mut decoder = ChunkDecoder::default();
        let mut input = BytesMut::from(&input[..]);
        let Ok(Decoded::Data(data)) = decoder.decode(&mut input, &Options::default()) else { panic!("data expected") };
        assert_eq!(data.len(), 1000);
        assert_eq!(decoder.decode(&mut input, &Options::default()), Ok(Decoded::End));
        assert!(decoder.is_done());
    }
}
