//! Tables of requests: which listener, which rule, which answer.

#[path = "support/support.rs"]
mod support;

use http::{HeaderValue, Method, StatusCode};
use portcullis_decide::{ClientHello, HelloRefusal, Linked, LinkedObject, Why};
use portcullis_model::{
    BackendTarget, Config, Cors, CorsNames, CorsOrigins, FailureReason, Filter, Fraction, HeaderModifier,
    HeaderValueEntry, Listener, ListenerState, Mirror, PathModifier, Redirect, Route, RouteMatch, Rule, RuleAction,
    UrlRewrite,
};
use std::num::NonZeroU32;
use std::sync::Arc;
use support::build::*;

fn linked(config: &Config) -> Linked {
    let linked = Linked::link(config, None);
    assert_eq!(linked.problems(), []);
    linked
}

/// One listener without a hostname on port 80, and one route for every host.
fn one_route(rules: Vec<Rule>) -> Config {
    let mut config = with_listeners([listener("http", 80, "*")]);
    attach(&mut config, "route", &["http"], &["*"], rules);
    config
}

fn set_created(config: &mut Config, key: &portcullis_model::RouteKey, created: i64) {
    let route = config.routes[key].as_ref().clone();
    config.routes.insert(key.clone(), Arc::new(Route { created: Some(created), ..route }));
}

