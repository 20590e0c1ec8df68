//! Hot reload without loss: under constant load through 200 changes, restarts of a backend and rotations of the certificate,
//! and a SIGTERM at the end, not one request fails.
//!
//! The clients are strict. Every response is a 200 from a backend that may answer; a request on a new connection never fails;
//! on a connection that was used before, a close without a response is a failure unless the server had announced it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use support::client::{certificate_of, get, trust};
use support::{Authority, Backend, Client, ClientError, Folder, Program, Run, route, service, wait_until};

const CHANGES: usize = 200;
/// On two paths: kept connections and new ones, with TLS and without, and HTTP/2.
const CLIENTS: usize = 10;
const HOST: &str = "app.example.com";
/// Between two requests of a client, so that the clients leave the machine room for the changes.
const PAUSE: Duration = Duration::from_millis(2);

#[test]
fn no_request_fails_through_changes_restarts_rotations_and_the_end() {
    let authority = Authority::new();
    let mut scene = Scene::start(&authority);
    let trusted = trust(&authority.pem);
    let load = Load::start(scene.http, scene.https, &trusted);

    for number in 0..CHANGES {
        scene.change(number, &authority, &trusted);
        load.wait_for_progress();
        load.assert_unharmed(&format!("change {number}"));
    }

    load.is_ending.store(true, Ordering::SeqCst);
    scene.program.signal("TERM");
    let requests = load.finish();
    let status = scene.program.wait();
    assert_eq!(status.code(), Some(0), "a drain that nobody cut ends well");
    assert!(requests >= (CHANGES * CLIENTS * 2) as u64, "{requests} requests");
}

/// Nobody waits for anybody: readings meet files in the middle of being written.
#[test]
fn no_request_fails_in_a_storm_of_writes() {
    let authority = Authority::new();
    let scene = Scene::start(&authority);
    let load = Load::start(scene.http, scene.https, &trust(&authority.pem));
    let certificates = [authority.sign("*.example.com"), authority.sign("*.example.com")];
    for round in 0..500 {
        let backend = ["green", "blue"][round % 2];
        scene.folder.write("flip.yaml", &route("flip", "/flip", backend));
        scene.folder.replace("certificate.yaml", &certificates[round % 2].secret("web"));
        scene.folder.write("gateway.yaml", &gateway(if round % 7 == 0 { "# a comment\n" } else { "" }));
        if round % 10 == 0 {
            load.wait_for_progress();
            load.assert_unharmed(&format!("round {round}"));
        }
    }
    scene.folder.write("flip.yaml", &route("flip", "/flip", "green"));
    let trusted = trust(&authority.pem);
    let is_last = |scene: &Scene| {
        let answer = get(scene.http, HOST, "/flip");
        answer.header("backend") == Some("green")
            && certificate_of(scene.https, HOST, &trusted) == certificates[1].der()
    };
    wait_until("the last word counts", || is_last(&scene));
    load.wait_for_progress();
    load.is_ending.store(true, Ordering::SeqCst);
    scene.program.signal("TERM");
    load.finish();
}

/// The program with its folder and backends.
struct Scene {
    folder: Folder,
    green: Backend,
    blue: Backend,
    program: Program,
    http: SocketAddr,
    https: SocketAddr,
}

impl Scene {
    fn start(authority: &Authority) -> Self {
        let (green, blue) = (Backend::start("green"), Backend::start("blue"));
        let folder = Folder::new();
        folder
            .write("gateway.yaml", &gateway(""))
            .write("certificate.yaml", &authority.sign("*.example.com").secret("web"))
            .write("both.yaml", &route("both", "/both", "both"))
            .write("flip.yaml", &route("flip", "/flip", "green"))
            .write("services.yaml", &services(&green, &blue));
        let program = Run::new(folder.path(), &[80, 443, 8080]).start();
        let (http, https) = (program.address(80), program.address(443));
        Self { folder, green, blue, program, http, https }
    }

