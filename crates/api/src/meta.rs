//! What all Kubernetes objects have: API version, kind, metadata; and the pieces of `meta/v1` in use, conditions and
//! label selectors.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::extra::Extra;
use crate::object;
use crate::text::{TextVisitor, text_enum};

/// The API version of an object that has a type here, as in `gateway.networking.k8s.io/v1`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ApiVersion(&'static str);

impl ApiVersion {
    /// The text, if some kind here has this API version.
    pub fn known(text: &str) -> Option<Self> {
        object::known_api_version(text).map(Self)
    }

    /// Group and version, as in the object.
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// The group; empty is the core group.
    pub fn group(self) -> &'static str {
        self.0.split_once('/').map_or("", |(group, _)| group)
    }

    /// The version, as in `v1`.
    pub fn version(self) -> &'static str {
        self.0.split_once('/').map_or(self.0, |(_, version)| version)
    }
}

/// The kind of an object that has a type here, as in `HTTPRoute`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KindName(&'static str);

impl KindName {
    /// The text, if there is a type for a kind of this name.
    pub fn known(text: &str) -> Option<Self> {
        object::known_kind(text).map(Self)
    }

    /// The kind, as in the object.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// Serde for texts of which only the known ones can be held.
macro_rules! known_text {
    ($($name:ident, $what:literal;)+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let known = deserializer.deserialize_str(TextVisitor(Self::known))?;
                known.ok_or_else(|| D::Error::custom(concat!("unknown ", $what)))
            }
        }
    )+};
}

known_text! {
    ApiVersion, "API version";
    KindName, "kind";
}

/// Metadata of an object.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectMeta {
    /// Unique among the objects of its kind in its namespace.
    pub name: String,
    /// Absent for what is cluster scoped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Unique in time and space; absent in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Counts changes of the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Changes with every write; opaque.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// RFC 3339, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// RFC 3339; present while finalizers hold the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Objects with which this one goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
    /// Who has to act before the object goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An owner, in the same namespace or cluster scoped.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Unique identity.
    pub uid: String,
    /// Whether it is the one that manages the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether the owner waits for this object to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One aspect of an object's state.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about, as in `Accepted`.
    pub r#type: String,
    /// Whether it is so.
    pub status: ConditionStatus,
    /// The generation that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// RFC 3339; when `status` changed last. Whoever writes a status fills it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// One word, from the specification.
    #[serde(default)]
    pub reason: String,
    /// What to change, for people; at most 32,768 bytes.
    #[serde(default)]
    pub message: String,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// Whether a condition holds.
    pub enum ConditionStatus else Other {
        /// It holds.
        True = "True",
        /// It does not.
        False = "False",
        /// Nobody knows yet.
        Unknown = "Unknown",
    }
}

/// Chooses objects by their labels; all parts must hold. An empty one chooses everything.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A condition on one label.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelectorRequirement {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: LabelSelectorOperator,
    /// Not empty for `In` and `NotIn`, empty for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// How a label is compared.
    pub enum LabelSelectorOperator {
        /// Its value is one of these.
        In = "In",
        /// It is absent, or its value is none of these.
        NotIn = "NotIn",
        /// It is present.
        Exists = "Exists",
        /// It is absent.
        DoesNotExist = "DoesNotExist",
    }
}

/// Why a selector is invalid. An invalid selector chooses nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SelectorError {
    /// The operator is none that is known.
    #[error("matchExpressions[{index}].operator: '{operator}' is none of In, NotIn, Exists, DoesNotExist")]
    Operator {
        /// Which of the expressions.
        index: usize,
        /// The operator.
        operator: LabelSelectorOperator,
    },
    /// `In` or `NotIn` without values.
    #[error("matchExpressions[{index}].values: In and NotIn need at least one value")]
    ValuesMissing {
        /// Which of the expressions.
        index: usize,
    },
    /// `Exists` or `DoesNotExist` with values.
    #[error("matchExpressions[{index}].values: Exists and DoesNotExist take no values")]
    ValuesForbidden {
        /// Which of the expressions.
        index: usize,
    },
    /// A key that no label can have.
    #[error(
        "'{0}' is not a label: it has the form name or prefix/name, a name has 1 to 63 letters, \
         digits, '-', '_' or '.', a prefix is a DNS name"
    )]
    Key(String),
    /// A value that no label can have.
    #[error(
        "'{0}' is not the value of a label: at most 63 letters, digits, '-', '_' or '.', \
         with a letter or digit at both ends"
    )]
    Value(String),
}

