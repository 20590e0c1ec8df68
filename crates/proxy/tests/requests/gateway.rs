//! A gateway with one listener and one route, whose rules and backends the test gives.

use portcullis_model::{
    Attachment, Backend, BackendKey, BackendProtocol, BackendTarget, ConfigDelta, Discovery, Endpoint, Endpoints,
    Failure, FailureReason, Filter, Gateway as GatewayResource, Hostname, Listener, ListenerKey, ListenerProtocol,
    ListenerState, ObjectName, PathMatch, Resource, ResourceKey, Retry, Route, RouteHostname, RouteKey, RouteKind,
    RouteMatch, Rule, RuleAction, Timeouts, Upstreams, WeightedBackend,
};
use portcullis_proxy::{Guard, Options, PortMap, Proxy};
use portcullis_runtime::drain::Drain;
use portcullis_runtime::log::{AccessLog, AccessLogOptions, AccessLogTarget};
use portcullis_runtime::metrics::{Format, Registry};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A gateway that serves. Its threads end with it.
pub(crate) struct Gateway {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    proxy: Proxy,
    registry: Registry,
    /// Begins the drain of everything.
    pub(crate) drain: Drain,
    log: Option<AccessLog>,
    folder: tempfile::TempDir,
}

/// What a gateway is made from.
pub(crate) struct Setup {
    /// Workers are one, where a test needs no more.
    pub(crate) options: Options,
    rules: Vec<Rule>,
    backends: Vec<(Backend, Endpoints)>,
    upstreams: Upstreams,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let options = Options {
            workers: 1,
            port_map: PortMap::ephemeral(),
            default_bind: vec![[127, 0, 0, 1].into()],
            ..Options::default()
        };
        Self { options, rules: Vec::new(), backends: Vec::new(), upstreams: Upstreams::default() }
    }

    /// One rule for everything, to one HTTP/1.1 backend.
    pub(crate) fn to(addresses: &[SocketAddr]) -> Self {
        Self::new().backend("backend", BackendProtocol::Http1, addresses).rule(rule(&["backend"]))
    }

    /// The same with HTTP/2 by prior knowledge.
    pub(crate) fn to_h2c(addresses: &[SocketAddr]) -> Self {
        Self::new().backend("backend", BackendProtocol::H2c, addresses).rule(rule(&["backend"]))
    }

    pub(crate) fn backend(mut self, name: &str, protocol: BackendProtocol, addresses: &[SocketAddr]) -> Self {
        let backend = Backend { key: key(name), protocol, discovery: Discovery::EndpointSlices };
        self.backends.push((backend, endpoints(name, addresses)));
        self
    }

    pub(crate) fn external_name(mut self, name: &str, hostname: &str, port: u16) -> Self {
        let discovery = Discovery::Dns { hostname: hostname.into(), port };
        let backend = Backend { key: key(name), protocol: BackendProtocol::Http1, discovery };
        self.backends.push((backend, endpoints(name, &[])));
        self
    }

    pub(crate) fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Changes the last rule.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Rule)) -> Self {
        change(self.rules.last_mut().unwrap());
        self
    }

    /// With the guard of upstream addresses, and what it is told of the Gateway.
    pub(crate) fn guarded(mut self, upstreams: Upstreams) -> Self {
        self.options.upstream.guard = Some(Guard::default());
        self.upstreams = upstreams;
        self
    }

    pub(crate) fn options(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    pub(crate) async fn start(self) -> Gateway {
        self.start_with(None).await
    }

    /// With an access log.
    pub(crate) async fn start_logged(self) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let options = AccessLogOptions {
            target: AccessLogTarget::File(folder.path().join("access.log")),
            flush_interval: Duration::from_millis(5),
            ..AccessLogOptions::default()
        };
        let log = AccessLog::start(options).unwrap();
        self.start_with(Some((log, folder))).await
    }

    async fn start_with(self, log: Option<(AccessLog, tempfile::TempDir)>) -> Gateway {
        let registry = Registry::new(self.options.workers);
        let drain = Drain::new();
        let (log, folder) = match log {
            Some((log, folder)) => (Some(log), folder),
            None => (None, tempfile::tempdir().unwrap()),
        };
        let proxy = Proxy::start(self.options, &registry, log.as_ref(), &drain).unwrap();
        let mut upserted = vec![
            gateway(self.upstreams),
            Resource::Listener(Arc::new(Listener {
                key: ListenerKey::of_gateway("http"),
                port: 80,
                protocol: ListenerProtocol::Http,
                hostname: Hostname::Any,
                tls: None,
                state: ListenerState::Serving,
            })),
            Resource::Route(Arc::new(route(self.rules))),
        ];
        for (backend, endpoints) in self.backends {
            upserted.push(Resource::Backend(Arc::new(backend)));
            upserted.push(Resource::Endpoints(Arc::new(endpoints)));
        }
        let applied =
            proxy.apply(vec![ConfigDelta::Change { gateway: name("gateway"), upserted, removed: Vec::new() }]).await;
        let address = applied.ports[0].result.as_ref().unwrap().addresses[0];
        Gateway { address, proxy, registry, drain, log, folder }
    }
}

impl Gateway {
    /// Replaces a backend's endpoints.
    pub(crate) async fn set_endpoints(&self, backend: &str, addresses: &[SocketAddr]) {
        self.apply(Resource::Endpoints(Arc::new(endpoints(backend, addresses)))).await;
    }

    /// Replaces the route.
    pub(crate) async fn set_rules(&self, rules: Vec<Rule>) {
        self.apply(Resource::Route(Arc::new(route(rules)))).await;
    }

