//! Tries: which there are, how many, and what limits them (GEP-1731).

use crate::backend::{Backend, answer, nobody};
use crate::client::{Client, full, get, once, request};
use crate::gateway::{Setup, retry};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers with each of the statuses in turn, and with the last one from then on.
async fn statuses(all: &'static [u16]) -> Backend {
    let count = Arc::new(AtomicUsize::new(0));
    Backend::with(move |seen| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        answer(*all.get(number).unwrap_or(all.last().unwrap()), seen.body)
    })
    .await
}

#[tokio::test]
async fn listed_codes_are_tried_again_as_often_as_the_route_says() {
    for (all, codes, attempts, status, tries) in [
        (&[503, 200][..], &[503][..], 1, 200, 2),
        (&[503, 503, 200], &[503], 1, 503, 2),
        (&[503, 503, 200], &[503], 2, 200, 3),
        (&[500, 503, 200], &[500, 503], 5, 200, 3),
        (&[500, 200], &[503], 3, 500, 1),
        (&[200], &[500, 502, 503, 504], 3, 200, 1),
        (&[502, 504, 500], &[500, 502, 504], 2, 500, 3),
    ] {
        for h2c in [false, true] {
            let count = Arc::new(AtomicUsize::new(0));
            let handler = move |seen: crate::backend::Seen| {
                let number = count.fetch_add(1, Ordering::SeqCst);
                answer(*all.get(number).unwrap_or(all.last().unwrap()), seen.body)
            };
            let backend = if h2c { Backend::with_h2c(handler).await } else { Backend::with(handler).await };
            let setup = if h2c { Setup::to_h2c(&[backend.address]) } else { Setup::to(&[backend.address]) };
            let gateway = setup.with(|rule| rule.retry = retry(codes, attempts, 1)).start().await;
            let got = once(gateway.address, request("POST", "/", &[], "the body")).await;
            assert_eq!((got.status, backend.count(), got.text()), (status, tries, "the body"), "{all:?} {codes:?}");
        }
    }
}

#[tokio::test]
async fn without_a_stanza_no_code_is_tried_again() {
    let backend = statuses(&[503, 200]).await;
    let gateway = Setup::to(&[backend.address]).start().await;
    assert_eq!(once(gateway.address, get("/")).await.status, 503);
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn refused_connections_are_tried_again_at_other_endpoints() {
    let good = Backend::start("good").await;
    let nobodies: Vec<_> = (0..4).map(|_| nobody()).collect();
    let mut endpoints: Vec<_> = nobodies.iter().map(|nobody| nobody.address).collect();
    endpoints.push(good.address);
    let gateway = Setup::to(&endpoints).with(|rule| rule.retry = retry(&[], 2, 1)).start().await;
    for _ in 0..20 {
        assert_eq!(once(gateway.address, get("/")).await.text(), "good");
    }
}

#[tokio::test]
async fn a_request_that_the_backend_had_is_repeated_only_if_that_does_no_harm() {
    for (method, tries) in [("GET", 2), ("PUT", 2), ("POST", 1), ("PATCH", 1)] {
        // Reads the request, then closes: what it did with it, nobody knows.
        let backend = Backend::raw(|mut stream, _| async move {
            let _ = stream.read(&mut [0; 4096]).await;
        })
        .await;
        let gateway = Setup::to(&[backend.address]).with(|rule| rule.retry = retry(&[502, 503], 3, 1)).start().await;
        assert_eq!(once(gateway.address, request(method, "/", &[], "")).await.status, 502);
        assert_eq!(backend.accepted(), tries, "{method}");
    }
}

#[tokio::test]
async fn the_whole_is_bounded_by_the_request_timeout() {
    let backend = statuses(&[503]).await;
    let setup = Setup::to(&[backend.address]).with(|rule| {
        rule.retry = retry(&[503], 1000, 50);
        rule.timeouts.request = Some(Duration::from_millis(300));
    });
    let gateway = setup.start_logged().await;
    assert_eq!(once(gateway.address, get("/")).await.status, 504);
    assert!((2..=6).contains(&backend.count()), "{}", backend.count());
    let line = &gateway.log_lines(1).await[0];
    assert_eq!(line["reason"], "RequestTimeout");
}

#[tokio::test]
async fn tries_pause() {
    let backend = statuses(&[503, 503, 200]).await;
    let gateway = Setup::to(&[backend.address]).with(|rule| rule.retry = retry(&[503], 2, 100)).start().await;
    let began = Instant::now();
    assert_eq!(once(gateway.address, get("/")).await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(300), "100 ms, then 200 ms at least");
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_tried_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let backend = Backend::streaming(false, move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            if number < 2 {
                std::future::pending::<()>().await;
            }
            answer(200, "in time")
        }
    })
    .await;
    let setup = Setup::to(&[backend.address]).with(|rule| {
        rule.retry = retry(&[503], 2, 1);
        rule.timeouts.backend_request = Some(Duration::from_millis(100));
        rule.timeouts.request = Some(Duration::from_secs(15));
    });
    let gateway = setup.start().await;
    let got = once(gateway.address, request("POST", "/", &[], "the body")).await;
    assert_eq!((got.status, got.text()), (200, "in time"));
    assert_eq!(gateway.metric("portcullis_retries_total{reason=\"Timeout\"}"), 2.0);
}

