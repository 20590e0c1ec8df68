//! Connections of clients with real sockets: ports, TLS, HTTP/2, limits, drains.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "one test program: what these hold for is a test that fails"
)]

mod client;
mod drain;
mod frames;
mod gateway;
mod hostile;
mod http2;
mod limits;
mod ports;
mod tls;
