//! The control side of a proxy, on a thread of its own.
//!
//! In flow changes of configurations. In order: each Gateway that changed is linked, its certificates are made ready, its new
//! ports are bound; one snapshot of all Gateways is given to the workers; when all of them serve it, what was removed is closed
//! and drained. So a change never costs a request: a port is bound before anything points to it, and a socket is emptied
//! before it is closed.
//!
//! A port that cannot be bound is reported, with what to do about it, and tried again with every change and every few
//! seconds; everything else serves. Old snapshots are kept until no worker has them, and taken apart here.

mod bind;
mod error;
mod journal;
mod task;

pub use error::{Applied, BindError, BoundPort, Drained, PortReport, StartError};
pub use journal::PortJournal;

use crate::listener::Limits;
use crate::options::Options;
use crate::telemetry::connections::ConnectionMetrics;
use crate::telemetry::{Telemetry, WorkerTelemetry};
use crate::worker::{self, Seed};
use portcullis_model::{Config, ConfigDelta, ListenerKey, ObjectName};
use portcullis_runtime::drain::Drain;
use portcullis_runtime::log::AccessLog;
use portcullis_runtime::metrics::{Kind, MetricError, Registry, Samples};
use portcullis_runtime::threads::{self, OnPanic};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use task::{Control, Request};
use tokio::sync::{mpsc, oneshot};

/// A running data plane. A handle: cheap to clone, and usable from any runtime. Its threads end when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Proxy {
    requests: mpsc::UnboundedSender<Request>,
    drain: Drain,
}

impl Proxy {
    /// Starts the control thread and the workers. They serve nothing before the first [`Proxy::apply`].
    ///
    /// The proxy drains with `drain` at the latest; `registry` must have room for [`Options::workers`].
    ///
    /// # Errors
    /// When a thread cannot be made, or the registry serves another proxy.
    pub fn start(
        options: Options,
        registry: &Registry,
        access_log: Option<&AccessLog>,
        drain: &Drain,
    ) -> Result<Self, StartError> {
        let options = Arc::new(options);
        let drain = drain.child();
        let connections = Arc::new(ConnectionMetrics::register(registry)?);
        let telemetry = Arc::new(Telemetry::register(registry, &options.telemetry)?);
        let state = Arc::new(State::default());
        state.register(registry)?;
        let limits = Limits::new(options.connections.total, options.connections.per_client);
        let mut workers = Vec::new();
        for index in 0..options.workers.max(1) {
            let (commands, received) = mpsc::unbounded_channel();
            let shard = registry.claim(index).ok_or(StartError::NoShard { index })?;
            let seed = Seed {
                options: options.clone(),
                connections: connections.clone(),
                limits: limits.clone(),
                telemetry: WorkerTelemetry::new(telemetry.clone(), shard, access_log.map(AccessLog::handle)),
            };
            // A worker that is gone takes its share of the connections with it: the process has to end.
            let on_panic = OnPanic::Drain(drain.clone(), options.timeouts.port_drain);
            let thread = threads::spawn(&format!("worker-{index}"), on_panic, move || worker::run(seed, received));
            thread.map_err(|source| StartError::Thread { name: format!("worker-{index}"), source })?;
            workers.push(commands);
        }
        let (requests, received) = mpsc::unbounded_channel();
        let control = Control::new(options, registry.clone(), drain.clone(), state, workers);
        let on_panic = OnPanic::Drain(drain.clone(), Duration::ZERO);
        let thread = threads::spawn("proxy-control", on_panic, move || control.run(received));
        thread.map_err(|source| StartError::Thread { name: "proxy-control".to_owned(), source })?;
        Ok(Self { requests, drain })
    }

    /// Applies changes, each Gateway's as a whole, and says what is bound. Returns when every worker serves them.
    pub async fn apply(&self, deltas: Vec<ConfigDelta>) -> Applied {
        let (reply, applied) = oneshot::channel();
        let _ = self.requests.send(Request::Apply(deltas, reply));
        // Without an answer the control thread is gone, and the process drains.
        applied.await.unwrap_or_default()
    }

