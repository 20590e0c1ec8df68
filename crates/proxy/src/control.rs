//! The control side of a proxy: takes configurations, binds ports, publishes snapshots.

use crate::options::Options;
use portcullis_model::{ConfigDelta, ObjectName};
use std::net::SocketAddr;
use std::time::Duration;

/// A running data plane. A handle: cheap to clone, `Send`.
#[derive(Clone)]
pub struct Proxy;

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A worker's thread or runtime could not be made.
    #[error("worker {index} could not be started: {source}; check the limits of threads and open files")]
    Worker {
        /// Which worker.
        index: usize,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What became of a call of [`Proxy::apply`]: the state of every port, of all Gateways.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Counts the configurations that were taken.
    pub generation: u64,
    /// By Gateway and port.
    pub ports: Vec<PortReport>,
    /// Pieces that cannot be honoured although the configuration was taken, as sentences.
    pub problems: Vec<String>,
}

/// The state of one port of a Gateway.
#[derive(Clone, Debug)]
pub struct PortReport {
    /// The Gateway.
    pub gateway: ObjectName,
    /// The port of its listeners.
    pub port: u16,
    /// What was bound, or why nothing was.
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

/// How a drain ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had to be cut at the deadline.
    pub cut: usize,
}

impl Proxy {
    /// Starts the workers. They serve nothing before the first [`Proxy::apply`].
    ///
    /// # Errors
    /// When a worker's thread cannot be made.
    pub fn start(_options: Options) -> Result<Self, StartError> {
        Ok(Self)
    }

    /// Applies changes, each Gateway's as a whole, and says what is bound.
    pub async fn apply(&self, _deltas: Vec<ConfigDelta>) -> Applied {
        Applied::default()
    }

    /// Finishes what is open, at most until the deadline, then cuts the rest.
    pub async fn drain(&self, _deadline: Duration) -> Drained {
        Drained::default()
    }
}
