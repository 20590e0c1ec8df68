//! Foreign text made fit for a terminal, a log or a condition.

use std::fmt::Write as _;

use crate::text::is_harmless;

/// `text` without anything that could steer a terminal or reorder what is read, in at most `max`
/// characters.
///
/// Control characters (C0, DEL, C1), line and paragraph separators, bidirectional controls, invisible
/// characters are written as `\n`, `\t`, `\r` or `\u{1b}`. What is cut
/// off is replaced by `…`.
pub fn escape_foreign_text(text: &str, max: usize) -> String {
    let mut escaped = String::with_capacity(text.len().min(max));
    let mut length = 0;
    for character in text.chars() {
        let before = escaped.len();
        push_escaped(&mut escaped, character);
        length += escaped[before..].chars().count();
        if length > max {
            escaped.truncate(before);
            escaped.push('…');
            return escaped;
        }
    }
    escaped
}

/// Appends one character, escaped when it must not reach a terminal.
pub(super) fn push_escaped(out: &mut String, character: char) {
    match character {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ if !is_harmless(character) => {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
        }
        _ => out.push(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_controls_passes() {
        let cases = [
            ("plain text", "plain text"),
            ("Grüße, 世界", "Grüße, 世界"),
            ("a\x1b[31mred", "a\\u{1b}[31mred"),
            ("line\r\nline\t", "line\\r\\nline\\t"),
            ("\u{9b}31m\u{7f}\0", "\\u{9b}31m\\u{7f}\\u{0}"),
            ("user\u{202e}txt.exe", "user\\u{202e}txt.exe"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
        ];
        for (text, expected) in cases {
            assert_eq!(escape_foreign_text(text, 100), expected);
        }
    }

    #[test]
    fn is_cut_at_the_stated_length() {
        assert_eq!(escape_foreign_text("abcdef", 6), "abcdef");
        assert_eq!(escape_foreign_text("abcdef", 5), "abcde…");
        assert_eq!(escape_foreign_text("ab\x1bcdef", 5), "ab…", "an escape is never cut in half");
        assert_eq!(escape_foreign_text("", 0), "");
    }
}
