//! What a lookup costs, by the number of rules: `cargo run --release -p portcullis-decide --example lookup_cost`.
//!
//! Prints, for several shapes of configuration, the time of a first link, of the link of one changed route, the resident
//! memory that linking added, and the time per request. Nothing is asserted: figures depend on the machine.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a program that measures, beside the pure crate"
)]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portcullis_decide::{Connection, Linked, RequestHead, Step};
use portcullis_model::{
    Attachment, BackendKey, BackendTarget, Config, Gateway, Hostname, Listener, ListenerKey, ListenerProtocol,
    ListenerState, ObjectName, PathMatch, Route, RouteHostname, RouteKey, RouteKind, RouteMatch, Rule, RuleAction,
    StringMatch, Timeouts, Upstreams, ValueMatch, WeightedBackend,
};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

/// How the rules differ.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Hosts,
    Prefixes,
    DeepPrefixes,
    Exact,
    PatternsByStart,
    PatternsByEnd,
    PatternsInside,
    HeaderValues,
    HeaderNames,
    Query,
}

const SHAPES: [Shape; 10] = [
    Shape::Hosts,
    Shape::Prefixes,
    Shape::DeepPrefixes,
    Shape::Exact,
    Shape::PatternsByStart,
    Shape::PatternsByEnd,
    Shape::PatternsInside,
    Shape::HeaderValues,
    Shape::HeaderNames,
    Shape::Query,
];

/// Each measurement has its own process, so that memory of one does not serve the next.
fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    if let (Some(shape), Some(count)) = (arguments.next(), arguments.next()) {
        return measure(SHAPES[shape % SHAPES.len()], count);
    }
    println!(
        "{:<16} {:>8} {:>11} {:>13} {:>11} {:>8} {:>8} {:>8}",
        "shape", "rules", "link ms", "one change ms", "bytes/rule", "ns hit", "ns last", "ns miss"
    );
    let Ok(program) = std::env::current_exe() else { return };
    for (at, shape) in SHAPES.iter().enumerate() {
        let patterns = matches!(shape, Shape::PatternsByStart | Shape::PatternsByEnd | Shape::PatternsInside);
        for count in [10, 1_000, 10_000, 100_000] {
            if !patterns || count <= 10_000 {
                let child = std::process::Command::new(&program).args([at.to_string(), count.to_string()]).status();
                assert!(child.is_ok_and(|status| status.success()));
            }
        }
    }
}

fn measure(shape: Shape, count: usize) {
    let mut config = config(shape, count);
    let before = resident();
    let start = Instant::now();
    let mut linked = Linked::link(&config, None);
    let link = start.elapsed();
    let bytes = resident().saturating_sub(before) / count;
    assert!(linked.problems().is_empty());

    let changed = Arc::new(route(shape, count / 2, "other"));
    let touched = std::collections::BTreeSet::from([changed.key.clone()]);
    config.routes.insert(changed.key.clone(), changed);
    let start = Instant::now();
    linked = Linked::relink(&config, &linked, &touched);
    let change = start.elapsed();

    let spread: Vec<_> = (0..count).step_by((count / 64).max(1)).collect();
    let hit = lookups(shape, &linked, &spread, true);
    let last = lookups(shape, &linked, &[count - 1], true);
    let miss = lookups(shape, &linked, &[count + 7], false);
    println!(
        "{:<16} {count:>8} {:>11.1} {:>13.2} {bytes:>11} {hit:>8.0} {last:>8.0} {miss:>8.0}",
        format!("{shape:?}"),
        link.as_secs_f64() * 1e3,
        change.as_secs_f64() * 1e3
    );
}

/// Nanoseconds per request.
fn lookups(shape: Shape, linked: &Linked, which: &[usize], found: bool) -> f64 {
    const ROUNDS: usize = 100_000;
    let requests: Vec<_> = which.iter().map(|at| request(shape, *at)).collect();
    let Some(port) = linked.port(80) else { return 0.0 };
    let mut all_found = true;
    let start = Instant::now();
    for round in 0..ROUNDS {
        let (host, path, query, headers) = &requests[round % requests.len()];
        let head = RequestHead { method: &Method::GET, host, path, query: query.as_deref(), headers };
        let step = port.request(&Connection { server_name: None, tls: false }, black_box(&head));
        all_found &= matches!(black_box(&step), Step::Need(_));
    }
    let elapsed = start.elapsed();
    assert_eq!(all_found, found, "{shape:?} {which:?}");
    elapsed.as_nanos() as f64 / ROUNDS as f64
}

