//! What the tests share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

pub mod build;
pub mod check;
pub mod naive;
pub mod world;
