//! Which replica writes: the holder of a Lease (`coordination.k8s.io/v1`).
//!
//! In flow the answers of the API server. Out flows [`Leadership`], as a watch channel. Clocks of machines are never compared: a lease has run
//! out when this process has seen no change of it for as long as it says that it lasts, and the holder stops well before anybody else can
//! come to that conclusion, counted from before its last successful renewal was sent.

use std::time::Duration;

use http::Method;
use portcullis_runtime::metrics::{Gauge, MetricError, Registry};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock;
use crate::request::{Failure, send};

/// The annotation with the holder's address, to which other replicas relay what data planes acknowledged.
const ADDRESS: &str = "portcullis.dev/address";

/// How long giving the lease back may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(3);

/// How soon a holder tries again after a failed renewal.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// Who leads, as far as this replica knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leadership {
    /// Nothing is known yet, or not any more.
    Unknown,
    /// This replica holds the lease.
    Leading,
    /// Another one holds it.
    Following {
        /// Its identity.
        holder: String,
        /// Where it can be reached, if it says so.
        address: Option<String>,
    },
}

/// How an election goes.
#[derive(Clone, Debug)]
pub(crate) struct LeaderOptions {
    /// Where the lease is.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) lease: String,
    /// Who this replica is: the name of its pod and its uid, so that a pod of the same name is another one.
    pub(crate) identity: String,
    /// Where others can reach this replica.
    pub(crate) address: Option<String>,
    /// How long a lease lasts without being renewed.
    pub(crate) duration: Duration,
    /// How often the holder renews it.
    pub(crate) renew: Duration,
    /// How often the others look.
    pub(crate) look: Duration,
}

/// Takes part in the election until it is released.
#[derive(Debug)]
pub(crate) struct Elector {
    leadership: watch::Receiver<Leadership>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Elector {
    /// Starts to take part.
    ///
    /// # Errors
    /// When the registry has these metrics already.
    pub(crate) fn start(
        client: kube::Client,
        options: LeaderOptions,
        registry: &Registry,
    ) -> Result<Self, MetricError> {
        let gauge = registry.gauge("portcullis_leader", "Whether this replica holds the lease and writes: 1, or 0.")?;
        let (leadership, watch) = watch::channel(Leadership::Unknown);
        let (stop, stopped) = oneshot::channel();
        let candidate =
            Candidate { client, options, leadership, gauge, held: None, leading_until: None, observed: None };
        Ok(Self { leadership: watch, stop, task: tokio::spawn(candidate.run(stopped)) })
    }

    /// Who leads, now and from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Gives the lease back if this replica holds it, so that nobody has to wait until it has run out. Stop writing before.
    pub(crate) async fn release(self) {
        let _ = self.stop.send(());
        if self.task.await.is_err() {
            tracing::warn!("the election ended with an error");
        }
    }
}

struct Candidate {
    client: kube::Client,
    options: LeaderOptions,
    leadership: watch::Sender<Leadership>,
    gauge: Gauge,
    /// The lease as it was when this replica last wrote it: a renewal needs no reading.
    held: Option<Value>,
    leading_until: Option<Instant>,
    observed: Option<Observed>,
}

/// The last change of the lease that this process has seen.
struct Observed {
    spec: Value,
    at: Instant,
}

/// What a lease says to this replica.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nobody holds it, or its holder has not renewed it in time.
    Free,
    /// This replica holds it.
    Ours,
    /// Another one does.
    Held { holder: String, address: Option<String> },
}

