use super::*;
use crate::*;
use std::time::Duration;

fn name(text: &str) -> ObjectName {
    text.parse().unwrap()
}

fn backend_key() -> BackendKey {
    "shop/cart:8080".parse().unwrap()
}

fn failure() -> Box<Failure> {
    Box::new(Failure {
        status_code: 500,
        reason: FailureReason::BackendNotFound,
        field: "spec.rules[0]".to_owned(),
        message: "no such Service".to_owned(),
    })
}

/// A rule in which every optional piece is there.
fn full_rule() -> Rule {
    let value = |name: &str, value| ValueMatch { name: name.into(), value };
    let modifier = HeaderModifier {
        set: vec![HeaderValueEntry { name: "x-a".into(), value: "1".into() }],
        add: vec![HeaderValueEntry { name: "x-b".into(), value: "ü\"\\".into() }],
        remove: vec!["x-c".into()],
    };
    let mirror = Mirror {
        target: BackendTarget::Invalid(failure()),
        fraction: Fraction { numerator: 1, denominator: 3.try_into().unwrap() },
    };
    let cors = Cors {
        allow_origins: CorsOrigins::List(vec![CorsOrigin {
            scheme: Some("https".into()),
            host: Hostname::new(Some("*.example.com")),
            port: Some(8443),
        }]),
        allow_credentials: true,
        allow_methods: CorsNames::Any,
        allow_headers: CorsNames::List(vec!["x-d".into()]),
        expose_headers: CorsNames::List(Vec::new()),
        max_age: 5,
    };
    let rewrite =
        UrlRewrite { hostname: Some("b.example".into()), path: Some(PathModifier::ReplacePrefixMatch("/new".into())) };
    Rule {
        name: Some("all".into()),
        matches: vec![RouteMatch {
            path: PathMatch::RegularExpression("/v[0-9]+/.*".into()),
            method: Some("GET".into()),
            headers: vec![value("x-e", StringMatch::Exact("v".into()))],
            query_params: vec![value("q", StringMatch::RegularExpression("a+".into()))],
        }],
        filters: vec![
            Filter::RequestHeaderModifier(modifier.clone()),
            Filter::UrlRewrite(Box::new(rewrite)),
            Filter::RequestMirror(Box::new(mirror)),
            Filter::Cors(Box::new(cors)),
        ],
        action: RuleAction::Forward(vec![
            WeightedBackend {
                weight: 3,
                filters: vec![Filter::ResponseHeaderModifier(modifier)],
                target: BackendTarget::Backend(backend_key()),
            },
            WeightedBackend { weight: 1, filters: Vec::new(), target: BackendTarget::Invalid(failure()) },
        ]),
        timeouts: Timeouts {
            request: Some(Duration::from_millis(1500)),
            backend_request: Some(Duration::from_nanos(1)),
        },
        retry: Some(Retry { codes: vec![502, 503], attempts: 2, backoff: Some(Duration::from_millis(100)) }),
    }
}

fn pieces() -> Vec<Resource> {
    let listener = ListenerKey { listener_set: Some(name("infra/set")), name: "https".into() };
    let redirect = Rule {
        action: RuleAction::Redirect(Box::new(Redirect {
            scheme: Some("https".into()),
            hostname: None,
            path: Some(PathModifier::ReplaceFullPath("/".into())),
            port: Some(8443),
            status_code: 301,
        })),
        ..full_rule()
    };
    let fail = Rule { action: RuleAction::Fail(failure()), ..full_rule() };
    let route = Route {
        key: "HTTPRoute/shop/cart".parse().unwrap(),
        created: Some(-1),
        attachments: vec![Attachment {
            listener: listener.clone(),
            hostnames: vec![RouteHostname {
                hostname: Hostname::new(Some("a.example.com")),
                route_hostname: Hostname::Any,
            }],
        }],
        rules: Arc::new(vec![full_rule(), redirect, fail]),
    };
    let gateway = Gateway {
        name: name("infra/web"),
        gateway_class: "portcullis".into(),
        addresses: vec!["2001:db8::1".parse().unwrap()],
        generation: 7,
        upstreams: Upstreams::default(),
    };
    vec![
        Resource::Gateway(Arc::new(gateway)),
        Resource::Listener(Arc::new(Listener {
            key: listener,
            port: 443,
            protocol: ListenerProtocol::Https,
            hostname: Hostname::new(Some("*.example.com")),
            tls: Some(ListenerTls { certificates: vec![CertificateKey(name("infra/tls"))] }),
            state: ListenerState::Invalid { reason: "no certificate".to_owned() },
        })),
        Resource::Route(Arc::new(route)),
        Resource::Backend(Arc::new(Backend {
            key: backend_key(),
            protocol: BackendProtocol::H2c,
            discovery: Discovery::Dns { hostname: "db.example".into(), port: 80 },
        })),
        Resource::Endpoints(Arc::new(Endpoints {
            key: backend_key(),
            endpoints: vec![Endpoint {
                address: "[2001:db8::2]:80".parse().unwrap(),
                zone: Some("a".into()),
                is_pod: true,
            }],
        })),
        Resource::Certificate(Arc::new(certificate())),
    ]
}

