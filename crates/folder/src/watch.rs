//! When to read the files again: on a notification of the file system, and from time to time in any case.

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Changes come in bursts (an editor writes, renames, removes): they are gathered for this long.
const SETTLE: Duration = Duration::from_millis(5);
/// A burst is never gathered for longer than this.
const SETTLE_LIMIT: Duration = Duration::from_millis(100);
/// A file that is written in place is not read before its writer has closed it, unless that takes longer than this.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// Notifications that may wait. More say nothing new: everything is read anyway.
const PENDING: usize = 4096;

/// The files could not be watched; reading them from time to time still works.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be watched: {source}; its changes are found by reading it every few seconds")]
pub struct WatchError {
    path: PathBuf,
    source: notify::Error,
}

/// Waits for changes of the files under some paths.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    events: Receiver<Event>,
    wake: SyncSender<Event>,
    /// What is watched, with the identity that it had: a folder that was replaced has to be watched anew.
    watched: BTreeMap<PathBuf, Option<(u64, u64)>>,
}

/// What happened to a file.
enum Event {
    /// Its content is being written.
    Written(PathBuf),
    /// Its writer has closed it.
    Closed(PathBuf),
    /// Anything else that may be a change.
    Changed,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl Watch {
    /// Watches the paths; `-` is passed over. What cannot be watched is told, and the rest is watched.
    pub fn new(paths: &[PathBuf]) -> (Self, Vec<WatchError>) {
        let (wake, events) = sync_channel(PENDING);
        let notification = wake.clone();
        let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            for event in Event::from_notification(event) {
                let _ = notification.try_send(event);
            }
        });
        let mut watch = Self { watcher: None, events, wake, watched: BTreeMap::new() };
        match made {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(source) => return (watch, vec![WatchError { path: PathBuf::from("the file system"), source }]),
        }
        let problems = watch.add(paths);
        (watch, problems)
    }

    /// A handle that wakes a waiting [`Watch::wait`] from elsewhere, such as a signal handler.
    pub fn waker(&self) -> impl Fn() + Send + 'static {
        let wake = self.wake.clone();
        move || {
            let _ = wake.try_send(Event::Changed);
        }
    }

    /// Watches what is not watched yet, such as a folder that came back or was replaced.
    pub fn add(&mut self, paths: &[PathBuf]) -> Vec<WatchError> {
        let Some(watcher) = &mut self.watcher else { return Vec::new() };
        let mut problems = Vec::new();
        for path in paths.iter().filter(|path| path.as_os_str() != "-") {
            // The folder of a file is watched, not the file: editors replace files, and a watch follows the old one.
            let (target, mode) = if path.is_dir() {
                (path.as_path(), RecursiveMode::Recursive)
            } else {
                (folder_of(path), RecursiveMode::NonRecursive)
            };
            let identity = identity(target);
            match self.watched.get(target) {
                Some(known) if *known == identity && identity.is_some() => continue,
                // The watch of what is gone is of no use; that it cannot be taken away is no matter.
                Some(_) => drop(watcher.unwatch(target)),
                None => {}
            }
            match watcher.watch(target, mode) {
                Ok(()) => drop(self.watched.insert(target.to_path_buf(), identity)),
                Err(source) => {
                    self.watched.remove(target);
                    problems.push(WatchError { path: target.to_path_buf(), source });
                }
            }
        }
        problems
    }

    /// Waits until something changed, or the time is over, and then until the burst of changes is over.
    pub fn wait(&self, at_most: Duration) {
        let mut written = BTreeSet::new();
        match self.events.recv_timeout(at_most) {
            Ok(event) => event.note(&mut written),
            Err(RecvTimeoutError::Timeout) => return,
            // Not reached while `wake` lives; waiting is the harmless answer.
            Err(RecvTimeoutError::Disconnected) => return std::thread::sleep(at_most),
        }
        let start = Instant::now();
        loop {
            let limit = if written.is_empty() { SETTLE_LIMIT } else { WRITE_LIMIT };
            let left = limit.saturating_sub(start.elapsed());
            let pause = if written.is_empty() { SETTLE } else { left };
            if left.is_zero() {
                return;
            }
            match self.events.recv_timeout(pause.min(left)) {
                Ok(event) => event.note(&mut written),
                Err(_) => return,
            }
        }
    }
}

impl Event {
    fn from_notification(event: notify::Result<notify::Event>) -> Vec<Self> {
        let Ok(event) = event else { return vec![Self::Changed] };
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) => event.paths.into_iter().map(Self::Written).collect(),
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                event.paths.into_iter().map(Self::Closed).collect()
            }
            // Reading a file is an event too; only what may have changed something counts.
            EventKind::Access(_) => Vec::new(),
            _ => vec![Self::Changed],
        }
    }

    fn note(self, written: &mut BTreeSet<PathBuf>) {
        match self {
            Self::Written(path) => drop(written.insert(path)),
            Self::Closed(path) => drop(written.remove(&path)),
            Self::Changed => {}
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
