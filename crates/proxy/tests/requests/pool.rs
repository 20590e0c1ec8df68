//! Connections to backends.

use crate::backend::{Backend, answer};
use crate::client::{Client, get};
use crate::gateway::Setup;
use std::time::Duration;

#[tokio::test]
async fn one_connection_serves_requests_one_after_the_other() {
    for h2c in [false, true] {
        let backend = if h2c { Backend::start_h2c("x").await } else { Backend::start("x").await };
        let setup = if h2c { Setup::to_h2c(&[backend.address]) } else { Setup::to(&[backend.address]) };
        let gateway = setup.start().await;
        for _ in 0..3 {
            let mut client = Client::http1(gateway.address).await;
            for _ in 0..10 {
                assert_eq!(client.get("/").await.status, 200);
            }
        }
        assert_eq!((backend.accepted(), backend.count()), (1, 30), "{h2c}");
        assert_eq!(gateway.metric("portcullis_upstream_connections_opened_total"), 1.0);
        assert_eq!(gateway.metric("portcullis_upstream_connections_reused_total"), 29.0);
        assert_eq!(gateway.metric("portcullis_upstream_connections"), 1.0);
    }
}

#[tokio::test]
async fn http2_opens_another_connection_when_one_is_full() {
    let backend = Backend::streaming(true, |_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        answer(200, "x")
    })
    .await;
    let setup = Setup::to_h2c(&[backend.address]);
    let gateway = setup.options(|options| options.upstream.http2_streams_per_connection = 5).start().await;
    let clients: Vec<_> = (0..20)
        .map(|_| tokio::spawn(async move { Client::http1(gateway.address).await.get("/").await.status }))
        .collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), 200);
    }
    assert_eq!(backend.accepted(), 4);
}

#[tokio::test]
async fn idle_connections_are_closed() {
    for h2c in [false, true] {
        let backend = if h2c { Backend::start_h2c("x").await } else { Backend::start("x").await };
        let setup = if h2c { Setup::to_h2c(&[backend.address]) } else { Setup::to(&[backend.address]) };
        let setup = setup.options(|options| options.upstream.idle_timeout = Duration::from_millis(100));
        let gateway = setup.start().await;
        assert_eq!(Client::http1(gateway.address).await.get("/").await.status, 200);
        backend.open_becomes(0).await;
        gateway.metric_becomes("portcullis_upstream_connections", 0.0).await;
    }
}

#[tokio::test]
async fn the_number_of_connections_can_be_limited() {
    let backend = Backend::streaming(false, |_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        answer(200, "x")
    })
    .await;
    let setup = Setup::to(&[backend.address]);
    let gateway = setup.options(|options| options.upstream.max_connections_per_endpoint = Some(2)).start().await;
    let clients: Vec<_> = (0..5)
        .map(|_| tokio::spawn(async move { Client::http1(gateway.address).await.get("/").await.status }))
        .collect();
    let mut statuses = Vec::new();
    for client in clients {
        statuses.push(client.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503, 503]);
    assert_eq!(Client::http1(gateway.address).await.send(get("/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn backends_that_close_after_each_response_are_fine() {
    let backend = Backend::with(|_| {
        let mut answer = answer(200, "x");
        answer.headers_mut().insert("connection", "close".parse().unwrap());
        answer
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let mut client = Client::http1(gateway.address).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "x");
    }
    assert_eq!(backend.accepted(), 10);
}
