//! HTTPRoutes apart from their parents: rules, filters, backends. The same rules serve every Gateway that the route is attached to.
//!
//! An invalid rule stays: it matches as before and answers 500. If all rules are invalid, the route is not accepted; if some are, it is, and
//! says which in PartiallyInvalid. A reference that is not resolved does not make a rule invalid: its share of requests is answered with 500.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portcullis_api::http_route::{HttpBackendRef, HttpRoute, HttpRouteRetry, HttpRouteRule, HttpRouteTimeouts};
use portcullis_api::shared::{BackendObjectReference, GatewayDefaultScope, GatewayDuration};
use portcullis_api::{Foreign, ObjectKey};
use portcullis_model::{
    BackendKey, BackendTarget, Failure, FailureReason, Filter, Hostname, Retry, Rule, RuleAction, Timeouts,
    WeightedBackend,
};

use crate::attachment::Refusal;
use crate::backend::{self, Invalid, Surroundings};
use crate::conditions::route::{NotAccepted, Unresolved};
use crate::filter::{self, Filters, Place, Problem, ProblemReason};
use crate::findings::{Finding, FindingCode};
use crate::grants::Reference;
use crate::route_match;
use crate::text::{joined, unknown_field};

/// The status code of answers to requests that a broken piece of a route was meant for.
const INTERNAL_SERVER_ERROR: u16 = 500;

/// An HTTPRoute as it was judged, apart from its parents.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompiledRoute {
    pub(crate) rules: Arc<Vec<Rule>>,
    /// `Any` alone if the route names none; empty if none that it names can be read.
    pub(crate) hostnames: Vec<Hostname>,
    /// Why the route as a whole is refused.
    pub(crate) refusal: Option<Refusal>,
    /// Which rules are invalid, and why; not for a route that is refused.
    pub(crate) partially_invalid: Option<(String, String)>,
    pub(crate) unresolved: Option<(Unresolved, String)>,
    /// The backends that the rules name. Sorted.
    pub(crate) backends: Box<[BackendKey]>,
    /// References to backends, followed or not. Sorted.
    pub(crate) references: Box<[Reference]>,
    pub(crate) findings: Vec<Finding>,
}

