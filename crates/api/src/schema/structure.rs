//! Defaults and structure: what a schema says without its rules.
//!
//! In: a compiled schema and a value. Out: the value with defaults, and one violation per mistake, in the words
//! of an API server.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Number, Value};

use super::node::{Format, ListType, Node, Type};
use super::path::Trail;
use super::violation::{Validation, Violation, ViolationKind, shown};

/// Lists up to this length are searched for duplicates without allocating.
const SHORT_LIST: usize = 16;

/// Sets defaults as an API server does: a field that is absent, or null and not nullable, gets its default;
/// a null without default that is not nullable is dropped.
pub(super) fn apply_defaults(node: &Node, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            drop_nulls(node, fields);
            for property in &node.properties {
                if let Some(default) = &property.node.default
                    && !fields.contains_key(&*property.name)
                {
                    fields.insert(property.name.to_string(), default.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                if let Some(below) = node.property(name).map(|property| &property.node).or(node.additional.as_deref()) {
                    apply_defaults(below, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(below) = &node.items {
                items.iter_mut().for_each(|item| apply_defaults(below, item));
            }
        }
        _ => {}
    }
}

fn drop_nulls(node: &Node, fields: &mut Map<String, Value>) {
    if fields.values().any(Value::is_null) {
        let kept = |name: &str| match node.property(name) {
            Some(property) => property.node.nullable,
            None => node.additional.as_ref().is_none_or(|additional| additional.nullable),
        };
        fields.retain(|name, value| !value.is_null() || kept(name));
    }
}

/// Checks a value against its schema, and everything below it.
pub(super) fn check_structure(node: &Node, value: &Value, trail: Trail<'_>, validation: &mut Validation) {
    if value.is_null() && node.nullable {
        return;
    }
    if let Some(expected) = node.kind
        && !is_of_type(value, expected)
    {
        return validation.wrong_type(trail, value, expected.name());
    }
    if !node.enumeration.is_empty() && !node.enumeration.contains(value) {
        return validation.unsupported(trail, value, &node.enumeration);
    }
    let before = validation.violations.len();
    match value {
        Value::String(text) => check_text(node, text, trail, validation),
        Value::Number(number) => check_number(node, number, value, trail, validation),
        Value::Array(items) => check_items(node, items, trail, validation),
        Value::Object(fields) => check_fields(node, fields, trail, validation),
        Value::Null | Value::Bool(_) => {}
    }
    // A mistake that has been named already would only be named again by the combinations.
    if validation.violations.len() == before {
        check_combinations(node, value, trail, validation);
    }
}

fn is_of_type(value: &Value, expected: Type) -> bool {
    match (expected, value) {
        (Type::Object, Value::Object(_))
        | (Type::Array, Value::Array(_))
        | (Type::String, Value::String(_))
        | (Type::Boolean, Value::Bool(_))
        | (Type::Number, Value::Number(_)) => true,
        (Type::Integer, Value::Number(number)) => number.is_i64() || number.is_u64(),
        _ => false,
    }
}

fn check_text(node: &Node, text: &str, trail: Trail<'_>, validation: &mut Validation) {
    let quoted = || shown(&Value::String(text.to_owned()));
    // Bytes bound characters from above: most texts need no counting.
    if let Some(max) = node.max_length
        && text.len() as u64 > max
        && text.chars().count() as u64 > max
    {
        return validation.add(
            trail,
            ViolationKind::TooLong,
            format!("Too long: may not be more than {max} characters"),
        );
    }
    if let Some(min) = node.min_length
        && (text.chars().count() as u64) < min
    {
        let plural = if min == 1 { "character" } else { "characters" };
        let message = format!("Invalid value: {}: should be at least {min} {plural} long", quoted());
        return validation.add(trail, ViolationKind::Invalid, message);
    }
    // HTAB is the one control character that a header value may have (RFC 9110, section 5.5).
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f || byte == 0xc2)
        && text.chars().any(|c| c.is_control() && c != '\t')
    {
        let message = format!("Invalid value: {}: must not contain control characters", quoted());
        return validation.add(trail, ViolationKind::Invalid, message);
    }
    if let Some(pattern) = &node.pattern {
        let why = match pattern.is_match(text) {
            Ok(true) => None,
            Ok(false) => Some(format!("should match '{}'", pattern.text)),
            Err(error) => Some(format!("the schema's pattern cannot be used: {error}")),
        };
        if let Some(why) = why {
            let message = format!("Invalid value: {}: {why}", quoted());
            let remedy = meaning_of(&pattern.text).map(str::to_owned);
            return validation.push(Violation { path: trail.to_path(), kind: ViolationKind::Invalid, message, remedy });
        }
    }
    if let Some(format) = node.format
        && let Err(expected) = check_format(format, text)
    {
        let message = format!("Invalid value: {}: must be {expected}", quoted());
        validation.add(trail, ViolationKind::Invalid, message);
    }
}

/// What the commonest patterns of the CRDs ask for, in words.
fn meaning_of(pattern: &str) -> Option<&'static str> {
    Some(match pattern {
        r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" => {
            "a hostname has lower case letters, digits, '-' and '.'; a wildcard is a first label '*' alone: '*.example.com'"
        }
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" => {
            "use lower case letters, digits, '-' and '.', with a letter or digit at both ends of each part"
        }
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" => {
            "use lower case letters, digits and '-', with a letter or digit at both ends"
        }
        "^([0-9]{1,5}(h|m|s|ms)){1,4}$" => "a duration is written like '10s', '500ms' or '1h30m'",
        r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$" => {
            "a header's name is a token of RFC 9110: letters, digits and !#$%&'*+-.^_`|~"
        }
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$" => {
            "write a domain and a path: 'example.com/gateway'"
        }
        _ => return None,
    })
}

