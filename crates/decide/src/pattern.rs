//! Regular expressions of matches.
//!
//! A pattern must match the whole value. The engine's time is linear in pattern and value; patterns are ASCII (`\w`,
//! `\d` and the like mean ASCII, Unicode classes are refused) and their compiled size is limited. Captures have no use.

use portcullis_model::{PATTERN_NEST_LIMIT, PATTERN_SIZE_LIMIT};
use regex_automata::meta::{self, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Anchored, Input, MatchKind, PatternSet};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, Look};
use std::fmt;
use std::sync::Arc;

/// Bytes of a compiled set of patterns.
const SET_SIZE_LIMIT: usize = 8 * 1024 * 1024;
/// Bytes of a set's lazy automaton, per worker that uses it. When they do not suffice, the set is simulated instead.
const SET_CACHE: usize = 1024 * 1024;

/// A compiled pattern.
pub(crate) struct Pattern {
    text: Arc<str>,
    regex: Regex,
    /// What every match begins with.
    pub(crate) prefix: Box<[u8]>,
    /// What every match ends with.
    pub(crate) suffix: Box<[u8]>,
}

impl Pattern {
    /// Compiles a pattern; the error says what is wrong with it.
    pub(crate) fn new(text: &Arc<str>) -> Result<Self, String> {
        let hir = parse(text)?;
        let literal = |kind: ExtractKind| {
            let sequence = Extractor::new().kind(kind.clone()).limit_class(4).limit_repeat(4).extract(&hir);
            let common = match kind {
                ExtractKind::Suffix => sequence.longest_common_suffix(),
                _ => sequence.longest_common_prefix(),
            };
            Box::from(common.unwrap_or_default())
        };
        let (prefix, suffix) = (literal(ExtractKind::Prefix), literal(ExtractKind::Suffix));
        let config = meta::Config::new()
            .nfa_size_limit(Some(PATTERN_SIZE_LIMIT))
            .hybrid(false)
            .onepass(false)
            .utf8_empty(false)
            .which_captures(WhichCaptures::None);
        let regex = Regex::builder().configure(config).build_from_hir(&whole(hir)).map_err(build_error)?;
        Ok(Self { text: text.clone(), regex, prefix, suffix })
    }

    /// The pattern as the route gives it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the whole value matches.
    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        value.starts_with(&self.prefix)
            && value.ends_with(&self.suffix)
            && self.regex.is_match(Input::new(value).anchored(Anchored::Yes))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// Several patterns that are tried at once.
pub(crate) struct Set(Regex);

impl Set {
    /// `None` if the patterns are too large together; each of them compiles alone.
    pub(crate) fn new(patterns: &[Arc<Pattern>]) -> Option<Self> {
        let hirs =
            patterns.iter().map(|pattern| parse(&pattern.text).map(whole)).collect::<Result<Vec<_>, _>>().ok()?;
        let config = meta::Config::new()
            .match_kind(MatchKind::All)
            .nfa_size_limit(Some(SET_SIZE_LIMIT))
            .hybrid(true)
            .hybrid_cache_capacity(SET_CACHE)
            .onepass(false)
            .backtrack(false)
            .utf8_empty(false)
            .which_captures(WhichCaptures::None);
        Regex::builder().configure(config).build_many_from_hir(&hirs).ok().map(Self)
    }

    /// Which patterns match the whole value, by their places.
    pub(crate) fn matching(&self, value: &[u8]) -> Vec<usize> {
        let mut set = PatternSet::new(self.0.pattern_len());
        self.0.which_overlapping_matches(&Input::new(value).anchored(Anchored::Yes), &mut set);
        set.iter().map(|pattern| pattern.as_usize()).collect()
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Set({} patterns)", self.0.pattern_len())
    }
}

fn parse(text: &str) -> Result<Hir, String> {
    let mut parser = ParserBuilder::new();
    parser.unicode(false).utf8(false).nest_limit(PATTERN_NEST_LIMIT);
    ParserBuilder::new().unicode(false).utf8(false).nest_limit(PATTERN_NEST_LIMIT).build().parse(text).map_err(
        |error| match error {
            regex_syntax::Error::Parse(error) => error.kind().to_string(),
            regex_syntax::Error::Translate(error) => error.kind().to_string(),
            _ => "it cannot be parsed".into(),
        },
    )
}

/// Anchored by structure, not by text: nothing that a pattern contains can undo it.
fn whole(hir: Hir) -> Hir {
    Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)])
}

