//! HTTP/2 without hostility: prior knowledge, refusals, idle connections.

use crate::client::{LONG, http2, location, request};
use crate::frames::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, connect, frame};
use crate::gateway::{Gateway, options};
use http::Request;
use http_body_util::Empty;
use std::time::Duration;
use tokio::net::TcpStream;

#[tokio::test]
async fn prior_knowledge_on_a_cleartext_port() {
    let gateway = Gateway::http(options()).await;
    let (mut sender, _connection) = http2(TcpStream::connect(gateway.address(80)).await.unwrap()).await;
    for _ in 0..3 {
        let response = sender.send_request(request("http://a.example/")).await.unwrap();
        assert_eq!((response.status().as_u16(), location(&response).as_str()), (302, "one"));
    }
}

#[tokio::test]
async fn ambiguous_requests_are_answered_and_the_connection_goes_on() {
    let gateway = Gateway::http(options()).await;
    let (mut sender, _connection) = http2(TcpStream::connect(gateway.address(80)).await.unwrap()).await;
    let crumbs = (0..130).fold(Request::get("http://a.example/"), |request, _| request.header("cookie", "a=1"));
    let large = (0..5).fold(Request::get("http://a.example/"), |request, _| request.header("x", "x".repeat(8000)));
    let get = |uri: &str| Request::get(uri);
    for (status, reason, request) in [
        (400, "host_mismatch", get("http://a.example/").header("host", "b.example")),
        (400, "invalid_host", get("http://user@a.example/")),
        (400, "invalid_header_value", get("http://a.example/").header("x", "padded ")),
        (431, "too_many_fields", crumbs),
        (417, "unsupported_expectation", get("http://a.example/").header("expect", "payment")),
        (501, "connect_not_supported", Request::connect("a.example:443")),
        // Refused by the h2 crate, which has no reason for the metric.
        (431, "", large),
        (302, "", get("http://a.example/").header("host", "A.EXAMPLE")),
        (302, "", get("http://a.example/").header("x_underscore", "dropped")),
    ] {
        let response = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{reason}");
        if !reason.is_empty() {
            let labels = format!("gateway=\"default/gateway\",reason=\"{reason}\"");
            gateway.metric_becomes(&format!("portcullis_requests_refused_total{{{labels}}}"), 1.0).await;
        }
    }
}

/// What RFC 9113 section 8.2 forbids, and `h2` refuses by a reset: nothing of it is forwarded.
#[tokio::test]
async fn malformed_fields_never_come_through() {
    let gateway = Gateway::http(options()).await;
    let (mut sender, mut receiver) = connect(gateway.address(80), &[]).await;
    let mut stream = 1;
    for (name, value) in [
        ("Upper", "1"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("keep-alive", "1"),
        ("te", "gzip"),
        ("with space", "1"),
        ("with:colon", "1"),
        ("line", "a\r\nb: c"),
        ("null", "\0"),
    ] {
        let mut block = b"\x82\x86\x84\x01\x09a.example".to_vec();
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
        sender.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)).await;
        let answer = loop {
            match receiver.next().await {
                Some(frame) if frame.stream == stream || frame.kind == GOAWAY => break frame,
                Some(_) => {}
                None => panic!("{name}: the connection ended without a word"),
            }
        };
        assert_ne!(answer.kind, HEADERS, "{name} came through");
        stream += 2;
        if answer.kind == GOAWAY {
            (sender, receiver) = connect(gateway.address(80), &[]).await;
            stream = 1;
        }
    }
    assert_eq!(gateway.metric("portcullis_requests_refused_total"), 0.0);
}

#[tokio::test]
async fn idle_connections_are_told_to_go_away() {
    let mut options = options();
    options.timeouts.idle = Duration::from_millis(60);
    let gateway = Gateway::http(options).await;
    let (mut sender, connection) = http2(TcpStream::connect(gateway.address(80)).await.unwrap()).await;
    sender.send_request(request("http://a.example/")).await.unwrap();
    // Without an error: it was a GOAWAY.
    tokio::time::timeout(LONG, connection).await.unwrap().unwrap().unwrap();
    gateway.open_connections_become(80, 0.0).await;

    let (_sender, mut receiver) = connect(gateway.address(80), &[]).await;
    assert_eq!(receiver.go_aways().await.first(), Some(&0));
}