    /// Makes one change and waits until it has taken effect.
    fn change(&mut self, number: usize, authority: &Authority, trusted: &Arc<ClientConfig>) {
        match number % 10 {
            0 => {
                self.folder.replace("flip.yaml", &route("flip", "/flip", "blue"));
                self.wait_for_flip("blue");
            }
            1 => {
                // As a shell does it: `generate > flip.yaml` empties the file first, and takes its time to write it.
                let told = self.told("is not empty any more");
                self.folder.write("flip.yaml", "");
                wait_until("the emptied file is told", || self.told("is not empty any more") > told);
                self.folder.write("flip.yaml", &route("flip", "/flip", "green"));
                self.wait_for_flip("green");
            }
            2 => {
                self.folder.write("extra.yaml", &route("extra", "/extra", "both"));
                wait_until("the added route answers", || self.status("/extra") == 200);
            }
            3 => {
                self.folder.remove("extra.yaml");
                wait_until("the removed route answers no more", || self.status("/extra") == 404);
                self.restart_blue();
            }
            4 => {
                self.folder.replace("gateway.yaml", &gateway(&listener(number)));
                let added = self.added_port();
                assert_eq!(get(added, HOST, "/both").status, 200, "a port that is bound serves");
            }
            5 => {
                let added = self.added_port();
                self.folder.write("gateway.yaml", &gateway(""));
                wait_until("the removed port is closed", || Client::connect(added).is_err());
            }
            6 => {
                let told = self.told("yaml-syntax");
                self.folder.write("flip.yaml", "apiVersion: gateway.networking.k8s.io/v1\nkind: [HTTPRoute");
                wait_until("the broken file is told", || self.told("yaml-syntax") > told);
            }
            7 => {
                self.folder.write("flip.yaml", &route("flip", "/flip", "blue"));
                self.wait_for_flip("blue");
            }
            8 => {
                let certificate = authority.sign("*.example.com");
                let before = certificate_of(self.https, HOST, trusted);
                self.folder.replace("certificate.yaml", &certificate.secret("web"));
                wait_until("the new certificate is shown", || certificate_of(self.https, HOST, trusted) != before);
            }
            _ => {
                // The object moves to another file and changes on its way; then the file gets its old name back.
                self.folder.write("flip.yaml", &route("flip", "/flip", "green"));
                fs::rename(self.folder.file("flip.yaml"), self.folder.file("moved.yaml")).unwrap();
                self.wait_for_flip("green");
                fs::rename(self.folder.file("moved.yaml"), self.folder.file("flip.yaml")).unwrap();
                self.take_blue_out_and_back();
            }
        }
    }

    /// Nobody tells the gateway: the other endpoint has to take over.
    fn restart_blue(&mut self) {
        self.blue.stop();
        for _ in 0..5 {
            assert_eq!(get(self.http, HOST, "/both").header("backend"), Some("green"));
        }
        self.blue.start_again();
    }

    /// As a cluster does it: the endpoint leaves first, then its process ends.
    fn take_blue_out_and_back(&mut self) {
        let generation = self.generation();
        self.folder.replace("services.yaml", &services(&self.green, &self.green));
        wait_until("the endpoint is gone", || self.generation() > generation);
        self.blue.stop();
        self.blue.start_again();
        let generation = self.generation();
        self.folder.replace("services.yaml", &services(&self.green, &self.blue));
        wait_until("the endpoint is back", || self.generation() > generation);
    }

    fn wait_for_flip(&self, backend: &str) {
        wait_until(backend, || get(self.http, HOST, "/flip").header("backend") == Some(backend));
    }

    fn status(&self, path: &str) -> u16 {
        get(self.http, HOST, path).status
    }

    fn generation(&self) -> u64 {
        self.program.metric("portcullis_config_generation") as u64
    }

    /// Where the listener that change 4 added is served: the newest line that says so.
    fn added_port(&self) -> SocketAddr {
        let mut address = None;
        wait_until("the added port is served", || {
            let lines = self.program.log.all();
            let listening = lines.iter().rev().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let mut listening = listening.filter(|line| line["message"] == "listening" && line["port"] == 8080);
            address = listening.next().and_then(|line| line["address"].as_str()?.parse().ok());
            address.is_some_and(|address| Client::connect(address).is_ok())
        });
        address.unwrap()
    }