fn certificate() -> Certificate {
    Certificate {
        key: CertificateKey(name("infra/tls")),
        chain: vec![vec![0x30, 0x82, 1, 2], vec![0x30; 2000]],
        private_key: PrivateKey { format: PrivateKeyFormat::Pkcs8, der: SecretBytes::new(b"CANARY-of-a-key".to_vec()) },
        dns_names: vec!["a.example.com".to_owned()],
        not_before: 1,
        not_after: i64::MAX,
    }
}

#[test]
fn every_piece_comes_back_as_it_was() {
    for piece in pieces() {
        let bytes = encode(&piece).unwrap();
        assert_eq!(decode(piece.kind(), &bytes).unwrap(), piece);
        assert_eq!(encode(&piece).unwrap(), bytes);
    }
}

#[test]
fn only_this_form_holds_the_key() {
    let piece = Resource::Certificate(Arc::new(certificate()));
    let bytes = encode(&piece).unwrap();
    let key = STANDARD.encode("CANARY-of-a-key");
    assert!(std::str::from_utf8(&bytes).unwrap().contains(&key));
    let elsewhere = serde_json::to_string(&piece).unwrap() + &format!("{piece:?}");
    assert!(!elsewhere.contains("CANARY") && !elsewhere.contains(&key), "{elsewhere}");
}

#[test]
fn unknown_fields_pass_and_unknown_values_do_not() {
    let read = |kind, text: &str| decode(kind, text.as_bytes());
    let listener = |protocol: &str, more: &str| {
        format!(r#"{{"key":"http","port":80,"protocol":"{protocol}","hostname":"*"{more}}}"#)
    };
    assert!(read(ResourceKind::Listener, &listener("HTTP", r#","fromTheFuture":{"a":[1]}"#)).is_ok());
    for (kind, text) in [
        (ResourceKind::Listener, listener("QUIC", "")),
        (ResourceKind::Listener, listener("HTTP", r#","state":{"Sleeping":{}}"#)),
        (ResourceKind::Backend, r#"{"key":"a/b:1","protocol":"H3","discovery":"EndpointSlices"}"#.to_owned()),
        (ResourceKind::Backend, r#"{"key":"a/b:1","protocol":"HTTP1","discovery":"Multicast"}"#.to_owned()),
        (ResourceKind::Route, r#"{"key":"FutureRoute/a/b","attachments":[],"rules":[]}"#.to_owned()),
        (ResourceKind::Gateway, "[]".to_owned()),
        (ResourceKind::Gateway, String::new()),
    ] {
        let error = read(kind, &text).unwrap_err();
        assert_eq!(error.kind, kind, "{text}");
    }
}

#[test]
fn errors_of_certificates_quote_nothing() {
    let text = String::from_utf8(encode(&Resource::Certificate(Arc::new(certificate()))).unwrap().to_vec()).unwrap();
    let key = STANDARD.encode("CANARY-of-a-key");
    for wrong in
        [text.replace(&key, "CANARY!"), text.replace("Pkcs8", "CANARY"), text.replace("\"infra/tls\"", "\"CANARY\"")]
    {
        let error = decode(ResourceKind::Certificate, wrong.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("CANARY"), "{error}");
    }
}

#[test]
fn telemetry_keeps_its_port() {
    assert_eq!([80, 443, 9090, 19090].map(pod_port), [80, 443, 19090, 19090]);
}
