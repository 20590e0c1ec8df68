//! Configurations of a Gateway with listeners that all lead to one backend.

use portcullis_model::*;
use std::net::SocketAddr;
use std::sync::Arc;

pub fn web() -> ObjectName {
    ObjectName::new("infra", "web")
}

/// Listeners on these ports; all requests go to `backend`.
pub fn config(generation: i64, ports: &[u16], backend: SocketAddr) -> ConfigDelta {
    let key: BackendKey = "shop/echo:80".parse().unwrap();
    let gateway = Gateway {
        name: web(),
        gateway_class: "portcullis".into(),
        addresses: Vec::new(),
        generation,
        upstreams: Upstreams::default(),
    };
    let listener_key = |port: &u16| ListenerKey::of_gateway(format!("http-{port}"));
    let any = RouteHostname { hostname: Hostname::Any, route_hostname: Hostname::Any };
    let rule = Rule {
        name: None,
        matches: vec![RouteMatch {
            path: PathMatch::PathPrefix("/".into()),
            method: None,
            headers: Vec::new(),
            query_params: Vec::new(),
        }],
        filters: Vec::new(),
        action: RuleAction::Forward(vec![WeightedBackend {
            weight: 1,
            filters: Vec::new(),
            target: BackendTarget::Backend(key.clone()),
        }]),
        timeouts: Timeouts::default(),
        retry: None,
    };
    let attachment = |port| Attachment { listener: listener_key(port), hostnames: vec![any.clone()] };
    let route = Route {
        key: "HTTPRoute/shop/all".parse().unwrap(),
        created: None,
        attachments: ports.iter().map(attachment).collect(),
        rules: Arc::new(vec![rule]),
    };
    let mut upserted = vec![
        Resource::Gateway(Arc::new(gateway)),
        Resource::Route(Arc::new(route)),
        Resource::Backend(Arc::new(Backend {
            key: key.clone(),
            protocol: BackendProtocol::Http1,
            discovery: Discovery::EndpointSlices,
        })),
        Resource::Endpoints(Arc::new(Endpoints {
            key,
            endpoints: vec![Endpoint { address: backend, zone: None, is_pod: true }],
        })),
    ];
    for port in ports {
        upserted.push(Resource::Listener(Arc::new(Listener {
            key: listener_key(port),
            port: *port,
            protocol: ListenerProtocol::Http,
            hostname: Hostname::Any,
            tls: None,
            state: ListenerState::Serving,
        })));
    }
    ConfigDelta::Change { gateway: web(), upserted, removed: Vec::new() }
}
