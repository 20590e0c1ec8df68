//! Backends: hyper servers that note what they saw, and raw sockets for what hyper would not do.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

pub(crate) type Answer = Response<BoxBody<Bytes, std::io::Error>>;
type Handler = dyn Fn(Request<Incoming>) -> BoxFuture<'static, Answer> + Send + Sync;

/// A backend that listens until it is dropped.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    /// The requests, in order of their heads.
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    /// Connections that were accepted.
    pub(crate) accepted: Arc<AtomicUsize>,
    /// Connections that are open.
    pub(crate) open: Arc<AtomicUsize>,
    listener: JoinHandle<()>,
    connections: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
}

/// What a backend saw of a request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Host, or `:authority`.
    pub(crate) fn host(&self) -> String {
        let uri: http::Uri = self.target.parse().unwrap();
        uri.authority().map(|authority| authority.to_string()).or(self.header("host").map(str::to_owned)).unwrap()
    }

    /// Path and query.
    pub(crate) fn path(&self) -> String {
        let uri: http::Uri = self.target.parse().unwrap();
        uri.path_and_query().unwrap().to_string()
    }
}

impl Backend {
    /// Answers 200 with its name, after reading the whole request.
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::with(move |_| answer(200, name)).await
    }

    pub(crate) async fn start_h2c(name: &'static str) -> Self {
        Self::with_h2c(move |_| answer(200, name)).await
    }

    /// Answers as the function says, after reading the whole request.
    pub(crate) async fn with(handler: impl Fn(Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(false, "127.0.0.1:0".parse().unwrap(), handler).await
    }

    pub(crate) async fn with_h2c(handler: impl Fn(Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(true, "127.0.0.1:0".parse().unwrap(), handler).await
    }

    /// The same at an address that was used before.
    pub(crate) async fn again(address: SocketAddr, name: &'static str) -> Self {
        Self::listen(false, address, move |_| answer(200, name)).await
    }

    async fn listen(h2c: bool, address: SocketAddr, handler: impl Fn(Seen) -> Answer + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, handler) = (seen.clone(), Arc::new(handler));
        let read = move |request: Request<Incoming>| -> BoxFuture<'static, Answer> {
            let (noted, handler) = (noted.clone(), handler.clone());
            Box::pin(async move {
                let (head, body) = request.into_parts();
                let Ok(body) = body.collect().await else { return answer(400, "") };
                let seen = Seen {
                    method: head.method,
                    target: head.uri.to_string(),
                    version: head.version,
                    headers: head.headers,
                    body: body.to_bytes(),
                };
                noted.lock().unwrap().push(seen.clone());
                handler(seen)
            })
        };
        let mut backend = Self::serve(h2c, address, Arc::new(read)).await;
        backend.seen = seen;
        backend
    }

    /// Answers as the function says, which reads the request itself.
    pub(crate) async fn streaming<F>(
        h2c: bool,
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::serve(h2c, "127.0.0.1:0".parse().unwrap(), Arc::new(move |request| Box::pin(handler(request)))).await
    }

    async fn serve(h2c: bool, address: SocketAddr, handler: Arc<Handler>) -> Self {
        Self::raw_at(address, move |stream, _| {
            let handler = handler.clone();
            async move {
                let service = hyper::service::service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let io = TokioIo::new(stream);
                if h2c {
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service)
                        .await;
                } else {
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(io, service).with_upgrades().await;
                }
            }
        })
        .await
    }

    /// Does what the function does with each connection; it is given the connection's number, from zero.
    pub(crate) async fn raw<F>(serve: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::raw_at("127.0.0.1:0".parse().unwrap(), serve).await
    }

    async fn raw_at<F>(address: SocketAddr, serve: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (counted, counted_open, tasks) = (accepted.clone(), open.clone(), connections.clone());
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                counted_open.fetch_add(1, Ordering::SeqCst);
                let guard = Open(counted_open.clone());
                let served = serve(stream, number);
                let task = tokio::spawn(async move {
                    let _guard = guard;
                    served.await;
                });
                tasks.lock().unwrap().push(task.abort_handle());
            }
        });
        Self { address, seen: Arc::default(), accepted, open, listener, connections }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().unwrap()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Waits until so many connections are open.
    pub(crate) async fn open_becomes(&self, count: usize) {
        for _ in 0..2000 {
            if self.open.load(Ordering::SeqCst) == count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{} connections are open, not {count}", self.open.load(Ordering::SeqCst));
    }

    /// Stops listening, and cuts every connection.
    pub(crate) async fn stop(&mut self) {
        self.listener.abort();
        let _ = (&mut self.listener).await;
        self.connections.lock().unwrap().drain(..).for_each(|task| task.abort());
        while self.open.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.listener.abort();
        self.connections.lock().unwrap().drain(..).for_each(|task| task.abort());
    }
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An address where nobody listens, nor will as long as this is held.
pub(crate) struct Nobody {
    pub(crate) address: SocketAddr,
    _socket: TcpSocket,
}

pub(crate) fn nobody() -> Nobody {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    Nobody { address: socket.local_addr().unwrap(), _socket: socket }
}

pub(crate) fn answer(status: u16, text: impl Into<Bytes>) -> Answer {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed();
    Response::builder().status(status).body(body).unwrap()
}
