//! The corpus of the fuzz target `manifest`: every file that was ever of interest is read, validated and compiled without a panic.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests read files; helpers fail as tests do")]

use portcullis_api::diagnostic::Style;
use portcullis_api::manifest::{Limits, load};
use portcullis_api::schema::Schemas;
use portcullis_compile::{Options, compile};
use std::path::Path;

#[test]
fn every_file_of_the_corpus_does_no_harm() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/manifest");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let loaded = load("corpus.yaml", &text, &Limits::default(), &Schemas::v1_7_0(), "default");
        for diagnostic in &loaded.diagnostics {
            let shown = diagnostic.render(&text, Style::Plain);
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{path:?}: {shown:?}");
        }
        let objects = loaded.objects.into_iter().map(|(object, _)| object);
        compile(objects, Options { standalone: true, shared_machine: true, ..Options::default() });
        files += 1;
    }
    assert!(files >= 13, "{files} files");
}
