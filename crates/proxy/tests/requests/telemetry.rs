//! One line and one count for each request.

use crate::backend::{Backend, answer};
use crate::client::{Client, raw, request};
use crate::gateway::{Setup, prefix, rule};
use http::Version;
use portcullis_model::BackendProtocol::Http1;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ROUTE: &str = "gateway=\"default/gateway\",listener=\"http\",route=\"HTTPRoute/default/route\"";

#[tokio::test]
async fn the_series_of_a_removed_route_go_and_those_of_one_that_came_back_stay() {
    let backend = Backend::with(|_| answer(200, "four")).await;
    let setup = Setup::to(&[backend.address]).options(|options| options.timeouts.port_drain = Duration::ZERO);
    let gateway = setup.start().await;
    let served = format!("portcullis_requests_total{{{ROUTE},code_class=\"2xx\"}}");
    let mut client = Client::http1(gateway.address).await;
    assert_eq!(client.get("/").await.status, 200);
    gateway.metric_becomes(&served, 1.0).await;
    gateway.remove_route().await;
    assert_eq!(client.get("/").await.status, 404);
    gateway.metric_becomes(&served, 0.0).await;
    gateway.set_rules(vec![rule(&["backend"])]).await;
    assert_eq!(client.get("/").await.status, 200);
    gateway.metric_becomes(&served, 1.0).await;
}

#[tokio::test]
async fn every_request_is_counted_once() {
    let backend = Backend::with(|seen| answer(seen.path()[1..].parse().unwrap_or(200), "four")).await;
    let mut named = rule(&["a"]);
    named.name = Some("numbers".into());
    named.matches = ["/2", "/4", "/5"].map(prefix).into();
    named.matches.push(prefix("/"));
    let setup = Setup::new().backend("a", Http1, &[backend.address]).rule(named);
    let setup = setup.options(|options| {
        options.workers = 2;
        options.telemetry.by_rule = true;
    });
    let gateway = setup.start_logged().await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for _ in 0..3 {
            let mut client = Client::of(version, gateway.address).await;
            for status in [200, 201, 404, 503] {
                assert_eq!(client.whole(request("POST", &format!("/{status}"), &[], "body!")).await.status, status);
            }
        }
    }
    assert_eq!(gateway.log_lines(24).await.len(), 24);
    for (class, count) in [("2xx", 12.0), ("4xx", 6.0), ("5xx", 6.0)] {
        gateway.metric_becomes(&format!("portcullis_requests_total{{{ROUTE},code_class=\"{class}\"}}"), count).await;
        let rule = format!(
            "portcullis_rule_requests_total{{gateway=\"default/gateway\",route=\"HTTPRoute/default/route\",rule=\"numbers\",\
             code_class=\"{class}\"}}"
        );
        assert_eq!(gateway.metric(&rule), count);
    }
    for (series, value) in [
        (format!("portcullis_request_duration_seconds_count{{{ROUTE}}}"), 24.0),
        (format!("portcullis_request_bytes_total{{{ROUTE}}}"), 24.0 * 5.0),
        (format!("portcullis_response_bytes_total{{{ROUTE}}}"), 24.0 * 4.0),
        (
            "portcullis_error_responses_total{gateway=\"default/gateway\",listener=\"http\",code=\"404\"}".to_owned(),
            6.0,
        ),
        (
            "portcullis_error_responses_total{gateway=\"default/gateway\",listener=\"http\",code=\"503\"}".to_owned(),
            6.0,
        ),
        ("portcullis_requests_active".to_owned(), 0.0),
    ] {
        assert_eq!(gateway.metric(&series), value, "{series}");
    }
}

