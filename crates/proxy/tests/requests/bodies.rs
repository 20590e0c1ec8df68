//! Bodies stream: nothing piles up, and who goes away is told to the other side.

use crate::backend::{Backend, answer};
use crate::client::{Client, get, request};
use crate::gateway::Setup;
use bytes::Bytes;
use futures_util::stream;
use http::Version;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CHUNK: usize = 64 * 1024;
/// More than all buffers on the way together: of the kernel, of both connections, of HTTP/2's windows.
const MUCH: usize = 256 * 1024 * 1024;

/// An endless body, and how much of it was taken.
fn endless() -> (crate::client::RequestBody, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let frames = stream::repeat_with(move || {
        count.fetch_add(CHUNK, Ordering::SeqCst);
        Ok(Frame::data(chunk.clone()))
    });
    (BodyExt::boxed(StreamBody::new(frames)), taken)
}

/// Waits until nothing more is taken.
async fn settled(taken: &AtomicUsize) -> usize {
    let mut before = usize::MAX;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = taken.load(Ordering::SeqCst);
        if now == before {
            return now;
        }
        before = now;
    }
}

#[tokio::test]
async fn a_backend_that_does_not_read_stops_the_client() {
    for (version, h2c) in
        [(Version::HTTP_11, false), (Version::HTTP_2, false), (Version::HTTP_11, true), (Version::HTTP_2, true)]
    {
        let backend = Backend::streaming(h2c, |request| async move {
            std::future::pending::<()>().await;
            drop(request);
            answer(200, "")
        })
        .await;
        let setup = if h2c { Setup::to_h2c(&[backend.address]) } else { Setup::to(&[backend.address]) };
        let gateway = setup.start().await;
        let (body, taken) = endless();
        let mut client = Client::of(version, gateway.address).await;
        let mut request = request("POST", "/", &[], "");
        *request.body_mut() = body;
        let sending = tokio::spawn(async move { client.send(request).await.map(drop) });
        let taken = settled(&taken).await;
        assert!(taken < MUCH, "{version:?} {h2c}: {taken}");
        sending.abort();
        // On HTTP/1.1, the client's end cannot be seen behind bytes that nobody reads.
        if version == Version::HTTP_2 {
            gateway.metric_becomes("portcullis_requests_active", 0.0).await;
            gateway.metric_becomes("portcullis_upstream_connections", if h2c { 1.0 } else { 0.0 }).await;
        }
    }
}