fn check_format(format: Format, text: &str) -> Result<(), &'static str> {
    let (holds, expected) = match format {
        Format::Ipv4 => (text.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
        Format::Ipv6 => (text.parse::<Ipv6Addr>().is_ok(), "an IPv6 address"),
        // Status only, which is not read from files.
        Format::DateTime | Format::Int32 | Format::Int64 => (true, ""),
    };
    if holds { Ok(()) } else { Err(expected) }
}

fn check_number(node: &Node, number: &Number, value: &Value, trail: Trail<'_>, validation: &mut Validation) {
    let as_float = number.as_f64().unwrap_or(f64::NAN);
    let too_large = match node.format {
        Some(Format::Int32) => number.as_i64().is_none_or(|number| i32::try_from(number).is_err()),
        Some(Format::Int64) => number.as_i64().is_none(),
        _ => false,
    };
    if let Some(minimum) = node.minimum
        && as_float < minimum
    {
        validation.invalid(trail, value, &format!("should be greater than or equal to {minimum}"));
    } else if let Some(maximum) = node.maximum
        && as_float > maximum
    {
        validation.invalid(trail, value, &format!("should be less than or equal to {maximum}"));
    } else if too_large {
        validation.invalid(trail, value, "is out of the range of its integer type");
    }
}

fn check_items(node: &Node, items: &[Value], trail: Trail<'_>, validation: &mut Validation) {
    if let Some(max) = node.max_items
        && items.len() as u64 > max
    {
        return validation.add(
            trail,
            ViolationKind::TooMany,
            format!("Too many: {}: must have at most {max} items", items.len()),
        );
    }
    if let Some(min) = node.min_items
        && (items.len() as u64) < min
    {
        let plural = if min == 1 { "item" } else { "items" };
        let message = format!("Invalid value: {}: should have at least {min} {plural}", items.len());
        return validation.add(trail, ViolationKind::Invalid, message);
    }
    if let Some(schema) = &node.items {
        for (index, item) in items.iter().enumerate() {
            check_structure(schema, item, trail.index(index), validation);
        }
    }
    match &node.list {
        ListType::Atomic => {}
        ListType::Set => check_unique(items, trail, validation, Value::to_string),
        ListType::Map(keys) => check_unique(items, trail, validation, |item| map_key(item, keys)),
    }
}

/// The key of an element of a list map, as an API server prints it: `{"name":"http"}`.
fn map_key(item: &Value, keys: &[Box<str>]) -> String {
    let key: Map<String, Value> =
        keys.iter().filter_map(|key| item.get(&**key).map(|value| (key.to_string(), value.clone()))).collect();
    Value::Object(key).to_string()
}

