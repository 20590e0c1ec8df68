//! How a proxy is started: every limit and time with its default.

use crate::http::h1;
use crate::route::ForwardingOptions;
use crate::telemetry::TelemetryOptions;
use crate::upstream::UpstreamOptions;
use portcullis_model::ObjectName;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// How a proxy is started. The defaults are meant for a gateway that faces the internet.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that serve; at least one.
    pub workers: usize,
    /// Which port is bound for a listener's port.
    pub port_map: PortMap,
    /// The addresses bound when a Gateway asks for none. `[::]` means IPv4 too; it falls back to `0.0.0.0` where IPv6 is off.
    pub default_bind: Vec<IpAddr>,
    /// Connections still to be accepted that the kernel keeps, per socket.
    pub backlog: u32,
    /// How many connections are served at a time.
    pub connections: ConnectionLimits,
    /// Time limits.
    pub timeouts: Timeouts,
    /// HTTP/1.1 towards clients; its pace of bodies and its limits of fields hold for HTTP/2 too. The scheme and the clocks
    /// that [`Timeouts`] has are set from there.
    pub http1: h1::Options,
    /// HTTP/2 towards clients.
    pub http2: Http2Options,
    /// Metrics and the access log.
    pub telemetry: TelemetryOptions,
    /// Connections to backends, and tries.
    pub upstream: UpstreamOptions,
    /// Who may say where a request came from.
    pub forwarding: ForwardingOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 1,
            port_map: PortMap::default(),
            default_bind: vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
            backlog: 4096,
            connections: ConnectionLimits::default(),
            timeouts: Timeouts::default(),
            // A client that is about to send when the drain begins must not find a closed connection.
            http1: h1::Options { idle_drain: Duration::from_secs(1), ..h1::Options::default() },
            http2: Http2Options::default(),
            telemetry: TelemetryOptions::default(),
            upstream: UpstreamOptions::default(),
            forwarding: ForwardingOptions::default(),
        }
    }
}

/// How many connections of clients are open at a time. One more is closed as soon as it is accepted, and counted.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// All workers together. The default leaves room for as many connections to backends below the usual limit of files.
    pub total: usize,
    /// From one IPv4 address, or one IPv6 network of 64 bits.
    pub per_client: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 100_000, per_client: 10_000 }
    }
}

/// Time limits towards clients.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the accepted connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a request's head to its last.
    pub request_headers: Duration,
    /// A connection without an open request.
    pub idle: Duration,
    /// A response that the client does not take: no byte could be written for this long.
    pub write_stall: Duration,
    /// How long a removed port goes on as it was before it is closed, while those who send traffic hear of it. Not at all by default: it
    /// takes somebody in front of the proxy to hear of it.
    pub port_linger: Duration,
    /// How long a removed port's connections may finish what they have.
    pub port_drain: Duration,
    /// How long a deleted Gateway's connections may finish what they have.
    pub gateway_drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            request_headers: Duration::from_secs(15),
            idle: Duration::from_secs(75),
            write_stall: Duration::from_secs(60),
            port_linger: Duration::ZERO,
            port_drain: Duration::from_secs(25),
            gateway_drain: Duration::from_secs(5),
        }
    }
}

/// HTTP/2 towards clients. Beside these, there are fixed budgets for each class of frames.
#[derive(Clone, Debug)]
pub struct Http2Options {
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub max_concurrent_streams: u32,
    /// SETTINGS_MAX_HEADER_LIST_SIZE: names and values with 32 bytes for each field (RFC 9113 section 6.5.2).
    pub max_header_list_size: u32,
    /// Fields of one head or trailer section; each crumb of a Cookie counts.
    pub max_fields: usize,
    /// Bytes of a request's body that may be under way, per stream.
    pub stream_window: u32,
    /// The same for all streams of a connection.
    pub connection_window: u32,
    /// Bytes of responses that wait for the client, per stream.
    pub max_send_buffer: usize,
    /// Between PINGs on a connection where nothing moves.
    pub keep_alive_interval: Duration,
    /// How long the answer to one may take.
    pub keep_alive_timeout: Duration,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 128,
            max_header_list_size: 32 * 1024,
            max_fields: 128,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            max_send_buffer: 64 * 1024,
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(20),
        }
    }
}

/// Which port is bound for a port of the specification: for users without root (`--port 443=8443`), and for tests.
#[derive(Clone, Debug, Default)]
pub struct PortMap {
    everywhere: BTreeMap<u16, u16>,
    of_gateway: BTreeMap<(ObjectName, u16), u16>,
    ephemeral: bool,
}

impl PortMap {
    /// Binds any free port for every port; what it became is in the report.
    pub fn ephemeral() -> Self {
        Self { ephemeral: true, ..Self::default() }
    }

    /// Binds `bound` for a listener's `port` on every Gateway; 0 for any free port.
    pub fn insert(&mut self, port: u16, bound: u16) {
        self.everywhere.insert(port, bound);
    }

    /// The same for one Gateway alone.
    pub fn insert_for(&mut self, gateway: ObjectName, port: u16, bound: u16) {
        self.of_gateway.insert((gateway, port), bound);
    }

    /// The port to bind; 0 for any free one.
    pub fn bound(&self, gateway: &ObjectName, port: u16) -> u16 {
        let own = self.of_gateway.get(&(gateway.clone(), port));
        match own.or_else(|| self.everywhere.get(&port)) {
            Some(bound) => *bound,
            None if self.ephemeral => 0,
            None => port,
        }
    }
}
