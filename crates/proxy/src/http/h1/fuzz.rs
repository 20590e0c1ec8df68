//! What must hold for any bytes: the bodies of the fuzz targets, which the tests run over the corpus as well.
//!
//! Each panics, with the bytes at fault, when the property does not hold.

use bytes::BytesMut;
use http::header::{self, HeaderMap};

use super::chunk::{self, ChunkDecoder, Decoded};
use super::head::{BodyFraming, Head, HeadParser};
use super::options::Options;
use super::refusal::Refusal;

/// A head that came to an end: what it is, and how many bytes were left behind it.
type ParsedHead = Result<Option<(Head, usize)>, Refusal>;
/// The data of a body, and if it came to an end: its trailer fields, and how many bytes were left behind it.
type DecodedBody = (Vec<u8>, Result<Option<(HeaderMap, usize)>, Refusal>);

/// Heads: no panic; the verdict does not depend on how the bytes were cut; and what is accepted, written anew, is read
/// as the same request with nothing behind it.
pub fn head(data: &[u8]) {
    let options = Options::default();
    let whole = parse_head(data, usize::MAX, &options);
    for step in [1, 7, 64] {
        if data.len() / step < 4096 {
            let pieces = parse_head(data, step, &options);
            assert_eq!(whole, pieces, "cut into pieces of {step}: {}", data.escape_ascii());
        }
    }
    let Ok(Some((head, _))) = whole else {
        return;
    };
    let written = write_head(&head);
    // Written anew, a head at a limit can be a little longer: a space behind each colon, and a Connection field.
    let wider = Options {
        max_head_bytes: 2 * options.max_head_bytes,
        max_line_bytes: 2 * options.max_line_bytes,
        max_fields: 2 * options.max_fields,
        ..options
    };
    let expected = Head { size: written.len(), dropped_fields: 0, ..head };
    let again = parse_head(&written, usize::MAX, &wider);
    assert_eq!(again, Ok(Some((expected, 0))), "read differently: {}", written.escape_ascii());
}

/// Chunked bodies: no panic; the verdict does not depend on how the bytes were cut; and what is accepted, encoded anew, is
/// read as the same body with nothing behind it.
pub fn chunks(data: &[u8]) {
    let options = Options::default();
    let whole = decode(data, usize::MAX, &options);
    for step in [1, 7, 64] {
        if data.len() / step < 4096 {
            let pieces = decode(data, step, &options);
            assert_eq!(whole, pieces, "cut into pieces of {step}: {}", data.escape_ascii());
        }
    }
    let Ok(Some((body, trailers, _))) = whole.1.map(|end| end.map(|(trailers, left)| (whole.0, trailers, left))) else {
        return;
    };
    let mut written = Vec::new();
    if !body.is_empty() {
        chunk::write_size(&mut written, body.len());
        written.extend_from_slice(&body);
        written.extend_from_slice(b"\r\n");
    }
    chunk::write_end(&mut written, Some(&trailers));
    // Fields gain a space when they are written anew, so that trailers at the limit exceed it.
    let wider = Options {
        max_trailer_bytes: 2 * options.max_trailer_bytes,
        max_line_bytes: 2 * options.max_line_bytes,
        ..options
    };
    let again = decode(&written, usize::MAX, &wider);
    assert_eq!(again, (body, Ok(Some((trailers, 0)))), "read differently: {}", written.escape_ascii());
}

fn parse_head(data: &[u8], step: usize, options: &Options) -> ParsedHead {
    let mut parser = HeadParser::default();
    let mut buffer = BytesMut::new();
    let mut given = 0;
    for piece in data.chunks(step.min(data.len().max(1))) {
        buffer.extend_from_slice(piece);
        given += piece.len();
        if let Some(head) = parser.parse(&mut buffer, options)? {
            return Ok(Some((head, buffer.len() + data.len() - given)));
        }
    }
    Ok(None)
}

/// The request as an intermediary would pass it on, in the same framing.
fn write_head(head: &Head) -> Vec<u8> {
    let mut out = Vec::new();
    let path = head.uri.path_and_query().map_or("*", |path| path.as_str());
    let version = if head.version == http::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
    out.extend_from_slice(format!("{} {path} {version}\r\n", head.method).as_bytes());
    for (name, value) in &head.headers {
        super::response::write_field(&mut out, name.as_str().as_bytes(), value.as_bytes());
    }
    let mut field = |name: &header::HeaderName, value: &str| {
        super::response::write_field(&mut out, name.as_str().as_bytes(), value.as_bytes());
    };
    match head.body {
        BodyFraming::Chunked => field(&header::TRANSFER_ENCODING, "chunked"),
        BodyFraming::Length(_) | BodyFraming::None => {}
    }
    if head.expect_continue {
        field(&header::EXPECT, "100-continue");
    }
    if head.upgrade {
        field(&header::CONNECTION, "upgrade");
    }
    field(&header::CONNECTION, if head.keep_alive { "keep-alive" } else { "close" });
    out.extend_from_slice(b"\r\n");
    out
}

fn decode(data: &[u8], step: usize, options: &Options) -> DecodedBody {
    let mut decoder = ChunkDecoder::default();
    let (mut buffer, mut body, mut trailers) = (BytesMut::new(), Vec::new(), HeaderMap::new());
    let mut given = 0;
    for piece in data.chunks(step.min(data.len().max(1))) {
        buffer.extend_from_slice(piece);
        given += piece.len();
        loop {
            match decoder.decode(&mut buffer, options) {
                Ok(Decoded::Data(data)) => body.extend_from_slice(&data),
                Ok(Decoded::Trailers(fields)) => trailers = fields,
                Ok(Decoded::End) => return (body, Ok(Some((trailers, buffer.len() + data.len() - given)))),
                Ok(Decoded::Incomplete) => break,
                Err(refusal) => return (body, Err(refusal)),
            }
        }
    }
    (body, Ok(None))
}
