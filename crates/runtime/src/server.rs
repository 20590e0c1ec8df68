//! A small HTTP/1.1 server for operators and probes; the data plane has its own.
//!
//! In flow connections and a table of paths. Out flow the answers of the handlers, which run on the thread of the server and
//! must be quick. Everything is bounded: connections in all and per address, the time for a request's head, the life of a
//! connection, the size of a head. Requests with a body are refused, because no handler takes one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// Sent with every answer: a browser may neither guess types, nor cache, embed or run anything.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; one more is closed at once.
    pub connections: usize,
    /// Open connections from one IP address.
    pub connections_per_address: usize,
    /// Time for the head of a request, and so the longest idle time too.
    pub head_timeout: Duration,
    /// After that a connection ends with the request that it is serving.
    pub lifetime: Duration,
    /// Time for what is open to end after that, or after the server was told to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            connections_per_address: 32,
            head_timeout: Duration::from_secs(10),
            lifetime: Duration::from_secs(300),
            grace: Duration::from_secs(5),
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
    allow: Option<HeaderValue>,
}

impl Reply {
    /// Plain text.
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// JSON that is complete.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json", body)
    }

    /// Any other type.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, body: body.into(), allow: None }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.extend(SECURITY_HEADERS);
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

type Handler = Box<dyn Fn(&Parts) -> Reply + Send + Sync>;

type Guard = Box<dyn Fn(&Parts) -> Result<(), Reply> + Send + Sync>;

/// What a path answers to. GET answers HEAD too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    Post,
}

struct Route {
    verb: Verb,
    path: &'static str,
    about: &'static str,
    handler: Handler,
}

/// A table of paths. Paths are compared whole; `/` lists the table unless it has an entry of its own.
#[derive(Default)]
pub struct Routes {
    table: Vec<Route>,
    guard: Option<Guard>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.table.iter().map(|route| route.path)).finish()
    }
}

impl Routes {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a path for GET and HEAD; `about` is its line in the listing.
    #[must_use]
    pub fn get(
        self,
        path: &'static str,
        about: &'static str,
        handler: impl Fn(&Parts) -> Reply + Send + Sync + 'static,
    ) -> Self {
        self.add(Verb::Get, path, about, Box::new(handler))
    }

    /// Adds a path for POST. The request has no body.
    #[must_use]
    pub fn post(
        self,
        path: &'static str,
        about: &'static str,
        handler: impl Fn(&Parts) -> Reply + Send + Sync + 'static,
    ) -> Self {
        self.add(Verb::Post, path, about, Box::new(handler))
    }

    /// A check that comes before every handler; its answer is the refusal.
    pub(crate) fn guarded(mut self, guard: impl Fn(&Parts) -> Result<(), Reply> + Send + Sync + 'static) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    fn add(mut self, verb: Verb, path: &'static str, about: &'static str, handler: Handler) -> Self {
        self.table.push(Route { verb, path, about, handler });
        self
    }

    fn answer(&self, request: &Parts, has_body: bool) -> Reply {
        if let Some(refusal) = self.guard.as_ref().and_then(|guard| guard(request).err()) {
            return refusal;
        }
        if has_body {
            return Reply::text(StatusCode::PAYLOAD_TOO_LARGE, "requests here have no body\n");
        }
        let path = request.uri.path();
        let mut known = self.table.iter().filter(|route| route.path == path).peekable();
        if known.peek().is_none() {
            return self.without_route(request);
        }
        let verb = match request.method {
            Method::GET | Method::HEAD => Some(Verb::Get),
            Method::POST => Some(Verb::Post),
            _ => None,
        };
        let verbs: Vec<_> = known.clone().map(|route| route.verb).collect();
        match known.find(|route| Some(route.verb) == verb) {
            Some(route) => (route.handler)(request),
            None => method_not_allowed(&verbs),
        }
    }

