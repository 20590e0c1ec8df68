//! Small configurations, and a pair of streams whose messages are moved by hand.

use portcullis_model::{
    Backend, BackendKey, BackendProtocol, Config, ConfigDelta, Discovery, Endpoint, Endpoints, Gateway, Listener,
    ListenerKey, ListenerProtocol, ListenerState, ObjectName, Resource, Upstreams, wire,
};
use portcullis_xds::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use portcullis_xds::{Catalog, ClientStream, ServerStream, StreamEvent};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(crate) fn name(text: &str) -> ObjectName {
    text.parse().unwrap()
}

pub(crate) fn web() -> ObjectName {
    name("infra/web")
}

pub(crate) fn gateway(name: &ObjectName, generation: i64) -> Resource {
    Resource::Gateway(Arc::new(Gateway {
        name: name.clone(),
        gateway_class: "portcullis".into(),
        addresses: Vec::new(),
        generation,
        upstreams: Upstreams::default(),
    }))
}

pub(crate) fn backend_key(number: usize) -> BackendKey {
    format!("shop/service-{number}:80").parse().unwrap()
}

pub(crate) fn endpoints(number: usize, content: u8) -> Resource {
    let endpoint = |last| Endpoint { address: ([10, 0, content, last], 80).into(), zone: None, is_pod: true };
    let endpoints = (1..content % 4).map(endpoint).collect();
    Resource::Endpoints(Arc::new(Endpoints { key: backend_key(number), endpoints }))
}

pub(crate) fn backend(number: usize, content: u8) -> Resource {
    let protocol = if content.is_multiple_of(2) { BackendProtocol::Http1 } else { BackendProtocol::H2c };
    Resource::Backend(Arc::new(Backend { key: backend_key(number), protocol, discovery: Discovery::EndpointSlices }))
}

/// A listener with as many bytes as wanted.
pub(crate) fn listener(number: usize, bytes: usize) -> Resource {
    Resource::Listener(Arc::new(Listener {
        key: ListenerKey::of_gateway(format!("l{number}")),
        port: 80,
        protocol: ListenerProtocol::Http,
        hostname: portcullis_model::Hostname::Any,
        tls: None,
        state: ListenerState::Invalid { reason: "x".repeat(bytes) },
    }))
}

pub(crate) fn change(gateway: &ObjectName, upserted: Vec<Resource>, removed: &[Resource]) -> ConfigDelta {
    let removed = removed.iter().filter_map(Resource::key).collect();
    ConfigDelta::Change { gateway: gateway.clone(), upserted, removed }
}

/// Everything of a configuration, as one change.
pub(crate) fn whole(config: &Config) -> ConfigDelta {
    let Config { gateway, listeners, routes, backends, endpoints, certificates } = config;
    let mut upserted = vec![Resource::Gateway(gateway.clone())];
    upserted.extend(listeners.values().cloned().map(Resource::Listener));
    upserted.extend(routes.values().cloned().map(Resource::Route));
    upserted.extend(backends.values().cloned().map(Resource::Backend));
    upserted.extend(endpoints.values().cloned().map(Resource::Endpoints));
    upserted.extend(certificates.values().cloned().map(Resource::Certificate));
    ConfigDelta::Change { gateway: gateway.name.clone(), upserted, removed: Vec::new() }
}

/// A data plane, and the stream that it has.
pub(crate) struct Pair {
    pub(crate) client: ClientStream,
    pub(crate) server: ServerStream,
    pub(crate) to_server: VecDeque<DeltaDiscoveryRequest>,
    pub(crate) to_client: VecDeque<DeltaDiscoveryResponse>,
    /// What the proxy serves.
    pub(crate) served: BTreeMap<ObjectName, Config>,
    pub(crate) events: Vec<StreamEvent>,
    /// Names of resources that were received on this stream.
    pub(crate) received: Vec<String>,
    /// Streams that one side ended.
    pub(crate) broken: usize,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let mut pair = Self {
            client: ClientStream::new(web(), "pod-1"),
            server: ServerStream::new(web()),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            served: BTreeMap::new(),
            events: Vec::new(),
            received: Vec::new(),
            broken: 0,
        };
        pair.connect();
        pair
    }

    /// The stream breaks, with all that is under way, and another begins.
    pub(crate) fn connect(&mut self) {
        self.server = ServerStream::new(web());
        self.to_client.clear();
        self.received.clear();
        self.to_server = self.client.start().into();
    }

    pub(crate) fn on_change(&mut self, changed: &[ObjectName], catalog: &Catalog) {
        self.to_client.extend(self.server.on_change(changed, catalog));
    }

    /// Delivers one message, if one is under way.
    pub(crate) fn step(&mut self, catalog: &Catalog) -> bool {
        if let Some(request) = self.to_server.pop_front() {
            let Ok(step) = self.server.on_request(request, catalog) else { return self.break_up() };
            self.to_client.extend(step.responses);
            self.events.extend(step.event);
            return true;
        }
        let Some(response) = self.to_client.pop_front() else { return false };
        self.received.extend(response.resources.iter().map(|resource| resource.name.clone()));
        let Ok(step) = self.client.on_response(response) else { return self.break_up() };
        self.to_server.extend(step.requests);
        if let Some(commit) = step.commit {
            commit.deltas.iter().for_each(|delta| Config::apply(&mut self.served, delta));
            self.to_server.extend(self.client.applied(Ok(())));
        }
        true
    }

    /// One side leaves the other; the client comes again.
    fn break_up(&mut self) -> bool {
        self.broken += 1;
        self.connect();
        true
    }

    pub(crate) fn settle(&mut self, catalog: &Catalog) {
        while self.step(catalog) {}
        assert_eq!(self.broken, 0);
    }
}

pub(crate) fn encoded(resource: &Resource) -> Vec<u8> {
    wire::encode(resource).unwrap().to_vec()
}
