//! The linked matcher against a scan that is written from the specification.
#![no_main]

#[path = "../../crates/decide/tests/support/support.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::check::matcher(data));
