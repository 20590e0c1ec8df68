//! Drain: from serving, over "finish what you have", to "stop now".
//!
//! In flow one decision to begin (a signal, `/drain`, a deleted Gateway) and the guards of what is open. Out flow the
//! wake-ups of everyone who waits, and a report of what was left when the deadline passed.
//!
//! A [`Drain`] belongs to whoever decides. Each worker takes one [`DrainWatch`] of its own with [`Drain::watch`] and
//! clones it for its connections: clones share counters and waiters with their worker only, so that opening and closing
//! connections never touches another worker's cache lines. A [`Drain::child`] drains alone (one Gateway) or with its parent
//! (the process), and what it has open counts for both.
//!
//! ```
//! use std::time::Duration;
//! use portcullis_runtime::drain::{Drain, Kind};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let drain = Drain::new();
//! let watch = drain.watch();
//! let guard = watch.guard(Kind::Connection);
//!
//! drain.begin(Duration::from_secs(25));
//! watch.draining().await;
//! drop(guard);
//! assert!(drain.finished().await.is_clean());
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long [`Drain::finished`] waits for guards to be dropped once the drain was forced.
const FORCED_GRACE: Duration = Duration::from_secs(1);

/// What is left of a serving part's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// New work is taken.
    Running,
    /// No new work; what is open may finish until the deadline.
    Draining {
        /// When the drain is forced.
        deadline: Instant,
    },
    /// What is open is cut off now.
    Forced,
}

/// What a guard stands for; reported apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An accepted connection.
    Connection,
    /// A request and its response that are not complete, or a stream of HTTP/2.
    Stream,
    /// A connection that became a tunnel: WebSocket, other upgrades, TLS passthrough, TCP.
    Tunnel,
}

/// How much is open, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Open connections.
    pub connections: usize,
    /// Open requests.
    pub streams: usize,
    /// Open tunnels.
    pub tunnels: usize,
}

impl Open {
    /// True when nothing is open.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections, {} streams, {} tunnels", self.connections, self.streams, self.tunnels)
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// What was open when the drain was forced; empty when all ended in time.
    pub cut: Open,
    /// What had not let go a second after that.
    pub stuck: Open,
}

impl DrainReport {
    /// True when everything ended by itself before the deadline.
    pub fn is_clean(&self) -> bool {
        self.cut.is_empty()
    }
}

/// The right to begin a drain. Cloning it shares that right.
#[derive(Clone, Debug)]
pub struct Drain {
    shared: Arc<Shared>,
}

