//! The response head: how the body will be framed, and the bytes.
//!
//! In: status, fields and what is known of the body's length. Out: a [`ResponseFraming`] and the head in the output buffer,
//! with the fields that concern our connection to the client written by us and none of the backend's.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderName};
use http::{StatusCode, Version};
use http_body::SizeHint;
use smallvec::SmallVec;

use super::head::content_length;

/// How a response's body is framed (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseFraming {
    /// No body follows, whatever the fields say: an answer to HEAD, 204, 304.
    None,
    /// This many bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// Until the connection closes, for HTTP/1.0.
    UntilClose,
}

/// What the Connection field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionField {
    /// Nothing: HTTP/1.1 goes on.
    Absent,
    /// `keep-alive`: HTTP/1.0 goes on because it asked to.
    KeepAlive,
    /// `close`.
    Close,
    /// `upgrade`.
    Upgrade,
}

/// A response that cannot be written truthfully.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidResponse;

/// Chooses the framing. An error if Content-Length is invalid, there more than once, or not the length that the body has.
pub(super) fn framing(
    is_head: bool,
    version: Version,
    status: StatusCode,
    headers: &HeaderMap,
    size: SizeHint,
) -> Result<ResponseFraming, InvalidResponse> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = match lengths.next() {
        Some(value) => Some(content_length(value.as_bytes()).ok_or(InvalidResponse)?),
        None => None,
    };
    if lengths.next().is_some() {
        return Err(InvalidResponse);
    }
    if is_head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return Ok(ResponseFraming::None);
    }
    match (length, size.exact()) {
        (Some(length), Some(exact)) if length != exact => Err(InvalidResponse),
        (Some(length), _) | (None, Some(length)) => Ok(ResponseFraming::Length(length)),
        (None, None) if version == Version::HTTP_11 => Ok(ResponseFraming::Chunked),
        (None, None) => Ok(ResponseFraming::UntilClose),
    }
}

/// Writes a head.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    framing: ResponseFraming,
    connection: ConnectionField,
) {
    write_status_line(out, status);
    let nominated = nominated(headers);
    // Without a body, the length is that of the body that a GET would have had; with 204 it means nothing.
    let keeps_length = framing == ResponseFraming::None && status != StatusCode::NO_CONTENT;
    let keeps_upgrade = matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    let mut has_date = false;
    for (name, value) in headers {
        let skipped = is_hop_by_hop(name)
            || (name == header::CONTENT_LENGTH && !keeps_length)
            || (name == header::UPGRADE && !keeps_upgrade)
            || nominated.iter().any(|nominated| nominated == name && name != header::UPGRADE);
        if skipped {
            continue;
        }
        has_date |= name == header::DATE;
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    match framing {
        ResponseFraming::Length(length) => {
            write_field(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
        }
        ResponseFraming::Chunked => write_field(out, b"transfer-encoding", b"chunked"),
        ResponseFraming::None | ResponseFraming::UntilClose => {}
    }
    match connection {
        ConnectionField::Absent if status == StatusCode::UPGRADE_REQUIRED => {
            write_field(out, b"connection", b"upgrade")
        }
        ConnectionField::Absent => {}
        ConnectionField::KeepAlive => write_field(out, b"connection", b"keep-alive"),
        ConnectionField::Close => write_field(out, b"connection", b"close"),
        ConnectionField::Upgrade => write_field(out, b"connection", b"upgrade"),
    }
    if !has_date {
        write_date(out);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_status_line(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes one field line.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    name == header::CONNECTION
        || name == header::TRANSFER_ENCODING
        || name == header::TE
        || name == "keep-alive"
        || name == "proxy-connection"
}

/// The fields that the response's own Connection field names (RFC 9110 section 7.6.1).
fn nominated(headers: &HeaderMap) -> SmallVec<[HeaderName; 2]> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| name != header::CONTENT_LENGTH)
        .collect()
}

thread_local! {
    static DATE: RefCell<Date> = const { RefCell::new(Date { second: 0, text: String::new() }) };
}

struct Date {
    second: u64,
    text: String,
}

/// Writes the Date field; its text is made once a second on each thread.
fn write_date(out: &mut Vec<u8>) {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
    DATE.with_borrow_mut(|date| {
        if date.second != second || date.text.is_empty() {
            date.second = second;
            date.text = httpdate::fmt_http_date(now);
        }
        write_field(out, b"date", date.text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn framings() {
        let exact = |length| SizeHint::with_exact(length);
        let open = SizeHint::new;
        let (v10, v11, ok) = (Version::HTTP_10, Version::HTTP_11, StatusCode::OK);
        let none = headers(&[]);
        let five = headers(&[("content-length", "5")]);
        let cases = [
            (false, v11, ok, &none, exact(3), Ok(ResponseFraming::Length(3))),
            (false, v11, ok, &five, open(), Ok(ResponseFraming::Length(5))),
            (false, v11, ok, &five, exact(5), Ok(ResponseFraming::Length(5))),
            (false, v11, ok, &five, exact(4), Err(InvalidResponse)),
            (false, v11, ok, &none, open(), Ok(ResponseFraming::Chunked)),
            (false, v10, ok, &none, open(), Ok(ResponseFraming::UntilClose)),
            (true, v11, ok, &five, exact(0), Ok(ResponseFraming::None)),
            (false, v11, StatusCode::NO_CONTENT, &five, exact(0), Ok(ResponseFraming::None)),
            (false, v11, StatusCode::NOT_MODIFIED, &five, exact(0), Ok(ResponseFraming::None)),
        ];
        for (head, version, status, fields, size, expected) in cases {
            assert_eq!(framing(head, version, status, fields, size), expected, "{status} {fields:?}");
        }
        for values in [&[("content-length", "5"), ("content-length", "5")][..], &[("content-length", "+5")]] {
            assert_eq!(framing(false, v11, ok, &headers(values), open()), Err(InvalidResponse));
        }
    }

    #[test]
    fn what_is_the_backends_connections_stays_there() {
        let fields = headers(&[
            ("connection", "keep-alive, x-private"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("content-length", "2"),
            ("date", "then"),
            ("x-public", "1"),
        ]);
        let mut out = Vec::new();
        write_head(&mut out, StatusCode::OK, &fields, ResponseFraming::Length(2), ConnectionField::Close);
        let expected = "HTTP/1.1 200 OK\r\ndate: then\r\nx-public: 1\r\ncontent-length: 2\r\nconnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
