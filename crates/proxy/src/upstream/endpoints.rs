//! Backends and their endpoints on one worker: the state that outlives configurations.
//!
//! In flow snapshots, and answers of DNS. Out flow the endpoints that may get a request, each with its open requests, its
//! last failure and its connections. State is keyed by Gateway, backend and address: a change of the configuration, or of
//! other endpoints, does not touch it. It is made at first use and given up when the backend is gone and unused.

use super::UpstreamOptions;
use super::dns;
use super::pool::{http1, http2};
use crate::worker::{ServedGateway, Snapshot};
use portcullis_model::{Backend as Config, BackendKey, BackendProtocol, Discovery, Endpoints, ObjectName};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a backend that left the configuration keeps its endpoints after its last request: requests that were decided by
/// the configuration before still reach it.
const UNUSED_KEPT: Duration = Duration::from_secs(60);

/// The backends of all Gateways.
#[derive(Default)]
pub(crate) struct Backends {
    gateways: RefCell<HashMap<ObjectName, OfGateway, foldhash::fast::RandomState>>,
}

struct OfGateway {
    configs: Arc<BTreeMap<BackendKey, Arc<Config>>>,
    endpoints: Arc<BTreeMap<BackendKey, Arc<Endpoints>>>,
    backends: HashMap<BackendKey, Rc<Backend>, foldhash::fast::RandomState>,
}

impl Backends {
    /// Follows a new snapshot: backends keep the state of the endpoints that are still there.
    pub(crate) fn apply(&self, snapshot: &Snapshot) {
        let mut gateways = self.gateways.borrow_mut();
        gateways.retain(|name, gateway| {
            let stays = snapshot.gateways.contains_key(name);
            if !stays {
                gateway.backends.values().for_each(|backend| backend.close());
            }
            stays
        });
        for (name, served) in &snapshot.gateways {
            match gateways.get_mut(name) {
                Some(gateway) => gateway.follow(served),
                None => drop(gateways.insert(name.clone(), OfGateway::new(served))),
            }
        }
    }

    /// A backend of a Gateway, if it is in the configuration or was a moment ago.
    pub(crate) fn find(&self, gateway: &ObjectName, key: &BackendKey) -> Option<Rc<Backend>> {
        let mut gateways = self.gateways.borrow_mut();
        let gateway = gateways.get_mut(gateway)?;
        let backend = match gateway.backends.get(key) {
            Some(backend) => backend.clone(),
            None => gateway.add(key)?,
        };
        backend.last_used.set(Instant::now());
        Some(backend)
    }

    /// Closes connections that were idle for too long, and forgets backends that are gone and unused.
    pub(crate) fn sweep(&self, options: &UpstreamOptions) {
        let now = Instant::now();
        for gateway in self.gateways.borrow_mut().values_mut() {
            let OfGateway { configs, backends, .. } = gateway;
            backends.retain(|key, backend| {
                backend.endpoints.borrow().iter().for_each(|endpoint| endpoint.sweep(options));
                let unused = now.duration_since(backend.last_used.get()) > UNUSED_KEPT;
                let stays = !unused || (configs.contains_key(key) && !backend.is_idle());
                if !stays {
                    backend.close();
                }
                stays
            });
        }
    }
}

impl OfGateway {
    fn new(served: &ServedGateway) -> Self {
        Self { configs: served.backends.clone(), endpoints: served.endpoints.clone(), backends: HashMap::default() }
    }

    fn add(&mut self, key: &BackendKey) -> Option<Rc<Backend>> {
        let config = self.configs.get(key)?;
        let backend = Rc::new(Backend::new(config.clone()));
        backend.follow(self.endpoints.get(key));
        self.backends.insert(key.clone(), backend.clone());
        Some(backend)
    }

    fn follow(&mut self, served: &ServedGateway) {
        if Arc::ptr_eq(&self.configs, &served.backends) && Arc::ptr_eq(&self.endpoints, &served.endpoints) {
            return;
        }
        self.configs = served.backends.clone();
        self.endpoints = served.endpoints.clone();
        let (configs, endpoints) = (&self.configs, &self.endpoints);
        self.backends.retain(|key, backend| {
            match configs.get(key) {
                // Spoken to in another way, or found in another way: made anew at the next request.
                Some(config) if !Arc::ptr_eq(config, &backend.config) && **config != *backend.config => {
                    backend.close();
                    return false;
                }
                Some(_) => backend.follow(endpoints.get(key)),
                // Gone, but kept for a while: see UNUSED_KEPT.
                None => backend.endpoints.borrow().iter().for_each(|endpoint| endpoint.close_idle()),
            }
            true
        });
    }
}