fn build_error(error: meta::BuildError) -> String {
    match error.size_limit() {
        Some(limit) => format!("it is larger than {limit} bytes when compiled"),
        None => "it cannot be compiled".into(),
    }
}

/// The text that a pattern begins with as far as it can be told without parsing: for patterns that do not compile.
pub(crate) fn leading_text(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    if pattern.contains('|') {
        return "";
    }
    let end = pattern.find(|c: char| r"\.+*?()[]{}^$#".contains(c) || c.is_whitespace()).unwrap_or(pattern.len());
    match pattern[end..].chars().next() {
        // A quantifier takes the character before it away.
        Some('*' | '?' | '{' | '+') => &pattern[..pattern[..end].char_indices().next_back().map_or(0, |(at, _)| at)],
        _ => &pattern[..end],
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Set, leading_text};
    use std::sync::Arc;

    #[test]
    fn the_whole_value_must_match() {
        for (pattern, value, matches) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a", "x/a", false),
            ("/a|/b", "/b", true),
            ("/a|/b", "/bc", false),
            ("/a|/ab", "/ab", true),
            ("^/a$", "/a", true),
            ("/a.*", "/a/b", true),
            ("/[0-9]+", "/12", true),
            ("/[0-9]+", "/1a", false),
            ("(?i)/a", "/A", true),
            ("", "", true),
            ("", "a", false),
            (r"\w+", "é", false),
            ("a*?", "aaa", true),
            ("(?x) /a # x", "/a", true),
        ] {
            let compiled = Pattern::new(&pattern.into()).unwrap();
            assert_eq!(compiled.matches(value.as_bytes()), matches, "{pattern} {value}");
            let set = Set::new(&[Arc::new(compiled)]).unwrap();
            assert_eq!(set.matching(value.as_bytes()) == [0], matches, "{pattern} {value}");
        }
    }

    #[test]
    fn what_cannot_be_compiled_is_an_error() {
        for pattern in ["(", "a)|(b", "[", r"\1", "(?=a)", r"\p{Greek}", "(a{1000}){1000}", ".{100000}", "*"] {
            assert!(Pattern::new(&pattern.into()).is_err(), "{pattern}");
        }
        assert!(Pattern::new(&".{10000}".into()).is_ok(), "compile accepts it, within the same bound");
    }

    #[test]
    fn literals_are_found() {
        for (pattern, prefix, suffix) in [
            ("/a/[0-9]+", "/a/", ""),
            ("/a/.*/b", "/a/", "/b"),
            ("/a/(b|c)", "/a/", ""),
            ("/img/.*\\.png", "/img/", ".png"),
            (".*", "", ""),
            ("(?i)/a", "/", ""),
        ] {
            let pattern = Pattern::new(&pattern.into()).unwrap();
            assert!(pattern.prefix.starts_with(prefix.as_bytes()), "{pattern:?} {:?}", pattern.prefix);
            assert!(pattern.suffix.ends_with(suffix.as_bytes()), "{pattern:?} {:?}", pattern.suffix);
        }
    }

    #[test]
    fn leading_text_of_a_broken_pattern() {
        for (pattern, text) in
            [("/a/(", "/a/"), ("^/a/[", "/a/"), ("/a*(", "/"), ("/a|(", ""), ("(", ""), ("/a{1000}", "/"), ("/é+", "/")]
        {
            assert_eq!(leading_text(pattern), text, "{pattern}");
        }
    }
}