impl Drain {
    /// A drain that has not begun.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared::new(None)) }
    }

    /// A drain of a part: begins and is forced with this one at the latest.
    pub fn child(&self) -> Self {
        let child = Arc::new(Shared::new(Some(self.shared.clone())));
        let mut members = self.shared.members();
        members.children.retain(|known| known.strong_count() > 0);
        members.children.push(Arc::downgrade(&child));
        // Read under the lock that `advance` holds: what began before is inherited here, what begins later is told to the child.
        let (phase, deadline) = (self.shared.phase_number(), members.deadline);
        drop(members);
        if phase >= DRAINING {
            child.advance(phase, deadline);
        }
        Self { shared: child }
    }

    /// A view for one worker, with counters of its own. Clone that for the worker's connections.
    pub fn watch(&self) -> DrainWatch {
        let seat = Arc::new(Seat { drain: self.shared.clone(), open: Default::default(), changed: Notify::new() });
        let mut members = self.shared.members();
        members.seats.retain(|known| known.strong_count() > 0);
        members.seats.push(Arc::downgrade(&seat));
        drop(members);
        DrainWatch { seat }
    }

    /// Begins: what is open may finish within `grace`. Begun again, the earlier deadline holds.
    pub fn begin(&self, grace: Duration) {
        let now = Instant::now();
        // A year from now when the sum does not fit; nobody waits longer.
        let deadline = now.checked_add(grace).unwrap_or_else(|| now + Duration::from_secs(31_536_000));
        self.shared.advance(DRAINING, Some(deadline));
    }

    /// Cuts off what is open. Begins the drain if that had not happened.
    pub fn force(&self) {
        self.shared.advance(FORCED, Some(Instant::now()));
    }

    /// Where the drain stands.
    pub fn phase(&self) -> Phase {
        self.shared.phase()
    }

    /// What is open now, children included.
    pub fn open(&self) -> Open {
        self.shared.open()
    }

    /// Waits for the drain to begin and then to end: when nothing is open, or when the deadline has passed, which forces it.
    /// Returns at once what is left a second after the force.
    pub async fn finished(&self) -> DrainReport {
        self.shared.wait(|| self.shared.phase_number() >= DRAINING).await;
        loop {
            let Some(deadline) = self.shared.members().deadline else { break };
            let ended = self.shared.wait(|| {
                let deadline_moved = self.shared.members().deadline != Some(deadline);
                self.shared.phase_number() == FORCED || deadline_moved || self.shared.open().is_empty()
            });
            if until(deadline, ended).await.is_none() || self.shared.phase_number() == FORCED {
                break;
            }
            if self.shared.open().is_empty() {
                return DrainReport { cut: Open::default(), stuck: Open::default() };
            }
        }
        let cut = self.shared.open();
        self.force();
        let _ = until(Instant::now() + FORCED_GRACE, self.shared.wait(|| self.shared.open().is_empty())).await;
        DrainReport { cut, stuck: self.shared.open() }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

/// One worker's view of a drain: cheap to clone, `Send`, and usable from any runtime.
#[derive(Clone, Debug)]
pub struct DrainWatch {
    seat: Arc<Seat>,
}

impl DrainWatch {
    /// Where the drain stands.
    pub fn phase(&self) -> Phase {
        self.seat.drain.phase()
    }

    /// True once the drain has begun: one load of a line that is hardly ever written.
    pub fn is_draining(&self) -> bool {
        self.seat.drain.phase_number() >= DRAINING
    }

    /// True once the drain was forced.
    pub fn is_forced(&self) -> bool {
        self.seat.drain.phase_number() == FORCED
    }

    /// Waits until the drain has begun; at once if it has.
    pub async fn draining(&self) {
        self.reached(DRAINING).await;
    }

    /// Waits until the drain was forced; at once if it was.
    pub async fn forced(&self) {
        self.reached(FORCED).await;
    }

    /// Counts something as open until the guard is dropped.
    pub fn guard(&self, kind: Kind) -> DrainGuard {
        self.seat.open[kind as usize].fetch_add(1, Ordering::SeqCst);
        DrainGuard { seat: self.seat.clone(), kind }
    }

    async fn reached(&self, phase: u8) {
        while self.seat.drain.phase_number() < phase {
            let mut changed = pin!(self.seat.changed.notified());
            // Registered before the second look, so that no change falls in between.
            changed.as_mut().enable();
            if self.seat.drain.phase_number() >= phase {
                return;
            }
            changed.await;
        }
    }
}

/// Something open. Dropping it says that it has ended.
#[derive(Debug)]
pub struct DrainGuard {
    seat: Arc<Seat>,
    kind: Kind,
}

impl DrainGuard {
    /// The same thing under another kind: a connection that becomes a tunnel.
    pub fn become_kind(&mut self, kind: Kind) {
        self.seat.open[kind as usize].fetch_add(1, Ordering::SeqCst);
        self.seat.open[self.kind as usize].fetch_sub(1, Ordering::SeqCst);
        self.kind = kind;
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        // SeqCst on both sides: either this sees the drain begun and tells, or the drain's first count sees this gone.
        self.seat.open[self.kind as usize].fetch_sub(1, Ordering::SeqCst);
        let mut drain = Some(&self.seat.drain);
        while let Some(shared) = drain {
            if shared.phase_number() >= DRAINING {
                shared.changed.notify_waiters();
            }
            drain = shared.parent.as_ref();
        }
    }
}

const RUNNING: u8 = 0;
const DRAINING: u8 = 1;
const FORCED: u8 = 2;

/// One worker's counters and waiters, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Seat {
    open: [AtomicUsize; 3],
    changed: Notify,
    drain: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    phase: AtomicU8,
    changed: Notify,
    members: Mutex<Members>,
    parent: Option<Arc<Shared>>,
}

