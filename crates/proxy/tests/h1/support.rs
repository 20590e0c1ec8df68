//! A server of the strict HTTP/1.1 connection on a real socket, whose service answers by path, and a client of raw bytes.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::cell::RefCell;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use portcullis_proxy::http::h1::{
    BodyError, DroppedFields, Options, Outcome, Refused, Reply, RequestBody, RequestSummary, Service, serve,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Longer than anything here takes; only a test that hangs meets it.
pub const FOREVER: Duration = Duration::from_secs(20);

/// Runs a test on one thread, as a worker does.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        tokio::time::timeout(FOREVER, test).await.expect("the test hangs");
    });
}

/// A server, and what it saw.
pub struct Server {
    pub address: SocketAddr,
    pub seen: Rc<RefCell<Seen>>,
    drain: watch::Sender<bool>,
}

/// What the service and the caller of `serve` saw.
#[derive(Default)]
pub struct Seen {
    pub completed: Vec<RequestSummary>,
    pub refused: Vec<(&'static str, Vec<u8>)>,
    pub outcomes: Vec<Outcome>,
    pub called: Vec<String>,
    pub dropped_calls: usize,
}

impl Server {
    pub async fn start(options: Options) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Rc::<RefCell<Seen>>::default();
        let (drain, drained) = watch::channel(false);
        let options = Rc::new(options);
        let service = Rc::new(Paths { seen: seen.clone() });
        tokio::task::spawn_local(async move {
            while let Ok((io, _)) = listener.accept().await {
                let (options, service, mut drained) = (options.clone(), service.clone(), drained.clone());
                tokio::task::spawn_local(async move {
                    let drain = async move { drop(drained.wait_for(|drained| *drained).await) };
                    let ended = serve(io, options, &*service, drain).await;
                    service.seen.borrow_mut().outcomes.push(ended.outcome);
                });
            }
        });
        Self { address, seen, drain }
    }

    pub fn drain(&self) {
        self.drain.send(true).unwrap();
    }

