//! Writing foreign text: the one place through which text of objects and requests reaches a log, a metric or a terminal.
//!
//! In flow bytes that anybody may have chosen. Out flows valid UTF-8 on one line, without a control character,
//! without a character that changes the direction of text or hides, and cut at a stated length with a mark.

use std::borrow::Cow;
use std::fmt;

/// How many bytes of one foreign text are shown unless the caller says otherwise.
pub const FOREIGN_TEXT_LIMIT: usize = 1024;

/// Appends `text` as the inside of a JSON string (without the quotes), at most `limit` bytes of it.
///
/// Invalid UTF-8 becomes `\ufffd`. When text was cut, `…(+N bytes)` follows.
pub fn json_into(out: &mut Vec<u8>, text: &[u8], limit: usize) {
    escape_into(out, text, limit, Style::Json);
}

/// Appends `text` as a piece of one line, at most `limit` bytes of it: as in JSON, but quotes stay as they are.
pub fn line_into(out: &mut Vec<u8>, text: &[u8], limit: usize) {
    escape_into(out, text, limit, Style::Line);
}

/// Appends `text` as the inside of a label value (OpenMetrics 1.0, "escaped-string"), at most `limit` bytes of it.
///
/// That format knows the escapes `\\`, `\"` and `\n` only; other control characters appear as the text `\u001b`, its
/// backslash escaped.
pub fn label_into(out: &mut Vec<u8>, text: &[u8], limit: usize) {
    escape_into(out, text, limit, Style::Label);
}

/// `text` as a piece of one line, cut at [`FOREIGN_TEXT_LIMIT`]; borrowed when there is nothing to escape.
pub fn line(text: &str) -> Cow<'_, str> {
    if text.len() <= FOREIGN_TEXT_LIMIT && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len().min(FOREIGN_TEXT_LIMIT) + 16);
    line_into(&mut out, text.as_bytes(), FOREIGN_TEXT_LIMIT);
    Cow::Owned(into_text(out))
}

/// Shows foreign text in a format string: `write!(f, "{}", Foreign(name))`.
#[derive(Clone, Copy, Debug)]
pub struct Foreign<'a>(pub &'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line(self.0))
    }
}

/// The text that the writers of this module produced.
pub(crate) fn into_text(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Json,
    Line,
    Label,
}

fn escape_into(out: &mut Vec<u8>, text: &[u8], limit: usize, style: Style) {
    // Nearly every text; looked at as a whole, because that is done many bytes at a time.
    if text.len() <= limit && text.iter().fold(true, |plain, byte| plain & is_plain(*byte)) {
        out.extend_from_slice(text);
        return;
    }
    let kept = &text[..boundary(text, limit)];
    for chunk in kept.utf8_chunks() {
        escape_valid(out, chunk.valid(), style);
        if !chunk.invalid().is_empty() {
            escape_code(out, char::REPLACEMENT_CHARACTER, style);
        }
    }
    if kept.len() < text.len() {
        out.extend_from_slice("…(+".as_bytes());
        out.extend_from_slice(itoa::Buffer::new().format(text.len() - kept.len()).as_bytes());
        out.extend_from_slice(b" bytes)");
    }
}

/// Where to cut so that no character is split: at `limit` or up to three bytes before.
fn boundary(text: &[u8], limit: usize) -> usize {
    if text.len() <= limit {
        return text.len();
    }
    (limit.saturating_sub(3)..=limit).rev().find(|end| text[*end] & 0xC0 != 0x80).unwrap_or(limit)
}

fn escape_valid(out: &mut Vec<u8>, text: &str, style: Style) {
    let mut rest = text;
    while let Some(position) = rest.bytes().position(|byte| !is_plain(byte)) {
        out.extend_from_slice(&rest.as_bytes()[..position]);
        rest = &rest[position..];
        let Some(character) = rest.chars().next() else { return };
        escape_char(out, character, style);
        rest = &rest[character.len_utf8()..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Printable ASCII that no style escapes.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7E) && byte != b'"' && byte != b'\\'
}

fn escape_char(out: &mut Vec<u8>, character: char, style: Style) {
    match (character, style) {
        ('"', Style::Line) => out.push(b'"'),
        ('"', _) => out.extend_from_slice(br#"\""#),
        ('\\', _) => out.extend_from_slice(br"\\"),
        ('\n', _) => out.extend_from_slice(br"\n"),
        ('\r', Style::Json | Style::Line) => out.extend_from_slice(br"\r"),
        ('\t', Style::Json | Style::Line) => out.extend_from_slice(br"\t"),
        _ if is_hidden(character) => escape_code(out, character, style),
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Control characters (C0, DEL, C1), line separators, and characters that reorder or hide text in a terminal.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061C}' | '\u{180E}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}'
        )
}

