//! Matches of HTTPRoute rules.
//!
//! A match that cannot be honoured (an unknown type, a regular expression that does not compile) makes its rule invalid. It must not let
//! the requests that it was meant for fall to a broader rule, so it is widened to one that certainly covers them, and the rule answers 500:
//! a header or query condition is left out, a path becomes the longest PathPrefix that everything it could mean begins with.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_api::Foreign;
use portcullis_api::http_route::{HttpMethod, HttpPathMatch, HttpRouteMatch, PathMatchType};
use portcullis_api::shared::MatchType;
use portcullis_model::{
    PATTERN_LENGTH_LIMIT, PATTERN_NEST_LIMIT, PATTERN_SIZE_LIMIT, PathMatch, RouteMatch, StringMatch, ValueMatch,
};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;

use crate::filter::{Problem, header_name, is_path};
use crate::text::unknown_field;

/// A match that covers every request.
pub(crate) fn any() -> RouteMatch {
    RouteMatch { path: PathMatch::PathPrefix("/".into()), method: None, headers: Vec::new(), query_params: Vec::new() }
}

/// Reads a match. Problems and fields that only repeat others are added to the lists.
pub(crate) fn compile(
    route_match: &HttpRouteMatch,
    field: &str,
    problems: &mut Vec<Problem>,
    repeated: &mut Vec<(String, String)>,
) -> RouteMatch {
    if let Some(name) = unknown_field(&route_match.extra) {
        problems.push(Problem::value(field, format!("the field {} is unknown", Foreign(name))));
    }
    let path = path(route_match.path.as_ref(), &format!("{field}.path"), problems);
    let method = match &route_match.method {
        None => None,
        Some(HttpMethod::Unknown(text)) => {
            problems
                .push(Problem::value(format!("{field}.method"), format!("the method '{}' is unknown", Foreign(text))));
            None
        }
        Some(method) => Some(method.as_str().into()),
    };
    let mut headers = Values::new(format!("{field}.headers"), problems, repeated);
    for header in &route_match.headers {
        let name = header_name(&header.name).ok_or_else(|| format!("'{}' is not a header name", Foreign(&header.name)));
        headers.add(name, header.r#type.as_ref(), &header.value, unknown_field(&header.extra));
    }
    let headers = headers.finish();
    let mut query_params = Values::new(format!("{field}.queryParams"), problems, repeated);
    for parameter in &route_match.query_params {
        let name = if parameter.name.is_empty() {
            Err("a name is needed".to_owned())
        } else {
            Ok(parameter.name.as_str().into())
        };
        query_params.add(name, parameter.r#type.as_ref(), &parameter.value, unknown_field(&parameter.extra));
    }
    let query_params = query_params.finish();
    RouteMatch { path, method, headers, query_params }
}

/// Whether a match, as it stands in the object, is of type PathPrefix.
pub(crate) fn is_prefix(route_match: &HttpRouteMatch) -> bool {
    let kind = route_match.path.as_ref().and_then(|path| path.r#type.as_ref());
    kind.is_none_or(|kind| *kind == PathMatchType::PathPrefix)
}

fn path(path: Option<&HttpPathMatch>, field: &str, problems: &mut Vec<Problem>) -> PathMatch {
    let Some(path) = path else { return PathMatch::PathPrefix("/".into()) };
    let value = path.value.as_deref().unwrap_or("/");
    let everything = || PathMatch::PathPrefix("/".into());
    if let Some(name) = unknown_field(&path.extra) {
        problems.push(Problem::value(field, format!("the field {} is unknown", Foreign(name))));
        return everything();
    }
    match path.r#type.as_ref().unwrap_or(&PathMatchType::PathPrefix) {
        PathMatchType::Exact if is_path(value) => PathMatch::Exact(value.into()),
        PathMatchType::PathPrefix if is_path(value) => PathMatch::PathPrefix(value.into()),
        PathMatchType::RegularExpression => match check_pattern(value) {
            Ok(()) => PathMatch::RegularExpression(value.into()),
            Err(message) => {
                problems.push(Problem::value(format!("{field}.value"), message));
                PathMatch::PathPrefix(certain_prefix(value).into())
            }
        },
        PathMatchType::Exact | PathMatchType::PathPrefix => {
            let message = format!(
                "'{}' is not a path: it begins with '/', has no empty and no dot segment, no %2F, and is percent-encoded",
                Foreign(value)
            );
            problems.push(Problem::value(format!("{field}.value"), message));
            everything()
        }
        PathMatchType::Unknown(text) => {
            problems.push(Problem::value(format!("{field}.type"), format!("the type '{}' is unknown", Foreign(text))));
            everything()
        }
    }
}

/// The path elements that every text matched by something like this pattern begins with, as far as that can be told from a pattern that
/// does not compile: what stands before its first special character, up to a whole element. An alternative could begin with anything.
fn certain_prefix(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    if pattern.contains('|') {
        return "/";
    }
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/-_~".contains(character);
    let plain = &pattern[..pattern.find(|character| !is_plain(character)).unwrap_or(pattern.len())];
    match plain.rfind('/') {
        Some(end) if end > 0 && is_path(&plain[..end]) => &plain[..end],
        _ => "/",
    }
}

/// Whether a pattern can be compiled within bounds.
fn check_pattern(pattern: &str) -> Result<(), String> {
    if pattern.len() > PATTERN_LENGTH_LIMIT {
        return Err(format!("a regular expression has at most {PATTERN_LENGTH_LIMIT} bytes"));
    }
    let syntax_error = |error: &dyn std::fmt::Display| {
        // The parser's message shows the pattern on lines of its own; the last line says what is wrong.
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim().to_owned();
        format!("'{}' is not a regular expression: {}", Foreign(pattern), Foreign(last.trim_start_matches("error: ")))
    };
    // As `decide` reads them: ASCII, so that what is accepted here can be served there.
    let ascii = syntax::Config::new().unicode(false).utf8(false).nest_limit(PATTERN_NEST_LIMIT);
    let parsed = syntax::parse_with(pattern, &ascii).map_err(|error| syntax_error(&error))?;
    let config = thompson::Config::new().nfa_size_limit(Some(PATTERN_SIZE_LIMIT));
    let built = thompson::Compiler::new().configure(config).build_from_hir(&parsed);
    match built {
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "the regular expression '{}' becomes too large; make its repetitions smaller",
            Foreign(pattern)
        )),
    }
}

