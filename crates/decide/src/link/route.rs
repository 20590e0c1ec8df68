//! Route → LinkedRoute: everything that routes give as text is parsed here, once.

use crate::condition::{Conditions, Value};
use crate::filter::{LinkedFilter, LinkedRedirect};
use crate::linked::LinkedAction;
use crate::path::{PathRefusal, normalize};
use crate::pattern::{Pattern, leading_text};
use crate::table::{LinkedMatch, LinkedPath};
use crate::{LinkProblem, LinkedBackend, LinkedObject, LinkedRoute, LinkedRule, RuleId, RulePosition, TelemetrySlot};
use http::{HeaderName, Method};
use portcullis_model::{
    BackendTarget, Failure, FailureReason, Filter, PathMatch, Route, RouteMatch, Rule, RuleAction, StringMatch,
    ValueMatch, WeightedBackend,
};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest path of a match; the API's limit is 1,024.
const MAX_PATH: usize = 4096;

/// Links routes; equal patterns are compiled once.
#[derive(Default)]
pub(super) struct Linker {
    patterns: BTreeMap<Arc<str>, Result<Arc<Pattern>, Arc<str>>>,
    /// Of the route in work.
    problems: Vec<Problem>,
}

#[derive(Clone)]
struct Problem {
    field: String,
    message: String,
    effect: Effect,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// No request can meet the match; the rest of the rule is whole.
    MatchNeverMet,
    /// The rule answers 500.
    RuleFails,
    /// The backend's share is answered with 500.
    BackendFails,
}

impl Linker {
    pub(super) fn route(&mut self, source: &Arc<Route>, old: Option<&LinkedRoute>) -> LinkedRoute {
        let rules = source.rules.iter().enumerate();
        let rules = rules.map(|(index, rule)| Arc::new(self.rule(source, index, rule, old))).collect();
        let object = LinkedObject::Route(source.key.clone());
        let problems = std::mem::take(&mut self.problems).into_iter();
        LinkedRoute {
            key: source.key.clone(),
            rules,
            telemetry: TelemetrySlot::kept(old.map(|old| &old.telemetry)),
            source: source.clone(),
            problems: problems
                .map(|Problem { field, message, .. }| LinkProblem { object: object.clone(), field, message })
                .collect(),
        }
    }

    fn rule(&mut self, route: &Route, index: usize, rule: &Rule, old: Option<&LinkedRoute>) -> LinkedRule {
        let field = format!("spec.rules[{index}]");
        let before = self.problems.len();
        let position = match &rule.name {
            Some(name) => RulePosition::Name(name.clone()),
            None => RulePosition::Index(index as u32),
        };
        let id = RuleId { route: route.key.clone(), rule: position };
        let old = old.and_then(|old| old.rules.iter().find(|rule| rule.id == id));

        let matches = rule.matches.iter().enumerate();
        let matches: Box<[_]> =
            matches.map(|(at, entry)| self.route_match(&format!("{field}.matches[{at}]"), entry)).collect();
        let by_prefix = matches.iter().all(|entry| matches!(entry.path, LinkedPath::Prefix(_)));
        let filters = self.filters(&format!("{field}.filters"), &rule.filters, by_prefix, Effect::RuleFails);
        let (action, backends) = match &rule.action {
            RuleAction::Forward(backends) => (LinkedAction::Forward, self.backends(&field, backends, by_prefix)),
            RuleAction::Fail(failure) => (LinkedAction::Fail(Arc::new((**failure).clone())), Box::default()),
            RuleAction::Redirect(redirect) => match LinkedRedirect::new(redirect, by_prefix) {
                Ok(redirect) => (LinkedAction::Redirect(Box::new(redirect)), Box::default()),
                Err(message) => {
                    let message = format!("RequestRedirect: {message}");
                    self.problem(format!("{field}.filters"), message, Effect::RuleFails);
                    (LinkedAction::Forward, Box::default())
                }
            },
        };
        let fatal = self.problems[before..].iter().find(|problem| problem.effect == Effect::RuleFails);
        let action = match (action, fatal) {
            (action @ LinkedAction::Fail(_), _) | (action, None) => action,
            (_, Some(problem)) => LinkedAction::Fail(problem.failure()),
        };
        LinkedRule {
            id,
            index,
            name: rule.name.clone(),
            timeouts: rule.timeouts,
            retry: rule.retry.clone().map(Box::new),
            backends: if matches!(action, LinkedAction::Forward) { backends } else { Box::default() },
            telemetry: TelemetrySlot::kept(old.map(|old| &old.telemetry)),
            matches,
            filters,
            action,
        }
    }

    fn problem(&mut self, field: String, message: String, effect: Effect) {
        self.problems.push(Problem { field, message, effect });
    }

    fn filters(&mut self, field: &str, filters: &[Filter], by_prefix: bool, effect: Effect) -> Box<[LinkedFilter]> {
        let mut linked = Vec::with_capacity(filters.len());
        for filter in filters {
            match LinkedFilter::new(filter, by_prefix) {
                Ok(filter) => linked.extend(filter),
                Err(message) => self.problem(field.into(), message, effect),
            }
        }
        linked.into()
    }

