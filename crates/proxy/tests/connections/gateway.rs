//! A gateway whose listeners the test gives. Every route answers with a redirect that names it, so no backend is needed to
//! see which configuration answered.

use portcullis_model::{
    Attachment, Backend, BackendKey, BackendProtocol, BackendTarget, Certificate, CertificateKey, ConfigDelta,
    Discovery, Endpoint, Endpoints, Gateway as GatewayResource, Hostname, Listener, ListenerKey, ListenerProtocol,
    ListenerState, ListenerTls, ObjectName, PathMatch, PrivateKey, PrivateKeyFormat, Redirect, Resource, ResourceKey,
    Route, RouteHostname, RouteKey, RouteKind, RouteMatch, Rule, RuleAction, SecretBytes, Timeouts, Upstreams,
    WeightedBackend,
};
use portcullis_proxy::{Applied, Options, PortMap, Proxy};
use portcullis_runtime::drain::Drain;
use portcullis_runtime::metrics::{Format, Registry};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A proxy, most often with one Gateway. Its threads end with it.
pub struct Gateway {
    pub proxy: Proxy,
    pub drain: Drain,
    registry: Registry,
    applied: Applied,
}

/// Options for tests: one worker, ports that are free, on loopback.
pub fn options() -> Options {
    Options {
        workers: 1,
        port_map: PortMap::ephemeral(),
        default_bind: vec![[127, 0, 0, 1].into()],
        ..Options::default()
    }
}

impl Gateway {
    pub async fn start(options: Options, resources: Vec<Resource>) -> Self {
        let registry = Registry::new(options.workers);
        let drain = Drain::new();
        let proxy = Proxy::start(options, &registry, None, &drain).unwrap();
        let mut gateway = Self { proxy, drain, registry, applied: Applied::default() };
        gateway.apply(resources, Vec::new()).await;
        gateway
    }

    /// With an HTTP listener on port 80 and a route named `one`.
    pub async fn http(options: Options) -> Self {
        Self::start(options, vec![http("http", 80), route("one", &["http"])]).await
    }

    pub async fn apply(&mut self, upserted: Vec<Resource>, removed: Vec<ResourceKey>) -> &Applied {
        self.apply_to("gateway", upserted, removed).await
    }

    /// The same for a Gateway of another name.
    pub async fn apply_to(&mut self, name: &str, mut upserted: Vec<Resource>, removed: Vec<ResourceKey>) -> &Applied {
        let name = ObjectName::new("default", name);
        upserted.insert(
            0,
            Resource::Gateway(Arc::new(GatewayResource {
                name: name.clone(),
                gateway_class: "portcullis".into(),
                addresses: Vec::new(),
                generation: 0,
                upstreams: Upstreams::default(),
            })),
        );
        self.applied = self.proxy.apply(vec![ConfigDelta::Change { gateway: name, upserted, removed }]).await;
        &self.applied
    }

    pub async fn remove(&mut self, name: &str) -> &Applied {
        let gateway = ObjectName::new("default", name);
        self.applied = self.proxy.apply(vec![ConfigDelta::Remove { gateway }]).await;
        &self.applied
    }

    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Where a port of the first Gateway that has it is served.
    pub fn address(&self, port: u16) -> SocketAddr {
        self.address_of("gateway", port)
    }

    pub fn address_of(&self, gateway: &str, port: u16) -> SocketAddr {
        let report = self.applied.ports.iter().find(|report| *report.gateway.name == *gateway && report.port == port);
        report.unwrap().result.as_ref().unwrap().addresses[0]
    }

