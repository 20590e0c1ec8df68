//! What must hold for any bytes: the bodies of the fuzz targets, on generated input and on the corpus of `fuzz/corpus`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use portcullis_proxy::http::h1::fuzz;
use proptest::prelude::*;
use std::path::Path;

/// Pieces that heads and bodies are made of, well-formed and not.
const PIECES: &[&str] = &[
    "GET",
    "POST",
    "OPTIONS",
    "TRACE",
    " ",
    "  ",
    "/",
    "*",
    "http://a",
    "/p?q=1",
    " HTTP/1.1",
    " HTTP/1.0",
    " HTTP/2.0",
    "\r\n",
    "\n",
    "\r",
    "\t",
    ":",
    "Host",
    "Host: a\r\n",
    "host: a.b:80\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "content-length:",
    "5",
    "0",
    "5, 5",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:",
    "chunked",
    ", ",
    "Connection: close\r\n",
    "Connection: upgrade, x\r\n",
    "Upgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "X_Y: 1\r\n",
    "x: y\r\n",
    "TE: trailers\r\n",
    "\0",
    "\x7f",
    "é",
    "hello",
    "\r\n\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "a;b\r\n",
    "1\r\nx\r\n",
    "0\r\nx: 1\r\n\r\n",
    "ffffffffffffffff\r\n",
    ";",
    "1",
];

fn from_pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        9 => proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// A head that is mostly well-formed, so that what is behind the parser's first checks is reached.
fn likely_head() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        "[a-z-]{1,12}: [ -~]{0,20}\r\n",
        proptest::sample::select(PIECES).prop_map(str::to_owned),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        Just("Content-Length: 3\r\n".to_owned()),
        Just("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n".to_owned()),
    ];
    ("(GET|PUT|OPTIONS)", "/[!-~]{0,20}|\\*|http://a/x", "1\\.[01]", proptest::collection::vec(field, 0..6)).prop_map(
        |(method, target, version, fields)| {
            format!("{method} {target} HTTP/{version}\r\nHost: a\r\n{}\r\nrest", fields.concat()).into_bytes()
        },
    )
}

/// A chunked body that is mostly well-formed.
fn likely_body() -> impl Strategy<Value = Vec<u8>> {
    let chunk = proptest::collection::vec(any::<u8>(), 1..40)
        .prop_map(|data| [format!("{:x}\r\n", data.len()).into_bytes(), data, b"\r\n".to_vec()].concat());
    let chunk =
        prop_oneof![20 => chunk, 1 => proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec())];
    let trailers = prop_oneof![Just("".to_owned()), "([a-z_-]{1,8}: [ -~]{0,9}\r\n){0,3}"];
    (proptest::collection::vec(chunk, 0..9), trailers)
        .prop_map(|(chunks, trailers)| [chunks.concat(), format!("0\r\n{trailers}\r\nrest").into_bytes()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn heads(bytes in prop_oneof![from_pieces(), likely_head(), proptest::collection::vec(any::<u8>(), 0..200)]) {
        fuzz::head(&bytes);
    }

    #[test]
    fn chunks(bytes in prop_oneof![from_pieces(), likely_body(), proptest::collection::vec(any::<u8>(), 0..200)]) {
        fuzz::chunks(&bytes);
    }
}

#[test]
fn corpus() {
    for (target, check) in [("h1_head", fuzz::head as fn(&[u8])), ("h1_chunks", fuzz::chunks)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count >= 10, "{} has {count} files", folder.display());
    }
}
