//! Features of HTTP, from every protocol towards clients to every protocol towards backends.

use crate::backend::{Answer, Backend, answer};
use crate::client::{Client, RequestBody, empty, get, once, raw, request};
use crate::gateway::{Gateway, Setup, backends, filtered, headers, invalid, prefix, rule, weighted};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use portcullis_model::{BackendProtocol, Filter, PathModifier, Redirect, RuleAction, UrlRewrite};

const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// A gateway and a backend of each protocol, and a client of each.
async fn every_pair(handler: fn(crate::backend::Seen) -> Answer) -> Vec<(Gateway, Backend, Version, bool)> {
    let mut pairs = Vec::new();
    for client in BOTH {
        for h2c in [false, true] {
            let backend = if h2c { Backend::with_h2c(handler).await } else { Backend::with(handler).await };
            let setup = if h2c { Setup::to_h2c(&[backend.address]) } else { Setup::to(&[backend.address]) };
            pairs.push((setup.start().await, backend, client, h2c));
        }
    }
    pairs
}

#[tokio::test]
async fn heads_and_bodies_arrive_as_they_were() {
    let echo = |seen: crate::backend::Seen| {
        let mut answer = answer(203, seen.body.clone());
        answer.headers_mut().insert("x-answer", "yes".parse().unwrap());
        answer.headers_mut().insert("server", "the-backend".parse().unwrap());
        answer
    };
    for (gateway, backend, version, h2c) in every_pair(echo).await {
        let mut client = Client::of(version, gateway.address).await;
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "REPORT"] {
            let fields = [("host", "example.com:8080"), ("x-a", "1"), ("x-a", "2"), ("cookie", "c=d")];
            let body = if method == "GET" { "" } else { "a body" };
            let got = client.whole(request(method, "/path/to?query=1&x=%20", &fields, body)).await;
            let (case, seen) = (format!("{version:?} {h2c} {method}"), backend.last());
            assert_eq!((got.status, got.text()), (203, body), "{case}");
            assert_eq!((got.header("x-answer"), got.header("server")), (Some("yes"), Some("the-backend")), "{case}");
            assert_eq!((seen.method.as_str(), seen.path().as_str()), (method, "/path/to?query=1&x=%20"), "{case}");
            assert_eq!(seen.host(), "example.com:8080", "{case}");
            assert_eq!(seen.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"], "{case}");
            assert_eq!(seen.version, if h2c { Version::HTTP_2 } else { Version::HTTP_11 }, "{case}");
            assert_eq!(seen.body, body, "{case}");
        }
        let head = client.whole(request("HEAD", "/", &[], "")).await;
        assert_eq!((head.status, head.body.len()), (203, 0));
        assert_eq!(backend.last().method, "HEAD");
    }
}

#[tokio::test]
async fn bodies_without_a_known_length_arrive() {
    for (gateway, backend, version, h2c) in every_pair(|seen| answer(200, seen.body)).await {
        let mut client = Client::of(version, gateway.address).await;
        for method in ["POST", "DELETE", "GET"] {
            if method == "GET" && version == Version::HTTP_11 {
                // hyper's own client would not send one.
                continue;
            }
            let mut request = request(method, "/", &[], "");
            *request.body_mut() = chunks(&["one ", "two ", "three"], None);
            let got = client.whole(request).await;
            assert_eq!(got.text(), "one two three", "{version:?} {h2c} {method}");
            assert_eq!(backend.last().header("content-length"), None);
        }
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    for h2c in [false, true] {
        let backend = Backend::streaming(h2c, |request: http::Request<hyper::body::Incoming>| async move {
            let trailers = request.into_body().collect().await.unwrap().trailers().cloned();
            let sum = trailers.as_ref().and_then(|trailers| trailers.get("x-sum")).cloned();
            let mut answer = answer(200, "");
            let mut back = HeaderMap::new();
            back.insert("x-back", sum.unwrap_or_else(|| "none".parse().unwrap()));
            answer.headers_mut().insert("trailer", "x-back".parse().unwrap());
            *answer.body_mut() = chunks(&["data"], Some(back));
            answer
        })
        .await;
        let setup = if h2c { Setup::to_h2c(&[backend.address]) } else { Setup::to(&[backend.address]) };
        let gateway = setup.start().await;
        for version in BOTH {
            let mut client = Client::of(version, gateway.address).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "42".parse().unwrap());
            let mut request = request("POST", "/", &[("te", "trailers"), ("trailer", "x-sum")], "");
            *request.body_mut() = chunks(&["a", "b"], Some(trailers));
            let got = client.whole(request).await;
            assert_eq!(got.text(), "data", "{version:?} {h2c}");
            let back = got.trailers.expect("trailers come back");
            assert_eq!(back["x-back"], "42", "{version:?} {h2c}");
        }
    }
}

