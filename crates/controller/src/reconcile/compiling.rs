//! The compiler on a thread of its own, so that no change waits for a long compilation of another to be read, and no stream for either.
//!
//! In flow changes and what the API server serves; out flows what they came to. Whatever waits is compiled at once, and nothing is compiled
//! before everything has been listed.

use std::time::{Duration, Instant};

use portcullis_api::Change;
use portcullis_compile::{Compiler, Delta, Options, Served};
use tokio::sync::mpsc;

use crate::clock;

/// Batches that wait for the compiler, and results that wait for the loop. Beyond that nothing more is read of the cluster.
const WAITING: usize = 64;

/// What the compiler is told.
#[derive(Debug)]
pub(super) enum Work {
    /// Objects changed; read at this time.
    Changes(Vec<Change>, Instant),
    /// This is what the API server serves.
    Served(Served),
    /// Every kind has been listed.
    Listed,
    /// What was wanted with this number has been read.
    WantedRead(u64),
    /// Time alone may have changed something.
    Advance,
}

/// What some work came to.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// The changes, in their order.
    pub(super) changes: Vec<Change>,
    /// When the first of them was read.
    pub(super) since: Option<Instant>,
    /// What was wanted with this number is in.
    pub(super) wanted_read: Option<u64>,
    /// How long it took.
    pub(super) took: Duration,
    /// What they came to.
    pub(super) delta: Delta,
}

/// The running thread; it ends when the sender is dropped.
#[derive(Debug)]
pub(super) struct Compiling {
    pub(super) work: mpsc::Sender<Work>,
    pub(super) results: mpsc::Receiver<Compiled>,
}

impl Compiling {
    /// Starts the thread.
    pub(super) fn start(options: Options) -> std::io::Result<Self> {
        let (work, waiting) = mpsc::channel(WAITING);
        let (sender, results) = mpsc::channel(WAITING);
        std::thread::Builder::new().name("compile".to_owned()).spawn(move || run(options, waiting, sender))?;
        Ok(Self { work, results })
    }
}

fn run(options: Options, mut work: mpsc::Receiver<Work>, results: mpsc::Sender<Compiled>) {
    let mut compiler = Compiler::new(Options { now: clock::unix(), ..options });
    let mut batch = Batch::default();
    while let Some(first) = work.blocking_recv() {
        batch.take(first);
        while let Ok(next) = work.try_recv() {
            batch.take(next);
        }
        if !batch.listed {
            continue;
        }
        let compiled = batch.compile(&mut compiler);
        if results.blocking_send(compiled).is_err() {
            return;
        }
    }
}

/// Work that came together.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    since: Option<Instant>,
    served: Option<Served>,
    advance: bool,
    wanted_read: Option<u64>,
    /// Stays.
    listed: bool,
}

impl Batch {
    fn take(&mut self, work: Work) {
        match work {
            Work::Changes(changes, since) => {
                self.changes.extend(changes);
                self.since = self.since.or(Some(since));
            }
            Work::Served(served) => self.served = Some(served),
            Work::Listed => self.listed = true,
            Work::WantedRead(number) => self.wanted_read = self.wanted_read.max(Some(number)),
            Work::Advance => self.advance = true,
        }
    }

    fn compile(&mut self, compiler: &mut Compiler) -> Compiled {
        let started = Instant::now();
        let mut delta = Delta::default();
        if let Some(served) = self.served.take() {
            join(&mut delta, compiler.serve(served));
        }
        if std::mem::take(&mut self.advance) {
            join(&mut delta, compiler.advance(clock::unix()));
        }
        let changes = std::mem::take(&mut self.changes);
        join(&mut delta, compiler.apply(changes.clone()));
        let (since, wanted_read) = (self.since.take(), self.wanted_read.take());
        Compiled { changes, since, wanted_read, took: started.elapsed(), delta }
    }
}

impl Compiled {
    /// Puts a later result behind this one.
    pub(super) fn join(&mut self, later: Self) {
        self.changes.extend(later.changes);
        self.since = self.since.or(later.since);
        self.took += later.took;
        join(&mut self.delta, later.delta);
    }
}

/// Puts a later delta behind an earlier one. Where both are about the same thing the later one is taken last.
fn join(delta: &mut Delta, later: Delta) {
    delta.config.extend(later.config);
    delta.status.extend(later.status);
    delta.findings.extend(later.findings);
    delta.infrastructure.extend(later.infrastructure);
    delta.wanted = later.wanted.or(delta.wanted.take());
    delta.next_change_at = later.next_change_at;
}
