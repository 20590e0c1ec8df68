//! One JSON object on one line, written into a buffer without an allocation of its own.
//!
//! In flow fields in the order in which they shall stand. Out flows `{…}` and a newline, valid whatever the texts hold.

use std::time::Duration;

use crate::escape::{self, FOREIGN_TEXT_LIMIT};

/// Writes the fields of one JSON object; [`JsonLine::write`] opens and closes it.
#[derive(Debug)]
pub struct JsonLine<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl JsonLine<'_> {
    /// Appends one object and a newline to `out`.
    pub fn write(out: &mut Vec<u8>, fields: impl FnOnce(&mut JsonLine<'_>)) {
        out.push(b'{');
        fields(&mut JsonLine { out, is_empty: true });
        out.extend_from_slice(b"}\n");
    }

    /// A text, foreign or not: escaped, and cut at [`FOREIGN_TEXT_LIMIT`] with the mark `…(+N bytes)`.
    pub fn text(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.text_up_to(name, value, FOREIGN_TEXT_LIMIT)
    }

    /// A text that is cut at `limit` bytes.
    pub fn text_up_to(&mut self, name: &str, value: impl AsRef<[u8]>, limit: usize) -> &mut Self {
        self.name(name);
        self.quoted(value.as_ref(), limit)
    }

    /// A text, or nothing at all when it is absent.
    pub fn optional_text(&mut self, name: &str, value: Option<impl AsRef<[u8]>>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, name: &str, values: impl IntoIterator<Item = impl AsRef<[u8]>>) -> &mut Self {
        self.name(name);
        self.out.push(b'[');
        for (position, value) in values.into_iter().enumerate() {
            if position > 0 {
                self.out.push(b',');
            }
            self.quoted(value.as_ref(), FOREIGN_TEXT_LIMIT);
        }
        self.out.push(b']');
        self
    }

    /// An integer.
    pub fn number(&mut self, name: &str, value: impl itoa::Integer) -> &mut Self {
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self
    }

    /// A duration in seconds with six digits after the point: `0.001250`.
    pub fn seconds(&mut self, name: &str, value: Duration) -> &mut Self {
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(value.as_secs()).as_bytes());
        self.out.push(b'.');
        let mut rest = value.subsec_micros();
        let mut digits = [b'0'; 6];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.out.extend_from_slice(&digits);
        self
    }

    /// True or false.
    pub fn boolean(&mut self, name: &str, value: bool) -> &mut Self {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
        self
    }

    fn name(&mut self, name: &str) {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        self.quoted(name.as_bytes(), FOREIGN_TEXT_LIMIT);
        self.out.push(b':');
    }

    fn quoted(&mut self, text: &[u8], limit: usize) -> &mut Self {
        self.out.push(b'"');
        escape::json_into(self.out, text, limit);
        self.out.push(b'"');
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn written(fields: impl FnOnce(&mut JsonLine<'_>)) -> String {
        let mut out = Vec::new();
        JsonLine::write(&mut out, fields);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_stand_in_order_on_one_line() {
        let line = written(|line| {
            line.text("path", "/a\"b\n")
                .number("status", 200u16)
                .number("step", -5i64)
                .seconds("took", Duration::from_micros(1_250));
            line.boolean("reused", true)
                .texts("flags", ["one", "two"])
                .texts("none", [""; 0])
                .optional_text("route", None::<&str>);
            line.text_up_to("agent", b"abcdef", 3).seconds("long", Duration::from_millis(61_005));
        });
        let expected = concat!(
            r#"{"path":"/a\"b\n","status":200,"step":-5,"took":0.001250,"reused":true,"flags":["one","two"],"none":[],"#,
            r#""agent":"abc…(+3 bytes)","long":61.005000}"#,
            "\n"
        );
        assert_eq!(line, expected);
        assert_eq!(written(|_| ()), "{}\n");
    }

    proptest! {
        #[test]
        fn always_valid_json_on_one_line(
            name in "[a-z\"\\\\\n]{0,8}",
            value in proptest::collection::vec(any::<u8>(), 0..2000),
            number in any::<u64>(),
            nanoseconds in any::<u64>(),
        ) {
            let line = written(|line| {
                line.text(&name, &value).number("=number", number).seconds("=seconds", Duration::from_nanos(nanoseconds));
            });
            prop_assert_eq!(line.matches('\n').count(), 1);
            let parsed: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&parsed["=number"], &json!(number));
            if value.len() <= FOREIGN_TEXT_LIMIT {
                prop_assert_eq!(&parsed[&name], &json!(String::from_utf8_lossy(&value)));
            }
        }
    }
}
