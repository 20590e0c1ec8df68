//! A worker: one thread, one single-threaded runtime, its own sockets, pools and counters.
//!
//! In flow commands of the control thread (serve this snapshot, listen here, stop listening there) and connections.
//! Out flow responses. The control thread holds every snapshot until no worker has it any more, so that none is taken apart on
//! a worker.

use crate::http::{self, h1};
use crate::listener::{self, Limits, NewConnection};
use crate::options::Options;
use crate::telemetry::WorkerTelemetry;
use crate::telemetry::connections::{ConnectionMetrics, PanicPlace, PortMetrics};
use crate::tls::{self, PortTls};
use crate::upstream::Upstreams;
use futures_util::FutureExt;
use portcullis_decide::Linked;
use portcullis_model::{Backend, BackendKey, Endpoints, ListenerProtocol, ObjectName};
use portcullis_runtime::drain::DrainWatch;
use portcullis_runtime::metrics::Shard;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

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
    /// The Gateway as configured.
    pub(crate) gateway: Arc<portcullis_model::Gateway>,
    /// What `decide` made of its configuration.
    pub(crate) linked: Arc<Linked>,
    /// The backends that its routes name. The same `Arc` as before when none changed.
    pub(crate) backends: Arc<BTreeMap<BackendKey, Arc<Backend>>>,
    /// Their endpoints. The same `Arc` as before when none changed.
    pub(crate) endpoints: Arc<BTreeMap<BackendKey, Arc<Endpoints>>>,
    /// TLS of the HTTPS ports.
    pub(crate) tls: BTreeMap<u16, Arc<PortTls>>,
}

/// What a port serves at this moment. Not to be kept beyond the choice of a route: it keeps the whole snapshot alive.
pub(crate) struct CurrentPort {
    /// The matcher.
    pub(crate) linked: Arc<portcullis_decide::Port>,
    /// Certificates, on an HTTPS port.
    pub(crate) tls: Option<Arc<PortTls>>,
    /// Where both are from: held so that the control thread takes them apart.
    _snapshot: Arc<Snapshot>,
}

/// A port of a Gateway on this worker. Its identity lives as long as its connections; what it serves follows the snapshots.
/// After the port's removal it serves the last it had, until its connections are drained.
pub(crate) struct Port {
    /// The Gateway.
    pub(crate) gateway: ObjectName,
    /// The port of the specification (clients may see a mapped one).
    pub(crate) number: u16,
    /// Begins when the port is removed, at the latest with its Gateway's or the process's.
    pub(crate) drain: DrainWatch,
    /// What is counted of it.
    pub(crate) metrics: PortMetrics,
    current: RefCell<Rc<CurrentPort>>,
    connections: RefCell<Slab<AbortHandle>>,
}

impl Port {
    /// What the port serves now.
    pub(crate) fn current(&self) -> Rc<CurrentPort> {
        self.current.borrow().clone()
    }

    /// Cuts every connection.
    fn cut(&self) {
        for connection in self.connections.borrow().iter() {
            connection.1.abort();
        }
    }
}

/// A Gateway's port.
pub(crate) type PortKey = (ObjectName, u16);

/// What the control thread tells a worker.
pub(crate) enum Command {
    /// Serve this. Said to be done once every new request sees it.
    Serve(Update, oneshot::Sender<()>),
    /// Empty these sockets and close them, then forget these ports. Said to be done once no connection waits in them.
    Close {
        /// By number.
        sockets: Vec<u64>,
        /// Their connections go on.
        ports: Vec<PortKey>,
        /// Who waits.
        done: oneshot::Sender<()>,
    },
}

/// A new snapshot, and what is new in it for a worker.
pub(crate) struct Update {
    /// What to serve.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Ports that are new, or that begin anew because they speak another protocol.
    pub(crate) ports: Vec<(PortKey, DrainWatch)>,
    /// Sockets to accept from.
    pub(crate) sockets: Vec<NewSocket>,
}

