//! The program: started, watched, told to stop, and never left behind.

use super::{PATIENCE, wait_until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Runs the program to its end. Its environment says nothing that it reads.
pub(crate) fn portcullis(arguments: &[&str], input: &str) -> Output {
    let mut child = command()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut standard_input = child.stdin.take().unwrap();
    let input = input.to_owned();
    // The program may end without reading it.
    let writer = std::thread::spawn(move || drop(standard_input.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PORTCULLIS_")) {
        command.env_remove(name);
    }
    command
}

/// How `portcullis run` is started.
pub(crate) struct Run {
    command: Command,
}

impl Run {
    /// Serves a path on loopback ports that the kernel chooses, one for each port of the specification that is named.
    pub(crate) fn new(path: &Path, ports: &[u16]) -> Self {
        let mut command = command();
        command.arg("run").arg(path).args(["--log-format", "json", "--address", "127.0.0.1"]);
        command.args(["--telemetry-address", "127.0.0.1:0", "--workers", "2"]);
        for port in ports {
            command.args(["--port", &format!("{port}=0")]);
        }
        Self { command }
    }

    /// Another subcommand than `run`, with everything named.
    pub(crate) fn command(arguments: &[&str]) -> Self {
        let mut command = command();
        command.args(arguments);
        Self { command }
    }

    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Runs in that folder.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn start(self) -> Program {
        self.start_with(Stdio::null())
    }

    /// Leaves standard input open until [`Program::end_input`].
    pub(crate) fn start_with_input(self) -> Program {
        self.start_with(Stdio::piped())
    }

    fn start_with(mut self, input: Stdio) -> Program {
        self.command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the program starts");
        let output = Lines::follow(child.stdout.take().unwrap());
        let log = Lines::follow(child.stderr.take().unwrap());
        Program { child, output, log }
    }
}

/// A running program. Killed when dropped.
pub(crate) struct Program {
    child: Child,
    /// What it writes to standard output: the access log.
    pub(crate) output: Lines,
    /// What it writes to standard error: its own log.
    pub(crate) log: Lines,
}

impl Program {
    /// Where a port of the specification is served, once it is.
    #[track_caller]
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        let is_it = |line: &Value| line["message"] == "listening" && line["port"] == port;
        let line = self.log.wait_for_json(&format!("listening on port {port}"), is_it);
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// Where metrics and health are served.
    #[track_caller]
    pub(crate) fn telemetry(&self) -> SocketAddr {
        let is_it = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("telemetry:"));
        self.log.wait_for_json("the telemetry address", is_it)["address"].as_str().unwrap().parse().unwrap()
    }

    /// A sample of `/metrics`, by the whole of its name and labels; 0 when it is absent.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = super::client::get(self.telemetry(), "localhost", "/metrics").text();
        let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sample.map_or(0.0, |sample| sample.parse().unwrap())
    }

    /// Waits until configuration `generation` is served.
    #[track_caller]
    pub(crate) fn wait_for_generation(&self, generation: u64) {
        let is_it = |line: &Value| {
            line["message"] == "configuration applied" && line["generation"].as_u64() >= Some(generation)
        };
        self.log.wait_for_json(&format!("configuration {generation}"), is_it);
    }

    /// Sends it a signal, by its name without SIG.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Lets it write core dumps of any size.
    pub(crate) fn lift_the_core_limit(&self) {
        let lifted =
            Command::new("prlimit").args(["--core=unlimited", "--pid", &self.child.id().to_string()]).status().unwrap();
        assert!(lifted.success());
    }

    /// Writes to standard input, and closes it.
    pub(crate) fn end_input(&mut self, text: &str) {
        self.child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.output.wait_for_end();
        self.log.wait_for_end();
        status.unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the program, its end\n{}", self.log.tail(60));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Lines that come in over time.
#[derive(Clone)]
pub(crate) struct Lines(Arc<(Mutex<Gathered>, Condvar)>);

#[derive(Default)]
struct Gathered {
    lines: Vec<String>,
    has_ended: bool,
}

impl Lines {
    pub(crate) fn follow(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::new((Mutex::new(Gathered::default()), Condvar::new())));
        let writer = lines.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                writer.0.0.lock().unwrap().lines.push(text);
                writer.0.1.notify_all();
                line.clear();
            }
            writer.0.0.lock().unwrap().has_ended = true;
            writer.0.1.notify_all();
        });
        lines
    }

    /// The first line that is it, now or later.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        let mut gathered = self.0.0.lock().unwrap();
        let mut seen = 0;
        loop {
            if let Some(line) = gathered.lines[seen..].iter().find(|line| is_it(line)) {
                return line.clone();
            }
            seen = gathered.lines.len();
            let left = PATIENCE.checked_sub(start.elapsed()).unwrap_or(Duration::ZERO);
            if gathered.has_ended || left.is_zero() {
                let text = gathered.lines.join("\n");
                drop(gathered);
                panic!("waited in vain for {what} in\n{text}");
            }
            gathered = self.0.1.wait_timeout(gathered, left).unwrap().0;
        }
    }

    /// The first line that is a JSON object that is it, now or later.
    #[track_caller]
    pub(crate) fn wait_for_json(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let parse = |line: &str| serde_json::from_str::<Value>(line).ok();
        parse(&self.wait_for(what, |line| parse(line).is_some_and(|value| is_it(&value)))).unwrap()
    }

    /// All lines up to now.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    pub(crate) fn text(&self) -> String {
        self.all().join("\n")
    }

    fn tail(&self, count: usize) -> String {
        let lines = self.all();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    #[track_caller]
    fn wait_for_end(&self) {
        wait_until("the pipe ends", || self.0.0.lock().unwrap().has_ended);
    }
}
