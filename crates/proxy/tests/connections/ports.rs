//! Changes of a configuration: what is open follows it, ports come and go, and no request is lost.

use crate::client::{get, http2, location, read_to_end, request, tls, tls_config};
use crate::gateway::{Authority, Gateway, http, https, listener_key, options, resource, route};
use portcullis_proxy::{Options, PortMap};
use rustls::ClientConfig;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

#[tokio::test]
async fn open_connections_follow_the_configuration() {
    let mut gateway = Gateway::http(options()).await;
    let mut http1 = TcpStream::connect(gateway.address(80)).await.unwrap();
    let (mut sender, _connection) = http2(TcpStream::connect(gateway.address(80)).await.unwrap()).await;
    for name in ["one", "two", "three"] {
        gateway.apply(vec![route(name, &["http"])], Vec::new()).await;
        assert_eq!(get(&mut http1, "a.example").await.unwrap().location(), name);
        let response = sender.send_request(request("http://a.example/")).await.unwrap();
        assert_eq!(location(&response), name);
    }
    assert!(gateway.metric("portcullis_config_generation") >= 4.0);
    assert_eq!(gateway.metric("portcullis_ports{state=\"bound\"}"), 1.0);
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Clients that ask again and again, on new connections or on one, until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<io::Result<()>>>,
}

impl Load {
    /// With a TLS configuration where the port speaks HTTPS.
    fn on(address: SocketAddr, clients: usize, config: Option<&Arc<ClientConfig>>) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients = (0..clients).map(|index| {
            let (stop, answered, config) = (stop.clone(), answered.clone(), config.cloned());
            tokio::spawn(async move {
                let mut open: Option<Box<dyn Stream>> = None;
                while !stop.load(Ordering::Relaxed) {
                    let mut stream: Box<dyn Stream> = match (open.take(), &config) {
                        (Some(stream), _) => stream,
                        (None, None) => Box::new(TcpStream::connect(address).await?),
                        (None, Some(config)) => Box::new(tls(address, "a.example", config).await?),
                    };
                    let answer = get(&mut stream, "a.example").await?;
                    if answer.status != 302 {
                        return Err(io::Error::other(format!("{answer:?}")));
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                    if index % 2 == 0 && !answer.closes() {
                        open = Some(stream);
                    }
                }
                Ok(())
            })
        });
        Self { clients: clients.collect(), stop, answered }
    }