fn header_modifier(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderModifier {
    let entries = |list: &[(&str, &str)]| {
        list.iter().map(|(name, value)| HeaderValueEntry { name: (*name).into(), value: (*value).into() }).collect()
    };
    HeaderModifier { set: entries(set), add: entries(add), remove: remove.iter().map(|name| (*name).into()).collect() }
}

fn redirect(path: Option<PathModifier>) -> Redirect {
    Redirect { scheme: None, hostname: None, path, port: None, status_code: 302 }
}

/// httproute-https-listener-detect-misdirected-requests of the conformance tests.
#[test]
fn misdirected_requests() {
    let mut config = with_listeners([
        listener("https", 443, "*"),
        listener("https-with-hostname", 443, "second-example.org"),
        listener("https-with-wildcard-hostname", 443, "*.wildcard.org"),
        listener("https-with-hostname-matching-wildcard", 443, "fourth-example.wildcard.org"),
    ]);
    let path = || vec![prefix("/detect-misdirected-requests")];
    attach(&mut config, "1", &["https"], &["example.org"], vec![rule(path(), "v1")]);
    attach(&mut config, "2", &["https-with-hostname"], &["*"], vec![rule(path(), "v2")]);
    attach(&mut config, "3", &["https-with-wildcard-hostname"], &["*"], vec![rule(path(), "v3")]);
    attach(&mut config, "4", &["https-with-hostname-matching-wildcard"], &["*"], vec![rule(path(), "v4")]);
    let linked = linked(&config);
    for (server_name, host, outcome) in [
        ("example.org", "example.org", "v1"),
        ("example.org", "second-example.org", "421"),
        ("example.org", "unknown-example.org", "404"),
        ("second-example.org", "second-example.org", "v2"),
        ("second-example.org", "example.org", "421"),
        ("second-example.org", "unknown-example.org", "421"),
        ("third-example.wildcard.org", "third-example.wildcard.org", "v3"),
        ("third-example.wildcard.org", "fith-example.wildcard.org", "v3"),
        ("third-example.wildcard.org", "fourth-example.wildcard.org", "421"),
        ("third-example.wildcard.org", "second-example.org", "421"),
        ("third-example.wildcard.org", "unknown-example.org", "421"),
        ("fourth-example.wildcard.org", "fourth-example.wildcard.org", "v4"),
        ("fourth-example.wildcard.org", "fith-example.wildcard.org", "421"),
        ("unknown-example.org", "example.org", "v1"),
        ("unknown-example.org", "unknown-example.org", "404"),
        ("", "example.org", "v1"),
        ("", "second-example.org", "421"),
        ("SECOND-example.org.", "second-example.org:443", "v2"),
    ] {
        let request = get(&format!("{host}/detect-misdirected-requests")).tls(Some(server_name));
        assert_eq!(request.outcome(&linked), outcome, "{server_name} {host}");
    }
}

#[test]
fn without_a_catch_all_listener_an_unknown_host_is_404() {
    let mut config = with_listeners([listener("a", 443, "a.example.com"), listener("b", 443, "b.example.com")]);
    attach(&mut config, "route", &["a", "b"], &["*"], vec![rule(vec![prefix("/")], "v1")]);
    let linked = linked(&config);
    for (server_name, host, why) in [
        (Some("a.example.com"), "b.example.com", Why::MisdirectedRequest),
        (Some("a.example.com"), "c.example.com", Why::NoListener),
        (Some("c.example.com"), "a.example.com", Why::MisdirectedRequest),
        (None, "a.example.com", Why::MisdirectedRequest),
    ] {
        assert_eq!(get(&format!("{host}/")).tls(server_name).answer(&linked).why, why, "{server_name:?} {host}");
    }
}

#[test]
fn a_server_name_selects_the_most_specific_listener() {
    let invalid =
        Listener { state: ListenerState::Invalid { reason: "x".into() }, ..listener("i", 443, "i.example.com") };
    let mut bare = listener("bare", 443, "bare.example.com");
    bare.tls = None;
    let listeners =
        [listener("any", 8443, "*"), listener("wild", 443, "*.example.com"), listener("a", 443, "a.example.com")];
    let linked = linked(&with_listeners(listeners.into_iter().chain([invalid, bare, listener("http", 80, "*")])));
    for (port, server_name, expected) in [
        (443, Some("a.example.com"), Ok("a")),
        (443, Some("A.Example.com"), Ok("a")),
        (443, Some("b.example.com"), Ok("wild")),
        (443, Some("x.a.example.com"), Ok("wild")),
        (443, Some("example.com"), Err(HelloRefusal::NoListener)),
        (443, None, Err(HelloRefusal::NoListener)),
        (443, Some("i.example.com"), Err(HelloRefusal::ListenerInvalid)),
        (443, Some("bare.example.com"), Err(HelloRefusal::NoCertificate)),
        (443, Some("a b"), Err(HelloRefusal::InvalidServerName)),
        (8443, None, Ok("any")),
        (8443, Some("x.org"), Ok("any")),
        (80, Some("x.org"), Err(HelloRefusal::NotTls)),
    ] {
        let hello = match linked.port(port).unwrap().client_hello(server_name) {
            ClientHello::Terminate { listener, certificates } => {
                assert_eq!(certificates.len(), 1);
                Ok(listener.key.to_string())
            }
            ClientHello::Refuse { reason, .. } => Err(reason),
        };
        assert_eq!(hello, expected.map(str::to_owned), "{port} {server_name:?}");
    }
}

/// gateway-http-listener-isolation of the conformance tests.
#[test]
fn listeners_are_isolated() {
    let listeners = [
        ("empty-hostname", "*", "bar.com"),
        ("wildcard-example-com", "*.example.com", "bar.example.com"),
        ("wildcard-foo-example-com", "*.foo.example.com", "bar.foo.example.com"),
        ("abc-foo-example-com", "abc.foo.example.com", "abc.foo.example.com"),
    ];
    for with_hostnames in [false, true] {
        let mut config = with_listeners(listeners.map(|(name, hostname, _)| listener(name, 80, hostname)));
        for (name, hostname, _) in listeners {
            let hostname = if with_hostnames { hostname } else { "*" };
            attach(&mut config, name, &[name], &[hostname], vec![rule(vec![prefix(&format!("/{name}"))], name)]);
        }
        let linked = linked(&config);
        for (of_host, _, host) in listeners {
            for (of_path, _, _) in listeners {
                let outcome = if of_host == of_path { of_host } else { "404" };
                assert_eq!(get(&format!("{host}/{of_path}")).outcome(&linked), outcome);
            }
        }
    }
}

#[test]
fn an_invalid_listener_keeps_its_hostname() {
    let invalid =
        Listener { state: ListenerState::Invalid { reason: "x".into() }, ..listener("bad", 80, "a.example.com") };
    let mut config = with_listeners([listener("good", 80, "*"), invalid]);
    attach(&mut config, "route", &["good", "bad"], &["*"], vec![rule(vec![prefix("/")], "v1")]);
    let linked = linked(&config);
    assert_eq!(get("b.example.com/").outcome(&linked), "v1");
    let answer = get("a.example.com/").answer(&linked);
    assert_eq!((answer.status, answer.why), (StatusCode::NOT_FOUND, Why::ListenerInvalid));
}

/// httproute-multiple-routes-attachment-same-hostname-intersection of the conformance tests.
#[test]
fn routes_rank_by_their_own_hostname() {
    let header = |name, value| RouteMatch { headers: vec![is(name, value)], ..prefix("/path") };
    for (listener_hostname, better, worse) in [
        ("abc.example.com", "abc.example.com", "*.example.com"),
        ("*.example.com", "*.example.com", "*.com"),
        ("abc.example.com", "*.example.com", "*"),
    ] {
        let mut config = with_listeners([listener("http", 80, listener_hostname)]);
        let deep = RouteMatch { path: prefix("/path/prefix").path, ..header("header-b", "B") };
        let old = attach(&mut config, "older", &["http"], &[worse], vec![rule(vec![deep], "v1")]);
        attach(&mut config, "newer", &["http"], &[better], vec![rule(vec![header("header-a", "A")], "v2")]);
        set_created(&mut config, &old, 1);
        let linked = linked(&config);
        let url = "abc.example.com/path/prefix/longer";
        assert_eq!(get(url).header("header-a", "A").header("header-b", "B").outcome(&linked), "v2");
        assert_eq!(get(url).header("header-b", "B").outcome(&linked), "v1");
        assert_eq!(get(url).outcome(&linked), "404");
    }
}

#[test]
fn precedence_of_matches() {
    let method = |entry: RouteMatch| RouteMatch { method: Some("GET".into()), ..entry };
    let header = |entry: RouteMatch| RouteMatch { headers: vec![is("x", "1")], ..entry };
    let query = |entry: RouteMatch| RouteMatch { query_params: vec![is("q", "1")], ..entry };
    // Each takes precedence over those after it.
    let ordered = [
        query(exact("/a/b")),
        exact("/a/b"),
        regex("/a/.{0,9}"),
        method(regex("/a/.*")),
        regex("/a/.*"),
        method(prefix("/a/b")),
        query(header(prefix("/a/b"))),
        header(prefix("/a/b")),
        query(prefix("/a/b/")),
        prefix("/a/b"),
        method(header(query(prefix("/a")))),
        prefix("/"),
    ];
    for first in 0..ordered.len() {
        let mut rules: Vec<_> = ordered[first..].iter().enumerate().collect();
        rules.reverse();
        let rules = rules.into_iter().map(|(at, entry)| rule(vec![entry.clone()], &(first + at).to_string())).collect();
        let outcome = get("x/a/b?q=1").header("X", "1").outcome(&linked(&one_route(rules)));
        assert_eq!(outcome, first.to_string());
    }
}

#[test]
fn ties_go_to_the_older_route_then_by_name_then_to_the_first_rule() {
    let mut config = with_listeners([listener("http", 80, "*")]);
    let mut keys = Vec::new();
    // As texts, `a-b/x` is before `a/x`.
    for name in ["a/y", "a/x", "a-b/z", "b/w"] {
        let rules = vec![rule(vec![prefix("/")], name), rule(vec![prefix("/")], "second")];
        keys.push(attach(&mut config, name, &["http"], &["*"], rules));
    }
    assert_eq!(get("h/").outcome(&linked(&config)), "a-b/z");
    config.routes.remove(&keys[2]);
    assert_eq!(get("h/").outcome(&linked(&config)), "a/x");
    set_created(&mut config, &keys[3], 20);
    assert_eq!(get("h/").outcome(&linked(&config)), "b/w", "a route without a time is younger than all others");
    set_created(&mut config, &keys[0], 10);
    assert_eq!(get("h/").outcome(&linked(&config)), "a/y");
    assert_eq!(get("h/").forward(&linked(&config)).matched.rule.index, 0);
}

#[test]
fn prefixes_match_by_element() {
    for (value, path, matches) in [
        ("/abc", "/abc", true),
        ("/abc", "/abc/", true),
        ("/abc", "/abc/def", true),
        ("/abc", "/abcd", false),
        ("/abc", "/Abc", false),
        ("/abc/", "/abc", true),
        ("/abc/", "/abcd", false),
        ("/", "/anything", true),
        ("/", "*", false),
        ("/a%62c", "/abc", true),
        ("/abc", "/%61bc", true),
        ("/abc", "/x/../abc/", true),
        ("/a/b", "/a//b", true),
        ("/a/b", "/a%2Fb", false),
    ] {
        let linked = linked(&one_route(vec![rule(vec![prefix(value)], "v1")]));
        assert_eq!(get(&format!("h{path}")).outcome(&linked) == "v1", matches && path != "*", "{value} {path}");
    }
    let star = support::build::Request { target: "*".into(), method: Method::OPTIONS, ..get("h/") };
    assert_eq!(star.answer(&linked(&one_route(vec![rule(vec![prefix("/")], "v1")]))).why, Why::NoRoute);
}

#[test]
fn headers_and_parameters() {
    let headers = |entry| RouteMatch { headers: vec![entry], ..prefix("/") };
    let parameters = |entry| RouteMatch { query_params: vec![entry], ..prefix("/") };
    let request = || {
        get("h.example:8080/?animal=whale&animal=dog&two=a+b%20c&empty")
            .header("Version", "one")
            .header("twice", "a")
            .header("twice", "b")
            .header("cookie", "a=b")
            .header("cookie", "c=d")
    };
    for (entry, matches) in [
        (headers(is("version", "one")), true),
        (headers(is("version", "One")), false),
        (headers(is("absent", "")), false),
        (headers(like("version", "o|one|two")), true),
        (headers(like("version", "on")), false),
        (headers(is("twice", "a,b")), true),
        (headers(is("twice", "a")), false),
        (headers(is("cookie", "a=b; c=d")), true),
        (headers(is("host", "h.example:8080")), true),
        (parameters(is("animal", "whale")), true),
        (parameters(is("animal", "dog")), false),
        (parameters(is("Animal", "whale")), false),
        (parameters(is("two", "a b c")), true),
        (parameters(is("empty", "")), true),
        (parameters(like("animal", "wh.*")), true),
        (parameters(like("animal", "wh")), false),
    ] {
        let linked = linked(&one_route(vec![rule(vec![entry.clone()], "v1")]));
        assert_eq!(request().outcome(&linked) == "v1", matches, "{entry:?}");
    }
}

/// Whether large leaves are indexed or not makes no difference.
#[test]
fn many_candidates_on_one_path() {
    let mut rules = Vec::new();
    for at in 0..500 {
        let value = at.to_string();
        let entry = match at % 4 {
            0 => RouteMatch { headers: vec![is("tenant", &value), is("env", "prod")], ..prefix("/") },
            1 => RouteMatch { headers: vec![is(&format!("x-{at}"), "1")], ..prefix("/") },
            2 => RouteMatch { query_params: vec![is("tenant", &value)], ..prefix("/") },
            _ => RouteMatch { headers: vec![like("tenant", &format!("t{value}-[0-9]+"))], ..prefix("/") },
        };
        rules.push(rule(vec![entry], &value));
    }
    rules.push(rule(vec![prefix("/")], "rest"));
    let linked = linked(&one_route(rules));
    for (request, outcome) in [
        (get("h/").header("tenant", "400").header("env", "prod"), "400"),
        (get("h/").header("tenant", "400").header("env", "test"), "rest"),
        (get("h/").header("x-401", "1"), "401"),
        (get("h/").header("x-401", "2"), "rest"),
        (get("h/?tenant=402"), "402"),
        (get("h/?tenant=401"), "rest"),
        (get("h/").header("tenant", "t403-17"), "403"),
        (get("h/").header("tenant", "t403-"), "rest"),
        (get("h/?tenant=402").header("x-401", "1"), "401"),
        (get("h/"), "rest"),
    ] {
        assert_eq!(request.outcome(&linked), outcome, "{request:?}");
    }
}

#[test]
fn many_patterns_on_one_host() {
    let mut rules = Vec::new();
    for at in 0..300 {
        let pattern = match at % 3 {
            0 => format!("/users-{at}/[0-9]+"),
            1 => format!("/img/.*-{at}\\.png"),
            _ => format!("/[a-z]+/{at}/[0-9]+"),
        };
        rules.push(rule(vec![regex(&pattern)], &at.to_string()));
    }
    let linked = linked(&one_route(rules));
    for (path, outcome) in [
        ("/users-297/12", "297"),
        ("/users-297/x", "404"),
        ("/img/a/b-298.png", "298"),
        ("/img/a/b-299.png", "404"),
        ("/abc/299/7", "299"),
        ("/abc/298/7", "404"),
    ] {
        assert_eq!(get(&format!("h{path}")).outcome(&linked), outcome, "{path}");
    }
}

#[test]
fn hosts_and_paths_that_cannot_be_read_are_400() {
    let linked = linked(&one_route(vec![rule(vec![prefix("/")], "v1")]));
    for (url, why) in [
        ("a b/", "HostInvalidName"),
        ("h:x/", "HostInvalidPort"),
        ("h/..", "PathAboveRoot"),
        ("h/%00", "PathControlCharacter"),
        ("h/a/..;/b", "PathDotSegmentParameters"),
        ("h/a%2f..", "PathHiddenDotSegment"),
        ("h/\\", "PathBackslash"),
        ("h", "PathNotAbsolute"),
    ] {
        let answer = get(url).answer(&linked);
        assert_eq!((answer.status.as_u16(), answer.why.as_str()), (400, why), "{url}");
    }
    assert_eq!(get("/").outcome(&linked), "v1", "a request without a Host is a catch-all listener's");
}

#[test]
fn what_cannot_be_linked_fails_closed() {
    let refused = Filter::RequestHeaderModifier(header_modifier(&[("host", "x")], &[], &[]));
    let mut bad_backend = rule(vec![prefix("/backend")], "v1");
    if let RuleAction::Forward(backends) = &mut bad_backend.action {
        backends[0].filters = vec![refused.clone()];
        backends.push(backend("healthy", 1));
    }
    let prefix_rewrite = Filter::UrlRewrite(Box::new(UrlRewrite {
        hostname: None,
        path: Some(PathModifier::ReplacePrefixMatch("/x".into())),
    }));
    let config = one_route(vec![
        rule(vec![regex("/regex/(")], "v1"),
        rule(vec![regex("/large/(a{1000}){1000}")], "v1"),
        rule(vec![RouteMatch { headers: vec![like("x", "(")], ..prefix("/header") }], "v1"),
        with_filters(rule(vec![prefix("/filter")], "v1"), vec![refused]),
        with_filters(rule(vec![exact("/exact")], "v1"), vec![prefix_rewrite]),
        bad_backend,
        rule(vec![exact("/a%"), prefix("/half")], "v1"),
        rule(vec![RouteMatch { method: Some("A B".into()), ..prefix("/") }], "v1"),
        Rule {
            action: RuleAction::Redirect(Box::new(Redirect { status_code: 200, ..redirect(None) })),
            ..rule(vec![prefix("/redirect")], "")
        },
        rule(vec![prefix("/")], "rest"),
    ]);
    let linked = Linked::link(&config, None);
    for (path, outcome) in [
        ("/regex/anything", "500"),
        ("/large/", "500"),
        ("/header", "500"),
        ("/filter", "500"),
        ("/exact", "500"),
        ("/backend", "500"),
        ("/redirect", "500"),
        ("/half", "v1"),
        ("/regexp", "rest"),
        ("/", "rest"),
    ] {
        assert_eq!(get(&format!("h{path}")).outcome(&linked), outcome, "{path}");
    }
    let forward = get("h/backend").forward(&linked);
    assert_eq!(forward.backend(1).unwrap().service.name.as_ref(), "healthy");
    let answer = get("h/regex/x").answer(&linked);
    assert_eq!(answer.why, Why::RuleFailed(FailureReason::UnsupportedValue));
    let fields: Vec<_> = linked.problems().iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "spec.rules[0].matches[0].path.value",
            "spec.rules[1].matches[0].path.value",
            "spec.rules[2].matches[0].headers[].value",
            "spec.rules[3].filters",
            "spec.rules[4].filters",
            "spec.rules[5].backendRefs[0].filters",
            "spec.rules[6].matches[0].path.value",
            "spec.rules[7].matches[0].method",
            "spec.rules[8].filters",
        ]
    );
    assert!(linked.problems().iter().all(|problem| matches!(problem.object, LinkedObject::Route(_))));
}