    pub async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, read: BytesMut::new() }
    }

    /// Sends all, and reads until the server closes.
    pub async fn exchange(&self, bytes: &[u8]) -> String {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.read_to_end().await
    }

    /// Waits until the condition holds, which other tasks bring about.
    pub async fn wait_until(&self, condition: impl Fn(&Seen) -> bool) {
        while !condition(&self.seen.borrow()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// A client that speaks bytes.
pub struct Client {
    pub stream: TcpStream,
    read: BytesMut,
}

impl Client {
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Everything until the server closes, without the Date fields.
    pub async fn read_to_end(&mut self) -> String {
        while self.stream.read_buf(&mut self.read).await.unwrap_or(0) > 0 {}
        without_date(&std::mem::take(&mut self.read))
    }

    /// Everything up to and with these bytes, without the Date fields.
    pub async fn read_until(&mut self, end: &str) -> String {
        loop {
            let found = self.read.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(found) = found {
                return without_date(&self.read.split_to(found + end.len()));
            }
            let length = self.stream.read_buf(&mut self.read).await.unwrap();
            assert!(length > 0, "closed before {end:?}: {}", self.read.escape_ascii());
        }
    }
}

fn without_date(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

type ReplyBody = Pin<Box<dyn Body<Data = Bytes, Error = BodyError>>>;

/// A service that answers by path; see [`Paths::answer`].
struct Paths {
    seen: Rc<RefCell<Seen>>,
}

impl Service for Paths {
    type Body = ReplyBody;

    async fn call(&self, request: Request<RequestBody>) -> Reply<ReplyBody> {
        self.seen.borrow_mut().called.push(format!("{} {}", request.method(), request.uri()));
        let mut dropped = CountDrop(Some(self.seen.clone()));
        let reply = self.answer(request).await;
        dropped.0 = None;
        reply
    }

    fn completed(&self, summary: &RequestSummary) {
        self.seen.borrow_mut().completed.push(summary.clone());
    }

    fn refused(&self, refused: &Refused<'_>) {
        self.seen.borrow_mut().refused.push((refused.refusal.as_str(), refused.received.to_vec()));
    }
}

struct CountDrop(Option<Rc<RefCell<Seen>>>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        if let Some(seen) = &self.0 {
            seen.borrow_mut().dropped_calls += 1;
        }
    }
}

impl Paths {
    async fn answer(&self, request: Request<RequestBody>) -> Reply<ReplyBody> {
        let path = request.uri().path().to_owned();
        let mut parts = path.trim_start_matches('/').split('/');
        match (parts.next().unwrap_or_default(), parts.next().and_then(|number| number.parse::<usize>().ok())) {
            ("length", Some(length)) => ok(frames(vec![Bytes::from(vec![b'x'; length])], Some(length as u64))),
            ("stream", Some(count)) => ok(frames(vec![Bytes::from_static(b"piece"); count], None)),
            ("big", Some(count)) => ok(frames(vec![Bytes::from(vec![b'x'; 10_000]); count], None)),
            ("status", Some(status)) => {
                let mut reply = ok(full(""));
                *reply.response.status_mut() = StatusCode::from_u16(status as u16).unwrap();
                reply
            }
            ("count", _) => {
                let (bytes, trailers) = collect(request.into_body()).await;
                ok(full(format!("{} {trailers:?}", bytes.len())))
            }
            ("duplex", _) => ok(request.into_body()),
            ("never", _) => pending().await,
            ("ignore", _) => ok(full("ignored")),
            ("slowly", Some(milliseconds)) => {
                tokio::time::sleep(Duration::from_millis(milliseconds as u64)).await;
                ok(full("slow"))
            }
            ("fail", _) => ok(Steps::new(vec![Ok(Frame::data("some".into())), Err(BodyError::Over)], None)),
            ("short", _) => ok(Steps::new(vec![Ok(Frame::data("some".into()))], Some(10))),
            ("long", _) => ok(Steps::new(vec![Ok(Frame::data("too long".into()))], Some(3))),
            ("open", _) => ok(Steps::new(vec![Ok(Frame::data("some".into()))], None).open()),
            ("trailers", _) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", "7".parse().unwrap());
                trailers.insert("content-length", "7".parse().unwrap());
                ok(Steps::new(vec![Ok(Frame::data("data".into())), Ok(Frame::trailers(trailers))], None))
            }
            ("upgrade", _) => upgrade(),
            ("hop", _) => {
                let mut reply = ok(full("x"));
                let headers = reply.response.headers_mut();
                for (name, value) in [("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "1"), ("upgrade", "a")] {
                    headers.insert(name, value.parse().unwrap());
                }
                reply
            }
            ("bad-length", _) => {
                let mut reply = ok(full("x"));
                reply.response.headers_mut().insert("content-length", "2".parse().unwrap());
                reply
            }
            _ => echo(request).await,
        }
    }
}

fn upgrade() -> Reply<ReplyBody> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("upgrade", "echo".parse().unwrap());
    let handler = |mut upgraded: portcullis_proxy::http::h1::Upgraded| {
        let echo = async move {
            let mut bytes = [0; 1024];
            while let Ok(length) = upgraded.read(&mut bytes).await {
                if length == 0 || upgraded.write_all(&bytes[..length]).await.is_err() {
                    break;
                }
            }
        };
        Box::pin(echo) as Pin<Box<dyn Future<Output = ()>>>
    };
    Reply { response, upgrade: Some(Box::new(handler)) }
}

/// Says what the request was: request line, fields in order, trailers, body.
async fn echo(request: Request<RequestBody>) -> Reply<ReplyBody> {
    let (parts, body) = request.into_parts();
    let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
    for (name, value) in &parts.headers {
        text.push_str(&format!("{name}: {}\n", value.as_bytes().escape_ascii()));
    }
    if let Some(dropped) = parts.extensions.get::<DroppedFields>() {
        text.push_str(&format!("({} dropped)\n", dropped.0));
    }
    let (bytes, trailers) = collect(body).await;
    for (name, value) in &trailers {
        text.push_str(&format!("[{name}: {}]\n", value.as_bytes().escape_ascii()));
    }
    text.push_str(&String::from_utf8_lossy(&bytes));
    ok(full(text))
}

async fn collect(body: RequestBody) -> (Bytes, HeaderMap) {
    match body.collect().await {
        Ok(collected) => {
            let trailers = collected.trailers().cloned().unwrap_or_default();
            (collected.to_bytes(), trailers)
        }
        Err(_) => pending().await,
    }
}

fn ok(body: impl Body<Data = Bytes, Error = BodyError> + 'static) -> Reply<ReplyBody> {
    Response::new(Box::pin(body) as ReplyBody).into()
}

fn full(text: impl Into<Bytes>) -> ReplyBody {
    Box::pin(Full::new(text.into()).map_err(|never| match never {}))
}

fn frames(pieces: Vec<Bytes>, length: Option<u64>) -> Steps {
    Steps::new(pieces.into_iter().map(|piece| Ok(Frame::data(piece))).collect(), length)
}

/// A body of given frames.
struct Steps {
    steps: std::vec::IntoIter<Result<Frame<Bytes>, BodyError>>,
    length: Option<u64>,
    stays_open: bool,
}

impl Steps {
    fn new(steps: Vec<Result<Frame<Bytes>, BodyError>>, length: Option<u64>) -> Self {
        Self { steps: steps.into_iter(), length, stays_open: false }
    }

    fn open(mut self) -> Self {
        self.stays_open = true;
        self
    }
}

impl Body for Steps {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.steps.next() {
            None if self.stays_open => Poll::Pending,
            step => Poll::Ready(step),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
