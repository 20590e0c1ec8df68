//! When to read the files again: on a notification of the file system, and from time to time in any case.

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Changes come in bursts (an editor writes, renames, removes): they are gathered for this long.
const SETTLE: Duration = Duration::from_millis(5);
/// A burst is never gathered for longer than this.
const SETTLE_LIMIT: Duration = Duration::from_millis(100);

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
    events: Receiver<()>,
    wake: Sender<()>,
    /// What is watched, with the identity that it had: a folder that was replaced has to be watched anew.
    watched: BTreeMap<PathBuf, Option<(u64, u64)>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl Watch {
    /// Watches the paths; `-` is passed over. What cannot be watched is told, and the rest is watched.
    pub fn new(paths: &[PathBuf]) -> (Self, Vec<WatchError>) {
        let (wake, events) = channel();
        let notification = wake.clone();
        let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too; only what may have changed something counts.
            if event.as_ref().map_or(true, |event| !event.kind.is_access()) {
                let _ = notification.send(());
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
            let _ = wake.send(());
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
        match self.events.recv_timeout(at_most) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return,
            // Not reached while `wake` lives; waiting is the harmless answer.
            Err(RecvTimeoutError::Disconnected) => return std::thread::sleep(at_most),
        }
        let start = Instant::now();
        while start.elapsed() < SETTLE_LIMIT && self.events.recv_timeout(SETTLE).is_ok() {}
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
