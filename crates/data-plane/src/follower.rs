//! Follows the controller: connects, takes what is complete, gives it to the proxy, answers, and comes again when the stream broke.
//!
//! In flow certificates and the stream. Out flow changes for the proxy, readiness, and answers. What is served stays as it is while
//! there is no stream; on the next one the versions of what is held are told, and only what differs comes.

use crate::backoff::Backoff;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::stream::{Stream, StreamError};
use crate::told::Told;
use portcullis_model::{Config, ConfigDelta, ObjectName};
use portcullis_proxy::{Applied, PortJournal, Proxy};
use portcullis_runtime::readiness::Gate;
use portcullis_xds::proto::code;
use portcullis_xds::{ClientCommit, ClientStream, UnboundPorts, Violation};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Between two looks at ports that could not be bound; the proxy tries them again by itself.
const PORTS_AGAIN: Duration = Duration::from_secs(2);

/// Streams without a single response before the certificate is suspected.
const SUSPICIOUS: u32 = 2;

/// The configurations that `/config` shows.
pub(crate) type Configs = Arc<Mutex<BTreeMap<ObjectName, Config>>>;

pub(crate) struct Follower {
    pub(crate) options: Arc<Options>,
    pub(crate) proxy: Proxy,
    pub(crate) gate: Gate,
    pub(crate) metrics: Arc<Metrics>,
    /// Kept only where somebody may ask for it.
    pub(crate) configs: Option<Configs>,
    pub(crate) identities: watch::Receiver<Option<Arc<Identity>>>,
    pub(crate) unusable: Arc<Notify>,
    pub(crate) client: ClientStream,
    pub(crate) journal: PortJournal,
    /// Ports are not bound that should be.
    pub(crate) lacks_ports: bool,
    /// The Gateway's generation that the proxy has.
    pub(crate) generation: i64,
}

/// Why a stream ended.
enum Ended {
    /// There is a new certificate, or a better answer to the last commit: another stream is opened at once.
    OnPurpose,
    /// It failed.
    Failed { error: SessionError, had_response: bool },
}

#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Violation(#[from] Violation),
}

impl Follower {
    /// Follows for ever.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut told = Told::default();
        let mut silent = 0;
        loop {
            let Some(identity) = self.identity().await else { return };
            let ended = self.session(&identity, &mut told).await;
            self.metrics.connected(false);
            let Ended::Failed { error, had_response } = ended else { continue };
            self.metrics.reconnect();
            let what = match self.client.serves() {
                true => "no controller; the last configuration is served; trying again",
                false => "no controller, and no configuration yet; trying again",
            };
            told.problem(what, &error);
            if had_response {
                backoff.reset();
                silent = 0;
            } else {
                silent += 1;
                // With TLS 1.3 a certificate that is not accepted shows only after the handshake.
                if silent % SUSPICIOUS == 0 {
                    self.unusable.notify_one();
                }
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// The newest certificate; `None` when nobody gets any.
    async fn identity(&mut self) -> Option<Arc<Identity>> {
        self.identities.wait_for(Option::is_some).await.ok()?.clone()
    }

    async fn session(&mut self, identity: &Identity, told: &mut Told) -> Ended {
        let mut had_response = false;
        match self.follow(identity, told, &mut had_response).await {
            Ok(()) => Ended::OnPurpose,
            Err(error) => Ended::Failed { error, had_response },
        }
    }

    async fn follow(
        &mut self,
        identity: &Identity,
        told: &mut Told,
        had_response: &mut bool,
    ) -> Result<(), SessionError> {
        let first = self.client.start();
        let mut stream = Stream::open(&self.options, identity, first).await?;
        self.metrics.connected(true);
        tracing::info!(controller = %self.options.controller, "connected to the controller");
        loop {
            let response = tokio::select! {
                response = stream.next() => response?,
                changed = self.identities.changed() => match changed {
                    Ok(()) => return Ok(()),
                    Err(_) => std::future::pending().await,
                },
                () = tokio::time::sleep(PORTS_AGAIN), if self.lacks_ports => match self.ports_are_bound().await {
                    // The commit that another stream begins with gets another answer.
                    true => return Ok(()),
                    false => continue,
                },
            };
            *had_response = true;
            told.nothing();
            let step = self.client.on_response(response)?;
            for request in step.requests {
                let refused = request.error_detail.as_ref().filter(|status| status.code == code::INVALID_ARGUMENT);
                if let Some(status) = refused {
                    self.metrics.config_refused();
                    tracing::error!(error = status.message, "a configuration cannot be read; the last one is served");
                }
                stream.send(request);
            }
            if let Some(commit) = step.commit {
                let outcome = self.apply(commit).await;
                self.client.applied(outcome).into_iter().for_each(|request| stream.send(request));
            }
        }
    }

    /// Gives a configuration to the proxy; tells what is not served of it.
    async fn apply(&mut self, commit: ClientCommit) -> Result<(), String> {
        let ClientCommit { deltas, version, gateway_generation } = commit;
        let is_removal = deltas.iter().any(|delta| matches!(delta, ConfigDelta::Remove { .. }));
        if let Some(configs) = &self.configs {
            let mut configs = configs.lock().unwrap_or_else(PoisonError::into_inner);
            deltas.iter().for_each(|delta| Config::apply(&mut configs, delta));
        }
        let is_change = !deltas.is_empty();
        let applied = self.proxy.apply(deltas).await;
        if is_change {
            tracing::info!(%version, gateway_generation, generation = applied.generation, "configuration applied");
        }
        self.metrics.config();
        self.generation = gateway_generation;
        let outcome = self.judge(&applied);
        if is_removal {
            tracing::warn!(gateway = %self.options.gateway, "the Gateway is no longer the controller's; nothing is served");
            self.gate.close("the Gateway is gone");
        }
        if outcome.is_err() {
            self.metrics.config_refused();
        }
        outcome
    }

    async fn ports_are_bound(&mut self) -> bool {
        let applied = self.proxy.apply(Vec::new()).await;
        self.judge(&applied).is_ok()
    }

    /// Opens the gate when a port listens, or none is to: one that cannot be bound takes nothing from the others. Afterwards it stays open.
    fn judge(&mut self, applied: &Applied) -> Result<(), String> {
        self.journal.tell(applied);
        let failed = applied.ports.iter().filter_map(|report| {
            let error = report.result.as_ref().err()?;
            Some((report.port, format!("cannot listen on {}: {}", error.address, error.reason)))
        });
        let failed: BTreeMap<_, _> = failed.collect();
        self.lacks_ports = !failed.is_empty();
        let serves = failed.len() < applied.ports.len() || failed.is_empty();
        if serves {
            self.gate.open();
        }
        match (failed.is_empty(), serves) {
            (true, _) => Ok(()),
            (false, true) => Err(UnboundPorts { gateway_generation: self.generation, ports: failed }.to_string()),
            (false, false) => {
                let failed: Vec<_> = failed.iter().map(|(port, reason)| format!("port {port}: {reason}")).collect();
                Err(failed.join("; "))
            }
        }
    }
}
