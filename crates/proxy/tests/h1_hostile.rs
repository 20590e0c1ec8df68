//! Requests as they must not be: one row per hostile message, with the reason it is refused for. The service never sees the
//! head that is refused, and what follows a refusal is not looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

#[path = "h1/hostile.rs"]
mod hostile;
#[path = "h1/support.rs"]
mod support;

use hostile::{BODIES, HEADS};
use portcullis_proxy::http::h1::Refusal::*;
use portcullis_proxy::http::h1::{HTTP2_PREFACE, Options, Outcome, Protocol, Refusal, RequestEnd, sniff};
use std::time::Duration;
use support::{Server, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn answer(refusal: Refusal) -> String {
    let status = refusal.status();
    let text = format!("{} {}\n", status.as_str(), refusal.as_str());
    let reason = status.canonical_reason().unwrap();
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        status.as_str(),
        text.len()
    )
}

#[test]
fn heads_are_refused_and_nothing_after_them_is_read() {
    run(async {
        let server = Server::start(Options { linger: Duration::from_millis(50), ..Options::default() }).await;
        for (head, refusal) in HEADS {
            let mut client = server.connect().await;
            client.send(head.as_bytes()).await;
            client.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").await;
            client.stream.shutdown().await.unwrap();
            assert_eq!(client.read_to_end().await, answer(*refusal), "{}", head.escape_debug());
        }
        server.wait_until(|seen| seen.outcomes.len() == HEADS.len()).await;
        let seen = server.seen.borrow();
        assert_eq!(seen.called, Vec::<String>::new());
        for ((head, refusal), (reason, received)) in HEADS.iter().zip(&seen.refused) {
            assert_eq!(refusal.as_str(), *reason);
            assert!(!received.is_empty(), "{}", head.escape_debug());
        }
        assert!(seen.outcomes.iter().zip(HEADS).all(|(outcome, (_, refusal))| *outcome == Outcome::Refused(*refusal)));
    });
}

#[test]
fn limits_hold_exactly() {
    let head = |target: usize, value: usize, fields: usize| {
        let fields = "a: b\r\n".repeat(fields);
        format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {}\r\n{fields}\r\n",
            "t".repeat(target),
            "v".repeat(value)
        )
    };
    let in_all = |bytes: usize| {
        // Four lines of 8 KiB make 32 KiB; the last one is as long as it takes.
        let start = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}",
            format!("X: {}\r\n", "v".repeat(8000)).repeat(4)
        );
        let rest = bytes - start.len() - 7;
        format!("{start}Y: {}\r\n\r\n", "v".repeat(rest))
    };
    let line = 8 * 1024;
    let rows = [
        (head(line - "GET / HTTP/1.1".len(), 0, 0), None),
        (head(line - "GET / HTTP/1.1".len() + 1, 0, 0), Some(TargetTooLong)),
        (head(0, line - "X: ".len(), 0), None),
        (head(0, line - "X: ".len() + 1, 0), Some(HeaderLineTooLong)),
        (head(0, 0, 125), None),
        (head(0, 0, 126), Some(TooManyFields)),
        (in_all(32 * 1024), None),
        (in_all(32 * 1024 + 1), Some(HeadTooLarge)),
        // Refused without waiting for an end.
        (format!("GET /{}", "t".repeat(line)), Some(TargetTooLong)),
        (format!("GET / HTTP/1.1\r\nX: {}", "t".repeat(line)), Some(HeaderLineTooLong)),
    ];
    run(async {
        let server = Server::start(Options { linger: Duration::from_millis(50), ..Options::default() }).await;
        for (sent, refusal) in rows {
            let got = server.exchange(sent.as_bytes()).await;
            match refusal {
                Some(refusal) => assert_eq!(got, answer(refusal), "{:.40}", sent),
                None => assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{sent:.40}: {got:.80}"),
            }
        }
    });
}

/// Bodies whose framing is broken: the service was called, but its request is ended and the client told.
#[test]
fn bodies_are_refused_and_nothing_after_them_is_read() {
    run(async {
        let server = Server::start(Options { linger: Duration::from_millis(50), ..Options::default() }).await;
        for (body, refusal) in BODIES {
            let head = "POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut client = server.connect().await;
            client.send(format!("{head}{body}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
            client.stream.shutdown().await.unwrap();
            assert_eq!(client.read_to_end().await, answer(*refusal), "{}", body.escape_debug());
        }
        server.wait_until(|seen| seen.outcomes.len() == BODIES.len()).await;
        let seen = server.seen.borrow();
        assert!(seen.called.iter().all(|called| called == "POST http://a/count"));
        for ((_, refusal), summary) in BODIES.iter().zip(&seen.completed) {
            assert_eq!(summary.end, RequestEnd::Refused(*refusal));
            assert_eq!(summary.status, Some(refusal.status()));
        }
    });
}

/// The client gets the answer although it still sends, and without a reset.
#[test]
fn a_refused_client_that_goes_on_sending_gets_its_answer() {
    run(async {
        let server = Server::start(Options { linger: Duration::from_millis(300), ..Options::default() }).await;
        let mut client = server.connect().await;
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1,1\r\n\r\n").await;
        for _ in 0..20 {
            client.send(&[b'x'; 10_000]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(client.read_to_end().await, answer(InvalidContentLength));
    });
}

#[test]
fn the_http2_preface_is_told_from_http1() {
    let rows: &[(&[u8], Protocol)] = &[
        (HTTP2_PREFACE, Protocol::Http2),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", Protocol::Http2),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", Protocol::Http1),
        (b"PRI * HTTP/1.1\r\n\r\n", Protocol::Http1),
        (b"POST / HTTP/1.1\r\n\r\n", Protocol::Http1),
        (b"P", Protocol::Http1),
        (b"GET / HTTP/1.1\r\n\r\n", Protocol::Http1),
        (b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol::Http1),
    ];
    run(async {
        for (sent, expected) in rows {
            for at_once in [true, false] {
                let (mut client, server) = tokio::io::duplex(64);
                let writing = async {
                    for piece in sent.chunks(if at_once { sent.len() } else { 1 }) {
                        client.write_all(piece).await.unwrap();
                    }
                    drop(client);
                };
                let sniffing = async {
                    let (protocol, mut io) = sniff(server, support::FOREVER).await.unwrap();
                    let mut read = Vec::new();
                    io.read_to_end(&mut read).await.unwrap();
                    (protocol, read)
                };
                let ((), (protocol, read)) = tokio::join!(writing, sniffing);
                assert_eq!((protocol, &read[..]), (*expected, *sent), "{}", sent.escape_ascii());
            }
        }
        let (client, server) = tokio::io::duplex(64);
        drop(client);
        assert_eq!(sniff(server, support::FOREVER).await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b"PRI").await.unwrap();
        let error = sniff(server, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    });
}
