//! A data plane from its first configuration to the end of its drain.
//!
//! In flow the word to stop. In order: not ready from that moment; for the shutdown delay everything goes on, so that those who send
//! traffic can hear of it; then the listening sockets close, and what is open may end in time.

use crate::follower::{Configs, Follower};
use crate::identity;
use crate::metrics::Metrics;
use crate::options::Options;
use portcullis_model::ObjectName;
use portcullis_proxy::{Drained, PortJournal, Proxy};
use portcullis_runtime::drain::Drain;
use portcullis_runtime::log::AccessLog;
use portcullis_runtime::metrics::{MetricError, Registry};
use portcullis_runtime::operators::{self, OperatorAddresses, OperatorError};
use portcullis_runtime::readiness::Readiness;
use portcullis_runtime::signals::ReloadWatch;
use portcullis_runtime::threads;
use portcullis_xds::ClientStream;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// How long the access log may take to write its last lines.
const LOG_CLOSE: Duration = Duration::from_secs(2);

/// A running data plane.
#[derive(Debug)]
pub struct DataPlane {
    options: Arc<Options>,
    proxy: Proxy,
    readiness: Readiness,
    drain: Drain,
    access_log: Option<AccessLog>,
    addresses: OperatorAddresses,
    tasks: Tasks,
}

/// What follows the controller; ends with its handle.
#[derive(Debug)]
struct Tasks([JoinHandle<()>; 2]);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Why a data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A server for operators, or the access log.
    #[error(transparent)]
    Operators(#[from] OperatorError),
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] portcullis_proxy::StartError),
    /// A metric is registered already.
    #[error(transparent)]
    Metrics(#[from] MetricError),
}

/// A thread of the proxy ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a thread of the proxy ended; this is a defect")]
pub struct Defect;

impl DataPlane {
    /// Starts all parts, on the thread of the caller and on the proxy's own. Serves nothing before the controller's first word.
    /// `stop` is the word to stop, and begins by itself only then.
    ///
    /// # Errors
    /// When an address for operators, the access log or a thread cannot be had.
    pub async fn start(options: Options, version: &'static str, stop: &Drain) -> Result<Self, StartError> {
        let options = Arc::new(options);
        let registry = Registry::new(options.proxy.workers);
        registry.build_info(&[("version", version)])?;
        threads::register(&registry)?;
        let metrics = Metrics::register(&registry)?;
        let access_log = options.access_log.clone().map(operators::open_access_log).transpose()?;
        if let Some(access_log) = &access_log {
            access_log.register(&registry)?;
        }
        let readiness = Readiness::new(stop.watch());
        let gate = readiness.gate("configuration", "the first complete configuration is not served yet");
        let configs: Option<Configs> = options.admin_address.is_some().then(|| Arc::new(Mutex::default()));
        let addresses = servers(&options, &registry, &readiness, configs.clone(), stop).await?;

        let drain = Drain::new();
        let mut proxy_options = options.proxy.clone();
        // A port leaves the Service when its listener goes; those who send traffic hear of it as late as of a pod that ends.
        proxy_options.timeouts.port_linger = options.shutdown_delay;
        // A route must not reach what only operators may.
        proxy_options.upstream.forbidden.extend(addresses.all());
        let proxy = Proxy::start(proxy_options, &registry, access_log.as_ref(), &drain)?;

        let unusable = Arc::new(Notify::new());
        let (sender, identities) = watch::channel(None);
        let keeper = identity::keep(options.clone(), metrics.clone(), unusable.clone(), sender);
        let follower = Follower {
            client: ClientStream::new(options.gateway.clone(), options.pod.clone()),
            options: options.clone(),
            proxy: proxy.clone(),
            gate,
            metrics,
            configs,
            identities,
            unusable,
            journal: PortJournal::default(),
            lacks_ports: false,
            generation: 0,
        };
        let tasks = Tasks([tokio::task::spawn_local(keeper), tokio::task::spawn_local(follower.run())]);
        Ok(Self { options, proxy, readiness, drain, access_log, addresses, tasks })
    }

    /// Whose data plane it is.
    pub fn gateway(&self) -> &ObjectName {
        &self.options.gateway
    }

    /// The proxy that serves.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Where telemetry is served.
    pub fn telemetry_address(&self) -> Option<SocketAddr> {
        self.addresses.telemetry
    }

    /// Serves until `stop` begins, then takes leave; returns what had to be cut.
    ///
    /// # Errors
    /// When a thread of the proxy is gone, and the process has to end for another to take its place.
    pub async fn run(self, stop: &Drain, mut reload: ReloadWatch) -> Result<Drained, Defect> {
        let watch = stop.watch();
        loop {
            tokio::select! {
                biased;
                () = watch.draining() => return Ok(self.leave(stop).await),
                () = self.proxy.draining() => {
                    stop.begin(self.options.drain_timeout);
                    self.leave(stop).await;
                    return Err(Defect);
                }
                () = reload.requested() => {
                    self.access_log.iter().for_each(AccessLog::reopen);
                }
            }
        }
    }

    async fn leave(self, stop: &Drain) -> Drained {
        let watch = stop.watch();
        let was_ready = self.readiness.check().is_err_and(|reasons| reasons.len() == 1);
        // A pod that never was ready gets no traffic.
        if was_ready {
            tracing::info!(
                seconds = self.options.shutdown_delay.as_secs(),
                "not ready any more; accepting for a while"
            );
            tokio::select! {
                () = tokio::time::sleep(self.options.shutdown_delay) => {}
                () = watch.forced() => {}
            }
        }
        let forced = async {
            watch.forced().await;
            self.drain.force();
            std::future::pending().await
        };
        let drained = tokio::select! {
            drained = self.proxy.drain(self.options.drain_timeout) => drained,
            () = forced => Drained::default(),
        };
        tracing::info!(cut = %drained.cut, "drained");
        drop(self.tasks);
        if self.access_log.is_some_and(|access_log| !access_log.close(LOG_CLOSE)) {
            tracing::warn!("the last lines of the access log could not be written in time");
        }
        drained
    }
}

async fn servers(
    options: &Options,
    registry: &Registry,
    readiness: &Readiness,
    configs: Option<Configs>,
    stop: &Drain,
) -> Result<OperatorAddresses, OperatorError> {
    let dump = move || {
        let configs = configs.as_ref().map(|configs| match configs.lock() {
            Ok(configs) => configs.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        });
        // Every key of every map is written as text, so that this cannot fail; an empty answer would say so.
        serde_json::to_vec_pretty(&configs.unwrap_or_default()).unwrap_or_default()
    };
    let settings = operators::Operators {
        telemetry_address: options.telemetry_address,
        admin_address: options.admin_address.clone(),
        drain_timeout: options.shutdown_delay + options.drain_timeout,
    };
    operators::start(&settings, registry, readiness.clone(), dump, stop).await
}