impl LabelSelector {
    /// Whether an object with these labels is chosen. The rules, those about invalid selectors included, are those of
    /// an API server.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> Result<bool, SelectorError> {
        self.validate()?;
        let by_labels = self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        Ok(by_labels && self.match_expressions.iter().all(|requirement| requirement.matches(labels)))
    }

    /// Whether the selector can choose anything at all.
    pub fn validate(&self) -> Result<(), SelectorError> {
        for (key, value) in &self.match_labels {
            check_label_key(key)?;
            check_label_value(value)?;
        }
        self.match_expressions.iter().enumerate().try_for_each(|(index, requirement)| requirement.validate(index))
    }
}

impl LabelSelectorRequirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            LabelSelectorOperator::In => value.is_some_and(|value| self.values.contains(value)),
            LabelSelectorOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            LabelSelectorOperator::Exists => value.is_some(),
            LabelSelectorOperator::DoesNotExist => value.is_none(),
            LabelSelectorOperator::Unknown(_) => false,
        }
    }

    fn validate(&self, index: usize) -> Result<(), SelectorError> {
        check_label_key(&self.key)?;
        match &self.operator {
            LabelSelectorOperator::In | LabelSelectorOperator::NotIn if self.values.is_empty() => {
                Err(SelectorError::ValuesMissing { index })
            }
            LabelSelectorOperator::In | LabelSelectorOperator::NotIn => {
                self.values.iter().try_for_each(|value| check_label_value(value))
            }
            LabelSelectorOperator::Exists | LabelSelectorOperator::DoesNotExist if !self.values.is_empty() => {
                Err(SelectorError::ValuesForbidden { index })
            }
            LabelSelectorOperator::Exists | LabelSelectorOperator::DoesNotExist => Ok(()),
            LabelSelectorOperator::Unknown(_) => {
                Err(SelectorError::Operator { index, operator: self.operator.clone() })
            }
        }
    }
}

fn check_label_key(key: &str) -> Result<(), SelectorError> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_none_or(is_dns_subdomain) && !name.is_empty() && is_label_text(name) {
        Ok(())
    } else {
        Err(SelectorError::Key(shown(key)))
    }
}

fn check_label_value(value: &str) -> Result<(), SelectorError> {
    if is_label_text(value) { Ok(()) } else { Err(SelectorError::Value(shown(value))) }
}

/// Up to 63 letters, digits, `-`, `_` or `.`, with a letter or digit at both ends; or nothing.
fn is_label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    text.len() <= 63
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && [bytes.first(), bytes.last()].into_iter().flatten().all(u8::is_ascii_alphanumeric)
}

/// Whether a text can be the key of a label or an annotation.
pub(crate) fn is_label_key(key: &str) -> bool {
    check_label_key(key).is_ok()
}

/// Whether two texts can be a label's key and value.
pub(crate) fn is_label(key: &str, value: &str) -> bool {
    is_label_key(key) && is_label_text(value)
}

/// RFC 1123, lower case.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    let label_is_valid = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label_is_valid)
}

fn shown(text: &str) -> String {
    crate::text::Foreign(text).to_string()
}

/// A number or a text, as a target port is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IntOrString {
    /// A number.
    Int(i64),
    /// A text, as the name of a port.
    String(String),
}

impl Serialize for IntOrString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(number) => serializer.serialize_i64(*number),
            Self::String(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntOrStringVisitor)
    }
}

struct IntOrStringVisitor;

