//! The servers for data planes over real sockets: identities, config streams, the relay between replicas.
//!
//! The API server is a scripted one (`kube`); everything else is what runs in a cluster. `data_plane` is a client that can do what a real
//! one does, and what an attacker would.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "one test program: what these hold for is a test that fails"
)]

mod authority;
mod cluster;
mod data_plane;
mod identity;
mod kube;
mod log;
mod relay;
mod stream;
mod world;
