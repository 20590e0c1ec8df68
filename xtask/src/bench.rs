//! Measurements beside peers, in the same run, as ratios.
//!
//! `control`: how soon a route serves and what it costs, on a real Kubernetes; see there.
//!
//! `request`: one kept-alive HTTP/1.1 request with a response of 1 KiB, proxied. The proxy has one core, load and backend
//! share the other; runs are interleaved. What is compared is the CPU time of the proxy's processes per request, as the kernel
//! counts it, because it is steady where requests per second are not.

mod control;

use crate::step::{Outcome, Step, installed, say, target};
use clap::Subcommand;
use serde_json::json;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Which bench.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// CPU time per proxied HTTP/1.1 request, beside nginx.
    Request,
    /// How soon a route serves, what routes cost, and whether changes cost requests: on a cluster of its own, which takes root and some
    /// 10 minutes; with --peer some 30 more.
    Control(control::Options),
}

const ROUNDS: usize = 5;
const SECONDS: u32 = 4;
const CONNECTIONS: &str = "64";

/// Runs a bench and prints its table and JSON.
pub(crate) fn run(bench: &Bench) -> Outcome {
    match bench {
        Bench::Request => request(),
        Bench::Control(options) => control::run(options),
    }
}

fn request() -> Outcome {
    for (program, package) in [("nginx", "nginx"), ("wrk", "wrk"), ("taskset", "util-linux")] {
        if !installed(program) && !Path::new("/usr/sbin").join(program).exists() {
            return Err(format!("{program} is missing; install it with: apt-get install {package}"));
        }
    }
    Step::cargo(&["build", "--release", "--locked", "--package", "portcullis"]).run()?;
    let folder = target().join("bench/request");
    fs::create_dir_all(folder.join("portcullis")).map_err(|error| error.to_string())?;
    let ports = Ports { backend: free_port()?, nginx: free_port()?, portcullis: free_port()? };
    write_configurations(&folder, &ports).map_err(|error| error.to_string())?;

    let _backend = Server::nginx(&folder.join("backend.conf"), "1", ports.backend)?;
    let nginx = Server::nginx(&folder.join("nginx.conf"), "0", ports.nginx)?;
    let portcullis = Server::portcullis(&folder, ports.portcullis)?;
    let mut proxies =
        [Measured::new("nginx", nginx, ports.nginx), Measured::new("portcullis", portcullis, ports.portcullis)];
    for _ in 0..ROUNDS {
        for proxy in &mut proxies {
            proxy.round()?;
        }
    }
    report(&proxies)
}

struct Ports {
    backend: u16,
    nginx: u16,
    portcullis: u16,
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

fn write_configurations(folder: &Path, ports: &Ports) -> std::io::Result<()> {
    let shown = folder.display();
    let nginx = |name: &str, body: String| {
        let text = format!(
            "daemon off; worker_processes 1; pid {shown}/{name}.pid; error_log {shown}/{name}.error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ keepalive_requests 100000000; client_body_temp_path {shown}/t1; proxy_temp_path {shown}/t2; \
             fastcgi_temp_path {shown}/t3; uwsgi_temp_path {shown}/t4; scgi_temp_path {shown}/t5;\n{body}\n}}\n"
        );
        fs::write(folder.join(format!("{name}.conf")), text)
    };
    let payload = "x".repeat(1024);
    let Ports { backend, nginx: proxy, portcullis: _ } = ports;
    nginx(
        "backend",
        format!("access_log off; server {{ listen 127.0.0.1:{backend}; location / {{ return 200 {payload}; }} }}"),
    )?;
    nginx(
        "nginx",
        format!(
            "access_log {shown}/nginx.access.log combined buffer=64k flush=1s;\n\
             upstream b {{ server 127.0.0.1:{backend}; keepalive 128; keepalive_requests 100000000; }}\n\
             server {{ listen 127.0.0.1:{proxy}; location / {{ proxy_pass http://b; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; proxy_set_header Host $http_host; \
             proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; }} }}"
        ),
    )?;
    let objects = include_str!("bench/request.yaml").replace("BACKEND_PORT", &backend.to_string());
    fs::write(folder.join("portcullis/objects.yaml"), objects)
}

/// A server that ends with this value.
struct Server(Child);

impl Server {
    fn nginx(configuration: &Path, core: &str, port: u16) -> Result<Self, String> {
        let nginx = if installed("nginx") { PathBuf::from("nginx") } else { PathBuf::from("/usr/sbin/nginx") };
        let mut command = Command::new("taskset");
        command.args(["-c", core]).arg(nginx).arg("-c").arg(configuration);
        Self::start(command, port)
    }

