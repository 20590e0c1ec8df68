//! The normal form of a path: what is matched, logged and forwarded is this one string.
//!
//! What flows in: the path of a request target, without its query, or a path that a route gives. What flows out: its
//! normal form, borrowed when the path already has it, or the reason why it has none.
//!
//! - Percent-encoded unreserved characters (RFC 3986 2.3) are decoded; the other encodings get upper-case digits.
//!   Characters that RFC 3986 does not allow in a path but that clients send (`"<>[]^{|}` and the backtick) are encoded.
//! - Then repeated slashes are merged, and dot segments resolved as file systems do: `/a//../b` is `/b`.
//! - Refused: `..` above the root, backslashes, control characters (encoded ones too), bytes that are not ASCII, broken
//!   encodings; `%2F` and `%5C` stay data, but not where decoding them would make a dot segment; dot segments with
//!   parameters (`..;x`, `.;`, `..%3Bx`), which some servers resolve and others do not.
//!
//! A server that decodes the normal form once therefore sees the same segments as this gateway did.

use std::borrow::Cow;
use std::fmt;

/// Why a path has no normal form. Each is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathRefusal {
    /// It does not begin with a slash.
    NotAbsolute,
    /// A `%` that is not followed by two hexadecimal digits.
    BrokenEncoding,
    /// A control character, plain or encoded; NUL among them.
    ControlCharacter,
    /// A byte outside of ASCII that is not percent-encoded.
    NonAscii,
    /// A backslash.
    Backslash,
    /// A space, `#` or `?`: none of them can be in a path.
    InvalidCharacter,
    /// `..` above the root.
    AboveRoot,
    /// An encoded slash or backslash that would make a dot segment when decoded.
    HiddenDotSegment,
    /// A dot segment with parameters, such as `..;x`.
    DotSegmentParameters,
}

impl PathRefusal {
    /// Every refusal.
    pub const ALL: [Self; 9] = [
        Self::NotAbsolute,
        Self::BrokenEncoding,
        Self::ControlCharacter,
        Self::NonAscii,
        Self::Backslash,
        Self::InvalidCharacter,
        Self::AboveRoot,
        Self::HiddenDotSegment,
        Self::DotSegmentParameters,
    ];

    /// The stable text for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAbsolute => "PathNotAbsolute",
            Self::BrokenEncoding => "PathBrokenEncoding",
            Self::ControlCharacter => "PathControlCharacter",
            Self::NonAscii => "PathNonAscii",
            Self::Backslash => "PathBackslash",
            Self::InvalidCharacter => "PathInvalidCharacter",
            Self::AboveRoot => "PathAboveRoot",
            Self::HiddenDotSegment => "PathHiddenDotSegment",
            Self::DotSegmentParameters => "PathDotSegmentParameters",
        }
    }
}

/// A path in normal form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NormalPath(Box<str>);

impl NormalPath {
    /// Brings a path into normal form.
    pub fn new(raw: &str) -> Result<Self, PathRefusal> {
        normalize(raw).map(Self::from_normalized)
    }

