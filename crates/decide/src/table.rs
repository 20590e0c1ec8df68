//! The rules of one host on one listener, found by path.
//!
//! Candidates with the same path stand together in a [`Leaf`], in the order of the specification's precedence. A large
//! leaf is indexed by what its candidates ask for, so that a request looks only at those that it may satisfy.

use crate::condition::{Conditions, Lookup};
use crate::host::Map;
use crate::literal::{LiteralIndex, Literals};
use crate::pattern::Pattern;
use crate::{LinkedRoute, LinkedRule};
use http::{HeaderName, Method};
use smallvec::SmallVec;
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Leaves with more candidates than this are indexed.
const SCAN: usize = 8;
/// Nodes of the prefix tree with more children than this use a map.
const FEW: usize = 8;

/// One match of one rule.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) route: Arc<LinkedRoute>,
    pub(crate) rule: u32,
    pub(crate) match_index: u32,
    /// Its place among all candidates that it competes with: those of its leaf, or all regular expressions of the host.
    order: u32,
}

impl Candidate {
    pub(crate) fn rule(&self) -> &Arc<LinkedRule> {
        &self.route.rules[self.rule as usize]
    }

    fn linked_match(&self) -> &LinkedMatch {
        &self.rule().matches[self.match_index as usize]
    }

    fn conditions(&self) -> Option<&Conditions> {
        self.linked_match().conditions.as_deref()
    }

    fn holds(&self, request: &Lookup<'_>) -> bool {
        self.conditions().is_none_or(|conditions| conditions.hold(request))
    }

    /// The specification's precedence among candidates with the same path: a method, more headers, more query
    /// parameters, the older route, `namespace/name`, the first rule, its first match.
    fn precedence(&self, other: &Self) -> Ordering {
        let counts = |candidate: &Self| {
            candidate.conditions().map_or((false, 0, 0), |conditions| {
                (conditions.method.is_some(), conditions.headers.len(), conditions.query_params.len())
            })
        };
        let place = |candidate: &Self| (candidate.rule, candidate.match_index);
        Reverse(counts(self))
            .cmp(&Reverse(counts(other)))
            .then_with(|| self.route.precedence(&other.route))
            .then_with(|| place(self).cmp(&place(other)))
    }
}

/// A match of a rule, compiled once for all hosts of its route.
#[derive(Debug)]
pub(crate) struct LinkedMatch {
    pub(crate) path: LinkedPath,
    pub(crate) conditions: Option<Box<Conditions>>,
}

/// A path match in normal form.
#[derive(Debug)]
pub(crate) enum LinkedPath {
    Exact(Arc<str>),
    /// Without its trailing slash; empty for `/`.
    Prefix(Arc<str>),
    Pattern(Arc<Pattern>),
    /// A pattern that does not compile: every path that begins with its leading text is its rule's, which fails.
    Broken {
        text: Arc<str>,
        leading: Box<str>,
    },
    /// A value without a normal form: no request has such a path.
    Never,
}

/// The rules of one host.
#[derive(Debug, Default)]
pub(crate) struct HostTable {
    /// Whose rules, sorted by key.
    pub(crate) routes: Box<[Arc<LinkedRoute>]>,
    exact: Option<Box<Map<Arc<str>, Leaf>>>,
    patterns: Option<Box<PatternTable>>,
    prefixes: PrefixNode,
}

