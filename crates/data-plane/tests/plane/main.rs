//! A whole data plane against a small controller, over real sockets.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "one test program: what these hold for is a test that fails"
)]

mod authority;
mod config;
mod controller;
mod identity;
mod lifecycle;
mod stream;
mod world;
