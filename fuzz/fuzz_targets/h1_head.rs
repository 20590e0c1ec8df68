//! HTTP/1.1 request heads: see `portcullis_proxy::http::h1::fuzz::head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_proxy::http::h1::fuzz::head(data));
