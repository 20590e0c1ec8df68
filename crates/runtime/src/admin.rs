//! The admin server: what only an operator on this machine may see and do.
//!
//! In flow requests over a Unix socket (mode 0600) or a loopback address. Out flow `/config` and `/drain`. Other addresses cannot
//! be expressed. A page in a browser on the same machine can reach loopback too, so every request whose `Host` is not loopback
//! (DNS rebinding) or that carries `Origin` or a foreign `Sec-Fetch-Site` is refused.

use std::fs::{self, DirBuilder, Permissions};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tokio::net::{TcpListener, UnixListener};

use crate::drain::{Drain, Phase};
use crate::escape;
use crate::log::JsonLine;
use crate::metrics::{Kind, MetricError, Registry};
use crate::server::{self, Limits, Listener, Reply, Routes, ServerCounts};

/// Where the admin server listens: a Unix socket or a loopback address, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAddress(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// Why an admin address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminAddressError {
    /// Not an address.
    #[error("admin address {0}: write unix:/path/to/socket, 127.0.0.1:PORT, [::1]:PORT or localhost:PORT")]
    Form(String),
    /// An address that other machines can reach.
    #[error(
        "admin address {0}: must be a Unix socket or a loopback address, because whoever reaches it controls this process"
    )]
    NotLoopback(SocketAddr),
}

impl AdminAddress {
    /// A Unix socket at this path.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Place::Unix(path.into()))
    }
}

impl TryFrom<SocketAddr> for AdminAddress {
    type Error = AdminAddressError;

    fn try_from(address: SocketAddr) -> Result<Self, AdminAddressError> {
        if address.ip().is_loopback() {
            Ok(Self(Place::Tcp(address)))
        } else {
            Err(AdminAddressError::NotLoopback(address))
        }
    }
}

impl FromStr for AdminAddress {
    type Err = AdminAddressError;

    fn from_str(text: &str) -> Result<Self, AdminAddressError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::unix(path));
        }
        let wrong = || AdminAddressError::Form(escape::line(text).into_owned());
        if let Some(port) = text.strip_prefix("localhost:") {
            let port = port.parse().map_err(|_| wrong())?;
            return Ok(Self(Place::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))));
        }
        text.parse::<SocketAddr>().map_err(|_| wrong())?.try_into()
    }
}

/// The paths of this server. `config` gives the compiled configuration as JSON, without any value from a Secret; `grace` is how
/// long a drain that is begun here may take.
pub fn routes(config: impl Fn() -> Vec<u8> + Send + Sync + 'static, drain: Drain, grace: Duration) -> Routes {
    Routes::new()
        .get("/config", "the configuration that is served, as JSON, without any value from a Secret", move |_| {
            Reply::json(StatusCode::OK, config())
        })
        .post("/drain", "begin to drain: finish what is open, take nothing new, then end", move |_| {
            if drain.phase() == Phase::Running {
                tracing::info!(grace_seconds = grace.as_secs(), "drain asked for through the admin server");
                drain.begin(grace);
            }
            Reply::json(StatusCode::ACCEPTED, drain_state(&drain))
        })
}

/// `{"phase":"draining","seconds_left":24.9,"connections":3,"streams":1,"tunnels":0}`.
fn drain_state(drain: &Drain) -> Vec<u8> {
    let mut out = Vec::new();
    JsonLine::write(&mut out, |line| {
        match drain.phase() {
            Phase::Running => line.text("phase", "running"),
            Phase::Draining { deadline } => line
                .text("phase", "draining")
                .seconds("seconds_left", deadline.saturating_duration_since(Instant::now())),
            Phase::Forced => line.text("phase", "forced"),
        };
        let open = drain.open();
        line.number("connections", open.connections).number("streams", open.streams).number("tunnels", open.tunnels);
    });
    out
}

/// A bound admin server.
#[derive(Debug)]
pub struct AdminServer {
    listener: Listener,
    socket_file: Option<SocketFile>,
    routes: Routes,
    limits: Limits,
    counts: ServerCounts,
}

impl AdminServer {
    /// Binds the address. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// When the address is in use, or the path holds something else than a socket.
    pub async fn bind(address: &AdminAddress, routes: Routes, limits: Limits) -> io::Result<Self> {
        let (listener, socket_file) = match &address.0 {
            Place::Tcp(address) => (Listener::Tcp(TcpListener::bind(address).await?), None),
            Place::Unix(path) => {
                let (listener, file) = bind_unix(path).await?;
                (Listener::Unix(listener), Some(file))
            }
        };
        Ok(Self {
            listener,
            socket_file,
            routes: routes.guarded(refuse_browsers),
            limits,
            counts: ServerCounts::default(),
        })
    }