#[derive(Debug, Default)]
struct Members {
    deadline: Option<Instant>,
    seats: Vec<Weak<Seat>>,
    children: Vec<Weak<Shared>>,
}

impl Shared {
    fn new(parent: Option<Arc<Self>>) -> Self {
        Self { phase: AtomicU8::new(RUNNING), changed: Notify::new(), members: Mutex::default(), parent }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase_number(&self) -> u8 {
        self.phase.load(Ordering::SeqCst)
    }

    fn phase(&self) -> Phase {
        let members = self.members();
        match (self.phase_number(), members.deadline) {
            (DRAINING, Some(deadline)) => Phase::Draining { deadline },
            (FORCED, _) => Phase::Forced,
            _ => Phase::Running,
        }
    }

    fn advance(&self, phase: u8, deadline: Option<Instant>) {
        let mut members = self.members();
        members.deadline = match (members.deadline, deadline) {
            (Some(known), Some(new)) => Some(known.min(new)),
            (known, new) => known.or(new),
        };
        self.phase.fetch_max(phase, Ordering::SeqCst);
        let deadline = members.deadline;
        let seats: Vec<_> = members.seats.iter().filter_map(Weak::upgrade).collect();
        let children: Vec<_> = members.children.iter().filter_map(Weak::upgrade).collect();
        drop(members);
        self.changed.notify_waiters();
        for seat in seats {
            seat.changed.notify_waiters();
        }
        for child in children {
            child.advance(phase, deadline);
        }
    }

    fn open(&self) -> Open {
        let members = self.members();
        let seats: Vec<_> = members.seats.iter().filter_map(Weak::upgrade).collect();
        let children: Vec<_> = members.children.iter().filter_map(Weak::upgrade).collect();
        drop(members);
        let mut sum = Open::default();
        for seat in seats {
            let count = |kind: Kind| seat.open[kind as usize].load(Ordering::SeqCst);
            sum.connections += count(Kind::Connection);
            sum.streams += count(Kind::Stream);
            sum.tunnels += count(Kind::Tunnel);
        }
        for child in children {
            let open = child.open();
            sum.connections += open.connections;
            sum.streams += open.streams;
            sum.tunnels += open.tunnels;
        }
        sum
    }

    async fn wait(&self, done: impl Fn() -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if done() {
                return;
            }
            changed.await;
        }
    }
}

