//! Writes statuses.
//!
//! In flow objects as the watch tells them, and what the status of each should say. Out flow writes to the API server: only while this
//! replica leads, only when something of ours is missing or changed, one at a time for each object, the latest word wins. What others wrote
//! stays. The state of all this is a table with an entry for each object, so that nothing grows with the number of changes.

mod merge;
mod seen;
mod table;
mod write;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use portcullis_api::{Object, ObjectKey};
use portcullis_compile::ObjectStatus;
use portcullis_runtime::metrics::{Buckets, Counter, Family, Histogram, Kind, Label, MetricError, Registry, Shard};
use tokio::sync::Notify;
use tokio::time::Instant;

use table::{Job, Table};
use write::{Outcome, Writing};

pub(crate) use write::REQUEST_LIMIT;

/// How many writes are open at a time.
const CONCURRENT_WRITES: usize = 16;

/// Settings of the writer.
#[derive(Clone, Debug)]
pub(crate) struct StatusOptions {
    /// Which entries are ours.
    pub(crate) controller_name: Arc<str>,
    /// How long one request may take.
    pub(crate) request_limit: Duration,
}

/// Writes statuses. Cloning it shares the table.
#[derive(Clone)]
pub(crate) struct StatusWriter {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    wake: Notify,
    /// Objects that wait for a write or are being written.
    open: AtomicUsize,
}

/// What is new about one object.
#[derive(Debug)]
pub(crate) enum News {
    /// The object is new, or changed.
    Seen(Object),
    /// The object is gone.
    Gone(ObjectKey),
    /// This is what its status should say of us; nothing if we have nothing to say.
    Desired(ObjectKey, Option<ObjectStatus>),
}

impl StatusWriter {
    /// Starts to write, on the runtime that this is called in. `shard` is for the measures of this part.
    ///
    /// # Errors
    /// When the registry has these metrics already.
    pub(crate) fn start(
        client: kube::Client,
        options: StatusOptions,
        registry: &Registry,
        shard: Option<Shard>,
    ) -> Result<Self, MetricError> {
        let shared = Arc::new(Shared { table: Mutex::default(), wake: Notify::new(), open: AtomicUsize::new(0) });
        let metrics = Metrics::register(registry, shard, &shared)?;
        let writer = Self { shared: shared.clone() };
        tokio::spawn(drive(shared, Writing::new(client, options), metrics));
        Ok(writer)
    }

    /// Takes news in, all at once: what is about the same change should come together.
    pub(crate) fn update(&self, news: impl IntoIterator<Item = News>) {
        let now = Instant::now();
        let mut table = self.shared.table();
        for news in news {
            match news {
                News::Seen(object) => table.seen(&object, now),
                News::Gone(key) => table.gone(&key),
                News::Desired(key, status) => table.desired(key, status, now),
            }
        }
        drop(table);
        self.shared.wake.notify_one();
    }

    /// Begins or ends to write. When it begins every object is looked at.
    pub(crate) fn lead(&self, leading: bool) {
        self.shared.table().lead(leading);
        self.shared.wake.notify_one();
    }

    /// Whether nothing waits and nothing is being written.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.table().open() == 0
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what is ready, for ever.
async fn drive(shared: Arc<Shared>, writing: Writing, metrics: Metrics) {
    let mut open = FuturesUnordered::new();
    loop {
        let now = Instant::now();
        let due = {
            let mut table = shared.table();
            if !table.is_leading() {
                // What is under way is given up: its precondition protects whoever leads now.
                open = FuturesUnordered::new();
            }
            while open.len() < CONCURRENT_WRITES
                && let Some(job) = table.next(now)
            {
                open.push(run(&writing, job));
            }
            shared.open.store(table.open(), Ordering::Relaxed);
            table.due()
        };
        let alarm = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.wake.notified() => {}
            () = alarm => {}
            Some((job, outcome, took)) = open.next() => {
                metrics.count(&outcome, took);
                shared.table().done(job, outcome, Instant::now());
            }
        }
    }
}

async fn run(writing: &Writing, job: Job) -> (Job, Outcome, Duration) {
    let started = Instant::now();
    let outcome = writing.run(&job).await;
    (job, outcome, started.elapsed())
}

struct Metrics {
    writes: Family<Counter, 1>,
    durations: Histogram,
    shard: Option<Shard>,
}

impl Metrics {
    fn register(registry: &Registry, shard: Option<Shard>, shared: &Arc<Shared>) -> Result<Self, MetricError> {
        let queue = Arc::downgrade(shared);
        registry.collect(
            "portcullis_status_queue_objects",
            "Objects whose status waits to be looked at or is being written.",
            Kind::Gauge,
            move |samples| {
                let open = queue.upgrade().map_or(0, |shared| shared.open.load(Ordering::Relaxed));
                samples.add(&[], open as f64);
            },
        )?;
        Ok(Self {
            writes: registry.counters(
                "portcullis_status_writes_total",
                "Statuses that were looked at, by what came of it.",
                [Label::closed("outcome")],
                Outcome::LABELS.len(),
            )?,
            durations: registry.histogram(
                "portcullis_status_write_duration_seconds",
                "How long it took to write one status, retries after conflicts included.",
                Buckets::LATENCY,
            )?,
            shard,
        })
    }

    fn count(&self, outcome: &Outcome, took: Duration) {
        self.writes.with([outcome.label()]).add_shared(1);
        if let (Some(shard), Outcome::Written(_)) = (&self.shard, outcome) {
            self.durations.observe(shard, took);
        }
    }
}

#[cfg(test)]
mod tests;
