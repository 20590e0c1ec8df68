//! Streams of configuration to data planes, and what data planes say of it.
//!
//! In flow changes of configurations ([`ConfigServer::publish`]), the Gateways that are served ([`ConfigServer::gateways`]), and
//! connections: of data planes, which show the certificates that [`identity`](crate::identity) gave them, and of the other
//! replicas. Out flow the configurations, each to the data planes of its own Gateway only, and [`DataPlaneEvent`]s.
//!
//! | module | what it is |
//! |---|---|
//! | `connection` | the port: mutual TLS, HTTP/2, their bounds, who may call what |
//! | `hub` | what there is to send, and to whom; revocation |
//! | `stream` | one stream of one data plane |
//! | `picture` | what every data plane has, over all replicas |
//! | `relay` | from a follower to the holder of the lease |
//! | `metrics` | counters |
//!
//! A slow reader costs the responses of one generation, whose bytes all streams share; changes meanwhile meet in the catalog.

mod connection;
mod hub;
mod metrics;
mod picture;
mod relay;
mod stream;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_model::{ConfigDelta, ObjectName};
use portcullis_runtime::drain::Drain;
use portcullis_runtime::metrics::{MetricError, Registry};
use portcullis_xds::ConfigVersion;
use tokio::sync::{mpsc, watch};

use crate::identity::endpoint::{BindError, Endpoint};
use crate::identity::{Authority, KnownGateways};
use connection::Port;
use hub::Hub;
use metrics::Metrics;
use picture::Picture;
use relay::{Follower, Role};

/// Events that wait for a slow reader; what is more is told later, as it is then.
const EVENTS: usize = 256;

/// Settings of the servers for data planes.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Where the config stream listens.
    pub stream_address: SocketAddr,
    /// Where the identity endpoint listens.
    pub identity_address: SocketAddr,
    /// The name of the Deployment of a Gateway's data plane, from the Gateway and its class.
    pub deployment_name: fn(&ObjectName, &str) -> String,
}

/// Why the servers could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A metric was registered twice.
    #[error(transparent)]
    Metric(#[from] MetricError),
}

/// Where the holder of the lease takes relayed events: the address of its config stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderAddress(pub SocketAddr);

/// What became known about a data plane. `pod` is the name of its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataPlaneEvent {
    /// It has a stream. What it serves is not known yet. Told again when it has another stream.
    Connected {
        /// Its Gateway.
        gateway: ObjectName,
        /// Its pod.
        pod: Arc<str>,
    },
    /// It serves this configuration.
    Acknowledged {
        /// Its Gateway.
        gateway: ObjectName,
        /// Its pod.
        pod: Arc<str>,
        /// The `metadata.generation` of the Gateway in the configuration.
        gateway_generation: i64,
        /// The configuration.
        version: ConfigVersion,
    },
    /// It does not serve this configuration, or not all of it.
    Refused {
        /// Its Gateway.
        gateway: ObjectName,
        /// Its pod.
        pod: Arc<str>,
        /// The configuration.
        version: ConfigVersion,
        /// Why, on one line.
        message: Arc<str>,
    },
    /// No replica has a stream of it.
    Gone {
        /// Its Gateway.
        gateway: ObjectName,
        /// Its pod.
        pod: Arc<str>,
    },
}

/// The config stream and the identity endpoint of this replica.
pub struct ConfigServer {
    hub: Arc<Hub>,
    role: watch::Sender<Role>,
    stream_address: SocketAddr,
    identity_address: SocketAddr,
}

impl ConfigServer {
    /// Binds both ports and serves until the drain begins. Nothing is sent before [`ConfigServer::publish`] and
    /// [`ConfigServer::gateways`] were both called. The events are those of all replicas while this one leads, else of this one's streams.
    ///
    /// # Errors
    /// When a port cannot be bound, or a metric is registered already.
    pub async fn start(
        options: ServeOptions,
        client: kube::Client,
        ca: Arc<Authority>,
        registry: &Registry,
        drain: &Drain,
    ) -> Result<(Self, mpsc::Receiver<DataPlaneEvent>), StartError> {
        let picture = Picture::default();
        let metrics = Metrics::register(registry, picture.clone())?;
        let hub = Arc::new(Hub::new(picture.clone(), metrics.clone(), options.deployment_name));
        let role = watch::Sender::new(Role::Unknown);

        let port = Port::bind(options.stream_address, ca.clone(), hub.clone(), role.subscribe()).await?;
        let known = hub.clone();
        let lookup = move |gateway: &ObjectName| known.known(gateway);
        let endpoint = Endpoint::bind(options.identity_address, client, ca.clone(), lookup, registry).await?;
        let server = Self {
            hub,
            role,
            stream_address: port.local_addr().map_err(|error| unbound(options.stream_address, error))?,
            identity_address: endpoint.local_addr().map_err(|error| unbound(options.identity_address, error))?,
        };

        let (sender, events) = mpsc::channel(EVENTS);
        tokio::spawn(picture.clone().tell(sender));
        tokio::spawn(port.serve(drain.watch()));
        tokio::spawn(endpoint.serve(drain.watch()));
        tokio::spawn(Follower { authority: ca, picture, metrics, role: server.role.subscribe() }.run());
        Ok((server, events))
    }

    /// Takes changes in and wakes the streams of the Gateways that they are about.
    pub fn publish(&self, deltas: Vec<ConfigDelta>) {
        self.hub.publish(&deltas);
    }

    /// The Gateways that are served, with their UIDs. Streams of others end at once.
    pub fn gateways(&self, known: KnownGateways) {
        self.hub.gateways(known);
    }

    /// The version that the data planes of a Gateway should serve; `None` when there is nothing for it.
    pub fn version(&self, gateway: &ObjectName) -> Option<ConfigVersion> {
        self.hub.with_catalog(|catalog| catalog.version(gateway))
    }

    /// Who gets to know what data planes say: the holder of the lease, or, with `None`, this replica, which holds it.
    /// Until this was called, other replicas are refused and nobody is told. While the holder is not known, leave it as it is.
    pub fn follow(&self, leader: Option<LeaderAddress>) {
        let role = leader.map_or(Role::Leading, |LeaderAddress(address)| Role::Following(address));
        self.role.send_if_modified(|known| std::mem::replace(known, role) != role);
    }

    /// Where the config stream listens.
    pub fn stream_address(&self) -> SocketAddr {
        self.stream_address
    }

    /// Where the identity endpoint listens.
    pub fn identity_address(&self) -> SocketAddr {
        self.identity_address
    }
}

impl fmt::Debug for ConfigServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigServer")
            .field("stream_address", &self.stream_address)
            .field("identity_address", &self.identity_address)
            .finish_non_exhaustive()
    }
}

fn unbound(address: SocketAddr, error: std::io::Error) -> BindError {
    BindError::Bind { address, error }
}