#[tokio::test]
async fn a_backend_that_takes_nothing_for_too_long_is_given_up() {
    let backend = Backend::raw(|stream, _| async move {
        // Nothing is read, but the end is noticed.
        let mut byte = [0];
        while stream.peek(&mut byte).await.is_ok() && stream.take_error().is_ok_and(|error| error.is_none()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let setup = Setup::to(&[backend.address]);
    let gateway =
        setup.options(|options| options.upstream.write_stall = Duration::from_millis(200)).start_logged().await;
    let mut request = request("POST", "/", &[], "");
    *request.body_mut() = endless().0;
    let mut client = Client::http1(gateway.address).await;
    let sending = tokio::spawn(async move { client.send(request).await.map(drop) });
    let line = &gateway.log_lines(1).await[0];
    assert_eq!((&line["status"], &line["reason"]), (&502.into(), &"UpstreamFailure".into()), "{line}");
    gateway.metric_becomes("portcullis_upstream_connections", 0.0).await;
    sending.abort();
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_backend() {
    for (version, h2c) in
        [(Version::HTTP_11, false), (Version::HTTP_2, false), (Version::HTTP_11, true), (Version::HTTP_2, true)]
    {
        let taken = Arc::new(AtomicUsize::new(0));
        let noted = taken.clone();
        let backend = Backend::streaming(h2c, move |_| {
            let noted = noted.clone();
            async move {
                let chunk = Bytes::from(vec![b'x'; CHUNK]);
                let frames = stream::repeat_with(move || {
                    noted.fetch_add(CHUNK, Ordering::SeqCst);
                    Ok(Frame::data(chunk.clone()))
                });
                http::Response::new(BodyExt::boxed(StreamBody::new(frames)))
            }
        })
        .await;
        let setup = if h2c { Setup::to_h2c(&[backend.address]) } else { Setup::to(&[backend.address]) };
        let gateway = setup.start().await;
        let mut client = Client::of(version, gateway.address).await;
        let response = client.send(get("/")).await.unwrap();
        let amount = settled(&taken).await;
        assert!(amount < MUCH, "{version:?} {h2c}: {amount}");
        drop((response, client));
        // The client is gone, and so is the request at the backend.
        if !h2c {
            backend.open_becomes(0).await;
        }
        settled(&taken).await;
    }
}

#[tokio::test]
async fn large_bodies_arrive_whole() {
    for (version, h2c) in [(Version::HTTP_11, false), (Version::HTTP_2, true)] {
        let backend = if h2c {
            Backend::with_h2c(|seen| answer(200, seen.body)).await
        } else {
            Backend::with(|seen| answer(200, seen.body)).await
        };
        let setup = if h2c { Setup::to_h2c(&[backend.address]) } else { Setup::to(&[backend.address]) };
        let gateway = setup.start().await;
        let sent: Bytes = (0..8 * 1024 * 1024).map(|index: u32| (index % 251) as u8).collect::<Vec<_>>().into();
        let got = Client::of(version, gateway.address).await.whole(request("POST", "/", &[], sent.clone())).await;
        assert!(got.body == sent, "{version:?} {h2c}");
        let bytes = "{gateway=\"default/gateway\",listener=\"http\",route=\"HTTPRoute/default/route\"}";
        gateway.metric_becomes(&format!("portcullis_request_bytes_total{bytes}"), sent.len() as f64).await;
        gateway.metric_becomes(&format!("portcullis_response_bytes_total{bytes}"), sent.len() as f64).await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_along() {
    for h2c in [false, true] {
        let canceled = Arc::new(AtomicUsize::new(0));
        let noted = canceled.clone();
        let backend = Backend::streaming(h2c, move |_| {
            let guard = Noted(noted.clone());
            async move {
                let _guard = guard;
                std::future::pending::<()>().await;
                answer(200, "")
            }
        })
        .await;
        let setup = if h2c { Setup::to_h2c(&[backend.address]) } else { Setup::to(&[backend.address]) };
        let gateway = setup.start_logged().await;
        for (number, version) in [Version::HTTP_11, Version::HTTP_2].into_iter().enumerate() {
            let mut client = Client::of(version, gateway.address).await;
            let waiting = tokio::time::timeout(Duration::from_millis(100), client.send(get("/"))).await;
            assert!(waiting.is_err());
            drop(client);
            let line = gateway.log_lines(number + 1).await.pop().unwrap();
            assert_eq!((&line["status"], &line["flags"]), (&0.into(), &serde_json::json!(["ClientGone"])), "{line}");
            while canceled.load(Ordering::SeqCst) < number + 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        gateway.metric_becomes("portcullis_requests_active", 0.0).await;
    }
}

struct Noted(Arc<AtomicUsize>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_breaks_off_for_the_client() {
    let backend = Backend::raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    })
    .await;
    let gateway = Setup::to(&[backend.address]).start_logged().await;
    for (number, version) in [Version::HTTP_11, Version::HTTP_2].into_iter().enumerate() {
        let response = Client::of(version, gateway.address).await.send(get("/")).await.unwrap();
        assert!(response.into_body().collect().await.is_err(), "{version:?}");
        let line = gateway.log_lines(number + 1).await.pop().unwrap();
        assert_eq!(line["flags"], serde_json::json!(["UpstreamFailure"]), "{line}");
    }
}

#[tokio::test]
async fn responses_that_are_no_http_are_502() {
    for nonsense in [
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 101 No\r\n\r\n",
    ] {
        let backend = Backend::raw(move |mut stream, _| async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(nonsense.as_bytes()).await;
        })
        .await;
        let gateway = Setup::to(&[backend.address]).start().await;
        assert_eq!(crate::client::once(gateway.address, get("/")).await.status, 502, "{nonsense}");
    }
}
