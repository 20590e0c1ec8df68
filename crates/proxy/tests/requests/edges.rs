//! What must not happen between a client and a backend, whatever one of them does: responses that look complete and are
//! not, responses that go to another request, refusals that nobody counts.

use crate::backend::{Backend, answer};
use crate::client::{Client, get, raw, request};
use crate::gateway::Setup;
use serde_json::json;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn read_head(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(())
}

/// The close is all that tells a client of HTTP/1.0 that it has everything.
#[tokio::test]
async fn a_cut_response_without_a_length_ends_in_a_reset() {
    let backend = Backend::raw(|mut stream, _| async move {
        let _ = read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    let mut received = Vec::new();
    let end = client.read_to_end(&mut received).await;
    assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "{}", received.escape_ascii());
}

#[tokio::test]
async fn a_body_that_is_refused_has_its_line_and_its_count() {
    let backend = Backend::start("never").await;
    let gateway = Setup::to(&[backend.address]).start_logged().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n";
    let answer = raw(gateway.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let line = &gateway.log_lines(1).await[0];
    assert_eq!((&line["status"], &line["reason"]), (&json!(400), &json!("chunk_extension")), "{line}");
    let flags = line["flags"].as_array().unwrap();
    assert!(flags.contains(&json!("ClientBodyFailure")), "{line}");
    let answers = "portcullis_answers_total{gateway=\"default/gateway\",reason=\"chunk_extension\"}";
    assert_eq!(gateway.metric(answers), 1.0);
    assert_eq!(backend.count(), 0);
}

/// A backend that says more than it was asked for (response splitting) says it to nobody.
#[tokio::test]
async fn a_second_response_to_one_request_goes_to_no_other() {
    let backend = Backend::raw(|mut stream, _| async move {
        let one = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst";
        let other = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
        while read_head(&mut stream).await.is_ok() {
            let _ = stream.write_all(format!("{one}{other}").as_bytes()).await;
        }
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let mut client = Client::http1(gateway.address).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "first");
    }
}

/// Without its bytes, a length would make the backend take the next request for them.
#[tokio::test]
async fn a_length_without_a_body_never_reaches_a_backend() {
    let backend = Backend::start("ok").await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let mut client = Client::http2(gateway.address).await;
    let sent = client.send(request("POST", "/smuggle", &[("content-length", "5")], "")).await;
    assert!(sent.is_err() || sent.unwrap().status().is_client_error());
    assert_eq!(client.get("/").await.text(), "ok");
    assert!(backend.seen().iter().all(|seen| seen.path() == "/"), "{:?}", backend.seen());
}

#[tokio::test]
async fn a_refusal_of_head_has_no_body_on_http2() {
    let gateway = Setup::new().start().await;
    let mut client = Client::http2(gateway.address).await;
    let refused = client.whole(request("HEAD", "/", &[("expect", "payment")], "")).await;
    assert_eq!((refused.status, refused.text()), (417, ""));
    let refused = client.whole(request("GET", "/", &[("expect", "payment")], "")).await;
    assert_eq!((refused.status, refused.text()), (417, "unsupported_expectation\n"));
}

/// RFC 9113 section 8.2.2: a field of the connection makes the message malformed, in a trailer section too.
#[tokio::test]
async fn trailers_of_a_backend_say_nothing_about_the_connection() {
    let backend = Backend::raw(|mut stream, _| async move {
        while read_head(&mut stream).await.is_ok() {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nok\r\n";
            let trailers =
                "0\r\nx-sum: 1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\n\r\n";
            let _ = stream.write_all(format!("{head}{trailers}").as_bytes()).await;
        }
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let mut client = Client::http2(gateway.address).await;
    let whole = client.get("/").await;
    let trailers = whole.trailers.unwrap();
    assert_eq!(trailers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["x-sum"]);
}

/// What a backend may make the gateway keep is bounded.
#[tokio::test]
async fn a_response_head_without_end_is_a_bad_gateway() {
    let backend = Backend::raw(|mut stream, _| async move {
        let _ = read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        for _ in 0..24 {
            if stream.write_all(&[b'x'; 4096]).await.is_err() {
                return;
            }
        }
        // 96 KiB in, and still no end.
        let _ = stream.read_u8().await;
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    assert_eq!(Client::http1(gateway.address).await.get("/").await.status, 502);
}

/// An answer that comes before the request was sent to its end leaves nothing behind for the next request.
#[tokio::test]
async fn an_early_answer_leaves_nothing_for_the_next_request() {
    let backend = Backend::streaming(false, |request| async move {
        match request.uri().path() {
            "/early" => answer(403, "early"),
            path => answer(200, path.to_owned()),
        }
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    for length in [1, 1000, 100_000, 2_000_000] {
        let mut client = Client::http1(gateway.address).await;
        let body = vec![b'x'; length];
        if let Ok(early) = client.send(request("POST", "/early", &[], body)).await {
            // A backend that closes with bytes unread resets, and the reset may overtake its answer.
            assert!([403, 502].contains(&early.status().as_u16()), "{}", early.status());
        }
        for _ in 0..5 {
            let mut other = Client::http1(gateway.address).await;
            assert_eq!(other.whole(get("/next")).await.text(), "/next");
        }
    }
}
