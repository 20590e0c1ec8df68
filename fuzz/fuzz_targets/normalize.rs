//! The normal form of paths: idempotent, without anything that it refuses, and as written down again naively.
#![no_main]

#[path = "../../crates/decide/tests/support/support.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::check::normalizer(data));
