//! Secret (core `v1`). Its values are zeroed when they go, and are never printed or serialised: a Secret is the one
//! kind that does not find its way back to JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroize;

use crate::meta::{ApiVersion, KindName, ObjectMeta};

/// The type of a Secret with a certificate chain (`tls.crt`) and its key (`tls.key`).
pub const TLS_TYPE: &str = "kubernetes.io/tls";

/// What kubectl leaves in an object's annotations: of a Secret, a copy of its values.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Named confidential values. Unknown fields are not kept, for a misspelt one could hold a value.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have; without kubectl's copy of the object.
    pub metadata: ObjectMeta,
    /// What the values are for, as in `kubernetes.io/tls`; the API server's default is `Opaque`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// The values: `data`, overridden by `stringData`, as an API server merges them.
    #[serde(serialize_with = "redact_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, SecretValue>,
    /// Whether the values can be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let SecretFields { api_version, kind, mut metadata, r#type, data, string_data, immutable } =
            SecretFields::deserialize(deserializer)?;
        if let Some(copy) = metadata.annotations.get_mut(LAST_APPLIED) {
            copy.zeroize();
            metadata.annotations.remove(LAST_APPLIED);
        }
        let mut data: BTreeMap<_, _> = data.into_iter().map(|(name, value)| (name, value.0)).collect();
        data.extend(string_data.into_iter().map(|(name, value)| (name, value.0)));
        Ok(Self { api_version, kind, metadata, r#type, data, immutable })
    }
}

/// A Secret as it stands in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretFields {
    api_version: ApiVersion,
    kind: KindName,
    metadata: ObjectMeta,
    r#type: Option<String>,
    #[serde(default, deserialize_with = "silent_map")]
    data: BTreeMap<String, Base64Value>,
    #[serde(default, deserialize_with = "silent_map")]
    string_data: BTreeMap<String, PlainValue>,
    immutable: Option<bool>,
}

/// A value of a Secret: redacted wherever it could be shown, zeroed when it is dropped.
#[derive(Clone, Eq, PartialEq)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    const REDACTED: &'static str = "<redacted>";

    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves. Whoever copies them has to zero the copy.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for SecretValue {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::REDACTED)
    }
}

fn redact_values<S: Serializer>(values: &BTreeMap<String, SecretValue>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(values.len()))?;
    for name in values.keys() {
        map.serialize_entry(name, SecretValue::REDACTED)?;
    }
    map.end()
}

/// A value of `data`.
struct Base64Value(SecretValue);

impl<'de> Deserialize<'de> for Base64Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = deserializer.deserialize_string(SilentString)?;
        let bytes = decode_base64(text.as_bytes()).map(SecretValue);
        text.zeroize();
        bytes.map(Self).ok_or_else(|| {
            D::Error::custom("not base64 (RFC 4648 section 4, with padding); plain text belongs into stringData")
        })
    }
}

/// A value of `stringData`.
struct PlainValue(SecretValue);

impl<'de> Deserialize<'de> for PlainValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_string(SilentString)?;
        Ok(Self(SecretValue(text.into_bytes())))
    }
}

/// Methods of a visitor that refuse a value without repeating it.
macro_rules! refuse_silently {
    ($($method:ident($found:ty) $message:literal;)+) => {$(
        fn $method<E: serde::de::Error>(self, _: $found) -> Result<Self::Value, E> {
            Err(E::custom($message))
        }
    )+};
}

/// Reads a string and does not repeat in its error what else it found.
struct SilentString;

impl Visitor<'_> for SilentString {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<String, E> {
        Ok(text)
    }

    refuse_silently! {
        visit_bool(bool) "expected a string, found a boolean: put it into quotes";
        visit_i64(i64) "expected a string, found a number: put it into quotes";
        visit_u64(u64) "expected a string, found a number: put it into quotes";
        visit_f64(f64) "expected a string, found a number: put it into quotes";
    }
}

/// Reads named values, as silently.
fn silent_map<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    deserializer.deserialize_map(SilentMap(PhantomData))
}

struct SilentMap<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SilentMap<T> {
    type Value = BTreeMap<String, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some((name, value)) = access.next_entry()? {
            values.insert(name, value);
        }
        Ok(values)
    }

    refuse_silently! {
        visit_str(&str) "expected a map of strings, found a string";
        visit_bool(bool) "expected a map of strings, found a boolean";
        visit_i64(i64) "expected a map of strings, found a number";
        visit_u64(u64) "expected a map of strings, found a number";
        visit_f64(f64) "expected a map of strings, found a number";
    }
}

/// RFC 4648 section 4 with padding, as an API server reads it: line breaks are skipped, anything else outside of the
/// alphabet is refused. What was decoded before an error is zeroed.
pub(crate) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    if decode_base64_into(text, &mut bytes).is_none() {
        bytes.zeroize();
        return None;
    }
    Some(bytes)
}

