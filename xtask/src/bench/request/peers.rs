//! The proxies: where their programs are, how they are configured, how they are started. Their configurations stand beside this file, whole.
//!
//! What flows in: ports of the backends, whether they log. What flows out: proxies that listen. All do the same work: keep-alive on both sides, one
//! certificate, X-Forwarded-For and X-Forwarded-Proto, nothing written to a disk but the access log.

use super::Logs;
use super::shapes::{Entry, Shape};
use crate::bench::envoy;
use crate::bench::process::{Process, Program, Usage, free_ports};
use crate::step::installed;
use clap::ValueEnum;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Peer {
    /// Ours, which is always measured.
    #[value(skip)]
    Portcullis,
    Nginx,
    Haproxy,
    Envoy,
}

/// One that is on this machine.
pub(super) struct Found {
    pub(super) peer: Peer,
    pub(super) version: String,
    program: PathBuf,
}

const ENVOY: &str = "1.40.0";

impl Peer {
    /// As its makers write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Portcullis => "Portcullis",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
        }
    }

    pub(super) fn portcullis(program: &Path) -> Result<Found, String> {
        Self::Portcullis.at(program.to_path_buf())
    }

    /// Looks for it.
    pub(super) fn find(self) -> Result<Found, String> {
        let program = match self {
            Self::Nginx => debian("nginx", "nginx-light")?,
            Self::Haproxy => debian("haproxy", "haproxy")?,
            Self::Envoy if installed("envoy") => PathBuf::from("envoy"),
            Self::Envoy => envoy::unpacked(ENVOY)?,
            Self::Portcullis => return Err("its program must be named".to_owned()),
        };
        self.at(program)
    }

    fn at(self, program: PathBuf) -> Result<Found, String> {
        let asked = match self {
            Self::Nginx => "-V",
            Self::Haproxy => "-vv",
            Self::Portcullis | Self::Envoy => "--version",
        };
        let told = Command::new(&program).arg(asked).stdin(Stdio::null()).output();
        let told = told.map_err(|error| format!("{} {asked}: {error}", program.display()))?;
        if !told.status.success() {
            return Err(format!("{} {asked}: {}", program.display(), told.status));
        }
        let text = [told.stdout, told.stderr].concat();
        Ok(Found { peer: self, version: self.version(&String::from_utf8_lossy(&text)), program })
    }

    /// Its version, and that of the TLS library that it runs with, out of what it tells.
    fn version(self, told: &str) -> String {
        let line = |part: &str| told.lines().find_map(|line| line.split_once(part)).map(|(_, rest)| rest.trim());
        let word = |rest: Option<&str>| {
            rest.and_then(|rest| rest.split_whitespace().next()).map_or_else(|| "?".to_owned(), str::to_owned)
        };
        match self {
            Self::Portcullis => word(line("portcullis ")),
            Self::Nginx => {
                let tls = line("running with OpenSSL ").or_else(|| line("built with OpenSSL "));
                format!("{}, OpenSSL {}", word(line("nginx/")), word(tls))
            }
            Self::Haproxy => {
                format!(
                    "{}, OpenSSL {}",
                    word(line("HAProxy version ")),
                    word(line("Running on OpenSSL version : OpenSSL "))
                )
            }
            // Commit, version, state of the tree, kind of build, TLS library.
            Self::Envoy => match *line("version: ").unwrap_or_default().split('/').collect::<Vec<_>>() {
                [_, version, _, _, tls] => format!("{version}, {tls}"),
                _ => "?".to_owned(),
            },
        }
    }
}

fn debian(program: &str, package: &str) -> Result<PathBuf, String> {
    // Servers lie out of the way of users other than root.
    let aside = Path::new("/usr/sbin").join(program);
    match (installed(program), aside.is_file()) {
        (true, _) => Ok(PathBuf::from(program)),
        (false, true) => Ok(aside),
        (false, false) => Err(format!("it is not installed; apt-get install {package}")),
    }
}

/// Where proxies are started, and for what.
#[derive(Clone)]
pub(super) struct Site<'a> {
    pub(super) folder: &'a Path,
    pub(super) traffic: &'a Path,
    pub(super) load_core: usize,
    pub(super) open_files: usize,
    pub(super) connections: usize,
    pub(super) logs: Logs,
    proxy_core: usize,
    backends: [u16; 2],
    request_buffering: &'static str,
}

