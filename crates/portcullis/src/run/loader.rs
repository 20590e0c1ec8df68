//! The loader thread: reads the files when they change, compiles, and hands on what became different.
//!
//! Apart from everything that serves: a large folder takes time.

use portcullis_api::ObjectKey;
use portcullis_api::diagnostic::{Diagnostic, Severity};
use portcullis_compile::{self as compile, Compiler, Delta, Finding};
use portcullis_folder::{Folder, Update, Watch};
use portcullis_model::ConfigDelta;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

/// What the loader hands on.
pub(crate) enum Loaded {
    /// A reading that changed something, or the first one.
    Changed(Vec<ConfigDelta>),
    /// A named path cannot be read, and never could.
    Unreadable,
}

/// A handle of the thread.
pub(crate) struct Loader {
    wake: Box<dyn Fn() + Send>,
}

impl Loader {
    /// Starts the thread, which reads at once.
    pub(crate) fn start(
        folder: Folder,
        options: compile::Options,
        poll_interval: Duration,
        file_errors: Arc<AtomicUsize>,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<Loaded>)> {
        let (send, loaded) = mpsc::unbounded_channel();
        let (watch, problems) = Watch::new(folder.paths());
        for problem in problems {
            tracing::warn!(%problem, "files");
        }
        let wake = Box::new(watch.waker());
        let compiler = Compiler::new(compile::Options { now: now(), ..options });
        let (told, findings) = (BTreeSet::new(), BTreeMap::new());
        let state = State { folder, compiler, watch, poll_interval, told, findings, file_errors };
        std::thread::Builder::new().name("loader".to_owned()).spawn(move || state.run(&send))?;
        Ok((Self { wake }, loaded))
    }

    /// Reads the files again now.
    pub(crate) fn wake(&self) {
        (self.wake)();
    }
}

struct State {
    folder: Folder,
    compiler: Compiler,
    watch: Watch,
    poll_interval: Duration,
    /// Diagnostics of the last reading, so that each is told once.
    told: BTreeSet<String>,
    findings: BTreeMap<ObjectKey, Vec<Finding>>,
    /// For the metric.
    file_errors: Arc<AtomicUsize>,
}

impl State {
    fn run(mut self, send: &mpsc::UnboundedSender<Loaded>) {
        let mut first = true;
        let mut next_change_at = None;
        loop {
            let start = Instant::now();
            let update = self.folder.read();
            self.tell_diagnostics(&update);
            if !update.unreadable.is_empty() && send.send(Loaded::Unreadable).is_err() {
                return;
            }
            let due = next_change_at.is_some_and(|at| at <= now());
            if first || due || !update.changes.is_empty() {
                let (deltas, next) = self.compile(update, start);
                next_change_at = next;
                if (first || !deltas.is_empty()) && send.send(Loaded::Changed(deltas)).is_err() {
                    return;
                }
            }
            first = false;
            for problem in self.watch.add(self.folder.paths()) {
                tracing::debug!(%problem, "files");
            }
            self.watch.wait(self.pause(next_change_at));
        }
    }

    fn pause(&self, next_change_at: Option<i64>) -> Duration {
        let until = next_change_at.and_then(|at| u64::try_from(at.saturating_sub(now())).ok());
        until.map_or(self.poll_interval, |seconds| self.poll_interval.min(Duration::from_secs(seconds.max(1))))
    }

    fn compile(&mut self, update: Update, start: Instant) -> (Vec<ConfigDelta>, Option<i64>) {
        let objects = update.changes.len();
        let advanced = self.compiler.advance(now());
        let applied = self.compiler.apply(update.changes);
        let milliseconds = start.elapsed().as_millis() as u64;
        tracing::info!(files = update.files, objects, milliseconds, "files read");
        let next = applied.next_change_at;
        let mut deltas = Vec::new();
        for Delta { config, findings, .. } in [advanced, applied] {
            deltas.extend(config);
            findings.into_iter().for_each(|change| self.tell_findings(change.key, change.findings));
        }
        (deltas, next)
    }

    fn tell_diagnostics(&mut self, update: &Update) {
        let mut now = BTreeSet::new();
        for diagnostic in &update.diagnostics {
            let line = one_line(diagnostic);
            if !self.told.contains(&line) {
                match diagnostic.severity {
                    Severity::Error => tracing::error!(diagnostic = line.as_str(), "file"),
                    Severity::Warning => tracing::warn!(diagnostic = line.as_str(), "file"),
                    Severity::Note => tracing::info!(diagnostic = line.as_str(), "file"),
                }
            }
            now.insert(line);
        }
        if now.is_empty() && !self.told.is_empty() {
            tracing::info!("the files have no problems any more");
        }
        self.told = now;
        let errors = update.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
        self.file_errors.store(errors, Ordering::Relaxed);
    }

    fn tell_findings(&mut self, key: ObjectKey, findings: Vec<Finding>) {
        let known = self.findings.remove(&key).unwrap_or_default();
        for finding in findings.iter().filter(|finding| !known.contains(finding)) {
            let Finding { code, object, field, message, remedy, .. } = finding;
            match finding.severity {
                compile::Severity::Info => tracing::info!(%code, %object, field, message, remedy, "finding"),
                _ => tracing::warn!(%code, %object, field, message, remedy, "finding"),
            }
        }
        if !findings.is_empty() {
            self.findings.insert(key, findings);
        }
    }
}

fn one_line(diagnostic: &Diagnostic) -> String {
    match &diagnostic.remedy {
        Some(remedy) => format!("{diagnostic} ({remedy})"),
        None => diagnostic.to_string(),
    }
}

/// Seconds since 1970-01-01T00:00:00Z.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
