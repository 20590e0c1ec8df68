//! The rules for `metadata`, which no CRD has.
//!
//! Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/> (names, labels, annotations).

use serde_json::{Map, Value};

use super::path::Trail;
use super::violation::{Validation, Violation, ViolationKind};
use crate::object::Scope;

/// The most that all annotations of an object may hold, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Every field of `metadata`.
const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// What a kind demands of its objects' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameRule {
    /// RFC 1123 subdomain: most kinds.
    Subdomain,
    /// RFC 1123 label: Namespace.
    Label,
    /// RFC 1035 label: Service.
    Label1035,
    /// Whatever can be a part of a URL's path: kinds of which nothing more is known.
    PathSegment,
}

/// Checks the object's metadata. A namespace on an object of the cluster is taken out, with a warning.
pub(super) fn check(object: &mut Value, scope: Option<Scope>, rule: NameRule, validation: &mut Validation) {
    let root = Trail::ROOT;
    let trail = root.field("metadata");
    let Some(metadata) = object.get_mut("metadata").filter(|metadata| !metadata.is_null()) else {
        return validation.required(trail.field("name"), "every object in a file has a name");
    };
    let Some(metadata) = metadata.as_object_mut() else {
        return validation.wrong_type(trail, metadata, "object");
    };
    check_name(metadata, rule, trail, validation);
    check_namespace(metadata, scope, trail, validation);
    check_labels(metadata, trail, validation);
    check_annotations(metadata, trail, validation);
    for name in metadata.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
        validation.unknown_field(trail.field(name), name, FIELDS);
    }
}

fn check_name(metadata: &Map<String, Value>, rule: NameRule, trail: Trail<'_>, validation: &mut Validation) {
    if metadata.get("generateName").is_some_and(|name| !name.is_null()) {
        let field = trail.field("generateName");
        let violation = Violation::new(
            field.to_path(),
            ViolationKind::Forbidden,
            "Forbidden: an object in a file needs a fixed name",
        );
        return validation.push(violation.with_remedy("give it a metadata.name instead"));
    }
    let field = trail.field("name");
    match metadata.get("name") {
        None | Some(Value::Null) => validation.required(field, "every object in a file has a name"),
        Some(Value::String(name)) if name.is_empty() => validation.required(field, "name must not be empty"),
        Some(value @ Value::String(name)) => {
            if let Some(why) = rule.broken_by(name) {
                validation.invalid(field, value, why);
            }
        }
        Some(other) => validation.wrong_type(field, other, "string"),
    }
}

impl NameRule {
    fn broken_by(self, name: &str) -> Option<&'static str> {
        match self {
            Self::Subdomain => (!is_subdomain(name)).then_some(SUBDOMAIN),
            Self::Label => (!is_label(name)).then_some(LABEL),
            Self::Label1035 => (!is_label_1035(name)).then_some(LABEL_1035),
            Self::PathSegment => {
                let broken =
                    name.len() > 253 || matches!(name, "." | "..") || name.contains(['/', '%']) || has_control(name);
                broken.then_some("must be at most 253 characters without '/', '%' and control characters")
            }
        }
    }
}

fn check_namespace(
    metadata: &mut Map<String, Value>,
    scope: Option<Scope>,
    trail: Trail<'_>,
    validation: &mut Validation,
) {
    let field = trail.field("namespace");
    match metadata.get("namespace") {
        None | Some(Value::Null) => {}
        Some(_) if scope == Some(Scope::Cluster) => {
            let message =
                "field \"metadata.namespace\" is ignored: the kind belongs to the cluster and not to a namespace";
            validation.push(
                Violation::new(field.to_path(), ViolationKind::UnknownField, message).with_remedy("remove the field"),
            );
            metadata.shift_remove("namespace");
        }
        Some(value @ Value::String(name)) => {
            if !is_label(name) {
                validation.invalid(field, value, LABEL);
            }
        }
        Some(other) => validation.wrong_type(field, other, "string"),
    }
}

fn check_labels(metadata: &Map<String, Value>, trail: Trail<'_>, validation: &mut Validation) {
    let trail = trail.field("labels");
    for (key, value) in entries(metadata, "labels", trail, validation) {
        let field = trail.key(key);
        if !is_qualified_name(key) {
            validation.invalid(field, &Value::String(key.clone()), QUALIFIED_NAME);
        }
        match value {
            Value::String(text) if is_label_value(text) => {}
            Value::String(_) => validation.invalid(field, value, LABEL_VALUE),
            other => validation.wrong_type(field, other, "string"),
        }
    }
}