impl<'a> Site<'a> {
    /// Makes the certificate of all proxies: ECDSA with P-256.
    pub(super) fn new(
        folder: &'a Path,
        open_files: usize,
        proxy_core: usize,
        load_core: usize,
        traffic: &'a Path,
    ) -> Result<Self, String> {
        let failed = |error: rcgen::Error| format!("no certificate: {error}");
        let parameters = rcgen::CertificateParams::new(vec!["www.example.com".to_owned()]).map_err(failed)?;
        let key = rcgen::KeyPair::generate().map_err(failed)?;
        let certificate = parameters.self_signed(&key).map_err(failed)?.pem();
        let key = key.serialize_pem();
        for (name, text) in
            [("certificate.pem", &certificate), ("key.pem", &key), ("both.pem", &format!("{certificate}{key}"))]
        {
            write(&folder.join(name), text)?;
        }
        let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: certificate\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{}  \
             tls.key: |\n{}",
            indented(&certificate),
            indented(&key)
        );
        let objects = folder.join("portcullis");
        fs::create_dir_all(&objects).map_err(|error| format!("{}: {error}", objects.display()))?;
        write(&objects.join("secret.yaml"), &secret)?;
        Ok(Self {
            folder,
            traffic,
            load_core,
            open_files,
            proxy_core,
            connections: 1,
            logs: Logs::Off,
            backends: [0, 0],
            request_buffering: "on",
        })
    }

    /// For a row.
    pub(super) fn at(&self, logs: Logs, backends: [u16; 2], connections: usize, shape: &Shape) -> Self {
        // Buffering is nginx's default and good for what fits its buffer; what does not would go to a disk.
        let request_buffering = if shape.sends_much() { "off" } else { "on" };
        Self { logs, backends, connections, request_buffering, ..self.clone() }
    }
}

/// Keys are nobody else's to read.
fn write(path: &Path, text: &str) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let written = fs::write(path, text).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o600)));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

/// A proxy that runs.
pub(super) struct Running {
    process: Process,
    /// Who writes its log for it.
    collector: Option<Process>,
    ports: Ports,
    access_log: PathBuf,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    http: u16,
    https: u16,
    h2c: u16,
    metrics: u16,
    collector: u16,
}

impl Found {
    /// Writes its configuration, starts it, and waits until it listens.
    pub(super) fn start(&self, site: &Site<'_>) -> Result<Running, String> {
        let [http, https, h2c, metrics, collector] = free_ports()?;
        // nginx alone needs another port for HTTP/2 without TLS.
        let h2c = if self.peer == Peer::Nginx { h2c } else { http };
        let ports = Ports { http, https, h2c, metrics, collector };
        let name = self.peer.name().to_lowercase();
        let access_log = site.folder.join(format!("{name}.access.log"));
        // One of an earlier row.
        let _ = fs::remove_file(&access_log);
        let collector = match (self.peer, site.logs) {
            (Peer::Haproxy, Logs::On) => Some(collect(site, &access_log, ports.collector)?),
            _ => None,
        };
        let arguments = self.arguments(site, ports, &access_log)?;
        let program = Program {
            program: &self.program,
            arguments: &arguments,
            core: site.proxy_core,
            open_files: site.open_files,
            log: site.folder.join(format!("{name}.log")),
        };
        let mut process = program.start()?;
        for port in [ports.http, ports.https, ports.h2c] {
            process.wait_for(port)?;
        }
        Ok(Running { process, collector, ports, access_log })
    }

    fn arguments(&self, site: &Site<'_>, ports: Ports, access_log: &Path) -> Result<Vec<String>, String> {
        let configured = |name: &str, template: &str| {
            let file = site.folder.join(name);
            write(&file, &filled(template, site, ports))?;
            Ok::<_, String>(file.display().to_string())
        };
        let arguments = match self.peer {
            Peer::Nginx => {
                let errors = site.folder.join("nginx.error.log").display().to_string();
                vec!["-e".to_owned(), errors, "-c".to_owned(), configured("nginx.conf", include_str!("nginx.conf"))?]
            }
            Peer::Haproxy => {
                vec!["-db".to_owned(), "-f".to_owned(), configured("haproxy.cfg", include_str!("haproxy.cfg"))?]
            }
            Peer::Envoy => {
                let file = configured("envoy.yaml", include_str!("envoy.yaml"))?;
                let fixed = "--concurrency 1 --disable-hot-restart --log-level error --file-flush-interval-msec 1000";
                let fixed = fixed.split(' ').map(str::to_owned);
                fixed.chain(["--config-path".to_owned(), file]).collect()
            }
            Peer::Portcullis => {
                configured("portcullis/objects.yaml", include_str!("objects.yaml"))?;
                let objects = site.folder.join("portcullis").display().to_string();
                let fixed = format!(
                    "--workers 1 --address 127.0.0.1 --drain-timeout 1 --log-level warn --port 80={} --port 443={}",
                    ports.http, ports.https
                );
                let mut arguments = vec!["run".to_owned(), objects];
                arguments.extend(fixed.split(' ').map(str::to_owned));
                let (log, telemetry) = match site.logs {
                    Logs::On => (access_log.display().to_string(), format!("127.0.0.1:{}", ports.metrics)),
                    Logs::Off => ("none".to_owned(), "none".to_owned()),
                };
                arguments.extend(["--access-log".to_owned(), log, "--telemetry-address".to_owned(), telemetry]);
                arguments
            }
        };
        Ok(arguments)
    }
}

