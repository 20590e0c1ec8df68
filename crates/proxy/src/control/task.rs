//! What the control thread does.

use super::State;
use super::bind::{Changes, Leaving, Ports, WantedPort};
use super::error::Applied;
use crate::options::Options;
use crate::telemetry::connections::ConnectionMetrics;
use crate::tls::{PortTls, TlsBuilder};
use crate::worker::{Command, PortKey, ServedGateway, Snapshot, Update};
use portcullis_decide::{LinkProblem, Linked, LinkedObject};
use portcullis_model::{
    Config, ConfigDelta, ListenerKey, ListenerProtocol, ObjectName, Resource, ResourceKey, RouteKey,
};
use portcullis_runtime::drain::Drain;
use portcullis_runtime::metrics::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Between two tries to bind what could not be bound, and two looks at old snapshots.
const TICK: Duration = Duration::from_secs(2);

/// Routes whose series are retired at a time: each costs a look at every series.
const RETIRED_PER_TICK: usize = 200;

/// What the control thread is asked for.
pub(super) enum Request {
    Apply(Vec<ConfigDelta>, oneshot::Sender<Applied>),
    Configs(oneshot::Sender<BTreeMap<ObjectName, Config>>),
    /// Close every listening socket.
    Close(oneshot::Sender<()>),
}

/// Something that drained has ended.
struct Left {
    gateway: ObjectName,
    port: Option<u16>,
}

pub(super) struct Control {
    options: Arc<Options>,
    registry: Registry,
    drain: Drain,
    state: Arc<State>,
    workers: Vec<mpsc::UnboundedSender<Command>>,
    configs: BTreeMap<ObjectName, Config>,
    served: BTreeMap<ObjectName, Arc<ServedGateway>>,
    /// Deleted Gateways whose connections are not gone yet.
    leaving: BTreeMap<ObjectName, Arc<ServedGateway>>,
    problems: BTreeMap<ObjectName, Vec<String>>,
    /// Gateways whose last change could not be linked: it is to be made up for.
    unlinked: BTreeSet<ObjectName>,
    tls: TlsBuilder,
    ports: Ports,
    is_closed: bool,
    snapshot: Arc<Snapshot>,
    /// Old ones that a worker may still have.
    retired: Vec<Arc<Snapshot>>,
    /// Removed routes, and when their series go: requests that are under way are still to be counted.
    gone_routes: BTreeMap<(ObjectName, RouteKey), Instant>,
}

/// Which parts of a Gateway's configuration a change touches.
#[derive(Default)]
struct Touched {
    /// What `decide` links, and TLS. Endpoints change far more often, and touch neither.
    linked: bool,
    /// New, changed and removed routes.
    routes: BTreeSet<RouteKey>,
    /// Everything may be another.
    anew: bool,
    backends: bool,
    endpoints: bool,
}

impl Control {
    pub(super) fn new(
        options: Arc<Options>,
        registry: Registry,
        drain: Drain,
        state: Arc<State>,
        workers: Vec<mpsc::UnboundedSender<Command>>,
    ) -> Self {
        Self {
            options,
            registry,
            drain,
            state,
            workers,
            configs: BTreeMap::new(),
            served: BTreeMap::new(),
            leaving: BTreeMap::new(),
            problems: BTreeMap::new(),
            unlinked: BTreeSet::new(),
            tls: TlsBuilder::new(),
            ports: Ports::default(),
            is_closed: false,
            snapshot: Arc::default(),
            retired: Vec::new(),
            gone_routes: BTreeMap::new(),
        }
    }

