//! A data plane, its controller, backends, and requests through it.

use crate::config::{config, web};
use crate::controller::Controller;
use portcullis_data_plane::{DataPlane, Options};
use portcullis_proxy::PortMap;
use portcullis_runtime::drain::Drain;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub controller: Rc<Controller>,
    pub files: TempDir,
    pub stop: Drain,
    pub plane: DataPlane,
}

/// Runs a test on a thread of its own kind.
pub fn run(test: impl Future<Output = ()>) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

impl World {
    pub async fn new() -> Self {
        Self::with(Controller::new(), |_| ()).await
    }

    pub async fn with(controller: Rc<Controller>, change: impl FnOnce(&mut Options)) -> Self {
        let (stream, identity) = controller.start().await;
        let files = TempDir::new().unwrap();
        let write = |name: &str, text: String| std::fs::write(files.path().join(name), text).unwrap();
        write("ca.crt", controller.authority.borrow().pem());
        write("token", format!("{}\n", controller.token.borrow()));
        let address = |address: SocketAddr| address.to_string().parse().unwrap();
        let mut options = Options::new(web(), "1", "web-1", address(stream), address(identity));
        options.ca_file = files.path().join("ca.crt");
        options.token_file = files.path().join("token");
        options.telemetry_address = Some((Ipv4Addr::LOCALHOST, 0).into());
        options.shutdown_delay = Duration::from_millis(300);
        options.proxy.port_map = PortMap::ephemeral();
        options.proxy.default_bind = vec![Ipv4Addr::LOCALHOST.into()];
        change(&mut options);
        let stop = Drain::new();
        let plane = DataPlane::start(options, "test", &stop).await.unwrap();
        Self { controller, files, stop, plane }
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.files.path().join(name), text).unwrap();
    }

    /// Publishes a configuration with a listener on port 80, and waits until it is acknowledged.
    pub async fn serve(&self, generation: i64, backend: SocketAddr) -> SocketAddr {
        self.controller.publish(config(generation, &[80], backend));
        until("the acknowledgement", async || self.controller.acknowledged() == Some(generation)).await;
        self.port(80).await
    }

    /// Where a port is bound.
    pub async fn port(&self, port: u16) -> SocketAddr {
        let applied = self.plane.proxy().apply(Vec::new()).await;
        let report = applied.ports.into_iter().find(|report| report.port == port).unwrap();
        report.result.unwrap().addresses[0]
    }

    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = get(self.plane.telemetry_address().unwrap(), "/metrics").await.unwrap().1;
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    /// What `/readyz` answers.
    pub async fn ready(&self) -> u16 {
        get(self.plane.telemetry_address().unwrap(), "/readyz").await.unwrap().0
    }
}

/// A backend that answers every request with its name. It runs as long as the test.
pub async fn backend(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                let mut buffer = [0; 4096];
                while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                    if socket.write_all(response.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Status and body of one request on a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept: text/plain\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    socket.read_to_end(&mut response).await?;
    let response = String::from_utf8(response).unwrap();
    let status = response.get(9..12).and_then(|status| status.parse().ok());
    let body = response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

pub async fn answers(address: SocketAddr) -> String {
    let (status, body) = get(address, "/").await.unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

/// Waits for something that must come.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what} never came");
}
