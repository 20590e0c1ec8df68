//! The ClientHello: see `portcullis_proxy::tls::client_hello::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_proxy::tls::client_hello::fuzz(data));
