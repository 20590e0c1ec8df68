//! Plain scalars as kubectl reads them.
//!
//! kubectl's YAML library knows the booleans, octal and binary numbers of YAML 1.1, neither its base-60
//! numbers nor its dates. The table in the tests was recorded from `sigs.k8s.io/yaml` 1.6.0.

use serde_json::{Number, Value};

/// The value of a plain scalar. `None` if JSON has none for it: infinities and NaN.
pub(super) fn resolve(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Some(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Some(Value::Bool(false));
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" | ".nan" | ".NaN"
        | ".NAN" => {
            return None;
        }
        _ => {}
    }
    let number = match text.as_bytes().first() {
        Some(b'0'..=b'9' | b'+' | b'-') => parse_number(text),
        Some(b'.') => parse_float(text),
        _ => None,
    };
    Some(number.map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

fn parse_number(text: &str) -> Option<Number> {
    let plain = text.replace('_', "");
    parse_integer(&plain).or_else(|| parse_float(&plain))
}

/// With Go's prefixes: `0x`, `0o`, `0b`, and `0` for octal.
fn parse_integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // Rust would take a second sign.
    if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let number = if negative { -magnitude } else { magnitude };
    i64::try_from(number).map(Number::from).or_else(|_| u64::try_from(number).map(Number::from)).ok()
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`; a whole number becomes an integer, as in JSON it has
/// no other form.
fn parse_float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_ok = all_digits(whole)
        && fraction.is_none_or(all_digits)
        && !(whole.is_empty() && fraction.is_none_or(str::is_empty));
    let exponent_ok = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    if !mantissa_ok || !exponent_ok {
        return None;
    }
    whole_or_float(text.parse().ok()?)
}

/// A finite float as a JSON number; an integer when it is one.
pub(super) fn whole_or_float(float: f64) -> Option<Number> {
    // Beyond this, not every integer is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if float.fract() == 0.0 && float.abs() <= EXACT {
        return Some(Number::from(float as i64));
    }
    Number::from_f64(float)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_are_what_kubectl_reads() {
        let table: &[(&[&str], Value)] = &[
            (&["y", "Y", "yes", "Yes", "YES", "on", "On", "true", "True", "TRUE"], json!(true)),
            (&["n", "no", "off", "false"], json!(false)),
            (&["~", "null", "Null", "NULL", ""], json!(null)),
            (&["1", "+1", "1_", "0x_1", "1.", "1.0", "0.1e1"], json!(1)),
            (&["0", "00", "-0", "0."], json!(0)),
            (&["0777", "+0777"], json!(511)),
            (&["-0777"], json!(-511)),
            (&["0o17", "0O17"], json!(15)),
            (&["0x1F", "0X1f"], json!(31)),
            (&["0b101", "0B101"], json!(5)),
            (&["-0b11"], json!(-3)),
            (&["-0x10"], json!(-16)),
            (&["+0x10"], json!(16)),
            (&["08"], json!(8)),
            (&["09.5"], json!(9.5)),
            (&["1_000", "1e3", "1E3", "1e+3"], json!(1000)),
            (&["1_000.5"], json!(1000.5)),
            (&["1e-1"], json!(0.1)),
            (&[".5", "+.5"], json!(0.5)),
            (&["-.5"], json!(-0.5)),
            (&["12e03"], json!(12000)),
            (&["9223372036854775807"], json!(9223372036854775807_i64)),
            (&["18446744073709551615"], json!(18446744073709551615_u64)),
            (&["18446744073709551616"], json!(18446744073709551616.0)),
            (&["0b1_0"], json!(2)),
        ];
        for (texts, expected) in table {
            for text in *texts {
                assert_eq!(resolve(text).as_ref(), Some(expected), "{text:?}");
            }
        }
        let strings = "yEs tRue nULL _1 . .. .e3 1e e3 1e400 2020-01-01 2020-01-01T00:00:00Z 1:30 10:30:00 1.2.3 1,000 << = + -- abc \
                       0xZZ 0b2 0o8 --1 +-1 0x+1";
        for text in strings.split_whitespace() {
            assert_eq!(resolve(text), Some(json!(text)), "{text:?}");
        }
        for text in [".inf", ".Inf", "-.inf", "+.inf", ".nan", ".NaN", ".NAN"] {
            assert_eq!(resolve(text), None, "{text:?}");
        }
    }
}
