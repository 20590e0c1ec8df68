//! Which part of a source line may be shown when its document holds a Secret.
//!
//! The document may be broken, so this looks at the text and not at the object, and shows a line only
//! when it is sure: the name of a field, never a value, outside of a Secret's head.

use super::SourceText;

/// What may be shown of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Visible<'a> {
    /// All of it.
    Whole,
    /// The name of the field at most.
    Key(&'a str),
}

/// Fields whose values are not secret, when they stand outside of `data` and `stringData`.
const OPEN_FIELDS: [&str; 7] = ["apiVersion", "kind", "metadata", "name", "namespace", "type", "immutable"];

/// What may be shown of line `index` (from 0) of `text`. `is_secret`: the line is known to be of a Secret.
pub(super) fn visible_part<'t>(text: &SourceText<'t>, index: usize, is_secret: bool) -> Visible<'t> {
    let Some(line) = text.line(index) else {
        return Visible::Key("");
    };
    let line_at = |at: usize| text.line(at).unwrap_or_default();
    let start = (0..=index).rev().find(|&at| is_separator(line_at(at))).unwrap_or(0);
    let end = (index + 1..text.count()).find(|&at| is_separator(line_at(at))).unwrap_or(text.count());
    let mut document = (start..end).map(line_at);
    if !is_secret && !document.any(|line| names_a_secret(line) || line.contains("PRIVATE KEY")) {
        return Visible::Whole;
    }

    let Some((key, value)) = field_of(line) else {
        return Visible::Key("");
    };
    let open = OPEN_FIELDS.contains(&key) && !value.starts_with(['{', '[', '|', '>', '&', '*']);
    if open && !inside_data((start..=index).map(line_at)) {
        return Visible::Whole;
    }
    // Under `data` even a key may be a value gone astray: only well-known shapes are shown.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_key = key.len() <= 63 && key.bytes().all(is_name) && !value.is_empty();
    Visible::Key(if is_key { key } else { "" })
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r']))
}

/// Whether a line says `kind: Secret`, in any notation that YAML or JSON has for it, or could.
fn names_a_secret(line: &str) -> bool {
    line.contains("Secret") && (line.contains("kind") || line.trim().trim_matches(['"', '\'', ',']) == "Secret")
        || line.trim_start().trim_start_matches(['"', '\'']).starts_with("stringData")
}

/// The key and the value of a block-style `key: value` line.
fn field_of(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let key = key.trim_start_matches(['-', ' ', '\t']).trim_matches(['"', '\'', ' ']);
    Some((key, value.trim()))
}

/// Whether the last line may stand under `data` or `stringData`: it comes after such a line, and no field of
/// the same or a smaller indentation has ended that block since.
fn inside_data<'t>(lines: impl Iterator<Item = &'t str>) -> bool {
    let mut data: Option<usize> = None;
    for line in lines {
        let text = line.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let indentation = line.len() - text.len();
        let key = field_of(line).map(|(key, _)| key);
        if data.is_some_and(|data| indentation <= data) && !text.starts_with(['}', ']', '"', '\'']) {
            data = None;
        }
        if line.contains('{') && (line.contains("data") || line.contains("stringData")) {
            // Flow style does not end by indentation.
            return true;
        }
        if data.is_none() && matches!(key, Some("data" | "stringData")) {
            data = Some(indentation);
        }
    }
    data.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "apiVersion: v1
kind: Secret
metadata:
  name: shop-cert
  annotations:
    note: hunter2
stringData:
  password: hunter2
  name: hunter2
  key: |
    hunter2
type: Opaque
---
kind: Service
metadata: {name: hunter2}
";

    #[test]
    fn no_line_shows_a_value_of_a_secret() {
        for (index, line) in SECRET.split('\n').enumerate().take(12) {
            match visible_part(&SourceText::new(SECRET), index, false) {
                Visible::Whole => assert!(!line.contains("hunter2"), "line {index} is shown: {line}"),
                Visible::Key(key) => assert!(!key.contains("hunter2"), "line {index}: {key}"),
            }
        }
        assert_eq!(visible_part(&SourceText::new(SECRET), 3, false), Visible::Whole);
        assert_eq!(visible_part(&SourceText::new(SECRET), 7, false), Visible::Key("password"));
        assert_eq!(visible_part(&SourceText::new(SECRET), 11, false), Visible::Whole);
        assert_eq!(visible_part(&SourceText::new(SECRET), 14, false), Visible::Whole, "another document of the file");
    }

    #[test]
    fn other_notations_of_a_secret() {
        let cases = [
            "{\"apiVersion\": \"v1\", \"kind\": \"Secret\",\n \"data\": {\n \"name\": \"hunter2\"}}",
            "kind:\n  Secret\ndata: {\n  name: hunter2 }",
            "kind: Secret\nstringData: {a: b,\n  name: hunter2 }",
            "stringData:\n  name: hunter2\nkind: \"Secr\\u0065t\"",
            "kind: List\nitems:\n- kind: Secret\n  data:\n    type: hunter2",
            "kind: ConfigMap\ndata:\n  key: |\n    -----BEGIN PRIVATE KEY-----\n    hunter2",
        ];
        for text in cases {
            let index = text.split('\n').position(|line| line.contains("hunter2")).unwrap();
            match visible_part(&SourceText::new(text), index, false) {
                Visible::Whole => panic!("shown: {text}"),
                Visible::Key(key) => assert!(!key.contains("hunter2"), "{text}"),
            }
        }
    }
}
