//! Backends and their endpoints on one worker: the state that outlives configurations.
//!
//! In flow snapshots, and answers of DNS. Out flow the endpoints that may get a request, each with its open requests, its
//! last failure and its connections. State is keyed by Gateway, backend and address: a change of the configuration, or of
//! other endpoints, does not touch it. It is made at first use and given up when the backend is gone and unused.

use super::UpstreamOptions;
use super::dns;
use super::guard::{AddressClass, Guard};
use super::pool::{http1, http2};
use crate::worker::{ServedGateway, Snapshot};
use portcullis_model::{Backend as Config, BackendKey, BackendProtocol, Discovery, Endpoints, Gateway, ObjectName};
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
    known: Known,
    configs: Arc<BTreeMap<BackendKey, Arc<Config>>>,
    endpoints: Arc<BTreeMap<BackendKey, Arc<Endpoints>>>,
    backends: HashMap<BackendKey, Rc<Backend>, foldhash::fast::RandomState>,
}

impl Backends {
    /// Follows a new snapshot: backends keep the state of the endpoints that are still there.
    pub(crate) fn apply(&self, snapshot: &Snapshot, guard: Option<&Guard>) {
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
                Some(gateway) => gateway.follow(served, guard),
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
        Self {
            known: Known::new(served.gateway.clone()),
            configs: served.backends.clone(),
            endpoints: served.endpoints.clone(),
            backends: HashMap::default(),
        }
    }

    fn add(&mut self, key: &BackendKey) -> Option<Rc<Backend>> {
        let config = self.configs.get(key)?;
        let backend = Rc::new(Backend::new(config.clone(), self.known.clone()));
        backend.follow(self.endpoints.get(key));
        self.backends.insert(key.clone(), backend.clone());
        Some(backend)
    }

