//! The request head: from bytes to a checked [`Head`], or to the reason why not. Pure, without I/O.
//!
//! In: the connection's read buffer, again after each read; what was scanned is not scanned again. Out: [`Head`], whose
//! header values are slices of the buffer, with everything that concerns one connection alone (Connection and what it names,
//! Transfer-Encoding, Expect, TE) taken out and turned into facts. Nothing is repaired: what RFC 9112 lets a recipient mend
//! is refused, for whoever reads the message next may mend it differently.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri, Version};
use memchr::memchr;
use smallvec::SmallVec;
use std::net::Ipv6Addr;
use std::ops::Range;

use super::options::{Options, UnderscorePolicy};
use super::refusal::Refusal;

/// A request head that is unambiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The method, any token but CONNECT.
    pub method: Method,
    /// Scheme of the listener, authority as in Host, path and query as sent (`*` for OPTIONS).
    pub uri: Uri,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The end-to-end fields, in order, as sent.
    pub headers: HeaderMap,
    /// How the body is framed.
    pub body: BodyFraming,
    /// Whether the client lets the connection live on.
    pub keep_alive: bool,
    /// Whether the client waits for 100 (Continue).
    pub expect_continue: bool,
    /// Whether the client asks for the protocol that the Upgrade field names.
    pub upgrade: bool,
    /// How many fields were dropped for an underscore in their name.
    pub dropped_fields: u32,
    /// Size of the head in bytes, with an empty line before it and the one that ends it.
    pub size: usize,
}

/// How a request's body is framed (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body, or one of length 0.
    None,
    /// This many bytes, more than 0.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
}

/// Reads one head. To be thrown away after a head or a refusal.
#[derive(Debug, Default)]
pub struct HeadParser {
    lines: LineScanner,
    request_line: Option<RequestLine>,
    fields: FieldSpans,
    skipped_empty_line: bool,
    refused: Option<Bytes>,
}

impl HeadParser {
    /// Looks at what arrived. `Ok(None)` asks for more bytes; with a head, its bytes are taken out of `buffer`.
    ///
    /// An empty line before the request line is taken out of the buffer at once, so that a buffer that is still empty
    /// means that no request has begun.
    pub fn parse(&mut self, buffer: &mut BytesMut, options: &Options) -> Result<Option<Head>, Refusal> {
        if self.request_line.is_none() && !self.begin(buffer)? {
            return Ok(None);
        }
        let limits = LineLimits {
            line: options.max_line_bytes,
            section: options.max_head_bytes,
            section_too_large: Refusal::HeadTooLarge,
        };
        loop {
            let line_too_long = match self.request_line {
                None => Refusal::TargetTooLong,
                Some(_) => Refusal::HeaderLineTooLong,
            };
            let Some(line) = self.lines.next(buffer, limits, line_too_long)? else {
                return Ok(None);
            };
            if self.request_line.is_none() {
                self.request_line =
                    Some(RequestLine::parse(buffer, line).map_err(|refusal| or_bare_cr(buffer, refusal))?);
            } else if line.is_empty() {
                break;
            } else {
                if self.fields.len() == options.max_fields {
                    return Err(Refusal::TooManyFields);
                }
                self.fields.push(FieldSpan::parse(buffer, line)?);
            }
        }
        self.finish(buffer, options).map(Some)
    }

    /// Skips one empty line, and says whether there is anything to parse.
    fn begin(&mut self, buffer: &mut BytesMut) -> Result<bool, Refusal> {
        match buffer.first() {
            Some(b'\r') if self.skipped_empty_line => return Err(Refusal::EmptyLines),
            Some(b'\r') if buffer.len() == 1 => return Ok(false),
            Some(b'\r') if buffer[1] == b'\n' => {
                buffer.advance(2);
                self.skipped_empty_line = true;
            }
            Some(b'\r') => return Err(Refusal::BareCr),
            _ => {}
        }
        match buffer.first() {
            None => Ok(false),
            Some(b'\r') => Err(Refusal::EmptyLines),
            Some(b'\n') => Err(Refusal::BareLf),
            Some(0x16) => Err(Refusal::TlsOnPlainPort),
            Some(byte) if !is_token(*byte) => Err(Refusal::InvalidMethod),
            Some(_) => Ok(true),
        }
    }

