//! Heads at the edge: hop-by-hop fields, and what is said about where a request came from.
//!
//! In flows a head as received; out flows one that holds nothing about the connection it came on, with our forwarding fields
//! and without a client's own (RFC 9110 section 7.6.1, design: forwarding headers). It is done before routing, so that what is
//! matched is what the backend sees.

use crate::connection::Connection;
use crate::http::h1::DroppedFields;
use crate::record::{Flag, Record};
use crate::worker::Worker;
use http::header::{CONNECTION, COOKIE, Entry, HOST, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::header::{TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Uri, Version};
use smallvec::SmallVec;
use std::net::IpAddr;
use std::rc::Rc;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Who may say where a request came from.
#[derive(Clone, Debug, Default)]
pub struct ForwardingOptions {
    /// Networks of proxies in front of this one, as address and prefix length. What peers there say in `X-Forwarded-*` is kept
    /// and added to; what others say is removed.
    pub trusted_proxies: Vec<(IpAddr, u8)>,
}

impl ForwardingOptions {
    fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_proxies.iter().any(|(network, length)| is_within(peer, *network, *length))
    }
}

fn is_within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let host_bits = 32u32.saturating_sub(length.into());
            (address.to_bits() ^ network.to_bits()).checked_shr(host_bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let host_bits = 128u32.saturating_sub(length.into());
            (address.to_bits() ^ network.to_bits()).checked_shr(host_bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Brings the head into the form that it has inside the gateway: a Host field, and a URI of path and query.
pub(super) fn to_origin_form(head: &mut http::request::Parts) {
    if head.uri.authority().is_none() && head.uri.scheme().is_none() {
        return;
    }
    let mut uri = std::mem::take(&mut head.uri).into_parts();
    // HTTP/2's :authority, and the authority of an absolute target, are what Host would say (RFC 9110 section 7.2).
    if let Some(host) = uri.authority.take().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        head.headers.insert(HOST, host);
    }
    uri.scheme = None;
    head.uri = Uri::from_parts(uri).unwrap_or_default();
}

/// The address of the client: the peer's, or, if that is a trusted proxy, the last one in X-Forwarded-For that is not.
pub(super) fn client(worker: &Worker, connection: &Connection, head: &http::request::Parts) -> IpAddr {
    let forwarding = &worker.options.forwarding;
    let peer = connection.client();
    if forwarding.trusted_proxies.is_empty() || !forwarding.trusts(peer) {
        return peer;
    }
    last_untrusted(forwarding, &head.headers).unwrap_or(peer)
}

fn last_untrusted(forwarding: &ForwardingOptions, headers: &HeaderMap) -> Option<IpAddr> {
    let fields: SmallVec<[&str; 4]> =
        headers.get_all(X_FORWARDED_FOR).iter().filter_map(|field| field.to_str().ok()).collect();
    let mut first = None;
    for entry in fields.iter().rev().flat_map(|field| field.rsplit(',')) {
        let address = entry.trim().parse::<IpAddr>().ok()?.to_canonical();
        if !forwarding.trusts(address) {
            return Some(address);
        }
        first = Some(address);
    }
    first
}

/// Takes out what is not for the backend, and puts in where the request came from. Returns the protocol that the client asks
/// to change to, if it does.
pub(super) fn receive(
    worker: &Worker,
    connection: &Rc<Connection>,
    head: &mut http::request::Parts,
    record: &mut Record,
) -> Option<HeaderValue> {
    let upgrade = remove_hop_by_hop(&mut head.headers).filter(|_| head.version == Version::HTTP_11);
    if let Some(DroppedFields(count)) = head.extensions.get() {
        worker.telemetry.headers_dropped(u64::from(*count));
        record.flag(Flag::HeadersDropped);
    }
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    let is_trusted = worker.options.forwarding.trusts(connection.peer.ip());
    if !is_trusted {
        remove_forwarding(&mut head.headers);
    }
    add_forwarding(&mut head.headers, connection);
    if let Ok(id) = HeaderValue::from_bytes(record.request_id().as_bytes()) {
        head.headers.insert(X_REQUEST_ID, id);
    }
    upgrade
}

/// Removes hop-by-hop fields, and those that Connection names if the connection has left any. Of TE, `trailers` stays.
/// Returns the Upgrade field, which the connection has left only if Connection named it.
fn remove_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.remove(UPGRADE);
    for name in nominated(headers) {
        // Host and framing are not a connection's to take away; TE is looked at below.
        if !matches!(name, HOST | TE | http::header::CONTENT_LENGTH) {
            headers.remove(name);
        }
    }
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, PROXY_AUTHORIZATION] {
        headers.remove(name);
    }
    if headers.contains_key(TE) {
        let is_trailers = |field: &HeaderValue| {
            let options = field.to_str().unwrap_or_default().split(',');
            options.into_iter().any(|option| option.trim().eq_ignore_ascii_case("trailers"))
        };
        match headers.get_all(TE).iter().any(is_trailers) {
            true => drop(headers.insert(TE, HeaderValue::from_static("trailers"))),
            false => drop(headers.remove(TE)),
        }
    }
    upgrade
}

