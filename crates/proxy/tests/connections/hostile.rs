//! Hostile clients of HTTP/2: each is told to calm down, and counted.

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GET, HEADERS, PING, POST, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, connect, frame,
};
use crate::gateway::{Gateway, options};
use std::time::Duration;

fn budget(name: &str) -> String {
    format!("portcullis_http2_budget_exceeded_total{{budget=\"{name}\"}}")
}

/// Sends until the gateway closes, and gives the errors of its GOAWAY frames.
async fn flood(gateway: &Gateway, first: Vec<u8>, mut next: impl FnMut(u32) -> Vec<u8> + Send + 'static) -> Vec<u32> {
    let (mut sender, mut receiver) = connect(gateway.address(80), &[]).await;
    let sending = tokio::spawn(async move {
        let mut open = sender.send(&first).await;
        let mut count = 0;
        while open && count < 200_000 {
            let mut batch = Vec::new();
            for _ in 0..50 {
                batch.extend(next(count));
                count += 1;
            }
            open = sender.send(&batch).await;
            tokio::task::yield_now().await;
        }
        assert!(!open, "nothing stopped the flood");
    });
    let errors = receiver.go_aways().await;
    drop(receiver);
    sending.await.unwrap();
    errors
}

#[tokio::test]
async fn floods_end_with_enhance_your_calm() {
    let gateway = Gateway::http(options()).await;
    let open = frame(HEADERS, END_HEADERS, 1, POST);
    let endless = frame(HEADERS, 0, 1, GET);
    let same = |bytes: Vec<u8>| move |_: u32| bytes.clone();
    for (name, errors) in [
        ("ping", flood(&gateway, vec![], same(frame(PING, 0, 0, &[0; 8]))).await),
        ("settings", flood(&gateway, vec![], same(frame(SETTINGS, 0, 0, &[]))).await),
        ("empty_data", flood(&gateway, open, same(frame(DATA, 0, 1, &[]))).await),
        ("window_update", flood(&gateway, vec![], same(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))).await),
        ("priority", flood(&gateway, vec![], same(frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]))).await),
        ("other", flood(&gateway, vec![], same(frame(0x42, 0, 0, &[]))).await),
        ("continuation", flood(&gateway, endless, same(frame(CONTINUATION, 0, 1, &[]))).await),
    ] {
        assert_eq!(errors, [ENHANCE_YOUR_CALM], "{name}");
        assert_eq!(gateway.metric(&budget(name)), 1.0, "{name}");
    }
    gateway.open_connections_become(80, 0.0).await;
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let gateway = Gateway::http(options()).await;
    let errors = flood(&gateway, Vec::new(), |count| {
        let stream = 2 * count + 1;
        let cancel = frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        [frame(HEADERS, END_HEADERS, stream, POST), cancel].concat()
    });
    assert_eq!(errors.await, [ENHANCE_YOUR_CALM]);
    assert_eq!(gateway.metric(&budget("reset")), 1.0);
}

/// CVE-2025-8671: the client makes the server reset, by a window that overflows.
#[tokio::test]
async fn resets_that_the_gateway_is_made_to_send_count_too() {
    let gateway = Gateway::http(options()).await;
    let errors = flood(&gateway, Vec::new(), |count| {
        let stream = 2 * count + 1;
        let overflow = frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]);
        [frame(HEADERS, END_HEADERS, stream, POST), overflow].concat()
    });
    assert_eq!(errors.await.last(), Some(&ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn sixty_cancelled_requests_are_fine() {
    let gateway = Gateway::http(options()).await;
    let (mut sender, mut receiver) = connect(gateway.address(80), &[]).await;
    let mut cancelled = Vec::new();
    for count in 0..60 {
        let stream = 2 * count + 1;
        cancelled.extend(frame(HEADERS, END_HEADERS, stream, POST));
        cancelled.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    assert!(sender.send(&cancelled).await);
    assert!(sender.request(121).await);
    loop {
        let answer = receiver.next_of(HEADERS).await.expect("the connection has ended");
        if answer.stream == 121 {
            break;
        }
    }
}

#[tokio::test]
async fn a_header_block_that_never_ends_is_given_up() {
    let mut options = options();
    options.timeouts.request_headers = Duration::from_millis(60);
    let gateway = Gateway::http(options).await;
    let (mut sender, mut receiver) = connect(gateway.address(80), &[]).await;
    sender.send(&frame(HEADERS, 0, 1, GET)).await;
    assert_eq!(receiver.go_aways().await, [ENHANCE_YOUR_CALM]);
    assert_eq!(gateway.metric(&budget("header_timeout")), 1.0);

    // Large blocks: refused before they are read to their end.
    let (mut sender, mut receiver) = connect(gateway.address(80), &[]).await;
    sender.send(&frame(HEADERS, 0, 1, GET)).await;
    for _ in 0..6 {
        sender.send(&frame(CONTINUATION, 0, 1, &[b'x'; 16_000])).await;
    }
    let errors = receiver.go_aways().await;
    assert!(!errors.is_empty() && errors.iter().all(|error| *error != 0), "{errors:?}");
}

#[tokio::test]
async fn a_client_without_a_window_loses_its_stream_and_keeps_the_connection() {
    let mut options = options();
    options.timeouts.write_stall = Duration::from_millis(60);
    let gateway = Gateway::http(options).await;
    // SETTINGS_INITIAL_WINDOW_SIZE 0: the head of the answer comes, its body cannot.
    let (mut sender, mut receiver) = connect(gateway.address(80), &[(4, 0)]).await;
    let connect_method = b"\x02\x07CONNECT\x01\x09a.example";
    sender.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, connect_method)).await;
    assert_eq!(receiver.next_of(HEADERS).await.unwrap().stream, 1);
    assert_eq!(receiver.next_of(RST_STREAM).await.unwrap().stream, 1);
    gateway.metric_becomes(&budget("stream_stalled"), 1.0).await;
    sender.request(3).await;
    assert_eq!(receiver.next_of(HEADERS).await.unwrap().stream, 3);
}
