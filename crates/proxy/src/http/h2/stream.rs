//! The tasks of a connection's streams: one for each request, watched by the connection.

use crate::telemetry::connections::PanicPlace;
use crate::worker::Worker;
use futures_util::FutureExt;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How far a response is.
#[derive(Default)]
pub(super) struct Progress {
    /// Since when data waits for the client's window.
    waiting_since: Cell<Option<Instant>>,
}

impl Progress {
    pub(super) fn asked(&self) {
        self.waiting_since.set(None);
    }

    pub(super) fn gave(&self) {
        self.waiting_since.set(Some(Instant::now()));
    }
}

/// The streams of one connection.
pub(super) struct Streams {
    worker: Rc<Worker>,
    tasks: RefCell<Slab<(Rc<Progress>, Option<AbortHandle>)>>,
    /// Of the request that hyper hands over next.
    next: RefCell<Option<Rc<Progress>>>,
    idle_since: Cell<Instant>,
    became_idle: Notify,
}

impl Streams {
    pub(super) fn new(worker: Rc<Worker>) -> Rc<Self> {
        Rc::new(Self {
            worker,
            tasks: RefCell::default(),
            next: RefCell::default(),
            idle_since: Cell::new(Instant::now()),
            became_idle: Notify::new(),
        })
    }

    /// The progress of a request whose task hyper starts next.
    pub(super) fn begin(&self) -> Rc<Progress> {
        let progress = Rc::<Progress>::default();
        self.next.replace(Some(progress.clone()));
        progress
    }

    /// Since when no request is open.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.tasks.borrow().is_empty().then(|| self.idle_since.get())
    }

    /// Waits until the last open request has ended.
    pub(super) async fn idle(&self) {
        self.became_idle.notified().await;
    }

    /// Ends the streams whose clients leave no window, and says how many they were.
    pub(super) fn end_stalled(&self, limit: Duration) -> usize {
        let tasks = self.tasks.borrow();
        let is_stalled =
            |progress: &Progress| progress.waiting_since.get().is_some_and(|since| since.elapsed() >= limit);
        let stalled = tasks.iter().filter(|(_, (progress, _))| is_stalled(progress));
        stalled.filter_map(|(_, (_, task))| task.as_ref()).map(AbortHandle::abort).count()
    }

    /// Ends all of them.
    pub(super) fn end(&self) {
        for (_, (_, task)) in self.tasks.borrow().iter() {
            if let Some(task) = task {
                task.abort();
            }
        }
    }
}

/// Runs what hyper gives it, on this thread.
#[derive(Clone)]
pub(super) struct StreamExecutor(pub(super) Rc<Streams>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        let streams = self.0.clone();
        let progress = streams.next.take().unwrap_or_default();
        let key = streams.tasks.borrow_mut().insert((progress, None));
        let seat = Seat { streams: streams.clone(), key };
        let task = tokio::task::spawn_local(async move {
            let seat = seat;
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                let worker = &seat.streams.worker;
                worker.connections.panicked(worker.shard(), PanicPlace::Request);
            }
        });
        if let Some((_, handle)) = streams.tasks.borrow_mut().get_mut(key) {
            *handle = Some(task.abort_handle());
        }
    }
}

/// A stream's entry, given back however its task ends.
struct Seat {
    streams: Rc<Streams>,
    key: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut tasks = self.streams.tasks.borrow_mut();
        tasks.try_remove(self.key);
        if tasks.is_empty() {
            self.streams.idle_since.set(Instant::now());
            self.streams.became_idle.notify_one();
        }
    }
}
