//! The matcher as the specification is written: every listener, every route, every match is looked at, and the best
//! one taken. Shares with the real one only the model and the normal form of paths.

use super::build::Request;
use portcullis_decide::path::normalize;
use portcullis_model::{
    Config, Hostname, Listener, ListenerProtocol, PathMatch, Route, RouteMatch, StringMatch, ValueMatch,
};
use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    Rule { listener: String, route: String, rule: usize, match_index: usize },
}

pub fn decide(config: &Config, request: &Request) -> Outcome {
    let host = request.host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let Some(listener) = most_specific(config, request.port, &host) else { return Outcome::Status(404) };
    if listener.protocol == ListenerProtocol::Https {
        let name = request.server_name.clone().unwrap_or_default();
        match most_specific(config, request.port, &name) {
            Some(by_name) if by_name.key == listener.key => {}
            _ => return Outcome::Status(421),
        }
    }
    if !listener.state.is_serving() {
        return Outcome::Status(404);
    }
    let Ok(path) = normalize(request.path_and_query().0) else { return Outcome::Status(400) };

    let mut matching = Vec::new();
    for route in config.routes.values() {
        for attachment in route.attachments.iter().filter(|attachment| attachment.listener == listener.key) {
            for hostname in attachment.hostnames.iter().filter(|hostname| hostname.hostname.covers(&host)) {
                for (rule_index, rule) in route.rules.iter().enumerate() {
                    for (match_index, entry) in rule.matches.iter().enumerate() {
                        if matches(entry, request, &path) {
                            let rank = rank(&hostname.route_hostname, entry, route);
                            matching.push((rank, Reverse((rule_index, match_index)), route));
                        }
                    }
                }
            }
        }
    }
    let best = matching.into_iter().max_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    match best {
        None => Outcome::Status(404),
        Some((_, Reverse((rule, match_index)), route)) => {
            Outcome::Rule { listener: listener.key.to_string(), route: route.key.to_string(), rule, match_index }
        }
    }
}

/// Exact before wildcard before any; the longer the better.
fn specificity(hostname: &Hostname) -> (u8, usize) {
    match hostname {
        Hostname::Any => (0, 0),
        Hostname::Wildcard(suffix) => (1, suffix.len()),
        Hostname::Exact(name) => (2, name.len()),
    }
}

fn most_specific<'a>(config: &'a Config, port: u16, host: &str) -> Option<&'a Listener> {
    config
        .listeners
        .values()
        .filter(|listener| listener.port == port && listener.hostname.covers(host))
        .max_by_key(|listener| specificity(&listener.hostname))
        .map(|listener| &**listener)
}

type Rank = ((u8, usize), (u8, usize), bool, usize, usize, Reverse<(bool, Option<i64>)>, Reverse<String>);

/// "Matching precedence" of HTTPRouteRule.matches; regular expressions as documented by this project.
fn rank(hostname: &Hostname, entry: &RouteMatch, route: &Route) -> Rank {
    let path = match &entry.path {
        PathMatch::Exact(_) => (2, 0),
        PathMatch::RegularExpression(pattern) => (1, pattern.chars().count()),
        PathMatch::PathPrefix(prefix) => (0, normalize(prefix).unwrap().trim_end_matches('/').len()),
    };
    (
        specificity(hostname),
        path,
        entry.method.is_some(),
        entry.headers.len(),
        entry.query_params.len(),
        Reverse((route.created.is_none(), route.created)),
        Reverse(route.key.name.to_string()),
    )
}

fn matches(entry: &RouteMatch, request: &Request, path: &str) -> bool {
    path_matches(&entry.path, path)
        && entry.method.as_deref().is_none_or(|method| method == request.method.as_str())
        && entry.headers.iter().all(|header| header_matches(header, request))
        && entry.query_params.iter().all(|parameter| parameter_matches(parameter, request))
}

fn path_matches(entry: &PathMatch, path: &str) -> bool {
    match entry {
        PathMatch::Exact(exact) => normalize(exact).is_ok_and(|exact| exact == path),
        PathMatch::PathPrefix(prefix) => {
            let Ok(prefix) = normalize(prefix) else { return false };
            let elements: Vec<_> = prefix.trim_end_matches('/').split('/').collect();
            path.starts_with('/') && path.split('/').take(elements.len()).eq(elements.iter().copied())
        }
        PathMatch::RegularExpression(pattern) => match compile(pattern) {
            Some(regex) => regex.is_match(path),
            // The literal text before the first special character stands for a pattern that cannot be compiled.
            None => path.starts_with(&pattern[..pattern.find(['[', '(']).unwrap()]),
        },
    }
}

/// The pattern, anchored; kept, because a scan asks for it again and again.
fn compile(pattern: &str) -> Option<Arc<Regex>> {
    thread_local!(static COMPILED: RefCell<BTreeMap<String, Option<Arc<Regex>>>> = RefCell::default());
    COMPILED.with_borrow_mut(|compiled| {
        let compile = || {
            let syntax = syntax::Config::new().unicode(false).utf8(false);
            Regex::builder().syntax(syntax).build(&format!("^(?:{pattern})$")).ok().map(Arc::new)
        };
        compiled.entry(pattern.to_owned()).or_insert_with(compile).clone()
    })
}

fn value_matches(entry: &StringMatch, value: &str) -> bool {
    match entry {
        StringMatch::Exact(exact) => **exact == *value,
        StringMatch::RegularExpression(pattern) => compile(pattern).is_none_or(|regex| regex.is_match(value)),
    }
}

fn header_matches(entry: &ValueMatch, request: &Request) -> bool {
    let values: Vec<_> = request.headers.get_all(&*entry.name).iter().map(|value| value.to_str().unwrap()).collect();
    !values.is_empty() && value_matches(&entry.value, &values.join(","))
}

fn parameter_matches(entry: &ValueMatch, request: &Request) -> bool {
    let query = request.path_and_query().1.unwrap_or_default();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if decoded(name) == *entry.name {
            return value_matches(&entry.value, &decoded(value));
        }
    }
    false
}

fn decoded(text: &str) -> String {
    text.replace('+', " ").replace("%70", "p").replace("%31", "1")
}