    /// How often the program's log says something.
    fn told(&self, what: &str) -> usize {
        self.program.log.all().iter().filter(|line| line.contains(what)).count()
    }
}

fn gateway(more: &str) -> String {
    format!(
        "{}  - {{ name: https, protocol: HTTPS, port: 443, hostname: '*.example.com', tls: {{ certificateRefs: [{{ name: web \
         }}] }}, allowedRoutes: {{ namespaces: {{ from: All }} }} }}\n{more}",
        support::GATEWAY
    )
}

fn listener(number: usize) -> String {
    format!(
        "  - {{ name: added-{number}, protocol: HTTP, port: 8080, allowedRoutes: {{ namespaces: {{ from: All }} }} }}\n"
    )
}

fn services(green: &Backend, blue: &Backend) -> String {
    let both = if green.port() == blue.port() { vec![green.port()] } else { vec![green.port(), blue.port()] };
    [service("green", &[green.port()]), service("blue", &[blue.port()]), service("both", &both)].join("---\n")
}

/// Clients that never rest.
struct Load {
    is_ending: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    clients: Vec<(Arc<AtomicU64>, JoinHandle<()>)>,
}

/// What a client shares with the test.
#[derive(Clone)]
struct Shared {
    name: String,
    is_ending: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    requests: Arc<AtomicU64>,
}

impl Load {
    fn start(http: SocketAddr, https: SocketAddr, trusted: &Arc<ClientConfig>) -> Self {
        let mut load = Self { is_ending: Arc::default(), failures: Arc::default(), clients: Vec::new() };
        for path in ["/flip", "/both"] {
            let tcp = move || Client::connect(http);
            let config = trusted.clone();
            let tls = move || Client::connect_tls(https, HOST, &config);
            let tls_too = tls.clone();
            load.add(format!("kept connection, HTTP, {path}"), move |shared| keep_alive(&shared, path, tcp));
            load.add(format!("kept connection, HTTPS, {path}"), move |shared| keep_alive(&shared, path, tls));
            load.add(format!("new connections, HTTP, {path}"), move |shared| new_each_time(&shared, path, tcp));
            load.add(format!("new connections, HTTPS, {path}"), move |shared| new_each_time(&shared, path, tls_too));
            let mut config = ClientConfig::clone(trusted);
            config.alpn_protocols = vec![b"h2".to_vec()];
            load.add(format!("HTTP/2, {path}"), move |shared| http2(&shared, path, https, config));
        }
        load
    }

    fn add(&mut self, name: String, run: impl FnOnce(Shared) + Send + 'static) {
        let requests = Arc::<AtomicU64>::default();
        let (is_ending, failures) = (self.is_ending.clone(), self.failures.clone());
        let shared = Shared { name, is_ending, failures, requests: requests.clone() };
        self.clients.push((requests, std::thread::spawn(move || run(shared))));
    }

    /// Waits until each client has sent another two requests, the second after this call.
    fn wait_for_progress(&self) {
        let counts: Vec<u64> = self.clients.iter().map(|(count, _)| count.load(Ordering::SeqCst)).collect();
        wait_until("every client goes on", || {
            let mut clients = self.clients.iter().zip(&counts);
            clients.all(|((count, thread), before)| count.load(Ordering::SeqCst) >= before + 2 || thread.is_finished())
        });
    }

    fn assert_unharmed(&self, when: &str) {
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{when}:\n{}", failures.join("\n"));
    }

    /// Waits until each client has found the door closed.
    fn finish(self) -> u64 {
        let mut requests = 0;
        for (count, thread) in self.clients {
            thread.join().unwrap();
            requests += count.load(Ordering::SeqCst);
        }
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "at the end:\n{}", failures.join("\n"));
        requests
    }
}

