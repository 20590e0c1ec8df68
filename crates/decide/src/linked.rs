//! The linked form of a configuration: immutable, shared by reference, made for lookups.

use crate::filter::{LinkedFilter, LinkedRedirect};
use crate::host::HostMap;
use crate::shared::SharedMap;
use crate::table::{HostTable, LinkedMatch};
use portcullis_model::{
    BackendKey, CertificateKey, Failure, Hostname, Listener, ListenerKey, ListenerProtocol, ListenerState, ObjectName,
    Retry, Route, RouteKey, Timeouts,
};
use std::cmp::Ordering as Order;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The configuration of one Gateway, linked.
#[derive(Debug)]
pub struct Linked {
    pub(crate) gateway: ObjectName,
    pub(crate) ports: BTreeMap<u16, Arc<Port>>,
    pub(crate) listeners: BTreeMap<ListenerKey, Arc<LinkedListener>>,
    pub(crate) routes: SharedMap<RouteKey, Arc<LinkedRoute>>,
    /// The routes that have problems.
    pub(crate) broken: BTreeMap<RouteKey, Arc<LinkedRoute>>,
    pub(crate) problems: Vec<LinkProblem>,
}

impl Linked {
    /// Whose configuration.
    pub fn gateway(&self) -> &ObjectName {
        &self.gateway
    }

    /// The ports that have listeners, ascending.
    pub fn ports(&self) -> impl Iterator<Item = (u16, &Arc<Port>)> {
        self.ports.iter().map(|(number, port)| (*number, port))
    }

    /// One port.
    pub fn port(&self, number: u16) -> Option<&Arc<Port>> {
        self.ports.get(&number)
    }

    /// One route.
    pub fn route(&self, key: &RouteKey) -> Option<&Arc<LinkedRoute>> {
        self.routes.get(key)
    }

    /// What could not be linked. The pieces named here fail closed.
    pub fn problems(&self) -> &[LinkProblem] {
        &self.problems
    }
}

/// A piece that could not be linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkProblem {
    /// Of which object.
    pub object: LinkedObject,
    /// Which field, such as `spec.rules[0].matches[1].path.value`.
    pub field: String,
    /// What is wrong and what is done about it.
    pub message: String,
}

/// An object of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkedObject {
    /// A route.
    Route(RouteKey),
    /// A listener.
    Listener(ListenerKey),
}

/// The listeners of one port.
#[derive(Debug)]
pub struct Port {
    pub(crate) number: u16,
    pub(crate) protocol: ListenerProtocol,
    pub(crate) listeners: Box<[Arc<LinkedListener>]>,
    /// Places in `listeners`.
    pub(crate) hosts: HostMap<usize>,
}

impl Port {
    /// The port of the specification.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// What is spoken on it.
    pub fn protocol(&self) -> ListenerProtocol {
        self.protocol
    }

    /// Its listeners, sorted by key.
    pub fn listeners(&self) -> &[Arc<LinkedListener>] {
        &self.listeners
    }

    /// The most specific listener that covers a host, which [`crate::host`] has read.
    pub(crate) fn listener(&self, host: &str) -> Option<&Arc<LinkedListener>> {
        self.hosts.covering(host).next().map(|at| &self.listeners[*at])
    }
}

/// A listener with the hosts and routes that it serves.
pub struct LinkedListener {
    /// Its identity.
    pub key: ListenerKey,
    /// The port of the specification.
    pub port: u16,
    /// What is spoken.
    pub protocol: ListenerProtocol,
    /// Which Hosts and server names are its own.
    pub hostname: Hostname,
    /// Whether it serves.
    pub state: ListenerState,
    /// Certificates, in the order of `certificateRefs`; empty for HTTP.
    pub certificates: Vec<CertificateKey>,
    /// For the proxy's metrics.
    pub telemetry: TelemetrySlot,
    pub(crate) source: Arc<Listener>,
    /// By the routes' own hostnames. A host that both the listener and the route's hostname cover is covered by their
    /// intersection, and the listener covers every host that is looked up here.
    pub(crate) hosts: HostMap<Arc<HostTable>>,
}