    /// Keeps what [`normalize`] returned.
    pub(crate) fn from_normalized(path: Cow<'_, str>) -> Self {
        Self(path.into())
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NormalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NormalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Brings a path (without its query) into normal form. `*`, the target of a server-wide OPTIONS, stays as it is.
///
/// Idempotent. One scan without allocation for a path that is in normal form already.
pub fn normalize(raw: &str) -> Result<Cow<'_, str>, PathRefusal> {
    let bytes = raw.as_bytes();
    if bytes == b"*" || is_normal(bytes) {
        return Ok(Cow::Borrowed(raw));
    }
    let Some(relative) = raw.strip_prefix('/') else { return Err(PathRefusal::NotAbsolute) };
    let mut out = Vec::with_capacity(bytes.len() + 8);
    let mut ends_with_slash = false;
    for segment in relative.as_bytes().split(|byte| *byte == b'/') {
        let start = out.len();
        out.push(b'/');
        decode_segment(segment, &mut out)?;
        ends_with_slash = match segment_kind(&out[start + 1..])? {
            Segment::Name => false,
            Segment::Empty | Segment::Dot => {
                out.truncate(start);
                true
            }
            Segment::DotDot => {
                out.truncate(start);
                let parent = memchr::memrchr(b'/', &out).ok_or(PathRefusal::AboveRoot)?;
                out.truncate(parent);
                true
            }
        };
    }
    if ends_with_slash {
        out.push(b'/');
    }
    // Every byte written is ASCII.
    String::from_utf8(out).map(Cow::Owned).map_err(|_| PathRefusal::NonAscii)
}

/// Whether nothing has to be done. May say no to a path in normal form, never yes to another.
fn is_normal(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        match CLASS[usize::from(byte)] {
            Class::Plain => {}
            Class::Slash => match path[at + 1..] {
                [] => return true,
                [b'/', ..] => return false,
                [b'.'] | [b'.', b'/' | b'.' | b';' | b'%', ..] => return false,
                _ => {}
            },
            Class::Percent => match path[at + 1..] {
                [high @ (b'0'..=b'9' | b'A'..=b'F'), low @ (b'0'..=b'9' | b'A'..=b'F'), ..]
                    if encoding_is_plain(hex(high) << 4 | hex(low)) =>
                {
                    at += 2;
                }
                _ => return false,
            },
            Class::Encode | Class::Refuse => return false,
        }
        at += 1;
    }
    true
}

/// Whether an encoded byte is data that can neither be decoded nor take part in a dot segment.
fn encoding_is_plain(byte: u8) -> bool {
    !is_unreserved(byte) && !byte.is_ascii_control() && !matches!(byte, b'/' | b'\\' | b';')
}

/// Appends a segment with its encodings in normal form.
fn decode_segment(segment: &[u8], out: &mut Vec<u8>) -> Result<(), PathRefusal> {
    let mut at = 0;
    while let Some(&byte) = segment.get(at) {
        match CLASS[usize::from(byte)] {
            Class::Plain | Class::Slash => out.push(byte),
            Class::Encode => push_encoded(byte, out),
            Class::Refuse => return Err(refusal_of(byte)),
            Class::Percent => {
                let byte = match segment[at + 1..] {
                    [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => hex(high) << 4 | hex(low),
                    _ => return Err(PathRefusal::BrokenEncoding),
                };
                match byte {
                    _ if byte.is_ascii_control() => return Err(PathRefusal::ControlCharacter),
                    _ if is_unreserved(byte) => out.push(byte),
                    _ => push_encoded(byte, out),
                }
                at += 2;
            }
        }
        at += 1;
    }
    Ok(())
}

fn push_encoded(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xF)]]);
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

enum Segment {
    Empty,
    Dot,
    DotDot,
    Name,
}

/// What a decoded segment is, seen by servers that decode `%2F`, `%5C` and `%3B` or cut off parameters.
fn segment_kind(segment: &[u8]) -> Result<Segment, PathRefusal> {
    match segment {
        b"" => return Ok(Segment::Empty),
        b"." => return Ok(Segment::Dot),
        b".." => return Ok(Segment::DotDot),
        _ => {}
    }
    let mut start = 0;
    let mut divided = false;
    loop {
        let rest = &segment[start..];
        let (part, next) = match separator(rest) {
            Some(at) => (&rest[..at], Some(start + at + 3)),
            None => (rest, None),
        };
        divided |= next.is_some();
        if matches!(part, b"." | b"..") && divided {
            return Err(PathRefusal::HiddenDotSegment);
        }
        if let [b'.', b'.', rest @ ..] | [b'.', rest @ ..] = part
            && (rest.starts_with(b";") || rest.starts_with(b"%3B"))
        {
            return Err(PathRefusal::DotSegmentParameters);
        }
        match next {
            Some(next) => start = next,
            None => return Ok(Segment::Name),
        }
    }
}