/// A listening socket, this worker's of a group.
pub(crate) struct NewSocket {
    /// Its number, by which it is closed.
    pub(crate) number: u64,
    /// Whose connections it accepts.
    pub(crate) port: PortKey,
    /// The socket.
    pub(crate) socket: TcpListener,
}

/// What a worker is made from, on its own thread.
pub(crate) struct Seed {
    pub(crate) options: Arc<Options>,
    pub(crate) connections: Arc<ConnectionMetrics>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) telemetry: WorkerTelemetry,
}

/// The state of one worker, shared by everything that runs on its thread.
pub(crate) struct Worker {
    /// How the proxy was started.
    pub(crate) options: Arc<Options>,
    /// Backends, their endpoints and connections.
    pub(crate) upstreams: Upstreams,
    /// Counters of requests, and the access log.
    pub(crate) telemetry: WorkerTelemetry,
    /// Counters of connections.
    pub(crate) connections: Arc<ConnectionMetrics>,
    /// How many connections may be open.
    pub(crate) limits: Arc<Limits>,
    http1: [Rc<h1::Options>; 2],
    ports: RefCell<BTreeMap<PortKey, Rc<Port>>>,
    sockets: RefCell<BTreeMap<u64, oneshot::Sender<oneshot::Sender<()>>>>,
    next_connection: Cell<u64>,
}

/// Between two looks at what is idle or gone.
const SWEEP: Duration = Duration::from_secs(1);

/// Runs a worker until the control thread is gone.
pub(crate) async fn run(seed: Seed, mut commands: mpsc::UnboundedReceiver<Command>) {
    let worker = Rc::new(Worker {
        upstreams: Upstreams::new(&seed.options),
        http1: [false, true].map(|tls| Rc::new(http1_options(&seed.options, tls))),
        options: seed.options,
        telemetry: seed.telemetry,
        connections: seed.connections,
        limits: seed.limits,
        ports: RefCell::default(),
        sockets: RefCell::default(),
        next_connection: Cell::new(0),
    });
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            biased;
            command = commands.recv() => command,
            _ = sweep.tick() => {
                worker.upstreams.sweep(&worker.telemetry);
                continue;
            }
        };
        let Some(command) = command else { break };
        match command {
            Command::Serve(update, done) => {
                worker.serve(update);
                let _ = done.send(());
            }
            Command::Close { sockets, ports, done } => {
                let worker = worker.clone();
                tokio::task::spawn_local(async move {
                    worker.close(sockets, ports).await;
                    let _ = done.send(());
                });
            }
        }
    }
    for port in worker.ports.take().into_values() {
        port.cut();
    }
}

fn http1_options(options: &Options, tls: bool) -> h1::Options {
    h1::Options {
        scheme: http::scheme(tls),
        header_timeout: options.timeouts.request_headers,
        idle_timeout: options.timeouts.idle,
        write_stall_timeout: options.timeouts.write_stall,
        ..options.http1.clone()
    }
}

impl Worker {
    /// The right to count.
    pub(crate) fn shard(&self) -> &Shard {
        &self.telemetry.shard
    }

    /// The port that accepts connections now.
    pub(crate) fn port(&self, key: &PortKey) -> Option<Rc<Port>> {
        self.ports.borrow().get(key).cloned()
    }

    /// The limits of HTTP/1.1 connections.
    pub(crate) fn http1_options(&self, tls: bool) -> Rc<h1::Options> {
        self.http1[usize::from(tls)].clone()
    }

    /// The number of a new connection.
    pub(crate) fn next_connection(&self) -> u64 {
        self.next_connection.replace(self.next_connection.get() + 1)
    }

