//! Tells findings as Kubernetes Events on the objects that they are about.
//!
//! In flow what the compiler found about objects, and the objects as they change. Out flow Events (`events.k8s.io/v1`), from the replica that
//! leads: of what has lasted for a while, each once, and again after an hour, when the API server has forgotten it. An Event's name follows
//! from what it says, so that no replica tells what another one told. Only what the owner of the object may know becomes an Event, and nothing
//! that a condition says too.

mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::Method;
use portcullis_api::Change;
use portcullis_cluster::{Place, Right};
use portcullis_compile::{Finding, FindingsChange};
use portcullis_runtime::escape;
use portcullis_runtime::metrics::{Counter, Family, Label, MetricError, Registry};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock;
use crate::request::{Failure, send};
use table::{Job, Table};

/// What telling findings asks of the API server.
pub const RIGHTS: &[Right] =
    &[Right { group: "events.k8s.io", resource: "events", verbs: &["create"], place: Place::Namespaces, owned: false }];

/// Between two Events, whatever happens.
const PACE: Duration = Duration::from_millis(200);

/// How long an API server keeps an Event, unless it was told otherwise.
const REPEAT: Duration = Duration::from_secs(3600);

/// After a failure that may pass.
const RETRY: Duration = Duration::from_secs(60);

/// Most bytes of `note` and of `reportingInstance` that an API server takes.
const NOTE_LIMIT: usize = 1024;
const INSTANCE_LIMIT: usize = 128;

/// Room for the mark of a text that was cut.
const CUT_MARK: usize = 32;

/// Settings of the writer.
#[derive(Clone, Debug)]
pub(crate) struct EventOptions {
    /// The name of this replica's pod.
    pub(crate) instance: String,
    /// How long one request may take.
    pub(crate) request_limit: Duration,
    /// Between two Events.
    pub(crate) pace: Duration,
    /// How long something must last to be told.
    pub(crate) settle: Duration,
}

impl EventOptions {
    pub(crate) fn new(instance: &str, request_limit: Duration) -> Self {
        Self { instance: instance.to_owned(), request_limit, pace: PACE, settle: table::SETTLE }
    }
}

/// Tells findings. Cloning it shares the table.
#[derive(Clone)]
pub(crate) struct EventWriter {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    wake: Notify,
    outcomes: Family<Counter, 1>,
}

impl EventWriter {
    /// Starts to tell, on the runtime that this is called in.
    ///
    /// # Errors
    /// When the registry has this metric already.
    pub(crate) fn start(client: kube::Client, options: EventOptions, registry: &Registry) -> Result<Self, MetricError> {
        let outcomes = registry.counters(
            "portcullis_events_total",
            "Findings that were to be told as Events, by what came of it.",
            [Label::closed("outcome")],
            Outcome::LABELS.len() + 1,
        )?;
        let table = Mutex::new(Table::new(options.settle));
        let shared = Arc::new(Shared { table, wake: Notify::new(), outcomes });
        tokio::spawn(drive(shared.clone(), client, options));
        Ok(Self { shared })
    }

    /// Takes in how objects changed, and then what was found about them.
    pub(crate) fn update(&self, changes: &[Change], findings: Vec<FindingsChange>) {
        let now = Instant::now();
        let mut table = self.shared.table();
        changes.iter().for_each(|change| table.object(change, now));
        let left_out: usize = findings.into_iter().map(|change| table.findings(change, now)).sum();
        drop(table);
        if left_out > 0 {
            self.shared.outcomes.with(["left_out"]).add_shared(left_out as u64);
        }
        self.shared.wake.notify_one();
    }

    /// Begins or ends to tell.
    pub(crate) fn lead(&self, leading: bool) {
        self.shared.table().lead(leading);
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of an Event.
#[derive(Debug)]
enum Outcome {
    Told,
    /// The API server still has it.
    Known,
    Refused(Failure),
    Failed(Failure),
}

impl Outcome {
    const LABELS: [&'static str; 4] = ["told", "known", "refused", "failed"];

    fn of(answer: Result<Value, Failure>) -> Self {
        match answer {
            Ok(_) => Self::Told,
            Err(Failure::Conflict) => Self::Known,
            Err(failure @ (Failure::Refused { .. } | Failure::NotFound)) => Self::Refused(failure),
            Err(failure) => Self::Failed(failure),
        }
    }

    fn label(&self) -> &'static str {
        let index = match self {
            Self::Told => 0,
            Self::Known => 1,
            Self::Refused(_) => 2,
            Self::Failed(_) => 3,
        };
        Self::LABELS[index]
    }
}

/// Tells what is due, one after another, for ever.
async fn drive(shared: Arc<Shared>, client: kube::Client, options: EventOptions) {
    let mut was_refused = false;
    loop {
        let (job, due) = {
            let mut table = shared.table();
            (table.next(Instant::now()), table.due())
        };
        let Some(job) = job else {
            let alarm = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shared.wake.notified() => {}
                () = alarm => {}
            }
            continue;
        };
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", job.finding.object.namespace());
        let event = event(&job, &options.instance);
        let answer = send(&client, Method::POST, &path, Some(&event), options.request_limit).await;
        let outcome = Outcome::of(answer);
        shared.outcomes.with([outcome.label()]).add_shared(1);
        let Finding { code, object, field, message, remedy, .. } = &*job.finding;
        let pause = match outcome {
            Outcome::Told => {
                tracing::info!(%code, %object, field, message, remedy, "finding");
                REPEAT
            }
            Outcome::Known => REPEAT,
            Outcome::Refused(failure) => {
                if !std::mem::replace(&mut was_refused, true) {
                    tracing::warn!(%object, %failure, "an Event was refused; others are not told of in the log");
                }
                REPEAT
            }
            Outcome::Failed(failure) => {
                tracing::debug!(%object, %failure, "an Event could not be written");
                RETRY
            }
        };
        shared.table().done(&job, Instant::now() + pause);
        tokio::time::sleep(options.pace).await;
    }
}

/// The Event. Objects are named as `kubectl describe` and `kubectl events --for` look for them.
fn event(job: &Job, instance: &str) -> Value {
    let finding = &*job.finding;
    let object = &finding.object;
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": name(job), "namespace": object.namespace() },
        "eventTime": clock::now_micro(),
        "reportingController": "portcullis.dev/gateway-controller",
        "reportingInstance": cut(instance, INSTANCE_LIMIT),
        "action": "Compile",
        "reason": finding.code.as_str(),
        "type": "Warning",
        "note": note(finding),
        "regarding": {
            "apiVersion": &*job.api_version,
            "kind": object.kind(),
            "namespace": object.namespace(),
            "name": object.name(),
            "uid": &*job.uid,
        },
    })
}

/// The same for the same words about the same object.
fn name(job: &Job) -> String {
    let finding = &*job.finding;
    let parts = [&*job.uid, finding.code.as_str(), &finding.field, &finding.message];
    let hash = digest(&SHA256, parts.join("\0").as_bytes());
    let hex: String = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("portcullis-{hex}")
}

fn note(finding: &Finding) -> String {
    let Finding { field, message, remedy, .. } = finding;
    let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
    let remedy = if remedy.is_empty() { String::new() } else { format!("; {remedy}") };
    let text = format!("{field}{message}{remedy}");
    // Foreign text in it is escaped already; what is not, and what is too long, is not let through either.
    let mut line = Vec::new();
    escape::line_into(&mut line, text.as_bytes(), NOTE_LIMIT - CUT_MARK);
    cut(&String::from_utf8_lossy(&line), NOTE_LIMIT).to_owned()
}

fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests;