    /// A metric's value, by name and labels.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.registry.render(Format::OpenMetrics);
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    pub async fn metric_becomes(&self, series: &str, value: f64) {
        for _ in 0..2000 {
            if self.metric(series) == value {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{series} is {} and not {value}\n{}", self.metric(series), self.registry.render(Format::OpenMetrics));
    }

    pub async fn open_connections_become(&self, port: u16, value: f64) {
        let series = format!("portcullis_connections_open{{gateway=\"default/gateway\",port=\"{port}\"}}");
        self.metric_becomes(&series, value).await;
    }

    pub async fn handshake_failures_become(&self, port: u16, reason: &str, value: f64) {
        let labels = format!("gateway=\"default/gateway\",port=\"{port}\",reason=\"{reason}\"");
        self.metric_becomes(&format!("portcullis_tls_handshake_failures_total{{{labels}}}"), value).await;
    }
}

pub fn http(name: &str, port: u16) -> Resource {
    listener(name, port, ListenerProtocol::Http, None, &[])
}

pub fn https(name: &str, port: u16, hostname: Option<&str>, certificates: &[&str]) -> Resource {
    listener(name, port, ListenerProtocol::Https, hostname, certificates)
}

/// An HTTPS listener that keeps its hostname but cannot serve.
pub fn invalid(name: &str, port: u16, hostname: Option<&str>) -> Resource {
    let Resource::Listener(listener) = https(name, port, hostname, &[]) else { unreachable!() };
    let state = ListenerState::Invalid { reason: "InvalidCertificateRef".to_owned() };
    Resource::Listener(Arc::new(Listener { state, ..(*listener).clone() }))
}

fn listener(
    name: &str,
    port: u16,
    protocol: ListenerProtocol,
    hostname: Option<&str>,
    certificates: &[&str],
) -> Resource {
    let certificates = certificates.iter().map(|name| certificate_key(name)).collect();
    Resource::Listener(Arc::new(Listener {
        key: ListenerKey::of_gateway(name),
        port,
        protocol,
        hostname: Hostname::new(hostname),
        tls: (protocol == ListenerProtocol::Https).then_some(ListenerTls { certificates }),
        state: ListenerState::Serving,
    }))
}

pub fn listener_key(name: &str) -> ResourceKey {
    ResourceKey::Listener(ListenerKey::of_gateway(name))
}

pub fn certificate_key(name: &str) -> CertificateKey {
    CertificateKey(ObjectName::new("default", name))
}

/// A route for every host and path of these listeners, which redirects to the host `location`.
pub fn route(location: &str, listeners: &[&str]) -> Resource {
    let redirect = Redirect { scheme: None, hostname: Some(location.into()), path: None, port: None, status_code: 302 };
    route_to(listeners, RuleAction::Redirect(Box::new(redirect)))
}

/// A route to a backend at this address, with the backend.
pub fn forward(listeners: &[&str], address: SocketAddr) -> Vec<Resource> {
    let key = BackendKey { service: ObjectName::new("default", "backend"), port: 80 };
    let target = BackendTarget::Backend(key.clone());
    let action = RuleAction::Forward(vec![WeightedBackend { weight: 1, filters: Vec::new(), target }]);
    let endpoints = vec![Endpoint { address, zone: None, is_pod: false }];
    vec![
        route_to(listeners, action),
        Resource::Backend(Arc::new(Backend {
            key: key.clone(),
            protocol: BackendProtocol::Http1,
            discovery: Discovery::EndpointSlices,
        })),
        Resource::Endpoints(Arc::new(Endpoints { key, endpoints })),
    ]
}

fn route_to(listeners: &[&str], action: RuleAction) -> Resource {
    let mut attachments: Vec<_> = listeners
        .iter()
        .map(|listener| Attachment {
            listener: ListenerKey::of_gateway(*listener),
            hostnames: vec![RouteHostname { hostname: Hostname::Any, route_hostname: Hostname::Any }],
        })
        .collect();
    attachments.sort_by(|a, b| a.listener.cmp(&b.listener));
    Resource::Route(Arc::new(Route {
        key: RouteKey { kind: RouteKind::HttpRoute, name: ObjectName::new("default", "route") },
        created: None,
        attachments,
        rules: Arc::new(vec![Rule {
            name: None,
            matches: vec![RouteMatch {
                path: PathMatch::PathPrefix("/".into()),
                method: None,
                headers: Vec::new(),
                query_params: Vec::new(),
            }],
            filters: Vec::new(),
            action,
            timeouts: Timeouts::default(),
            retry: None,
        }]),
    }))
}

/// A certificate authority that clients trust.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub root: CertificateDer<'static>,
}

/// A key's algorithm.
#[derive(Clone, Copy)]
pub enum Algorithm {
    Ecdsa,
    Rsa,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// A certificate for these names, under the name of a Secret.
    pub fn certificate(&self, secret: &str, names: &[&str]) -> Certificate {
        self.certificate_of(Algorithm::Ecdsa, secret, names)
    }

    pub fn certificate_of(&self, algorithm: Algorithm, secret: &str, names: &[&str]) -> Certificate {
        let key = match algorithm {
            Algorithm::Ecdsa => KeyPair::generate().unwrap(),
            Algorithm::Rsa => KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap(),
        };
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names.clone()).unwrap().signed_by(&key, &self.issuer).unwrap();
        Certificate {
            key: certificate_key(secret),
            chain: vec![certificate.der().to_vec()],
            private_key: PrivateKey {
                format: PrivateKeyFormat::Pkcs8,
                der: SecretBytes::new(key.serialized_der().to_vec()),
            },
            dns_names: names,
            not_before: 0,
            not_after: i64::MAX,
        }
    }
}

/// As a piece of a configuration.
pub fn resource(certificate: &Certificate) -> Resource {
    Resource::Certificate(Arc::new(certificate.clone()))
}
