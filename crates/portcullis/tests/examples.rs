//! The examples, as a newcomer tries them: every command of each README is executed, and every line of output that it shows
//! has to appear. Only the backends and the ports are the test's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Backend, Client, Folder, Program, Run};

/// A command of a README, and the lines that it shows below.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// An example in a folder of its own, with backends in the place of those that its endpoints name.
struct Example {
    folder: Folder,
    _backends: Vec<Backend>,
    program: Option<Program>,
    /// The port that the README names, the port of the specification, and where it is served.
    ports: Vec<(String, SocketAddr)>,
}

#[test]
fn simple_http() {
    run("simple-http");
}

#[test]
fn secure_gateway() {
    run("secure-gateway");
}

#[test]
fn canary_weights() {
    run("canary-weights");
}

#[test]
fn redirect_and_rewrite() {
    run("redirect-and-rewrite");
}

#[test]
fn cors() {
    run("cors");
}

#[test]
fn h2c_and_websocket() {
    let example = run("h2c-and-websocket");
    let mut client = Client::connect(example.ports[0].1).unwrap();
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
    assert_eq!(client.request("GET", "chat.example.com", "/chat", &upgrade).unwrap().status, 101);
    client.raw().write_all(b"both ways").unwrap();
    assert_eq!(client.read_exactly(9), b"both ways");
}

/// Every folder is tested and named in the table.
#[test]
fn no_example_is_forgotten() {
    let tests = include_str!("examples.rs");
    let table = fs::read_to_string(examples().join("README.md")).unwrap();
    for entry in fs::read_dir(examples()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        assert!(tests.contains(&format!("run(\"{name}\")")), "{name} has no test");
        assert!(table.contains(&format!("[{name}]({name})")), "{name} is not in the table");
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// Does what the README says.
fn run(name: &str) -> Example {
    let mut example = Example::new(&examples().join(name));
    let steps = steps(&fs::read_to_string(examples().join(name).join("README.md")).unwrap());
    assert!(steps.iter().any(|step| step.command == "portcullis check ."), "{name} is checked");
    assert!(steps.iter().any(|step| step.command.starts_with("curl ")), "{name} is tried");
    for step in &steps {
        example.take(step);
    }
    example
}

/// The commands of the blocks that are marked as a console's.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps = Vec::<Step>::new();
    let mut is_console = false;
    for line in readme.lines() {
        match (line.strip_prefix("```"), line.strip_prefix("$ ")) {
            (Some(language), _) => is_console = language == "console",
            (None, Some(command)) if is_console => {
                steps.push(Step { command: command.to_owned(), shown: Vec::new() });
            }
            (None, None) if is_console => steps.last_mut().unwrap().shown.push(line.to_owned()),
            _ => {}
        }
    }
    steps
}

impl Example {
    fn new(source: &Path) -> Self {
        let backends: Vec<_> = ["9001", "9002"].map(Backend::start).into();
        let folder = Folder::new();
        for entry in fs::read_dir(source).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if name.ends_with(".yaml") && name != "certificate.yaml" {
                let text = fs::read_to_string(entry.path()).unwrap();
                assert!(!text.contains("PRIVATE KEY"), "no private key is kept in the tree: {name}");
                let text = text.replace("9001", &backends[0].port().to_string());
                folder.write(&name, &text.replace("9002", &backends[1].port().to_string()));
            }
        }
        Self { folder, _backends: backends, program: None, ports: Vec::new() }
    }

    fn take(&mut self, step: &Step) {
        if let Some(arguments) = step.command.strip_prefix("portcullis run .") {
            return self.start(arguments);
        }
        // The test has backends of its own.
        if step.command.starts_with("python3 ../backend.py ") {
            return;
        }
        let mut command = step.command.clone();
        for (named, address) in &self.ports {
            command = command.replace(named.as_str(), &address.port().to_string());
        }
        let printed = self.execute(&command);
        for line in &step.shown {
            let is_there = squeezed(&printed).contains(&squeezed(line));
            assert!(is_there, "{command}\nshould print\n{line}\nand printed\n{printed}");
        }
    }

    fn start(&mut self, arguments: &str) {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let mappings: Vec<(&str, &str)> = words
            .chunks(2)
            .map(|pair| match pair {
                ["--port", mapping] => mapping.split_once('=').unwrap(),
                other => panic!("an option that the test does not know: {other:?}"),
            })
            .collect();
        let listeners: Vec<u16> = mappings.iter().map(|(listener, _)| listener.parse().unwrap()).collect();
        let program = Run::new(self.folder.path(), &listeners).start();
        for ((_, named), listener) in mappings.iter().zip(listeners) {
            self.ports.push(((*named).to_owned(), program.address(listener)));
        }
        self.program = Some(program);
    }

    /// Executes a command as a shell would, inside the folder; gives what it printed.
    fn execute(&self, command: &str) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_portcullis")).parent().unwrap();
        let path = std::env::join_paths(
            std::iter::once(program.to_path_buf()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(self.folder.path()).env("PATH", path.unwrap());
        let output = shell.env_remove("http_proxy").env_remove("https_proxy").output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = String::from_utf8_lossy(&output.stderr);
        // 28: curl's time was over, as it is with a tunnel that stays open.
        let is_good = output.status.success() || command.contains("--max-time") && output.status.code() == Some(28);
        assert!(is_good, "{command}\n{printed}\n{told}");
        printed
    }
}

/// Without a difference in blanks, which in a table depend on the widths, and in letters, which in headers mean nothing.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase()
}
