//! What happens to requests, over real sockets: a gateway between a client and backends that the tests script.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

mod backend;
mod balancing;
mod bodies;
mod client;
mod edges;
mod features;
mod gateway;
mod guard;
mod http1_backends;
mod mirrors;
mod pool;
mod retries;
mod telemetry;
mod timeouts;
mod upgrades;
