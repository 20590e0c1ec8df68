//! Requests as they must not be: one row per hostile message, with the reason it is refused for. The service never sees the
//! head that is refused, and what follows a refusal is not looked at.

#[path = "h1/support.rs"]
mod support;

use portcullis_proxy::http::h1::{HTTP2_PREFACE, Options, Outcome, Protocol, Refusal, RequestEnd, sniff};
use std::time::Duration;
use support::{Server, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use Refusal::*;

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

/// What stands in the place of a whole head.
const HEADS: &[(&str, Refusal)] = &[
    ("\x16\x03\x01\x02\x00\x01", TlsOnPlainPort),
    ("\x00", InvalidMethod),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
    ("\tGET / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", EmptyLines),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareLf),
    ("\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareLf),
    ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareCr),
    ("GET / HTTP/1.1\nHost: a\n\n", BareLf),
    ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", BareLf),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLf),
    ("GET / HTTP/1.1\rHost: a\r\n\r\n", BareCr),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\rContent-Length: 5\r\n\r\n", BareCr),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\r\n\r\n", BareCr),
    ("GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n", BareCr),
    // The request line.
    ("G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
    ("GET\x0b/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
    ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidRequestLine),
    ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", InvalidRequestLine),
    ("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", InvalidRequestLine),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", InvalidRequestLine),
    ("GET / HTTP/1.1\t\r\nHost: a\r\n\r\n", InvalidRequestLine),
    ("GET / a HTTP/1.1\r\nHost: a\r\n\r\n", InvalidRequestLine),
    ("GET /\r\n", InvalidRequestLine),
    ("GET\r\nHost: a\r\n\r\n", InvalidRequestLine),
    ("GET / \r\nHost: a\r\n\r\n", InvalidRequestLine),
    ("GET /\rHTTP/1.1\r\nHost: a\r\n\r\n", BareCr),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", InvalidVersion),
    ("GET / HTTP/1\r\nHost: a\r\n\r\n", InvalidVersion),
    ("GET / HTTP/11\r\nHost: a\r\n\r\n", InvalidVersion),
    ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", InvalidVersion),
    ("GET / HTTP/01.1\r\nHost: a\r\n\r\n", InvalidVersion),
    ("GET / HTTP/1,1\r\nHost: a\r\n\r\n", InvalidVersion),
    ("GET / HTTPS/1.1\r\nHost: a\r\n\r\n", InvalidVersion),
    ("GET / HTTP/1.\u{661}\r\nHost: a\r\n\r\n", InvalidVersion),
    ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", UnsupportedVersion),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", UnsupportedVersion),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", UnsupportedVersion),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UnsupportedVersion),
    // The request target.
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET ?q HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET /\"<>\" HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET http:///p HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
    ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", HostMismatch),
    ("GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", HostMismatch),
    ("GET http://a/ HTTP/1.1\r\n\r\n", MissingHost),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", ConnectNotSupported),
    ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", ConnectNotSupported),
    // Names and values.
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", ObsFold),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", ObsFold),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\t2\r\n\r\n", ObsFold),
    ("GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", ObsFold),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", SpaceBeforeColon),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello", SpaceBeforeColon),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n", SpaceBeforeColon),
    ("GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", InvalidHeaderName),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", InvalidHeaderName),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\x00: 1\r\n\r\n", InvalidHeaderName),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\x0b: 1\r\n\r\n", InvalidHeaderName),
    ("GET / HTTP/1.1\r\nHost: a\r\nX(: 1\r\n\r\n", InvalidHeaderName),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: 1\r\n\r\n", InvalidHeaderName),
    ("GET / HTTP/1.1\r\nHost: a\r\n\"X\": 1\r\n\r\n", InvalidHeaderName),
    ("GET / HTTP/1.1\r\nHost: a\r\nX=1\r\n\r\n", InvalidHeaderName),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", InvalidHeaderValue),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \x0b1\r\n\r\n", InvalidHeaderValue),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\x0c\r\n\r\n", InvalidHeaderValue),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \x1b\r\n\r\n", InvalidHeaderValue),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", InvalidHeaderValue),
    // Host.
    ("GET / HTTP/1.1\r\n\r\n", MissingHost),
    ("GET / HTTP/1.0\r\n\r\n", MissingHost),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", DuplicateHost),
    ("GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", DuplicateHost),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: u:p@a\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: .a\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: .\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a:0\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a:080\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: :80\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: [::1%25lo]\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: [a]\r\n\r\n", InvalidHost),
    ("GET / HTTP/1.1\r\nHost: *\r\n\r\n", InvalidHost),
    // Framing.
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nhello", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5,\r\n\r\nhello", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"5\"\r\n\r\nhello", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\nhello", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5_0\r\n\r\nhello", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello", InvalidContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", DuplicateContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello", DuplicateContentLength),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        LengthAndTransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
        LengthAndTransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\nhello",
        LengthAndTransferEncoding,
    ),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", TransferEncodingInHttp10),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        DuplicateTransferEncoding,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        DuplicateTransferEncoding,
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", DuplicateTransferEncoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", UnsupportedTransferCoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", UnsupportedTransferCoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", UnsupportedTransferCoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", UnsupportedTransferCoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", InvalidTransferEncoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n", InvalidTransferEncoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n", InvalidTransferEncoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", InvalidTransferEncoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", InvalidTransferEncoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\u{a0}\r\n\r\n", InvalidTransferEncoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", InvalidHeaderValue),
    // What concerns the connection.
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: (\r\n\r\n", InvalidConnection),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close;x\r\n\r\n", InvalidConnection),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n", ForbiddenConnectionOption),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, authorization\r\n\r\n", ForbiddenConnectionOption),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: Cookie\r\n\r\n", ForbiddenConnectionOption),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For\r\n\r\n", ForbiddenConnectionOption),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Real-IP\r\n\r\n", ForbiddenConnectionOption),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\n\r\n", ForbiddenConnectionOption),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Transfer-Encoding\r\n\r\n", ForbiddenConnectionOption),
    ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\n\r\n", UnsupportedExpectation),
    ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", UnsupportedExpectation),
    ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n\r\n", UnsupportedExpectation),
    ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: a\r\nUpgrade: b\r\nConnection: upgrade\r\n\r\n", InvalidUpgrade),
    ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: (\r\nConnection: upgrade\r\n\r\n", InvalidUpgrade),
    ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: \r\nConnection: upgrade\r\n\r\n", InvalidUpgrade),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: a\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello",
        UpgradeWithBody,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: a\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n\r\n",
        UpgradeWithBody,
    ),
    ("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", TraceWithBody),
];

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
    let rows: &[(&str, Refusal)] = &[
        ("x\r\n", InvalidChunkSize),
        ("\r\n", InvalidChunkSize),
        (" 1\r\na\r\n0\r\n\r\n", InvalidChunkSize),
        ("1 \r\na\r\n0\r\n\r\n", InvalidChunkSize),
        ("0x1\r\na\r\n0\r\n\r\n", InvalidChunkSize),
        ("-1\r\na\r\n0\r\n\r\n", InvalidChunkSize),
        ("1;a=b\r\na\r\n0\r\n\r\n", ChunkExtension),
        ("1;\na\r\n0\r\n\r\n", ChunkExtension),
        ("1\na\r\n0\r\n\r\n", BareLf),
        ("1\ra\r\n0\r\n\r\n", BareCr),
        ("1\r\naa\r\n0\r\n\r\n", InvalidChunkEnd),
        ("1\r\na\n0\r\n\r\n", InvalidChunkEnd),
        ("1\r\na0\r\n\r\n", InvalidChunkEnd),
        ("10000000000000001\r\na\r\n0\r\n\r\n", ChunkSizeTooLarge),
        ("ffffffffffffffff\r\na\r\n0\r\n\r\n", ChunkSizeTooLarge),
        ("0\r\nHost: b\r\n\r\n", ForbiddenTrailer),
        ("0\r\nContent-Length: 1\r\n\r\n", ForbiddenTrailer),
        ("0\r\nx: 1\n\r\n", BareLf),
        ("0\r\n x: 1\r\n\r\n", ObsFold),
        ("0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", SpaceBeforeColon),
    ];
    run(async {
        let server = Server::start(Options { linger: Duration::from_millis(50), ..Options::default() }).await;
        for (body, refusal) in rows {
            let head = "POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut client = server.connect().await;
            client.send(format!("{head}{body}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
            client.stream.shutdown().await.unwrap();
            assert_eq!(client.read_to_end().await, answer(*refusal), "{}", body.escape_debug());
        }
        server.wait_until(|seen| seen.outcomes.len() == rows.len()).await;
        let seen = server.seen.borrow();
        assert!(seen.called.iter().all(|called| called == "POST http://a/count"));
        for ((_, refusal), summary) in rows.iter().zip(&seen.completed) {
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