/// Judges an HTTPRoute.
pub(crate) fn compile(key: &ObjectKey, route: &HttpRoute, surroundings: &Surroundings<'_>) -> CompiledRoute {
    let mut compiling = Compiling {
        namespace: key.namespace().into(),
        surroundings,
        references: BTreeSet::new(),
        unresolved: Vec::new(),
        repeated: Vec::new(),
    };
    let default_rule = [HttpRouteRule::default()];
    let specified = if route.spec.rules.is_empty() { default_rule.as_slice() } else { &route.spec.rules };
    let mut names = BTreeSet::new();
    let mut rules = Vec::with_capacity(specified.len());
    let mut invalid = Vec::new();
    let mut problems = Vec::new();
    for (index, rule) in specified.iter().enumerate() {
        let mut of_rule = Vec::new();
        if let Some(name) = &rule.name
            && !names.insert(name.as_str())
        {
            of_rule.push(Problem::value(
                format!("spec.rules[{index}].name"),
                "two rules have this name; give each its own",
            ));
        }
        rules.push(compiling.rule(rule, index, &mut of_rule));
        if of_rule.iter().any(|problem| problem.reason != ProblemReason::InvalidKind) {
            invalid.push(index);
        }
        problems.extend(of_rule);
    }
    let (kinds, problems): (Vec<_>, Vec<_>) =
        problems.into_iter().partition(|problem| problem.reason == ProblemReason::InvalidKind);
    for problem in kinds {
        let invalid = Invalid { reason: Unresolved::InvalidKind, message: problem.message };
        compiling.unresolved.push((problem.field, invalid));
    }

    let (hostnames, mut findings) = hostnames(key, route);
    let mut refusal = refusal(route, &hostnames);
    let mut partially_invalid = None;
    let messages: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
    if !invalid.is_empty() && invalid.len() == rules.len() {
        let is_incompatible = problems.iter().all(|problem| problem.reason == ProblemReason::IncompatibleFilters);
        let reason = if is_incompatible { NotAccepted::IncompatibleFilters } else { NotAccepted::UnsupportedValue };
        refusal = refusal.or_else(|| Some(Refusal::new(reason, joined(&messages, "; "))));
    } else if !invalid.is_empty() {
        partially_invalid = Some((joined(&invalid, ", "), joined(&messages, "; ")));
    }
    if let Some(Refusal { message, .. }) = &refusal {
        rules.iter_mut().filter(|rule| !matches!(rule.action, RuleAction::Fail(_))).for_each(|rule| {
            fail(rule, FailureReason::UnsupportedValue, "spec", message);
        });
        partially_invalid = None;
    }
    for (field, message) in compiling.repeated {
        findings.push(Finding::new(FindingCode::DuplicateIgnored, key.clone(), field, message, "remove it"));
    }
    if route.spec.use_default_gateways.as_ref().is_some_and(|scope| *scope != GatewayDefaultScope::None) {
        let message = "default Gateways are not supported: the route attaches only by parentRefs";
        let (field, remedy) = ("spec.useDefaultGateways", "name the Gateways in parentRefs");
        findings.push(Finding::new(FindingCode::NotSupported, key.clone(), field, message, remedy));
    }
    let unresolved = compiling.unresolved.first().map(|(_, first)| {
        let messages: Vec<_> =
            compiling.unresolved.iter().map(|(field, invalid)| format!("{field}: {}", invalid.message)).collect();
        (first.reason, joined(&messages, "; "))
    });
    CompiledRoute {
        backends: backends(&rules),
        rules: Arc::new(rules),
        hostnames,
        refusal,
        partially_invalid,
        unresolved,
        references: compiling.references.into_iter().collect(),
        findings,
    }
}

/// What makes the route as a whole invalid, whatever its rules are.
fn refusal(route: &HttpRoute, hostnames: &[Hostname]) -> Option<Refusal> {
    if let Some(name) = unknown_field(&route.spec.extra) {
        return Some(Refusal::new(
            NotAccepted::UnsupportedValue,
            format!("spec: the field {} is unknown", Foreign(name)),
        ));
    }
    if hostnames.is_empty() {
        return Some(Refusal::new(NotAccepted::UnsupportedValue, "spec.hostnames: none of them is a hostname"));
    }
    None
}

fn hostnames(key: &ObjectKey, route: &HttpRoute) -> (Vec<Hostname>, Vec<Finding>) {
    if route.spec.hostnames.is_empty() {
        return (vec![Hostname::Any], Vec::new());
    }
    let mut hostnames = Vec::new();
    let mut findings = Vec::new();
    for (index, hostname) in route.spec.hostnames.iter().enumerate() {
        match hostname.parse() {
            Ok(_) => {
                let hostname = Hostname::new(Some(hostname.as_str()));
                if !hostnames.contains(&hostname) {
                    hostnames.push(hostname);
                }
            }
            Err(error) => {
                let field = format!("spec.hostnames[{index}]");
                let message = format!("'{hostname}' is not a hostname and is not served: {error}");
                findings.push(Finding::new(FindingCode::HostnameNotServed, key.clone(), field, message, "correct it"));
            }
        }
    }
    (hostnames, findings)
}

struct Compiling<'a> {
    namespace: Arc<str>,
    surroundings: &'a Surroundings<'a>,
    references: BTreeSet<Reference>,
    unresolved: Vec<(String, Invalid)>,
    repeated: Vec<(String, String)>,
}

