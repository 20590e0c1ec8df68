//! HTTP/1.1 towards backends (RFC 9112 sections 6, 7 and 9): which responses are passed on, in whatever pieces they come, when a
//! connection is used again, and that neither side of an exchange has to wait for the other.

use crate::backend::Backend;
use crate::client::{Client, get, once, raw, request};
use crate::gateway::Setup;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Reads up to the end of a head.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

/// A backend that answers each request with these bytes, in pieces of so many, and closes if it is asked to.
async fn answering(response: &'static str, piece: usize, close: bool) -> Backend {
    Backend::raw(move |mut stream, _| async move {
        while read_head(&mut stream).await.is_ok() {
            for piece in response.as_bytes().chunks(piece) {
                let _ = stream.write_all(piece).await;
                if piece.len() < 64 {
                    tokio::task::yield_now().await;
                }
            }
            if close {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn responses_are_read_as_the_rfc_says_however_they_are_cut() {
    // What the backend says; whether it closes then; status and body for the client.
    for (response, close, status, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, 200, "hello"),
        ("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", false, 200, "hello"),
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", false, 200, "hello"),
        ("HTTP/1.1 200 OK\r\n\r\nhello", true, 200, "hello"),
        ("HTTP/1.0 200 OK\r\n\r\nhello", true, 200, "hello"),
        ("HTTP/1.1 204 No Content\r\n\r\n", false, 204, ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, 304, ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", false, 200, "hello"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0 \r\n\r\n", false, 200, "hello"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\nhost: z\r\n\r\n",
            false,
            200,
            "hello",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            false,
            200,
            "hello",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            false,
            502,
            "",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", false, 502, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello", false, 502, ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false, 502, ""),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", true, 502, ""),
        ("HTTP/1.1 200 OK\r\na: b\r\n folded\r\nContent-Length: 0\r\n\r\n", false, 502, ""),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", false, 502, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length", true, 502, ""),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", false, 502, ""),
    ] {
        for piece in [1, 7, 4096] {
            let backend = answering(response, piece, close).await;
            let gateway = Setup::to(&[backend.address]).start().await;
            let got = once(gateway.address, get("/")).await;
            assert_eq!(got.status, status, "{response:?} in pieces of {piece}");
            if status == 200 {
                assert_eq!(got.text(), body, "{response:?} in pieces of {piece}");
            }
        }
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_502() {
    let backend = Backend::raw(|mut stream, _| async move {
        let _ = read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"x-filler: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n").await.is_ok() {}
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    assert_eq!(once(gateway.address, get("/")).await.status, 502);
}

#[tokio::test]
async fn connections_are_used_again_when_both_sides_let_them() {
    for (response, again) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more", false),
    ] {
        let backend = answering(response, 4096, false).await;
        let gateway = Setup::to(&[backend.address]).start().await;
        let mut client = Client::http1(gateway.address).await;
        for _ in 0..3 {
            assert!(client.get("/").await.status < 300, "{response:?}");
        }
        assert_eq!(backend.accepted(), if again { 1 } else { 3 }, "{response:?}");
    }
}

/// The backend begins a response larger than all buffers before it has read the request; the client reads it only when its
/// request is sent.
#[tokio::test]
async fn neither_side_waits_for_the_other() {
    const BYTES: usize = 16 * 1024 * 1024;
    let backend = Backend::raw(|mut stream, _| async move {
        let _ = read_head(&mut stream).await;
        let (mut read, mut write) = stream.split();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n");
        let writing = async {
            write.write_all(head.as_bytes()).await.unwrap();
            write.write_all(&vec![b'd'; BYTES]).await.unwrap();
        };
        let reading = async { read.read_exact(&mut vec![0; BYTES]).await.unwrap() };
        tokio::join!(writing, reading);
        let _ = stream.read_u8().await;
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let exchange = async {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BYTES}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![b'u'; BYTES]).await.unwrap();
        let head = read_head(&mut client).await.unwrap();
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", head.escape_ascii());
        let mut body = vec![0; BYTES];
        client.read_exact(&mut body).await.unwrap();
        assert!(body.iter().all(|byte| *byte == b'd'));
    };
    tokio::time::timeout(Duration::from_secs(60), exchange).await.expect("the exchange stands still");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_counts() {
    let backend = Backend::raw(|mut stream, _| async move {
        let _ = read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge").await;
        // Closed with bytes that nobody has read: the other side gets a reset.
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let got = once(gateway.address, request("POST", "/", &[], vec![b'x'; 4096])).await;
    assert_eq!((got.status, got.text()), (413, "large"));
    let mut client = Client::http1(gateway.address).await;
    assert_eq!(client.whole(request("POST", "/", &[], vec![b'x'; 4096])).await.status, 413);
    assert_eq!(backend.accepted(), 2, "such a connection is not used again");
}

#[tokio::test]
async fn requests_are_framed_for_the_backend_with_their_trailers() {
    let seen = Arc::new(Mutex::new(String::new()));
    let noted = seen.clone();
    let backend = Backend::raw(move |mut stream, _| {
        let noted = noted.clone();
        async move {
            let mut received = Vec::new();
            while !received.ends_with(b"\r\n\r\n") || received.windows(4).filter(|end| *end == b"\r\n\r\n").count() < 2
            {
                received.push(stream.read_u8().await.unwrap());
            }
            *noted.lock().unwrap() = String::from_utf8(received).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let sent = "POST /a?b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n";
    let answer = raw(gateway.address, sent.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = seen.lock().unwrap().clone();
    assert!(seen.starts_with("POST /a?b HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("\r\ntransfer-encoding: chunked\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"), "{seen}");
}
