//! Requests as they should be: bytes into a socket, bytes out of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

#[path = "h1/support.rs"]
mod support;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use portcullis_proxy::http::h1::{
    BodyRate, Options, Outcome, Refusal, RequestBody, RequestEnd, UnderscorePolicy, serve, service_fn,
};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;
use support::{Server, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn reply(connection: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{connection}\r\n{body}", body.len())
}

/// Each row is a connection: what is sent, and what the echoing service says it saw. The last request closes.
#[test]
fn requests_arrive_as_sent() {
    let rows: &[(&str, &str)] = &[
        (
            "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
            "GET http://a.example/ HTTP/1.1\nhost: a.example\n",
        ),
        (
            "GET /p/?q=1 HTTP/1.1\r\nhost:a.example:8080\r\nconnection:close\r\n\r\n",
            "GET http://a.example:8080/p/?q=1 HTTP/1.1\nhost: a.example:8080\n",
        ),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET http://a/ HTTP/1.1\nhost: a\n"),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET http://a/ HTTP/1.0\nhost: a\n"),
        (
            "GET / HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n",
            "GET http://[::1]:80/ HTTP/1.1\nhost: [::1]:80\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a_b.example.\r\nConnection: close\r\n\r\n",
            "GET http://a_b.example./ HTTP/1.1\nhost: a_b.example.\n",
        ),
        // The other forms of the request target.
        (
            "GET http://A.example/p HTTP/1.1\r\nHost: a.Example\r\nConnection: close\r\n\r\n",
            "GET http://a.Example/p HTTP/1.1\nhost: a.Example\n",
        ),
        ("GET HTTP://a?q HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET http://a/?q HTTP/1.1\nhost: a\n"),
        ("GET http://a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET http://a/ HTTP/1.1\nhost: a\n"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "OPTIONS http://a* HTTP/1.1\nhost: a\n"),
        (
            "GET /a[1]{2}|^\\~%zz?a=`'{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "GET http://a/a[1]{2}|^\\~%zz?a=`'{} HTTP/1.1\nhost: a\n",
        ),
        // Fields: order, duplicates, space around values, tabs, bytes beyond ASCII, empty values.
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-b:\t 2 \t\r\nX-A: 3\r\nE:\r\nConnection: close\r\n\r\n",
            "GET http://a/ HTTP/1.1\nhost: a\nx-a: 1\nx-a: 3\nx-b: 2\ne: \n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\tb \u{e9}\r\nConnection: close\r\n\r\n",
            "GET http://a/ HTTP/1.1\nhost: a\nx: a\\tb \\xc3\\xa9\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX_A: 1\r\n_: 2\r\nConnection: close\r\n\r\n",
            "GET http://a/ HTTP/1.1\nhost: a\n(2 dropped)\n",
        ),
        // What concerns this connection alone ends here.
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nTE: trailers, gzip\r\nConnection: , X-Hop, TE,close\r\n\r\n",
            "GET http://a/ HTTP/1.1\nhost: a\nte: trailers\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nConnection: upgrade, http2-settings, close\r\n\r\n",
            "GET http://a/ HTTP/1.1\nhost: a\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n",
            "GET http://a/ HTTP/1.1\nhost: a\n",
        ),
        // Bodies.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            "POST http://a/ HTTP/1.1\nhost: a\ncontent-length: 5\nhello",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "POST http://a/ HTTP/1.1\nhost: a\ncontent-length: 0\n",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            "POST http://a/ HTTP/1.1\nhost: a\nabcde",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n",
            "POST http://a/ HTTP/1.1\nhost: a\n[x-sum: 1]\n[x-sum: 2]\nabc",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
            "GET http://a/ HTTP/1.1\nhost: a\ncontent-length: 2\nhi",
        ),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\nExpect: nonsense\r\n\r\nhi",
            "POST http://a/ HTTP/1.0\nhost: a\ncontent-length: 2\nhi",
        ),
    ];
    run(async {
        let server = Server::start(Options::default()).await;
        for (sent, seen) in rows {
            assert_eq!(server.exchange(sent.as_bytes()).await, reply("connection: close\r\n", seen), "{sent}");
        }
        assert!(server.seen.borrow().refused.is_empty());
    });
}