impl HostTable {
    pub(crate) fn new(routes: Vec<Arc<LinkedRoute>>) -> Self {
        let mut exact: BTreeMap<&Arc<str>, Vec<Candidate>> = BTreeMap::new();
        let mut prefixes: BTreeMap<&Arc<str>, Vec<Candidate>> = BTreeMap::new();
        let mut patterns = Vec::new();
        for route in &routes {
            for (rule, linked) in route.rules.iter().enumerate() {
                for (match_index, linked) in linked.matches.iter().enumerate() {
                    let candidate = Candidate {
                        route: route.clone(),
                        rule: rule as u32,
                        match_index: match_index as u32,
                        order: 0,
                    };
                    match &linked.path {
                        LinkedPath::Exact(path) => exact.entry(path).or_default().push(candidate),
                        LinkedPath::Prefix(path) => prefixes.entry(path).or_default().push(candidate),
                        LinkedPath::Pattern(_) | LinkedPath::Broken { .. } => patterns.push(candidate),
                        LinkedPath::Never => {}
                    }
                }
            }
        }
        let exact: Map<_, _> = exact.into_iter().map(|(path, leaf)| (path.clone(), Leaf::new(leaf))).collect();
        let mut tree = PrefixBuilder::default();
        for (path, leaf) in prefixes {
            tree.insert(path, Leaf::new(leaf));
        }
        Self {
            exact: (!exact.is_empty()).then(|| Box::new(exact)),
            patterns: (!patterns.is_empty()).then(|| Box::new(PatternTable::new(patterns))),
            prefixes: tree.build(),
            routes: routes.into(),
        }
    }

    /// Exact, then regular expressions, then prefixes from the longest to the shortest.
    pub(crate) fn find(&self, request: &Lookup<'_>) -> Option<&Candidate> {
        if let Some(found) = self.exact.as_ref().and_then(|exact| exact.get(request.path)?.find(request)) {
            return Some(found);
        }
        if let Some(found) = self.patterns.as_ref().and_then(|patterns| patterns.find(request)) {
            return Some(found);
        }
        self.prefixes.find(request)
    }
}

/// PathPrefix matches, by path element.
#[derive(Debug, Default)]
struct PrefixNode {
    leaf: Option<Leaf>,
    children: Children,
}

#[derive(Debug, Default)]
enum Children {
    #[default]
    None,
    Few(Box<[(Box<str>, PrefixNode)]>),
    Many(Box<Map<Box<str>, PrefixNode>>),
}

impl PrefixNode {
    fn child(&self, element: &str) -> Option<&Self> {
        match &self.children {
            Children::None => None,
            Children::Few(few) => few.iter().find(|(name, _)| **name == *element).map(|(_, node)| node),
            Children::Many(many) => many.get(element),
        }
    }

    fn find(&self, request: &Lookup<'_>) -> Option<&Candidate> {
        let mut leaves: SmallVec<[&Leaf; 16]> = SmallVec::new();
        let mut node = self;
        leaves.extend(&node.leaf);
        // `*` is not below the root.
        for element in request.path.strip_prefix('/')?.split('/') {
            match node.child(element) {
                Some(child) => node = child,
                None => break,
            }
            leaves.extend(&node.leaf);
        }
        leaves.into_iter().rev().find_map(|leaf| leaf.find(request))
    }
}

#[derive(Default)]
struct PrefixBuilder {
    leaf: Option<Leaf>,
    children: BTreeMap<Box<str>, PrefixBuilder>,
}

impl PrefixBuilder {
    /// A prefix without its trailing slash.
    fn insert(&mut self, prefix: &str, leaf: Leaf) {
        let mut node = self;
        for element in prefix.split('/').skip(1) {
            node = node.children.entry(element.into()).or_default();
        }
        node.leaf = Some(leaf);
    }

    /// As deep as the longest prefix of the configuration, whose length the API limits.
    fn build(self) -> PrefixNode {
        let children = self.children.into_iter().map(|(name, child)| (name, child.build()));
        let children = match children.len() {
            0 => Children::None,
            1..=FEW => Children::Few(children.collect()),
            _ => Children::Many(Box::new(children.collect())),
        };
        PrefixNode { leaf: self.leaf, children }
    }
}

/// RegularExpression matches: found by the literal text that a pattern begins and ends with, then tried.
#[derive(Debug)]
struct PatternTable {
    entries: Box<[PatternEntry]>,
    index: LiteralIndex,
}

