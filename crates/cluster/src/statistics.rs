//! What has been done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::kinds::WATCHED;
use crate::watch::KindStatistics;

/// Counters of one kind.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) objects: Counter,
    pub(crate) connected: Counter,
    pub(crate) events: Counter,
    pub(crate) lists: Counter,
    pub(crate) failures: Counter,
    pub(crate) unparsable: Counter,
    pub(crate) reads: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, count: usize) {
        self.0.fetch_sub(count as u64, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One set of counters for each of [`WATCHED`].
#[derive(Debug)]
pub(crate) struct Statistics(Vec<Counters>);

impl Default for Statistics {
    fn default() -> Self {
        Self(WATCHED.iter().map(|_| Counters::default()).collect())
    }
}

impl Statistics {
    pub(crate) fn of(&self, kind: usize) -> &Counters {
        &self.0[kind]
    }

    pub(crate) fn read(&self) -> Vec<KindStatistics> {
        let kinds = WATCHED.iter().zip(&self.0);
        kinds
            .map(|(watched, counters)| KindStatistics {
                kind: watched.id,
                objects: counters.objects.read(),
                connected: counters.connected.read(),
                events: counters.events.read(),
                lists: counters.lists.read(),
                failures: counters.failures.read(),
                unparsable: counters.unparsable.read(),
                reads: counters.reads.read(),
            })
            .collect()
    }
}