    /// Runs until every handle is gone.
    pub(super) async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let (left, mut has_left) = mpsc::unbounded_channel();
        let process = self.drain.watch();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = process.draining(), if !self.is_closed => self.close().await,
                request = requests.recv() => match request {
                    None => return,
                    Some(Request::Apply(deltas, reply)) => {
                        let _ = reply.send(self.apply(&deltas, &left).await);
                    }
                    Some(Request::Configs(reply)) => drop(reply.send(self.configs.clone())),
                    Some(Request::Close(reply)) => {
                        self.close().await;
                        let _ = reply.send(());
                    }
                },
                Some(gone) = has_left.recv() => self.forget(gone).await,
                _ = tick.tick() => self.tick(&left).await,
            }
        }
    }

    async fn apply(&mut self, deltas: &[ConfigDelta], left: &mpsc::UnboundedSender<Left>) -> Applied {
        let mut touched: BTreeMap<ObjectName, Touched> = BTreeMap::new();
        for delta in deltas {
            touched.entry(delta.gateway().clone()).or_default().note(delta);
            self.note_gone_routes(delta);
            Config::apply(&mut self.configs, delta);
        }
        for (name, touched) in &touched {
            self.link(name, touched);
            if touched.linked {
                self.state
                    .certificates(name, self.served.get(name).map(|gateway| expiries(gateway)).unwrap_or_default());
            }
        }
        let mut changes = match touched.values().any(|touched| touched.linked) {
            true => {
                self.forget_keys();
                self.reconcile()
            }
            false => Changes::default(),
        };
        self.publish(&mut changes).await;
        self.finish(changes, left).await;
        self.state.applied(self.snapshot.generation);
        Applied {
            generation: self.snapshot.generation,
            ports: self.ports.report(),
            problems: self.problems.values().flatten().cloned().collect(),
        }
    }

    fn note_gone_routes(&mut self, delta: &ConfigDelta) {
        let ConfigDelta::Change { gateway, removed, .. } = delta else { return };
        for key in removed {
            if let ResourceKey::Route(route) = key {
                let due = Instant::now() + self.options.timeouts.port_drain;
                self.gone_routes.insert((gateway.clone(), route.clone()), due);
            }
        }
    }

    /// Retires the series of routes that have been gone for a while, and have not come back.
    fn retire_routes(&mut self) {
        let now = Instant::now();
        let due = self.gone_routes.iter().filter(|(_, due)| **due <= now).map(|(key, _)| key.clone());
        for key in due.take(RETIRED_PER_TICK).collect::<Vec<_>>() {
            self.gone_routes.remove(&key);
            let (gateway, route) = key;
            let is_back = self.configs.get(&gateway).is_some_and(|config| config.routes.contains_key(&route));
            if !is_back {
                self.registry.retire(&[("gateway", &gateway.to_string()), ("route", &route.to_string())]);
            }
        }
    }

    /// Forgets the ticket keys and certificates of listeners that are gone.
    fn forget_keys(&mut self) {
        let used: BTreeSet<_> = self.served.values().flat_map(|gateway| tls_listeners(gateway)).collect();
        self.tls
            .retain(&self.configs, |gateway, port, listener| used.contains(&(gateway.clone(), port, listener.clone())));
    }

    /// Makes what workers serve of a Gateway whose configuration changed.
    fn link(&mut self, name: &ObjectName, touched: &Touched) {
        let previous = self.served.get(name).cloned();
        let Some(config) = self.configs.get(name) else {
            self.problems.remove(name);
            self.unlinked.remove(name);
            if let Some(previous) = self.served.remove(name) {
                self.leaving.insert(name.clone(), previous);
            }
            return;
        };
        let unchanged = previous.as_ref().filter(|_| !touched.linked);
        let linked = match unchanged {
            Some(previous) => Some((previous.linked.clone(), previous.tls.clone())),
            None => {
                let is_whole = self.unlinked.remove(name) || touched.anew;
                let routes = (!is_whole).then_some(&touched.routes);
                link(config, previous.as_deref(), routes, &mut self.tls, &mut self.problems)
            }
        };
        // Without a linked form the last good one serves on, and the next change is another chance.
        let Some((linked, tls)) = linked else {
            self.unlinked.insert(name.clone());
            return;
        };
        let kept = |touched: bool| previous.as_ref().filter(|_| !touched);
        let served = ServedGateway {
            name: name.clone(),
            gateway: config.gateway.clone(),
            backends: match kept(touched.backends) {
                Some(previous) => previous.backends.clone(),
                None => Arc::new(config.backends.clone()),
            },
            endpoints: match kept(touched.endpoints) {
                Some(previous) => previous.endpoints.clone(),
                None => Arc::new(config.endpoints.clone()),
            },
            linked,
            tls,
        };
        self.served.insert(name.clone(), Arc::new(served));
        self.leaving.remove(name);
    }

    fn reconcile(&mut self) -> Changes {
        if self.is_closed {
            return Changes::default();
        }
        let mut wanted: BTreeMap<ObjectName, BTreeMap<u16, WantedPort>> = BTreeMap::new();
        for (name, gateway) in &self.served {
            let asked = self.configs.get(name).map(|config| config.gateway.addresses.as_slice()).unwrap_or_default();
            let addresses = if asked.is_empty() { &self.options.default_bind } else { asked };
            let ports = gateway.linked.ports().map(|(number, port)| {
                let bound = self.options.port_map.bound(name, number);
                let addresses = addresses.iter().map(|address| SocketAddr::new(*address, bound)).collect();
                (number, WantedPort { protocol: port.protocol(), addresses })
            });
            wanted.insert(name.clone(), ports.collect());
        }
        let changes = self.ports.reconcile(&wanted, &self.options, self.workers.len(), &self.drain);
        let reports = self.ports.report();
        let failed = reports.iter().filter(|report| report.result.is_err()).count();
        self.state.ports_failed.store(failed, Ordering::Relaxed);
        self.state.ports_bound.store(reports.len() - failed, Ordering::Relaxed);
        changes
    }

    /// Gives the workers a new snapshot, and waits until all of them serve it.
    async fn publish(&mut self, changes: &mut Changes) {
        let gateways = self.leaving.iter().chain(&self.served);
        let snapshot = Arc::new(Snapshot {
            generation: self.snapshot.generation + 1,
            gateways: gateways.map(|(name, gateway)| (name.clone(), gateway.clone())).collect(),
        });
        self.retired.push(std::mem::replace(&mut self.snapshot, snapshot.clone()));
        let mut acknowledged = Vec::new();
        for (index, worker) in self.workers.iter().enumerate() {
            let update = Update {
                snapshot: snapshot.clone(),
                ports: changes.ports.iter().map(|(key, drain)| (key.clone(), drain.watch())).collect(),
                sockets: changes.sockets.get_mut(index).map(std::mem::take).unwrap_or_default(),
            };
            let (done, served) = oneshot::channel();
            if worker.send(Command::Serve(update, done)).is_ok() {
                acknowledged.push(served);
            }
        }
        for served in acknowledged {
            let _ = served.await;
        }
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    /// Closes what is gone, once nothing new is sent there, and lets its connections end.
    async fn finish(&self, changes: Changes, left: &mpsc::UnboundedSender<Left>) {
        if !changes.closed_sockets.is_empty() || !changes.closed_ports.is_empty() {
            self.close_sockets(&changes.closed_sockets, &changes.closed_ports).await;
        }
        for Leaving { gateway, port, drain, grace } in changes.drains {
            drain.begin(grace);
            let left = left.clone();
            tokio::task::spawn_local(async move {
                let report = drain.finished().await;
                if !report.is_clean() {
                    tracing::info!(%gateway, port, cut = %report.cut, "connections were cut at the end of a drain");
                }
                let _ = left.send(Left { gateway, port });
            });
        }
    }

    async fn close_sockets(&self, sockets: &[u64], ports: &[PortKey]) {
        let mut acknowledged = Vec::new();
        for worker in &self.workers {
            let (done, closed) = oneshot::channel();
            let command = Command::Close { sockets: sockets.to_vec(), ports: ports.to_vec(), done };
            if worker.send(command).is_ok() {
                acknowledged.push(closed);
            }
        }
        for closed in acknowledged {
            let _ = closed.await;
        }
    }

    /// Closes every socket, for good.
    async fn close(&mut self) {
        self.is_closed = true;
        let sockets = self.ports.take_sockets();
        self.close_sockets(&sockets, &[]).await;
    }

    /// The connections of a removed part are gone.
    async fn forget(&mut self, gone: Left) {
        let Left { gateway, port } = gone;
        match port {
            Some(port) if !self.ports.contains(&gateway, port) => {
                ConnectionMetrics::retire(&self.registry, &gateway, port);
            }
            Some(_) => {}
            None if self.served.contains_key(&gateway) => {}
            None => {
                if self.leaving.remove(&gateway).is_some() {
                    self.publish(&mut Changes::default()).await;
                }
                self.registry.retire(&[("gateway", &gateway.to_string())]);
            }
        }
    }

    async fn tick(&mut self, left: &mpsc::UnboundedSender<Left>) {
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        self.retire_routes();
        if self.is_closed || !(self.ports.has_failures() || self.ports.has_overdue()) {
            return;
        }
        let mut changes = self.reconcile();
        if changes.is_new() {
            self.publish(&mut changes).await;
        }
        self.finish(changes, left).await;
    }
}

