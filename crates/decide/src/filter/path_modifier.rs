//! `HTTPPathModifier`, of redirects and rewrites.
//!
//! Replacements are brought into normal form when linking (one without a leading slash gets it), so a modified path is
//! in normal form as well.

use crate::path::normalize;
use portcullis_model::PathModifier;
use std::borrow::Cow;

/// How a path is modified.
#[derive(Debug)]
pub(crate) enum LinkedPathModifier {
    Full(Box<str>),
    /// Without its trailing slash; empty for `/`.
    Prefix(Box<str>),
}

/// A path, and how much of it stands for the prefix that the rule matched: a backend's modifier goes on from there.
#[derive(Clone, Debug)]
pub(crate) struct RewrittenPath<'a> {
    pub(crate) path: Cow<'a, str>,
    pub(crate) prefix: usize,
}

impl LinkedPathModifier {
    /// `by_prefix` says whether all of the rule's matches are PathPrefix.
    pub(crate) fn new(modifier: &PathModifier, by_prefix: bool) -> Result<Self, String> {
        match modifier {
            PathModifier::ReplaceFullPath(path) => Ok(Self::Full(normal(path)?.into())),
            PathModifier::ReplacePrefixMatch(_) if !by_prefix => {
                Err("ReplacePrefixMatch needs PathPrefix matches; use ReplaceFullPath".into())
            }
            PathModifier::ReplacePrefixMatch(path) => {
                let path = normal(path)?;
                Ok(Self::Prefix(path.strip_suffix('/').unwrap_or(&path).into()))
            }
        }
    }

    pub(crate) fn apply(&self, rewritten: &mut RewrittenPath<'_>) {
        match self {
            Self::Full(full) => {
                *rewritten = RewrittenPath { path: full.to_string().into(), prefix: full.trim_end_matches('/').len() };
            }
            Self::Prefix(replacement) => {
                let rest = rewritten.path.get(rewritten.prefix..).unwrap_or_default();
                let path = match (&**replacement, rest) {
                    ("", "") => "/".to_owned(),
                    (replacement, rest) => [replacement, rest].concat(),
                };
                *rewritten = RewrittenPath { path: path.into(), prefix: replacement.len() };
            }
        }
    }
}

fn normal(path: &str) -> Result<String, String> {
    let absolute = if path.starts_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("/{path}")) };
    match normalize(&absolute) {
        Ok(path) => Ok(path.into_owned()),
        Err(refusal) => Err(format!("the replacement path is not a path: {}", refusal.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::{LinkedPathModifier, RewrittenPath};
    use crate::path::normalize;
    use portcullis_model::PathModifier;
    use proptest::prelude::*;

    fn rewrite(modifier: PathModifier, path: &'static str, prefix: &str) -> String {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix).len();
        let mut rewritten = RewrittenPath { path: path.into(), prefix };
        LinkedPathModifier::new(&modifier, true).unwrap().apply(&mut rewritten);
        rewritten.path.into_owned()
    }

    /// The table of HTTPPathModifier.replacePrefixMatch, and beyond.
    #[test]
    fn replace_prefix_match() {
        for (path, prefix, replacement, modified) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/bar", "/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/a/../b", "/b/bar"),
            ("/foo/bar", "/foo", "xyz", "/xyz/bar"),
        ] {
            let modifier = PathModifier::ReplacePrefixMatch(replacement.into());
            assert_eq!(rewrite(modifier, path, prefix), modified, "{path} {prefix} {replacement}");
        }
    }

    #[test]
    fn replace_full_path() {
        for (path, replacement, modified) in
            [("/foo/bar", "/one", "/one"), ("/foo", "", "/"), ("/foo", "one/", "/one/"), ("/foo", "/a b", "")]
        {
            match modified {
                "" => {
                    assert!(LinkedPathModifier::new(&PathModifier::ReplaceFullPath(replacement.into()), true).is_err())
                }
                _ => assert_eq!(rewrite(PathModifier::ReplaceFullPath(replacement.into()), path, "/foo"), modified),
            }
        }
    }

    #[test]
    fn a_backends_modifier_goes_on_from_the_rules() {
        let rule = LinkedPathModifier::new(&PathModifier::ReplacePrefixMatch("/rule".into()), true).unwrap();
        let backend = LinkedPathModifier::new(&PathModifier::ReplacePrefixMatch("/backend".into()), true).unwrap();
        let mut rewritten = RewrittenPath { path: "/foo/bar".into(), prefix: 4 };
        rule.apply(&mut rewritten);
        backend.apply(&mut rewritten);
        assert_eq!(rewritten.path, "/backend/bar");
    }

    #[test]
    fn a_prefix_modifier_needs_prefix_matches() {
        assert!(LinkedPathModifier::new(&PathModifier::ReplacePrefixMatch("/a".into()), false).is_err());
        assert!(LinkedPathModifier::new(&PathModifier::ReplaceFullPath("/a".into()), false).is_ok());
    }

    proptest! {
        #[test]
        fn a_modified_path_is_in_normal_form(
            elements in prop::collection::vec("[a.%2Fe;]{0,4}", 1..5),
            replacement in "[/a.%2Ee;]{0,8}",
            depth in 0usize..4,
        ) {
            let path = format!("/{}", elements.join("/"));
            let Ok(path) = normalize(&path) else { return Ok(()) };
            let prefix = path.match_indices('/').nth(depth).map_or(path.len(), |(at, _)| at);
            for modifier in
                [PathModifier::ReplaceFullPath(replacement.as_str().into()), PathModifier::ReplacePrefixMatch(replacement.as_str().into())]
            {
                let Ok(modifier) = LinkedPathModifier::new(&modifier, true) else { continue };
                let mut rewritten = RewrittenPath { path: path.clone(), prefix };
                modifier.apply(&mut rewritten);
                let again = normalize(&rewritten.path).map(|path| path.into_owned());
                prop_assert_eq!(again, Ok(rewritten.path.to_string()));
                prop_assert!(rewritten.path.get(rewritten.prefix..).is_some());
            }
        }
    }
}
