//! What is known and wanted of every object with a status, and whose turn it is. No I/O.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use portcullis_api::{EXPERIMENTAL_GATEWAY_GROUP, GATEWAY_GROUP, Object, ObjectKey};
use portcullis_compile::ObjectStatus;
use tokio::time::Instant;

use super::seen::Seen;
use super::write::Outcome;
use crate::request::Failure;

/// Pauses after failures: the first, and the longest.
const BUSY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
const REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Somebody who writes over what we wrote is answered at once, then more and more slowly.
const REWRITE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// After that long without one, a rewrite counts as the first again.
const REWRITES_FORGOTTEN: Duration = Duration::from_secs(300);

/// A status whatever the order of its lists, as a hash: the text would be kept for each object.
pub(crate) type Settled = [u8; 32];

/// Every object with a status.
#[derive(Default)]
pub(crate) struct Table {
    items: BTreeMap<ObjectKey, Item>,
    ready: VecDeque<ObjectKey>,
    later: BTreeSet<(Instant, ObjectKey)>,
    writing: usize,
    leading: bool,
    /// Counts terms of leadership: what was begun in another one is not ours any more.
    term: u64,
}

#[derive(Default)]
struct Item {
    /// As it was last seen, or last answered to a write.
    seen: Option<Seen>,
    /// As JSON text.
    desired: Option<Box<str>>,
    turn: Turn,
    failures: u32,
    /// What the API server made of what is desired now, once it has been written.
    settled: Option<Settled>,
    rewrites: u32,
    rewritten: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    None,
    Ready,
    At(Instant),
    Writing {
        again: bool,
    },
}

/// A look at one object.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The object.
    pub(crate) key: ObjectKey,
    /// As it was last seen.
    pub(crate) seen: Seen,
    /// What its status should say of us, as JSON text.
    pub(crate) desired: Option<Box<str>>,
    /// The status that needs no writing although it differs from what is desired: the API server makes that of it.
    pub(crate) settled: Option<Settled>,
    term: u64,
}

/// Whether objects of this key have a status that we may have written.
fn has_status(key: &ObjectKey) -> bool {
    match key.group() {
        GATEWAY_GROUP => key.kind() != "ReferenceGrant",
        EXPERIMENTAL_GATEWAY_GROUP => true,
        _ => false,
    }
}

impl Table {
    /// An object is new or changed.
    pub(crate) fn seen(&mut self, object: &Object, now: Instant) {
        let key = object.key();
        if !has_status(&key) {
            return;
        }
        let told = Seen::told(object);
        let item = self.items.entry(key.clone()).or_default();
        if item.seen.as_ref().is_some_and(|seen| !told.is_newer_than(seen)) {
            return;
        }
        let same_object = item.seen.as_ref().is_some_and(|seen| seen.uid == told.uid);
        item.seen = Some(told);
        if !same_object {
            item.settled = None;
        }
        let pause = if item.settled.is_some() { item.rewrite_pause(now) } else { Duration::ZERO };
        self.schedule(&key, pause, now);
    }

    /// An object is gone.
    pub(crate) fn gone(&mut self, key: &ObjectKey) {
        let Some(item) = self.items.get_mut(key) else { return };
        if matches!(item.turn, Turn::Writing { .. }) {
            // The write in flight reports to an empty entry.
            *item = Item { turn: item.turn, ..Item::default() };
            return;
        }
        if let Turn::At(at) = item.turn {
            self.later.remove(&(at, key.clone()));
        }
        self.items.remove(key);
    }

    /// What a status should say.
    pub(crate) fn desired(&mut self, key: ObjectKey, status: Option<ObjectStatus>, now: Instant) {
        if status.is_none() && !self.items.contains_key(&key) {
            return;
        }
        // Every type of a status is strings, numbers and maps with text keys, so that this cannot fail.
        let status = status.and_then(|status| serde_json::to_string(&status).ok()).map(String::into_boxed_str);
        let item = self.items.entry(key.clone()).or_default();
        if item.desired == status {
            return;
        }
        item.desired = status;
        item.settled = None;
        item.rewrites = 0;
        item.failures = 0;
        self.schedule(&key, Duration::ZERO, now);
    }

    /// Begins or ends to give out jobs.
    pub(crate) fn lead(&mut self, leading: bool) {
        if self.leading == leading {
            return;
        }
        self.leading = leading;
        self.ready.clear();
        self.later.clear();
        for item in self.items.values_mut() {
            item.turn = Turn::None;
            item.failures = 0;
        }
        self.writing = 0;
        self.term += 1;
        if leading {
            let now = Instant::now();
            for key in self.items.keys().cloned().collect::<Vec<_>>() {
                self.schedule(&key, Duration::ZERO, now);
            }
        }
    }