impl Touched {
    fn note(&mut self, delta: &ConfigDelta) {
        let ConfigDelta::Change { upserted, removed, .. } = delta else {
            *self = Self { linked: true, anew: true, backends: true, endpoints: true, ..Self::default() };
            return;
        };
        for resource in upserted {
            if let Resource::Route(route) = resource {
                self.routes.insert(route.key.clone());
            }
            match resource {
                Resource::Backend(_) => self.backends = true,
                Resource::Endpoints(_) => self.endpoints = true,
                _ => self.linked = true,
            }
        }
        for key in removed {
            if let ResourceKey::Route(route) = key {
                self.routes.insert(route.clone());
            }
            match key {
                ResourceKey::Backend(_) => self.backends = true,
                ResourceKey::Endpoints(_) => self.endpoints = true,
                _ => self.linked = true,
            }
        }
    }
}

type LinkedGateway = (Arc<Linked>, BTreeMap<u16, Arc<PortTls>>);

/// Links a configuration and makes its certificates ready; `routes` are those that may differ from the previous one's, if that is known.
/// `None` after a panic: a defect of ours, which must not end the control thread.
fn link(
    config: &Config,
    previous: Option<&ServedGateway>,
    routes: Option<&BTreeSet<RouteKey>>,
    builder: &mut TlsBuilder,
    problems: &mut BTreeMap<ObjectName, Vec<String>>,
) -> Option<LinkedGateway> {
    let name = &config.gateway.name;
    let before = previous.map(|previous| &*previous.linked);
    let linked = std::panic::catch_unwind(AssertUnwindSafe(|| match (before, routes) {
        (Some(before), Some(routes)) => Linked::relink(config, before, routes),
        _ => Linked::link(config, before),
    }));
    let Ok(linked) = linked else {
        let problem = format!("Gateway {name}: the configuration could not be linked; the last one is still served");
        problems.insert(name.clone(), vec![problem]);
        return None;
    };
    let mut found: Vec<_> = linked.problems().iter().map(|problem| sentence(name, problem)).collect();
    let mut tls = BTreeMap::new();
    for (number, port) in linked.ports().filter(|(_, port)| port.protocol() == ListenerProtocol::Https) {
        let known = previous.and_then(|previous| previous.tls.get(&number));
        let new = builder.port(config, port, known.map(|known| &**known), &mut found);
        tls.insert(number, Arc::new(new));
    }
    for problem in &found {
        tracing::warn!(gateway = %name, problem, "a part of the configuration fails closed");
    }
    problems.insert(name.clone(), found);
    Some((Arc::new(linked), tls))
}

fn sentence(gateway: &ObjectName, problem: &LinkProblem) -> String {
    let object = match &problem.object {
        LinkedObject::Route(route) => route.to_string(),
        LinkedObject::Listener(listener) => format!("Gateway {gateway}, listener {listener}"),
    };
    format!("{object}, {}: {}", problem.field, problem.message)
}

/// The listeners of a Gateway that end TLS, by the port that they are on.
fn tls_listeners(gateway: &ServedGateway) -> impl Iterator<Item = (ObjectName, u16, ListenerKey)> {
    let ports = gateway.linked.ports().filter(|(_, port)| port.protocol() == ListenerProtocol::Https);
    ports.flat_map(move |(number, port)| {
        port.listeners().iter().map(move |listener| (gateway.name.clone(), number, listener.key.clone()))
    })
}

/// When the first certificate of each listener ends to be valid.
fn expiries(gateway: &ServedGateway) -> Vec<(ListenerKey, i64)> {
    let listeners = gateway.tls.values().flat_map(|port| port.not_after());
    listeners.map(|(listener, not_after)| (listener.clone(), not_after)).collect()
}