    fn finish(&mut self, buffer: &mut BytesMut, options: &Options) -> Result<Head, Refusal> {
        let Some(line) = self.request_line.take() else {
            return Err(Refusal::InvalidRequestLine);
        };
        let size = self.lines.position();
        let bytes = buffer.split_to(size).freeze();
        self.build(&bytes, &line, options).inspect_err(|_| self.refused = Some(bytes.clone()))
    }

    /// The head that was refused, if it was complete and so is no longer in the buffer.
    pub(super) fn take_refused(&mut self) -> Option<Bytes> {
        self.refused.take()
    }

    fn build(&self, bytes: &Bytes, line: &RequestLine, options: &Options) -> Result<Head, Refusal> {
        let method = Method::from_bytes(&bytes[line.method.clone()]).map_err(|_| Refusal::InvalidMethod)?;
        let mut fields = Fields::default();
        let mut headers = HeaderMap::with_capacity(self.fields.len());
        for span in &self.fields {
            fields.add(bytes, span, &mut headers, options.underscores)?;
        }
        let facts = fields.check(&method, line.version, &mut headers)?;
        let uri = target(bytes, line, &method, facts.host, options)?;
        Ok(Head {
            method,
            uri,
            version: line.version,
            headers,
            body: facts.body,
            keep_alive: facts.keep_alive,
            expect_continue: facts.expect_continue,
            upgrade: facts.upgrade,
            dropped_fields: facts.dropped,
            size: bytes.len() + if self.skipped_empty_line { 2 } else { 0 },
        })
    }
}

fn or_bare_cr(line: &[u8], refusal: Refusal) -> Refusal {
    // Everything that holds a carriage return is refused; this only gives it its right name.
    let end = memchr(b'\n', line).map_or(line.len(), |end| end.saturating_sub(1));
    if memchr(b'\r', &line[..end]).is_some() { Refusal::BareCr } else { refusal }
}

/// Finds lines that end with CR LF, each byte looked at once.
#[derive(Debug, Default)]
pub(super) struct LineScanner {
    line_start: usize,
    scanned: usize,
}

/// How long a line, and a section of lines, may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineLimits {
    /// Bytes of a line without its end.
    pub(super) line: usize,
    /// Bytes of all lines, with their ends.
    pub(super) section: usize,
    /// What a section that is longer is refused with.
    pub(super) section_too_large: Refusal,
}

impl LineScanner {
    /// The next line without its end, or `None` if it isn't complete yet.
    pub(super) fn next(
        &mut self,
        buffer: &[u8],
        limits: LineLimits,
        line_too_long: Refusal,
    ) -> Result<Option<Range<usize>>, Refusal> {
        let line_end = self.line_start.saturating_add(limits.line).saturating_add(2);
        let (window, too_long) = if line_end < limits.section {
            (line_end, line_too_long)
        } else {
            (limits.section, limits.section_too_large)
        };
        let end = buffer.len().min(window);
        let rest = buffer.get(self.scanned..end).unwrap_or_default();
        let Some(found) = memchr(b'\n', rest) else {
            self.scanned = end;
            return if end == window { Err(too_long) } else { Ok(None) };
        };
        let line_feed = self.scanned + found;
        if line_feed == self.line_start || buffer[line_feed - 1] != b'\r' {
            return Err(Refusal::BareLf);
        }
        let line = self.line_start..line_feed - 1;
        self.line_start = line_feed + 1;
        self.scanned = line_feed + 1;
        Ok(Some(line))
    }

    /// Where the next line begins.
    pub(super) fn position(&self) -> usize {
        self.line_start
    }
}

/// Where the parts of a request line are.
#[derive(Debug)]
struct RequestLine {
    method: Range<usize>,
    target: Range<usize>,
    version: Version,
}

