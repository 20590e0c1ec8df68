//! What a long-running program offers to its operators: the telemetry and admin servers, and the access log.
//!
//! In flow addresses that were typed. Out flow running servers, and errors that name the option to change.

use crate::admin::{self, AdminAddress, AdminServer};
use crate::drain::Drain;
use crate::log::{AccessLog, AccessLogOptions, AccessLogTarget};
use crate::metrics::{MetricError, Registry};
use crate::readiness::Readiness;
use crate::server::Limits;
use crate::telemetry::{self, TelemetryServer};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Where the servers listen.
#[derive(Clone, Debug)]
pub struct Operators {
    /// `/metrics`, `/healthz`, `/readyz`; `None` for nowhere.
    pub telemetry_address: Option<SocketAddr>,
    /// `/config`, `/drain`; `None` for nowhere.
    pub admin_address: Option<AdminAddress>,
    /// How long a drain that `/drain` begins may take.
    pub drain_timeout: Duration,
}

/// Where the servers really listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperatorAddresses {
    /// Of the telemetry server.
    pub telemetry: Option<SocketAddr>,
    /// Of the admin server, unless it listens on a Unix socket.
    pub admin: Option<SocketAddr>,
}

impl OperatorAddresses {
    /// Each of them: nothing that comes from clients may be sent there.
    pub fn all(self) -> impl Iterator<Item = SocketAddr> {
        self.telemetry.into_iter().chain(self.admin)
    }
}

/// Why operators cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The telemetry address.
    #[error("the telemetry address {0} cannot be bound: {1}; name another with --telemetry-address")]
    Telemetry(SocketAddr, io::Error),
    /// The admin address.
    #[error("the admin address cannot be bound: {0}; name another with --admin-address")]
    Admin(io::Error),
    /// The access log.
    #[error("the access log cannot be written to {0}: {1}; name another file with --access-log")]
    AccessLog(String, io::Error),
    /// A metric is registered already.
    #[error(transparent)]
    Metrics(#[from] MetricError),
}

/// Starts the servers as local tasks of the caller's thread. `config` gives the compiled configuration as JSON, without any value
/// from a Secret. The admin server ends when `drain` is forced.
///
/// # Errors
/// When an address cannot be bound.
pub async fn start(
    operators: &Operators,
    registry: &Registry,
    readiness: Readiness,
    config: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    drain: &Drain,
) -> Result<OperatorAddresses, OperatorError> {
    let mut addresses = OperatorAddresses::default();
    if let Some(address) = operators.telemetry_address {
        let failed = |error| OperatorError::Telemetry(address, error);
        let routes = telemetry::routes(registry.clone(), readiness, || Ok(()));
        let server = TelemetryServer::bind(address, routes, Limits::default()).await.map_err(failed)?;
        server.register(registry)?;
        let address = server.local_addr().map_err(failed)?;
        tracing::info!(%address, "telemetry: /metrics /healthz /readyz");
        addresses.telemetry = Some(address);
        tokio::task::spawn_local(server.serve(std::future::pending()));
    }
    if let Some(address) = &operators.admin_address {
        let routes = admin::routes(config, drain.clone(), operators.drain_timeout);
        let server = AdminServer::bind(address, routes, Limits::default()).await.map_err(OperatorError::Admin)?;
        server.register(registry)?;
        addresses.admin = server.local_addr();
        let watch = drain.watch();
        tokio::task::spawn_local(server.serve(async move { watch.forced().await }));
    }
    Ok(addresses)
}

/// Opens the access log.
///
/// # Errors
/// When the file cannot be written.
pub fn open_access_log(options: AccessLogOptions) -> Result<AccessLog, OperatorError> {
    let place = match &options.target {
        AccessLogTarget::Stdout => "standard output".to_owned(),
        AccessLogTarget::File(path) => path.display().to_string(),
    };
    AccessLog::start(options).map_err(|error| OperatorError::AccessLog(place, error))
}
