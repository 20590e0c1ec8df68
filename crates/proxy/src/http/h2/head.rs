//! The request head of HTTP/2: what the `h2` crate leaves to be checked. Pure, without I/O.
//!
//! `h2` has refused names in upper case, names and values with bytes that no field may have, connection-specific fields and
//! pseudo-fields that are missing, twice or out of place (RFC 9113 section 8.2). In flows what it let through; out flows the
//! same shape of head that HTTP/1.1 gives, or the same [`Refusal`].

use crate::http::h1::{self, DroppedFields, Refusal, UnderscorePolicy, content_length, is_authority, is_target};
use crate::http::scheme;
use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Method, Uri};

/// The limits of a head.
#[derive(Clone, Copy)]
pub(super) struct HeadLimits {
    /// Fields, each crumb of a Cookie counted.
    pub(super) fields: usize,
    /// What becomes of underscores.
    pub(super) underscores: UnderscorePolicy,
}

/// Checks a head and brings it into shape: the URI is absolute with the connection's scheme, Host says the same as its
/// authority, a Cookie is one field (RFC 9113 section 8.2.3), Expect ends here.
pub(super) fn check(parts: &mut Parts, has_body: bool, tls: bool, limits: HeadLimits) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::ConnectNotSupported);
    }
    if parts.headers.len() > limits.fields {
        return Err(Refusal::TooManyFields);
    }
    if parts.method == Method::TRACE && has_body {
        return Err(Refusal::TraceWithBody);
    }
    let authority = authority(parts)?;
    let target = target(parts)?;
    check_values(&parts.headers)?;
    check_length(&parts.headers)?;
    check_expectation(&mut parts.headers)?;
    let dropped = drop_underscores(&mut parts.headers, limits.underscores)?;
    if dropped > 0 {
        parts.extensions.insert(DroppedFields(dropped));
    }
    join_cookies(&mut parts.headers)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::InvalidHost)?;
    parts.headers.insert(HOST, host);
    let uri = Uri::builder().scheme(scheme(tls)).authority(authority).path_and_query(target);
    parts.uri = uri.build().map_err(|_| Refusal::InvalidTarget)?;
    Ok(())
}

/// `:authority`, or Host, or both when they say the same.
fn authority(parts: &Parts) -> Result<Authority, Refusal> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::DuplicateHost);
    }
    let authority = match (parts.uri.authority(), host) {
        (None, None) => return Err(Refusal::MissingHost),
        (Some(authority), None) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes()).map_err(|_| Refusal::InvalidHost)?,
        (Some(authority), Some(host)) if host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            authority.clone()
        }
        (Some(_), Some(_)) => return Err(Refusal::HostMismatch),
    };
    if is_authority(authority.as_str().as_bytes()) { Ok(authority) } else { Err(Refusal::InvalidHost) }
}

fn target(parts: &Parts) -> Result<PathAndQuery, Refusal> {
    let target = parts.uri.path_and_query().ok_or(Refusal::InvalidTarget)?;
    let is_allowed = match target.as_str() {
        "*" => parts.method == Method::OPTIONS,
        text => text.starts_with('/') && text.bytes().all(is_target),
    };
    if is_allowed { Ok(target.clone()) } else { Err(Refusal::InvalidTarget) }
}

/// A value neither begins nor ends with a space or tab (RFC 9113 section 8.2.1).
fn check_values(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_padded = |value: &HeaderValue| is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last());
    if headers.values().any(is_padded) { Err(Refusal::InvalidHeaderValue) } else { Ok(()) }
}

fn check_length(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    if lengths.next().is_some() {
        return Err(Refusal::DuplicateContentLength);
    }
    content_length(length.as_bytes()).map(drop).ok_or(Refusal::InvalidContentLength)
}

/// Clients of HTTP/2 that expect 100 send their body after a while without it; hyper has no way to send it.
fn check_expectation(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let only_continue = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !headers.get_all(EXPECT).iter().all(only_continue) {
        return Err(Refusal::UnsupportedExpectation);
    }
    headers.remove(EXPECT);
    Ok(())
}

fn drop_underscores(headers: &mut HeaderMap, policy: UnderscorePolicy) -> Result<u32, Refusal> {
    if policy == UnderscorePolicy::Allow || !headers.keys().any(has_underscore) {
        return Ok(0);
    }
    if policy == UnderscorePolicy::Refuse {
        return Err(Refusal::UnderscoreInHeaderName);
    }
    let names: Vec<HeaderName> = headers.keys().filter(|name| has_underscore(name)).cloned().collect();
    let mut dropped = 0;
    for name in names {
        dropped += headers.get_all(&name).iter().count() as u32;
        headers.remove(name);
    }
    Ok(dropped)
}

