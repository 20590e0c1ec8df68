//! The data plane: sockets, TLS, HTTP, upstreams.
//!
//! In flow [`ConfigDelta`](portcullis_model::ConfigDelta)s, from wherever the caller gets them, and clients' connections.
//! Out flow responses, connections to backends, counters and access log lines.
//!
//! A request meets the modules in this order:
//!
//! | module | what it does |
//! |---|---|
//! | `listener` | accepts, within limits; closes gracefully |
//! | `tls` | reads the ClientHello, chooses listener and certificate, ends TLS |
//! | `http` | speaks HTTP/1.1 (ours, strict) or HTTP/2 (hyper, with budgets) to the client |
//! | `route` | asks `decide` what happens to the request, and does it |
//! | `filter` | what filters do that needs I/O |
//! | `upstream` | endpoints, pools, retries, and the backend's response, over HTTP/1.1 of ours or HTTP/2 (hyper) |
//!
//! `control` takes configurations, binds ports and publishes snapshots; each `worker` serves from the snapshot that it has.
//! A worker is one thread with its own sockets, pools and counters; workers share nothing while they serve.

mod body;
mod connection;
mod control;
mod filter;
pub mod http;
mod listener;
mod options;
mod record;
mod route;
mod telemetry;
pub mod tls;
mod upstream;
mod worker;

pub use control::{Applied, BindError, BoundPort, Drained, PortJournal, PortReport, Proxy, StartError};
pub use http::h1::Options as Http1Options;
pub use options::{ConnectionLimits, Http2Options, Options, PortMap, Timeouts};
pub use route::ForwardingOptions;
pub use telemetry::TelemetryOptions;
pub use upstream::{Guard, UpstreamOptions};
