//! What must hold for any input: called by the property tests and by the fuzz targets. A panic is a mistake of ours.

use super::build::Request;
use super::naive::{self, Outcome};
use super::world::{self, Source};
use portcullis_decide::path::normalize;
use portcullis_decide::{Linked, Need, Step};

/// Makes a configuration of three quarters of the bytes and requests of the rest, and compares with the naive matcher.
pub fn matcher(data: &[u8]) {
    let (config, requests) = data.split_at(data.len() / 4 * 3);
    let config = world::config(&mut Source(config));
    let linked = Linked::link(&config, None);
    for request in requests.chunks(24) {
        let request = world::request(&mut Source(request));
        assert_eq!(decide(&linked, &request), naive::decide(&config, &request), "{request:?}");
    }
}

/// What the real matcher says, in the naive one's words.
pub fn decide(linked: &Linked, request: &Request) -> Outcome {
    if linked.port(request.port).is_none() {
        return Outcome::Status(404);
    }
    let matched = match request.send(linked) {
        Step::Need(Need::Backend(forward)) => forward.matched,
        Step::Done(answer) => match answer.matched {
            Some(matched) => matched,
            None => return Outcome::Status(answer.status.as_u16()),
        },
    };
    Outcome::Rule {
        listener: matched.listener.key.to_string(),
        route: matched.route.key.to_string(),
        rule: matched.rule.index,
        match_index: matched.match_index,
    }
}

/// Reads the bytes as a path, if they are a text.
pub fn normalizer(data: &[u8]) {
    if let Ok(raw) = std::str::from_utf8(data) {
        normal_form(raw);
    }
}

pub fn normal_form(raw: &str) {
    let normal = normalize(raw);
    assert_eq!(normal.as_deref().ok(), slowly(raw).as_deref(), "{raw:?}");
    let Ok(normal) = normal else { return };
    assert_eq!(normalize(&normal).as_deref(), Ok(&*normal), "{raw:?}: idempotent");
    assert!(normal.len() <= raw.len() * 3);
    assert!(normal == "*" || normal.starts_with('/'));
    assert!(normal.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'?' | b'#')));
    assert!(!normal.contains("//"));
    assert!(http::uri::PathAndQuery::try_from(&*normal).is_ok() || normal.len() > 60_000, "{normal:?}");

    let decoded = decoded(&normal);
    assert!(!decoded.iter().any(u8::is_ascii_control));
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        assert!(name != b"." && name != b"..", "{raw:?} {normal:?}");
    }
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
