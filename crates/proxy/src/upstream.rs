//! Backends: endpoints, balancing, connections, tries.
//!
//! In flows a request after its filters, and the backend that was chosen by weight. Out flows the head of the backend's
//! response with the connection that its body comes on, or why there is none.

pub(crate) mod balance;
pub(crate) mod connect;
pub(crate) mod dns;
pub(crate) mod endpoints;
pub(crate) mod exchange;
pub(crate) mod guard;
pub(crate) mod http1;
pub(crate) mod pool;
pub(crate) mod request_body;
pub(crate) mod response_body;
pub(crate) mod retry;
pub(crate) mod shape;
pub(crate) mod upgrade;

pub use guard::Guard;

use crate::options::Options;
use crate::telemetry::WorkerTelemetry;
use crate::worker::Snapshot;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

/// Connections to backends. Numbers are per worker, where nothing else is said.
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    /// From the first packet to the connection.
    pub connect_timeout: Duration,
    /// How long an endpoint may take no byte of what is sent to it before its connection is given up.
    pub write_stall: Duration,
    /// How long a connection is kept for the next request: shorter than backends usually do (60 s and above), so that it is
    /// the gateway that closes.
    pub idle_timeout: Duration,
    /// Idle HTTP/1.1 connections to one endpoint; more are closed after their response.
    pub max_idle_per_endpoint: usize,
    /// Connections to one endpoint, busy ones included. Requests beyond are answered with 503.
    pub max_connections_per_endpoint: Option<usize>,
    /// Requests at a time on one HTTP/2 connection, if the backend allows as many; more open another connection.
    pub http2_streams_per_connection: usize,
    /// Bytes of a response's body that may be under way, per HTTP/2 stream.
    pub http2_stream_window: u32,
    /// The same for all streams of a connection.
    pub http2_connection_window: u32,
    /// Between PINGs on an HTTP/2 connection with open requests where nothing moves.
    pub http2_keep_alive_interval: Duration,
    /// How long the answer to one may take.
    pub http2_keep_alive_timeout: Duration,
    /// Largest head of a response; on HTTP/2 of its header list. On HTTP/1.1, what is read ahead of a body is not larger.
    pub max_response_header_bytes: u32,
    /// How long an endpoint that could not be reached is left out while others can be.
    pub failure_memory: Duration,
    /// Bytes of a request's body that are kept for another try; a larger body is tried once.
    pub retry_buffer: usize,
    /// Base interval between tries where a route gives none.
    pub retry_backoff: Duration,
    /// Bytes of a request's body that wait for a mirror; beyond, the copy is dropped.
    pub mirror_buffer: usize,
    /// Copies that are under way at a time.
    pub max_mirrors: usize,
    /// How long a copy and its response may take.
    pub mirror_timeout: Duration,
    /// How long nothing may move in a tunnel (WebSocket and other upgrades); `None` for no limit.
    pub tunnel_idle_timeout: Option<Duration>,
    /// Where nothing is ever sent, whoever names it as an endpoint: the admin and telemetry servers of this process. An
    /// unspecified address stands for every address of this machine.
    pub forbidden: Vec<SocketAddr>,
    /// Refuses addresses that no backend has, as loopback and metadata services. `None` where backends are beside the gateway.
    pub guard: Option<Guard>,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            write_stall: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(30),
            max_idle_per_endpoint: 4096,
            max_connections_per_endpoint: None,
            http2_streams_per_connection: 100,
            http2_stream_window: 1024 * 1024,
            http2_connection_window: 4 * 1024 * 1024,
            http2_keep_alive_interval: Duration::from_secs(30),
            http2_keep_alive_timeout: Duration::from_secs(20),
            max_response_header_bytes: 64 * 1024,
            failure_memory: Duration::from_secs(2),
            retry_buffer: 64 * 1024,
            retry_backoff: Duration::from_millis(25),
            mirror_buffer: 256 * 1024,
            max_mirrors: 1024,
            mirror_timeout: Duration::from_secs(30),
            tunnel_idle_timeout: Some(Duration::from_secs(3600)),
            forbidden: Vec::new(),
            guard: None,
        }
    }
}

/// The backends of one worker, and what its requests to them share.
pub(crate) struct Upstreams {
    /// How they are reached.
    pub(crate) options: UpstreamOptions,
    /// The backends.
    pub(crate) backends: endpoints::Backends,
    /// For names.
    pub(crate) resolver: dns::Resolver,
    /// The worker's randomness: unique and fast, not secret.
    pub(crate) random: RefCell<fastrand::Rng>,
    /// Whose turn it is among the backends of each rule.
    pub(crate) turns: crate::route::turns::Turns,
    /// Copies of requests that are under way.
    pub(crate) mirrors: Cell<usize>,
    /// What is told of endpoints that are refused.
    pub(crate) refusals: connect::Refusals,
}

impl Upstreams {
    /// None yet.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            options: options.upstream.clone(),
            backends: endpoints::Backends::default(),
            resolver: dns::Resolver::shared(),
            random: RefCell::new(fastrand::Rng::new()),
            turns: crate::route::turns::Turns::default(),
            mirrors: Cell::new(0),
            refusals: connect::Refusals::default(),
        }
    }

    /// Follows a new snapshot.
    pub(crate) fn apply(&self, snapshot: &Snapshot) {
        self.backends.apply(snapshot, self.options.guard.as_ref());
    }

    /// To be called every second or so: closes what is idle, forgets what is gone.
    pub(crate) fn sweep(&self, telemetry: &WorkerTelemetry) {
        self.backends.sweep(&self.options);
        self.turns.sweep();
        telemetry.sweep();
    }
}