/// A backend with its endpoints.
pub(crate) struct Backend {
    config: Arc<Config>,
    source: RefCell<Option<Arc<Endpoints>>>,
    endpoints: RefCell<Rc<[Rc<Endpoint>]>>,
    last_used: Cell<Instant>,
}

impl Backend {
    fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            source: RefCell::new(None),
            endpoints: RefCell::new(Rc::new([])),
            last_used: Cell::new(Instant::now()),
        }
    }

    /// Its identity.
    pub(crate) fn key(&self) -> &BackendKey {
        &self.config.key
    }

    /// What is spoken to it.
    pub(crate) fn protocol(&self) -> BackendProtocol {
        self.config.protocol
    }

    /// The endpoints that may get a request now. Waits only for the first answer of DNS.
    pub(crate) async fn endpoints(&self, resolver: &dns::Resolver) -> Rc<[Rc<Endpoint>]> {
        if let Discovery::Dns { hostname, port } = &self.config.discovery {
            let addresses = resolver.addresses(hostname).await;
            let mut addresses: Vec<_> = addresses.iter().map(|address| SocketAddr::new(*address, *port)).collect();
            addresses.sort_unstable();
            addresses.dedup();
            self.replace(&addresses);
        }
        self.endpoints.borrow().clone()
    }

    fn follow(&self, source: Option<&Arc<Endpoints>>) {
        if self.config.discovery != Discovery::EndpointSlices {
            return;
        }
        let known = self.source.borrow().clone();
        match (&known, source) {
            (None, None) => return,
            (Some(known), Some(new)) if Arc::ptr_eq(known, new) => return,
            _ => {}
        }
        let addresses: Vec<_> =
            source.map(|source| source.endpoints.iter().map(|endpoint| endpoint.address).collect()).unwrap_or_default();
        self.replace(&addresses);
        *self.source.borrow_mut() = source.cloned();
    }

    /// Endpoints that stay keep their state; those that go close their idle connections and finish the others.
    fn replace(&self, addresses: &[SocketAddr]) {
        let known = self.endpoints.borrow().clone();
        if known.len() == addresses.len() && known.iter().zip(addresses).all(|(known, new)| known.address == *new) {
            return;
        }
        let mut by_address: HashMap<SocketAddr, &Rc<Endpoint>> =
            known.iter().map(|endpoint| (endpoint.address, endpoint)).collect();
        let new = addresses.iter().map(|address| match by_address.remove(address) {
            Some(endpoint) => endpoint.clone(),
            None => Rc::new(Endpoint::new(*address, self.config.protocol)),
        });
        let new: Rc<[Rc<Endpoint>]> = new.collect();
        by_address.values().for_each(|endpoint| endpoint.remove());
        *self.endpoints.borrow_mut() = new;
    }

    fn is_idle(&self) -> bool {
        let endpoints = self.endpoints.borrow();
        endpoints.iter().all(|endpoint| endpoint.open_requests() == 0 && endpoint.connections.get() == 0)
    }

    fn close(&self) {
        self.endpoints.borrow().iter().for_each(|endpoint| endpoint.remove());
    }
}

/// One address of a backend.
pub(crate) struct Endpoint {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What is spoken.
    pub(crate) protocol: BackendProtocol,
    /// Connections that are open or being made, of any protocol.
    pub(crate) connections: Cell<usize>,
    /// Idle HTTP/1.1 connections.
    pub(crate) idle: http1::Idle,
    /// HTTP/2 connections.
    pub(crate) http2: http2::Connections,
    open: Cell<u32>,
    failed_at: Cell<Option<Instant>>,
    is_removed: Cell<bool>,
}

impl Endpoint {
    /// An endpoint without connections.
    pub(crate) fn new(address: SocketAddr, protocol: BackendProtocol) -> Self {
        Self {
            address,
            protocol,
            connections: Cell::new(0),
            idle: http1::Idle::default(),
            http2: http2::Connections::default(),
            open: Cell::new(0),
            failed_at: Cell::new(None),
            is_removed: Cell::new(false),
        }
    }

    /// Requests that are under way on this worker.
    pub(crate) fn open_requests(&self) -> u32 {
        self.open.get()
    }

    /// When it could not be reached, unless it was since.
    pub(crate) fn failed_at(&self) -> Option<Instant> {
        self.failed_at.get()
    }

    /// It could not be reached.
    pub(crate) fn mark_failed(&self) {
        self.failed_at.set(Some(Instant::now()));
    }

    /// It answered.
    pub(crate) fn mark_reached(&self) {
        self.failed_at.set(None);
    }

    /// Whether it left its backend.
    pub(crate) fn is_removed(&self) -> bool {
        self.is_removed.get()
    }