impl Shared {
    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst)
    }

    fn fail(&self, what: &str) {
        self.failures.lock().unwrap().push(format!("{}: {what}", self.name));
    }

    /// Whether the client may go on.
    fn check(&self, status: u16, backend: Option<&str>) -> bool {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let is_good = status == 200 && matches!(backend, Some("green" | "blue"));
        if !is_good {
            self.fail(&format!("status {status}, backend {backend:?}"));
        }
        is_good
    }

    /// A connection, or `None` at the end, when there is nobody any more.
    fn connect(&self, connect: impl Fn() -> Result<Client, ClientError>) -> Option<Client> {
        match connect() {
            Ok(client) => Some(client),
            Err(_) if self.is_ending() => None,
            Err(error) => {
                self.fail(&format!("{error:?}"));
                None
            }
        }
    }
}

fn keep_alive(shared: &Shared, path: &str, connect: impl Fn() -> Result<Client, ClientError>) {
    while let Some(mut client) = shared.connect(&connect) {
        let mut is_first = true;
        while !client.is_closing {
            match client.get(HOST, path) {
                Ok(response) => {
                    if !shared.check(response.status, response.header("backend")) {
                        return;
                    }
                }
                // The port was closed between the kernel's welcome and ours.
                Err(ClientError::NoResponse(_)) if is_first && shared.is_ending() => return,
                Err(error) => return shared.fail(&format!("first on its connection: {is_first}; {error:?}")),
            }
            is_first = false;
            std::thread::sleep(PAUSE);
        }
    }
}

fn new_each_time(shared: &Shared, path: &str, connect: impl Fn() -> Result<Client, ClientError>) {
    while let Some(mut client) = shared.connect(&connect) {
        match client.get(HOST, path) {
            Ok(response) => {
                if !shared.check(response.status, response.header("backend")) {
                    return;
                }
            }
            Err(ClientError::NoResponse(_)) if shared.is_ending() => return,
            Err(error) => return shared.fail(&format!("{error:?}")),
        }
        drop(client);
        std::thread::sleep(PAUSE);
    }
}

fn http2(shared: &Shared, path: &str, address: SocketAddr, config: ClientConfig) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    runtime.block_on(async {
        loop {
            let connected = async {
                let tcp = tokio::net::TcpStream::connect(address).await?;
                let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
                connector.connect(name, tcp).await
            };
            let stream = match connected.await {
                Ok(stream) => stream,
                Err(_) if shared.is_ending() => return,
                Err(error) => return shared.fail(&format!("connect: {error}")),
            };
            let executor = TokioExecutor::new();
            let Ok((sender, connection)) =
                hyper::client::conn::http2::handshake::<_, _, Empty<bytes::Bytes>>(executor, TokioIo::new(stream))
                    .await
            else {
                return shared.fail("no HTTP/2 handshake");
            };
            let driver = tokio::spawn(connection);
            if !http2_requests(shared, path, sender).await {
                return;
            }
            drop(driver.await);
        }
    });
}

/// Requests until the server announces the end of the connection. Whether the client may connect again.
async fn http2_requests(
    shared: &Shared,
    path: &str,
    mut sender: hyper::client::conn::http2::SendRequest<Empty<bytes::Bytes>>,
) -> bool {
    // Not ready any more: a GOAWAY was received before the request.
    let mut is_first = true;
    while sender.ready().await.is_ok() {
        let uri = format!("https://{HOST}{path}");
        let request = http::Request::get(uri).body(Empty::new()).unwrap();
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(error) if is_announced(&error) || (is_first && shared.is_ending()) => return true,
            Err(error) => {
                shared.fail(&format!("first on its connection: {is_first}; {error:?}"));
                return false;
            }
        };
        is_first = false;
        let status = response.status().as_u16();
        let backend = response.headers().get("backend").map(|value| value.to_str().unwrap().to_owned());
        if let Err(error) = response.into_body().collect().await {
            shared.fail(&format!("inside the body: {error:?}"));
            return false;
        }
        if !shared.check(status, backend.as_deref()) {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
    true
}

/// RFC 9113 section 6.8: a request above the last stream of a GOAWAY was not processed, and may be sent again elsewhere. So may
/// one that never left.
fn is_announced(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    error.is_canceled()
        || cause.is_some_and(|cause| {
            cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR)
        })
}