#[tokio::test]
async fn hop_by_hop_fields_stay_on_their_hop() {
    let backend = Backend::with(|_| {
        let mut answer = answer(200, "x");
        for (name, value) in
            [("connection", "x-private"), ("x-private", "1"), ("keep-alive", "timeout=1"), ("x-public", "1")]
        {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        answer
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Drop\r\nX-Drop: 1\r\nX-Keep: 1\r\nTE: trailers, gzip\r\n\
                   Proxy-Connection: keep-alive\r\n\r\n";
    let answer = raw(gateway.address, request.as_bytes()).await.to_lowercase();
    let seen = backend.last();
    for (name, value) in [("x-drop", None), ("x-keep", Some("1")), ("te", Some("trailers")), ("proxy-connection", None)]
    {
        assert_eq!(seen.header(name), value, "{name}");
    }
    assert!(!answer.contains("x-private") && !answer.contains("keep-alive") && answer.contains("x-public"), "{answer}");
}

#[tokio::test]
async fn clients_cannot_say_where_they_are() {
    let backend = Backend::start("a").await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let spoofed = [
        ("host", "example.com:8080"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-client-cert", "By=x"),
        ("forwarded", "for=1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
        ("x-request-id", "mine"),
    ];
    once(gateway.address, request("GET", "/", &spoofed, "")).await;
    let seen = backend.last();
    for (name, value) in [
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("example.com:8080")),
        ("x-forwarded-port", Some("80")),
        ("x-forwarded-client-cert", None),
        ("forwarded", None),
        ("x-real-ip", None),
        ("via", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    let id = seen.header("x-request-id").unwrap().to_owned();
    assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    once(gateway.address, get("/")).await;
    assert_ne!(backend.last().header("x-request-id"), Some(&*id));
}

#[tokio::test]
async fn trusted_proxies_can() {
    let backend = Backend::start("a").await;
    let setup = Setup::to(&[backend.address]);
    let setup = setup.options(|options| options.forwarding.trusted_proxies = vec![("127.0.0.0".parse().unwrap(), 8)]);
    let gateway = setup.start_logged().await;
    let fields = [("x-forwarded-for", "1.2.3.4, 127.0.0.9"), ("x-forwarded-proto", "https"), ("x-request-id", "mine")];
    once(gateway.address, request("GET", "/", &fields, "")).await;
    let seen = backend.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("1.2.3.4, 127.0.0.9, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_ne!(seen.header("x-request-id"), Some("mine"), "none is kept");
    assert_eq!(gateway.log_lines(1).await[0]["client"], "1.2.3.4");
}

#[tokio::test]
async fn underscores_in_names_are_dropped_and_counted() {
    let backend = Backend::start("a").await;
    let gateway = Setup::to(&[backend.address]).start_logged().await;
    once(gateway.address, request("GET", "/", &[("x_user", "root"), ("x-user", "me")], "")).await;
    assert_eq!((backend.last().header("x_user"), backend.last().header("x-user")), (None, Some("me")));
    let line = &gateway.log_lines(1).await[0];
    assert_eq!(line["flags"], serde_json::json!(["HeadersDropped"]), "{line}");
}

#[tokio::test]
async fn what_is_forwarded_is_the_normal_form() {
    let backend = Backend::start("a").await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let path = |answer: String| answer.split(' ').nth(1).unwrap().to_owned();
    for (sent, forwarded) in
        [("/a/./b//c", "/a/b/c"), ("/%61/..%2e", ""), ("/a/../b?x=%2e%2e", "/b?x=%2e%2e"), ("/a%2fb", "/a%2Fb")]
    {
        let line = format!("GET {sent} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let status = path(raw(gateway.address, line.as_bytes()).await);
        match forwarded {
            "" => {}
            _ => assert_eq!((status.as_str(), backend.last().path().as_str()), ("200", forwarded), "{sent}"),
        }
    }
    for refused in ["/../a", "/a/..%2f", "/%00", "/a\\b", "/%zz", "/..;x/"] {
        let before = backend.count();
        let line = format!("GET {refused} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = raw(gateway.address, line.as_bytes()).await;
        assert_eq!((path(answer).as_str(), backend.count()), ("400", before), "{refused}");
    }
}

#[tokio::test]
async fn filters_of_rule_and_backend() {
    let backend = Backend::with(|_| {
        let mut answer = answer(200, "x");
        answer.headers_mut().insert("x-remove", "1".parse().unwrap());
        answer
    })
    .await;
    let full = |path: &str| PathModifier::ReplaceFullPath(path.into());
    let filters = vec![
        Filter::RequestHeaderModifier(headers(&[("x-set", "rule")], &[("x-add", "rule")], &["x-remove"])),
        Filter::ResponseHeaderModifier(headers(&[("x-set", "rule")], &[], &["x-remove"])),
        Filter::UrlRewrite(Box::new(UrlRewrite {
            hostname: Some("rewritten.example".into()),
            path: Some(full("/full")),
        })),
    ];
    let mut forwarding = filtered(rule(&["backend"]), filters);
    let of_backend = Filter::RequestHeaderModifier(headers(&[], &[("x-add", "backend")], &[]));
    backends(&mut forwarding)[0].filters.push(of_backend);
    let setup = Setup::new().backend("backend", BackendProtocol::Http1, &[backend.address]).rule(forwarding);
    let gateway = setup.start().await;
    let got = once(gateway.address, request("GET", "/a?q=1", &[("x-set", "client"), ("x-remove", "1")], "")).await;
    let seen = backend.last();
    assert_eq!((seen.path().as_str(), seen.host().as_str()), ("/full?q=1", "rewritten.example"));
    assert_eq!((seen.header("x-set"), seen.header("x-remove")), (Some("rule"), None));
    assert!(seen.headers.get_all("x-add").iter().any(|value| value.to_str().unwrap().contains("rule")));
    assert!(seen.headers.get_all("x-add").iter().any(|value| value.to_str().unwrap().contains("backend")));
    assert_eq!((got.header("x-set"), got.header("x-remove")), (Some("rule"), None));
}

#[tokio::test]
async fn redirects_and_missing_routes_are_answered_here() {
    let mut redirecting = rule(&[]);
    redirecting.action = RuleAction::Redirect(Box::new(Redirect {
        scheme: Some("https".into()),
        hostname: Some("other.example".into()),
        path: None,
        port: None,
        status_code: 308,
    }));
    redirecting.matches = vec![prefix("/old")];
    let gateway = Setup::new().rule(redirecting).start().await;
    for version in BOTH {
        let mut client = Client::of(version, gateway.address).await;
        let got = client.get("/old/page?x=1").await;
        assert_eq!(
            (got.status, got.header("location")),
            (308, Some("https://other.example/old/page?x=1")),
            "{version:?}"
        );
        let got = client.get("/new").await;
        assert_eq!((got.status, got.text()), (404, "404 Not Found: NoRoute\n"));
        assert_eq!(got.header("content-type"), Some("text/plain; charset=utf-8"));
        let got = client.whole(request("HEAD", "/new", &[], "")).await;
        assert_eq!((got.status, got.text()), (404, ""));
    }
}

#[tokio::test]
async fn what_cannot_be_served_says_so() {
    let backend = Backend::start("a").await;
    let refused = crate::backend::nobody();
    let mut not_permitted = rule(&[]);
    backends(&mut not_permitted).push(invalid(1));
    not_permitted.matches = vec![prefix("/not-permitted")];
    let at = |path: &str, mut rule: portcullis_model::Rule| {
        rule.matches = vec![prefix(path)];
        rule
    };
    let gateway = Setup::new()
        .backend("a", BackendProtocol::Http1, &[backend.address])
        .backend("none", BackendProtocol::Http1, &[])
        .backend("refused", BackendProtocol::Http1, &[refused.address])
        .rule(not_permitted)
        .rule(at("/empty", rule(&[])))
        .rule(at("/weightless", weighted(&[("a", 0)])))
        .rule(at("/no-endpoints", rule(&["none"])))
        .rule(at("/unknown", rule(&["unknown"])))
        .rule(at("/refused", rule(&["refused"])))
        .start()
        .await;
    for (path, status) in [
        ("/not-permitted", 500),
        ("/empty", 500),
        ("/weightless", 500),
        ("/no-endpoints", 503),
        ("/unknown", 503),
        ("/refused", 503),
    ] {
        for version in BOTH {
            let got = Client::of(version, gateway.address).await.get(path).await;
            assert_eq!(got.status, status, "{path}");
            assert!(got.text().starts_with(&status.to_string()) && !got.text().contains("127.0.0.1"), "{}", got.text());
        }
        let grpc = request("POST", path, &[("content-type", "application/grpc"), ("te", "trailers")], "x");
        let got = Client::http2(gateway.address).await.whole(grpc).await;
        let code = if status == 503 { "14" } else { "2" };
        assert_eq!((got.status, got.header("grpc-status")), (200, Some(code)), "{path}");
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn expectations_are_met() {
    let backend = Backend::with(|seen| answer(200, seen.body)).await;
    let gateway = Setup::to(&[backend.address]).start().await;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn grpc_streams_pass_in_both_directions_at_once() {
    let backend =
        Backend::streaming(true, |request: http::Request<hyper::body::Incoming>| async move {
            assert_eq!(request.headers()["te"], "trailers");
            // Each message is answered as it comes, before the stream ends.
            let (sender, receiver) = tokio::sync::mpsc::channel::<Frame<Bytes>>(1);
            tokio::spawn(async move {
                let mut body = request.into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    if let Ok(data) = frame.into_data() {
                        let _ = sender.send(Frame::data(data)).await;
                    }
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                let _ = sender.send(Frame::trailers(trailers)).await;
            });
            let frames = stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|frame| (Ok(frame), receiver))
            });
            http::Response::builder()
                .header("content-type", "application/grpc")
                .body(BodyExt::boxed(StreamBody::new(frames)))
                .unwrap()
        })
        .await;
    let gateway = Setup::to_h2c(&[backend.address]).start().await;
    let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::post("http://example.com/package.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut messages) = client.send_request(request, false).unwrap();
    messages.send_data(Bytes::from_static(b"first"), false).unwrap();
    let mut answers = response.await.unwrap().into_body();
    assert_eq!(answers.data().await.unwrap().unwrap(), "first");
    for message in ["second", "third"] {
        messages.send_data(Bytes::from(message), false).unwrap();
        assert_eq!(answers.data().await.unwrap().unwrap(), message);
    }
    messages.send_data(Bytes::new(), true).unwrap();
    assert!(answers.data().await.is_none());
    assert_eq!(answers.trailers().await.unwrap().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn names_are_resolved() {
    let backend = Backend::start("by name").await;
    let setup = Setup::new().external_name("backend", "localhost", backend.address.port()).rule(rule(&["backend"]));
    let gateway = setup.start().await;
    for _ in 0..3 {
        let got = once(gateway.address, get("/")).await;
        assert_eq!((got.status, got.text()), (200, "by name"));
    }
}

/// A body in pieces, of no known length, with trailers.
fn chunks(pieces: &'static [&'static str], trailers: Option<HeaderMap>) -> RequestBody {
    let data = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
    let frames: Vec<_> = data.chain(trailers.map(|trailers| Ok(Frame::trailers(trailers)))).collect();
    if frames.is_empty() { empty() } else { BodyExt::boxed(StreamBody::new(stream::iter(frames))) }
}
