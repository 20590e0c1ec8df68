//! Our verdict beside those of nginx and HAProxy, on known hostile messages and on generated ones.
//!
//! Each of the three gets the same bytes and forwards what it accepts to a backend that records it. Where they differ, a row
//! of `h1/differences.txt` must say why. Without exception holds: what we accept, we forward in a form that both peers read as
//! exactly that one request with that body, or do not read at all for a reason in the same table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

#[path = "h1/hostile.rs"]
mod hostile;
#[path = "h1/support.rs"]
mod support;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::iter;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use portcullis_proxy::http::h1::{Options, Reply, RequestBody, Service, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// How long each of the three waits for more of a request. All close then, which ends a case.
const PATIENCE: Duration = Duration::from_millis(1500);
const CASES_AT_A_TIME: usize = 200;

#[test]
fn every_difference_is_explained() {
    if let Some(missing) = ["nginx", "haproxy"].into_iter().find(|name| !is_installed(name)) {
        assert!(std::env::var_os("CI").is_none(), "{missing} is not installed: apt-get install nginx-light haproxy");
        println!("left out: {missing} is not installed, so there is nothing to compare with");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, compare());
}

async fn compare() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Peer::ours().await;
    let nginx = Peer::nginx(folder.path()).await;
    let haproxy = Peer::haproxy(folder.path()).await;
    let cases = cases();
    let (own, others) = (&ours, [&nginx, &haproxy]);
    let verdicts: Vec<_> = iter(&cases)
        .map(|(name, payload)| async move {
            let (ours, [nginx, haproxy]) = (own, others);
            let (ours_read, of_nginx, of_haproxy) =
                tokio::join!(ours.read(payload), nginx.read(payload), haproxy.read(payload));
            let mut forwarded = Vec::new();
            for sent in ours.forwarded(&ours_read) {
                forwarded.push(tokio::join!(nginx.read(&sent), haproxy.read(&sent)));
            }
            (name, ours_read.requests, [of_nginx.requests, of_haproxy.requests], forwarded)
        })
        .buffered(CASES_AT_A_TIME)
        .collect()
        .await;
    let mut differences = Differences::load();
    for (name, ours, peers, forwarded) in verdicts {
        let words = peers.map(|peer| match (peer == ours, peer.is_empty()) {
            (_, true) => "refused",
            (true, false) => "accepts",
            (false, false) if ours.is_empty() => "accepts",
            (false, false) => "differs",
        });
        let own = if ours.is_empty() { "refused" } else { "accepts" };
        if words != [own, own] {
            differences.explain(name, &format!("{own} {} {}", words[0], words[1]));
        }
        for (request, (nginx, haproxy)) in ours.iter().zip(forwarded) {
            let words = [nginx, haproxy].map(|peer| match peer.requests.as_slice() {
                [only] if only == request => "same",
                [] => "refused",
                other => panic!("{name}: we forward {request:?}, which is read as {other:?}"),
            });
            if words != ["same", "same"] {
                differences.explain(name, &format!("forwarded {} {}", words[0], words[1]));
            }
        }
    }
    println!("{} cases", cases.len());
    differences.finish();
}

/// The table of known differences: rows of a pattern of names (`*` is anything), the verdicts, and the reason.
struct Differences {
    rows: Vec<(String, String)>,
    used: BTreeSet<usize>,
    unexplained: Vec<String>,
}

impl Differences {
    fn load() -> Self {
        let text = include_str!("h1/differences.txt");
        let mut rows = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let parts: Vec<_> = line.split(" | ").map(str::trim).collect();
            let [verdicts, pattern, reason] = parts[..] else { panic!("three columns expected: {line}") };
            assert!(!reason.is_empty(), "without a reason: {line}");
            rows.push((pattern.to_owned(), verdicts.to_owned()));
        }
        Self { rows, used: BTreeSet::new(), unexplained: Vec::new() }
    }

    fn explain(&mut self, name: &str, verdicts: &str) {
        let row = self.rows.iter().position(|(pattern, row)| row == verdicts && matches(pattern, name));
        match row {
            Some(row) => drop(self.used.insert(row)),
            None => self.unexplained.push(format!("{verdicts} | {name}")),
        }
    }

    fn finish(self) {
        let unused: Vec<_> =
            self.rows.iter().enumerate().filter(|(row, _)| !self.used.contains(row)).map(|(_, row)| row).collect();
        assert!(self.unexplained.is_empty(), "not in h1/differences.txt:\n{}", self.unexplained.join("\n"));
        assert!(unused.is_empty(), "rows of h1/differences.txt that no case needs: {unused:#?}");
    }
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

const WELL_FORMED: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /p?q=1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a/p HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    "M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n",
    "!#$%&'*+.^`|~ / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /[]{}|^`\\ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /.. HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a_b\r\nX_Y: 1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX-Obs: \u{e9}\r\nX-Tab: 1\t2\r\nX-Empty:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-hop, , te\r\nX-Hop: 1\r\nTE: trailers\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello",
    "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n05\r\nhello\r\n000\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n4\r\nello\r\n0\r\nx-sum: 1\r\n\r\n",
    "DELETE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