#[tokio::test]
async fn a_body_larger_than_what_is_kept_is_tried_once() {
    let backend = statuses(&[503, 200]).await;
    let setup = Setup::to(&[backend.address]).with(|rule| rule.retry = retry(&[503], 3, 1));
    let gateway = setup.options(|options| options.upstream.retry_buffer = 1000).start_logged().await;
    let got = once(gateway.address, request("POST", "/", &[], vec![b'x'; 5000])).await;
    assert_eq!((got.status, backend.count()), (503, 1));
    let line = &gateway.log_lines(1).await[0];
    assert_eq!(line["flags"], serde_json::json!(["RetryBufferExceeded"]), "{line}");
    let got = once(gateway.address, request("POST", "/", &[], vec![b'x'; 1000])).await;
    assert_eq!((got.status, backend.count()), (200, 2));
}

#[tokio::test]
async fn a_connection_that_went_stale_costs_no_request() {
    // Answers one request per connection, says that it stays open, and closes when the next one comes.
    let backend = Backend::raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let mut client = Client::http1(gateway.address).await;
    for number in 0..5 {
        let got = client.get("/").await;
        assert_eq!((got.status, got.text()), (200, "ok"), "{number}");
    }
    // Half of the requests found a connection that failed, and were sent once more on a fresh one.
    assert!(gateway.metric("portcullis_retries_total{reason=\"StaleConnection\"}") >= 2.0);
    let mut put = request("PUT", "/", &[], "");
    *put.body_mut() = full("a body to repeat");
    assert_eq!(client.whole(put).await.status, 200);
}

#[tokio::test]
async fn a_closed_connection_is_noticed_before_a_request_that_cannot_be_repeated() {
    let backend = Backend::raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        // Closed without a word, as backends do with connections that were idle for too long.
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start().await;
    let mut client = Client::http1(gateway.address).await;
    for number in 0..10 {
        let got = client.whole(request("POST", "/", &[], "once only")).await;
        assert_eq!(got.status, 200, "{number}");
        backend.open_becomes(0).await;
    }
}

#[tokio::test]
async fn http2_requests_that_were_not_processed_are_repeated() {
    // The first connection goes away without looking at the second request; the next one serves.
    let backend = Backend::raw(|stream, number| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut served = 0;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            served += 1;
            if number == 0 && served == 2 {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                continue;
            }
            let response = http::Response::new(());
            let mut stream = respond.send_response(response, false).unwrap();
            stream.send_data("ok".into(), true).unwrap();
        }
    })
    .await;
    let gateway = Setup::to_h2c(&[backend.address]).start().await;
    let mut client = Client::http1(gateway.address).await;
    for number in 0..5 {
        let got = client.whole(request("POST", "/", &[], "x")).await;
        assert_eq!((got.status, got.text()), (200, "ok"), "{number}");
    }
    assert_eq!(gateway.metric("portcullis_retries_total{reason=\"NotProcessed\"}"), 1.0);
}
