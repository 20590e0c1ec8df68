//! Upstream's own examples: what they call valid is accepted, what they call invalid is refused.
//!
//! Runs where the Go module of the Gateway API is at hand (`GATEWAY_API_DIR`, or Go's module cache); `cargo xtask test` says
//! when it is not. What upstream calls invalid has cases of ours beside it (`tests/cases`), which run everywhere.

#![expect(clippy::unwrap_used, reason = "tests, their helpers included")]

use std::path::{Path, PathBuf};

use portcullis_api::diagnostic::{Diagnostic, Severity};
use portcullis_api::manifest::{Limits, load};
use portcullis_api::schema::Schemas;

fn upstream() -> Option<PathBuf> {
    let cache = || Some(PathBuf::from(std::env::var_os("HOME")?).join("go/pkg/mod/sigs.k8s.io/gateway-api@v1.7.0"));
    std::env::var_os("GATEWAY_API_DIR").map(PathBuf::from).or_else(cache).filter(|folder| folder.is_dir())
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn check(path: &Path) -> (usize, Vec<Diagnostic>) {
    let text = std::fs::read_to_string(path).unwrap();
    let loaded = load(&path.display().to_string(), &text, &Limits::default(), &Schemas::v1_7_0(), "default");
    (loaded.objects.len(), loaded.diagnostics)
}

#[test]
fn valid_examples_are_accepted() {
    let Some(upstream) = upstream() else { return };
    let mut objects = 0;
    for path in yaml_files(&upstream.join("examples")) {
        let (count, diagnostics) = check(&path);
        let errors: Vec<_> = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        objects += count;
    }
    assert!(objects > 100, "{objects} objects");
}

#[test]
fn invalid_examples_are_refused() {
    let Some(upstream) = upstream() else { return };
    let files = yaml_files(&upstream.join("hack/invalid-examples"));
    assert!(files.len() > 30);
    for path in files {
        let (_, diagnostics) = check(&path);
        let errors: Vec<_> = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).collect();
        assert!(!errors.is_empty(), "{} is accepted", path.display());
    }
}
