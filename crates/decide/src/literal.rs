//! Which regular expressions a path can match at all, told from the literal text that they begin and end with.
//!
//! Patterns are found by their leading text, among those with the same by their ending, and only what then is left in
//! one place in greater number is tried as a set, in one pass over the path.

use crate::pattern::{Pattern, Set};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Places with more entries than this are divided further.
const SCAN: usize = 8;
/// Patterns of one set.
const SET: usize = 1024;

/// What all values of an entry begin and end with.
pub(crate) struct Literals {
    pub(crate) prefix: Box<[u8]>,
    pub(crate) suffix: Box<[u8]>,
}

/// Entries are numbers; what they mean is the caller's.
#[derive(Debug)]
pub(crate) struct LiteralIndex(PrefixMap<ByEnding>);

#[derive(Debug)]
enum ByEnding {
    Few(Box<[usize]>),
    /// By the text they end with, from its end.
    Many(PrefixMap<Last>),
}

#[derive(Debug)]
struct Last {
    /// Tried one by one.
    scan: Box<[usize]>,
    sets: Box<[(Set, Box<[usize]>)]>,
}

impl LiteralIndex {
    /// `literals[entry]` is what the entry's values begin and end with.
    pub(crate) fn new(literals: Vec<Literals>, pattern: impl Fn(usize) -> Option<Arc<Pattern>>) -> Self {
        let mut by_prefix: BTreeMap<Box<[u8]>, Vec<usize>> = BTreeMap::new();
        let mut suffixes = Vec::with_capacity(literals.len());
        for (entry, Literals { prefix, suffix }) in literals.into_iter().enumerate() {
            by_prefix.entry(prefix).or_default().push(entry);
            suffixes.push(suffix);
        }
        Self(PrefixMap::new(by_prefix.into_iter().map(|(prefix, entries)| {
            if entries.len() <= SCAN {
                return (prefix, ByEnding::Few(entries.into()));
            }
            let mut by_suffix: BTreeMap<Box<[u8]>, Vec<usize>> = BTreeMap::new();
            for entry in entries {
                let reversed = suffixes[entry].iter().rev().copied().collect();
                by_suffix.entry(reversed).or_default().push(entry);
            }
            let by_suffix = by_suffix.into_iter().map(|(suffix, entries)| (suffix, Last::new(entries, &pattern)));
            (prefix, ByEnding::Many(PrefixMap::new(by_suffix)))
        })))
    }

    /// Calls back for every entry that a value can match; with `true` if it is known that it does.
    pub(crate) fn visit(&self, value: &[u8], callback: &mut impl FnMut(usize, bool)) {
        let mut reversed = None;
        self.0.visit(value, &mut |by_ending| match by_ending {
            ByEnding::Few(entries) => entries.iter().for_each(|entry| callback(*entry, false)),
            ByEnding::Many(by_suffix) => {
                let reversed = &**reversed.get_or_insert_with(|| value.iter().rev().copied().collect::<Vec<_>>());
                by_suffix.visit(reversed, &mut |last| last.visit(value, callback));
            }
        });
    }
}

impl Last {
    fn new(entries: Vec<usize>, pattern: &impl Fn(usize) -> Option<Arc<Pattern>>) -> Self {
        if entries.len() <= SCAN {
            return Self { scan: entries.into(), sets: Box::default() };
        }
        let (mut scan, mut sets) = (Vec::new(), Vec::new());
        for chunk in entries.chunks(SET) {
            let patterns: Option<Vec<_>> = chunk.iter().map(|entry| pattern(*entry)).collect();
            match patterns.and_then(|patterns| Set::new(&patterns)) {
                Some(set) => sets.push((set, chunk.into())),
                None => scan.extend_from_slice(chunk),
            }
        }
        Self { scan: scan.into(), sets: sets.into() }
    }

    fn visit(&self, value: &[u8], callback: &mut impl FnMut(usize, bool)) {
        self.scan.iter().for_each(|entry| callback(*entry, false));
        for (set, entries) in &self.sets {
            set.matching(value).into_iter().for_each(|at| callback(entries[at], true));
        }
    }
}

/// Values by byte strings, found from all strings that begin with them.
///
/// The keys are sorted, and each knows the longest other key that it begins with. All keys that a text begins with are
/// the last key that is not after the text, or among those that it begins with in turn.
#[derive(Debug)]
struct PrefixMap<T> {
    entries: Box<[PrefixEntry<T>]>,
}

#[derive(Debug)]
struct PrefixEntry<T> {
    key: Box<[u8]>,
    parent: Option<usize>,
    value: T,
}

impl<T> PrefixMap<T> {
    /// The keys ascend.
    fn new(sorted: impl Iterator<Item = (Box<[u8]>, T)>) -> Self {
        let mut entries: Vec<PrefixEntry<T>> = Vec::new();
        for (key, value) in sorted {
            let mut parent = entries.len().checked_sub(1);
            while let Some(at) = parent
                && !key.starts_with(&entries[at].key)
            {
                parent = entries[at].parent;
            }
            entries.push(PrefixEntry { key, parent, value });
        }
        Self { entries: entries.into() }
    }

    fn visit(&self, text: &[u8], callback: &mut impl FnMut(&T)) {
        let after = self.entries.partition_point(|entry| *entry.key <= *text);
        let Some(last) = after.checked_sub(1) else { return };
        let common = self.entries[last].key.iter().zip(text).take_while(|(a, b)| a == b).count();
        let mut next = Some(last);
        while let Some(at) = next {
            let entry = &self.entries[at];
            if entry.key.len() <= common {
                callback(&entry.value);
            }
            next = entry.parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PrefixMap;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn every_prefix_is_found(keys in prop::collection::btree_set("[ab]{0,5}", 0..40), text in "[ab]{0,6}") {
            let sorted: BTreeMap<Box<[u8]>, String> = keys.iter().map(|key| (key.as_bytes().into(), key.clone())).collect();
            let map = PrefixMap::new(sorted.into_iter());
            let mut found = Vec::new();
            map.visit(text.as_bytes(), &mut |key| found.push(key.clone()));
            found.sort();
            let expected: Vec<_> = keys.iter().filter(|key| text.starts_with(key.as_str())).cloned().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