    fn serve(self: &Rc<Self>, update: Update) {
        let current = |key: &PortKey| {
            let gateway = update.snapshot.gateways.get(&key.0)?;
            Some(Rc::new(CurrentPort {
                linked: gateway.linked.port(key.1)?.clone(),
                tls: gateway.tls.get(&key.1).cloned(),
                _snapshot: update.snapshot.clone(),
            }))
        };
        // Backends first: a request must find what its route names.
        self.upstreams.apply(&update.snapshot);
        let mut ports = self.ports.borrow_mut();
        for (key, port) in ports.iter() {
            if update.ports.iter().any(|(new, _)| new == key) {
                continue;
            }
            if let Some(current) = current(key) {
                port.current.replace(current);
            }
        }
        for (key, drain) in &update.ports {
            if let Some(current) = current(key) {
                let port = self.new_port(key, drain.clone(), current);
                ports.insert(key.clone(), port);
            }
        }
        drop(ports);
        for NewSocket { number, port, socket } in update.sockets {
            let (stop, stopped) = oneshot::channel();
            self.sockets.borrow_mut().insert(number, stop);
            tokio::task::spawn_local(listener::accept(self.clone(), port, socket, stopped));
        }
    }

    fn new_port(&self, key: &PortKey, drain: DrainWatch, current: Rc<CurrentPort>) -> Rc<Port> {
        let port = Rc::new(Port {
            gateway: key.0.clone(),
            number: key.1,
            metrics: self.connections.port(&key.0, key.1),
            drain,
            current: RefCell::new(current),
            connections: RefCell::default(),
        });
        let forced = (port.drain.clone(), Rc::downgrade(&port));
        tokio::task::spawn_local(async move {
            forced.0.forced().await;
            if let Some(port) = forced.1.upgrade() {
                port.cut();
            }
        });
        port
    }

    async fn close(&self, sockets: Vec<u64>, ports: Vec<PortKey>) {
        for number in sockets {
            let stop = self.sockets.borrow_mut().remove(&number);
            if let Some(stop) = stop {
                let (done, closed) = oneshot::channel();
                // An error of either says that the task has ended, and the socket with it.
                if stop.send(done).is_ok() {
                    let _ = closed.await;
                }
            }
        }
        let mut all = self.ports.borrow_mut();
        for key in ports {
            all.remove(&key);
        }
    }

    /// Serves a connection in a task of its own, whose panics end nothing else.
    pub(crate) fn spawn_connection(self: &Rc<Self>, connection: NewConnection) {
        let (worker, port) = (self.clone(), connection.port.clone());
        let mut connections = port.connections.borrow_mut();
        let entry = connections.vacant_entry();
        let seat = Seat { worker: worker.clone(), port: port.clone(), key: entry.key() };
        port.metrics.opened(self.shard());
        let task = tokio::task::spawn_local(async move {
            let seat = seat;
            if AssertUnwindSafe(serve(&worker, connection)).catch_unwind().await.is_err() {
                worker.connections.panicked(worker.shard(), PanicPlace::Connection);
            }
            drop(seat);
        });
        entry.insert(task.abort_handle());
    }
}

/// A connection's entry in its port, given back however its task ends.
struct Seat {
    worker: Rc<Worker>,
    port: Rc<Port>,
    key: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.port.metrics.closed(self.worker.shard());
        self.port.connections.borrow_mut().try_remove(self.key);
    }
}

async fn serve(worker: &Rc<Worker>, connection: NewConnection) {
    let (mut connection, stream) = connection.into_parts();
    let port = connection.current();
    if port.linked.protocol() == ListenerProtocol::Http {
        drop(port);
        return http::serve_cleartext(worker, Rc::new(connection), stream).await;
    }
    let accepted = tls::accept(stream, &port, worker.options.timeouts.handshake).await;
    drop(port);
    let metrics = &connection.port.metrics;
    match accepted {
        Ok(accepted) => {
            metrics.handshake(&worker.connections, worker.shard(), accepted.info.resumed);
            connection.tls = Some(accepted.info);
            http::serve_tls(worker, Rc::new(connection), accepted.stream, accepted.http2).await;
        }
        Err(refused) => {
            metrics.handshake_failed(&worker.connections, worker.shard(), refused.failure);
            tracing::debug!(
                gateway = %connection.port.gateway,
                port = connection.port.number,
                client = %connection.peer,
                reason = refused.failure.as_str(),
                "TLS handshake failed"
            );
            refused.tell().await;
        }
    }
}
