//! Where one document of a YAML stream ends and the next one begins.
//!
//! A line that begins with `---` is a separator wherever it stands: YAML forbids it inside of scalars too
//! (YAML 1.2.2, section 9.1.2, `c-forbidden`). So the text can be split before it is understood, as kubectl
//! does, and a broken document ends at the next separator.

use std::ops::Range;

use super::Position;

/// A document's text, with its separator, comments and directives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) range: Range<usize>,
    /// The number of its first line in the file, from 1.
    pub(super) first_line: u32,
}

/// The documents of `text`, in order.
pub(super) fn documents(text: &str) -> impl Iterator<Item = Piece> {
    let mut start = 0;
    let mut line = 1;
    std::iter::from_fn(move || {
        if start >= text.len() {
            return None;
        }
        let (end, lines) = document_end(&text[start..]);
        let piece = Piece { range: start..start + end, first_line: line };
        start += end;
        line += lines;
        Some(piece)
    })
}

/// The length of the first document of `text`, and its number of lines.
fn document_end(text: &str) -> (usize, u32) {
    let mut offset = 0;
    let mut lines = 0;
    // Comments and directives belong to the document that they precede.
    let mut has_content = false;
    for line in text.split_inclusive('\n') {
        if is_marker(line, "---") {
            if has_content {
                return (offset, lines);
            }
            has_content = true;
        } else if is_marker(line, "...") {
            return (offset + line.len(), lines + 1);
        } else if !has_content {
            let start = line.trim_start();
            has_content = !(start.is_empty() || start.starts_with('#') || line.starts_with('%'));
        }
        offset += line.len();
        lines += 1;
    }
    (offset, lines)
}

/// Where the content of a document starts: after its separator, comments and directives. Counts from the
/// document's start.
pub(super) fn content_start(text: &str) -> Position {
    for (line, content) in text.split('\n').enumerate() {
        let rest = if is_marker(content, "---") { &content[3..] } else { content };
        let start = rest.trim_start();
        if !(start.is_empty() || start.starts_with('#') || content.starts_with('%')) {
            let before = &content[..content.len() - start.len()];
            return Position { line: line as u32 + 1, column: before.chars().count() as u32 + 1 };
        }
    }
    Position { line: 1, column: 1 }
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_starts_after_comments() {
        for (text, line, column) in [
            ("a: 1", 1, 1),
            ("---\na: 1", 2, 1),
            ("# x\n\n%YAML 1.2\n--- # y\n  a: 1", 5, 3),
            ("--- {a: 1}", 1, 5),
            ("", 1, 1),
            ("# only\n", 1, 1),
        ] {
            assert_eq!(content_start(text), Position { line, column }, "{text:?}");
        }
    }

    #[test]
    fn documents_of_a_stream() {
        let cases: [(&str, &[(&str, u32)]); 10] = [
            ("", &[]),
            ("a: 1\n", &[("a: 1\n", 1)]),
            ("a: 1\n---\nb: 2\n", &[("a: 1\n", 1), ("---\nb: 2\n", 2)]),
            ("---\na: 1\n---\n---\nb: 2", &[("---\na: 1\n", 1), ("---\n", 3), ("---\nb: 2", 4)]),
            ("# note\n---\na: 1\n", &[("# note\n---\na: 1\n", 1)]),
            ("%YAML 1.1\n---\na: 1\n", &[("%YAML 1.1\n---\na: 1\n", 1)]),
            ("a: 1\n...\nb: 2\n", &[("a: 1\n...\n", 1), ("b: 2\n", 3)]),
            ("a: |\n  ---\n  x\n---\nb: 2", &[("a: |\n  ---\n  x\n", 1), ("---\nb: 2", 4)]),
            ("a: 1\r\n---\r\nb: 2\r\n", &[("a: 1\r\n", 1), ("---\r\nb: 2\r\n", 2)]),
            ("a: 1\n--- # next\nb: 2\n----\n", &[("a: 1\n", 1), ("--- # next\nb: 2\n----\n", 2)]),
        ];
        for (text, expected) in cases {
            let found: Vec<(&str, u32)> =
                documents(text).map(|piece| (&text[piece.range.clone()], piece.first_line)).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