/// Conditions on named values: of equal names the first counts.
struct Values<'a> {
    field: String,
    problems: &'a mut Vec<Problem>,
    repeated: &'a mut Vec<(String, String)>,
    index: usize,
    values: BTreeMap<Arc<str>, Option<StringMatch>>,
}

impl<'a> Values<'a> {
    fn new(field: String, problems: &'a mut Vec<Problem>, repeated: &'a mut Vec<(String, String)>) -> Self {
        Self { field, problems, repeated, index: 0, values: BTreeMap::new() }
    }

    fn add(&mut self, name: Result<Arc<str>, String>, kind: Option<&MatchType>, value: &str, unknown: Option<&str>) {
        let field = format!("{}[{}]", self.field, self.index);
        self.index += 1;
        let name = match name {
            Ok(name) => name,
            Err(message) => return self.problems.push(Problem::value(format!("{field}.name"), message)),
        };
        if self.values.contains_key(&name) {
            let message = format!("{} is named before; of equal names the first counts", Foreign(&name));
            return self.repeated.push((field, message));
        }
        let value = match (unknown, kind.unwrap_or(&MatchType::Exact)) {
            (Some(name), _) => Err((field, format!("the field {} is unknown", Foreign(name)))),
            (None, MatchType::Exact) => Ok(StringMatch::Exact(value.into())),
            (None, MatchType::RegularExpression) => match check_pattern(value) {
                Ok(()) => Ok(StringMatch::RegularExpression(value.into())),
                Err(message) => Err((format!("{field}.value"), message)),
            },
            (None, MatchType::Unknown(text)) => {
                Err((format!("{field}.type"), format!("the type '{}' is unknown", Foreign(text))))
            }
        };
        let value = value.map_err(|(field, message)| self.problems.push(Problem::value(field, message))).ok();
        self.values.insert(name, value);
    }

    fn finish(self) -> Vec<ValueMatch> {
        self.values.into_iter().filter_map(|(name, value)| Some(ValueMatch { name, value: value? })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{certain_prefix, check_pattern};

    #[test]
    fn broken_patterns_are_widened_to_whole_elements() {
        for (pattern, prefix) in [
            ("/a/[", "/a"),
            ("^/a/b/(", "/a/b"),
            ("/a[", "/"),
            ("/ab?c/[", "/"),
            ("/a/b*[", "/a"),
            ("/a|/b[", "/"),
            ("(?i)/a/[", "/"),
            ("[", "/"),
            ("", "/"),
            ("a/b/[", "/"),
            ("//a/[", "/"),
            ("/ä/[", "/"),
        ] {
            assert_eq!(certain_prefix(pattern), prefix, "{pattern}");
        }
    }

    #[test]
    fn patterns_are_checked_on_their_own_and_within_bounds() {
        for (pattern, good) in [
            ("/v[0-9]+/.*", true),
            ("", true),
            ("(?i)foo|bar", true),
            ("a)(b", false),
            ("[", false),
            ("(?<name", false),
            ("a(?=b)", false),
            (r"(a)\1", false),
            ("(((a{1000}){1000}){1000})", false),
            // A point is a byte, so this is within the bound.
            (".{10000}", true),
            (".{100000}", false),
            (r"\p{Greek}", false),
        ] {
            assert_eq!(check_pattern(pattern).is_ok(), good, "{pattern}");
        }
        assert!(check_pattern(&"a".repeat(5000)).is_err());
    }
}
