//! Chunked bodies: see `portcullis_proxy::http::h1::fuzz::chunks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_proxy::http::h1::fuzz::chunks(data));
