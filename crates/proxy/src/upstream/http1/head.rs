//! The head of a backend's response: from bytes to fields and framing, or why it cannot be passed on. Pure, without I/O.
//!
//! In flow the bytes of one head; out flow its parts, whose values are slices of those bytes. The syntax is `httparse`'s; what
//! the fields say of the body is held to RFC 9112 section 6.3, and what could be read in two ways is refused.

use super::Error;
use crate::http::h1::{Options, UnderscorePolicy, content_length};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use memchr::memchr_iter;
use std::mem::MaybeUninit;
use std::sync::LazyLock;

/// Most fields of a head.
const MAX_FIELDS: usize = 128;

/// How a response's body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseFraming {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// Until the backend closes.
    UntilClose,
}

/// Where the head ends, if it does: behind its empty line. `searched` remembers what needs no second look.
pub(super) fn end(input: &[u8], searched: &mut usize) -> Option<usize> {
    for found in memchr_iter(b'\n', input.get(*searched..).unwrap_or_default()) {
        let next = *searched + found + 1;
        match input.get(next..).unwrap_or_default() {
            [b'\n', ..] => return Some(next + 1),
            [b'\r', b'\n', ..] => return Some(next + 2),
            _ => {}
        }
    }
    // The last line end may turn out to be the one before the empty line.
    *searched = input.len().saturating_sub(3);
    None
}

/// Reads one whole head.
pub(super) fn parse(bytes: &Bytes) -> Result<http::response::Parts, Error> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Error::Malformed("its head is not well formed")),
        Err(httparse::Error::TooManyHeaders) => return Err(Error::Malformed("its head has too many fields")),
        Err(_) => return Err(Error::Malformed("its head is not well formed")),
    }
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = status.ok_or(Error::Malformed("its status is not one of HTTP"))?;
    parts.version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    parts.headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(Error::Malformed("a field is not well formed")) };
        parts.headers.try_append(name, value).map_err(|_| Error::Malformed("its head has too many fields"))?;
    }
    Ok(parts)
}

impl ResponseFraming {
    /// What a head says (RFC 9112 section 6.3).
    pub(super) fn of(parts: &http::response::Parts, is_head: bool) -> Result<Self, Error> {
        let coded = parts.headers.get(TRANSFER_ENCODING);
        let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
        let length = lengths.next();
        if coded.is_some() && length.is_some() {
            return Err(Error::Malformed("it has both Content-Length and Transfer-Encoding"));
        }
        if lengths.next().is_some() {
            return Err(Error::Malformed("it has more than one Content-Length"));
        }
        let length = length.map(|length| {
            content_length(length.as_bytes()).ok_or(Error::Malformed("its Content-Length is not a number"))
        });
        let length = length.transpose()?;
        let status = parts.status;
        if is_head || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(Self::None);
        }
        match (coded, length) {
            (Some(_), _) if parts.version == Version::HTTP_10 => {
                Err(Error::Malformed("it is of HTTP/1.0 and has a Transfer-Encoding"))
            }
            (Some(coding), _) if !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => {
                Err(Error::Malformed("its Transfer-Encoding is not known"))
            }
            (Some(_), _) if parts.headers.get_all(TRANSFER_ENCODING).iter().nth(1).is_some() => {
                Err(Error::Malformed("it has more than one Transfer-Encoding"))
            }
            (Some(_), _) => Ok(Self::Chunked),
            (None, Some(length)) => Ok(Self::Length(length)),
            (None, None) => Ok(Self::UntilClose),
        }
    }
}

/// Whether the backend lets the connection live on (RFC 9112 section 9.3).
pub(super) fn keeps_alive(parts: &http::response::Parts) -> bool {
    let says = |option: &str| {
        let fields = parts.headers.get_all(CONNECTION).iter();
        fields
            .flat_map(|field| field.as_bytes().split(|byte| *byte == b','))
            .any(|element| element.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    };
    !says("close") && (parts.version == Version::HTTP_11 || says("keep-alive"))
}

/// What a trailer section may be.
pub(super) fn trailer_limits() -> &'static Options {
    static LIMITS: LazyLock<Options> =
        LazyLock::new(|| Options { underscores: UnderscorePolicy::Allow, ..Options::default() });
    &LIMITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_that_a_backend_says_panics(
            start in prop_oneof![Just(""), Just("HTTP/1.1 200 OK\r\n"), Just("HTTP/1.1 200 OK\r\ncontent-length:")],
            rest in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b':')], 0..100),
            cut in 0usize..100,
        ) {
            let bytes = Bytes::from([start.as_bytes(), &rest].concat());
            let whole = end(&bytes, &mut 0);
            let mut searched = 0;
            let first = end(&bytes[..cut.min(bytes.len())], &mut searched);
            prop_assert_eq!(first.or_else(|| end(&bytes, &mut searched)), whole, "cut at {}", cut);
            if let Some(whole) = whole
                && let Ok(parts) = parse(&bytes.slice(..whole))
            {
                let _ = ResponseFraming::of(&parts, false);
                let _ = keeps_alive(&parts);
            }
        }
    }

    fn parsed(text: &str) -> Result<http::response::Parts, Error> {
        parse(&Bytes::copy_from_slice(text.as_bytes()))
    }

    fn framing(text: &str, is_head: bool) -> Result<ResponseFraming, String> {
        let parts = parsed(text).map_err(|error| error.to_string())?;
        ResponseFraming::of(&parts, is_head).map_err(|error| error.to_string())
    }

    #[test]
    fn ends_are_found_wherever_the_bytes_are_cut() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\nbody", Some(19)),
            ("HTTP/1.1 200 OK\na: b\n\nbody", Some(22)),
            ("HTTP/1.1 200 OK\r\na: b\r\n", None),
            ("HTTP/1.1 200 OK\r\na: b\r\n\r", None),
            ("", None),
        ] {
            assert_eq!(end(text.as_bytes(), &mut 0), expected, "{text:?}");
            let mut searched = 0;
            let found = (0..=text.len()).find_map(|length| end(&text.as_bytes()[..length], &mut searched));
            assert_eq!(found, expected, "byte by byte: {text:?}");
        }
    }

    #[test]
    fn framings() {
        use ResponseFraming::{Chunked, Length, None as Nothing, UntilClose};
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5", Some(Length(5))),
            ("HTTP/1.1 200\r\nContent-Length: 0", Some(Length(0))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked", Some(Chunked)),
            ("HTTP/1.1 200 OK\r\nServer: x", Some(UntilClose)),
            ("HTTP/1.0 200 OK\r\nServer: x", Some(UntilClose)),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 5", Some(Nothing)),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5", Some(Nothing)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5", None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked", None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", None),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", None),
        ] {
            let found = framing(&format!("{head}\r\n\r\n"), false);
            assert_eq!(found.as_ref().ok(), expected.as_ref(), "{head:?}: {found:?}");
        }
        assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true), Ok(Nothing), "answer to HEAD");
    }

    #[test]
    fn heads_that_are_not_well_formed() {
        for text in [
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert!(parsed(text).is_err(), "{text:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        assert!(parsed(&many).is_err());
    }

    #[test]
    fn who_lets_the_connection_live_on() {
        for (head, alive) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n\r\n", false),
        ] {
            assert_eq!(keeps_alive(&parsed(head).unwrap()), alive, "{head:?}");
        }
    }
}
