//! Objects and what is said about them: each document of `cases/*.yaml` carries the diagnostics that it gets.
//!
//! `# expect: <line>:<column> <severity> <code> <text>`, with lines counted from the first line after the
//! comments. `UPDATE=1` rewrites them: read the difference before it is committed.

#![expect(clippy::unwrap_used, reason = "tests, their helpers included")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use portcullis_api::manifest::{Limits, parse};
use portcullis_api::schema::Schemas;

const EXPECT: &str = "# expect: ";

/// One document of a case file.
struct Case<'t> {
    name: &'t str,
    expected: Vec<&'t str>,
    object: &'t str,
}

impl<'t> Case<'t> {
    fn read(document: &'t str) -> Self {
        let (first, mut object) = document.trim_start_matches('\n').split_once('\n').unwrap();
        let name = first.strip_prefix("# case: ").unwrap();
        let mut expected = Vec::new();
        while let Some(rest) = object.strip_prefix(EXPECT) {
            let (line, rest) = rest.split_once('\n').unwrap();
            expected.push(line);
            object = rest;
        }
        Self { name, expected, object: object.trim_end_matches('\n') }
    }

    fn diagnostics(&self) -> Vec<String> {
        let manifest = parse("case.yaml", self.object, &Limits::default());
        let schemas = Schemas::v1_7_0();
        let mut found = manifest.diagnostics;
        for mut document in manifest.documents {
            found.extend(document.check(&schemas, "default"));
            let is_refused =
                found.iter().any(|diagnostic| diagnostic.severity > portcullis_api::diagnostic::Severity::Warning);
            assert!(is_refused || document.into_object().is_ok(), "{}: valid, but cannot be read", self.name);
        }
        let line = |diagnostic: &portcullis_api::diagnostic::Diagnostic| {
            let mut text =
                format!("{}:{} {} {} ", diagnostic.line, diagnostic.column, diagnostic.severity, diagnostic.code);
            if let Some(field) = &diagnostic.field {
                write!(text, "{field}: ").unwrap();
            }
            text.push_str(&diagnostic.message);
            if let Some(remedy) = &diagnostic.remedy {
                write!(text, " ({remedy})").unwrap();
            }
            text
        };
        found.iter().map(line).collect()
    }
}

fn case_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_case_gets_its_diagnostics() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = String::new();
    let mut count = 0;
    for path in case_files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut updated = Vec::new();
        for document in text.split("\n---\n") {
            let case = Case::read(document);
            let found = case.diagnostics();
            count += 1;
            if found != case.expected {
                writeln!(
                    wrong,
                    "{}: {}\n  expected {:#?}\n  found {found:#?}",
                    path.display(),
                    case.name,
                    case.expected
                )
                .unwrap();
            }
            let lines: String = found.iter().map(|line| format!("{EXPECT}{line}\n")).collect();
            updated.push(format!("# case: {}\n{lines}{}", case.name, case.object));
        }
        if update {
            std::fs::write(&path, updated.join("\n---\n") + "\n").unwrap();
        }
    }
    assert!(count > 60, "{count} cases");
    assert!(update || wrong.is_empty(), "{wrong}");
}