impl RequestLine {
    fn parse(buffer: &[u8], line: Range<usize>) -> Result<Self, Refusal> {
        let bytes = &buffer[line.clone()];
        let method_end = bytes.iter().position(|byte| !is_token(*byte)).ok_or(Refusal::InvalidRequestLine)?;
        if method_end == 0 || bytes[method_end] != b' ' {
            return Err(Refusal::InvalidMethod);
        }
        let target_start = method_end + 1;
        let target_length = memchr(b' ', &bytes[target_start..]).ok_or(Refusal::InvalidRequestLine)?;
        if target_length == 0 {
            return Err(Refusal::InvalidRequestLine);
        }
        let target_end = target_start + target_length;
        let version = match &bytes[target_end + 1..] {
            b"HTTP/1.1" => Version::HTTP_11,
            b"HTTP/1.0" => Version::HTTP_10,
            other => return Err(other_version(other)),
        };
        if !bytes[target_start..target_end].iter().all(|byte| is_target(*byte)) {
            return Err(Refusal::InvalidTarget);
        }
        let start = line.start;
        Ok(Self { method: start..start + method_end, target: start + target_start..start + target_end, version })
    }
}

fn other_version(bytes: &[u8]) -> Refusal {
    match bytes {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Refusal::UnsupportedVersion
        }
        _ if bytes.contains(&b' ') || bytes.contains(&b'\t') || bytes.is_empty() => Refusal::InvalidRequestLine,
        _ => Refusal::InvalidVersion,
    }
}

/// Where the parts of a field line are, the value without the space around it.
#[derive(Debug, Clone)]
pub(super) struct FieldSpan {
    name: Range<u32>,
    value: Range<u32>,
}

/// The field lines of a section.
pub(super) type FieldSpans = SmallVec<[FieldSpan; 16]>;

impl FieldSpan {
    /// Checks the name and finds the value; whether the value's bytes are allowed is checked when it is taken out.
    pub(super) fn parse(buffer: &[u8], line: Range<usize>) -> Result<Self, Refusal> {
        let bytes = &buffer[line.clone()];
        if matches!(bytes.first(), Some(b' ' | b'\t')) {
            return Err(Refusal::ObsFold);
        }
        let name_end = bytes.iter().position(|byte| !is_token(*byte));
        let name_end = match name_end {
            Some(end) if end > 0 && bytes[end] == b':' => end,
            _ if memchr(b'\r', bytes).is_some() => return Err(Refusal::BareCr),
            Some(end) if end > 0 && matches!(bytes[end], b' ' | b'\t') => return Err(Refusal::SpaceBeforeColon),
            _ => return Err(Refusal::InvalidHeaderName),
        };
        let value = trim(bytes, name_end + 1..bytes.len());
        let at = |offset: usize| (line.start + offset) as u32;
        Ok(Self { name: at(0)..at(name_end), value: at(value.start)..at(value.end) })
    }

    pub(super) fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.name.start as usize..self.name.end as usize]
    }

    pub(super) fn value(&self, bytes: &Bytes) -> Result<HeaderValue, Refusal> {
        let value = bytes.slice(self.value.start as usize..self.value.end as usize);
        let has_cr = |value: &[u8]| memchr(b'\r', value).is_some();
        HeaderValue::from_maybe_shared(value.clone())
            .map_err(|_| if has_cr(&value) { Refusal::BareCr } else { Refusal::InvalidHeaderValue })
    }
}

fn trim(bytes: &[u8], mut range: Range<usize>) -> Range<usize> {
    while range.start < range.end && matches!(bytes[range.start], b' ' | b'\t') {
        range.start += 1;
    }
    while range.start < range.end && matches!(bytes[range.end - 1], b' ' | b'\t') {
        range.end -= 1;
    }
    range
}

/// What the fields that concern the message itself said, while they are read.
#[derive(Debug, Default)]
struct Fields {
    host: Option<HeaderValue>,
    content_length: Option<u64>,
    transfer_encoding: Option<HeaderValue>,
    duplicate_transfer_encoding: bool,
    connection: SmallVec<[HeaderValue; 1]>,
    expect: Option<HeaderValue>,
    duplicate_expect: bool,
    upgrade: Option<HeaderValue>,
    trailers_accepted: bool,
    dropped: u32,
}