impl Compiling<'_> {
    fn rule(&mut self, rule: &HttpRouteRule, index: usize, problems: &mut Vec<Problem>) -> Rule {
        let field = format!("spec.rules[{index}]");
        let matches = if rule.matches.is_empty() {
            vec![route_match::any()]
        } else {
            let matches = rule.matches.iter().enumerate();
            matches
                .map(|(index, route_match)| {
                    let field = format!("{field}.matches[{index}]");
                    route_match::compile(route_match, &field, problems, &mut self.repeated)
                })
                .collect()
        };
        unsupported(rule, &field, problems);
        let sole_prefix =
            rule.matches.is_empty() || (rule.matches.len() == 1 && route_match::is_prefix(&rule.matches[0]));
        let Filters { filters, redirect } =
            self.filters(&rule.filters, &format!("{field}.filters"), Place::Rule, sole_prefix, problems);
        let backends = rule.backend_refs.iter().enumerate();
        let backends: Vec<_> = backends
            .map(|(index, backend)| {
                self.backend(backend, &format!("{field}.backendRefs[{index}]"), sole_prefix, problems)
            })
            .collect();
        if redirect.is_some() && !backends.is_empty() {
            let message = "a rule with RequestRedirect forwards nothing; remove backendRefs";
            problems.push(Problem::value(format!("{field}.backendRefs"), message));
        }
        let action = match redirect {
            Some(redirect) => RuleAction::Redirect(Box::new(redirect)),
            None => RuleAction::Forward(backends),
        };
        let timeouts = timeouts(rule.timeouts.as_deref(), &format!("{field}.timeouts"), problems);
        let retry = retry(rule.retry.as_deref(), &format!("{field}.retry"), problems);
        let mut compiled =
            Rule { name: rule.name.as_deref().map(Into::into), matches, filters, action, timeouts, retry };
        if let Some(problem) = problems.first() {
            let reason = match problem.reason {
                ProblemReason::UnsupportedValue => FailureReason::UnsupportedValue,
                ProblemReason::IncompatibleFilters => FailureReason::IncompatibleFilters,
                ProblemReason::InvalidKind => FailureReason::InvalidKind,
            };
            fail(&mut compiled, reason, &problem.field, &problem.message);
        }
        compiled
    }

    fn filters(
        &mut self,
        list: &[portcullis_api::http_route::HttpRouteFilter],
        field: &str,
        place: Place,
        sole_prefix: bool,
        problems: &mut Vec<Problem>,
    ) -> Filters {
        let mut resolve = |reference: &BackendObjectReference, field: &str| self.target(reference, field);
        filter::compile(list, field, place, sole_prefix, problems, &mut resolve)
    }

    fn backend(
        &mut self,
        backend: &HttpBackendRef,
        field: &str,
        sole_prefix: bool,
        problems: &mut Vec<Problem>,
    ) -> WeightedBackend {
        let weight = match backend.backend_ref.weight() {
            weight @ 0..=1_000_000 => weight.unsigned_abs(),
            weight => {
                problems.push(Problem::value(
                    format!("{field}.weight"),
                    format!("{weight} is not a weight; use 0 to 1000000"),
                ));
                0
            }
        };
        let target = self.target(&backend.backend_ref.reference, field);
        let filters =
            self.filters(&backend.filters, &format!("{field}.filters"), Place::BackendRef, sole_prefix, problems);
        WeightedBackend { weight, filters: filters.filters, target }
    }

    fn target(&mut self, reference: &BackendObjectReference, field: &str) -> BackendTarget {
        match backend::resolve(self.surroundings, &self.namespace, reference, &mut self.references) {
            Ok(key) => BackendTarget::Backend(key),
            Err(invalid) => {
                let failure = Failure {
                    status_code: INTERNAL_SERVER_ERROR,
                    reason: invalid.failure_reason(),
                    field: field.to_owned(),
                    message: invalid.message.clone(),
                };
                self.unresolved.push((field.to_owned(), invalid));
                BackendTarget::Invalid(Box::new(failure))
            }
        }
    }
}