/// Where the first encoded slash or backslash is.
fn separator(segment: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'%', segment).find(|at| matches!(segment[*at + 1..], [b'2', b'F', ..] | [b'5', b'C', ..]))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn refusal_of(byte: u8) -> PathRefusal {
    match byte {
        b'\\' => PathRefusal::Backslash,
        0x80.. => PathRefusal::NonAscii,
        _ if byte.is_ascii_control() => PathRefusal::ControlCharacter,
        _ => PathRefusal::InvalidCharacter,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// `pchar` of RFC 3986.
    Plain,
    Slash,
    Percent,
    /// To be percent-encoded.
    Encode,
    Refuse,
}

const CLASS: [Class; 256] = {
    let mut table = [Class::Refuse; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => Class::Plain,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' => Class::Plain,
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => Class::Encode,
            _ => Class::Refuse,
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::{PathRefusal, normalize};
    use std::borrow::Cow;

    #[test]
    fn normal_forms() {
        for (raw, normal) in [
            ("/", "/"),
            ("*", "*"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/%41%7e%2D", "/A~-"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%5cb", "/a%5Cb"),
            ("/%252e%252e/", "/%252e%252e/"),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/../c", "/a/c"),
            ("/a//../b", "/b"),
            ("/%2e/a", "/a"),
            ("/a/%2E%2e/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/..a/...", "/..a/..."),
            ("/a;x=1/b", "/a;x=1/b"),
            ("/a..;x", "/a..;x"),
            ("/{id}|[x]", "/%7Bid%7D%7C%5Bx%5D"),
            ("/a:b@c!$&'()*+,;=", "/a:b@c!$&'()*+,;="),
            ("/%21", "/%21"),
        ] {
            assert_eq!(normalize(raw).as_deref(), Ok(normal), "{raw}");
        }
    }

    #[test]
    fn refusals() {
        use PathRefusal::*;
        for (raw, refusal) in [
            ("", NotAbsolute),
            ("a", NotAbsolute),
            ("*a", NotAbsolute),
            ("http://a/", NotAbsolute),
            ("/%", BrokenEncoding),
            ("/%4", BrokenEncoding),
            ("/%4g", BrokenEncoding),
            ("/%/a", BrokenEncoding),
            ("/%4/1", BrokenEncoding),
            ("/\0", ControlCharacter),
            ("/a\tb", ControlCharacter),
            ("/%00", ControlCharacter),
            ("/a%0d%0ab", ControlCharacter),
            ("/%7f", ControlCharacter),
            ("/é", NonAscii),
            ("/a\\b", Backslash),
            ("/..\\", Backslash),
            ("/a b", InvalidCharacter),
            ("/a#b", InvalidCharacter),
            ("/a?b", InvalidCharacter),
            ("/..", AboveRoot),
            ("/../", AboveRoot),
            ("/a/../..", AboveRoot),
            ("//..", AboveRoot),
            ("/%2e%2e", AboveRoot),
            ("/a/..%2f", HiddenDotSegment),
            ("/a/..%2Fb", HiddenDotSegment),
            ("/a/b%2f..", HiddenDotSegment),
            ("/a/b%2f..%2fc", HiddenDotSegment),
            ("/a/%2e%2e%5cb", HiddenDotSegment),
            ("/a/.%5c", HiddenDotSegment),
            ("/a/..;", DotSegmentParameters),
            ("/a/..;x/b", DotSegmentParameters),
            ("/a/.;x", DotSegmentParameters),
            ("/a/%2e%2e;x", DotSegmentParameters),
            ("/a/..%3bx", DotSegmentParameters),
            ("/a/b%2f..;x", DotSegmentParameters),
        ] {
            assert_eq!(normalize(raw), Err(refusal), "{raw}");
        }
    }

    #[test]
    fn a_normal_path_is_borrowed() {
        for raw in ["/", "/a/b/", "/.well-known/acme", "/a%20b%C3%A9", "/a;b=c", "*"] {
            assert!(matches!(normalize(raw), Ok(Cow::Borrowed(_))), "{raw}");
        }
    }
}