#[test]
fn backends_that_fail() {
    let forward = |backends| Rule { action: RuleAction::Forward(backends), ..rule(vec![prefix("/")], "") };
    let mut invalid = backend("gone", 1);
    invalid.target = BackendTarget::Invalid(failure(500, FailureReason::BackendNotFound));
    let mixed = linked(&one_route(vec![forward(vec![backend("v1", 1), invalid])]));
    let mixed = get("h/").forward(&mixed);
    assert!(mixed.backend(0).is_ok());
    let answer = mixed.backend(1).unwrap_err();
    assert_eq!((answer.status.as_u16(), answer.why), (500, Why::BackendInvalid(FailureReason::BackendNotFound)));
    assert_eq!(mixed.backend(2).unwrap_err().why, Why::NoBackendRefs);
    for none in [forward(vec![]), forward(vec![backend("v1", 0), backend("v2", 0)])] {
        let answer = get("h/").answer(&linked(&one_route(vec![none])));
        assert_eq!((answer.status.as_u16(), answer.why), (500, Why::NoBackendRefs));
    }
    let fail = RuleAction::Fail(failure(503, FailureReason::UnsupportedProtocol));
    let failed = linked(&one_route(vec![Rule { action: fail, ..rule(vec![prefix("/")], "") }]));
    let answer = get("h/").answer(&failed);
    assert_eq!((answer.status.as_u16(), answer.why.as_str()), (503, "UnsupportedProtocol"));
    assert!(answer.matched.unwrap().rule.failure().is_some());
}

