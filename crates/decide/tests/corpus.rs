//! The corpus of the fuzz targets, with the stable toolchain.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests read their cases")]

#[path = "support/support.rs"]
mod support;

use std::path::Path;
use support::check;

#[test]
fn every_input_of_the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (target, check) in [("normalize", check::normalizer as fn(&[u8])), ("matcher", check::matcher)] {
        let mut inputs = 0;
        for entry in std::fs::read_dir(corpus.join(target)).unwrap() {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{target}");
    }
}
