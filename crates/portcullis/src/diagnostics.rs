//! Showing what is wrong in files: each diagnostic with its source line, on standard error.

use crate::output;
use portcullis_api::diagnostic::{Diagnostic, Severity, Style};
use portcullis_folder::Folder;
use std::collections::HashMap;

/// The most diagnostics that are shown one by one.
const MAX_SHOWN: usize = 200;

/// Prints the diagnostics; notes only when asked for.
pub(crate) fn show(folder: &Folder, diagnostics: &[Diagnostic], notes: bool) {
    let style = if output::coloured() { Style::Coloured } else { Style::Plain };
    let mut texts: HashMap<&str, String> = HashMap::new();
    let shown: Vec<&Diagnostic> =
        diagnostics.iter().filter(|diagnostic| notes || diagnostic.severity > Severity::Note).collect();
    for diagnostic in shown.iter().take(MAX_SHOWN) {
        let text =
            texts.entry(&diagnostic.source).or_insert_with(|| folder.text(&diagnostic.source).unwrap_or_default());
        output::problem(&format!("{}\n", diagnostic.render(text, style)));
    }
    if shown.len() > MAX_SHOWN {
        output::problem(&format!("... and {} more\n", shown.len() - MAX_SHOWN));
    }
}

/// Whether anything among them is an error.
pub(crate) fn any_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}
