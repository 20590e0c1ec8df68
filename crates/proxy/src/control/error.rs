//! What the control side reports.

use portcullis_model::ObjectName;
use portcullis_runtime::drain::{DrainReport, Open};
use portcullis_runtime::metrics::MetricError;
use std::io;
use std::net::SocketAddr;

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A thread or its runtime could not be made.
    #[error("the thread {name} could not be started: {source}; check the limits of threads and open files")]
    Thread {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The registry has no room for a worker's counters.
    #[error("the metrics registry was made for fewer workers than {index}, or serves another proxy")]
    NoShard {
        /// Which worker.
        index: usize,
    },
    /// The registry serves another proxy.
    #[error(transparent)]
    Metrics(#[from] MetricError),
}

/// What became of a call of [`Proxy::apply`](super::Proxy::apply): the state of every port, of all Gateways.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Counts the configurations that were taken.
    pub generation: u64,
    /// By Gateway and port.
    pub ports: Vec<PortReport>,
    /// Pieces that cannot be honoured although the configuration was taken, as sentences. They fail closed.
    pub problems: Vec<String>,
}

/// The state of one port of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortReport {
    /// The Gateway.
    pub gateway: ObjectName,
    /// The port of its listeners.
    pub port: u16,
    /// What was bound, or why not all of it was.
    pub result: Result<BoundPort, BindError>,
}

/// Where a port is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundPort {
    /// One for each address.
    pub addresses: Vec<SocketAddr>,
}

/// Why a port is not served. It is tried again with every change, and every few seconds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot listen on {address}: {reason}; {remedy}")]
pub struct BindError {
    /// What should have been bound.
    pub address: SocketAddr,
    /// What the system said.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl BindError {
    pub(crate) fn new(address: SocketAddr, error: &io::Error) -> Self {
        let port = address.port();
        let mapped = if port < 1024 { 8000 + port } else { port.checked_add(1).unwrap_or(8080) };
        let (reason, remedy) = match error.kind() {
            io::ErrorKind::PermissionDenied => (
                "ports below 1024 need a permission that this process lacks".to_owned(),
                format!(
                    "map the port with `--port {port}={mapped}`, or allow it to everyone with \
                     `sudo sysctl net.ipv4.ip_unprivileged_port_start={port}`"
                ),
            ),
            io::ErrorKind::AddrInUse => (
                "another program listens there".to_owned(),
                format!(
                    "stop it (`ss -ltnp 'sport = :{port}'` shows which it is), or map the port with \
                     `--port {port}={mapped}`"
                ),
            ),
            io::ErrorKind::AddrNotAvailable => (
                "the address is none of this machine's".to_owned(),
                "correct the Gateway's spec.addresses, or leave it out to listen on all addresses".to_owned(),
            ),
            _ => (error.to_string(), "check the limits of open files and memory".to_owned()),
        };
        Self { address, reason, remedy }
    }

    /// Says which port of the specification is to be mapped: another than the bound one, when it is mapped already.
    pub(super) fn of_listener_port(mut self, port: u16) -> Self {
        let bound = self.address.port();
        self.remedy = self.remedy.replace(&format!("--port {bound}="), &format!("--port {port}="));
        self
    }

    /// Another Gateway has the address and port.
    pub(super) fn taken(address: SocketAddr, by: &ObjectName) -> Self {
        Self {
            address,
            reason: format!("Gateway {by} listens there"),
            remedy: "give one of the two another port, or another address in spec.addresses".to_owned(),
        }
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// What had to be cut at the deadline; nothing if all ended by itself.
    pub cut: Open,
}

impl From<DrainReport> for Drained {
    fn from(report: DrainReport) -> Self {
        Self { cut: report.cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_remedy() {
        for (address, kind, remedy) in [
            ("[::]:443", io::ErrorKind::PermissionDenied, "--port 443=8443"),
            ("[::]:80", io::ErrorKind::PermissionDenied, "net.ipv4.ip_unprivileged_port_start=80"),
            ("[::]:8080", io::ErrorKind::AddrInUse, "--port 8080=8081"),
            ("192.0.2.1:80", io::ErrorKind::AddrNotAvailable, "spec.addresses"),
        ] {
            let error = BindError::new(address.parse().unwrap(), &kind.into());
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }

    #[test]
    fn the_remedy_maps_the_port_of_the_specification() {
        let error = BindError::new("[::]:8443".parse().unwrap(), &io::ErrorKind::AddrInUse.into());
        assert!(error.of_listener_port(443).remedy.contains("--port 443=8444"));
    }
}