fn check_unique(items: &[Value], trail: Trail<'_>, validation: &mut Validation, key: impl Fn(&Value) -> String) {
    if items.len() < 2 {
        return;
    }
    let keys: Vec<String> = items.iter().map(key).collect();
    let mut seen = BTreeSet::new();
    for (index, key) in keys.iter().enumerate() {
        let repeated = if keys.len() <= SHORT_LIST { keys[..index].contains(key) } else { !seen.insert(key) };
        if repeated {
            let key = crate::diagnostic::escape_foreign_text(key, 200);
            validation.add(trail.index(index), ViolationKind::Duplicate, format!("Duplicate value: {key}"));
        }
    }
}

fn check_fields(node: &Node, fields: &Map<String, Value>, trail: Trail<'_>, validation: &mut Validation) {
    if let Some(max) = node.max_properties
        && fields.len() as u64 > max
    {
        return validation.add(
            trail,
            ViolationKind::TooMany,
            format!("Too many: {}: must have at most {max} items", fields.len()),
        );
    }
    if let Some(min) = node.min_properties
        && (fields.len() as u64) < min
    {
        let message = format!("Invalid value: {}: should have at least {min} properties", fields.len());
        return validation.add(trail, ViolationKind::Invalid, message);
    }
    for name in &node.required {
        if !fields.contains_key(&**name) {
            validation.required(trail.field(name), "");
        }
    }
    for (name, value) in fields {
        if let Some(property) = node.property(name) {
            check_structure(&property.node, value, trail.field(name), validation);
        } else if let Some(additional) = &node.additional {
            if name.chars().any(char::is_control) {
                validation.invalid(trail.key(name), value, "a key must not contain control characters");
            }
            check_structure(additional, value, trail.key(name), validation);
        } else if !node.preserve_unknown && node.kind == Some(Type::Object) {
            let known = node.properties.iter().map(|property| &*property.name);
            validation.unknown_field(trail.field(name), name, known);
        }
    }
}

fn check_combinations(node: &Node, value: &Value, trail: Trail<'_>, validation: &mut Validation) {
    let holds = |branch: &&Node| is_valid(branch, value);
    for branch in &node.all_of {
        check_structure(branch, value, trail, validation);
    }
    if let Some(branch) = &node.not
        && is_valid(branch, value)
    {
        validation.invalid(trail, value, "must not validate the schema (not)");
    }
    if !node.any_of.is_empty() && !node.any_of.iter().any(|branch| is_valid(branch, value)) {
        report_branches(&node.any_of, value, trail, validation);
    }
    if !node.one_of.is_empty() {
        match node.one_of.iter().filter(holds).count() {
            1 => {}
            0 => report_branches(&node.one_of, value, trail, validation),
            _ => validation.invalid(trail, value, "must validate one and only one schema (oneOf)"),
        }
    }
}

fn is_valid(node: &Node, value: &Value) -> bool {
    let mut validation = Validation::default();
    check_structure(node, value, Trail::ROOT, &mut validation);
    validation.is_valid()
}

/// Names the mistake of the branch that fits best: one whose constants (`enum`) hold. If several fit, and all
/// object to the same value, what they ask for is named in one sentence.
fn report_branches(branches: &[Node], value: &Value, trail: Trail<'_>, validation: &mut Validation) {
    let attempts = branches.iter().map(|branch| {
        let mut attempt = Validation::default();
        check_structure(branch, value, trail, &mut attempt);
        attempt.violations
    });
    let excluded = |violations: &[Violation]| {
        violations
            .iter()
            .any(|violation| violation.kind == ViolationKind::NotSupported || violation.message.ends_with("(not)"))
    };
    let mut fitting: Vec<Vec<Violation>> = attempts.filter(|violations| !excluded(violations)).collect();
    if fitting.is_empty() {
        return validation.invalid(trail, value, "must validate at least one schema (anyOf)");
    }
    let mut best = fitting.swap_remove(0);
    if let [first] = best.as_mut_slice() {
        for other in &fitting {
            if let [other] = other.as_slice()
                && other.path == first.path
                && let Some((_, wanted)) = other.message.split_once(": must be ")
            {
                first.message = format!("{} or {wanted}", first.message);
            }
        }
    }
    best.into_iter().for_each(|violation| validation.push(violation));
}
