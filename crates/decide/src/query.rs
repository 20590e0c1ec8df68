//! The parameters of a query, read when a match asks for one.
//!
//! `&` separates parameters and the first `=` the name from the value. Percent-encodings are decoded, `+` is a space, a
//! broken encoding is data. Of a repeated parameter only the first value counts, as the specification recommends.

use smallvec::SmallVec;
use std::borrow::Cow;

/// The first value of each parameter.
#[derive(Debug, Default)]
pub(crate) struct Query<'a>(SmallVec<[Parameter<'a>; 8]>);

/// Name and value, decoded.
type Parameter<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

impl<'a> Query<'a> {
    pub(crate) fn new(query: Option<&'a str>) -> Self {
        let mut parameters: SmallVec<[Parameter<'a>; 8]> = query
            .unwrap_or_default()
            .as_bytes()
            .split(|byte| *byte == b'&')
            .filter(|part| !part.is_empty())
            .map(|part| match memchr::memchr(b'=', part) {
                Some(at) => (decode(&part[..at]), decode(&part[at + 1..])),
                None => (decode(part), Cow::Borrowed(&[][..])),
            })
            .collect();
        // Stable, so the first of equal names stays the first.
        parameters.sort_by(|(a, _), (b, _)| a.cmp(b));
        parameters.dedup_by(|(later, _), (first, _)| later == first);
        Self(parameters)
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let at = self.0.binary_search_by(|(candidate, _)| (**candidate).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// Names and values, in the order of the names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let digits = || Some((digit(*text.get(at + 1)?)?, digit(*text.get(at + 2)?)?));
        match (byte, if byte == b'%' { digits() } else { None }) {
            (_, Some((high, low))) => {
                out.push(high << 4 | low);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(out)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::Query;

    #[test]
    fn the_first_value_counts() {
        let query = Query::new(Some("b=2&a=1&a=3&&c&d=x=y&%61a=%20+%zz%&=e"));
        for (name, value) in [
            ("a", Some("1")),
            ("b", Some("2")),
            ("c", Some("")),
            ("d", Some("x=y")),
            ("aa", Some("  %zz%")),
            ("", Some("e")),
            ("A", None),
            ("e", None),
        ] {
            assert_eq!(query.get(name.as_bytes()), value.map(str::as_bytes), "{name}");
        }
        assert_eq!(Query::new(None).iter().count(), 0);
        assert_eq!(Query::new(Some("")).iter().count(), 0);
    }
}