impl fmt::Debug for LinkedListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkedListener({})", self.key)
    }
}

/// A route with its rules.
pub struct LinkedRoute {
    /// Its identity.
    pub key: RouteKey,
    /// Its rules, in the order of `spec.rules`.
    pub rules: Box<[Arc<LinkedRule>]>,
    /// For the proxy's metrics.
    pub telemetry: TelemetrySlot,
    pub(crate) source: Arc<Route>,
    pub(crate) problems: Box<[LinkProblem]>,
}

impl LinkedRoute {
    /// The specification's precedence among routes: the older one, then the first by the text `namespace/name`.
    pub(crate) fn precedence(&self, other: &Self) -> Order {
        fn age(route: &LinkedRoute) -> (bool, Option<i64>) {
            (route.source.created.is_none(), route.source.created)
        }
        fn text(route: &LinkedRoute) -> impl Iterator<Item = u8> + '_ {
            let ObjectName { namespace, name } = &route.key.name;
            namespace.bytes().chain([b'/']).chain(name.bytes())
        }
        age(self).cmp(&age(other)).then_with(|| text(self).cmp(text(other))).then_with(|| self.key.cmp(&other.key))
    }
}

impl fmt::Debug for LinkedRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkedRoute({})", self.key)
    }
}

/// A rule of a route.
pub struct LinkedRule {
    /// Its identity, which survives re-linking.
    pub id: RuleId,
    /// Its place in `spec.rules`.
    pub index: usize,
    /// Its name.
    pub name: Option<Arc<str>>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// When to try again.
    pub retry: Option<Box<Retry>>,
    /// Where to; empty for redirects and failed rules.
    pub backends: Box<[LinkedBackend]>,
    /// For the proxy's metrics.
    pub telemetry: TelemetrySlot,
    pub(crate) matches: Box<[LinkedMatch]>,
    pub(crate) filters: Box<[LinkedFilter]>,
    pub(crate) action: LinkedAction,
}

impl LinkedRule {
    /// Why the rule as a whole cannot be honoured, if so.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.action {
            LinkedAction::Fail(failure) => Some(failure),
            LinkedAction::Forward | LinkedAction::Redirect(_) => None,
        }
    }
}

impl fmt::Debug for LinkedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkedRule({})", self.id)
    }
}

/// What a rule does.
#[derive(Debug)]
pub(crate) enum LinkedAction {
    Forward,
    Redirect(Box<LinkedRedirect>),
    Fail(Arc<Failure>),
}

/// Which rule: the same for the same rule of a later configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId {
    /// The route.
    pub route: RouteKey,
    /// The rule's name, or its place when it has none.
    pub rule: RulePosition,
}

/// Which rule of its route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RulePosition {
    /// By name.
    Name(Arc<str>),
    /// By place in `spec.rules`.
    Index(u32),
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            RulePosition::Name(name) => write!(f, "{}/{name}", self.route),
            RulePosition::Index(index) => write!(f, "{}/{index}", self.route),
        }
    }
}

/// A backendRef.
#[derive(Debug)]
pub struct LinkedBackend {
    /// Its share of the sum of weights.
    pub weight: u32,
    /// Where to, or why not.
    pub target: Result<BackendKey, Arc<Failure>>,
    pub(crate) filters: Box<[LinkedFilter]>,
}

/// A number that the proxy may leave at a linked piece, so that it finds its counters without a lookup.
/// It has no meaning here; a later link keeps it for the listener, route or rule of the same identity.
#[derive(Default)]
pub struct TelemetrySlot(AtomicU32);

impl TelemetrySlot {
    /// A slot with the number of another.
    pub(crate) fn kept(previous: Option<&Self>) -> Self {
        Self(AtomicU32::new(previous.map_or(0, |slot| slot.0.load(Ordering::Relaxed))))
    }

    /// The number, once set.
    pub fn index(&self) -> Option<u32> {
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Sets the number; `u32::MAX` cannot be kept and is ignored.
    pub fn set(&self, index: u32) {
        if let Some(stored) = index.checked_add(1) {
            self.0.store(stored, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for TelemetrySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TelemetrySlot")
    }
}
