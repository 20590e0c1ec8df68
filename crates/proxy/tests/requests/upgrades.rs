//! Upgrades: WebSocket and others, as raw bytes in both directions.

use crate::backend::{Backend, answer};
use crate::client::request;
use crate::gateway::Setup;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEAD: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Agrees to change protocols, greets, and then echoes until the client has ended.
async fn echo() -> Backend {
    Backend::raw(|mut stream, _| async move {
        let head = read_head(&mut stream).await.to_lowercase();
        assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
        assert!(head.contains("sec-websocket-key: dghl"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Backend: 1\r\n\r\nhello";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..count]).await.unwrap();
        }
        let _ = stream.write_all(b"bye").await;
    })
    .await
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn exactly(stream: &mut TcpStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

async fn upgraded(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HEAD.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket"), "{head}");
    assert!(head.contains("connection: upgrade") && head.contains("x-backend: 1"), "{head}");
    stream
}

#[tokio::test]
async fn bytes_pass_in_both_directions_until_both_have_ended() {
    let backend = echo().await;
    let gateway = Setup::to(&[backend.address]).start_logged().await;
    let mut stream = upgraded(gateway.address).await;
    exactly(&mut stream, "hello").await;
    for text in ["one", "two", "three"] {
        stream.write_all(text.as_bytes()).await.unwrap();
        exactly(&mut stream, text).await;
    }
    assert_eq!(gateway.metric("portcullis_tunnels"), 1.0);
    // The client ends; the backend still has something to say.
    stream.shutdown().await.unwrap();
    exactly(&mut stream, "bye").await;
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
    let line = &gateway.log_lines(1).await[0];
    assert_eq!((&line["status"], &line["flags"]), (&101.into(), &serde_json::json!(["Tunnel"])), "{line}");
    assert_eq!((&line["request_bytes"], &line["response_bytes"]), (&11.into(), &19.into()), "{line}");
    gateway.metric_becomes("portcullis_tunnels", 0.0).await;
    backend.open_becomes(0).await;
}

#[tokio::test]
async fn a_backend_that_does_not_change_protocols_answers_as_usual() {
    let backend = Backend::start("plain").await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(HEAD.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        exactly(&mut stream, "plain").await;
    }
    assert_eq!(backend.last().header("upgrade"), Some("websocket"));
}

#[tokio::test]
async fn http2_backends_are_asked_without_the_upgrade() {
    let backend = Backend::with_h2c(|seen| {
        assert_eq!((seen.header("upgrade"), seen.header("connection")), (None, None));
        answer(400, "no")
    })
    .await;
    let gateway = Setup::to_h2c(&[backend.address]).start().await;
    let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
    let got = crate::client::once(gateway.address, request("GET", "/", &fields, "")).await;
    assert_eq!((got.status, got.text()), (400, "no"));
}

#[tokio::test]
async fn tunnels_end_when_nothing_moves() {
    let backend = echo().await;
    let setup = Setup::to(&[backend.address]);
    let setup = setup.options(|options| options.upstream.tunnel_idle_timeout = Some(Duration::from_millis(200)));
    let gateway = setup.start().await;
    let mut stream = upgraded(gateway.address).await;
    exactly(&mut stream, "hello").await;
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
    backend.open_becomes(0).await;
}

#[tokio::test]
async fn timeouts_of_the_route_end_with_the_change_of_protocols() {
    let backend = echo().await;
    let setup = Setup::to(&[backend.address]).with(|rule| rule.timeouts.request = Some(Duration::from_millis(200)));
    let gateway = setup.start().await;
    let mut stream = upgraded(gateway.address).await;
    exactly(&mut stream, "hello").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    stream.write_all(b"still here").await.unwrap();
    exactly(&mut stream, "still here").await;
}

#[tokio::test]
async fn a_drain_that_is_forced_ends_tunnels() {
    let backend = echo().await;
    let gateway = Setup::to(&[backend.address]).start_logged().await;
    let mut stream = upgraded(gateway.address).await;
    exactly(&mut stream, "hello").await;
    gateway.drain.begin(Duration::from_millis(100));
    let report = gateway.drain.finished().await;
    assert!(!report.is_clean() && report.stuck.is_empty(), "{report:?}");
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
}
