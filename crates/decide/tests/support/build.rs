//! Short ways to write configurations and requests down.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portcullis_decide::{Answer, Connection, Forward, Linked, Need, RequestHead, Step};
use portcullis_model::{
    Attachment, BackendKey, BackendTarget, CertificateKey, Config, Failure, FailureReason, Filter, Gateway, Hostname,
    Listener, ListenerKey, ListenerProtocol, ListenerState, ListenerTls, ObjectName, PathMatch, Route, RouteHostname,
    RouteKey, RouteKind, RouteMatch, Rule, RuleAction, StringMatch, Timeouts, Upstreams, ValueMatch, WeightedBackend,
};
use std::sync::Arc;

pub fn gateway() -> Config {
    let name = ObjectName::new("infra", "gateway");
    Config::new(Arc::new(Gateway {
        name,
        gateway_class: "portcullis".into(),
        addresses: Vec::new(),
        generation: 0,
        upstreams: Upstreams::default(),
    }))
}

/// `name port hostname`; HTTPS on 443 and 8443.
pub fn listener(name: &str, port: u16, hostname: &str) -> Listener {
    let https = matches!(port, 443 | 8443);
    let certificates = vec![CertificateKey(ObjectName::new("infra", format!("certificate-{name}")))];
    Listener {
        key: ListenerKey::of_gateway(name),
        port,
        protocol: if https { ListenerProtocol::Https } else { ListenerProtocol::Http },
        hostname: Hostname::new(Some(hostname)),
        tls: https.then_some(ListenerTls { certificates }),
        state: ListenerState::Serving,
    }
}

pub fn with_listeners(listeners: impl IntoIterator<Item = Listener>) -> Config {
    let mut config = gateway();
    for listener in listeners {
        config.listeners.insert(listener.key.clone(), Arc::new(listener));
    }
    config
}

/// Attaches a route to listeners, with its own hostnames, as the compiler would.
pub fn attach(config: &mut Config, name: &str, listeners: &[&str], hostnames: &[&str], rules: Vec<Rule>) -> RouteKey {
    let (namespace, name) = name.split_once('/').unwrap_or(("infra", name));
    let key = RouteKey { kind: RouteKind::HttpRoute, name: ObjectName::new(namespace, name) };
    let hostnames: Vec<_> = hostnames.iter().map(|hostname| Hostname::new(Some(hostname))).collect();
    let attachments = config
        .listeners
        .values()
        .filter(|listener| listeners.contains(&&*listener.key.name))
        .filter_map(|listener| attachment(listener, &hostnames))
        .collect();
    let route = Route { key: key.clone(), created: None, attachments, rules: Arc::new(rules) };
    config.routes.insert(key.clone(), Arc::new(route));
    key
}

/// The intersection of a listener's hostname with those of a route.
pub fn attachment(listener: &Listener, hostnames: &[Hostname]) -> Option<Attachment> {
    let hostnames: Vec<_> = hostnames
        .iter()
        .filter_map(|route_hostname| {
            let hostname = listener.hostname.intersection(route_hostname)?.clone();
            Some(RouteHostname { hostname, route_hostname: route_hostname.clone() })
        })
        .collect();
    (!hostnames.is_empty()).then(|| Attachment { listener: listener.key.clone(), hostnames })
}

pub fn prefix(path: &str) -> RouteMatch {
    RouteMatch { path: PathMatch::PathPrefix(path.into()), method: None, headers: vec![], query_params: vec![] }
}

pub fn exact(path: &str) -> RouteMatch {
    RouteMatch { path: PathMatch::Exact(path.into()), ..prefix("/") }
}

pub fn regex(path: &str) -> RouteMatch {
    RouteMatch { path: PathMatch::RegularExpression(path.into()), ..prefix("/") }
}

pub fn is(name: &str, value: &str) -> ValueMatch {
    ValueMatch { name: name.into(), value: StringMatch::Exact(value.into()) }
}

pub fn like(name: &str, pattern: &str) -> ValueMatch {
    ValueMatch { name: name.into(), value: StringMatch::RegularExpression(pattern.into()) }
}

/// A rule that forwards to a Service.
pub fn rule(matches: Vec<RouteMatch>, service: &str) -> Rule {
    Rule {
        name: None,
        matches,
        filters: Vec::new(),
        action: RuleAction::Forward(vec![backend(service, 1)]),
        timeouts: Timeouts::default(),
        retry: None,
    }
}

pub fn backend(service: &str, weight: u32) -> WeightedBackend {
    let key = BackendKey { service: ObjectName::new("infra", service), port: 8080 };
    WeightedBackend { weight, filters: Vec::new(), target: BackendTarget::Backend(key) }
}

pub fn with_filters(mut rule: Rule, filters: Vec<Filter>) -> Rule {
    rule.filters = filters;
    rule
}

pub fn failure(status_code: u16, reason: FailureReason) -> Box<Failure> {
    Box::new(Failure { status_code, reason, field: "spec.rules[0]".into(), message: "it fails".into() })
}

/// A request as a test writes it.
#[derive(Clone, Debug)]
pub struct Request {
    pub port: u16,
    pub server_name: Option<String>,
    pub method: Method,
    pub host: String,
    /// With the query.
    pub target: String,
    pub headers: HeaderMap,
}

/// GET of `host/path?query`, to port 80.
pub fn get(url: &str) -> Request {
    let (host, path) = url.split_at(url.find('/').unwrap_or(url.len()));
    Request {
        port: 80,
        server_name: None,
        method: Method::GET,
        host: host.into(),
        target: path.into(),
        headers: HeaderMap::new(),
    }
}

impl Request {
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        self
    }

    pub fn tls(mut self, server_name: Option<&str>) -> Self {
        self.port = 443;
        self.server_name = server_name.map(Into::into);
        self
    }

    pub fn path_and_query(&self) -> (&str, Option<&str>) {
        match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&self.target, None),
        }
    }

    pub fn send(&self, linked: &Linked) -> Step {
        let (path, query) = self.path_and_query();
        let connection = Connection { server_name: self.server_name.as_deref(), tls: matches!(self.port, 443 | 8443) };
        let head = RequestHead { method: &self.method, host: &self.host, path, query, headers: &self.headers };
        linked.port(self.port).unwrap().request(&connection, &head)
    }

    pub fn answer(&self, linked: &Linked) -> Answer {
        match self.send(linked) {
            Step::Done(answer) => answer,
            Step::Need(need) => panic!("{self:?}: {need:?}"),
        }
    }

    pub fn forward(&self, linked: &Linked) -> Forward {
        match self.send(linked) {
            Step::Need(Need::Backend(forward)) => forward,
            Step::Done(answer) => panic!("{self:?}: {answer:?}"),
        }
    }

    /// The name of the first backend's Service, or the status of the answer.
    pub fn outcome(&self, linked: &Linked) -> String {
        match self.send(linked) {
            Step::Done(answer) => answer.status.as_u16().to_string(),
            Step::Need(Need::Backend(forward)) => match forward.backend(0) {
                Ok(key) => key.service.name.to_string(),
                Err(answer) => answer.status.as_u16().to_string(),
            },
        }
    }

    pub fn parts(&self) -> http::request::Parts {
        let request = http::Request::builder().method(self.method.clone()).uri(&self.target).body(()).unwrap();
        let mut parts = request.into_parts().0;
        parts.headers = self.headers.clone();
        parts.headers.insert(http::header::HOST, HeaderValue::try_from(&self.host).unwrap());
        parts
    }
}
