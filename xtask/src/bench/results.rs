//! bench/RESULTS.md: the results of several benches, each in a section that it alone writes.
//!
//! What flows in: a section's name and text. What flows out: the file, its other sections as they were.

use crate::step::{root, say};
use std::fs;

const HEAD: &str = "# Portcullis beside its peers, measured\n\nWritten by `cargo xtask bench NAME --write`, each section by its bench. The control plane's \
results are in [CONTROL.md](CONTROL.md).\n";

/// Writes a section.
pub(super) fn write(section: &str, text: &str) -> Result<(), String> {
    let file = root().join("bench/RESULTS.md");
    let before = fs::read_to_string(&file).unwrap_or_else(|_| HEAD.to_owned());
    fs::write(&file, put(&before, section, text)).map_err(|error| format!("{}: {error}", file.display()))?;
    say(&format!("{} is written", file.display()));
    Ok(())
}

fn put(before: &str, section: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {section} -->"), format!("<!-- end of {section} -->"));
    let new = format!("{begin}\n{}\n{end}", text.trim_end());
    match (before.find(&begin), before.find(&end)) {
        (Some(from), Some(to)) if from < to => format!("{}{new}{}", &before[..from], &before[to + end.len()..]),
        _ => format!("{}\n\n{new}\n", before.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::put;

    #[test]
    fn a_section_is_added_and_replaced_and_others_stay() {
        let one = put("# Head\n", "one", "first\n");
        assert_eq!(one, "# Head\n\n<!-- one -->\nfirst\n<!-- end of one -->\n");
        let both = put(&one, "two", "second");
        let changed = put(&both, "one", "third");
        assert!(!changed.contains("first") && changed.contains("third") && changed.contains("second"), "{changed}");
        assert_eq!(put(&changed, "one", "third"), changed);
    }
}
