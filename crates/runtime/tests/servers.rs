//! The telemetry and the admin server, over real sockets with raw requests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_runtime::admin::{self, AdminAddress, AdminServer};
use portcullis_runtime::drain::{Drain, Kind, Phase};
use portcullis_runtime::metrics::Registry;
use portcullis_runtime::readiness::{Gate, Readiness};
use portcullis_runtime::server::Limits;
use portcullis_runtime::telemetry::{self, TelemetryServer};
use portcullis_runtime::threads::{self, Ending, OnPanic, Thread};

/// A server on a thread of its own, stopped when this is dropped.
struct Running {
    address: Option<SocketAddr>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<Thread<()>>,
}

impl Running {
    fn address(&self) -> SocketAddr {
        self.address.unwrap()
    }

    fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            assert_eq!(thread.join(), Ending::Finished(()));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

struct Telemetry {
    server: Running,
    drain: Drain,
    gate: Gate,
    alive: Arc<AtomicBool>,
}

fn telemetry(limits: Limits) -> Telemetry {
    let drain = Drain::new();
    let registry = Registry::new(1);
    let readiness = Readiness::new(drain.watch());
    let gate = readiness.gate("config", "waiting for the first complete configuration");
    let alive = Arc::new(AtomicBool::new(true));
    let for_server = alive.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = threads::spawn("telemetry", OnPanic::Count, move || async move {
        let check =
            move || if for_server.load(Ordering::Relaxed) { Ok(()) } else { Err("worker 1\nis gone".to_owned()) };
        let routes = telemetry::routes(registry.clone(), readiness, check);
        let server = TelemetryServer::bind(([127, 0, 0, 1], 0).into(), routes, limits).await.unwrap();
        server.register(&registry).unwrap();
        tell.send(server.local_addr().unwrap()).unwrap();
        server.serve(async { drop(stopped.await) }).await;
    });
    let server = Running { address: Some(told.recv().unwrap()), stop: Some(stop), thread: Some(thread.unwrap()) };
    Telemetry { server, drain, gate, alive }
}

fn admin(address: AdminAddress, drain: Drain) -> Running {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = threads::spawn("admin", OnPanic::Count, move || async move {
        let routes = admin::routes(|| br#"{"generation":7}"#.to_vec(), drain, Duration::from_secs(3600));
        let server = AdminServer::bind(&address, routes, Limits::default()).await.unwrap();
        tell.send(server.local_addr()).unwrap();
        server.serve(async { drop(stopped.await) }).await;
    });
    Running { address: told.recv().unwrap(), stop: Some(stop), thread: Some(thread.unwrap()) }
}

/// What came back on a connection: the status, the head in lower case, the body.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn exchange(mut stream: impl Read + Write, request: &str) -> Answer {
    // The server may have answered and closed before it had read all of an oversized request.
    let _ = stream.write_all(request.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

fn tcp(address: SocketAddr, request: &str) -> Answer {
    exchange(TcpStream::connect(address).unwrap(), request)
}

fn request(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n")
}

#[test]
fn telemetry_table() {
    let telemetry = telemetry(Limits::default());
    let address = telemetry.server.address();
    let long = format!("X-Long: {}\r\n", "x".repeat(40_000));
    let many: String = (0..100).map(|number| format!("X-{number}: 1\r\n")).collect();
    let table: [(&str, &str, &str, u16, &str); 14] = [
        ("GET", "/metrics", "", 200, "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("GET", "/metrics", "Accept: text/plain\r\n", 200, "content-type: text/plain; version=0.0.4; charset=utf-8"),
        ("GET", "/metrics?name=x", "", 200, "content-type: application/openmetrics-text"),
        ("GET", "/healthz", "", 200, "x-content-type-options: nosniff"),
        ("GET", "/", "", 200, "cache-control: no-store"),
        ("HEAD", "/healthz", "", 200, "content-length: 3"),
        ("POST", "/metrics", "", 405, "allow: get, head"),
        ("DELETE", "/", "", 405, "allow: get, head"),
        ("GET", "/config", "", 404, "content-security-policy: default-src 'none'"),
        ("POST", "/drain", "", 404, "x-frame-options: deny"),
        ("GET", "/metrics/", "", 404, ""),
        ("GET", "/metrics", "Content-Length: 5\r\n", 413, ""),
        ("GET", "/metrics", &long, 431, ""),
        ("GET", "/metrics", &many, 431, ""),
    ];
    for (method, path, more, status, header) in table {
        let answer = tcp(address, &request(method, path, more));
        assert_eq!(answer.status, status, "{method} {path} {more:.40}: {answer:?}");
        assert!(answer.head.contains(header), "{method} {path}: {answer:?}");
    }
    assert_eq!(tcp(address, "rubbish\r\n\r\n").status, 400);
    assert_eq!(tcp(address, &request("HEAD", "/metrics", "")).body, "");
    assert!(tcp(address, &request("GET", "/metrics", "")).body.ends_with("# EOF\n"));
    let listing = tcp(address, &request("GET", "/", "")).body;
    assert!(["GET  /metrics", "GET  /healthz", "GET  /readyz"].iter().all(|path| listing.contains(path)), "{listing}");
}

#[test]
fn readiness_and_health_follow_the_process() {
    let telemetry = telemetry(Limits::default());
    let get = |path: &str| {
        let answer = tcp(telemetry.server.address(), &request("GET", path, ""));
        (answer.status, answer.body)
    };
    assert_eq!(get("/readyz"), (503, "config: waiting for the first complete configuration\n".to_owned()));
    assert_eq!(get("/healthz"), (200, "ok\n".to_owned()));
    telemetry.gate.open();
    assert_eq!(get("/readyz"), (200, "ok\n".to_owned()));
    telemetry.drain.begin(Duration::from_secs(3600));
    assert_eq!(get("/readyz"), (503, "drain: this process is draining\n".to_owned()));
    assert_eq!(get("/healthz").0, 200);
    telemetry.alive.store(false, Ordering::Relaxed);
    assert_eq!(get("/healthz"), (503, "worker 1\\nis gone\n".to_owned()));
}

#[test]
fn connections_are_kept_and_requests_pipelined() {
    let telemetry = telemetry(Limits::default());
    let first = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let both = tcp(telemetry.server.address(), &format!("{first}{}", request("GET", "/healthz", "")));
    assert_eq!(both.body.matches("HTTP/1.1 200 OK").count(), 1, "{both:?}");
}

#[test]
fn one_connection_too_many_is_closed_and_counted() {
    let in_all = Limits { connections: 2, connections_per_address: 8, ..Limits::default() };
    let per_address = Limits { connections: 8, connections_per_address: 2, ..Limits::default() };
    for limits in [in_all, per_address] {
        let telemetry = telemetry(limits);
        let address = telemetry.server.address();
        let mut held: Vec<_> = (0..2)
            .map(|_| {
                let mut stream = TcpStream::connect(address).unwrap();
                // An answer shows that the server has counted this one.
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                assert_ne!(stream.read(&mut [0; 1024]).unwrap(), 0);
                stream
            })
            .collect();
        assert_eq!(read_until_closed(TcpStream::connect(address).unwrap()), "");

        let mut last = held.pop().unwrap();
        last.write_all(request("GET", "/metrics", "").as_bytes()).unwrap();
        let text = read_until_closed(last);
        assert!(text.contains("portcullis_telemetry_refused_connections_total 1.0\n"), "{text}");
    }
}

#[test]
fn slow_heads_and_idle_connections_end() {
    let limits = Limits { head_timeout: Duration::from_millis(50), ..Limits::default() };
    let telemetry = telemetry(limits);
    for begun in ["", "GET /healthz HTTP/1.1\r\nHos"] {
        let mut stream = TcpStream::connect(telemetry.server.address()).unwrap();
        stream.write_all(begun.as_bytes()).unwrap();
        assert!(!read_until_closed(stream).contains("200 OK"));
    }
}

/// What a server sends until it closes. A connection that it keeps open is a failure, far beyond the times set in these tests.
fn read_until_closed(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the connection stays open"),
        // A reset is a close too.
        _ => String::from_utf8(bytes).unwrap(),
    }
}

#[test]
fn old_connections_end_and_a_stop_does_not_wait_for_idle_ones() {
    let limits = Limits { lifetime: Duration::from_millis(20), ..Limits::default() };
    let short = telemetry(limits);
    let mut idle = TcpStream::connect(short.server.address()).unwrap();
    assert_eq!(idle.read(&mut [0; 16]).unwrap(), 0);

    let stopping = telemetry(Limits { grace: Duration::from_secs(3600), ..Limits::default() });
    let mut idle = TcpStream::connect(stopping.server.address()).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_ne!(idle.read(&mut [0; 1024]).unwrap(), 0);
    stopping.server.stop();
    assert_eq!(idle.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn admin_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let drain = Drain::new();
    let guard = drain.watch().guard(Kind::Tunnel);
    let server = admin(AdminAddress::unix(&path), drain.clone());
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(entries(folder.path()), ["admin.sock"]);

    let ask = |text: &str| exchange(UnixStream::connect(&path).unwrap(), text);
    let config = ask(&request("GET", "/config", ""));
    assert_eq!((config.status, config.body.as_str()), (200, r#"{"generation":7}"#));
    assert!(config.head.contains("content-type: application/json"));
    let listing = ask(&request("GET", "/", ""));
    assert!(listing.body.contains("GET  /config") && listing.body.contains("POST /drain"), "{listing:?}");
    assert_eq!(ask(&request("GET", "/metrics", "")).status, 404);

    let get = ask(&request("GET", "/drain", ""));
    assert_eq!(get.status, 405);
    assert!(get.head.contains("allow: post"));
    assert_eq!(drain.phase(), Phase::Running);

    let begun = ask(&request("POST", "/drain", "Content-Length: 0\r\n"));
    assert_eq!(begun.status, 202);
    assert!(begun.body.starts_with(r#"{"phase":"draining","seconds_left":"#), "{begun:?}");
    assert!(begun.body.ends_with("\"connections\":0,\"streams\":0,\"tunnels\":1}\n"), "{begun:?}");
    let Phase::Draining { deadline } = drain.phase() else { panic!("draining") };
    assert_eq!(ask(&request("POST", "/drain", "")).status, 202);
    assert_eq!(drain.phase(), Phase::Draining { deadline });
    drop(guard);

    server.stop();
    assert_eq!(entries(folder.path()), [""; 0]);
}

#[test]
fn admin_refuses_what_a_browser_could_send() {
    let drain = Drain::new();
    let server = admin("localhost:0".parse().unwrap(), drain.clone());
    let port = server.address().port();
    let hosts = ["localhost".to_owned(), format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
    for host in &hosts {
        let answer =
            tcp(server.address(), &format!("GET /config HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        assert_eq!(answer.status, 200, "{host}");
    }
    let refused = [
        "Host: attacker.example\r\n",
        "Host: localhost.attacker.example\r\n",
        "Host: localhost\r\nHost: attacker.example\r\n",
        "Host: localhost\r\nOrigin: http://attacker.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nOrigin: http://localhost\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        "Host: localhost\r\nSec-Fetch-Site: same-site\r\n",
        "Host: \r\n",
        "",
    ];
    for headers in refused {
        for line in ["POST /drain", "GET /config"] {
            let answer = tcp(server.address(), &format!("{line} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"));
            assert!(matches!(answer.status, 400 | 403), "{line} {headers:?}: {answer:?}");
            assert!(!answer.body.contains("generation"));
        }
    }
    let absolute = "POST http://attacker.example/drain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(tcp(server.address(), absolute).status, 403);
    let with_body = "POST /drain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(tcp(server.address(), with_body).status, 413);
    assert_eq!(drain.phase(), Phase::Running);
}

#[test]
fn stale_sockets_are_replaced_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    drop(UnixListener::bind(&path).unwrap());
    admin(AdminAddress::unix(&path), Drain::new()).stop();
    assert!(!path.exists());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bind = |path: &Path| {
        let routes = admin::routes(Vec::new, Drain::new(), Duration::from_secs(1));
        runtime.block_on(AdminServer::bind(&AdminAddress::unix(path), routes, Limits::default())).map(drop)
    };
    let server = admin(AdminAddress::unix(&path), Drain::new());
    let in_use = bind(&path).unwrap_err();
    assert_eq!(in_use.kind(), std::io::ErrorKind::AddrInUse);
    assert!(in_use.to_string().contains("admin.sock: another process listens there"), "{in_use}");
    assert_eq!(exchange(UnixStream::connect(&path).unwrap(), &request("GET", "/config", "")).status, 200);
    server.stop();

    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(bind(&file).unwrap_err().to_string().contains("not a socket"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert!(bind(&link).unwrap_err().to_string().contains("not a socket"));
    assert!(bind(&folder.path().join("absent/admin.sock")).unwrap_err().to_string().contains("absent/admin.sock"));
    assert_eq!(entries(folder.path()), ["file", "link"]);
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