#[test]
fn requests_are_edited() {
    let rewrite = |hostname: Option<&str>, path| {
        Filter::UrlRewrite(Box::new(UrlRewrite { hostname: hostname.map(Into::into), path: Some(path) }))
    };
    let mut edited = with_filters(
        rule(vec![prefix("/prefix/one")], "v1"),
        vec![
            rewrite(None, PathModifier::ReplacePrefixMatch("/one".into())),
            Filter::RequestHeaderModifier(header_modifier(&[("x-set", "rule")], &[("x-add", "rule")], &["x-remove"])),
        ],
    );
    if let RuleAction::Forward(backends) = &mut edited.action {
        backends[0].filters = vec![
            rewrite(Some("rewritten.example"), PathModifier::ReplacePrefixMatch("/backend".into())),
            Filter::RequestHeaderModifier(header_modifier(&[("x-set", "backend")], &[], &[])),
        ];
        backends.push(backend("v2", 1));
    }
    let linked = linked(&one_route(vec![edited, rule(vec![prefix("/")], "v3")]));
    let request = get("h.example/x/../prefix//one/tw%6f?q=%2e%2e//x").header("x-add", "client").header("x-remove", "1");
    let forward = request.forward(&linked);
    assert_eq!(forward.path.as_str(), "/prefix/one/two");

    let mut parts = request.parts();
    forward.edit_request(1, &mut parts).unwrap();
    assert_eq!(parts.uri, "/one/two?q=%2e%2e//x");
    assert_eq!(parts.headers["host"], "h.example");
    assert_eq!(parts.headers["x-set"], "rule");
    assert_eq!(parts.headers.get_all("x-add").iter().collect::<Vec<_>>(), ["client", "rule"]);
    assert!(!parts.headers.contains_key("x-remove"));

    let mut parts = request.parts();
    forward.edit_request(0, &mut parts).unwrap();
    assert_eq!(parts.uri, "/backend/two?q=%2e%2e//x");
    assert_eq!(parts.headers["host"], "rewritten.example");
    assert_eq!(parts.headers["x-set"], "backend");

    let request = get("h.example/a/./b");
    let mut parts = request.parts();
    parts.uri = "https://h.example/a/./b?x".parse().unwrap();
    request.forward(&linked).edit_request(0, &mut parts).unwrap();
    assert_eq!(parts.uri, "https://h.example/a/b?x");
}