#[test]
fn responses_are_framed_by_what_is_known() {
    let rows: &[(&str, &str, &str)] = &[
        ("GET", "/length/3", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nxxx"),
        ("GET", "/length/0", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        (
            "GET",
            "/stream/2",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\npiece\r\n5\r\npiece\r\n0\r\n\r\n",
        ),
        (
            "GET",
            "/trailers",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n4\r\ndata\r\n0\r\nx-sum: 7\r\n\r\n",
        ),
        ("HEAD", "/length/3", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"),
        ("HEAD", "/stream/2", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"),
        ("GET", "/status/204", "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"),
        ("GET", "/status/304", "HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n"),
        ("GET", "/status/799", "HTTP/1.1 799 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        ("GET", "/hop", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx"),
        // What could not be told truthfully.
        (
            "GET",
            "/bad-length",
            "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\nconnection: close\r\n\r\n502 invalid_response\n",
        ),
        (
            "GET",
            "/status/103",
            "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\nconnection: close\r\n\r\n502 invalid_response\n",
        ),
        (
            "GET",
            "/upgrade",
            "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\nconnection: close\r\n\r\n502 invalid_response\n",
        ),
        // A body that fails has no clean end.
        ("GET", "/fail", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"),
        ("GET", "/short", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\n"),
        ("GET", "/long", ""),
    ];
    run(async {
        let server = Server::start(Options::default()).await;
        for (method, path, expected) in rows {
            let sent = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let got = server.exchange(sent.as_bytes()).await;
            let expected_alone = matches!(*path, "/fail" | "/short" | "/long");
            if expected_alone {
                assert!(!got.ends_with("0\r\n\r\n") && !got.contains("too long"), "{path}: {got}");
            } else {
                assert_eq!(got, *expected, "{method} {path}");
            }
        }
        let old = server.exchange(b"GET /stream/2 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
        assert_eq!(old, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\npiecepiece");
        let failed = server.seen.borrow().completed.iter().filter(|one| one.end == RequestEnd::ResponseFailed).count();
        assert_eq!(failed, 3);
    });
}

#[test]
fn connections_are_kept_as_the_versions_say() {
    run(async {
        let server = Server::start(Options::default()).await;
        let mut client = server.connect().await;
        for _ in 0..3 {
            client.send(b"GET /length/2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(client.read_until("xx").await, reply("", "xx"));
        }
        client.send(b"GET /length/2 HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n").await;
        assert_eq!(client.read_until("xx").await, reply("connection: keep-alive\r\n", "xx"));
        client.send(b"GET /length/2 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n").await;
        assert_eq!(client.read_to_end().await, reply("connection: close\r\n", "xx"));
        server.wait_until(|seen| seen.outcomes == [Outcome::Finished]).await;
    });
}

/// What a connection is, times the connections that a gateway has: what a request needs is not part of it.
#[test]
fn an_idle_connection_is_small() {
    let service = service_fn(async |_: Request<RequestBody>| {
        let large = [0u8; 8 * 1024];
        tokio::task::yield_now().await;
        Response::new(Full::new(Bytes::copy_from_slice(&large))).into()
    });
    let (_, io) = tokio::io::duplex(1);
    let future = serve(io, Rc::new(Options::default()), &service, pending());
    let size = size_of_val(&future);
    assert!(size <= 1536, "{size}");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    run(async {
        let server = Server::start(Options::default()).await;
        let mut sent = Vec::new();
        for _ in 0..50 {
            sent.extend_from_slice(b"POST /slowly/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
            sent.extend_from_slice(
                b"POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            );
        }
        sent.extend_from_slice(
            b"GET /length/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n",
        );
        let got = server.exchange(&sent).await;
        let both = reply("", "slow") + &reply("", "1 {}");
        assert_eq!(got, both.repeat(50) + &reply("connection: close\r\n", "x"));
        assert_eq!(server.seen.borrow().called.len(), 101);
    });
}

#[test]
fn one_byte_at_a_time() {
    run(async {
        let server = Server::start(Options::default()).await;
        let mut client = server.connect().await;
        let sent = b"\r\nPOST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nx: 1\r\n\r\n";
        for byte in sent {
            client.send(&[*byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.read_to_end().await, reply("connection: close\r\n", "3 {\"x\": \"1\"}"));
        let seen = server.seen.borrow();
        assert_eq!(seen.completed[0].received, sent.len() as u64);
    });
}

#[test]
fn big_bodies_go_both_ways_with_slow_readers() {
    run(async {
        let server = Server::start(Options::default()).await;
        let client = server.connect().await;
        let (mut reader, mut writer) = client.stream.into_split();
        const PIECE: usize = 50_000;
        const COUNT: usize = 100;
        let writing = tokio::task::spawn_local(async move {
            let head = format!(
                "POST /duplex HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                PIECE * COUNT
            );
            writer.write_all(head.as_bytes()).await.unwrap();
            for index in 0..COUNT {
                writer.write_all(&[index as u8; PIECE]).await.unwrap();
            }
            writer
        });
        let mut all = Vec::new();
        let mut buffer = vec![0; 30_000];
        loop {
            let length = reader.read(&mut buffer).await.unwrap();
            if length == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..length]);
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        drop(writing.await.unwrap());
        let start = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(all.len() - start, PIECE * COUNT);
        assert!(
            all[start..].chunks(PIECE).enumerate().all(|(index, piece)| piece.iter().all(|byte| *byte == index as u8))
        );
        server.wait_until(|seen| seen.completed.len() == 1).await;
        let seen = server.seen.borrow();
        assert_eq!(seen.completed[0].sent, all.len() as u64);
        assert_eq!(seen.completed[0].end, RequestEnd::Complete);
    });
}

#[test]
fn a_client_that_waits_is_told_to_go_on() {
    run(async {
        let server = Server::start(Options::default()).await;
        let mut client = server.connect().await;
        client.send(b"POST /count HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n").await;
        assert_eq!(client.read_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send(b"abc").await;
        assert_eq!(client.read_until("{}").await, reply("", "3 {}"));
        // The body came by itself: nobody needs to be told.
        client.send(b"POST /count HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc").await;
        assert_eq!(client.read_until("{}").await, reply("", "3 {}"));
        // Nothing to wait for.
        client.send(b"GET /count HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").await;
        assert_eq!(client.read_until("{}").await, reply("", "0 {}"));
        // Nobody wants the body: the client may send it or not, so the connection cannot go on.
        client.send(b"POST /ignore HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
        assert_eq!(client.read_to_end().await, reply("connection: close\r\n", "ignored"));
    });
}

#[test]
fn a_body_that_nobody_wants_is_discarded_within_bounds() {
    run(async {
        let server = Server::start(Options { linger: Duration::from_millis(200), ..Options::default() }).await;
        let mut client = server.connect().await;
        client.send(b"POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n").await;
        assert_eq!(client.read_until("ignored").await, reply("", "ignored"));
        client.send(&[b'x'; 30_000]).await;
        client
            .send(b"POST /ignore HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx: 1\r\n\r\n")
            .await;
        assert_eq!(client.read_until("ignored").await, reply("", "ignored"));
        client.send(b"POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n").await;
        assert_eq!(client.read_to_end().await, reply("connection: close\r\n", "ignored"));
        // A chunked body says nothing of its size; what doesn't end in time or is malformed ends the connection.
        for rest in ["2\r\nab\r\n", "nonsense"] {
            let mut client = server.connect().await;
            client.send(b"POST /ignore HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            client.send(rest.as_bytes()).await;
            assert_eq!(client.read_to_end().await, reply("", "ignored"));
        }
    });
}

#[test]
fn an_upgrade_hands_the_connection_over() {
    run(async {
        let server = Server::start(Options::default()).await;
        let mut client = server.connect().await;
        let head = b"GET /upgrade HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\nConnection: keep-alive, Upgrade\r\n\r\n";
        client.send(&[&head[..], b"ahead"].concat()).await;
        let expected = "HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\nahead";
        assert_eq!(client.read_until("ahead").await, expected);
        client.send(b"GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(client.read_until("\r\n\r\n").await, "GET / HTTP/1.1\r\n\r\n");
        assert!(server.seen.borrow().completed.is_empty());
        drop(client);
        server.wait_until(|seen| seen.outcomes == [Outcome::Upgraded]).await;
        let seen = server.seen.borrow();
        assert_eq!(seen.completed[0].received, head.len() as u64 + 5 + 18);
        assert_eq!(seen.completed[0].status.unwrap(), 101);
    });
}

#[test]
fn what_follows_an_upgrade_that_was_not_granted_is_not_a_request() {
    run(async {
        let server = Server::start(Options::default()).await;
        let sent = "GET /length/1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(server.exchange(sent.as_bytes()).await, reply("connection: close\r\n", "x"));
        assert_eq!(server.seen.borrow().called.len(), 1);
    });
}

#[test]
fn a_drain_closes_idle_connections_and_lets_busy_ones_finish() {
    run(async {
        let server = Server::start(Options::default()).await;
        let mut idle = server.connect().await;
        idle.send(b"GET /length/2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        idle.read_until("xx").await;
        let mut busy = server.connect().await;
        busy.send(b"GET /slowly/50 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut begun = server.connect().await;
        begun.send(b"GET /length/2 HTTP/1.1\r\nHo").await;
        server.wait_until(|seen| seen.called.len() == 2).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        server.drain();
        assert_eq!(idle.read_to_end().await, "");
        begun.send(b"st: a\r\n\r\n").await;
        assert_eq!(begun.read_to_end().await, reply("connection: close\r\n", "xx"));
        assert_eq!(busy.read_to_end().await, reply("connection: close\r\n", "slow"));
        server.wait_until(|seen| seen.outcomes.len() == 3).await;
        assert_eq!(server.seen.borrow().outcomes[0], Outcome::Drained);
    });
}

#[test]
fn a_drain_can_leave_idle_connections_one_more_request() {
    run(async {
        let server = Server::start(Options { idle_drain: Duration::from_secs(1), ..Options::default() }).await;
        let mut client = server.connect().await;
        client.send(b"GET /length/2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.read_until("xx").await;
        server.drain();
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.send(b"GET /length/2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.read_to_end().await, reply("connection: close\r\n", "xx"));
    });
}

const SHORT: Duration = Duration::from_millis(60);

#[test]
fn slow_clients_are_told_and_closed() {
    let refused = |reason: &str| {
        let text = format!("408 {reason}\n");
        format!(
            "HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        )
    };
    run(async {
        let options = Options {
            header_timeout: SHORT,
            idle_timeout: SHORT,
            body_idle_timeout: SHORT,
            linger: SHORT,
            ..Options::default()
        };
        let server = Server::start(options.clone()).await;
        // Nothing at all, then nothing after a response: closed without a word.
        assert_eq!(server.connect().await.read_to_end().await, "");
        let mut client = server.connect().await;
        client.send(b"GET /length/2 HTTP/1.1\r\nHost: a\r\n\r\n\r\n").await;
        assert_eq!(client.read_to_end().await, reply("", "xx"));
        assert_eq!(server.exchange(b"GET / HTTP/1.1\r\nHo").await, refused("header_timeout"));
        assert_eq!(
            server.exchange(b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab").await,
            refused("body_timeout")
        );
        {
            let seen = server.seen.borrow();
            assert_eq!(seen.outcomes[..2], [Outcome::Idle, Outcome::Idle]);
            assert_eq!(seen.refused, [("header_timeout", b"GET / HTTP/1.1\r\nHo".to_vec())]);
            assert_eq!(seen.completed[1].end, RequestEnd::Refused(Refusal::BodyTimeout));
            assert_eq!(seen.dropped_calls, 1);
        }
        let rate = BodyRate { grace: SHORT, bytes_per_second: 1000 };
        let server =
            Server::start(Options { body_rate: Some(rate), body_idle_timeout: Duration::from_secs(5), ..options })
                .await;
        let mut client = server.connect().await;
        client.send(b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n").await;
        let mut sender = client.stream;
        let mut got = Vec::new();
        loop {
            tokio::select! {
                _ = tokio::time::sleep(Duration::from_millis(10)) => drop(sender.write_all(b"x").await),
                length = sender.read_buf(&mut got) => if length.unwrap_or(0) == 0 { break },
            }
        }
        assert!(String::from_utf8(got).unwrap().contains("408 body_too_slow"));
    });
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    run(async {
        let server = Server::start(Options { write_stall_timeout: SHORT, ..Options::default() }).await;
        let mut client = server.connect().await;
        client.send(b"GET /big/5000 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        server.wait_until(|seen| seen.outcomes == [Outcome::WriteStalled]).await;
        assert_eq!(server.seen.borrow().completed[0].end, RequestEnd::WriteStalled);
    });
}

#[test]
fn a_client_that_goes_away_ends_its_request() {
    run(async {
        let server = Server::start(Options::default()).await;
        for (index, sent) in [
            &b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
            b"POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n",
        ]
        .iter()
        .enumerate()
        {
            let mut client = server.connect().await;
            client.send(sent).await;
            server.wait_until(|seen| seen.called.len() == index + 1).await;
            drop(client);
            server.wait_until(|seen| seen.outcomes.len() == index + 1).await;
            assert_eq!(server.seen.borrow().completed[index].end, RequestEnd::ClientGone, "{}", sent.escape_ascii());
        }
        assert_eq!(server.seen.borrow().dropped_calls, 3);
    });
}

#[test]
fn underscores_as_the_option_says() {
    let sent = b"GET / HTTP/1.1\r\nHost: a\r\nX_A: 1\r\nConnection: close\r\n\r\n";
    run(async {
        let server = Server::start(Options { underscores: UnderscorePolicy::Allow, ..Options::default() }).await;
        assert_eq!(
            server.exchange(sent).await,
            reply("connection: close\r\n", "GET http://a/ HTTP/1.1\nhost: a\nx_a: 1\n")
        );
        let server = Server::start(Options { underscores: UnderscorePolicy::Refuse, ..Options::default() }).await;
        assert!(server.exchange(sent).await.contains("400 underscore_in_header_name"));
    });
}

#[test]
fn the_response_may_come_before_the_body() {
    run(async {
        let server = Server::start(Options::default()).await;
        let mut client = server.connect().await;
        client.send(b"POST /duplex HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client.read_until("\r\n\r\n").await;
        for _ in 0..3 {
            client.send(b"2\r\nab\r\n").await;
            assert_eq!(client.read_until("ab\r\n").await, "2\r\nab\r\n");
        }
        client.send(b"0\r\nx-sum: 1\r\n\r\n").await;
        assert_eq!(client.read_until("\r\n\r\n").await, "0\r\nx-sum: 1\r\n\r\n");
        // A body that is refused after the response began: no clean end.
        client.send(b"POST /duplex HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n").await;
        client.read_until("ab\r\n").await;
        client.send(b"2;x\r\nab\r\n0\r\n\r\n").await;
        assert_eq!(client.read_to_end().await, "");
        server.wait_until(|seen| seen.completed.len() == 2).await;
        assert!(matches!(server.seen.borrow().completed[1].end, RequestEnd::ResponseFailed | RequestEnd::Refused(_)));
    });
}