    /// Waits for so many more answers.
    async fn answers(&self, count: usize) {
        let before = self.answered.load(Ordering::Relaxed);
        while self.answered.load(Ordering::Relaxed) < before + count && self.clients.iter().all(|c| !c.is_finished()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Every request was answered.
    async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn two_hundred_changes_cost_no_request() {
    let authority = Authority::new();
    let certificate = authority.certificate("a", &["a.example"]);
    let resources = vec![
        http("http", 80),
        https("https", 443, None, &["a"]),
        resource(&certificate),
        route("one", &["http", "https"]),
    ];
    let mut gateway = Gateway::start(Options { workers: 2, ..options() }, resources).await;
    let plain = Load::on(gateway.address(80), 3, None);
    let encrypted = Load::on(gateway.address(443), 3, Some(&Arc::new(tls_config(&authority, &[]))));
    for change in 0..200 {
        let (upserted, removed) = match change % 4 {
            // Ports beside them come and go.
            0 => (vec![http("other", 81)], Vec::new()),
            1 => (vec![resource(&authority.certificate("a", &["a.example"]))], Vec::new()),
            2 => (Vec::new(), vec![listener_key("other")]),
            _ => (vec![route(&format!("route-{change}"), &["http", "https"])], Vec::new()),
        };
        gateway.apply(upserted, removed).await;
        plain.answers(2).await;
        encrypted.answers(2).await;
    }
    plain.finish().await;
    encrypted.finish().await;
}

#[tokio::test]
async fn a_removed_port_answers_what_it_was_asked() {
    for _ in 0..5 {
        let mut gateway = Gateway::start(
            Options { workers: 2, ..options() },
            vec![http("http", 80), http("other", 81), route("one", &["http", "other"])],
        )
        .await;
        let address = gateway.address(81);
        // Connections in every state: asked and idle, silent, and in the queue.
        let mut open = TcpStream::connect(address).await.unwrap();
        get(&mut open, "a.example").await.unwrap();
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut queued = Vec::new();
        for _ in 0..20 {
            let stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_nonblocking(true).unwrap();
            queued.push(TcpStream::from_std(stream).unwrap());
        }
        gateway.apply(Vec::new(), vec![listener_key("other")]).await;
        assert!(TcpStream::connect(address).await.is_err());
        for stream in queued.iter_mut().chain([&mut open, &mut silent]) {
            let answer = get(stream, "a.example").await.unwrap();
            assert!(answer.closes(), "{answer:?}");
            read_to_end(stream).await;
        }
        let mut kept = TcpStream::connect(gateway.address(80)).await.unwrap();
        assert_eq!(get(&mut kept, "a.example").await.unwrap().location(), "one");
    }
}

#[tokio::test]
async fn a_removed_port_lingers_as_it_was_while_clients_hear_of_it() {
    let mut options = options();
    options.timeouts.port_linger = Duration::from_secs(1);
    let resources =
        vec![http("http", 80), http("other", 81), route("one", &["http", "other"]), route("two", &["other"])];
    let mut gateway = Gateway::start(options, resources).await;
    let address = gateway.address(81);
    let load = Load::on(address, 3, None);
    load.answers(5).await;
    gateway.apply(Vec::new(), vec![listener_key("other")]).await;
    let is_reported = |gateway: &Gateway| gateway.applied().ports.iter().any(|report| report.port == 81);
    assert!(!is_reported(&gateway), "nothing is promised of it");
    // Connections that were open, and new ones.
    load.answers(20).await;
    load.finish().await;

    // It is wanted again: it is the same port, with nothing lost.
    let load = Load::on(address, 3, None);
    gateway.apply(vec![http("other", 81)], Vec::new()).await;
    assert_eq!((is_reported(&gateway), gateway.address(81)), (true, address));
    load.answers(20).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.answers(20).await;
    load.finish().await;

    // In the end it is closed, and what is open is answered.
    let mut open = TcpStream::connect(address).await.unwrap();
    get(&mut open, "a.example").await.unwrap();
    gateway.apply(Vec::new(), vec![listener_key("other")]).await;
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(get(&mut open, "a.example").await.unwrap().closes());
}

#[tokio::test]
async fn a_port_in_use_is_reported_and_served_once_it_is_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let number = taken.local_addr().unwrap().port();
    let mut port_map = PortMap::ephemeral();
    port_map.insert(81, number);
    let resources = vec![http("http", 80), http("other", 81), route("one", &["http", "other"])];
    let gateway = Gateway::start(Options { port_map, ..options() }, resources).await;
    let report = &gateway.applied().ports[1];
    let error = report.result.as_ref().unwrap_err();
    assert_eq!((report.port, error.address.port()), (81, number));
    assert!(error.remedy.contains("--port 81="), "the port of the listener is what a user maps: {error}");
    assert_eq!(gateway.metric("portcullis_ports{state=\"failed\"}"), 1.0);
    let mut other = TcpStream::connect(gateway.address(80)).await.unwrap();
    assert_eq!(get(&mut other, "a.example").await.unwrap().location(), "one");

    drop(taken);
    gateway.metric_becomes("portcullis_ports{state=\"failed\"}", 0.0).await;
    let mut stream = TcpStream::connect(("127.0.0.1", number)).await.unwrap();
    assert_eq!(get(&mut stream, "a.example").await.unwrap().location(), "one");
}

#[tokio::test]
async fn the_first_gateway_keeps_a_port_that_two_want() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut port_map = PortMap::default();
    port_map.insert(80, free);
    let first = vec![http("http", 80), route("first", &["http"])];
    let mut gateway = Gateway::start(Options { port_map, ..options() }, first).await;
    let applied = gateway.apply_to("a-second", vec![http("http", 80), route("second", &["http"])], vec![]).await;
    let error = applied.ports[0].result.as_ref().unwrap_err().to_string();
    assert!(error.contains("Gateway default/gateway listens there"), "{error}");
    let ask = async || {
        let mut stream = TcpStream::connect(("127.0.0.1", free)).await.unwrap();
        get(&mut stream, "a.example").await.unwrap().location().to_owned()
    };
    assert_eq!(ask().await, "first");
    let applied = gateway.remove("gateway").await;
    assert!(applied.ports.len() == 1 && applied.ports[0].result.is_ok(), "{applied:?}");
    assert_eq!(ask().await, "second");
}

#[tokio::test]
async fn a_port_that_begins_to_speak_tls_stops_to_speak_cleartext() {
    let authority = Authority::new();
    let certificate = authority.certificate("a", &["a.example"]);
    let mut gateway = Gateway::http(options()).await;
    let address = gateway.address(80);
    let mut open = TcpStream::connect(address).await.unwrap();
    get(&mut open, "a.example").await.unwrap();
    gateway.apply(vec![https("http", 80, None, &["a"]), resource(&certificate)], Vec::new()).await;
    assert_eq!(gateway.address(80), address);
    let mut encrypted = tls(address, "a.example", &Arc::new(tls_config(&authority, &[]))).await.unwrap();
    assert_eq!(get(&mut encrypted, "a.example").await.unwrap().location(), "one");
    read_to_end(&mut open).await;
}

#[tokio::test]
async fn a_dropped_proxy_is_gone_with_its_sockets_and_connections() {
    let gateway = Gateway::http(options()).await;
    let address = gateway.address(80);
    let mut open = TcpStream::connect(address).await.unwrap();
    get(&mut open, "a.example").await.unwrap();
    drop(gateway);
    read_to_end(&mut open).await;
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn configurations_are_shown_without_keys() {
    let authority = Authority::new();
    let certificate = authority.certificate("a", &["a.example"]);
    let gateway = Gateway::start(options(), vec![https("https", 443, None, &["a"]), resource(&certificate)]).await;
    let configs = gateway.proxy.configs().await;
    let text = serde_json::to_string(&configs).unwrap();
    assert!(text.contains("default/gateway") && text.contains("(redacted)"), "{text}");
}