    /// It leaves its backend: what is idle is closed, what is busy finishes and is closed then.
    fn remove(&self) {
        self.is_removed.set(true);
        self.close_idle();
    }

    fn close_idle(&self) {
        self.idle.close();
        self.http2.close();
    }

    fn sweep(&self, options: &UpstreamOptions) {
        self.idle.sweep(options.idle_timeout);
        self.http2.sweep(options.idle_timeout);
    }
}

/// Counts a request as open at an endpoint until it is dropped.
pub(crate) struct OpenRequest(Rc<Endpoint>);

impl OpenRequest {
    /// One more.
    pub(crate) fn new(endpoint: Rc<Endpoint>) -> Self {
        endpoint.open.set(endpoint.open.get() + 1);
        Self(endpoint)
    }

    /// Where.
    pub(crate) fn endpoint(&self) -> &Rc<Endpoint> {
        &self.0
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_decide::Linked;
    use portcullis_model::{Config as Compiled, Endpoint as Address, Gateway, Upstreams};

    fn key(name: &str) -> BackendKey {
        BackendKey { service: ObjectName::new("default", name), port: 80 }
    }

    fn gateway() -> ObjectName {
        ObjectName::new("default", "gateway")
    }

    fn snapshot(backends: &[(&str, BackendProtocol, &[u16])]) -> Snapshot {
        let compiled =
            Compiled::new(Arc::new(Gateway { name: gateway(), gateway_class: "class".into(), addresses: Vec::new(), generation: 0, upstreams: Upstreams::default() }));
        let config =
            |name: &str, protocol| Arc::new(Config { key: key(name), protocol, discovery: Discovery::EndpointSlices });
        let endpoint = |port: &u16| Address { address: SocketAddr::from(([127, 0, 0, 1], *port)), zone: None, is_pod: false };
        let served = ServedGateway {
            name: gateway(),
            linked: Arc::new(Linked::link(&compiled, None)),
            backends: Arc::new(
                backends.iter().map(|(name, protocol, _)| (key(name), config(name, *protocol))).collect(),
            ),
            endpoints: Arc::new(
                backends
                    .iter()
                    .map(|(name, _, ports)| {
                        let endpoints = ports.iter().map(endpoint).collect();
                        (key(name), Arc::new(Endpoints { key: key(name), endpoints }))
                    })
                    .collect(),
            ),
            tls: BTreeMap::new(),
        };
        Snapshot { generation: 1, gateways: BTreeMap::from([(gateway(), Arc::new(served))]) }
    }

    fn ports(backends: &Backends, name: &str) -> Option<Vec<u16>> {
        let backend = backends.find(&gateway(), &key(name))?;
        let endpoints = backend.endpoints.borrow();
        Some(endpoints.iter().map(|endpoint| endpoint.address.port()).collect())
    }

    #[test]
    fn endpoints_keep_their_state_while_others_come_and_go() {
        use BackendProtocol::{H2c, Http1};
        let backends = Backends::default();
        assert_eq!(ports(&backends, "a"), None);
        backends.apply(&snapshot(&[("a", Http1, &[1, 2]), ("b", Http1, &[])]));
        assert_eq!(ports(&backends, "a"), Some(vec![1, 2]));
        assert_eq!(ports(&backends, "b"), Some(vec![]));
        assert_eq!(ports(&backends, "c"), None);

        let a = backends.find(&gateway(), &key("a")).unwrap();
        let (first, second) = (a.endpoints.borrow()[0].clone(), a.endpoints.borrow()[1].clone());
        let _open = OpenRequest::new(second.clone());
        backends.apply(&snapshot(&[("a", Http1, &[2, 3])]));
        assert_eq!(ports(&backends, "a"), Some(vec![2, 3]));
        assert!(Rc::ptr_eq(&a.endpoints.borrow()[0], &second), "the same state");
        assert_eq!(a.endpoints.borrow()[0].open_requests(), 1);
        assert!(first.is_removed() && !second.is_removed());

        backends.apply(&snapshot(&[("a", H2c, &[2, 3])]));
        assert!(second.is_removed(), "another protocol, other connections");
        assert_eq!(backends.find(&gateway(), &key("a")).unwrap().protocol(), H2c);
    }

    #[test]
    fn a_backend_that_left_serves_requests_decided_before() {
        let backends = Backends::default();
        backends.apply(&snapshot(&[("a", BackendProtocol::Http1, &[1])]));
        assert_eq!(ports(&backends, "a"), Some(vec![1]));
        backends.apply(&snapshot(&[]));
        assert_eq!(ports(&backends, "a"), Some(vec![1]));
        backends.apply(&Snapshot::default());
        assert_eq!(ports(&backends, "a"), None, "the Gateway is gone");
    }
}
