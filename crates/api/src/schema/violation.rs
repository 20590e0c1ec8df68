//! What is wrong with an object: one value per mistake.

use std::fmt;

use serde_json::Value;

use super::path::{FieldPath, Trail};
use crate::diagnostic::{Severity, escape_foreign_text};

/// How many violations of one object are kept; the rest is counted.
const MAX_VIOLATIONS: usize = 32;
/// The longest value that a message quotes, in characters.
const MAX_VALUE: usize = 120;

/// The class of a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ViolationKind {
    /// A field that must be there is not.
    Required,
    /// A value of another type than the schema's.
    Type,
    /// A value out of its range, or of the wrong form.
    Invalid,
    /// A value that is none of the supported ones.
    NotSupported,
    /// A text that is too long.
    TooLong,
    /// A list or map with too many elements.
    TooMany,
    /// An element that may occur once only.
    Duplicate,
    /// A field that may not be set.
    Forbidden,
    /// A CEL rule of the CRD that the object breaks.
    Rule,
    /// A version of a known kind that is not served.
    NotServed,
    /// A field that the schema does not have: ignored by an API server, with a warning.
    UnknownField,
    /// A field or version that works but should not be used.
    Deprecated,
    /// A kind that Portcullis has no use for.
    NotUsed,
}

impl ViolationKind {
    /// How much a violation of this kind weighs.
    pub fn severity(self) -> Severity {
        match self {
            Self::UnknownField | Self::Deprecated => Severity::Warning,
            Self::NotUsed => Severity::Note,
            _ => Severity::Error,
        }
    }

    /// A stable name, in kebab-case.
    pub fn code(self) -> &'static str {
        match self {
            Self::Required => "required-field",
            Self::Type => "wrong-type",
            Self::Invalid => "invalid-value",
            Self::NotSupported => "unsupported-value",
            Self::TooLong => "too-long",
            Self::TooMany => "too-many",
            Self::Duplicate => "duplicate-value",
            Self::Forbidden => "forbidden-field",
            Self::Rule => "rule-violated",
            Self::NotServed => "version-not-served",
            Self::UnknownField => "unknown-field",
            Self::Deprecated => "deprecated",
            Self::NotUsed => "kind-not-used",
        }
    }
}

/// One mistake in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where it is.
    pub path: FieldPath,
    /// Its class.
    pub kind: ViolationKind,
    /// What is wrong, in an API server's words: `Invalid value: 70000: should be less than or equal to 65535`.
    pub message: String,
    /// What to do about it, when the message alone does not say.
    pub remedy: Option<String>,
}

impl Violation {
    pub(super) fn new(path: FieldPath, kind: ViolationKind, message: impl Into<String>) -> Self {
        Self { path, kind, message: message.into(), remedy: None }
    }

    pub(super) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// As kubectl prints it: `spec.listeners[0].port: Invalid value: …`, `unknown field "spec.foo"`.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ViolationKind::UnknownField => f.write_str(&self.message),
            _ if self.path.segments().is_empty() => f.write_str(&self.message),
            _ => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// What the validation of one object found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Validation {
    /// The mistakes, in the order of the schema's fields: at most 32.
    pub violations: Vec<Violation>,
    /// How many more there are. Errors are kept before warnings.
    pub omitted: usize,
}

impl Validation {
    /// Whether an API server would accept the object.
    pub fn is_valid(&self) -> bool {
        self.errors().next().is_none()
    }

    /// The violations for which an API server refuses the object.
    pub fn errors(&self) -> impl Iterator<Item = &Violation> {
        self.violations.iter().filter(|violation| violation.kind.severity() == Severity::Error)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.violations.is_empty()
    }

    /// Whether an error stands at `path` or below it.
    pub(super) fn has_error_within(&self, path: &FieldPath) -> bool {
        // Which fields the errors beyond the limit are in is not known.
        self.errors().count() == MAX_VIOLATIONS || self.errors().any(|violation| violation.path.is_within(path))
    }