    fn follow(&mut self, served: &ServedGateway, guard: Option<&Guard>) {
        if self.known.replace(&served.gateway) {
            // What is refused from now on gets no further request, on open connections neither.
            let backends = self.backends.values();
            backends.for_each(|backend| backend.endpoints.borrow().iter().for_each(|endpoint| endpoint.judge(guard)));
        }
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
    known: Known,
    source: RefCell<Option<Arc<Endpoints>>>,
    endpoints: RefCell<Rc<[Rc<Endpoint>]>>,
    last_used: Cell<Instant>,
}

impl Backend {
    fn new(config: Arc<Config>, known: Known) -> Self {
        Self {
            config,
            known,
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
            let mut addresses: Vec<_> =
                addresses.iter().map(|address| (SocketAddr::new(*address, *port), false)).collect();
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
        let addresses: Vec<_> = source
            .map(|source| source.endpoints.iter().map(|endpoint| (endpoint.address, endpoint.is_pod)).collect())
            .unwrap_or_default();
        self.replace(&addresses);
        *self.source.borrow_mut() = source.cloned();
    }

    /// Endpoints that stay keep their state; those that go close their idle connections and finish the others.
    fn replace(&self, addresses: &[(SocketAddr, bool)]) {
        let known = self.endpoints.borrow().clone();
        let is_same =
            |(known, new): (&Rc<Endpoint>, &(SocketAddr, bool))| known.address == new.0 && known.is_pod.get() == new.1;
        if known.len() == addresses.len() && known.iter().zip(addresses).all(is_same) {
            return;
        }
        let mut by_address: HashMap<SocketAddr, &Rc<Endpoint>> =
            known.iter().map(|endpoint| (endpoint.address, endpoint)).collect();
        let new = addresses.iter().map(|(address, is_pod)| match by_address.remove(address) {
            Some(endpoint) => {
                endpoint.set_pod(*is_pod);
                endpoint.clone()
            }
            None => Rc::new(Endpoint::new(*address, self.config.protocol, *is_pod, self.known.clone())),
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

/// What is known of a Gateway, shared by all of its endpoints.
#[derive(Clone)]
pub(crate) struct Known(Rc<RefCell<Arc<Gateway>>>);

impl Known {
    fn new(gateway: Arc<Gateway>) -> Self {
        Self(Rc::new(RefCell::new(gateway)))
    }

    /// Says whether other addresses are refused now.
    fn replace(&self, gateway: &Arc<Gateway>) -> bool {
        if Arc::ptr_eq(&self.0.borrow(), gateway) {
            return false;
        }
        let before = self.0.replace(gateway.clone());
        before.upstreams != gateway.upstreams
    }
}

/// One address of a backend.
pub(crate) struct Endpoint {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The same as a text, for records.
    pub(crate) text: Box<str>,
    /// What is spoken.
    pub(crate) protocol: BackendProtocol,
    /// Connections that are open or being made, of any protocol.
    pub(crate) connections: Cell<usize>,
    /// Idle HTTP/1.1 connections.
    pub(crate) idle: http1::Idle,
    /// HTTP/2 connections.
    pub(crate) http2: http2::Connections,
    known: Known,
    is_pod: Cell<bool>,
    open: Cell<u32>,
    failed_at: Cell<Option<Instant>>,
    is_refused: Cell<bool>,
    is_removed: Cell<bool>,
}

impl Endpoint {
    /// An endpoint without connections.
    pub(crate) fn new(address: SocketAddr, protocol: BackendProtocol, is_pod: bool, known: Known) -> Self {
        Self {
            address,
            text: address.to_string().into(),
            protocol,
            connections: Cell::new(0),
            idle: http1::Idle::default(),
            http2: http2::Connections::default(),
            known,
            is_pod: Cell::new(is_pod),
            open: Cell::new(0),
            failed_at: Cell::new(None),
            is_refused: Cell::new(false),
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

    /// The Gateway for which it is reached.
    pub(crate) fn gateway(&self) -> ObjectName {
        self.known.0.borrow().name.clone()
    }

    /// Why it is not connected to.
    pub(crate) fn refusal(&self, guard: &Guard) -> Option<AddressClass> {
        guard.refusal(self.address, self.is_pod.get(), &self.known.0.borrow().upstreams)
    }

    /// Whether it was refused, so that others are better. Asked again at each connection all the same.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.get()
    }

    /// It was refused; says whether that is new.
    pub(crate) fn mark_refused(&self) -> bool {
        !self.is_refused.replace(true)
    }

    fn set_pod(&self, is_pod: bool) {
        if self.is_pod.replace(is_pod) != is_pod {
            self.is_refused.set(false);
            self.close_idle();
        }
    }

    /// What is known has changed.
    fn judge(&self, guard: Option<&Guard>) {
        self.is_refused.set(false);
        if guard.is_some_and(|guard| self.refusal(guard).is_some()) {
            self.close_idle();
        }
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
    use portcullis_model::{Config as Compiled, Endpoint as Address, Upstreams};

    impl Default for Known {
        fn default() -> Self {
            Self::new(Arc::new(gateway_resource(Upstreams::default())))
        }
    }

    fn gateway_resource(upstreams: Upstreams) -> Gateway {
        Gateway { name: gateway(), gateway_class: "class".into(), addresses: Vec::new(), generation: 0, upstreams }
    }

    fn key(name: &str) -> BackendKey {
        BackendKey { service: ObjectName::new("default", name), port: 80 }
    }

    fn gateway() -> ObjectName {
        ObjectName::new("default", "gateway")
    }

    fn snapshot(backends: &[(&str, BackendProtocol, &[u16])]) -> Snapshot {
        let resource = Arc::new(gateway_resource(Upstreams::default()));
        let compiled = Compiled::new(resource.clone());
        let config =
            |name: &str, protocol| Arc::new(Config { key: key(name), protocol, discovery: Discovery::EndpointSlices });
        let endpoint =
            |port: &u16| Address { address: SocketAddr::from(([127, 0, 0, 1], *port)), zone: None, is_pod: false };
        let served = ServedGateway {
            name: gateway(),
            gateway: resource,
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
        backends.apply(&snapshot(&[("a", Http1, &[1, 2]), ("b", Http1, &[])]), None);
        assert_eq!(ports(&backends, "a"), Some(vec![1, 2]));
        assert_eq!(ports(&backends, "b"), Some(vec![]));
        assert_eq!(ports(&backends, "c"), None);

        let a = backends.find(&gateway(), &key("a")).unwrap();
        let (first, second) = (a.endpoints.borrow()[0].clone(), a.endpoints.borrow()[1].clone());
        let _open = OpenRequest::new(second.clone());
        backends.apply(&snapshot(&[("a", Http1, &[2, 3])]), None);
        assert_eq!(ports(&backends, "a"), Some(vec![2, 3]));
        assert!(Rc::ptr_eq(&a.endpoints.borrow()[0], &second), "the same state");
        assert_eq!(a.endpoints.borrow()[0].open_requests(), 1);
        assert!(first.is_removed() && !second.is_removed());

        backends.apply(&snapshot(&[("a", H2c, &[2, 3])]), None);
        assert!(second.is_removed(), "another protocol, other connections");
        assert_eq!(backends.find(&gateway(), &key("a")).unwrap().protocol(), H2c);
    }

    #[test]
    fn a_backend_that_left_serves_requests_decided_before() {
        let backends = Backends::default();
        backends.apply(&snapshot(&[("a", BackendProtocol::Http1, &[1])]), None);
        assert_eq!(ports(&backends, "a"), Some(vec![1]));
        backends.apply(&snapshot(&[]), None);
        assert_eq!(ports(&backends, "a"), Some(vec![1]));
        backends.apply(&Snapshot::default(), None);
        assert_eq!(ports(&backends, "a"), None, "the Gateway is gone");
    }
}