fn request(shape: Shape, at: usize) -> (String, String, Option<String>, HeaderMap) {
    let mut headers = HeaderMap::new();
    for (name, value) in [("accept", "*/*"), ("user-agent", "curl/8"), ("x-request-id", "1"), ("cookie", "a=b")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut host = "shop.example.com".to_owned();
    let mut query = None;
    let mut path = "/api/v1/items/42".to_owned();
    match shape {
        Shape::Hosts => host = format!("host-{at}.example.com"),
        Shape::Prefixes => path = format!("/service-{at}/items/42"),
        Shape::DeepPrefixes => path = format!("/api/v1/{}/service-{at}/items/42", at % 100),
        Shape::Exact => path = format!("/api/v1/items/{at}"),
        Shape::PatternsByStart => path = format!("/users-{at}/12345"),
        Shape::PatternsByEnd => path = format!("/img/some/where/picture-{at}.png"),
        Shape::PatternsInside => path = format!("/abc/{at}/42"),
        Shape::HeaderValues => drop(headers.insert("x-tenant", value(at))),
        Shape::HeaderNames => {
            drop(headers.insert(HeaderName::try_from(format!("x-{at}")).unwrap_or(http::header::TE), value(1)))
        }
        Shape::Query => query = Some(format!("page=2&tenant={at}")),
    }
    (host, path, query, headers)
}

fn value(at: usize) -> HeaderValue {
    HeaderValue::from(at)
}

fn config(shape: Shape, count: usize) -> Config {
    let name = ObjectName::new("infra", "gateway");
    let mut config = Config::new(Arc::new(Gateway {
        name,
        gateway_class: "x".into(),
        addresses: Vec::new(),
        generation: 0,
        upstreams: Upstreams::default(),
    }));
    let key = ListenerKey::of_gateway("http");
    config.listeners.insert(
        key.clone(),
        Arc::new(Listener {
            key,
            port: 80,
            protocol: ListenerProtocol::Http,
            hostname: Hostname::Any,
            tls: None,
            state: ListenerState::Serving,
        }),
    );
    for at in 0..count {
        let route = Arc::new(route(shape, at, "service"));
        config.routes.insert(route.key.clone(), route);
    }
    config
}

/// A route with one rule.
fn route(shape: Shape, at: usize, service: &str) -> Route {
    let prefix = |path: String| PathMatch::PathPrefix(path.into());
    let mut entry = RouteMatch { path: prefix("/".into()), method: None, headers: vec![], query_params: vec![] };
    let is = |name: String, value: String| ValueMatch { name: name.into(), value: StringMatch::Exact(value.into()) };
    let mut host = "shop.example.com".to_owned();
    match shape {
        Shape::Hosts => host = format!("host-{at}.example.com"),
        Shape::Prefixes => entry.path = prefix(format!("/service-{at}")),
        Shape::DeepPrefixes => entry.path = prefix(format!("/api/v1/{}/service-{at}", at % 100)),
        Shape::Exact => entry.path = PathMatch::Exact(format!("/api/v1/items/{at}").into()),
        Shape::PatternsByStart => entry.path = PathMatch::RegularExpression(format!("/users-{at}/[0-9]+").into()),
        Shape::PatternsByEnd => entry.path = PathMatch::RegularExpression(format!("/img/.*-{at}\\.png").into()),
        Shape::PatternsInside => entry.path = PathMatch::RegularExpression(format!("/[a-z]+/{at}/[0-9]+").into()),
        Shape::HeaderValues => entry.headers.push(is("x-tenant".into(), at.to_string())),
        Shape::HeaderNames => entry.headers.push(is(format!("x-{at}"), "1".into())),
        Shape::Query => entry.query_params.push(is("tenant".into(), at.to_string())),
    }
    let hostname = Hostname::new(Some(&host));
    let hostnames = vec![RouteHostname { hostname: hostname.clone(), route_hostname: hostname }];
    let backend = BackendKey { service: ObjectName::new("infra", service), port: 8080 };
    Route {
        key: RouteKey { kind: RouteKind::HttpRoute, name: ObjectName::new("infra", format!("route-{at:06}")) },
        created: Some(1),
        attachments: vec![Attachment { listener: ListenerKey::of_gateway("http"), hostnames }],
        rules: Arc::new(vec![Rule {
            name: None,
            matches: vec![entry],
            filters: Vec::new(),
            action: RuleAction::Forward(vec![WeightedBackend {
                weight: 1,
                filters: Vec::new(),
                target: BackendTarget::Backend(backend),
            }]),
            timeouts: Timeouts::default(),
            retry: None,
        }]),
    }
}

/// Resident bytes of this process (Linux; elsewhere zero).
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
