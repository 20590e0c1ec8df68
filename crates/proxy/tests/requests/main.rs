//! What happens to requests, over real sockets: a gateway between a client and backends that the tests script.

mod backend;
mod balancing;
mod bodies;
mod client;
mod features;
mod gateway;
mod mirrors;
mod pool;
mod retries;
mod telemetry;
mod timeouts;
mod upgrades;