fn has_underscore(name: &HeaderName) -> bool {
    name.as_str().contains('_')
}

fn join_cookies(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return Ok(());
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let cookie = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).map_err(|_| Refusal::InvalidHeaderValue)?;
    headers.insert(COOKIE, cookie);
    Ok(())
}

/// Checks the trailer fields of a request, as HTTP/1.1 does.
pub(super) fn check_trailers(trailers: &mut HeaderMap, limits: HeadLimits) -> Result<(), Refusal> {
    if trailers.len() > limits.fields {
        return Err(Refusal::TooManyFields);
    }
    if trailers.keys().any(h1::is_forbidden_trailer) {
        return Err(Refusal::ForbiddenTrailer);
    }
    check_values(trailers)?;
    drop_underscores(trailers, limits.underscores).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const LIMITS: HeadLimits = HeadLimits { fields: 8, underscores: UnderscorePolicy::Drop };

    fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn heads_take_the_shape_of_http1() {
        let fields = [("cookie", "a=1"), ("cookie", "b=2"), ("x_a", "1"), ("x_a", "2"), ("expect", "100-continue")];
        let mut head = parts("GET", "http://a.example/p?q", &fields);
        check(&mut head, false, true, LIMITS).unwrap();
        assert_eq!(head.uri, "https://a.example/p?q");
        assert_eq!(head.headers[HOST], "a.example");
        assert_eq!(head.headers[COOKIE], "a=1; b=2");
        assert_eq!(head.headers.len(), 2);
        assert_eq!(head.extensions.get(), Some(&DroppedFields(2)));

        let mut head = parts("GET", "/p", &[("host", "b.example:8080")]);
        check(&mut head, false, false, LIMITS).unwrap();
        assert_eq!(head.uri, "http://b.example:8080/p");
    }

    #[test]
    fn ambiguous_heads_are_refused_with_the_reasons_of_http1() {
        let many: Vec<_> = (0..9).map(|_| ("cookie", "a=1")).collect();
        let uri = "http://a.example/";
        for (method, uri, fields, refusal) in [
            ("CONNECT", "a.example:443", vec![], Refusal::ConnectNotSupported),
            ("GET", uri, many, Refusal::TooManyFields),
            ("GET", "/", vec![], Refusal::MissingHost),
            ("GET", uri, vec![("host", "b.example")], Refusal::HostMismatch),
            ("GET", uri, vec![("host", "a.example"), ("host", "a.example")], Refusal::DuplicateHost),
            ("GET", "http://user@a.example/", vec![], Refusal::InvalidHost),
            ("GET", "/", vec![("host", "a.example/b")], Refusal::InvalidHost),
            ("GET", "/", vec![("host", "")], Refusal::InvalidHost),
            ("GET", uri, vec![("x-a", "a ")], Refusal::InvalidHeaderValue),
            ("GET", uri, vec![("content-length", "1"), ("content-length", "1")], Refusal::DuplicateContentLength),
            ("GET", uri, vec![("content-length", "+1")], Refusal::InvalidContentLength),
            ("GET", uri, vec![("expect", "payment")], Refusal::UnsupportedExpectation),
        ] {
            let mut head = parts(method, uri, &fields);
            assert_eq!(check(&mut head, false, false, LIMITS), Err(refusal), "{method} {uri} {fields:?}");
        }
        assert_eq!(check(&mut parts("TRACE", uri, &[]), true, false, LIMITS), Err(Refusal::TraceWithBody));
        let refuse = HeadLimits { underscores: UnderscorePolicy::Refuse, ..LIMITS };
        let refused = check(&mut parts("GET", uri, &[("a_b", "1")]), false, false, refuse);
        assert_eq!(refused, Err(Refusal::UnderscoreInHeaderName));
    }

    #[test]
    fn trailers_that_frame_or_authorise_are_refused() {
        let trailers = |name, value| {
            let mut trailers = HeaderMap::new();
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            trailers
        };
        assert_eq!(check_trailers(&mut trailers("grpc-status", "0"), LIMITS), Ok(()));
        assert_eq!(check_trailers(&mut trailers("authorization", "a"), LIMITS), Err(Refusal::ForbiddenTrailer));
        let mut dropped = trailers("a_b", "1");
        assert_eq!((check_trailers(&mut dropped, LIMITS), dropped.len()), (Ok(()), 0));
    }
}