    fn backends(&mut self, field: &str, backends: &[WeightedBackend], by_prefix: bool) -> Box<[LinkedBackend]> {
        let mut link = |(at, backend): (usize, &WeightedBackend)| {
            let field = format!("{field}.backendRefs[{at}].filters");
            let before = self.problems.len();
            let filters = self.filters(&field, &backend.filters, by_prefix, Effect::BackendFails);
            let target = match (&backend.target, self.problems.get(before)) {
                (BackendTarget::Invalid(failure), _) => Err(Arc::new((**failure).clone())),
                (_, Some(problem)) => Err(problem.failure()),
                (BackendTarget::Backend(key), None) => Ok(key.clone()),
            };
            LinkedBackend { weight: backend.weight, target, filters }
        };
        backends.iter().enumerate().map(&mut link).collect()
    }

    fn route_match(&mut self, field: &str, entry: &RouteMatch) -> LinkedMatch {
        let path = self.path(&format!("{field}.path.value"), &entry.path);
        let mut never = false;
        let method = entry.method.as_ref().and_then(|text| {
            let method = Method::from_bytes(text.as_bytes()).ok();
            if method.is_none() {
                never = true;
                self.problem(format!("{field}.method"), NEVER_MET.into(), Effect::MatchNeverMet);
            }
            method
        });
        let mut headers = Vec::with_capacity(entry.headers.len());
        for header in &entry.headers {
            match HeaderName::from_bytes(header.name.as_bytes()) {
                Ok(name) => headers.extend(self.value(&format!("{field}.headers"), header).map(|value| (name, value))),
                Err(_) => {
                    never = true;
                    self.problem(format!("{field}.headers[].name"), NEVER_MET.into(), Effect::MatchNeverMet);
                }
            }
        }
        let mut query_params = Vec::with_capacity(entry.query_params.len());
        for parameter in &entry.query_params {
            let value = self.value(&format!("{field}.queryParams"), parameter);
            query_params.extend(value.map(|value| (parameter.name.clone(), value)));
        }
        let plain = method.is_none() && headers.is_empty() && query_params.is_empty();
        let conditions = Conditions { method, headers: headers.into(), query_params: query_params.into() };
        LinkedMatch {
            path: if never { LinkedPath::Never } else { path },
            conditions: (!plain).then(|| Box::new(conditions)),
        }
    }

    /// `None` for a pattern that does not compile: the rule fails, for every value.
    fn value(&mut self, field: &str, entry: &ValueMatch) -> Option<Value> {
        match &entry.value {
            StringMatch::Exact(value) => Some(Value::Exact(value.clone())),
            StringMatch::RegularExpression(text) => match self.pattern(text) {
                Ok(pattern) => Some(Value::Pattern(pattern)),
                Err(why) => {
                    self.problem(format!("{field}[].value"), broken_pattern(text, &why), Effect::RuleFails);
                    None
                }
            },
        }
    }

    fn path(&mut self, field: &str, path: &PathMatch) -> LinkedPath {
        match path {
            PathMatch::Exact(path) => self.normal(field, path).map_or(LinkedPath::Never, LinkedPath::Exact),
            PathMatch::PathPrefix(path) => match self.normal(field, path) {
                Some(path) => LinkedPath::Prefix(match path.strip_suffix('/') {
                    Some(path) => path.into(),
                    None => path,
                }),
                None => LinkedPath::Never,
            },
            PathMatch::RegularExpression(text) => match self.pattern(text) {
                Ok(pattern) => LinkedPath::Pattern(pattern),
                Err(why) => {
                    self.problem(field.into(), broken_pattern(text, &why), Effect::RuleFails);
                    LinkedPath::Broken { text: text.clone(), leading: leading_text(text).into() }
                }
            },
        }
    }

    fn normal(&mut self, field: &str, path: &Arc<str>) -> Option<Arc<str>> {
        let normal = match path.len() {
            0..=MAX_PATH if path.starts_with('/') => normalize(path).map_err(PathRefusal::as_str),
            0..=MAX_PATH => Err(PathRefusal::NotAbsolute.as_str()),
            _ => Err("PathTooLong"),
        };
        match normal {
            Ok(Cow::Borrowed(_)) => Some(path.clone()),
            Ok(Cow::Owned(path)) => Some(path.into()),
            Err(refusal) => {
                self.problem(field.into(), format!("{refusal}: {NEVER_MET}"), Effect::MatchNeverMet);
                None
            }
        }
    }

    fn pattern(&mut self, text: &Arc<str>) -> Result<Arc<Pattern>, Arc<str>> {
        let compile = || Pattern::new(text).map(Arc::new).map_err(Arc::from);
        self.patterns.entry(text.clone()).or_insert_with(compile).clone()
    }
}

const NEVER_MET: &str = "no request that is let in can have it, the match is never met; give a value that can be sent";

fn broken_pattern(text: &str, why: &str) -> String {
    let shown: String = text.chars().take(100).flat_map(char::escape_default).collect();
    format!("the pattern \"{shown}\" cannot be used: {why}; the rule answers 500 until it is corrected")
}

impl Problem {
    fn failure(&self) -> Arc<Failure> {
        Arc::new(Failure {
            status_code: 500,
            reason: FailureReason::UnsupportedValue,
            field: self.field.clone(),
            message: self.message.clone(),
        })
    }
}