/// Where a byte is put into a well-formed message: the name of the place, what is before it and what is after it.
const PLACES: &[(&str, &str, &str)] = &[
    ("before method", "", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("after method", "GET", " / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("before target", "GET ", "/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("after target", "GET /", " HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("before version", "GET / ", "HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("after version", "GET / HTTP/1.1", "\r\nHost: a\r\n\r\n"),
    ("before first name", "GET / HTTP/1.1\r\n", "Host: a\r\n\r\n"),
    ("before name", "POST / HTTP/1.1\r\nHost: a\r\n", "Content-Length: 5\r\n\r\nhello"),
    ("in name", "POST / HTTP/1.1\r\nHost: a\r\nContent", "-Length: 5\r\n\r\nhello"),
    ("after name", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length", ": 5\r\n\r\nhello"),
    ("before length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ", "5\r\n\r\nhello"),
    ("after length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5", "\r\n\r\nhello"),
    (
        "after coding name",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding",
        ": chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    ("before coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ", "chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("after coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", "\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("in host", "GET / HTTP/1.1\r\nHost: a", "b\r\n\r\n"),
    ("in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a", "b\r\n\r\n"),
    (
        "before chunk size",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
    ),
    ("after chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5", "\r\nhello\r\n0\r\n\r\n"),
    ("after chunk data", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", "\r\n0\r\n\r\n"),
    ("after last chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0", "\r\n\r\n"),
    ("before trailer name", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "x: 1\r\n\r\n"),
];

const PUT_IN: &[&[u8]] = &[
    b"\0", b"\x01", b"\t", b"\n", b"\x0b", b"\x0c", b"\r", b"\r\n", b" ", b"\"", b"#", b"(", b"+", b",", b"-", b"/",
    b":", b";", b"=", b"@", b"\\", b"_", b"{", b"\x7f", b"\x80", b"\xa0", b"\xff",
];

/// Line ends of a whole message, in place of CR LF.
const LINE_ENDS: &[&str] = &["\n", "\r", "\n\r", "\r\r\n", " \r\n"];

fn cases() -> BTreeMap<String, Vec<u8>> {
    let mut cases = BTreeMap::new();
    for payload in WELL_FORMED {
        cases.insert(format!("well-formed/{}", payload.escape_default()), payload.as_bytes().to_vec());
    }
    for (payload, refusal) in hostile::HEADS {
        cases.insert(format!("head/{refusal}/{}", payload.escape_default()), payload.as_bytes().to_vec());
    }
    for (body, refusal) in hostile::BODIES {
        let payload = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        cases.insert(format!("body/{refusal}/{}", body.escape_default()), payload.into_bytes());
    }
    for (place, before, after) in PLACES {
        for put_in in PUT_IN {
            let payload = [before.as_bytes(), put_in, after.as_bytes()].concat();
            let name = put_in.escape_ascii().to_string().replace(' ', "\\x20");
            cases.insert(format!("put in/{place}/{name}"), payload);
        }
    }
    let message = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let lines: Vec<_> = message.split_inclusive("\r\n").collect();
    for (index, line) in lines.iter().enumerate() {
        for end in LINE_ENDS {
            let changed = line.replace("\r\n", end);
            let payload = format!("{}{changed}{}", lines[..index].concat(), lines[index + 1..].concat());
            cases.insert(format!("line end/{index}/{}", end.escape_default()), payload.into_bytes());
        }
    }
    cases
}

/// A request as a backend read it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Recorded {
    method: String,
    body: Bytes,
}

/// What a backend read of the connections that came in, by the client's port.
type Records = Rc<RefCell<BTreeMap<u16, Vec<Recorded>>>>;

/// One of the three, with a recording backend of its own behind it.
struct Peer {
    address: SocketAddr,
    records: Records,
    /// What ours sent to its backend, by the client's port.
    sent: Rc<RefCell<BTreeMap<u16, Vec<Vec<u8>>>>>,
    _process: Option<Process>,
}

struct Read {
    port: u16,
    requests: Vec<Recorded>,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Peer {
    async fn ours() -> Self {
        let (backend, records) = start_backend().await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = Options {
            header_timeout: PATIENCE,
            idle_timeout: PATIENCE,
            body_idle_timeout: PATIENCE,
            linger: Duration::from_millis(100),
            ..Options::default()
        };
        let (options, sent) = (Rc::new(options), Rc::<RefCell<BTreeMap<u16, Vec<Vec<u8>>>>>::default());
        let all = sent.clone();
        tokio::task::spawn_local(async move {
            while let Ok((io, client)) = listener.accept().await {
                let (service, options) = (Forward { backend, port: client.port(), sent: all.clone() }, options.clone());
                tokio::task::spawn_local(async move {
                    serve(io, options, &service, std::future::pending()).await;
                });
            }
        });
        Self { address, records, sent, _process: None }
    }

    async fn nginx(folder: &Path) -> Self {
        let (backend, records) = start_backend().await;
        let port = free_port();
        let (folder, patience) = (folder.display(), PATIENCE.as_millis());
        let config = format!(
            "daemon off; master_process off; pid {folder}/nginx.pid; error_log /dev/null;\n\
             events {{ worker_connections 2000; }}\n\
             http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
             fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
             client_header_timeout {patience}ms; client_body_timeout {patience}ms; keepalive_timeout {patience}ms;\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{backend}; proxy_http_version 1.1;\n\
             proxy_set_header Host $http_host; proxy_set_header X-Client-Port $remote_port; }} }} }}\n"
        );
        let file = format!("{folder}/nginx.conf");
        std::fs::write(&file, config).unwrap();
        let process = start(Command::new("nginx").args(["-e", "/dev/null", "-c", &file]));
        Self::started(port, records, process).await
    }

    async fn haproxy(folder: &Path) -> Self {
        let (backend, records) = start_backend().await;
        let port = free_port();
        let patience = PATIENCE.as_millis();
        let config = format!(
            "global\n nbthread 1\n maxconn 2000\ndefaults\n mode http\n timeout connect 5s\n timeout server 10s\n\
             \x20timeout client {patience}ms\n timeout http-request {patience}ms\n timeout http-keep-alive {patience}ms\n\
             frontend front\n bind 127.0.0.1:{port}\n http-request set-header X-Client-Port %[src_port]\n\
             \x20default_backend back\nbackend back\n server one {backend}\n"
        );
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let process = start(Command::new("haproxy").arg("-db").arg("-f").arg(file));
        Self::started(port, records, process).await
    }

    async fn started(port: u16, records: Records, process: Process) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for _ in 0..500 {
            if TcpStream::connect(address).await.is_ok() {
                return Self { address, records, sent: Rc::default(), _process: Some(process) };
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("a peer does not listen on {address}");
    }

    /// Sends the bytes on a new connection, waits until it is closed, and says what the backend read.
    async fn read(&self, payload: &[u8]) -> Read {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let port = stream.local_addr().unwrap().port();
        self.records.borrow_mut().remove(&port);
        self.sent.borrow_mut().remove(&port);
        // A peer that refuses may reset the connection while it is written to.
        let _ = stream.write_all(payload).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
        Read { port, requests: self.records.borrow_mut().remove(&port).unwrap_or_default() }
    }

    /// The bytes that were sent to the backend, one piece for each request that it read to its end.
    fn forwarded(&self, read: &Read) -> Vec<Vec<u8>> {
        let mut sent = self.sent.borrow_mut().remove(&read.port).unwrap_or_default();
        sent.truncate(read.requests.len());
        sent
    }
}

/// Forwards through hyper's client, as upstream does, each request on a connection of its own, whose bytes are kept.
struct Forward {
    backend: SocketAddr,
    port: u16,
    sent: Rc<RefCell<BTreeMap<u16, Vec<Vec<u8>>>>>,
}

impl Service for Forward {
    type Body = Full<Bytes>;

    async fn call(&self, mut request: Request<RequestBody>) -> Reply<Full<Bytes>> {
        let number = {
            let mut sent = self.sent.borrow_mut();
            let sent = sent.entry(self.port).or_default();
            sent.push(Vec::new());
            sent.len() - 1
        };
        let io = TcpStream::connect(self.backend).await.unwrap();
        let io = Tee { io, sent: self.sent.clone(), port: self.port, number };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::task::spawn_local(connection);
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from_parts(parts).unwrap();
        *request.version_mut() = http::Version::HTTP_11;
        request.headers_mut().insert("x-client-port", self.port.into());
        let status = match sender.send_request(request).await {
            Ok(response) => response.status(),
            Err(_) => http::StatusCode::BAD_GATEWAY,
        };
        let mut response = Response::new(Full::new(Bytes::from_static(b"ok")));
        *response.status_mut() = status;
        response.into()
    }
}

struct Tee {
    io: TcpStream,
    sent: Rc<RefCell<BTreeMap<u16, Vec<Vec<u8>>>>>,
    port: u16,
    number: usize,
}

impl AsyncRead for Tee {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tee {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        if let (Poll::Ready(Ok(length)), Some(sent)) = (&written, self.sent.borrow_mut().get_mut(&self.port)) {
            sent[self.number].extend_from_slice(&bytes[..*length]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// A backend that answers everything and records what it read to the end.
async fn start_backend() -> (SocketAddr, Records) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let records = Records::default();
    let all = records.clone();
    tokio::task::spawn_local(async move {
        while let Ok((io, _)) = listener.accept().await {
            let records = all.clone();
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let records = records.clone();
                async move {
                    let port = request.headers().get("x-client-port").and_then(|port| port.to_str().ok()?.parse().ok());
                    let method = request.method().to_string();
                    if let Ok(body) = request.into_body().collect().await {
                        let recorded = Recorded { method, body: body.to_bytes() };
                        records.borrow_mut().entry(port.unwrap_or_default()).or_default().push(recorded);
                    }
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
                }
            });
            tokio::task::spawn_local(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service),
            );
        }
    });
    (address, records)
}

fn start(command: &mut Command) -> Process {
    Process(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