    pub(crate) fn is_leading(&self) -> bool {
        self.leading
    }

    /// How many objects wait or are being written.
    pub(crate) fn open(&self) -> usize {
        self.ready.len() + self.later.len() + self.writing
    }

    /// When the next that waits has its turn.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Whose turn it is.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Job> {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.later.pop_first() {
                if let Some(item) = self.items.get_mut(&key) {
                    item.turn = Turn::Ready;
                }
                self.ready.push_back(key);
            }
        }
        while let Some(key) = self.ready.pop_front() {
            let Some(item) = self.items.get_mut(&key) else { continue };
            if item.turn != Turn::Ready {
                continue;
            }
            let Some(seen) = item.seen.clone() else {
                item.turn = Turn::None;
                continue;
            };
            item.turn = Turn::Writing { again: false };
            self.writing += 1;
            let (desired, settled) = (item.desired.clone(), item.settled);
            return Some(Job { key, seen, desired, settled, term: self.term });
        }
        None
    }

    /// What came of a job.
    pub(crate) fn done(&mut self, job: Job, outcome: Outcome, now: Instant) {
        if job.term != self.term {
            return;
        }
        self.writing = self.writing.saturating_sub(1);
        let Some(item) = self.items.get_mut(&job.key) else { return };
        let again = item.turn == Turn::Writing { again: true };
        item.turn = Turn::None;
        let pause = item.learn(&job, outcome, now);
        if item.seen.is_none() && item.desired.is_none() {
            self.items.remove(&job.key);
            return;
        }
        match pause {
            Some(pause) => self.schedule(&job.key, pause, now),
            None if again => self.schedule(&job.key, Duration::ZERO, now),
            None => {}
        }
    }

    fn schedule(&mut self, key: &ObjectKey, pause: Duration, now: Instant) {
        let Some(item) = self.items.get_mut(key).filter(|_| self.leading) else { return };
        let at = now + pause;
        match item.turn {
            Turn::Ready => return,
            Turn::Writing { .. } => {
                item.turn = Turn::Writing { again: true };
                return;
            }
            Turn::At(earlier) if earlier <= at => return,
            Turn::At(later) => drop(self.later.remove(&(later, key.clone()))),
            Turn::None => {}
        }
        if pause.is_zero() {
            item.turn = Turn::Ready;
            self.ready.push_back(key.clone());
        } else {
            item.turn = Turn::At(at);
            self.later.insert((at, key.clone()));
        }
    }
}

impl Item {
    /// Takes in what came of a job. Gives the pause before the next try, if there is to be one.
    fn learn(&mut self, job: &Job, outcome: Outcome, now: Instant) -> Option<Duration> {
        let same_object = self.seen.as_ref().is_some_and(|seen| seen.uid == job.seen.uid);
        if !same_object {
            return None;
        }
        match outcome {
            Outcome::Written(written) => {
                self.failures = 0;
                if job.settled.is_some() {
                    self.rewrites = self.rewrites.saturating_add(1);
                    self.rewritten = Some(now);
                }
                if self.seen.as_ref().is_some_and(|seen| written.seen.is_newer_than(seen)) {
                    self.seen = Some(written.seen);
                }
                if self.desired == job.desired {
                    self.settled = Some(written.settled);
                }
                None
            }
            Outcome::Unchanged => {
                self.failures = 0;
                None
            }
            // The watch will tell.
            Outcome::Superseded | Outcome::Gone => None,
            Outcome::Conflict => Some(self.backoff(BUSY)),
            Outcome::Refused(failure) => {
                let pause = self.backoff(REFUSED);
                tracing::warn!(object = %job.key, %failure, "the status cannot be written");
                Some(pause)
            }
            Outcome::Failed(failure) => {
                let pause = self.backoff(BUSY);
                tracing::debug!(object = %job.key, %failure, "the status could not be written yet");
                let Failure::Busy { retry_after: Some(wish), .. } = failure else { return Some(pause) };
                Some(pause.max(wish))
            }
        }
    }

    fn backoff(&mut self, (first, longest): (Duration, Duration)) -> Duration {
        let pause = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(0.75 + 0.5 * fastrand::f64())
    }

    fn rewrite_pause(&mut self, now: Instant) -> Duration {
        if self.rewritten.is_none_or(|at| now.saturating_duration_since(at) > REWRITES_FORGOTTEN) {
            self.rewrites = 0;
        }
        match self.rewrites {
            0 => Duration::ZERO,
            count => REWRITE.0.saturating_mul(1 << (count - 1).min(16)).min(REWRITE.1),
        }
    }
}

#[cfg(test)]
mod tests;
