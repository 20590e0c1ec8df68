//! A worker: one thread, one single-threaded runtime, its own sockets, pools and counters.
//!
//! In flow commands of the control thread (serve this snapshot, listen here, stop listening there) and connections.
//! Out flow responses, and the old snapshots back to the control thread, so that none is taken apart on a worker.

use crate::options::Options;
use crate::telemetry::WorkerTelemetry;
use crate::tls::PortTls;
use crate::upstream::Upstreams;
use portcullis_decide::Linked;
use portcullis_model::{Backend, BackendKey, Endpoints, ObjectName};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What all workers serve from. Immutable; replaced as a whole.
#[derive(Default)]
pub(crate) struct Snapshot {
    /// Counts the snapshots; 0 is the empty one before the first configuration.
    pub(crate) generation: u64,
    /// By name. A deleted Gateway stays until its connections are gone.
    pub(crate) gateways: BTreeMap<ObjectName, Arc<ServedGateway>>,
}

/// One Gateway of a snapshot. Shared with the next snapshot when nothing of it changed.
pub(crate) struct ServedGateway {
    /// Its name.
    pub(crate) name: ObjectName,
    /// What `decide` made of its configuration.
    pub(crate) linked: Arc<Linked>,
    /// The backends that its routes name. The same `Arc` as before when none changed.
    pub(crate) backends: Arc<BTreeMap<BackendKey, Arc<Backend>>>,
    /// Their endpoints. The same `Arc` as before when none changed.
    pub(crate) endpoints: Arc<BTreeMap<BackendKey, Arc<Endpoints>>>,
    /// TLS of the HTTPS ports.
    pub(crate) tls: BTreeMap<u16, Arc<PortTls>>,
}

/// What a port serves at this moment.
pub(crate) struct CurrentPort {
    /// The snapshot's generation that it came with.
    pub(crate) generation: u64,
    /// The matcher.
    pub(crate) linked: Arc<portcullis_decide::Port>,
    /// Certificates, on an HTTPS port.
    pub(crate) tls: Option<Arc<PortTls>>,
}

/// A port of a Gateway on this worker. Its identity lives as long as its connections; what it serves follows the snapshots.
/// After the port's removal it serves the last it had, until its connections are drained.
pub(crate) struct Port {
    /// The Gateway.
    pub(crate) gateway: ObjectName,
    /// The port of the specification (clients may see a mapped one).
    pub(crate) number: u16,
    current: RefCell<Rc<CurrentPort>>,
}

impl Port {
    /// What the port serves now.
    pub(crate) fn current(&self) -> Rc<CurrentPort> {
        self.current.borrow().clone()
    }
}

/// The state of one worker, shared by everything that runs on its thread.
pub(crate) struct Worker {
    /// 0 for the first.
    pub(crate) index: usize,
    /// How the proxy was started.
    pub(crate) options: Arc<Options>,
    /// Backends, their endpoints and connections.
    pub(crate) upstreams: Upstreams,
    /// Counters and the access log.
    pub(crate) telemetry: WorkerTelemetry,
}