/// What they come to.
struct Facts {
    host: HeaderValue,
    body: BodyFraming,
    keep_alive: bool,
    expect_continue: bool,
    upgrade: bool,
    dropped: u32,
}

impl Fields {
    fn add(
        &mut self,
        bytes: &Bytes,
        span: &FieldSpan,
        headers: &mut HeaderMap,
        underscores: UnderscorePolicy,
    ) -> Result<(), Refusal> {
        let value = span.value(bytes)?;
        let name = span.name(bytes);
        if memchr(b'_', name).is_some() {
            match underscores {
                UnderscorePolicy::Allow => {}
                UnderscorePolicy::Refuse => return Err(Refusal::UnderscoreInHeaderName),
                UnderscorePolicy::Drop => {
                    self.dropped += 1;
                    return Ok(());
                }
            }
        }
        let name = HeaderName::from_bytes(name).map_err(|_| Refusal::InvalidHeaderName)?;
        if self.absorb(&name, &value)? {
            return Ok(());
        }
        headers.try_append(name, value).map_err(|_| Refusal::TooManyFields)?;
        Ok(())
    }

    /// Notes what a field says about the message. Whether it ends here, so that it doesn't go further.
    fn absorb(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, Refusal> {
        if name == header::HOST {
            if self.host.replace(value.clone()).is_some() {
                return Err(Refusal::DuplicateHost);
            }
            return Ok(false);
        }
        if name == header::CONTENT_LENGTH {
            let length = content_length(value.as_bytes()).ok_or(Refusal::InvalidContentLength)?;
            if self.content_length.replace(length).is_some() {
                return Err(Refusal::DuplicateContentLength);
            }
            return Ok(false);
        }
        if name == header::TRANSFER_ENCODING {
            self.duplicate_transfer_encoding |= self.transfer_encoding.replace(value.clone()).is_some();
        } else if name == header::CONNECTION {
            self.connection.push(value.clone());
        } else if name == header::EXPECT {
            self.duplicate_expect |= self.expect.replace(value.clone()).is_some();
        } else if name == header::UPGRADE {
            if self.upgrade.replace(value.clone()).is_some() {
                return Err(Refusal::InvalidUpgrade);
            }
        } else if name == header::TE {
            self.trailers_accepted |=
                elements(value.as_bytes()).any(|element| element.eq_ignore_ascii_case(b"trailers"));
        } else {
            return Ok(name == "keep-alive" || name == "proxy-connection" || name == "http2-settings");
        }
        Ok(true)
    }

    fn check(self, method: &Method, version: Version, headers: &mut HeaderMap) -> Result<Facts, Refusal> {
        if method == Method::CONNECT {
            return Err(Refusal::ConnectNotSupported);
        }
        let Some(host) = self.host.clone() else {
            return Err(Refusal::MissingHost);
        };
        if !is_authority(host.as_bytes()) {
            return Err(Refusal::InvalidHost);
        }
        let body = self.framing(version)?;
        let options = self.connection_options(headers)?;
        let keep_alive = !options.close && (version == Version::HTTP_11 || options.keep_alive);
        if method == Method::TRACE && body != BodyFraming::None {
            return Err(Refusal::TraceWithBody);
        }
        let upgrade = version == Version::HTTP_11 && options.upgrade && self.has_upgrade()?;
        if upgrade && body != BodyFraming::None {
            return Err(Refusal::UpgradeWithBody);
        }
        if let (true, Some(protocols)) = (upgrade, self.upgrade.clone()) {
            headers.insert(header::UPGRADE, protocols);
        }
        if self.trailers_accepted {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let expect_continue = self.expectation(version)? && body != BodyFraming::None;
        Ok(Facts { host, body, keep_alive, expect_continue, upgrade, dropped: self.dropped })
    }

    fn framing(&self, version: Version) -> Result<BodyFraming, Refusal> {
        let Some(coding) = &self.transfer_encoding else {
            return Ok(match self.content_length {
                None | Some(0) => BodyFraming::None,
                Some(length) => BodyFraming::Length(length),
            });
        };
        if self.content_length.is_some() {
            return Err(Refusal::LengthAndTransferEncoding);
        }
        if version == Version::HTTP_10 {
            return Err(Refusal::TransferEncodingInHttp10);
        }
        if self.duplicate_transfer_encoding {
            return Err(Refusal::DuplicateTransferEncoding);
        }
        if coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Ok(BodyFraming::Chunked);
        }
        let mut all_chunked = true;
        for element in coding.as_bytes().split(|byte| *byte == b',') {
            let element = &element[trim(element, 0..element.len())];
            if element.is_empty() || !element.iter().all(|byte| is_token(*byte)) {
                return Err(Refusal::InvalidTransferEncoding);
            }
            all_chunked &= element.eq_ignore_ascii_case(b"chunked");
        }
        Err(if all_chunked { Refusal::DuplicateTransferEncoding } else { Refusal::UnsupportedTransferCoding })
    }

    /// Reads the Connection options, and takes the fields that they name out of `headers` (RFC 9110 section 7.6.1).
    fn connection_options(&self, headers: &mut HeaderMap) -> Result<ConnectionOptions, Refusal> {
        let mut options = ConnectionOptions::default();
        for element in self.connection.iter().flat_map(|value| elements(value.as_bytes())) {
            if element.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if element.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if element.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else {
                let name = HeaderName::from_bytes(element).map_err(|_| Refusal::InvalidConnection)?;
                if is_for_the_recipient(&name) {
                    return Err(Refusal::ForbiddenConnectionOption);
                }
                headers.remove(&name);
            }
        }
        Ok(options)
    }

    /// Whether the Upgrade field names protocols that can be passed on. HTTP/2 never is: who speaks it says so with its
    /// preface or in the TLS handshake, and a backend that agreed to it would be out of sight from then on.
    fn has_upgrade(&self) -> Result<bool, Refusal> {
        let Some(protocols) = &self.upgrade else {
            return Ok(false);
        };
        let mut some = false;
        for protocol in elements(protocols.as_bytes()) {
            let mut parts = protocol.splitn(2, |byte| *byte == b'/');
            let is_valid = |part: &[u8]| !part.is_empty() && part.iter().all(|byte| is_token(*byte));
            if !parts.all(is_valid) {
                return Err(Refusal::InvalidUpgrade);
            }
            if is_http2(protocol) {
                return Ok(false);
            }
            some = true;
        }
        if some { Ok(true) } else { Err(Refusal::InvalidUpgrade) }
    }

    fn expectation(&self, version: Version) -> Result<bool, Refusal> {
        match &self.expect {
            Some(_) if version == Version::HTTP_10 => Ok(false),
            Some(_) if self.duplicate_expect => Err(Refusal::UnsupportedExpectation),
            Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
            Some(_) => Err(Refusal::UnsupportedExpectation),
            None => Ok(false),
        }
    }
}

#[derive(Default)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

/// The elements of a comma-separated list, without the empty ones that RFC 9110 section 5.6.1 has a recipient ignore.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(|element| &element[trim(element, 0..element.len())])
        .filter(|element| !element.is_empty())
}