    /// The address that was bound, unless it is a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(_) => None,
        }
    }

    /// Registers `portcullis_admin_refused_connections_total`.
    ///
    /// # Errors
    /// When another admin server was registered.
    pub fn register(&self, registry: &Registry) -> Result<(), MetricError> {
        let refused = self.counts.refused.clone();
        registry.collect(
            "portcullis_admin_refused_connections_total",
            "Connections to the admin server that were closed because of a limit.",
            Kind::Counter,
            move |samples| samples.add(&[], refused.load(Ordering::Relaxed) as f64),
        )
    }

    /// Serves until `stop` is done, then removes the socket file.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let _file = self.socket_file;
        server::serve(self.listener, self.routes, self.limits, self.counts, stop).await;
    }
}

/// The socket file, removed when the server ends, if it is still ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours {
            // Nothing depends on it: the next start replaces a stale file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds in a private folder, narrows the mode, then moves the socket to its place: at no time may another user connect, and a
/// stale file is replaced in one step.
async fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    refuse_if_in_use(path).await?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let private = parent.join(format!(".portcullis-{}", std::process::id()));
    let staged = private.join("s");
    // Left by an earlier process with our number.
    let _ = fs::remove_file(&staged);
    let _ = fs::remove_dir(&private);
    DirBuilder::new().mode(0o700).create(&private).map_err(|error| at(path, &error))?;
    let bound = bind_staged(&staged, path);
    let _ = fs::remove_file(&staged);
    let _ = fs::remove_dir(&private);
    bound.map_err(|error| at(path, &error))
}

fn bind_staged(staged: &Path, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let listener = UnixListener::bind(staged)?;
    fs::set_permissions(staged, Permissions::from_mode(0o600))?;
    let metadata = fs::symlink_metadata(staged)?;
    fs::rename(staged, path)?;
    Ok((listener, SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) }))
}

async fn refuse_if_in_use(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(path, &error)),
    };
    if !metadata.file_type().is_socket() {
        let message = "the path holds something that is not a socket; choose another path or remove it";
        return Err(at(path, &io::Error::new(io::ErrorKind::AlreadyExists, message)));
    }
    match tokio::net::UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(at(path, &error)),
        Ok(_) => Err(at(path, &io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"))),
    }
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("admin socket {}: {error}", escape::line(&path.to_string_lossy())))
}

/// Only tools of this machine: no page of a browser, whatever name it was loaded from.
fn refuse_browsers(request: &Parts) -> Result<(), Reply> {
    const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let refuse = |reason: &'static str| Err(Reply::text(StatusCode::FORBIDDEN, reason));
    if !has_loopback_host(request) {
        return refuse("the Host of a request here must be localhost or a loopback address\n");
    }
    if request.headers.contains_key(header::ORIGIN) {
        return refuse("requests from web pages are refused here (Origin)\n");
    }
    if request.headers.get_all(SEC_FETCH_SITE).iter().any(|site| site != "none") {
        return refuse("requests from web pages are refused here (Sec-Fetch-Site)\n");
    }
    Ok(())
}

fn has_loopback_host(request: &Parts) -> bool {
    let target = request.uri.authority().is_none_or(|authority| is_loopback_host(authority.as_str()));
    target && single(&request.headers, &header::HOST).is_some_and(is_loopback_host)
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok())?
}

fn is_loopback_host(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let address = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().map(IpAddr::V6).ok(),
        None => host.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
    };
    host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_can_be_expressed() {
        for good in ["unix:/run/portcullis.sock", "127.0.0.1:9901", "127.1.2.3:0", "[::1]:9901", "localhost:80"] {
            assert!(good.parse::<AdminAddress>().is_ok(), "{good}");
        }
        for bad in
            ["0.0.0.0:9901", "[::]:9901", "10.0.0.1:80", "192.168.1.1:80", "[fe80::1]:80", "[::ffff:127.0.0.1]:80"]
        {
            assert!(matches!(bad.parse::<AdminAddress>(), Err(AdminAddressError::NotLoopback(_))), "{bad}");
        }
        for bad in
            ["", "unix:", ":80", "localhost", "localhost:x", "localhost:99999", "example.com:80", "127.0.0.1", "a\nb"]
        {
            assert!(matches!(bad.parse::<AdminAddress>(), Err(AdminAddressError::Form(_))), "{bad}");
        }
    }

    #[test]
    fn loopback_hosts_table() {
        for good in ["localhost", "LOCALHOST:9901", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:9901"] {
            assert!(is_loopback_host(good), "{good}");
        }
        for bad in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "10.0.0.1",
            "::1",
            "[::2]",
            "localhost:",
            "[::1]x",
        ] {
            assert!(!is_loopback_host(bad), "{bad}");
        }
    }
}
