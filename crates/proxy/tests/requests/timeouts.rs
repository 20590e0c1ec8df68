//! `timeouts.request` and `timeouts.backendRequest` (GEP-1742).

use crate::backend::{Backend, answer};
use crate::client::{Client, get, once, request};
use crate::gateway::Setup;
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn silent() -> Backend {
    Backend::streaming(false, |_| async {
        std::future::pending::<()>().await;
        answer(200, "")
    })
    .await
}

#[tokio::test]
async fn a_response_that_does_not_come_is_504() {
    let backend = silent().await;
    for (request_timeout, backend_timeout, reason) in [
        (Some(50), None, "RequestTimeout"),
        (None, Some(50), "UpstreamTimeout"),
        (Some(50), Some(5000), "RequestTimeout"),
    ] {
        let setup = Setup::to(&[backend.address]).with(|rule| {
            rule.timeouts.request = request_timeout.map(Duration::from_millis);
            rule.timeouts.backend_request = backend_timeout.map(Duration::from_millis);
        });
        let gateway = setup.start_logged().await;
        assert_eq!(once(gateway.address, get("/")).await.status, 504);
        assert_eq!(gateway.log_lines(1).await[0]["reason"], reason);
        backend.open_becomes(0).await;
    }
}

#[tokio::test]
async fn a_response_that_does_not_end_is_cut() {
    let backend = Backend::raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf").await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let setup = Setup::to(&[backend.address]).with(|rule| rule.timeouts.request = Some(Duration::from_millis(100)));
    let gateway = setup.start_logged().await;
    let response = Client::http1(gateway.address).await.send(get("/")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err());
    let line = &gateway.log_lines(1).await[0];
    assert_eq!((&line["status"], &line["flags"]), (&200.into(), &serde_json::json!(["RequestTimeout"])), "{line}");
    backend.open_becomes(0).await;
}

#[tokio::test]
async fn without_a_limit_a_slow_response_is_waited_for() {
    let backend = Backend::streaming(false, |_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        answer(200, "slow")
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    assert_eq!(once(gateway.address, request("POST", "/", &[], "x")).await.text(), "slow");
}