fn is_http2(protocol: &[u8]) -> bool {
    let is_prefix =
        |prefix: &[u8]| protocol.len() >= prefix.len() && protocol[..prefix.len()].eq_ignore_ascii_case(prefix);
    is_prefix(b"h2") || is_prefix(b"http/") || protocol.eq_ignore_ascii_case(b"http") || is_prefix(b"tls/")
}

/// Fields that speak to the recipient: a client that has them treated as the connection's own wants them to vanish on the
/// way (RFC 9110 section 7.6.1 forbids it to the sender).
fn is_for_the_recipient(name: &HeaderName) -> bool {
    const NAMES: &[&str] = &[
        "accept",
        "age",
        "authorization",
        "cache-control",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "host",
        "max-forwards",
        "origin",
        "proxy-authorization",
        "range",
        "referer",
        "transfer-encoding",
        "user-agent",
        "via",
    ];
    const PREFIXES: &[&str] = &["access-control-", "content-", "if-", "sec-", "x-forwarded-", "x-real-", "x-request-"];
    NAMES.contains(&name.as_str()) || PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// RFC 9110 section 8.6, no more than the digits, no more than 2^63-1.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    let length = value.iter().try_fold(0u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })?;
    (length <= i64::MAX as u64).then_some(length)
}

/// The request target (RFC 9112 section 3.2) together with the Host field.
fn target(
    bytes: &Bytes,
    line: &RequestLine,
    method: &Method,
    host: HeaderValue,
    options: &Options,
) -> Result<Uri, Refusal> {
    let target = bytes.slice(line.target.clone());
    let path = match target.first() {
        Some(b'/') => target,
        Some(b'*') if target.len() == 1 && method == Method::OPTIONS => target,
        _ => absolute_form(&target, method, &host, &options.scheme)?,
    };
    let authority = Authority::try_from(host.as_bytes()).map_err(|_| Refusal::InvalidHost)?;
    let path = PathAndQuery::from_maybe_shared(path).map_err(|_| Refusal::InvalidTarget)?;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(options.scheme.clone());
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| Refusal::InvalidTarget)
}

