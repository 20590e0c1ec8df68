//! Drains: what is idle ends at once, what is busy finishes, what takes too long is cut and counted.

use crate::client::{LONG, answer, ask, get, http2, read_to_end, request};
use crate::gateway::{Gateway, forward, http, listener_key, options};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A backend that answers when it may.
struct Slow {
    address: SocketAddr,
    may_answer: Arc<Semaphore>,
    asked: Arc<Semaphore>,
}

impl Slow {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let slow = Self {
            address: listener.local_addr().unwrap(),
            may_answer: Arc::new(Semaphore::new(0)),
            asked: Arc::new(Semaphore::new(0)),
        };
        let (may_answer, asked) = (slow.may_answer.clone(), slow.asked.clone());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (may_answer, asked) = (may_answer.clone(), asked.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await?);
                    }
                    asked.add_permits(1);
                    may_answer.acquire().await.unwrap().forget();
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nslow\n").await
                });
            }
        });
        slow
    }

    async fn was_asked(&self) {
        self.asked.acquire().await.unwrap().forget();
    }
}

async fn gateway(slow: &Slow) -> Gateway {
    let mut resources = vec![http("http", 80), http("other", 81)];
    resources.extend(forward(&["http", "other"], slow.address));
    Gateway::start(options(), resources).await
}

#[tokio::test]
async fn idle_connections_end_and_busy_ones_finish() {
    let slow = Slow::start().await;
    let gateway = gateway(&slow).await;
    let address = gateway.address(80);
    let mut idle = TcpStream::connect(address).await.unwrap();
    slow.may_answer.add_permits(1);
    assert_eq!(get(&mut idle, "a.example").await.unwrap().body, b"slow\n");
    slow.was_asked().await;
    let mut busy = TcpStream::connect(address).await.unwrap();
    ask(&mut busy, "a.example").await.unwrap();
    let (mut sender, idle2) = http2(TcpStream::connect(address).await.unwrap()).await;
    let (mut busy_sender, busy2) = http2(TcpStream::connect(address).await.unwrap()).await;
    slow.may_answer.add_permits(1);
    slow.was_asked().await;
    // The permit may have been the other's: both are asked and one of them is answered.
    let busy_response = tokio::spawn(async move { busy_sender.send_request(request("http://a.example/")).await });
    slow.was_asked().await;
    sender.ready().await.unwrap();

    let proxy = gateway.proxy.clone();
    let drained = tokio::spawn(async move { proxy.drain(LONG).await });
    read_to_end(&mut idle).await;
    tokio::time::timeout(LONG, idle2).await.unwrap().unwrap().unwrap();
    assert!(!drained.is_finished());
    slow.may_answer.add_permits(2);
    let last = answer(&mut busy).await.unwrap();
    assert_eq!(last.body, b"slow\n");
    read_to_end(&mut busy).await;
    assert_eq!(busy_response.await.unwrap().unwrap().status(), 200);
    tokio::time::timeout(LONG, busy2).await.unwrap().unwrap().unwrap();
    assert!(drained.await.unwrap().cut.is_empty());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn what_takes_too_long_is_cut_and_counted() {
    let slow = Slow::start().await;
    let gateway = gateway(&slow).await;
    let mut busy = TcpStream::connect(gateway.address(80)).await.unwrap();
    ask(&mut busy, "a.example").await.unwrap();
    slow.was_asked().await;
    let drained = gateway.proxy.drain(Duration::from_millis(50)).await;
    assert_eq!(drained.cut.connections, 1);
    assert!(read_to_end(&mut busy).await.is_empty());
    gateway.open_connections_become(80, 0.0).await;
}

#[tokio::test]
async fn the_process_s_drain_closes_the_sockets_too() {
    let slow = Slow::start().await;
    let gateway = gateway(&slow).await;
    gateway.drain.begin(LONG);
    assert!(gateway.drain.finished().await.is_clean());
    for _ in 0..2000 {
        if TcpStream::connect(gateway.address(80)).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("still listening");
}

#[tokio::test]
async fn a_removed_port_finishes_and_its_neighbour_does_not_notice() {
    let slow = Slow::start().await;
    let mut gateway = gateway(&slow).await;
    let mut leaving = TcpStream::connect(gateway.address(81)).await.unwrap();
    ask(&mut leaving, "a.example").await.unwrap();
    slow.was_asked().await;
    let mut staying = TcpStream::connect(gateway.address(80)).await.unwrap();
    ask(&mut staying, "a.example").await.unwrap();
    slow.was_asked().await;
    gateway.apply(Vec::new(), vec![listener_key("other")]).await;
    slow.may_answer.add_permits(2);
    let last = answer(&mut leaving).await.unwrap();
    assert!(last.status == 200 && last.closes(), "{last:?}");
    read_to_end(&mut leaving).await;
    let next = answer(&mut staying).await.unwrap();
    assert!(next.status == 200 && !next.closes(), "{next:?}");
}

#[tokio::test]
async fn a_deleted_gateway_finishes_what_it_has() {
    let slow = Slow::start().await;
    let mut gateway = gateway(&slow).await;
    let address = gateway.address(80);
    let mut busy = TcpStream::connect(address).await.unwrap();
    ask(&mut busy, "a.example").await.unwrap();
    slow.was_asked().await;
    assert!(gateway.remove("gateway").await.ports.is_empty());
    assert!(TcpStream::connect(address).await.is_err());
    slow.may_answer.add_permits(1);
    assert_eq!(answer(&mut busy).await.unwrap().body, b"slow\n");
    read_to_end(&mut busy).await;
}

#[tokio::test]
async fn a_slow_client_gets_the_whole_of_its_last_response() {
    const BODY: usize = 60_000;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut resources = vec![http("http", 80)];
    resources.extend(forward(&["http"], listener.local_addr().unwrap()));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &[b'x'; BODY]].concat()).await.unwrap();
        read_to_end(&mut stream).await;
    });
    let gateway = Gateway::start(options(), resources).await;
    let stream = TokioIo::new(TcpStream::connect(gateway.address(80)).await.unwrap());
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(8192).initial_connection_window_size(Some(65_535));
    let (mut sender, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut response = sender.send_request(request("http://a.example/")).await.unwrap();
    let proxy = gateway.proxy.clone();
    let drained = tokio::spawn(async move { proxy.drain(LONG).await });
    // The gateway has the whole response long before the client does: it must not take that for idleness.
    let mut received = 0;
    while let Some(frame) = response.body_mut().frame().await {
        received += frame.unwrap().into_data().map_or(0, |data| data.len());
        tokio::time::sleep(Duration::from_millis(450)).await;
    }
    assert_eq!(received, BODY);
    assert!(drained.await.unwrap().cut.is_empty());
}
