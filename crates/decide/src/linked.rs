//! The linked form of a configuration: immutable, shared by reference, made for lookups.

use crate::filter::LinkedFilter;
use portcullis_model::{
    BackendKey, CertificateKey, Failure, Hostname, ListenerKey, ListenerProtocol, ListenerState, ObjectName, Retry,
    RouteKey, Timeouts,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The configuration of one Gateway, linked.
#[derive(Debug)]
pub struct Linked {
    pub(crate) gateway: ObjectName,
    pub(crate) ports: BTreeMap<u16, Arc<Port>>,
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
}

/// A listener with the hosts and routes that it serves.
#[derive(Debug)]
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
}

/// A route with its rules.
#[derive(Debug)]
pub struct LinkedRoute {
    /// Its identity.
    pub key: RouteKey,
    /// Its rules, in the order of `spec.rules`.
    pub rules: Box<[Arc<LinkedRule>]>,
    /// For the proxy's metrics.
    pub telemetry: TelemetrySlot,
}

/// A rule of a route.
#[derive(Debug)]
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
    pub(crate) filters: Box<[LinkedFilter]>,
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
/// It has no meaning here, and does not survive a change of the piece.
#[derive(Default)]
pub struct TelemetrySlot(AtomicU32);

impl TelemetrySlot {
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
