//! Properties of the normal form of paths.
#![allow(clippy::unwrap_used)]

use portcullis_decide::path::{PathRefusal, normalize};
use proptest::prelude::*;

/// Texts in which everything that matters occurs often.
fn raw() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", ".", ".", "..", "a", "b", "%2e", "%2E", "%2f", "%2F", "%5c", "%5C", "%3b", "%3B", ";", ";x",
        "%25", "%41", "%7e", "%20", "%C3%A9", "%00", "%0a", "%", "%4", "%zz", "\\", " ", "?", "#", "{", "|", "é",
        "\u{7f}", "-", "_", "~", "+", ":", "@", "=", "%2525", "*",
    ]);
    prop_oneof![
        8 => prop::collection::vec(piece, 0..14).prop_map(|pieces| format!("/{}", pieces.concat())),
        1 => any::<String>(),
        1 => "[ -~]{0,20}",
    ]
}

/// The segments that a server sees which decodes everything once.
fn decoded(path: &str) -> Vec<u8> {
    let bytes = path.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let digits = path.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// The normal form, written down again in several passes; refusals are not told apart.
fn slowly(raw: &str) -> Option<String> {
    if raw == "*" {
        return Some(raw.into());
    }
    let mut text = String::new();
    let mut rest = raw.strip_prefix('/')?;
    while let Some(first) = rest.chars().next() {
        match first {
            '%' => {
                let digits = rest.get(1..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
                let byte = u8::from_str_radix(digits, 16).ok()?;
                match char::from(byte) {
                    c if c.is_ascii_control() => return None,
                    c if c.is_ascii_alphanumeric() || "-._~".contains(c) => text.push(c),
                    _ => text.push_str(&format!("%{byte:02X}")),
                }
                rest = &rest[3..];
                continue;
            }
            '"' | '<' | '>' | '[' | ']' | '^' | '`' | '{' | '|' | '}' => {
                text.push_str(&format!("%{:02X}", first as u32))
            }
            ' ' | '?' | '#' | '\\' => return None,
            _ if first.is_ascii_control() || !first.is_ascii() => return None,
            _ => text.push(first),
        }
        rest = &rest[first.len_utf8()..];
    }
    let mut segments = Vec::new();
    let all: Vec<_> = text.split('/').collect();
    for segment in &all {
        let parts: Vec<_> = segment.split("%2F").flat_map(|part| part.split("%5C")).collect();
        for part in &parts {
            let name = part.split(';').flat_map(|part| part.split("%3B")).next().unwrap();
            let is_dot = matches!(name, "." | "..");
            if is_dot && (name != *part || parts.len() > 1) {
                return None;
            }
        }
        match *segment {
            "" | "." => {}
            ".." => drop(segments.pop()?),
            name => segments.push(name),
        }
    }
    let slash = matches!(*all.last().unwrap(), "" | "." | "..") && !segments.is_empty();
    Some(format!("/{}{}", segments.join("/"), if slash { "/" } else { "" }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn as_written_down_again(raw in raw()) {
        let normal = normalize(&raw).ok().map(|path| path.into_owned());
        prop_assert_eq!(normal, slowly(&raw), "{}", raw);
    }

    #[test]
    fn idempotent(raw in raw()) {
        if let Ok(normal) = normalize(&raw) {
            prop_assert_eq!(normalize(&normal), Ok(normal.clone()));
            prop_assert!(normal.len() <= raw.len() * 3);
        }
    }

    #[test]
    fn a_server_that_decodes_once_sees_the_same_segments(raw in raw()) {
        let Ok(normal) = normalize(&raw) else { return Ok(()) };
        prop_assert!(normal == "*" || normal.starts_with('/'));
        prop_assert!(normal.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'?' | b'#')));
        prop_assert!(!normal.contains("//"));
        let decoded = decoded(&normal);
        prop_assert!(!decoded.iter().any(u8::is_ascii_control));
        for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
            let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
            prop_assert!(name != b"." && name != b"..", "{} {}", raw, normal);
        }
        prop_assert!(http::uri::PathAndQuery::try_from(&*normal).is_ok(), "{}", normal);
    }
}

#[test]
fn every_refusal_has_its_own_name() {
    let mut names: Vec<_> = PathRefusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
    names.dedup();
    assert_eq!(names.len(), PathRefusal::ALL.len());
}