fn decode_base64_into(text: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    let (mut bits, mut digits, mut padding) = (0_u32, 0_usize, 0_usize);
    for byte in text.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')) {
        if *byte == b'=' {
            padding += 1;
            continue;
        }
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | base64_digit(*byte)?;
        digits += 1;
        if digits.is_multiple_of(4) {
            bytes.extend([(bits >> 16) as u8, (bits >> 8) as u8, bits as u8]);
            bits = 0;
        }
    }
    match (digits % 4, padding) {
        (0, 0) => {}
        (2, 2) => bytes.push((bits >> 4) as u8),
        (3, 1) => bytes.extend([(bits >> 10) as u8, (bits >> 2) as u8]),
        _ => return None,
    }
    Some(())
}

fn base64_digit(byte: u8) -> Option<u32> {
    let digit = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(digit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::object::Object;

    fn read(fields: Value) -> Result<Object, String> {
        let mut value = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "a"}});
        value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Object::from_value(value).map_err(|error| error.to_string())
    }

    fn data(fields: Value) -> Vec<(String, String)> {
        let Ok(Object::Secret(secret)) = read(fields) else { panic!("not read as a Secret") };
        let text = |value: &SecretValue| String::from_utf8(value.expose().to_vec()).unwrap();
        secret.data.iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }

    #[test]
    fn plain_values_override_encoded_ones() {
        let fields = json!({"type": TLS_TYPE, "data": {"a": "QUFB", "b": "QkJC", "empty": ""}, "stringData": {"b": "plain", "c": "new"}});
        let expected = [("a", "AAA"), ("b", "plain"), ("c", "new"), ("empty", "")];
        assert_eq!(data(fields), expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert_eq!(data(json!({"data": null, "stringData": null})), []);
    }

    #[test]
    fn no_value_is_ever_shown() {
        let copy = json!({"kubectl.kubernetes.io/last-applied-configuration": "{\"stringData\":{\"key\":\"hunter2\"}}", "other": "kept"});
        let metadata = json!({"name": "s", "namespace": "a", "annotations": copy});
        let object = read(json!({
            "metadata": metadata, "data": {"key": "aHVudGVyMg=="}, "stringData": {"plain": "hunter2"}, "stringdata": {"misspelt": "hunter2"},
        }))
        .unwrap();
        let shown = [format!("{object:?}"), format!("{object:#?}"), object.to_value().to_string()];
        for text in &shown {
            assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
            assert!(text.contains("redacted") && text.contains("kept"), "{text}");
        }
    }

    #[test]
    fn no_error_repeats_a_value() {
        for (fields, expected) in [
            (json!({"data": {"key": "hunter2!"}}), "Secret a/s: data.key: not base64"),
            (json!({"data": {"key": 1234567}}), "Secret a/s: data.key: expected a string, found a number"),
            (json!({"data": {"key": -1234567}}), "Secret a/s: data.key: expected a string, found a number"),
            (json!({"data": {"key": 1234567.5}}), "Secret a/s: data.key: expected a string, found a number"),
            (json!({"stringData": {"key": true}}), "Secret a/s: stringData.key: expected a string, found a boolean"),
            (
                json!({"stringData": {"key": ["hunter2"]}}),
                "Secret a/s: stringData.key: expected a string, found a list",
            ),
            (
                json!({"stringData": {"key": {"hunter2": "hunter2"}}}),
                "Secret a/s: stringData.key: expected a string, found an object",
            ),
            (json!({"stringData": "hunter2"}), "Secret a/s: stringData: expected a map of strings"),
            (json!({"data": ["hunter2"]}), "Secret a/s: data: expected a map of strings"),
            (json!({"data": "hunter2"}), "Secret a/s: data: expected a map of strings"),
            (json!({"data": 1234567}), "Secret a/s: data: expected a map of strings"),
        ] {
            let error = read(fields).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("1234567"), "{error}");
        }
    }

    #[test]
    fn base64_is_that_of_rfc_4648_with_padding() {
        for (text, expected) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zm9v\r\nYmFy\n", "foobar"),
        ] {
            assert_eq!(decode_base64(text.as_bytes()).as_deref(), Some(expected.as_bytes()), "{text}");
        }
        for text in
            ["Z", "Zg", "Zg=", "Zg===", "Zm8", "Zm9v=", "=", "====", "Zg==Zg==", "Zm 8=", "Zm-_", "Z\0==", "Zé=="]
        {
            assert_eq!(decode_base64(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn base64_gives_back_what_was_encoded(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let mut text = String::new();
            for chunk in bytes.chunks(3) {
                let bits = chunk.iter().chain(&[0, 0]).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
                for place in 0..4 {
                    let digit = char::from(ALPHABET[bits >> (18 - 6 * place) & 63]);
                    text.push(if place <= chunk.len() { digit } else { '=' });
                }
            }
            prop_assert_eq!(decode_base64(text.as_bytes()), Some(bytes));
        }
    }
}