/// The backends that rules send requests to, mirrored ones included. Sorted, without duplicates.
fn backends(rules: &[Rule]) -> Box<[BackendKey]> {
    let mut targets: Vec<&BackendTarget> = Vec::new();
    for rule in rules {
        targets.extend(mirrors(&rule.filters));
        if let RuleAction::Forward(backends) = &rule.action {
            targets.extend(
                backends.iter().flat_map(|backend| std::iter::once(&backend.target).chain(mirrors(&backend.filters))),
            );
        }
    }
    let known = targets.into_iter().filter_map(|target| match target {
        BackendTarget::Backend(key) => Some(key.clone()),
        BackendTarget::Invalid(_) => None,
    });
    known.collect::<BTreeSet<_>>().into_iter().collect()
}

fn mirrors(filters: &[Filter]) -> impl Iterator<Item = &BackendTarget> {
    filters.iter().filter_map(|filter| match filter {
        Filter::RequestMirror(mirror) => Some(&mirror.target),
        _ => None,
    })
}

/// Makes a rule answer every request that it matches with an error.
fn fail(rule: &mut Rule, reason: FailureReason, field: &str, message: &str) {
    let failure =
        Failure { status_code: INTERNAL_SERVER_ERROR, reason, field: field.to_owned(), message: message.to_owned() };
    rule.action = RuleAction::Fail(Box::new(failure));
    rule.filters = Vec::<Filter>::new();
    rule.timeouts = Timeouts::default();
    rule.retry = None;
}

fn unsupported(rule: &HttpRouteRule, field: &str, problems: &mut Vec<Problem>) {
    if let Some(name) = unknown_field(&rule.extra) {
        problems.push(Problem::value(field, format!("the field {} is unknown", Foreign(name))));
    }
    if rule.session_persistence.is_some() {
        let message = "session persistence is not supported yet; remove it";
        problems.push(Problem::value(format!("{field}.sessionPersistence"), message));
    }
}

fn timeouts(timeouts: Option<&HttpRouteTimeouts>, field: &str, problems: &mut Vec<Problem>) -> Timeouts {
    let Some(timeouts) = timeouts else { return Timeouts::default() };
    if let Some(name) = unknown_field(&timeouts.extra) {
        problems.push(Problem::value(field, format!("the field {} is unknown", Foreign(name))));
    }
    let request = duration(timeouts.request.as_ref(), &format!("{field}.request"), problems);
    let backend_request = duration(timeouts.backend_request.as_ref(), &format!("{field}.backendRequest"), problems);
    if matches!((request, backend_request), (Some(request), Some(backend)) if !request.is_zero() && backend > request) {
        let message = "a try cannot take longer than the whole request; make it at most timeouts.request";
        problems.push(Problem::value(format!("{field}.backendRequest"), message));
    }
    let limit = |duration: Option<Duration>| duration.filter(|duration| !duration.is_zero());
    Timeouts { request: limit(request), backend_request: limit(backend_request) }
}

fn duration(text: Option<&GatewayDuration>, field: &str, problems: &mut Vec<Problem>) -> Option<Duration> {
    match text?.parse() {
        Ok(duration) => Some(duration),
        Err(error) => {
            problems.push(Problem::value(field, error.to_string()));
            None
        }
    }
}

fn retry(retry: Option<&HttpRouteRetry>, field: &str, problems: &mut Vec<Problem>) -> Option<Retry> {
    let retry = retry?;
    if let Some(name) = unknown_field(&retry.extra) {
        problems.push(Problem::value(field, format!("the field {} is unknown", Foreign(name))));
    }
    let mut codes = BTreeSet::new();
    for (index, code) in retry.codes.iter().enumerate() {
        match u16::try_from(*code) {
            Ok(code @ 400..=599) => drop(codes.insert(code)),
            _ => problems
                .push(Problem::value(format!("{field}.codes[{index}]"), format!("{code} is not between 400 and 599"))),
        }
    }
    let backoff = duration(retry.backoff.as_ref(), &format!("{field}.backoff"), problems);
    let attempts = match u32::try_from(retry.attempts.unwrap_or(1)) {
        Ok(attempts) => attempts,
        Err(_) => {
            problems.push(Problem::value(format!("{field}.attempts"), "at least 0"));
            0
        }
    };
    (attempts > 0).then(|| Retry { codes: codes.into_iter().collect(), attempts, backoff })
}