    fn without_route(&self, request: &Parts) -> Reply {
        match (request.uri.path(), &request.method) {
            ("/", &Method::GET | &Method::HEAD) => Reply::text(StatusCode::OK, self.listing()),
            ("/", _) => method_not_allowed(&[Verb::Get]),
            _ => Reply::text(StatusCode::NOT_FOUND, "no such path; GET / lists the paths\n"),
        }
    }

    fn listing(&self) -> String {
        let width = self.table.iter().map(|route| route.path.len()).max().unwrap_or(0);
        let line = |route: &Route| {
            let verb = if route.verb == Verb::Get { "GET " } else { "POST" };
            format!("{verb} {:width$}  {}\n", route.path, route.about)
        };
        self.table.iter().map(line).collect()
    }
}

fn method_not_allowed(verbs: &[Verb]) -> Reply {
    let allow = match (verbs.contains(&Verb::Get), verbs.contains(&Verb::Post)) {
        (true, true) => "GET, HEAD, POST",
        (false, true) => "POST",
        _ => "GET, HEAD",
    };
    let mut reply = Reply::text(StatusCode::METHOD_NOT_ALLOWED, format!("allowed here: {allow}\n"));
    reply.allow = Some(HeaderValue::from_static(allow));
    reply
}

/// Where a server listens.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Counts of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerCounts {
    /// Connections closed at once because of a limit.
    pub(crate) refused: Arc<AtomicU64>,
}

/// Serves until `stop` is done, then for the grace of the limits what is open.
pub(crate) async fn serve(
    listener: Listener,
    routes: Routes,
    limits: Limits,
    counts: ServerCounts,
    stop: impl Future<Output = ()>,
) {
    let (stopping, stopped) = tokio::sync::watch::channel(());
    let shared = Arc::new(Shared { routes, limits, stopped, open: Mutex::default() });
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => match Seat::take(&shared, address) {
                    Some(seat) => drop(tokio::spawn(connection(stream, seat))),
                    None => drop(counts.refused.fetch_add(1, Ordering::Relaxed)),
                },
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    // Out of descriptors or memory: they come back with time only.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    // Connections see the channel close; each holds the shared part until it has ended.
    drop(stopping);
    let ended = async {
        while Arc::strong_count(&shared) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(limits.grace, ended).await;
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    async fn accept(&self) -> std::io::Result<(Box<dyn Stream>, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Box::new(stream), Some(address.ip())))
            }
            Self::Unix(listener) => Ok((Box::new(listener.accept().await?.0), None)),
        }
    }
}

struct Shared {
    routes: Routes,
    limits: Limits,
    stopped: tokio::sync::watch::Receiver<()>,
    /// Open connections by address; those of a Unix socket have none.
    open: Mutex<HashMap<Option<IpAddr>, usize>>,
}

/// A connection's place within the limits.
struct Seat {
    shared: Arc<Shared>,
    address: Option<IpAddr>,
}

impl Seat {
    fn take(shared: &Arc<Shared>, address: Option<IpAddr>) -> Option<Self> {
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = open.get(&address).copied().unwrap_or(0);
        let per_address = if address.is_some() { shared.limits.connections_per_address } else { usize::MAX };
        if open.values().sum::<usize>() >= shared.limits.connections || of_address >= per_address {
            return None;
        }
        open.insert(address, of_address + 1);
        Some(Self { shared: shared.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.address)),
        }
    }
}

async fn connection(stream: Box<dyn Stream>, seat: Seat) {
    let shared = &seat.shared;
    let service = service_fn(|request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let response = shared.routes.answer(&parts, !body.is_end_stream()).into_response();
        async { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.head_timeout)
        .max_headers(64)
        .max_buf_size(16 * 1024);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stopped = shared.stopped.clone();
    tokio::select! {
        // A connection that broke has nobody to be told.
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(shared.limits.lifetime) => {}
        _ = stopped.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(shared.limits.grace, connection).await;
}
