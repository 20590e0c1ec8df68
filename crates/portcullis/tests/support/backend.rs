//! A backend that speaks HTTP/1.1, HTTP/2 without TLS, and WebSocket's upgrade. It answers with what it received, and can be
//! stopped and started again on its port.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::LocalSet;

/// A backend. Requests to `/held...` are answered only once they are let go.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<Running>,
}

struct Shared {
    name: String,
    requests: AtomicUsize,
    held: AtomicUsize,
    let_go: watch::Sender<bool>,
}

struct Running {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Backend {
    /// Starts on a port outside the range from which the kernel takes ports for clients, so that it is still free when the
    /// backend comes back.
    pub(crate) fn start(name: &str) -> Self {
        let listener = std::iter::repeat_with(|| 10_000 + random() % 20_000)
            .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
            .unwrap();
        let shared = Shared {
            name: name.to_owned(),
            requests: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            let_go: watch::Sender::new(false),
        };
        let mut backend = Self { address: listener.local_addr().unwrap(), shared: Arc::new(shared), running: None };
        backend.serve(listener);
        backend
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many requests it got.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// How many requests wait to be let go.
    pub(crate) fn held(&self) -> usize {
        self.shared.held.load(Ordering::SeqCst)
    }

    /// Answers what is held, and holds nothing from now on.
    pub(crate) fn let_go(&self) {
        self.shared.let_go.send_replace(true);
    }

    /// Takes no more connections, finishes what is open, and ends.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.send_replace(true);
            running.thread.join().unwrap();
        }
    }

    /// Begins again on the same port.
    pub(crate) fn start_again(&mut self) {
        assert!(self.running.is_none());
        self.serve(TcpListener::bind(self.address).unwrap());
    }

    fn serve(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = watch::channel(false);
        let shared = self.shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, accept(listener, shared, stopped));
        });
        self.running = Some(Running { stop, thread });
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.let_go();
        self.stop();
    }
}

/// A port that nobody listens on, outside the range from which the kernel takes ports for clients.
pub(crate) fn free_port() -> u16 {
    std::iter::repeat_with(|| 10_000 + random() % 20_000)
        .find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok())
        .unwrap()
}

/// Numbers that differ from process to process and from call to call.
fn random() -> u16 {
    RandomState::new().build_hasher().finish() as u16
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let mut connections = tokio::task::JoinSet::new();
    let for_connections = stopped.clone();
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => {
                connections.spawn_local(connection(accepted.unwrap().0, shared.clone(), for_connections.clone()));
            }
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
    }
    // What the kernel has taken is served: whoever connected could not know.
    let listener = listener.into_std().unwrap();
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true).unwrap();
        connections.spawn_local(connection(TcpStream::from_std(stream).unwrap(), shared.clone(), stopped.clone()));
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    drop(tokio::time::timeout(Duration::from_secs(10), ended).await);
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut first = [0; 3];
    let is_http2 = stream.peek(&mut first).await.is_ok_and(|count| count == 3 && first == *b"PRI");
    let service = service_fn(move |request| answer(request, shared.clone()));
    let stream = TokioIo::new(stream);
    // Stopping is heard only between requests, so that one which just arrived is answered.
    macro_rules! serve {
        ($connection:expr) => {{
            let mut connection = std::pin::pin!($connection);
            tokio::select! {
                biased;
                _ = connection.as_mut() => {}
                _ = stopped.wait_for(|stopped| *stopped) => {
                    connection.as_mut().graceful_shutdown();
                    drop(connection.await);
                }
            }
        }};
    }
    if is_http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        serve!(builder.serve_connection(stream, service));
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        serve!(builder.timer(TokioTimer::new()).serve_connection(stream, service).with_upgrades());
    }
}

async fn answer(mut request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    if request.uri().path().starts_with("/held") {
        shared.held.fetch_add(1, Ordering::SeqCst);
        drop(shared.let_go.subscribe().wait_for(|let_go| *let_go).await);
        shared.held.fetch_sub(1, Ordering::SeqCst);
    }
    let mut response = Response::new(Full::default());
    response.headers_mut().insert("backend", HeaderValue::from_str(&shared.name).unwrap());
    if let Some(protocol) = request.headers().get(header::UPGRADE).cloned() {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
            drop(tokio::io::copy(&mut read, &mut write).await);
        });
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, protocol);
        return Ok(response);
    }
    let version = format!("{:?}", request.version());
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let headers: Map<String, Value> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    let text = json!({
        "backend": shared.name,
        "protocol": version,
        "method": parts.method.as_str(),
        "path": parts.uri.path_and_query().map(ToString::to_string),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    *response.body_mut() = Full::new(Bytes::from(text.to_string()));
    Ok(response)
}