impl Visitor<'_> for IntOrStringVisitor {
    type Value = IntOrString;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer or a string")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<IntOrString, E> {
        Ok(IntOrString::Int(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<IntOrString, E> {
        i64::try_from(number).map(IntOrString::Int).map_err(|_| E::custom("a number that is too large"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<IntOrString, E> {
        Ok(IntOrString::String(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decode::decode;

    fn selector(value: Value) -> LabelSelector {
        decode(value).unwrap()
    }

    #[test]
    fn a_selector_chooses_by_all_of_its_parts() {
        let labels = BTreeMap::from(
            [("team", "red"), ("tier", ""), ("example.com/zone", "a")].map(|(k, v)| (k.into(), v.into())),
        );
        let expression = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (value, expected) in [
            (json!({}), true),
            (json!({"matchLabels": {}}), true),
            (json!({"matchLabels": {"team": "red"}}), true),
            (json!({"matchLabels": {"team": "blue"}}), false),
            (json!({"matchLabels": {"team": "red", "absent": "x"}}), false),
            (json!({"matchLabels": {"tier": ""}}), true),
            (json!({"matchLabels": {"absent": ""}}), false),
            (expression("team", "In", &["blue", "red"]), true),
            (expression("team", "In", &["blue"]), false),
            (expression("absent", "In", &[""]), false),
            (expression("team", "NotIn", &["blue"]), true),
            (expression("team", "NotIn", &["red"]), false),
            (expression("absent", "NotIn", &["red"]), true),
            (expression("team", "Exists", &[]), true),
            (expression("absent", "Exists", &[]), false),
            (expression("team", "DoesNotExist", &[]), false),
            (expression("absent", "DoesNotExist", &[]), true),
            (expression("example.com/zone", "In", &["a"]), true),
            (
                json!({"matchLabels": {"team": "red"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}),
                false,
            ),
        ] {
            assert_eq!(selector(value.clone()).matches(&labels), Ok(expected), "{value}");
        }
    }

    #[test]
    fn an_invalid_selector_chooses_nothing_and_says_why() {
        let long = "a".repeat(64);
        for (value, expected) in [
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}),
                "matchExpressions[0].operator: 'Like'",
            ),
            (json!({"matchExpressions": [{"key": "a", "operator": "exists"}]}), "matchExpressions[0].operator"),
            (json!({"matchExpressions": [{"key": "a", "operator": "In"}]}), "matchExpressions[0].values"),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}),
                "matchExpressions[0].values",
            ),
            (
                json!({"matchExpressions": [{"key": "b", "operator": "Exists"}, {"key": "a", "operator": "Exists", "values": ["b"]}]}),
                "matchExpressions[1].values",
            ),
            (json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["-"]}]}), "'-' is not the value"),
            (json!({"matchLabels": {"": "a"}}), "'' is not a label"),
            (json!({"matchLabels": {"a b": "a"}}), "'a b' is not a label"),
            (json!({"matchLabels": {"/a": "a"}}), "'/a' is not a label"),
            (json!({"matchLabels": {"a/b/c": "a"}}), "'a/b/c' is not a label"),
            (json!({"matchLabels": {"Upper.example/a": "a"}}), "is not a label"),
            (json!({"matchLabels": {long.as_str(): "a"}}), "is not a label"),
            (json!({"matchLabels": {"a": long}}), "is not the value"),
            (json!({"matchLabels": {"a": "b\u{1b}"}}), "'b\\u{1b}' is not the value"),
        ] {
            let error = selector(value.clone()).matches(&BTreeMap::new()).unwrap_err().to_string();
            assert!(error.contains(expected), "{value}: {error}");
        }
    }

    #[test]
    fn the_parts_of_an_api_version() {
        for (text, group, version) in
            [("gateway.networking.k8s.io/v1beta1", "gateway.networking.k8s.io", "v1beta1"), ("v1", "", "v1")]
        {
            let api_version = ApiVersion::known(text).unwrap();
            assert_eq!((api_version.group(), api_version.version(), api_version.as_str()), (group, version, text));
        }
        assert_eq!(ApiVersion::known("gateway.networking.k8s.io/v2"), None);
        assert_eq!(KindName::known("Novelty"), None);
    }

    #[test]
    fn a_number_or_a_text() {
        for (value, expected) in [
            (json!(80), IntOrString::Int(80)),
            (json!(-1), IntOrString::Int(-1)),
            (json!(99_999_999_999_i64), IntOrString::Int(99_999_999_999)),
            (json!("http"), IntOrString::String("http".into())),
        ] {
            assert_eq!(decode::<IntOrString>(value.clone()).unwrap(), expected);
            assert_eq!(serde_json::to_value(expected).unwrap(), value);
        }
        for value in [json!(1.5), json!(true), json!([]), json!({}), json!(u64::MAX)] {
            assert!(decode::<IntOrString>(value).is_err());
        }
    }
}
