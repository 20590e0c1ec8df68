//! The head of a request as a backend's protocol wants it.
//!
//! In flows a head with a Host field, a URI of path and query, and no hop-by-hop fields (that is how it is kept here). Out
//! flows HTTP/1.1 or HTTP/2.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri, Version};
use portcullis_model::BackendProtocol;

/// Shapes the head. `upgrade` is the protocol that the client wants to change to; HTTP/2 cannot, and leaves it out.
pub(crate) fn for_protocol(
    head: &mut http::request::Parts,
    protocol: BackendProtocol,
    has_body: bool,
    upgrade: Option<&HeaderValue>,
) {
    head.extensions.clear();
    match protocol {
        BackendProtocol::Http1 => for_http1(head, has_body, upgrade),
        BackendProtocol::H2c => for_http2(head),
    }
}

fn for_http1(head: &mut http::request::Parts, has_body: bool, upgrade: Option<&HeaderValue>) {
    head.version = Version::HTTP_11;
    if let Some(protocol) = upgrade {
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, protocol.clone());
    } else if head.headers.contains_key(TE) {
        // RFC 9110 section 10.1.4.
        head.headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    // The fields say how the body is framed (RFC 9112 section 6.3).
    if has_body && !head.headers.contains_key(CONTENT_LENGTH) {
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

fn for_http2(head: &mut http::request::Parts) {
    head.version = Version::HTTP_2;
    let host = head.headers.remove(HOST);
    let mut uri = std::mem::take(&mut head.uri).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority =
        host.and_then(|host| Authority::from_maybe_shared(bytes::Bytes::copy_from_slice(host.as_bytes())).ok());
    if uri.authority.is_none() {
        uri.scheme = None;
    }
    head.uri = Uri::from_parts(uri).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, fields: &[(&'static str, &str)]) -> http::request::Parts {
        let mut request = http::Request::builder().method(method).uri("/a/b?c=d").header(HOST, "example.com:8080");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn http1_keeps_host_and_says_how_long_the_body_is() {
        let mut get = head("GET", &[]);
        for_protocol(&mut get, BackendProtocol::Http1, false, None);
        assert_eq!((get.version, get.uri.to_string().as_str()), (Version::HTTP_11, "/a/b?c=d"));
        assert_eq!(get.headers[HOST], "example.com:8080");
        assert!(!get.headers.contains_key(TRANSFER_ENCODING) && !get.headers.contains_key(CONNECTION));

        let mut streamed = head("GET", &[]);
        for_protocol(&mut streamed, BackendProtocol::Http1, true, None);
        assert_eq!(streamed.headers[TRANSFER_ENCODING], "chunked");
        let mut sized = head("POST", &[("content-length", "5"), ("te", "trailers")]);
        for_protocol(&mut sized, BackendProtocol::Http1, true, None);
        assert!(!sized.headers.contains_key(TRANSFER_ENCODING));
        assert_eq!(sized.headers[CONNECTION], "te");
    }

    #[test]
    fn http2_has_an_authority_and_no_host() {
        let mut head = head("POST", &[("te", "trailers")]);
        for_protocol(&mut head, BackendProtocol::H2c, true, Some(&HeaderValue::from_static("websocket")));
        assert_eq!(head.uri.to_string(), "http://example.com:8080/a/b?c=d");
        assert_eq!(head.version, Version::HTTP_2);
        for absent in [HOST, CONNECTION, UPGRADE, TRANSFER_ENCODING] {
            assert!(!head.headers.contains_key(&absent), "{absent}");
        }
        assert_eq!(head.headers[TE], "trailers");
    }

    #[test]
    fn upgrades_are_for_http1() {
        let mut head = head("GET", &[]);
        for_protocol(&mut head, BackendProtocol::Http1, false, Some(&HeaderValue::from_static("websocket")));
        assert_eq!(
            (&head.headers[CONNECTION], &head.headers[UPGRADE]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
    }
}