/// The candidates of one pattern.
#[derive(Debug)]
struct PatternEntry {
    /// `None` for a broken pattern, for which its leading text stands.
    pattern: Option<Arc<Pattern>>,
    leaf: Leaf,
}

impl PatternTable {
    fn new(mut candidates: Vec<Candidate>) -> Self {
        fn text(candidate: &Candidate) -> &str {
            match &candidate.linked_match().path {
                LinkedPath::Pattern(pattern) => pattern.text(),
                LinkedPath::Broken { text, .. } => text,
                LinkedPath::Exact(_) | LinkedPath::Prefix(_) | LinkedPath::Never => "",
            }
        }
        candidates.sort_by_cached_key(|candidate| Reverse(text(candidate).chars().count()));
        for same_length in candidates.chunk_by_mut(|a, b| text(a).chars().count() == text(b).chars().count()) {
            same_length.sort_by(Candidate::precedence);
        }
        let mut by_text: BTreeMap<Arc<str>, Vec<Candidate>> = BTreeMap::new();
        for (order, mut candidate) in candidates.into_iter().enumerate() {
            candidate.order = order as u32;
            by_text.entry(text(&candidate).into()).or_default().push(candidate);
        }
        let mut literals = Vec::with_capacity(by_text.len());
        let entries: Box<[_]> = by_text
            .into_values()
            .map(|candidates| {
                let (pattern, prefix, suffix) = match candidates.first().map(|first| &first.linked_match().path) {
                    Some(LinkedPath::Pattern(pattern)) => {
                        (Some(pattern.clone()), pattern.prefix.clone(), pattern.suffix.clone())
                    }
                    Some(LinkedPath::Broken { leading, .. }) => (None, leading.as_bytes().into(), Box::default()),
                    _ => (None, Box::default(), Box::default()),
                };
                literals.push(Literals { prefix, suffix });
                PatternEntry { pattern, leaf: Leaf::ordered(candidates) }
            })
            .collect();
        let index = LiteralIndex::new(literals, |entry| entries[entry].pattern.clone());
        Self { entries, index }
    }

    fn find(&self, request: &Lookup<'_>) -> Option<&Candidate> {
        let mut best: Option<&Candidate> = None;
        self.index.visit(request.path.as_bytes(), &mut |entry, known_to_match| {
            let entry = &self.entries[entry];
            let first = entry.leaf.candidates.first().map_or(u32::MAX, |candidate| candidate.order);
            if best.is_some_and(|best| best.order <= first) {
                return;
            }
            let matches =
                known_to_match || entry.pattern.as_ref().is_none_or(|pattern| pattern.matches(request.path.as_bytes()));
            if let Some(found) = matches.then(|| entry.leaf.find(request)).flatten()
                && best.is_none_or(|best| found.order < best.order)
            {
                best = Some(found);
            }
        });
        best
    }
}

/// Candidates with the same path, the one that takes precedence first.
#[derive(Debug)]
struct Leaf {
    candidates: Box<[Candidate]>,
    index: Option<Box<LeafIndex>>,
}

impl Leaf {
    fn new(mut candidates: Vec<Candidate>) -> Self {
        candidates.sort_by(Candidate::precedence);
        for (order, candidate) in candidates.iter_mut().enumerate() {
            candidate.order = order as u32;
        }
        Self::ordered(candidates)
    }

    fn ordered(candidates: Vec<Candidate>) -> Self {
        let index = (candidates.len() > SCAN).then(|| Box::new(LeafIndex::new(&candidates)));
        Self { candidates: candidates.into(), index }
    }

    fn find(&self, request: &Lookup<'_>) -> Option<&Candidate> {
        match &self.index {
            None => self.candidates.iter().find(|candidate| candidate.holds(request)),
            Some(index) => index.find(&self.candidates, request).map(|at| &self.candidates[at as usize]),
        }
    }
}