#[test]
fn responses_are_edited() {
    let modifier = |name, value| Filter::ResponseHeaderModifier(header_modifier(&[(name, value)], &[], &["server"]));
    let mut edited = with_filters(rule(vec![prefix("/")], "v1"), vec![modifier("x-set", "rule")]);
    if let RuleAction::Forward(backends) = &mut edited.action {
        backends[0].filters = vec![modifier("x-backend", "1")];
    }
    let linked = linked(&one_route(vec![edited]));
    let forward = get("h/").forward(&linked);
    for (choice, backend) in [(Some(0), true), (None, false)] {
        let mut parts = http::Response::builder().header("server", "x").body(()).unwrap().into_parts().0;
        forward.edit_response(choice, None, &mut parts);
        assert_eq!(parts.headers["x-set"], "rule");
        assert_eq!(parts.headers.contains_key("x-backend"), backend);
        assert!(!parts.headers.contains_key("server"));
    }
}

#[test]
fn redirects_and_preflights_are_answered() {
    let cors = Filter::Cors(Box::new(Cors {
        allow_origins: CorsOrigins::Any,
        allow_credentials: true,
        allow_methods: CorsNames::Any,
        allow_headers: CorsNames::Any,
        expose_headers: CorsNames::List(vec![]),
        max_age: 5,
    }));
    let modifier = Filter::ResponseHeaderModifier(header_modifier(&[("x-set", "1")], &[], &[]));
    let path = Some(PathModifier::ReplacePrefixMatch("/new".into()));
    let redirecting = Rule { action: RuleAction::Redirect(Box::new(redirect(path))), ..rule(vec![prefix("/old")], "") };
    let linked = linked(&one_route(vec![
        with_filters(redirecting, vec![modifier.clone()]),
        with_filters(rule(vec![prefix("/cors")], "v1"), vec![cors, modifier]),
    ]));

    let answer = get("H.example:80/old/%7ex?a=b").answer(&linked);
    assert_eq!((answer.status.as_u16(), answer.why), (302, Why::Redirect));
    assert_eq!(answer.headers["location"], "http://h.example/new/~x?a=b");
    assert_eq!(answer.headers["x-set"], "1");

    let preflight = get("h/cors").method(Method::OPTIONS).header("origin", "https://a.example");
    assert_eq!(preflight.outcome(&linked), "v1", "an OPTIONS request that is no preflight is forwarded");
    let answer = preflight.header("access-control-request-method", "PUT").answer(&linked);
    assert_eq!((answer.status.as_u16(), answer.why), (204, Why::CorsPreflight));
    assert_eq!(answer.headers["access-control-allow-origin"], "https://a.example");
    assert_eq!(answer.headers["access-control-allow-methods"], "PUT");
    assert_eq!(answer.headers["x-set"], "1");

    let forward = get("h/cors").forward(&linked);
    let mut parts = http::Response::new(()).into_parts().0;
    forward.edit_response(Some(0), Some(&HeaderValue::from_static("https://a.example")), &mut parts);
    assert_eq!(parts.headers["access-control-allow-origin"], "https://a.example");
}

