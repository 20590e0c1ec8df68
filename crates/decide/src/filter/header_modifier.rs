//! RequestHeaderModifier and ResponseHeaderModifier: `set`, then `add`, then `remove`.
//!
//! `add` appends a further line of the header, which RFC 9110 5.3 makes equal to a list joined by commas. Headers that
//! frame the message or belong to one connection cannot be changed, nor can a request's Host (URLRewrite is for that):
//! a filter that tries is refused as a whole.

use http::HeaderMap;
use http::header::{HOST, HeaderName, HeaderValue};
use portcullis_model::{FRAMING_HEADERS, HeaderModifier, HeaderValueEntry};

/// Changes of headers.
#[derive(Debug)]
pub(crate) struct HeaderChanges {
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
    remove: Box<[HeaderName]>,
}

impl HeaderChanges {
    pub(crate) fn of_request(modifier: &HeaderModifier) -> Result<Self, String> {
        Self::new(modifier, |name| match *name == HOST {
            true => Err("the Host is changed by a URLRewrite filter, not by a header modifier".into()),
            false => of_message(name),
        })
    }

    pub(crate) fn of_response(modifier: &HeaderModifier) -> Result<Self, String> {
        Self::new(modifier, of_message)
    }

    fn new(modifier: &HeaderModifier, check: impl Fn(&HeaderName) -> Result<(), String>) -> Result<Self, String> {
        let name = |text: &str| {
            let name = HeaderName::from_bytes(text.as_bytes())
                .map_err(|_| format!("\"{}\" is not a header name", text.escape_default()))?;
            check(&name).map(|()| name)
        };
        let entry = |entry: &HeaderValueEntry| {
            let value = HeaderValue::from_bytes(entry.value.as_bytes())
                .map_err(|_| format!("the value of {} holds a control character", entry.name.escape_default()))?;
            Ok((name(&entry.name)?, value))
        };
        Ok(Self {
            set: modifier.set.iter().map(entry).collect::<Result<_, String>>()?,
            add: modifier.add.iter().map(entry).collect::<Result<_, String>>()?,
            remove: modifier.remove.iter().map(|text| name(text)).collect::<Result<_, String>>()?,
        })
    }

    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

/// Refuses what frames a message or belongs to one connection (RFC 9110 7.6.1).
fn of_message(name: &HeaderName) -> Result<(), String> {
    match FRAMING_HEADERS.contains(&name.as_str()) {
        true => Err(format!("{name} belongs to the connection or frames the message and cannot be changed")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::HeaderChanges;
    use http::{HeaderMap, HeaderName, HeaderValue};
    use portcullis_model::{HeaderModifier, HeaderValueEntry};

    fn entry(name: &str, value: &str) -> HeaderValueEntry {
        HeaderValueEntry { name: name.into(), value: value.into() }
    }

    #[test]
    fn set_add_remove() {
        let changes = HeaderChanges::of_request(&HeaderModifier {
            set: vec![entry("x-set", "new"), entry("x-set-absent", "new")],
            add: vec![entry("x-add", "b,c"), entry("x-add-absent", "d")],
            remove: vec!["x-remove".into(), "x-absent".into()],
        })
        .unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-set", "1"), ("x-set", "2"), ("x-add", "a"), ("x-remove", "1"), ("x-keep", "1")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        changes.apply(&mut headers);
        for (name, values) in [
            ("x-set", vec!["new"]),
            ("x-set-absent", vec!["new"]),
            ("x-add", vec!["a", "b,c"]),
            ("x-add-absent", vec!["d"]),
            ("x-remove", vec![]),
            ("x-keep", vec!["1"]),
        ] {
            assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), values, "{name}");
        }
    }

    #[test]
    fn refused() {
        let set = |name, value| HeaderModifier { set: vec![entry(name, value)], ..Default::default() };
        for modifier in [
            set("host", "a"),
            set("content-length", "0"),
            set("transfer-encoding", "chunked"),
            set("connection", "close"),
            set("upgrade", "x"),
            set("keep-alive", "1"),
            set(":path", "/"),
            set("x y", "1"),
            set("", "1"),
            set("x", "a\r\nb: c"),
            set("x", "a\0"),
            HeaderModifier { add: vec![entry("te", "trailers")], ..Default::default() },
            HeaderModifier { remove: vec!["host".into()], ..Default::default() },
        ] {
            assert!(HeaderChanges::of_request(&modifier).is_err(), "{modifier:?}");
        }
        assert!(HeaderChanges::of_response(&set("content-length", "0")).is_err());
        assert!(HeaderChanges::of_response(&set("host", "a")).is_ok());
    }
}
