//! Both sides of a stream against each other, without a network in between.

#![allow(clippy::unwrap_used, clippy::panic, reason = "one test program: what these hold for is a test that fails")]

mod cases;
mod properties;
mod support;