    /// Replaces what the guard of upstream addresses is told.
    pub(crate) async fn set_upstreams(&self, upstreams: Upstreams) {
        self.apply(gateway(upstreams)).await;
    }

    /// Takes the route away.
    pub(crate) async fn remove_route(&self) {
        let removed = vec![ResourceKey::Route(route(Vec::new()).key)];
        let change = ConfigDelta::Change { gateway: name("gateway"), upserted: Vec::new(), removed };
        self.proxy.apply(vec![change]).await;
    }

    async fn apply(&self, resource: Resource) {
        let change = ConfigDelta::Change { gateway: name("gateway"), upserted: vec![resource], removed: Vec::new() };
        self.proxy.apply(vec![change]).await;
    }

    /// A metric's value, by the beginning of its line: name and labels.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.registry.render(Format::OpenMetrics);
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Waits until a metric has a value.
    pub(crate) async fn metric_becomes(&self, series: &str, value: f64) {
        for _ in 0..2000 {
            if self.metric(series) == value {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let text = self.registry.render(Format::OpenMetrics);
        let name = series.split('{').next().unwrap_or_default();
        let near: Vec<_> = text.lines().filter(|line| line.starts_with(name)).collect();
        panic!("{series} is {} and not {value}: {near:#?}", self.metric(series));
    }

    /// The lines of the access log once there are so many.
    pub(crate) async fn log_lines(&self, count: usize) -> Vec<serde_json::Value> {
        assert!(self.log.is_some());
        let mut lines = Vec::new();
        for _ in 0..2000 {
            let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
            lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if lines.len() >= count {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} lines in the access log, not {count}", lines.len());
    }
}

fn gateway(upstreams: Upstreams) -> Resource {
    Resource::Gateway(Arc::new(GatewayResource {
        name: name("gateway"),
        gateway_class: "portcullis".into(),
        addresses: Vec::new(),
        generation: 0,
        upstreams,
    }))
}

pub(crate) fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

pub(crate) fn key(backend: &str) -> BackendKey {
    BackendKey { service: name(backend), port: 80 }
}

fn endpoints(backend: &str, addresses: &[SocketAddr]) -> Endpoints {
    let mut endpoints: Vec<_> =
        addresses.iter().map(|address| Endpoint { address: *address, zone: None, is_pod: false }).collect();
    endpoints.sort();
    Endpoints { key: key(backend), endpoints }
}

fn route(rules: Vec<Rule>) -> Route {
    Route {
        key: RouteKey { kind: RouteKind::HttpRoute, name: name("route") },
        created: None,
        attachments: vec![Attachment {
            listener: ListenerKey::of_gateway("http"),
            hostnames: vec![RouteHostname { hostname: Hostname::Any, route_hostname: Hostname::Any }],
        }],
        rules: Arc::new(rules),
    }
}

/// A rule for every path, to these backends, with weight 1 each.
pub(crate) fn rule(backends: &[&str]) -> Rule {
    weighted(&backends.iter().map(|backend| (*backend, 1)).collect::<Vec<_>>())
}

/// A rule with weights.
pub(crate) fn weighted(backends: &[(&str, u32)]) -> Rule {
    let forward = backends.iter().map(|(backend, weight)| WeightedBackend {
        weight: *weight,
        filters: Vec::new(),
        target: BackendTarget::Backend(key(backend)),
    });
    Rule {
        name: None,
        matches: vec![prefix("/")],
        filters: Vec::new(),
        action: RuleAction::Forward(forward.collect()),
        timeouts: Timeouts::default(),
        retry: None,
    }
}

/// A match of a path prefix.
pub(crate) fn prefix(path: &str) -> RouteMatch {
    RouteMatch { path: PathMatch::PathPrefix(path.into()), method: None, headers: Vec::new(), query_params: Vec::new() }
}

/// A backendRef that is not permitted.
pub(crate) fn invalid(weight: u32) -> WeightedBackend {
    WeightedBackend { weight, filters: Vec::new(), target: BackendTarget::Invalid(Box::new(failure())) }
}

fn failure() -> Failure {
    Failure {
        status_code: 500,
        reason: FailureReason::RefNotPermitted,
        field: "spec.rules[0].backendRefs[0]".to_owned(),
        message: "no ReferenceGrant permits it".to_owned(),
    }
}

pub(crate) fn retry(codes: &[u16], attempts: u32, backoff_ms: u64) -> Option<Retry> {
    Some(Retry { codes: codes.to_vec(), attempts, backoff: Some(Duration::from_millis(backoff_ms)) })
}

/// The rule's backends.
pub(crate) fn backends(rule: &mut Rule) -> &mut Vec<WeightedBackend> {
    match &mut rule.action {
        RuleAction::Forward(backends) => backends,
        _ => panic!("the rule forwards"),
    }
}

/// A filter that changes headers.
pub(crate) fn headers(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> portcullis_model::HeaderModifier {
    let entries = |entries: &[(&str, &str)]| {
        entries
            .iter()
            .map(|(name, value)| portcullis_model::HeaderValueEntry { name: (*name).into(), value: (*value).into() })
            .collect()
    };
    portcullis_model::HeaderModifier {
        set: entries(set),
        add: entries(add),
        remove: remove.iter().map(|name| (*name).into()).collect(),
    }
}

/// Adds filters to a rule.
pub(crate) fn filtered(mut rule: Rule, filters: Vec<Filter>) -> Rule {
    rule.filters = filters;
    rule
}