fn check_annotations(metadata: &Map<String, Value>, trail: Trail<'_>, validation: &mut Validation) {
    let trail = trail.field("annotations");
    let mut size = 0;
    for (key, value) in entries(metadata, "annotations", trail, validation) {
        let field = trail.key(key);
        if !is_qualified_name(&key.to_ascii_lowercase()) {
            validation.invalid(field, &Value::String(key.clone()), QUALIFIED_NAME);
        }
        let Value::String(text) = value else {
            validation.wrong_type(field, value, "string");
            continue;
        };
        size += key.len() + text.len();
        if has_control(text) {
            validation.add(
                field,
                ViolationKind::Invalid,
                "Invalid value: must not contain control characters but line breaks and tabs",
            );
        }
    }
    if size > MAX_ANNOTATIONS {
        validation.add(
            trail,
            ViolationKind::TooLong,
            format!("Too long: may not be more than {MAX_ANNOTATIONS} bytes"),
        );
    }
}

/// The entries of a map of strings; none if it is absent or no map.
fn entries<'m>(
    metadata: &'m Map<String, Value>,
    name: &str,
    trail: Trail<'_>,
    validation: &mut Validation,
) -> impl Iterator<Item = (&'m String, &'m Value)> + use<'m> {
    let map = match metadata.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::Object(map)) => Some(map),
        Some(other) => {
            validation.wrong_type(trail, other, "object");
            None
        }
    };
    map.into_iter().flatten()
}

pub(super) const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
     and end with an alphanumeric character, and have at most 253 characters (e.g. 'example.com')";
pub(super) const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with \
     an alphanumeric character, and have at most 63 characters (e.g. 'my-name', or '123-abc')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end \
     with an alphanumeric character, and have at most 63 characters (e.g. 'my-name', or 'abc-123')";
const QUALIFIED_NAME: &str = "a key must be a name part of at most 63 alphanumeric characters, '-', '_' or '.', which starts and ends with an \
     alphanumeric character, with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of at most 63 alphanumeric characters, '-', '_' or '.', and must \
     start and end with an alphanumeric character (e.g. 'MyValue')";

pub(super) fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_part)
}

pub(super) fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_dns_part(name)
}

fn is_label_1035(name: &str) -> bool {
    is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase())
}

fn is_dns_part(part: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
}

pub(super) fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}

fn is_label_value(text: &str) -> bool {
    let edge = |character: char| character.is_ascii_alphanumeric();
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.is_empty() || text.len() <= 63 && text.bytes().all(inner) && text.starts_with(edge) && text.ends_with(edge)
}

/// Whether a text has a control character other than those of plain text over several lines.
pub(super) fn has_control(text: &str) -> bool {
    text.chars().any(|character| character.is_control() && !matches!(character, '\n' | '\r' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "a".repeat(64);
        let longest = "a".repeat(253);
        for (name, subdomain, label, label_1035) in [
            ("web", true, true, true),
            ("web-1", true, true, true),
            ("1-web", true, true, false),
            ("web.example.com", true, false, false),
            ("-web", false, false, false),
            ("web-", false, false, false),
            ("web.-x", false, false, false),
            ("web..x", false, false, false),
            ("Web", false, false, false),
            ("we_b", false, false, false),
            ("wéb", false, false, false),
            ("web\n", false, false, false),
            ("", false, false, false),
            (&long, true, false, false),
            (&longest, true, false, false),
        ] {
            assert_eq!(is_subdomain(name), subdomain, "{name:?} as a subdomain");
            assert_eq!(is_label(name), label, "{name:?} as a label");
            assert_eq!(is_label_1035(name), label_1035, "{name:?} as a label of RFC 1035");
        }
        assert!(!is_subdomain(&"a".repeat(254)));
    }

    #[test]
    fn keys_of_labels() {
        for key in ["app", "App_1.x", "example.com/App", "kubernetes.io/service-name"] {
            assert!(is_qualified_name(key), "{key}");
        }
        for key in ["", "/", "a/", "/a", "a/b/c", "Example.com/a", "-a", "a b", &"a".repeat(64)] {
            assert!(!is_qualified_name(key), "{key}");
        }
    }
}
