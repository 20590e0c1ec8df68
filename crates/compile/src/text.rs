//! Texts in messages: everything that comes from an object is escaped and cut, lists are bounded.

use std::fmt::Display;

use portcullis_api::{Extra, Foreign};
use portcullis_model::ObjectName;

/// How many entries of a list a message spells out.
const LISTED: usize = 8;

/// `namespace/name`, escaped.
pub(crate) fn shown(name: &ObjectName) -> String {
    format!("{}/{}", Foreign(&name.namespace), Foreign(&name.name))
}

/// A kind with its group, as in `Gateway.gateway.networking.k8s.io`; the core group has no name. Escaped.
pub(crate) fn group_kind(group: &str, kind: &str) -> String {
    if group.is_empty() { Foreign(kind).to_string() } else { format!("{}.{}", Foreign(kind), Foreign(group)) }
}

/// The entries with a separator; what is beyond the bound is counted.
pub(crate) fn joined<T: Display>(entries: &[T], separator: &str) -> String {
    let mut text = entries.iter().take(LISTED).map(ToString::to_string).collect::<Vec<_>>().join(separator);
    if entries.len() > LISTED {
        text.push_str(&format!("{separator}and {} more", entries.len() - LISTED));
    }
    text
}

/// The name of a field that the types do not know, if there is one.
pub(crate) fn unknown_field(extra: &Extra) -> Option<&str> {
    extra.iter().next().map(|(name, _)| name)
}

/// Seconds since 1970 of a `metadata.creationTimestamp` (RFC 3339, in UTC); nothing for any other text.
pub(crate) fn seconds(timestamp: &str) -> Option<i64> {
    let (date, time) = timestamp.strip_suffix(['Z', 'z'])?.split_once(['T', 't'])?;
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !in_range || year > 9999 {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut number = || {
        let part = parts.next()?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u16>().ok().map(i64::from)).flatten()
    };
    let numbers = [number()?, number()?, number()?];
    parts.next().is_none().then_some(numbers)
}

/// Days of the proleptic Gregorian calendar, with years that begin in March so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn reads_timestamps() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2020-09-08T01:02:03Z", Some(1_599_526_923)),
            ("2024-02-29T12:00:00Z", Some(1_709_208_000)),
            ("2024-02-29T12:00:00.123456Z", Some(1_709_208_000)),
            ("0000-01-01T00:00:00Z", Some(-62_167_219_200)),
            ("2020-09-08T01:02:03+02:00", None),
            ("2020-13-08T01:02:03Z", None),
            ("2020-9-8", None),
            ("+020-09-08T01:02:03Z", None),
            ("", None),
            ("TZ", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
