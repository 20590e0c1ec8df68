//! `cargo xtask bench request`: what a unit of traffic costs the proxy, for each protocol, beside nginx, HAProxy and Envoy.
//!
//! What flows in: the programs (`peers`), the shapes of load (`shapes`), the load and backends of `bench/traffic`. The proxy has one core, load and backends
//! share another. For each shape, number of connections and configuration all proxies run at the same time and are asked in turn, round by round. What is
//! compared is the CPU time of the proxy's processes for each unit: it is steady where units per second are not. What flows out: a table, JSON
//! after each row, and with `--write` a section of bench/RESULTS.md and charts (`report`).

mod load;
mod peers;
mod report;
mod row;
mod shapes;

use super::machine::{commit, cores, load_average, machine};
use super::process::{Process, Program, free_ports, open_files};
use super::system_calls::Counter;
use crate::step::{Outcome, Step, say, target};
use clap::{Args, ValueEnum};
use peers::{Found, Peer, Site};
use serde_json::{Value, json};
use shapes::Shape;
use std::fs;
use std::path::{Path, PathBuf};

/// What can be chosen.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often each proxy is measured for each row.
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    rounds: usize,
    /// For how long each time.
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    seconds: f64,
    /// Shapes of load, with commas between. Without it: all.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    shapes: Vec<String>,
    /// Numbers of connections.
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_value = "64,2000")]
    connections: Vec<usize>,
    /// Who is measured beside Portcullis.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "nginx,haproxy,envoy")]
    peers: Vec<Peer>,
    /// With access log and metrics, without, or first one and then the other.
    #[arg(long, value_name = "WHICH", value_delimiter = ',', default_value = "on,off")]
    logs: Vec<Logs>,
    /// A Portcullis that was built already.
    #[arg(long, value_name = "FILE")]
    portcullis: Option<PathBuf>,
    /// Only see that it works: one round of a fraction of a second, few shapes, programs without optimisation.
    #[arg(long)]
    short: bool,
    /// Write the results to bench/RESULTS.md and bench/charts, too.
    #[arg(long)]
    write: bool,
}

/// Access log and metrics of all proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Logs {
    On,
    Off,
}

/// What is to be measured, with all choices made.
struct Plan {
    rounds: usize,
    seconds: f64,
    rows: Vec<(Logs, Shape, usize)>,
    /// Portcullis first.
    proxies: Vec<Found>,
    traffic: PathBuf,
    counter: Option<Counter>,
    proxy_core: usize,
    load_core: usize,
    open_files: usize,
    folder: PathBuf,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Outcome {
    if options.short {
        let packages = ["--package", "portcullis", "--package", "portcullis-traffic"];
        Step::cargo(&[&["build", "--locked"][..], &packages].concat()).run()?;
        return short_with(&options.portcullis.clone().unwrap_or_else(|| target().join("debug/portcullis")));
    }
    let shapes = match options.shapes.is_empty() {
        true => shapes::ALL.to_vec(),
        false => options.shapes.iter().map(|name| Shape::named(name)).collect::<Result<_, _>>()?,
    };
    let build = |package: &str| Step::cargo(&["build", "--release", "--locked", "--package", package]).run();
    let portcullis = match &options.portcullis {
        Some(program) => program.clone(),
        None => {
            build("portcullis")?;
            target().join("release/portcullis")
        }
    };
    // By itself, so that Portcullis gets no other features of its dependencies than it is shipped with.
    build("portcullis-traffic")?;
    let largest = options.connections.iter().copied().max().unwrap_or_default();
    let plan = Plan {
        rounds: options.rounds.max(1),
        seconds: options.seconds,
        rows: rows(&options.logs, &shapes, &options.connections),
        proxies: found(&portcullis, &options.peers)?,
        traffic: target().join("release/portcullis-traffic"),
        counter: counter(),
        ..Plan::here(largest)?
    };
    let document = plan.run()?;
    report::print(&document)?;
    if options.write {
        report::write(&document)?;
    }
    whole(&document)
}

/// The short form, with the programs that the workspace's tests built.
pub(crate) fn short() -> Outcome {
    short_with(&target().join("debug/portcullis"))
}

fn short_with(portcullis: &Path) -> Outcome {
    let shapes = ["http1", "https2-post-64k", "grpc", "websocket", "tls-resumed"];
    let shapes = shapes.map(Shape::named).into_iter().collect::<Result<Vec<_>, _>>()?;
    let plan = Plan {
        rounds: 1,
        seconds: 0.2,
        rows: rows(&[Logs::On], &shapes, &[8]),
        proxies: found(portcullis, &[Peer::Nginx, Peer::Haproxy])?,
        traffic: target().join("debug/portcullis-traffic"),
        ..Plan::here(8)?
    };
    let document = plan.run()?;
    whole(&document)?;
    say("bench request: each shape of the short form was answered by each proxy; its figures mean nothing");
    Ok(())
}

fn rows(logs: &[Logs], shapes: &[Shape], connections: &[usize]) -> Vec<(Logs, Shape, usize)> {
    let mut rows = Vec::new();
    for logs in logs {
        for shape in shapes {
            // Where each unit has a connection of its own, how many there are at a time plays no part.
            let connections = if shape.connects() { &connections[..connections.len().min(1)] } else { connections };
            rows.extend(connections.iter().map(|connections| (*logs, *shape, *connections)));
        }
    }
    rows
}

/// Portcullis, and those peers that are here. Who is not is told.
fn found(portcullis: &Path, peers: &[Peer]) -> Result<Vec<Found>, String> {
    let mut found = vec![Peer::portcullis(portcullis)?];
    for peer in peers {
        match peer.find() {
            Ok(peer) => found.push(peer),
            Err(problem) => say(&format!("left out: {}: {problem}", peer.name())),
        }
    }
    Ok(found)
}

fn counter() -> Option<Counter> {
    let counter = Counter::find();
    match counter {
        Some(counter) => say(&format!("system calls are counted by {}", counter.name())),
        None => {
            say("left out: system calls (neither perf nor strace can be used here; apt-get install linux-perf strace)")
        }
    }
    counter
}

impl Plan {
    /// What depends on the machine.
    fn here(connections: usize) -> Result<Self, String> {
        for (program, package) in [("taskset", "util-linux"), ("prlimit", "util-linux")] {
            if !crate::step::installed(program) {
                return Err(format!("{program} is missing; install it with: apt-get install {package}"));
            }
        }
        let cores = cores();
        let (proxy_core, load_core) = (cores[0], cores.get(1).copied().unwrap_or(cores[0]));
        if proxy_core == load_core {
            say(
                "this machine gives one core only: proxy, load and backends share it, so units per second and latencies say little",
            );
        }
        let folder = target().join("bench/request");
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        // A proxy has two ends of each connection, and some files.
        let open_files = 4 * connections + 2000;
        Ok(Self {
            rounds: 1,
            seconds: 1.0,
            rows: Vec::new(),
            proxies: Vec::new(),
            traffic: PathBuf::new(),
            counter: None,
            proxy_core,
            load_core,
            open_files,
            folder,
        })
    }