/// The names in Connection.
fn nominated(headers: &HeaderMap) -> SmallVec<[HeaderName; 4]> {
    let fields = headers.get_all(CONNECTION).iter().filter_map(|field| field.to_str().ok());
    fields
        .flat_map(|field| field.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect()
}

/// HTTP/2 may split Cookie; everything else wants one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let Entry::Occupied(cookies) = headers.entry(COOKIE) else { return };
    if cookies.iter().nth(1).is_none() {
        return;
    }
    let joined = cookies.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(COOKIE, joined);
    }
}

/// What a client says about where it is.
fn remove_forwarding(headers: &mut HeaderMap) {
    let is_forwarding = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || name == "forwarded" || name == X_REAL_IP.as_str()
    };
    let names: SmallVec<[HeaderName; 4]> = headers.keys().filter(|name| is_forwarding(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Says where the request came from: X-Forwarded-For is added to, the others stay when a trusted proxy has set them.
fn add_forwarding(headers: &mut HeaderMap, connection: &Connection) {
    let peer = connection.client_text();
    let chain = {
        let before = headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
        let mut chain: SmallVec<[&[u8]; 4]> = before.filter(|text| !text.is_empty()).collect();
        if chain.is_empty() {
            Ok(peer.clone())
        } else {
            chain.push(peer.as_bytes());
            HeaderValue::from_maybe_shared(bytes::Bytes::from(chain.join(&b", "[..])))
        }
    };
    if let Ok(chain) = chain {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    let proto = if connection.tls.is_some() { "https" } else { "http" };
    keep_or_insert(headers, X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    if let Some(host) = headers.get(HOST).cloned() {
        keep_or_insert(headers, X_FORWARDED_HOST, host);
    }
    keep_or_insert(headers, X_FORWARDED_PORT, HeaderValue::from(connection.port.number));
}

fn keep_or_insert(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    headers.entry(name).or_insert(value);
}

/// Takes out of a response what is about the connection to the backend. A 101 keeps the protocol that was agreed on.
pub(super) fn of_response(head: &mut http::response::Parts, is_switching: bool) {
    head.extensions.clear();
    head.version = Version::HTTP_11;
    for name in nominated(&head.headers) {
        if !matches!(name, http::header::CONTENT_LENGTH | UPGRADE) {
            head.headers.remove(name);
        }
    }
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, PROXY_AUTHENTICATE, TE] {
        head.headers.remove(name);
    }
    if is_switching {
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        head.headers.remove(UPGRADE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn hop_by_hop_fields_and_nominated_ones_go() {
        for (given, left, upgrade) in [
            (&[("connection", "close"), ("a", "1")][..], &["a"][..], None),
            (&[("connection", "x-a, X-B"), ("x-a", "1"), ("x-b", "1"), ("x-c", "1")], &["x-c"], None),
            (
                &[("connection", "host, content-length"), ("host", "a"), ("content-length", "1")],
                &["content-length", "host"],
                None,
            ),
            (&[("te", "trailers, deflate;q=0.5"), ("connection", "te")], &["te"], None),
            (&[("te", "gzip")], &[], None),
            (&[("keep-alive", "5"), ("proxy-connection", "x"), ("transfer-encoding", "chunked")], &[], None),
            (&[("upgrade", "websocket"), ("connection", "Upgrade")], &[], Some("websocket")),
            (&[("trailer", "x-sum"), ("expect", "100-continue")], &["expect", "trailer"], None),
        ] {
            let mut headers = headers(given);
            let found = remove_hop_by_hop(&mut headers);
            let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, left, "{given:?}");
            assert_eq!(found.as_ref().map(|value| value.to_str().unwrap()), upgrade, "{given:?}");
        }
        let mut te = headers(&[("te", "gzip, trailers"), ("te", "x")]);
        remove_hop_by_hop(&mut te);
        assert_eq!(te.get_all(TE).iter().collect::<Vec<_>>(), ["trailers"]);
    }

    #[test]
    fn what_clients_say_about_themselves_goes() {
        let mut headers = headers(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("X-Forwarded-Client-Cert", "x"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("x-other", "1"),
        ]);
        remove_forwarding(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-other"]);
    }

    #[test]
    fn networks() {
        for (address, network, length, within) in [
            ("10.1.2.3", "10.0.0.0", 8, true),
            ("11.1.2.3", "10.0.0.0", 8, false),
            ("1.2.3.4", "0.0.0.0", 0, true),
            ("1.2.3.4", "1.2.3.4", 32, true),
            ("1.2.3.5", "1.2.3.4", 32, false),
            ("2001:db8::1", "2001:db8::", 32, true),
            ("2001:db9::1", "2001:db8::", 32, false),
            ("::1", "::", 0, true),
            ("1.2.3.4", "::", 0, false),
            ("1.2.3.4", "1.2.3.4", 200, true),
        ] {
            let found = is_within(address.parse().unwrap(), network.parse().unwrap(), length);
            assert_eq!(found, within, "{address} {network}/{length}");
        }
    }

    #[test]
    fn the_client_is_the_last_one_that_no_trusted_proxy_is() {
        let forwarding = ForwardingOptions { trusted_proxies: vec![("10.0.0.0".parse().unwrap(), 8)] };
        for (chain, client) in [
            (&["1.1.1.1, 2.2.2.2, 10.0.0.1"][..], Some("2.2.2.2")),
            (&["1.1.1.1", "10.0.0.2, 10.0.0.1"], Some("1.1.1.1")),
            (&["10.0.0.3, 10.0.0.2"], Some("10.0.0.3")),
            (&["1.1.1.1, garbage"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for field in chain {
                headers.append(X_FORWARDED_FOR, field.parse().unwrap());
            }
            let found = last_untrusted(&forwarding, &headers);
            assert_eq!(found, client.map(|client| client.parse().unwrap()), "{chain:?}");
        }
    }

    #[test]
    fn cookies_are_joined() {
        let mut headers = headers(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn absolute_targets_and_authorities_become_host() {
        let request = http::Request::builder().uri("http://other.example:81/a?b").header(HOST, "x").body(()).unwrap();
        let mut head = request.into_parts().0;
        to_origin_form(&mut head);
        assert_eq!(head.uri, "/a?b");
        assert_eq!(head.headers[HOST], "other.example:81");
        let mut head = http::Request::builder().uri("/a?b").body(()).unwrap().into_parts().0;
        to_origin_form(&mut head);
        assert_eq!(head.uri, "/a?b");
    }

    #[test]
    fn responses_lose_what_is_about_the_connection() {
        let response = |switching| {
            let mut head = http::Response::new(()).into_parts().0;
            head.headers = headers(&[
                ("connection", "x-hop, upgrade"),
                ("x-hop", "1"),
                ("keep-alive", "timeout=5"),
                ("upgrade", "websocket"),
                ("server", "backend"),
                ("trailer", "x-sum"),
            ]);
            of_response(&mut head, switching);
            head.headers.keys().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(response(false), ["server", "trailer"]);
        let mut switching = response(true);
        switching.sort();
        assert_eq!(switching, ["connection", "server", "trailer", "upgrade"]);
    }
}