/// Path and query of an absolute target, whose scheme must be the listener's and whose authority the Host's.
fn absolute_form(target: &Bytes, method: &Method, host: &HeaderValue, scheme: &Scheme) -> Result<Bytes, Refusal> {
    let start = scheme.as_str().len();
    let is_scheme = target.get(..start).is_some_and(|text| text.eq_ignore_ascii_case(scheme.as_str().as_bytes()));
    if !is_scheme || target.get(start..start + 3) != Some(b"://") {
        return Err(Refusal::InvalidTarget);
    }
    let rest = target.slice(start + 3..);
    let authority_end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    if !is_authority(&rest[..authority_end]) {
        return Err(Refusal::InvalidTarget);
    }
    if !rest[..authority_end].eq_ignore_ascii_case(host.as_bytes()) {
        return Err(Refusal::HostMismatch);
    }
    let path = rest.slice(authority_end..);
    Ok(match path.first() {
        Some(b'/') => path,
        Some(_) => [b"/", &path[..]].concat().into(),
        None if method == Method::OPTIONS => Bytes::from_static(b"*"),
        None => Bytes::from_static(b"/"),
    })
}

/// A host name or address, and a port or none: what a Host field may hold.
///
/// Host names are of letters, digits, hyphens, underscores and points; RFC 3986 allows more, DNS does not. No user
/// information, no percent-encoding, no zone, no empty port, no port 0 or with zeros in front.
pub(in crate::http) fn is_authority(bytes: &[u8]) -> bool {
    if let Some(rest) = bytes.strip_prefix(b"[") {
        let Some(end) = memchr(b']', rest) else {
            return false;
        };
        let address = std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
        return address.is_some() && (rest.len() == end + 1 || is_port(&rest[end + 1..]));
    }
    let (name, port) = match memchr(b':', bytes) {
        Some(colon) => bytes.split_at(colon),
        None => (bytes, &b""[..]),
    };
    is_host_name(name) && (port.is_empty() || is_port(port))
}

fn is_host_name(name: &[u8]) -> bool {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let is_label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split(|byte| *byte == b'.').all(is_label)
}

/// With the colon before it.
fn is_port(port: &[u8]) -> bool {
    let Some(digits) = port.strip_prefix(b":") else {
        return false;
    };
    (1..=5).contains(&digits.len())
        && digits[0] != b'0'
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0u32, |number, digit| number * 10 + u32::from(digit - b'0')) <= 65_535
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;

const BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let mut class = 0;
        if (byte as u8).is_ascii_alphanumeric()
            || matches!(
                byte as u8,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            )
        {
            class |= TOKEN;
        }
        // What RFC 3986 allows, and what browsers leave as it is (`[ ] \ ^ ` { | }`), but nothing that ends a target elsewhere.
        if !matches!(byte as u8, b'"' | b'#' | b'<' | b'>') {
            class |= TARGET;
        }
        table[byte] = class;
        byte += 1;
    }
    table
};

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    BYTES[byte as usize] & TOKEN != 0
}

pub(in crate::http) fn is_target(byte: u8) -> bool {
    BYTES[byte as usize] & TARGET != 0
}
