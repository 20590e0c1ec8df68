//! A request's head towards a backend: how the body is framed, and the bytes.
//!
//! In flows a head as [`shape`](crate::upstream::shape) left it; what its fields say of the framing is what is done.

use super::Error;
use crate::http::h1::{Output, content_length, write_end, write_field};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body::Frame;

/// How a request's body is framed (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestFraming {
    /// No body.
    None,
    /// So many bytes are left.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
}

impl RequestFraming {
    /// What the fields say. They are the gateway's own words or were checked when they came.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(TRANSFER_ENCODING) {
            return Self::Chunked;
        }
        match headers.get(CONTENT_LENGTH).and_then(|length| content_length(length.as_bytes())) {
            None | Some(0) => Self::None,
            Some(length) => Self::Length(length),
        }
    }

    /// Appends a frame of the body, or its end. Says whether the body is complete.
    pub(super) fn write(&mut self, frame: Option<Frame<Bytes>>, output: &mut Output) -> Result<bool, Error> {
        let frame = match frame.map(Frame::into_data) {
            Some(Ok(data)) if data.is_empty() => return Ok(false),
            Some(Ok(data)) => {
                if let Self::Length(left) = self {
                    *left = left.checked_sub(data.len() as u64).ok_or(Error::RequestLength)?;
                }
                output.push(data, *self == Self::Chunked);
                return Ok(*self == Self::Length(0));
            }
            Some(Err(frame)) => frame.into_trailers().ok(),
            None => None,
        };
        match self {
            Self::Chunked => write_end(output.buffer(), frame.as_ref()),
            Self::Length(left) if *left > 0 => return Err(Error::RequestLength),
            Self::Length(_) | Self::None => {}
        }
        Ok(true)
    }
}

/// Writes a head.
pub(super) fn write_head(out: &mut Vec<u8>, head: &http::request::Parts) {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    for part in [head.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &head.headers {
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, uri: &str, fields: &[(&'static str, &str)]) -> http::request::Parts {
        let request = http::Request::builder().method(method).uri(uri);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn heads_and_framings() {
        for (given, text, framing) in [
            (
                head("GET", "/a?b=c", &[("host", "x"), ("a", "1"), ("a", "2")]),
                "GET /a?b=c HTTP/1.1\r\nhost: x\r\na: 1\r\na: 2\r\n\r\n",
                RequestFraming::None,
            ),
            (head("OPTIONS", "*", &[("host", "x")]), "OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", RequestFraming::None),
            (
                head("POST", "/", &[("content-length", "0")]),
                "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
                RequestFraming::None,
            ),
            (
                head("POST", "/", &[("content-length", "5")]),
                "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
                RequestFraming::Length(5),
            ),
            (
                head("PUT", "/", &[("transfer-encoding", "chunked")]),
                "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
                RequestFraming::Chunked,
            ),
        ] {
            let mut out = Vec::new();
            write_head(&mut out, &given);
            assert_eq!(out.escape_ascii().to_string(), text.as_bytes().escape_ascii().to_string());
            assert_eq!(RequestFraming::of(&given.headers), framing, "{text}");
        }
    }

    #[test]
    fn a_body_that_is_not_as_long_as_its_head_says_is_an_error() {
        let data = |text: &'static str| Some(Frame::data(Bytes::from_static(text.as_bytes())));
        let mut output = Output::default();
        let mut framing = RequestFraming::Length(5);
        assert!(!framing.write(data("abc"), &mut output).unwrap());
        assert!(framing.write(None, &mut output).is_err(), "too short");
        assert!(framing.write(data("def"), &mut output).is_err(), "too long");
        let mut framing = RequestFraming::Length(3);
        assert!(framing.write(data("abc"), &mut output).unwrap());
    }

    #[test]
    fn chunks_end_with_their_trailers() {
        let mut output = Output::default();
        let mut framing = RequestFraming::Chunked;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        trailers.insert("host", "forbidden".parse().unwrap());
        assert!(!framing.write(Some(Frame::data(Bytes::from_static(b"abc"))), &mut output).unwrap());
        assert!(
            !framing.write(Some(Frame::data(Bytes::new())), &mut output).unwrap(),
            "no chunk ends the body too soon"
        );
        assert!(framing.write(Some(Frame::trailers(trailers)), &mut output).unwrap());
        assert_eq!(output.buffer().as_slice(), b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n");
    }
}