/// Each candidate of a leaf under one thing that it asks for, the rarest.
#[derive(Debug, Default)]
struct LeafIndex {
    headers: Map<HeaderName, Values>,
    query_params: Map<Box<[u8]>, Values>,
    methods: Vec<(Method, Vec<u32>)>,
    /// Those that ask for nothing: only the first of them counts.
    rest: Option<u32>,
}

/// Candidates by the value of one header or query parameter; places in ascending order.
#[derive(Debug, Default)]
struct Values {
    exact: Map<Box<[u8]>, Vec<u32>>,
    /// Those with a pattern.
    any: Vec<u32>,
}

/// One thing that a candidate asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key<'a> {
    Header(&'a HeaderName, Option<&'a str>),
    Query(&'a str, Option<&'a str>),
    Method(&'a Method),
}

fn keys(conditions: &Conditions) -> impl Iterator<Item = Key<'_>> {
    let exact = |value| Option::map(crate::condition::Value::exact(value), |value| &**value);
    let headers = conditions.headers.iter().map(move |(name, value)| Key::Header(name, exact(value)));
    let query = conditions.query_params.iter().map(move |(name, value)| Key::Query(name, exact(value)));
    headers.chain(query).chain(conditions.method.as_ref().map(Key::Method))
}

impl LeafIndex {
    fn new(candidates: &[Candidate]) -> Self {
        let mut uses: Map<Key<'_>, u32> = Map::default();
        for key in candidates.iter().filter_map(Candidate::conditions).flat_map(keys) {
            *uses.entry(key).or_default() += 1;
        }
        let mut index = Self::default();
        for (at, candidate) in candidates.iter().enumerate() {
            let at = at as u32;
            let rarest = candidate.conditions().and_then(|conditions| keys(conditions).min_by_key(|key| uses.get(key)));
            match rarest {
                None => index.rest = index.rest.or(Some(at)),
                Some(Key::Header(name, value)) => {
                    index.headers.entry(name.clone()).or_default().push(value, at);
                }
                Some(Key::Query(name, value)) => {
                    index.query_params.entry(name.as_bytes().into()).or_default().push(value, at);
                }
                Some(Key::Method(method)) => match index.methods.iter_mut().find(|(known, _)| known == method) {
                    Some((_, places)) => places.push(at),
                    None => index.methods.push((method.clone(), vec![at])),
                },
            }
        }
        index
    }

    /// The first candidate that holds.
    fn find(&self, candidates: &[Candidate], request: &Lookup<'_>) -> Option<u32> {
        let mut best = self.rest;
        let mut consider = |places: &[u32]| {
            for &at in places.iter().take_while(|at| best.is_none_or(|best| **at < best)) {
                if candidates[at as usize].holds(request) {
                    best = Some(at);
                    return;
                }
            }
        };
        if let Some((_, places)) = self.methods.iter().find(|(method, _)| method == request.head.method) {
            consider(places);
        }
        // From the shorter side.
        if self.headers.len() <= request.head.headers.keys().len() {
            for (name, values) in &self.headers {
                if let Some(received) = request.header(name) {
                    values.visit(&received, &mut consider);
                }
            }
        } else {
            for name in request.head.headers.keys().chain([&http::header::HOST]) {
                if let Some(values) = self.headers.get(name)
                    && let Some(received) = request.header(name)
                {
                    values.visit(&received, &mut consider);
                }
            }
        }
        if !self.query_params.is_empty() {
            for (name, received) in request.query().iter() {
                if let Some(values) = self.query_params.get(name) {
                    values.visit(received, &mut consider);
                }
            }
        }
        best
    }
}

impl Values {
    fn push(&mut self, value: Option<&str>, at: u32) {
        match value {
            Some(value) => self.exact.entry(value.as_bytes().into()).or_default().push(at),
            None => self.any.push(at),
        }
    }

    fn visit(&self, received: &[u8], consider: &mut impl FnMut(&[u32])) {
        if let Some(places) = self.exact.get(received) {
            consider(places);
        }
        if !self.any.is_empty() {
            consider(&self.any);
        }
    }
}