    /// Measures row by row. What was measured is written each time: what comes after it takes long.
    fn run(&self) -> Result<Value, String> {
        if !self.traffic.is_file() {
            return Err(format!("{} is missing; cargo build --package portcullis-traffic", self.traffic.display()));
        }
        let allowed = open_files();
        let site =
            Site::new(&self.folder, self.open_files.min(allowed), self.proxy_core, self.load_core, &self.traffic)?;
        let [http1, http2] = free_ports()?;
        let _backend = self.backend(http1, http2)?;
        let (before, mut results) = (load_average(), Vec::new());
        let mut document = Value::Null;
        for (number, (logs, shape, connections)) in self.rows.iter().enumerate() {
            let title = format!("{} with {connections} connections, logs {}", shape.name, logs.name());
            if connections * 4 > allowed {
                say(&format!("left out: {title}: at most {allowed} open files are allowed (ulimit -Hn)"));
                continue;
            }
            say(&format!("{} of {}: {title}", number + 1, self.rows.len()));
            let site = site.at(*logs, [http1, http2], *connections, shape);
            results.push(row::measure(self, &site, *shape)?);
            document = self.document(&before, &results);
            let file = self.folder.join("request.json");
            let text = serde_json::to_string_pretty(&document).map_err(|error| error.to_string())?;
            fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        match results.is_empty() {
            true => Err("no row is left to be measured".to_owned()),
            false => Ok(document),
        }
    }

    fn backend(&self, http1: u16, http2: u16) -> Result<Process, String> {
        let address = |port: u16| format!("127.0.0.1:{port}");
        let arguments =
            ["backend".to_owned(), "--http1".to_owned(), address(http1), "--http2".to_owned(), address(http2)];
        let mut backend = Program {
            program: &self.traffic,
            arguments: &arguments,
            core: self.load_core,
            // It has the connections of all proxies.
            open_files: (self.open_files * 2).min(open_files()),
            log: self.folder.join("backend.log"),
        }
        .start()?;
        backend.wait_for(http1)?;
        backend.wait_for(http2)?;
        Ok(backend)
    }

    fn document(&self, before: &str, results: &[Value]) -> Value {
        let proxies = self.proxies.iter().map(|found| json!({ "name": found.peer.name(), "version": found.version }));
        json!({
            "machine": machine(),
            "commit": commit(),
            "loadAverage": [before, load_average()],
            "cores": { "proxy": self.proxy_core, "load": self.load_core },
            "rounds": self.rounds,
            "secondsOfARound": self.seconds,
            "systemCallsCountedBy": self.counter.map(Counter::name),
            "proxies": proxies.collect::<Vec<_>>(),
            "rows": results,
        })
    }
}

impl Logs {
    fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// Whether every proxy did every row. The figures are reported even if not.
fn whole(document: &Value) -> Outcome {
    let mut problems = Vec::new();
    for row in document["rows"].as_array().into_iter().flatten() {
        for (name, proxy) in row["proxies"].as_object().into_iter().flatten() {
            if let Some(problem) = proxy["problem"].as_str() {
                problems.push(format!("{name}, {}, {} connections: {problem}", row["shape"], row["connections"]));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(format!("rows that are not valid:\n{}", problems.join("\n"))) }
}
