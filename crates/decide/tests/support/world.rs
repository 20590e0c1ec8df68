//! Configurations and requests made from bytes: the same for property tests and for fuzzing.

use super::build::{Request, attachment, failure, gateway, get, is, like, listener, rule};
use http::Method;
use portcullis_model::{
    Config, FailureReason, Hostname, ListenerState, ObjectName, PathMatch, Route, RouteKey, RouteKind, RouteMatch,
    Rule, RuleAction, ValueMatch,
};
use std::sync::Arc;

/// Choices, taken from bytes; zeros once they are used up.
pub struct Source<'a>(pub &'a [u8]);

impl Source<'_> {
    pub fn below(&mut self, end: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % end
    }

    pub fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == one_in - 1
    }
}

const HOSTNAMES: &[&str] =
    &["*", "*.example.com", "a.example.com", "*.a.example.com", "b.example.com", "example.com", "*.com", "other.org"];
const HOSTS: &[&str] =
    &["a.example.com", "b.example.com", "example.com", "x.a.example.com", "c.example.com", "other.org", "x.org", ""];
const EXACT: &[&str] = &["/a", "/", "/a/b", "/a/", "/%61/b"];
const PREFIX: &[&str] = &["/", "/a", "/a/", "/a/b", "/ab", "/%61/b/", "/b"];
const PATTERNS: &[&str] = &["/a.*", "/.*", "/[ab]", "/a/[b-c]+", ".*b", "/a|/b", "/a/[", "/.+/b", "(?i)/A", ""];
const PATHS: &[&str] =
    &["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b", "/A", "/a//b", "/c/../a/b", "/%61", "*", "/..", "/b/b", "/a/c"];
const QUERIES: &[&str] = &["", "?p=1", "?p=2&q=1", "?p=1&p=2", "?%70=%31", "?q", "?q=1&&p=1", "?p=1+2&q=", "?P=1"];

pub fn config(source: &mut Source<'_>) -> Config {
    let mut config = gateway();
    for name in ["l0", "l1", "l2", "l3", "l4", "l5"] {
        add_listener(&mut config, name, source);
    }
    for at in 0..source.below(12) {
        add_route(&mut config, at, source);
    }
    config
}

pub fn add_listener(config: &mut Config, name: &str, source: &mut Source<'_>) {
    let mut new = listener(name, source.one(&[80, 443]), source.one(HOSTNAMES));
    if source.chance(8) {
        new.state = ListenerState::Invalid { reason: "Invalid".into() };
    }
    let same = |old: &portcullis_model::Listener| old.port == new.port && old.hostname == new.hostname;
    if config.listeners.values().any(|old| old.key != new.key && same(old)) {
        return;
    }
    config.listeners.insert(new.key.clone(), Arc::new(new));
}

pub fn add_route(config: &mut Config, at: usize, source: &mut Source<'_>) {
    let namespace = ["a", "a-b", "b"][at % 3];
    let key = RouteKey { kind: RouteKind::HttpRoute, name: ObjectName::new(namespace, format!("r{}", at / 3)) };
    let hostnames: Vec<_> = (0..=source.below(2)).map(|_| Hostname::new(Some(source.one(HOSTNAMES)))).collect();
    let attachments =
        config.listeners.values().filter(|_| source.below(3) > 0).filter_map(|entry| attachment(entry, &hostnames));
    let attachments = attachments.collect();
    // Some routes have one path only, so that many matches meet in one place.
    let path = source.chance(3).then(|| path(source));
    let rules = (0..=source.below(4)).map(|_| random_rule(source, path.as_ref())).collect();
    let created = source.one(&[None, None, Some(1), Some(2)]);
    config.routes.insert(key.clone(), Arc::new(Route { key, created, attachments, rules: Arc::new(rules) }));
}

fn random_rule(source: &mut Source<'_>, path: Option<&PathMatch>) -> Rule {
    let matches = (0..=source.below(4)).map(|_| random_match(source, path)).collect();
    let mut rule = rule(matches, "service");
    if source.chance(6) {
        rule.action = RuleAction::Fail(failure(500, FailureReason::InvalidKind));
    }
    rule
}

fn random_match(source: &mut Source<'_>, shared: Option<&PathMatch>) -> RouteMatch {
    let path = shared.cloned().unwrap_or_else(|| path(source));
    if source.chance(3) {
        return RouteMatch { path, method: None, headers: Vec::new(), query_params: Vec::new() };
    }
    RouteMatch {
        path,
        method: source.one(&[None, None, Some("GET"), Some("POST")]).map(Into::into),
        headers: values(source, &["x-a", "x-b"]),
        query_params: values(source, &["p", "q"]),
    }
}

fn path(source: &mut Source<'_>) -> PathMatch {
    match source.below(4) {
        0 => PathMatch::Exact(source.one(EXACT).into()),
        1 => PathMatch::PathPrefix(source.one(PREFIX).into()),
        2 => PathMatch::RegularExpression(source.one(PATTERNS).into()),
        _ => {
            let (from, to) = (source.below(3), 3 + source.below(3));
            let letter = |at| char::from(b'a' + at as u8);
            PathMatch::RegularExpression(format!("/[{}-{}]*[/b-c]*.?", letter(from), letter(to)).into())
        }
    }
}

fn values(source: &mut Source<'_>, names: &[&str]) -> Vec<ValueMatch> {
    let mut values = Vec::new();
    for name in names {
        match source.below(6) {
            0 => values.push(is(name, source.one(&["1", "2", "1,2", ""]))),
            1 => values.push(like(name, source.one(&["[0-9]+", ".*", "1|2", "x*"]))),
            _ => {}
        }
    }
    values
}

pub fn request(source: &mut Source<'_>) -> Request {
    let host = source.one(HOSTS);
    let mut request = get(host);
    request.port = source.one(&[80, 443]);
    if request.port == 443 {
        let same = (!host.is_empty()).then(|| host.to_owned());
        request.server_name = if source.below(3) > 0 { same } else { source.one(HOSTS).to_owned().into() };
        request.server_name = request.server_name.filter(|name| !name.is_empty());
    }
    match (source.below(6), host) {
        (_, "") => {}
        (0, host) => request.host = format!("{host}:8080"),
        (1, host) => request.host = host.to_ascii_uppercase(),
        _ => {}
    }
    let path = match source.chance(3) {
        true => (0..=source.below(4)).map(|_| source.one(&["/a", "/b", "b", "c", "/", "d"])).collect(),
        false => source.one(PATHS).to_owned(),
    };
    request.target = format!("{path}{}", source.one(QUERIES));
    request.method = source.one(&[Method::GET, Method::GET, Method::POST, Method::OPTIONS]);
    for name in ["x-a", "x-b", "x-a"] {
        if source.chance(2) {
            request = request.header(name, source.one(&["1", "2", "x", "1,2"]));
        }
    }
    request
}