    /// The configurations that are served. What came from a Secret is redacted when they are written out.
    pub async fn configs(&self) -> BTreeMap<ObjectName, Config> {
        let (reply, configs) = oneshot::channel();
        let _ = self.requests.send(Request::Configs(reply));
        configs.await.unwrap_or_default()
    }

    /// Waits until the proxy drains: because it was told to, or because a thread of its own is gone, and the process has to end.
    pub async fn draining(&self) {
        self.drain.watch().draining().await;
    }

    /// Stops accepting, finishes what is open, at most until the deadline, then cuts the rest.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        let (reply, closed) = oneshot::channel();
        let _ = self.requests.send(Request::Close(reply));
        let _ = closed.await;
        self.drain.begin(deadline);
        self.drain.finished().await.into()
    }
}

/// What the metrics show of the control side.
#[derive(Default)]
pub(crate) struct State {
    generation: AtomicU64,
    /// Seconds since 1970; 0 before the first.
    applied_at: AtomicI64,
    ports_bound: AtomicUsize,
    ports_failed: AtomicUsize,
    /// When the first certificate of a listener ends to be valid.
    expiries: Mutex<BTreeMap<ObjectName, Vec<(ListenerKey, i64)>>>,
}

impl State {
    fn applied(&self, generation: u64) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.generation.store(generation, Ordering::Relaxed);
        self.applied_at.store(now.as_secs().cast_signed(), Ordering::Relaxed);
    }

    /// The certificates of a Gateway that is linked anew, or gone.
    fn certificates(&self, gateway: &ObjectName, listeners: Vec<(ListenerKey, i64)>) {
        let mut expiries = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
        match listeners.is_empty() {
            true => drop(expiries.remove(gateway)),
            false => drop(expiries.insert(gateway.clone(), listeners)),
        }
    }

    /// A sample for each listener with a certificate: where there are more than are taken, the first to expire are.
    fn expiries(&self, samples: &mut Samples) {
        let expiries = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
        let listeners = expiries.iter().flat_map(|(gateway, listeners)| {
            listeners.iter().map(move |(listener, not_after)| (*not_after, gateway, listener))
        });
        let mut listeners: Vec<_> = listeners.collect();
        listeners.sort_unstable();
        for (not_after, gateway, listener) in listeners {
            let (gateway, listener) = (gateway.to_string(), listener.to_string());
            samples.add(&[("gateway", &gateway), ("listener", &listener)], not_after as f64);
        }
    }

    fn register(self: &Arc<Self>, registry: &Registry) -> Result<(), MetricError> {
        let state = self.clone();
        registry.collect(
            "portcullis_config_generation",
            "Counts the configurations that were applied.",
            Kind::Gauge,
            move |samples| samples.add(&[], state.generation.load(Ordering::Relaxed) as f64),
        )?;
        let state = self.clone();
        registry.collect(
            "portcullis_config_applied_timestamp_seconds",
            "When the last configuration was applied.",
            Kind::Gauge,
            move |samples| samples.add(&[], state.applied_at.load(Ordering::Relaxed) as f64),
        )?;
        let state = self.clone();
        registry.collect(
            "portcullis_certificate_not_after_timestamp_seconds",
            "When the first certificate of a listener expires.",
            Kind::Gauge,
            move |samples| state.expiries(samples),
        )?;
        let state = self.clone();
        registry.collect(
            "portcullis_ports",
            "Ports of listeners, by whether they are bound.",
            Kind::Gauge,
            move |samples| {
                samples.add(&[("state", "bound")], state.ports_bound.load(Ordering::Relaxed) as f64);
                samples.add(&[("state", "failed")], state.ports_failed.load(Ordering::Relaxed) as f64);
            },
        )
    }
}