#[tokio::test]
async fn lines_say_where_a_request_went() {
    let backend = Backend::start("four").await;
    let mut named = rule(&["a"]);
    named.name = Some("the-rule".into());
    named.matches = vec![prefix("/a")];
    let gateway = Setup::new().backend("a", Http1, &[backend.address]).rule(named).start_logged().await;
    let mut client = Client::http1(gateway.address).await;
    let fields = [("host", "example.com:8080"), ("user-agent", "test \"1\"")];
    client.whole(request("POST", "/a//b?secret=1", &fields, "body!")).await;
    client.get("/nowhere").await;
    let lines = gateway.log_lines(2).await;
    let line = &lines[0];
    for (name, value) in [
        ("gateway", json!("default/gateway")),
        ("port", json!(80)),
        ("client", json!("127.0.0.1")),
        ("protocol", json!("HTTP/1.1")),
        ("method", json!("POST")),
        ("host", json!("example.com:8080")),
        ("path", json!("/a/b")),
        ("status", json!(200)),
        ("flags", json!([])),
        ("listener", json!("http")),
        ("route", json!("HTTPRoute/default/route")),
        ("rule", json!(0)),
        ("rule_name", json!("the-rule")),
        ("backend", json!("default/a:80")),
        ("endpoint", json!(backend.address.to_string())),
        ("tries", json!(1)),
        ("request_bytes", json!(5)),
        ("response_bytes", json!(4)),
        ("user_agent", json!("test \"1\"")),
        ("request_id", json!(backend.last().header("x-request-id").unwrap())),
    ] {
        assert_eq!(line[name], value, "{name} in {line}");
    }
    assert!(line["duration"].as_f64().unwrap() >= line["upstream_duration"].as_f64().unwrap());
    assert!(line.get("query").is_none() && line.get("reason").is_none(), "{line}");
    let line = &lines[1];
    assert_eq!((&line["status"], &line["reason"]), (&json!(404), &json!("NoRoute")));
    assert_eq!((&line["flags"], &line["listener"]), (&json!(["GatewayAnswer"]), &json!("http")));
    assert!(line.get("route").is_none() && line.get("backend").is_none(), "{line}");
    let answers = "portcullis_answers_total{gateway=\"default/gateway\",reason=\"NoRoute\"}";
    assert_eq!(gateway.metric(answers), 1.0);
}

#[tokio::test]
async fn refused_requests_have_a_line_and_a_count() {
    let gateway = Setup::new().start_logged().await;
    let answer = raw(gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let line = &gateway.log_lines(1).await[0];
    assert_eq!((&line["status"], &line["reason"]), (&json!(400), &json!("duplicate_host")), "{line}");
    let refused = "portcullis_requests_refused_total{gateway=\"default/gateway\",reason=\"duplicate_host\"}";
    assert_eq!(gateway.metric(refused), 1.0);
}

#[tokio::test]
async fn failures_of_backends_are_counted_by_reason() {
    let nobody = crate::backend::nobody();
    let gateway = Setup::to(&[nobody.address]).start_logged().await;
    let mut client = Client::http1(gateway.address).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status, 503);
    }
    let errors = "portcullis_upstream_errors_total{backend=\"default/backend:80\",reason=\"ConnectFailure\"}";
    assert_eq!(gateway.metric(errors), 3.0);
    let line = &gateway.log_lines(3).await[0];
    assert_eq!(line["reason"], "UpstreamConnectFailure");
    assert_eq!(line["flags"], json!(["GatewayAnswer", "UpstreamConnectFailure"]));
}

#[tokio::test]
async fn a_body_that_is_refused_after_its_head_is_counted_by_reason() {
    let backend = Backend::with(|_| answer(200, "four")).await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    gateway.metric_becomes("portcullis_requests_active", 1.0).await;
    stream.write_all(b"5;extension\r\nhello\r\n0\r\n\r\n").await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    assert!(response.starts_with(b"HTTP/1.1 400 "), "{}", response.escape_ascii());
    let refused = "portcullis_requests_refused_total{gateway=\"default/gateway\",reason=\"chunk_extension\"}";
    gateway.metric_becomes(refused, 1.0).await;
}