fn escape_code(out: &mut Vec<u8>, character: char, style: Style) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for unit in character.encode_utf16(&mut [0; 2]) {
        if style == Style::Label {
            out.push(b'\\');
        }
        out.extend_from_slice(br"\u");
        for shift in [12, 8, 4, 0] {
            out.push(HEX[usize::from(*unit >> shift & 0xF)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: fn(&mut Vec<u8>, &[u8], usize), text: &[u8], limit: usize) -> String {
        let mut out = Vec::new();
        write(&mut out, text, limit);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_table() {
        let cases: [(&[u8], &str); 12] = [
            (b"", ""),
            (b"plain text", "plain text"),
            (br#"say "hi""#, r#"say \"hi\""#),
            (br"C:\x", r"C:\\x"),
            (b"a\nb\r\tc", r"a\nb\r\tc"),
            (b"\x1b[31mred\0", r"\u001b[31mred\u0000"),
            (b"\x7f", r"\u007f"),
            ("grün 日本 🦀".as_bytes(), "grün 日本 🦀"),
            ("\u{85}\u{2028}\u{202e}".as_bytes(), r"\u0085\u2028\u202e"),
            ("\u{E0041}".as_bytes(), r"\udb40\udc41"),
            (b"bad \xff\xfe end", r"bad \ufffd\ufffd end"),
            (b"\xe6\x97", r"\ufffd"),
        ];
        for (text, expected) in cases {
            assert_eq!(written(json_into, text, 100), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_keep_quotes_and_labels_know_three_escapes() {
        assert_eq!(written(line_into, b"say \"hi\"\n", 100), "say \"hi\"\\n");
        assert_eq!(written(label_into, b"a\"b\\c\nd\x1be\r", 100), r#"a\"b\\c\nd\\u001be\\u000d"#);
    }

    #[test]
    fn cut_between_characters_and_marked() {
        assert_eq!(written(json_into, b"abcdef", 6), "abcdef");
        assert_eq!(written(json_into, b"abcdefg", 6), "abcdef…(+1 bytes)");
        assert_eq!(written(json_into, "aé".as_bytes(), 2), "a…(+2 bytes)");
        assert_eq!(written(json_into, "🦀🦀".as_bytes(), 7), "🦀…(+4 bytes)");
        assert_eq!(written(json_into, b"\x80\x80\x80\x80\x80\x80", 4), r"\ufffd\ufffd\ufffd\ufffd…(+2 bytes)");
        assert_eq!(written(json_into, b"abc", 0), "…(+3 bytes)");
    }

    #[test]
    fn plain_lines_are_borrowed() {
        assert!(matches!(line("gateway/edge"), Cow::Borrowed(_)));
        assert_eq!(Foreign("a\u{1b}b").to_string(), r"a\u001bb");
        assert_eq!(Foreign(&"x".repeat(2000)).to_string(), format!("{}…(+976 bytes)", "x".repeat(1024)));
    }

    proptest! {
        #[test]
        fn json_is_always_one_valid_string(text in proptest::collection::vec(any::<u8>(), 0..200), limit in 0usize..250) {
            let inside = written(json_into, &text, limit);
            prop_assert!(!inside.chars().any(char::is_control));
            let parsed: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
            if text.len() <= limit {
                prop_assert_eq!(parsed, String::from_utf8_lossy(&text));
            }
        }

        #[test]
        fn lines_and_labels_never_hold_control_characters(text in any::<String>(), limit in 0usize..100) {
            for write in [line_into, label_into] {
                let out = written(write, text.as_bytes(), limit);
                prop_assert!(!out.chars().any(is_hidden), "{out:?}");
            }
        }
    }
}