    fn portcullis(folder: &Path, port: u16) -> Result<Self, String> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(target().join("release/portcullis")).arg("run").arg(folder.join("portcullis"));
        command.args(["--workers", "1", "--address", "127.0.0.1", "--port", &format!("80={port}")]);
        command.args(["--telemetry-address", "127.0.0.1:0", "--access-log"]).arg(folder.join("portcullis.access.log"));
        Self::start(command, port)
    }

    fn start(mut command: Command, port: u16) -> Result<Self, String> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let server = Self(child);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > Duration::from_secs(20) {
                return Err(format!("{command:?} does not listen on port {port}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// User and system time of the process and its children, in seconds, and resident memory in KiB.
    fn usage(&self) -> (f64, f64, u64) {
        let mut sum = (0.0, 0.0, 0);
        for pid in self.processes() {
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
            let fields: Vec<&str> = fields.split(' ').collect();
            let field = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
            // utime, stime (in ticks of 10 ms) and rss (in pages of 4 KiB): proc_pid_stat(5).
            sum.0 += field(11) / 100.0;
            sum.1 += field(12) / 100.0;
            sum.2 += field(21) as u64 * 4;
        }
        sum
    }

    fn processes(&self) -> Vec<u32> {
        let own = self.0.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process that has ended already needs nothing.
        for pid in self.processes() {
            let _ = Command::new("kill").arg(pid.to_string()).stderr(Stdio::null()).status();
        }
        let _ = self.0.wait();
    }
}

struct Measured {
    name: &'static str,
    server: Server,
    port: u16,
    /// Microseconds per request, user and system, for each round.
    rounds: Vec<(f64, f64)>,
    requests_per_second: Vec<f64>,
}

impl Measured {
    fn new(name: &'static str, server: Server, port: u16) -> Self {
        Self { name, server, port, rounds: Vec::new(), requests_per_second: Vec::new() }
    }

    fn round(&mut self) -> Outcome {
        let url = format!("http://127.0.0.1:{}/", self.port);
        let before = self.server.usage();
        let output = Command::new("taskset")
            .args([
                "-c",
                "1",
                "wrk",
                "-t1",
                "-c",
                CONNECTIONS,
                "-d",
                &format!("{SECONDS}s"),
                "-H",
                "Host: www.example.com",
                &url,
            ])
            .output()
            .map_err(|error| format!("wrk: {error}"))?;
        let after = self.server.usage();
        let text = String::from_utf8_lossy(&output.stdout);
        if text.contains("Non-2xx") || text.contains("Socket errors") {
            return Err(format!("{} did not answer every request:\n{text}", self.name));
        }
        let number = |line: &str| line.split_whitespace().find_map(|word| word.parse::<f64>().ok());
        let requests =
            text.lines().find(|line| line.contains("requests in")).and_then(number).ok_or_else(|| text.to_string())?;
        let micros = |from: f64, to: f64| (to - from) * 1e6 / requests;
        self.rounds.push((micros(before.0, after.0), micros(before.1, after.1)));
        self.requests_per_second.push(requests / f64::from(SECONDS));
        Ok(())
    }

    fn median(values: impl Iterator<Item = f64>) -> f64 {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn total(&self) -> f64 {
        Self::median(self.rounds.iter().map(|(user, system)| user + system))
    }
}

fn report(proxies: &[Measured]) -> Outcome {
    let reference = proxies.first().map_or(f64::NAN, Measured::total);
    say(
        "CPU microseconds per request, median of the rounds: user + system = total (ratio), requests/s, resident memory",
    );
    for proxy in proxies {
        let user = Measured::median(proxy.rounds.iter().map(|round| round.0));
        let system = Measured::median(proxy.rounds.iter().map(|round| round.1));
        let throughput = Measured::median(proxy.requests_per_second.iter().copied());
        let memory = proxy.server.usage().2;
        say(&format!(
            "{:<12} {user:6.2} + {system:6.2} = {:6.2} ({:.2}) {throughput:9.0} {memory:7} KiB",
            proxy.name,
            proxy.total(),
            proxy.total() / reference
        ));
        say(&json!({"proxy": proxy.name, "rounds": proxy.rounds, "requestsPerSecond": proxy.requests_per_second})
            .to_string());
    }
    Ok(())
}
