//! `portcullis quickstart`: a newcomer's first minute. The printed curl lines are executed as printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use support::{Folder, Program, Run, portcullis, wait_until};

/// A running quickstart, and the options that it was started with.
struct Quickstart {
    program: Program,
    https_port: String,
    http_port: String,
}

/// Ports have to be named here, for they are written into the folder. They lie outside the range of the kernel's own choice.
fn ports() -> [String; 3] {
    let mut ports = Vec::<u16>::new();
    while ports.len() < 3 {
        let port = support::backend::free_port();
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    [ports[0].to_string(), ports[1].to_string(), ports[2].to_string()]
}

fn start(folder: &str, [https, http, echo]: &[String; 3]) -> Quickstart {
    let program = Run::command(&["quickstart", folder, "--log-format", "json", "--telemetry-address", "127.0.0.1:0"])
        .arguments(&["--https-port", https, "--http-port", http, "--echo-port", echo])
        .start();
    program.address(443);
    program.address(80);
    Quickstart { program, https_port: https.clone(), http_port: http.clone() }
}

impl Quickstart {
    /// The lines that it tells to try.
    fn curl_lines(&self) -> Vec<String> {
        let lines = self.program.log.all().into_iter();
        lines.map(|line| line.trim().to_owned()).filter(|line| line.starts_with("curl ")).collect()
    }

    /// Executes what it tells to try, and checks what comes back.
    fn try_it(&self) {
        let lines = self.curl_lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        let answer = curl(&lines[0]);
        assert!(answer.starts_with("http/2 200"), "{answer}");
        for header in [
            "strict-transport-security: max-age=31536000; includesubdomains",
            "x-frame-options: deny",
            "x-content-type-options: nosniff",
            "content-security-policy: default-src 'self'",
        ] {
            assert!(answer.contains(header), "{header} is missing in\n{answer}");
        }
        assert!(answer.contains("\"path\": \"/api/hello\""), "{answer}");
        let answer = curl(&lines[1]);
        assert!(answer.starts_with("http/1.1 301"), "{answer}");
        assert!(
            answer.contains(&format!("location: https://app.example.com:{}/api/hello", self.https_port)),
            "{answer}"
        );
        assert!(lines[1].contains(&format!(":{}", self.http_port)));
    }
}

/// Executes a line as a shell would; gives all of the answer, in lower case.
#[track_caller]
fn curl(line: &str) -> String {
    let found = Command::new("curl").arg("--version").output();
    assert!(found.is_ok_and(|output| output.status.success()), "this test needs curl: apt-get install curl");
    let output =
        Command::new("sh").args(["-c", line]).env_remove("http_proxy").env_remove("https_proxy").output().unwrap();
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().to_ascii_lowercase()
}

#[test]
fn the_printed_lines_work_and_a_second_run_serves_the_same_folder() {
    let parent = Folder::new();
    let folder = parent.file("quick start");
    let folder = folder.to_str().unwrap();
    let ports = ports();
    let mut first = start(folder, &ports);
    first.try_it();
    let authority = fs::read_to_string(parent.file("quick start/ca.crt")).unwrap();
    first.program.signal("INT");
    assert_eq!(first.program.wait().code(), Some(0), "Ctrl-C is a good end");

    let second = start(folder, &ports);
    second.try_it();
    assert_eq!(fs::read_to_string(parent.file("quick start/ca.crt")).unwrap(), authority, "who trusts it goes on to");
}

#[test]
fn an_edit_takes_effect_at_once() {
    let parent = Folder::new();
    let folder = parent.file("qs");
    let quickstart = start(folder.to_str().unwrap(), &ports());
    let app = fs::read_to_string(folder.join("app.yaml")).unwrap();
    fs::write(folder.join("app.yaml"), app.replace("\"DENY\"", "\"SAMEORIGIN\"")).unwrap();
    let line = &quickstart.curl_lines()[0];
    wait_until("the edit counts", || curl(line).contains("x-frame-options: sameorigin"));
}

#[test]
fn the_key_is_readable_by_the_owner_alone_and_the_folder_has_no_problem() {
    let parent = Folder::new();
    let folder = parent.file("qs");
    let path = folder.to_str().unwrap();
    let output = portcullis(&["quickstart", "--write-only", path], "");
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("portcullis run {path} --port 443=8443 --port 80=8080")), "{told}");

    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("certificate.yaml"), 0o600);
    assert!(fs::read_to_string(folder.join("certificate.yaml")).unwrap().contains("PRIVATE KEY"));
    assert!(!fs::read_to_string(folder.join("ca.crt")).unwrap().contains("PRIVATE KEY"));

    let output = portcullis(&["check", "--strict", path], "");
    let shown = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(!shown.contains("FINDING"), "the example is without a finding: {shown}");
}

#[test]
fn what_is_somebody_elses_is_left_alone() {
    let folder = Folder::new();
    folder.write("precious.yaml", "mine: true\n");
    let output = portcullis(&["quickstart", folder.path().to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8(output.stderr).unwrap().contains("name another folder"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let output = portcullis(&["quickstart", folder.file("precious.yaml").to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(4), "a file is no folder");
}

#[test]
fn a_port_that_is_taken_is_told_with_the_option_that_names_another() {
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    let parent = Folder::new();
    for (option, position) in [("--https-port", 0), ("--http-port", 1), ("--echo-port", 2)] {
        let mut ports = ports();
        ports[position].clone_from(&taken);
        let [https, http, echo] = &ports;
        let program = Run::command(&["quickstart", parent.file("qs").to_str().unwrap(), "--telemetry-address", "none"])
            .arguments(&["--https-port", https, "--http-port", http, "--echo-port", echo])
            .start();
        program.log.wait_for("the option", |line| line.contains(option) && line.contains(&taken));
    }
}
