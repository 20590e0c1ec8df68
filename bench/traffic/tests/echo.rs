//! Load and backend without a proxy between them: each shape that needs no TLS is answered, and what is wrong is told.
#![expect(clippy::unwrap_used, reason = "tests, their helpers included")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_portcullis-traffic");

struct Backend {
    child: Child,
    http1: SocketAddr,
    http2: SocketAddr,
}

impl Backend {
    fn start() -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (http1, http2) = (free(), free());
        let arguments = ["backend", "--http1", &http1.to_string(), "--http2", &http2.to_string()];
        let child = Command::new(PROGRAM).args(arguments).spawn().unwrap();
        let start = Instant::now();
        while TcpStream::connect(http2).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "the backend does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, http1, http2 }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a load prints, or what it says is wrong.
fn load(shape: &str, target: SocketAddr, more: &[&str]) -> Result<String, String> {
    let mut command = Command::new(PROGRAM);
    command.args(["load", "--shape", shape, "--connections", "3", "--seconds", "0.1", "--target", &target.to_string()]);
    command.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    if line == "ready\n" {
        line.clear();
        input.write_all(b"go\n").unwrap();
        output.read_line(&mut line).unwrap();
    }
    drop(input);
    let mut problem = String::new();
    child.stderr.take().unwrap().read_to_string(&mut problem).unwrap();
    if child.wait().unwrap().success() { Ok(line) } else { Err(problem) }
}

#[test]
fn each_shape_is_answered() {
    let backend = Backend::start();
    for shape in ["http1", "http1-64k", "http1-post-1k", "http1-post-64k", "websocket", "grpc"] {
        let target = if shape == "grpc" { backend.http2 } else { backend.http1 };
        let json: serde_json::Value = serde_json::from_str(&load(shape, target, &[]).unwrap()).unwrap();
        assert_eq!(json["errors"], 0, "{shape}: {json}");
        assert!(json["units"].as_u64().unwrap() > 0, "{shape}: {json}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&load("grpc", backend.http2, &["--streams", "4"]).unwrap()).unwrap();
    assert_eq!((&json["errors"], &json["warmUnits"]), (&0.into(), &12.into()));
}

#[test]
fn what_is_wrong_is_told() {
    let backend = Backend::start();
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(load("http1", refused, &[]).unwrap_err().contains("connecting to"));
    assert!(load("http1", backend.http2, &[]).is_err());
    assert!(load("grpc", backend.http1, &[]).is_err());
    assert!(load("https1", backend.http1, &[]).unwrap_err().contains("--ca"));
}
