//! Counters of connections, TLS handshakes, HTTP/2 budgets and panics.
//!
//! In flow events of the workers, each counted in the worker's own shard. Series are made when they are first used; their
//! labels are closed sets, or a Gateway and its port.

use crate::http::h2::Budget;
use crate::tls::accept::HandshakeFailure;
use portcullis_model::ObjectName;
use portcullis_runtime::metrics::{Counter, Family, Gauge, Label, MetricError, Registry, Shard};
use std::cell::RefCell;
use std::sync::OnceLock;

/// Most ports, of all Gateways, that have series of their own.
const PORTS: usize = 4096;

/// Why a connection was closed before anything was read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionRefusal {
    /// The limit of all connections.
    TotalLimit,
    /// The limit of one client.
    ClientLimit,
    /// The process may not open more files; the client waits until it may.
    FileLimit,
    /// The system failed to hand over a connection.
    AcceptFailed,
}

impl ConnectionRefusal {
    const ALL: [Self; 4] = [Self::TotalLimit, Self::ClientLimit, Self::FileLimit, Self::AcceptFailed];

    fn as_str(self) -> &'static str {
        match self {
            Self::TotalLimit => "total_limit",
            Self::ClientLimit => "client_limit",
            Self::FileLimit => "file_limit",
            Self::AcceptFailed => "accept_failed",
        }
    }
}

/// Where a panic was caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PanicPlace {
    /// A connection, which was closed.
    Connection,
    /// A request, which was answered with 500 or reset.
    Request,
}

impl PanicPlace {
    const ALL: [Self; 2] = [Self::Connection, Self::Request];

    fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Request => "request",
        }
    }
}

/// One counter for each value of a closed set, made when it is first used.
struct ClosedSet {
    family: Family<Counter, 1>,
    names: Vec<&'static str>,
    counters: Vec<OnceLock<Counter>>,
}

impl ClosedSet {
    fn register(
        registry: &Registry,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        names: impl IntoIterator<Item = &'static str>,
    ) -> Result<Self, MetricError> {
        let names: Vec<_> = names.into_iter().collect();
        let family = registry.counters(name, help, [Label::closed(label)], names.len())?;
        let counters = names.iter().map(|_| OnceLock::new()).collect();
        Ok(Self { family, names, counters })
    }

    fn increment(&self, shard: &Shard, index: usize) {
        if let (Some(counter), Some(name)) = (self.counters.get(index), self.names.get(index)) {
            counter.get_or_init(|| self.family.with([name])).increment(shard);
        }
    }
}

/// What is counted of connections, for all workers.
pub(crate) struct ConnectionMetrics {
    accepted: Family<Counter, 2>,
    open: Family<Gauge, 2>,
    handshakes: Family<Counter, 3>,
    handshake_failures: Family<Counter, 3>,
    refused_connections: ClosedSet,
    http2_budgets: ClosedSet,
    panics: ClosedSet,
}

impl ConnectionMetrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// When a name is taken: a registry serves one proxy.
    pub(crate) fn register(registry: &Registry) -> Result<Self, MetricError> {
        let gateway = || Label::open("gateway");
        let port = || Label::open("port");
        Ok(Self {
            accepted: registry.counters(
                "portcullis_connections_accepted_total",
                "Connections of clients that were accepted.",
                [gateway(), port()],
                PORTS,
            )?,
            open: registry.gauges(
                "portcullis_connections_open",
                "Connections of clients that are open.",
                [gateway(), port()],
                PORTS,
            )?,
            handshakes: registry.counters(
                "portcullis_tls_handshakes_total",
                "TLS handshakes with clients that succeeded.",
                [gateway(), port(), Label::closed("resumed")],
                2 * PORTS,
            )?,
            handshake_failures: registry.counters(
                "portcullis_tls_handshake_failures_total",
                "TLS handshakes with clients that failed.",
                [gateway(), port(), Label::closed("reason")],
                HandshakeFailure::ALL.len() * PORTS,
            )?,
            refused_connections: ClosedSet::register(
                registry,
                "portcullis_connections_refused_total",
                "Connections of clients that were closed before anything was read from them, or could not be accepted.",
                "reason",
                ConnectionRefusal::ALL.map(ConnectionRefusal::as_str),
            )?,
            http2_budgets: ClosedSet::register(
                registry,
                "portcullis_http2_budget_exceeded_total",
                "HTTP/2 connections that were ended because a client sent too many frames of a kind.",
                "budget",
                Budget::ALL.iter().map(|budget| budget.as_str()),
            )?,
            panics: ClosedSet::register(
                registry,
                "portcullis_panics_caught_total",
                "Defects of the gateway that ended a connection or a request. Please report them.",
                "place",
                PanicPlace::ALL.map(PanicPlace::as_str),
            )?,
        })
    }

    /// The counters of a port, for one worker.
    pub(crate) fn port(&self, gateway: &ObjectName, port: u16) -> PortMetrics {
        let (gateway, port) = (gateway.to_string(), port.to_string());
        PortMetrics {
            accepted: self.accepted.with([&gateway, &port]),
            open: self.open.with([&gateway, &port]),
            handshakes: ["false", "true"].map(|resumed| (resumed, RefCell::default())),
            failures: HandshakeFailure::ALL.iter().map(|_| RefCell::default()).collect(),
            gateway,
            port,
        }
    }

    /// Takes the series of a port that is gone out of the output.
    pub(crate) fn retire(registry: &Registry, gateway: &ObjectName, port: u16) {
        registry.retire(&[("gateway", &gateway.to_string()), ("port", &port.to_string())]);
    }

    /// A connection was closed unread.
    pub(crate) fn connection_refused(&self, shard: &Shard, refusal: ConnectionRefusal) {
        self.refused_connections.increment(shard, refusal as usize);
    }

    /// An HTTP/2 connection was ended.
    pub(crate) fn http2_budget_exceeded(&self, shard: &Shard, budget: Budget) {
        self.http2_budgets.increment(shard, budget as usize);
    }

    /// A panic was caught.
    pub(crate) fn panicked(&self, shard: &Shard, place: PanicPlace) {
        self.panics.increment(shard, place as usize);
    }
}

/// What is counted of one port, on one worker.
pub(crate) struct PortMetrics {
    gateway: String,
    port: String,
    accepted: Counter,
    open: Gauge,
    handshakes: [(&'static str, RefCell<Option<Counter>>); 2],
    failures: Vec<RefCell<Option<Counter>>>,
}

impl PortMetrics {
    /// A connection was accepted.
    pub(crate) fn opened(&self, shard: &Shard) {
        self.accepted.increment(shard);
        self.open.add(shard, 1);
    }

    /// One that was accepted has ended.
    pub(crate) fn closed(&self, shard: &Shard) {
        self.open.add(shard, -1);
    }

    /// A handshake succeeded.
    pub(crate) fn handshake(&self, all: &ConnectionMetrics, shard: &Shard, resumed: bool) {
        let (label, counter) = &self.handshakes[usize::from(resumed)];
        let with = || all.handshakes.with([&self.gateway, &self.port, label]);
        counter.borrow_mut().get_or_insert_with(with).increment(shard);
    }

    /// A handshake failed.
    pub(crate) fn handshake_failed(&self, all: &ConnectionMetrics, shard: &Shard, failure: HandshakeFailure) {
        if let Some(counter) = self.failures.get(failure as usize) {
            let with = || all.handshake_failures.with([&self.gateway, &self.port, failure.as_str()]);
            counter.borrow_mut().get_or_insert_with(with).increment(shard);
        }
    }
}