#[test]
fn mirrors_are_listed() {
    let mirror = |target, numerator| {
        let fraction = Fraction { numerator, denominator: NonZeroU32::new(10).unwrap() };
        Filter::RequestMirror(Box::new(Mirror { target, fraction }))
    };
    let invalid = BackendTarget::Invalid(failure(500, FailureReason::RefNotPermitted));
    let filters = vec![mirror(backend("m1", 1).target, 10), mirror(invalid, 10), mirror(backend("m2", 1).target, 3)];
    let linked = linked(&one_route(vec![with_filters(rule(vec![prefix("/")], "v1"), filters)]));
    let forward = get("h/").forward(&linked);
    let mirrors: Vec<_> = forward.mirrors(0).map(|mirror| mirror.target.service.name.to_string()).collect();
    assert_eq!(mirrors, ["m1", "m2"]);
    let taken = forward.mirrors(0).map(|mirror| (0..10).filter(|drawn| mirror.takes(*drawn)).count());
    assert_eq!(taken.collect::<Vec<_>>(), [10, 3]);
}

#[test]
fn what_did_not_change_is_shared() {
    let mut config = with_listeners([listener("a", 80, "*"), listener("b", 8080, "*")]);
    attach(&mut config, "one", &["a"], &["one.example"], vec![rule(vec![prefix("/")], "v1")]);
    attach(&mut config, "two", &["b"], &["two.example"], vec![rule(vec![prefix("/")], "v2")]);
    let first = linked(&config);
    first.port(80).unwrap().listeners()[0].telemetry.set(7);
    attach(&mut config, "one", &["a"], &["one.example"], vec![rule(vec![prefix("/")], "v3")]);
    let second = Linked::link(&config, Some(&first));
    assert_eq!(get("one.example/").outcome(&second), "v3");
    assert!(Arc::ptr_eq(first.port(8080).unwrap(), second.port(8080).unwrap()));
    assert!(!Arc::ptr_eq(first.port(80).unwrap(), second.port(80).unwrap()));
    let two = config.routes.keys().nth(1).unwrap();
    assert!(Arc::ptr_eq(first.route(two).unwrap(), second.route(two).unwrap()));
    assert_eq!(second.port(80).unwrap().listeners()[0].telemetry.index(), Some(7));
    let third = Linked::link(&config, Some(&second));
    assert!(Arc::ptr_eq(second.port(80).unwrap(), third.port(80).unwrap()));
}

#[test]
fn conflicting_listeners_are_reported() {
    let http = Listener { protocol: portcullis_model::ListenerProtocol::Http, ..listener("plain", 443, "x.example") };
    let linked = Linked::link(&with_listeners([listener("a", 443, "*"), listener("b", 443, "*"), http]), None);
    let fields: Vec<_> = linked.problems().iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["hostname", "protocol"]);
    match linked.port(443).unwrap().client_hello(Some("x.example")) {
        ClientHello::Terminate { listener, .. } => assert_eq!(listener.key.to_string(), "a"),
        refused => panic!("{refused:?}"),
    }
}