/// The future's value, or `None` when the deadline passed first.
async fn until<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(deadline.into(), future).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn phases_only_go_forward() {
        let drain = Drain::new();
        let watch = drain.watch();
        assert_eq!(drain.phase(), Phase::Running);
        drain.begin(LONG);
        assert!(matches!(watch.phase(), Phase::Draining { .. }));
        assert!(watch.is_draining() && !watch.is_forced());
        drain.force();
        drain.begin(LONG);
        assert_eq!(drain.phase(), Phase::Forced);
        assert!(watch.is_forced());
    }

    #[test]
    fn the_earlier_deadline_holds() {
        let drain = Drain::new();
        drain.begin(LONG);
        let Phase::Draining { deadline: first } = drain.phase() else { panic!("draining") };
        drain.begin(LONG * 2);
        assert_eq!(drain.phase(), Phase::Draining { deadline: first });
        drain.begin(Duration::from_secs(10));
        assert!(matches!(drain.phase(), Phase::Draining { deadline } if deadline < first));
        drain.begin(Duration::MAX);
    }

    #[test]
    fn nothing_open_ends_clean_at_once() {
        run(async {
            let drain = Drain::new();
            let _watch = drain.watch();
            drain.begin(LONG);
            let report = drain.finished().await;
            assert!(report.is_clean() && report.stuck.is_empty());
        });
    }

    #[test]
    fn guards_hold_the_drain_until_the_last_is_dropped_across_threads() {
        let drain = Drain::new();
        let (ready, started) = std::sync::mpsc::channel();
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let (watch, ready) = (drain.watch(), ready.clone());
                std::thread::spawn(move || {
                    run(async {
                        let guards = [watch.guard(Kind::Connection), watch.guard(Kind::Stream)];
                        ready.send(()).unwrap();
                        watch.draining().await;
                        drop(guards);
                    });
                })
            })
            .collect();
        for _ in 0..4 {
            started.recv().unwrap();
        }
        assert_eq!(drain.open(), Open { connections: 4, streams: 4, tunnels: 0 });
        drain.begin(LONG);
        assert!(run(drain.finished()).is_clean());
        for worker in workers {
            worker.join().unwrap();
        }
    }

    #[test]
    fn the_deadline_forces_and_reports_what_was_cut() {
        run(async {
            let drain = Drain::new();
            let watch = drain.watch();
            let mut tunnel = watch.guard(Kind::Connection);
            tunnel.become_kind(Kind::Tunnel);
            let obedient = watch.guard(Kind::Connection);
            let waiter = watch.clone();
            let task = tokio::spawn(async move {
                waiter.forced().await;
                drop(obedient);
            });
            drain.begin(Duration::from_millis(10));
            let report = drain.finished().await;
            assert_eq!(report.cut, Open { connections: 1, streams: 0, tunnels: 1 });
            assert_eq!(report.stuck, Open { connections: 0, streams: 0, tunnels: 1 });
            assert!(!report.is_clean());
            task.await.unwrap();
            drop(tunnel);
            assert!(drain.open().is_empty());
        });
    }

    #[test]
    fn a_forced_drain_does_not_wait_for_the_deadline() {
        run(async {
            let drain = Drain::new();
            let guard = drain.watch().guard(Kind::Connection);
            drain.begin(LONG);
            let second = drain.clone();
            let task = tokio::spawn(async move { second.force() });
            let report = drain.finished().await;
            assert_eq!(report.cut.connections, 1);
            task.await.unwrap();
            drop(guard);
        });
    }

    #[test]
    fn a_nearer_deadline_wakes_who_waits_for_the_further_one() {
        run(async {
            let drain = Drain::new();
            let _guard = drain.watch().guard(Kind::Stream);
            drain.begin(LONG);
            let second = drain.clone();
            tokio::spawn(async move { second.begin(Duration::from_millis(1)) });
            assert_eq!(drain.finished().await.cut.streams, 1);
        });
    }

    #[test]
    fn a_child_drains_alone_or_with_its_parent() {
        run(async {
            let process = Drain::new();
            let (one, two) = (process.child(), process.child());
            let (watch_one, watch_two) = (one.watch(), two.watch());
            let guard = watch_two.guard(Kind::Connection);
            one.begin(LONG);
            assert!(watch_one.is_draining() && !watch_two.is_draining());
            assert!(one.finished().await.is_clean());
            assert_eq!(process.open().connections, 1);

            process.begin(LONG);
            watch_two.draining().await;
            let waiting = process.clone();
            let task = tokio::spawn(async move { waiting.finished().await });
            tokio::task::yield_now().await;
            drop(guard);
            assert!(task.await.unwrap().is_clean());
            assert!(process.child().watch().is_draining());
        });
    }

    #[test]
    fn what_began_before_is_seen_by_late_watchers() {
        run(async {
            let drain = Drain::new();
            drain.force();
            let watch = drain.watch();
            watch.draining().await;
            watch.forced().await;
        });
    }
}
