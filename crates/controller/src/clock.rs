//! The time of day as the API server writes it. Only ever written and shown: what must last is measured by the monotonic clock.

use time::OffsetDateTime;

/// RFC 3339 with seconds, as `metav1.Time`.
pub(crate) fn now() -> String {
    seconds(OffsetDateTime::now_utc())
}

/// RFC 3339 with microseconds, as `metav1.MicroTime`.
pub(crate) fn now_micro() -> String {
    let now = OffsetDateTime::now_utc();
    let text = seconds(now);
    format!("{}.{:06}Z", text.trim_end_matches('Z'), now.microsecond())
}

/// Seconds since 1970-01-01T00:00:00Z.
pub(crate) fn unix() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn seconds(time: OffsetDateTime) -> String {
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_api_server_does() {
        let time = OffsetDateTime::from_unix_timestamp(1_772_332_205).unwrap();
        assert_eq!(seconds(time), "2026-03-01T02:30:05Z");
        assert_eq!(now_micro().len(), "2026-03-01T02:30:05.000000Z".len());
    }
}