    pub(super) fn push(&mut self, violation: Violation) {
        let at_once = violation.kind == ViolationKind::Rule;
        let known = self.violations.iter().any(|known| {
            known.path == violation.path
                && (!at_once || known.message == violation.message)
                && known.kind == violation.kind
        });
        if known {
            return;
        }
        if self.violations.len() == MAX_VIOLATIONS {
            self.omitted += 1;
            let weight = |violation: &Violation| violation.kind.severity();
            let lightest = self.violations.iter().rposition(|kept| weight(kept) < weight(&violation));
            let Some(lightest) = lightest else { return };
            self.violations.remove(lightest);
        }
        self.violations.push(violation);
    }

    pub(super) fn add(&mut self, trail: Trail<'_>, kind: ViolationKind, message: impl Into<String>) {
        self.push(Violation::new(trail.to_path(), kind, message));
    }

    /// `Required value`, with what is expected when that helps.
    pub(super) fn required(&mut self, trail: Trail<'_>, what: &str) {
        let message = if what.is_empty() { "Required value".to_owned() } else { format!("Required value: {what}") };
        self.add(trail, ViolationKind::Required, message);
    }

    /// `Invalid value: <value>: <why>`.
    pub(super) fn invalid(&mut self, trail: Trail<'_>, value: &Value, why: &str) {
        self.add(trail, ViolationKind::Invalid, format!("Invalid value: {}: {why}", shown(value)));
    }

    /// `Invalid value: 80: must be of type string, not integer`; YAML reads some texts as something else.
    pub(super) fn wrong_type(&mut self, trail: Trail<'_>, value: &Value, expected: &str) {
        let message = format!("Invalid value: {}: must be of type {expected}, not {}", shown(value), type_name(value));
        let violation = Violation::new(trail.to_path(), ViolationKind::Type, message);
        let remedy = match (expected, value) {
            ("string", Value::Bool(_) | Value::Number(_)) => Some("put the value in quotes"),
            ("integer", Value::String(text)) if text.parse::<i64>().is_ok() => Some("remove the quotes"),
            _ => None,
        };
        self.push(Violation { remedy: remedy.map(str::to_owned), ..violation });
    }

    /// `Unsupported value: "X": supported values: "A", "B"`.
    pub(super) fn unsupported(&mut self, trail: Trail<'_>, value: &Value, supported: &[Value]) {
        let supported: Vec<String> = supported.iter().map(shown).collect();
        let message = format!("Unsupported value: {}: supported values: {}", shown(value), supported.join(", "));
        self.add(trail, ViolationKind::NotSupported, message);
    }

    /// `unknown field "spec.foo"`, with the field that may have been meant.
    pub(super) fn unknown_field<'v>(&mut self, trail: Trail<'_>, name: &str, known: impl IntoIterator<Item = &'v str>) {
        let path = trail.to_path();
        let message = format!("unknown field \"{path}\"");
        let mut violation = Violation::new(path, ViolationKind::UnknownField, message);
        if let Some(near) = known.into_iter().find(|known| is_near(known, name)) {
            violation = violation.with_remedy(format!("did you mean {near:?}? The field is ignored as it stands"));
        }
        self.push(violation);
    }
}

/// A value as a message quotes it: a scalar as JSON, a list or an object by its type.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "\"array\"".to_owned(),
        Value::Object(_) => "\"object\"".to_owned(),
        Value::String(text) => format!("\"{}\"", escape_foreign_text(text, MAX_VALUE)),
        scalar => scalar.to_string(),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether two names differ by letter case or by one letter.
fn is_near(known: &str, name: &str) -> bool {
    if known.eq_ignore_ascii_case(name) {
        return true;
    }
    if known.len() < 4 || known.len().abs_diff(name.len()) > 1 {
        return false;
    }
    let (known, name) = (known.as_bytes(), name.as_bytes());
    let same = known.iter().zip(name).take_while(|(a, b)| a == b).count();
    let same_end = known.iter().rev().zip(name.iter().rev()).take_while(|(a, b)| a == b).count();
    same + same_end + 1 >= known.len().max(name.len())
}
