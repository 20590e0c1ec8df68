//! Secret (core `v1`). Its values are zeroed when they go, and are never printed or serialised: a Secret is the one kind that does not
//! find its way back to JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, Visitor};
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
    #[serde(default)]
    data: BTreeMap<String, Base64Value>,
    #[serde(default)]
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

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<String, E> {
        Err(E::custom("expected a string, found a boolean: put it into quotes"))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<String, E> {
        Err(E::custom("expected a string, found a number: put it into quotes"))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<String, E> {
        self.visit_i64(0)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<String, E> {
        self.visit_i64(0)
    }
}

/// RFC 4648 section 4 with padding, as an API server reads it: line breaks are skipped, anything else outside of the alphabet is refused.
/// What was decoded before an error is zeroed.
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