impl Candidate {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let turn = async {
                let pause = self.turn().await;
                tokio::time::sleep(pause).await;
            };
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                () = turn => {}
            }
        }
        if self.leading_until.is_some() {
            self.step_down("this replica stops");
            if tokio::time::timeout(RELEASE_LIMIT, self.give_back()).await.is_err() {
                tracing::warn!("the lease could not be given back in time; it runs out by itself");
            }
        }
    }

    /// One look at the lease, or one renewal of it. Gives the pause until the next.
    async fn turn(&mut self) -> Duration {
        let started = Instant::now();
        let limit = match self.leading_until {
            Some(until) if until <= started => {
                self.step_down("the lease could not be renewed in time");
                self.options.renew
            }
            Some(until) => self.options.renew.min(until - started),
            None => self.options.renew,
        };
        let outcome = match tokio::time::timeout(limit, self.attempt(started)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Unreachable("none in time".to_owned())),
        };
        match outcome {
            Ok(()) if self.leading_until.is_some() => self.options.renew,
            Ok(()) => jittered(self.options.look),
            Err(failure) => self.failed(&failure),
        }
    }

    fn failed(&mut self, failure: &Failure) -> Duration {
        // What was held may be out of date now: the next turn reads.
        self.held = None;
        if *failure == Failure::Conflict {
            return jittered(RENEW_AGAIN / 20);
        }
        tracing::warn!(lease = %self.options.lease, %failure, "the lease cannot be read or renewed");
        let Some(until) = self.leading_until else { return jittered(self.options.look) };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.step_down("the lease could not be renewed in time");
        }
        left.min(RENEW_AGAIN).min(self.options.renew)
    }

    async fn attempt(&mut self, started: Instant) -> Result<(), Failure> {
        let lease = match self.held.take() {
            Some(lease) => Some(lease),
            None => self.read().await?,
        };
        let Some(lease) = lease else {
            let written = self.write(Method::POST, self.collection(), self.ours(json!({}))).await?;
            self.lead(written, started);
            return Ok(());
        };
        match self.judge(&lease, Instant::now()) {
            Verdict::Free | Verdict::Ours => {
                let written = match self.write(Method::PUT, self.path(), self.ours(lease)).await {
                    // Somebody deleted it: the next turn makes a new one, if it is the first to do so.
                    Err(Failure::NotFound) => return Err(Failure::Conflict),
                    written => written?,
                };
                self.lead(written, started);
            }
            Verdict::Held { holder, address } => {
                if self.leading_until.is_some() {
                    self.step_down("another replica holds the lease");
                }
                self.publish(Leadership::Following { holder, address });
            }
        }
        Ok(())
    }

    /// What the lease says at this moment; remembers when it changed.
    fn judge(&mut self, lease: &Value, now: Instant) -> Verdict {
        let spec = &lease["spec"];
        let unchanged_since = match &self.observed {
            Some(observed) if observed.spec == *spec => observed.at,
            _ => {
                self.observed = Some(Observed { spec: spec.clone(), at: now });
                now
            }
        };
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        if holder == self.options.identity {
            return Verdict::Ours;
        }
        let duration = spec["leaseDurationSeconds"].as_u64().map_or(self.options.duration, Duration::from_secs);
        if holder.is_empty() || now.saturating_duration_since(unchanged_since) >= duration {
            return Verdict::Free;
        }
        let address = lease["metadata"]["annotations"][ADDRESS].as_str().map(str::to_owned);
        Verdict::Held { holder: holder.to_owned(), address }
    }

    fn lead(&mut self, written: Value, started: Instant) {
        self.observed = Some(Observed { spec: written["spec"].clone(), at: Instant::now() });
        self.held = Some(written);
        // Others count the whole duration from when they saw this renewal, which is later than when it was sent.
        self.leading_until = Some(started + self.options.duration * 2 / 3);
        self.publish(Leadership::Leading);
    }

    fn step_down(&mut self, why: &str) {
        self.leading_until = None;
        tracing::warn!(lease = %self.options.lease, why, "this replica no longer leads");
        self.publish(Leadership::Unknown);
    }

    fn publish(&self, leadership: Leadership) {
        let leads = leadership == Leadership::Leading;
        self.leadership.send_if_modified(|current| {
            if *current == leadership {
                return false;
            }
            match &leadership {
                Leadership::Leading => tracing::info!(lease = %self.options.lease, "this replica leads"),
                Leadership::Following { holder, .. } => {
                    let holder = portcullis_runtime::escape::line(holder);
                    tracing::info!(lease = %self.options.lease, %holder, "another replica leads");
                }
                Leadership::Unknown => {}
            }
            *current = leadership;
            true
        });
        self.gauge.add_shared(i64::from(leads) - self.gauge.value());
    }

    /// The lease as this replica would hold it, with what others put beside.
    fn ours(&self, mut lease: Value) -> Value {
        let now = clock::now_micro();
        let before = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        let transitions = lease["spec"]["leaseTransitions"].as_i64().unwrap_or(0);
        let LeaderOptions { identity, duration, namespace, lease: name, .. } = &self.options;
        lease["apiVersion"] = json!("coordination.k8s.io/v1");
        lease["kind"] = json!("Lease");
        lease["metadata"]["namespace"] = json!(namespace);
        lease["metadata"]["name"] = json!(name);
        match &self.options.address {
            Some(address) => lease["metadata"]["annotations"][ADDRESS] = json!(address),
            None => drop(lease["metadata"]["annotations"].as_object_mut().map(|all| all.shift_remove(ADDRESS))),
        }
        if let Some(metadata) = lease["metadata"].as_object_mut() {
            metadata.shift_remove("managedFields");
            if metadata.get("annotations").is_some_and(Value::is_null) {
                metadata.shift_remove("annotations");
            }
        }
        let spec = &mut lease["spec"];
        if before != *identity {
            spec["acquireTime"] = json!(now);
            spec["leaseTransitions"] = json!(transitions.saturating_add(1));
        }
        spec["holderIdentity"] = json!(identity);
        spec["leaseDurationSeconds"] = json!(duration.as_secs().max(1));
        spec["renewTime"] = json!(now);
        lease
    }

    async fn give_back(&mut self) {
        for _ in 0..2 {
            let lease = match self.held.take() {
                Some(lease) => Ok(Some(lease)),
                None => self.read().await,
            };
            let Ok(Some(mut lease)) = lease else { return };
            if lease["spec"]["holderIdentity"] != json!(self.options.identity) {
                return;
            }
            lease["spec"]["holderIdentity"] = json!("");
            lease["spec"]["leaseDurationSeconds"] = json!(1);
            lease["spec"]["renewTime"] = json!(clock::now_micro());
            if self.write(Method::PUT, self.path(), lease).await.is_ok() {
                return;
            }
        }
    }

    async fn read(&self) -> Result<Option<Value>, Failure> {
        match send(&self.client, Method::GET, &self.path(), None, self.options.renew).await {
            Ok(lease) => Ok(Some(lease)),
            Err(Failure::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn write(&self, method: Method, path: String, lease: Value) -> Result<Value, Failure> {
        send(&self.client, method, &path, Some(&lease), self.options.renew).await
    }

    fn collection(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.options.namespace)
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.options.lease)
    }
}

/// Between 80 % and 120 %, so that replicas do not ask at the same time.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * fastrand::f64())
}

#[cfg(test)]
mod tests;
