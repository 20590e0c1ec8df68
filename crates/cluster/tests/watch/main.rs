//! A watch of an API server that does what real ones do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, reason = "tests")]

mod bodies;
mod consumer;
mod discovery;
mod faults;
mod objects;
mod properties;
mod rights;
mod server;