fn collect(site: &Site<'_>, file: &Path, port: u16) -> Result<Process, String> {
    let arguments =
        ["collect", "--listen", &format!("127.0.0.1:{port}"), "--file", &file.display().to_string()].map(str::to_owned);
    let program = Program {
        program: site.traffic,
        arguments: &arguments,
        core: site.load_core,
        open_files: 64,
        log: site.folder.join("collector.log"),
    };
    let mut collector = program.start()?;
    collector.wait_for(port)?;
    Ok(collector)
}

/// A configuration with the lines of the column, and words filled in.
fn filled(template: &str, site: &Site<'_>, ports: Ports) -> String {
    let (mine, other) = match site.logs {
        Logs::On => ("# logs on", "# logs off"),
        Logs::Off => ("# logs off", "# logs on"),
    };
    let lines = template.lines().filter(|line| !line.ends_with(other));
    let text: String = lines.map(|line| format!("{}\n", line.trim_end_matches(mine).trim_end())).collect();
    [
        ("FOLDER", site.folder.display().to_string()),
        ("OPEN_FILES", site.open_files.to_string()),
        ("CONNECTIONS", (site.connections + 500).to_string()),
        ("REQUEST_BUFFERING", site.request_buffering.to_owned()),
        ("HTTPS_PORT", ports.https.to_string()),
        ("HTTP_PORT", ports.http.to_string()),
        ("H2C_PORT", ports.h2c.to_string()),
        ("METRICS_PORT", ports.metrics.to_string()),
        ("COLLECTOR_PORT", ports.collector.to_string()),
        ("BACKEND_HTTP1", site.backends[0].to_string()),
        ("BACKEND_HTTP2", site.backends[1].to_string()),
    ]
    .iter()
    .fold(text, |text, (word, value)| text.replace(word, value))
}

impl Running {
    pub(super) fn port(&self, entry: Entry) -> u16 {
        match entry {
            Entry::Http => self.ports.http,
            Entry::Https => self.ports.https,
            Entry::H2c => self.ports.h2c,
        }
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.process.pids()
    }

    pub(super) fn usage(&self) -> Usage {
        self.process.usage()
    }

    /// Ends it, and counts the records of its access log, which is removed: it may be large.
    pub(super) fn stop(self) -> u64 {
        let Self { process, collector, access_log, .. } = self;
        drop(process);
        drop(collector);
        let records = fs::File::open(&access_log).map_or(0, |file| lines(BufReader::with_capacity(1 << 20, file)));
        // Where nothing is logged there is none.
        let _ = fs::remove_file(&access_log);
        records
    }
}

fn lines(mut file: impl BufRead) -> u64 {
    let mut lines = 0;
    while let Ok(bytes @ [_, ..]) = file.fill_buf() {
        lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let read = bytes.len();
        file.consume(read);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Logs, Peer, Ports, Site, filled, lines};
    use std::path::Path;

    #[test]
    fn each_column_has_its_lines_and_no_word_is_left() {
        let site = |logs| Site {
            folder: Path::new("/tmp/bench"),
            traffic: Path::new("traffic"),
            load_core: 1,
            open_files: 4096,
            connections: 64,
            logs,
            proxy_core: 0,
            backends: [1001, 1002],
            request_buffering: "on",
        };
        let ports = Ports { http: 2001, https: 2002, h2c: 2003, metrics: 2004, collector: 2005 };
        for template in [
            include_str!("nginx.conf"),
            include_str!("haproxy.cfg"),
            include_str!("envoy.yaml"),
            include_str!("objects.yaml"),
        ] {
            for logs in [Logs::On, Logs::Off] {
                let text = filled(template, &site(logs), ports);
                for word in ["_PORT", "FOLDER", "BACKEND_", "OPEN_FILES", "CONNECTIONS", "BUFFERING", "# logs"] {
                    assert!(!text.contains(word), "{word} is left in\n{text}");
                }
                let logged =
                    ["/nginx.access.log", "log global", "FileAccessLog"].iter().any(|word| text.contains(word));
                assert!(logged == (logs == Logs::On) || template.contains("kind: Gateway"), "{text}");
            }
        }
    }

    #[test]
    fn versions_are_found_in_what_programs_tell() {
        for (peer, told, version) in [
            (Peer::Portcullis, "portcullis 0.1.0\n", "0.1.0"),
            (
                Peer::Nginx,
                "nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.22 25 Aug 2026 (running with OpenSSL 3.0.19 27 Jan 2026)\n",
                "1.22.1, OpenSSL 3.0.19",
            ),
            (
                Peer::Haproxy,
                "HAProxy version 2.6.12-1 2026/10/17 - https://haproxy.org/\nRunning on OpenSSL version : OpenSSL 3.0.19 27 Jan 2026\n",
                "2.6.12-1, OpenSSL 3.0.19",
            ),
            (Peer::Envoy, "\nenvoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n", "1.40.0, BoringSSL"),
            (Peer::Envoy, "", "?"),
        ] {
            assert_eq!(peer.version(told), version);
        }
    }

    #[test]
    fn lines_are_counted() {
        assert_eq!(lines(&b""[..]), 0);
        assert_eq!(lines(&b"a\nb\n"[..]), 2);
    }
}
