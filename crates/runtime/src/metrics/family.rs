//! One metric with labels: its series, and the handles that count.
//!
//! In flow label values, once per handle. Out flow handles to keep, and at each scrape the samples of every series.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cells::{Arena, Shard, Slot};
use super::registry::Kind;
use crate::escape;

/// Longest label value in bytes; what is longer is cut with a mark.
pub(super) const LABEL_VALUE_LIMIT: usize = 256;

/// Longest list of series that are folded to `other` yet differ in their closed labels.
const FOLDED_BOUND: usize = 64;

/// What open labels read once a family has reached its bound.
const OTHER: &str = "other";

/// The name of a label and where its values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    pub(super) name: &'static str,
    open: bool,
}

impl Label {
    /// Values come from objects (Gateway, route): their number is not known, so they read `other` beyond the bound.
    pub const fn open(name: &'static str) -> Self {
        Self { name, open: true }
    }

    /// Values come from a closed set in the code (class of status, reason): they are kept beyond the bound.
    pub const fn closed(name: &'static str) -> Self {
        Self { name, open: false }
    }
}

/// Bounds of a histogram, in the integer unit that workers observe in, and how to show them in the metric's unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Buckets {
    bounds: &'static [u64],
    scale: f64,
}

impl Buckets {
    /// Durations from 0.5 ms to 60 s in 14 buckets; observed in nanoseconds, shown in seconds.
    pub const LATENCY: Self = Self::nanoseconds(&[
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        10_000_000_000,
        60_000_000_000,
    ]);

    /// Durations; observed in nanoseconds, shown in seconds. Bounds must rise, which registering checks.
    pub const fn nanoseconds(bounds: &'static [u64]) -> Self {
        Self { bounds, scale: 1e9 }
    }

    /// Sizes and numbers, shown as they are observed.
    pub const fn plain(bounds: &'static [u64]) -> Self {
        Self { bounds, scale: 1.0 }
    }

    pub(super) fn are_valid(&self) -> bool {
        !self.bounds.is_empty() && self.bounds.len() <= 64 && self.bounds.is_sorted_by(|one, next| one < next)
    }

    /// One cell per bound, one for what is above, one for the sum.
    pub(super) fn cells(&self) -> usize {
        self.bounds.len() + 2
    }
}

/// What a series of a family counts with: [`Counter`], [`Gauge`] or [`Histogram`].
pub trait Instrument: Sized + private::FromSeries {}

impl Instrument for Counter {}
impl Instrument for Gauge {}
impl Instrument for Histogram {}

mod private {
    /// Keeps other crates from adding instruments.
    pub trait FromSeries {
        #[doc(hidden)]
        fn from_series(series: super::SeriesRef) -> Self;
    }
}

/// Opaque outside of this module.
#[derive(Clone)]
#[doc(hidden)]
pub struct SeriesRef(Arc<Series>);

/// One metric with `N` labels.
pub struct Family<I, const N: usize> {
    core: Arc<Core>,
    instrument: PhantomData<fn() -> I>,
}

impl<I, const N: usize> Clone for Family<I, N> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), instrument: PhantomData }
    }
}

impl<I, const N: usize> fmt::Debug for Family<I, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family").field("name", &self.core.name).finish_non_exhaustive()
    }
}

impl<I: Instrument, const N: usize> Family<I, N> {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, instrument: PhantomData }
    }

    /// The handle for these label values, in the order in which the labels were registered. Takes the family's lock: look it up
    /// once, when a config is linked or at first use, and keep one handle per worker (cloning it touches a shared count).
    pub fn with(&self, values: [&str; N]) -> I {
        I::from_series(SeriesRef(self.core.series(&values)))
    }

    /// Takes the series with these label values out of the output. True if there was one.
    pub fn retire(&self, values: [&str; N]) -> bool {
        let labels = self.core.labels_text(&values);
        self.core.lock().open.remove(labels.as_str()).is_some()
    }

    /// Bytes that one more series takes, its labels being `label_bytes` long when written as `name="value",…`.
    ///
    /// Cells in every shard, the series itself, its text, and its share of the index.
    pub fn bytes_per_series(&self, label_bytes: usize) -> usize {
        const COUNTS: usize = 2 * size_of::<usize>();
        // Nodes of the index hold 11 entries and are at least half full.
        const INDEX_ENTRY: usize = 2 * (size_of::<Arc<str>>() + size_of::<Arc<Series>>());
        const FREE_SLOT: usize = size_of::<Slot>();
        self.core.arena.bytes_per_slot() + COUNTS + size_of::<Series>() + COUNTS + label_bytes + INDEX_ENTRY + FREE_SLOT
    }
}

/// A number that only grows.
#[derive(Clone)]
pub struct Counter(SeriesRef);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn increment(&self, shard: &Shard) {
        self.add(shard, 1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, shard: &Shard, n: u64) {
        self.0.0.slot().add(shard, 0, n);
    }

    /// Adds `n` from a thread without a shard; for rare events, because all such threads share the cell.
    pub fn add_shared(&self, n: u64) {
        self.0.0.slot().add_shared(0, n);
    }

    /// The sum over all workers.
    pub fn value(&self) -> u64 {
        self.0.0.slot().sum(0)
    }
}

/// A number that rises and falls by steps, such as open connections. Its value is the sum of the workers' shares.
#[derive(Clone)]
pub struct Gauge(SeriesRef);

impl Gauge {
    /// Adds `step`, which may be negative.
    #[inline]
    pub fn add(&self, shard: &Shard, step: i64) {
        self.0.0.slot().add(shard, 0, step.cast_unsigned());
    }

    /// Adds `step` from a thread without a shard.
    pub fn add_shared(&self, step: i64) {
        self.0.0.slot().add_shared(0, step.cast_unsigned());
    }

    /// The sum over all workers.
    pub fn value(&self) -> i64 {
        self.0.0.slot().sum(0).cast_signed()
    }
}

/// How often values fell into each bucket, and their sum.
#[derive(Clone)]
pub struct Histogram(SeriesRef);

impl Histogram {
    /// Observes a duration; for histograms whose buckets are [`Buckets::nanoseconds`].
    #[inline]
    pub fn observe(&self, shard: &Shard, duration: Duration) {
        self.observe_value(shard, u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Observes a value in the unit of the bucket bounds.
    #[inline]
    pub fn observe_value(&self, shard: &Shard, value: u64) {
        let series = &*self.0.0;
        let bounds = series.buckets.map_or(&[][..], |buckets| buckets.bounds);
        let slot = series.slot();
        slot.add(shard, bounds.partition_point(|bound| *bound < value), 1);
        slot.add(shard, bounds.len() + 1, value);
    }

    /// How many values were observed, and their sum in the unit of the bucket bounds.
    pub fn totals(&self) -> (u64, u64) {
        let bounds = self.0.0.buckets.map_or(0, |buckets| buckets.bounds.len());
        let slot = self.0.0.slot();
        ((0..=bounds).fold(0, |sum, offset| sum.wrapping_add(slot.sum(offset))), slot.sum(bounds + 1))
    }
}

macro_rules! instruments {
    ($($name:ident)*) => {$(
        impl private::FromSeries for $name {
            fn from_series(series: SeriesRef) -> Self {
                Self(series)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{{{}}}", stringify!($name), self.0.0.labels)
            }
        }
    )*};
}

instruments!(Counter Gauge Histogram);

/// One series. Its cells go back to the arena when the family and all handles have let go of it.
pub(super) struct Series {
    slot: Option<Slot>,
    buckets: Option<Buckets>,
    labels: Arc<str>,
    arena: Arc<Arena>,
}

impl Series {
    #[expect(clippy::expect_used, reason = "the slot is taken out in drop only")]
    #[inline]
    fn slot(&self) -> &Slot {
        self.slot.as_ref().expect("a series has its slot until it is dropped")
    }
}

impl Drop for Series {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.arena.give_back(slot);
        }
    }
}

/// What the registry keeps of a family, whatever its instrument.
pub(super) struct Core {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    labels: Box<[Label]>,
    bound: usize,
    arena: Arc<Arena>,
    index: Mutex<Index>,
    folded: AtomicU64,
}

/// Series by their labels as they are written out.
#[derive(Default)]
struct Index {
    open: BTreeMap<Arc<str>, Arc<Series>>,
    folded: BTreeMap<Arc<str>, Arc<Series>>,
}

impl Core {
    pub(super) fn new(
        name: &'static str,
        help: &'static str,
        kind: Kind,
        labels: &[Label],
        bound: usize,
        shards: usize,
    ) -> Self {
        let cells = kind.buckets().map_or(1, |buckets| buckets.cells());
        Self {
            name,
            help,
            kind,
            labels: labels.into(),
            bound,
            arena: Arc::new(Arena::new(shards, cells)),
            index: Mutex::default(),
            folded: AtomicU64::new(0),
        }
    }

    pub(super) fn is_labelled(&self) -> bool {
        !self.labels.is_empty()
    }

    /// How many series there are, and how many look-ups were folded to `other`.
    pub(super) fn usage(&self) -> (usize, u64) {
        let index = self.lock();
        (index.open.len() + index.folded.len(), self.folded.load(Ordering::Relaxed))
    }

    /// Retires every series that has all of these labels with these values; a family without one of the labels has none.
    pub(super) fn retire_matching(&self, labels: &[(&str, &str)]) -> usize {
        // Quotes inside a value are escaped, so `,name="value"` can only be found where a label begins.
        let wanted: Vec<_> = labels.iter().map(|(name, value)| format!(",{}", label_text(name, value))).collect();
        let mut index = self.lock();
        let before = index.open.len();
        index.open.retain(|text, _| {
            let all = wanted.iter().all(|label| {
                let at_start =
                    text.starts_with(&label[1..]) && matches!(text.as_bytes().get(label.len() - 1), None | Some(b','));
                at_start
                    || text
                        .match_indices(label)
                        .any(|(at, _)| matches!(text.as_bytes().get(at + label.len()), None | Some(b',')))
            });
            wanted.is_empty() || !all
        });
        before - index.open.len()
    }

    /// Every series with its labels, sorted, read after the lock was let go.
    pub(super) fn samples(&self) -> Vec<(Arc<str>, SeriesRef)> {
        let index = self.lock();
        let both = index.open.iter().chain(&index.folded);
        both.map(|(labels, series)| (labels.clone(), SeriesRef(series.clone()))).collect()
    }

    fn series(&self, values: &[&str]) -> Arc<Series> {
        let labels = self.labels_text(values);
        let has_open = self.labels.iter().any(|label| label.open);
        let is_other = has_open && self.labels.iter().zip(values).all(|(label, value)| !label.open || *value == OTHER);
        let mut index = self.lock();
        if let Some(series) = index.open.get(labels.as_str()).or_else(|| index.folded.get(labels.as_str())) {
            return series.clone();
        }
        if index.open.len() < self.bound && !is_other {
            return self.insert(&mut index.open, labels);
        }
        if !is_other {
            self.folded.fetch_add(1, Ordering::Relaxed);
        }
        let folded = self.folded_text(values, false);
        if let Some(series) = index.folded.get(folded.as_str()) {
            return series.clone();
        }
        if index.folded.len() < FOLDED_BOUND {
            return self.insert(&mut index.folded, folded);
        }
        let all = self.folded_text(values, true);
        match index.folded.get(all.as_str()) {
            Some(series) => series.clone(),
            None => self.insert(&mut index.folded, all),
        }
    }

    fn insert(&self, index: &mut BTreeMap<Arc<str>, Arc<Series>>, labels: String) -> Arc<Series> {
        let labels: Arc<str> = labels.into();
        let series = Arc::new(Series {
            slot: Some(self.arena.take()),
            buckets: self.kind.buckets(),
            labels: labels.clone(),
            arena: self.arena.clone(),
        });
        index.insert(labels, series.clone());
        series
    }

    fn labels_text(&self, values: &[&str]) -> String {
        let pairs = self.labels.iter().zip(values);
        labels_text(pairs.map(|(label, value)| (label.name, *value)))
    }

    fn folded_text(&self, values: &[&str], closed_too: bool) -> String {
        let pairs = self.labels.iter().zip(values);
        labels_text(pairs.map(|(label, value)| (label.name, if label.open || closed_too { OTHER } else { value })))
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `one="a",two="b"`, values escaped and cut.
pub(super) fn labels_text<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    pairs.map(|(name, value)| label_text(name, value)).collect::<Vec<_>>().join(",")
}

fn label_text(name: &str, value: &str) -> String {
    let mut out = Vec::with_capacity(name.len() + value.len() + 3);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    escape::label_into(&mut out, value.as_bytes(), LABEL_VALUE_LIMIT);
    out.push(b'"');
    escape::into_text(out)
}

/// What a scrape reads from one series.
pub(super) enum Reading {
    /// The value of a counter.
    Count(u64),
    /// The value of a gauge.
    Level(i64),
    /// Cumulative counts with their upper bounds in the metric's unit (the last one is infinite), and the sum in that unit.
    Distribution(Vec<(f64, u64)>, f64),
}

impl SeriesRef {
    pub(super) fn read(&self, kind: Kind) -> Reading {
        let slot = self.0.slot();
        match kind {
            Kind::Counter | Kind::Info => Reading::Count(slot.sum(0)),
            Kind::Gauge => Reading::Level(slot.sum(0).cast_signed()),
            Kind::Histogram(Buckets { bounds, scale }) => {
                let mut count = 0u64;
                let shown = bounds.iter().map(|bound| *bound as f64 / scale).chain([f64::INFINITY]);
                let cumulative = shown.enumerate().map(|(offset, bound)| {
                    count = count.wrapping_add(slot.sum(offset));
                    (bound, count)
                });
                Reading::Distribution(cumulative.collect(), slot.sum(bounds.len() + 1) as f64 / scale)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;

    const ROUTES: [Label; 3] = [Label::open("gateway"), Label::open("route"), Label::closed("code_class")];

    #[test]
    fn beyond_the_bound_open_labels_read_other() {
        let registry = Registry::new(1);
        let family = registry.counters("portcullis_requests_total", "Requests.", ROUTES, 2).unwrap();
        family.with(["a", "1", "2xx"]).add_shared(1);
        family.with(["a", "2", "2xx"]).add_shared(2);
        family.with(["a", "3", "2xx"]).add_shared(4);
        family.with(["b", "4", "2xx"]).add_shared(8);
        family.with(["b", "4", "5xx"]).add_shared(16);
        family.with(["a", "1", "2xx"]).add_shared(32);
        let values: Vec<_> = family
            .core
            .samples()
            .iter()
            .map(|(labels, series)| (labels.to_string(), Counter(series.clone()).value()))
            .collect();
        let expected = [
            (r#"gateway="a",route="1",code_class="2xx""#, 33),
            (r#"gateway="a",route="2",code_class="2xx""#, 2),
            (r#"gateway="other",route="other",code_class="2xx""#, 12),
            (r#"gateway="other",route="other",code_class="5xx""#, 16),
        ];
        assert_eq!(values, expected.map(|(labels, value)| (labels.to_owned(), value)));
        assert_eq!(family.core.usage(), (4, 3));
    }

    #[test]
    fn the_number_of_series_is_bounded_whatever_is_asked_for() {
        let registry = Registry::new(1);
        let family = registry.counters("portcullis_requests_total", "Requests.", ROUTES, 10).unwrap();
        for number in 0..1000 {
            family.with(["other", "other", &number.to_string()]);
            family.with([&number.to_string(), "r", &number.to_string()]);
        }
        assert_eq!(family.core.usage().0, 10 + FOLDED_BOUND + 1);
    }

    #[test]
    fn a_retired_series_leaves_and_comes_back_from_zero_while_old_handles_stay_harmless() {
        let registry = Registry::new(1);
        let family = registry.counters("portcullis_requests_total", "Requests.", ROUTES, 1).unwrap();
        let old = family.with(["a", "1", "2xx"]);
        old.add_shared(5);
        assert!(family.retire(["a", "1", "2xx"]));
        assert!(!family.retire(["a", "1", "2xx"]));
        let other = family.with(["b", "2", "2xx"]);
        old.add_shared(7);
        assert_eq!((old.value(), other.value()), (12, 0));
        drop(old);
        assert!(family.retire(["b", "2", "2xx"]));
        assert_eq!(family.with(["a", "1", "2xx"]).value(), 0);
    }

    #[test]
    fn retiring_by_label_takes_what_has_all_of_them() {
        let registry = Registry::new(1);
        let family = registry.counters("portcullis_requests_total", "Requests.", ROUTES, 100).unwrap();
        let plain = registry.counter("portcullis_accepted_total", "Accepted connections.").unwrap();
        plain.add_shared(1);
        for gateway in ["a", "aa", "b", r#"x",gateway="a"#, "a,route="] {
            for route in ["1", "2"] {
                family.with([gateway, route, "2xx"]).add_shared(1);
            }
        }
        assert_eq!(registry.retire(&[("gateway", "a"), ("route", "1")]), 1);
        assert_eq!(registry.retire(&[("gateway", "a")]), 1);
        assert_eq!(registry.retire(&[("route", "2")]), 4);
        assert_eq!(registry.retire(&[("absent", "a")]), 0);
        assert_eq!(registry.retire(&[]), 0);
        assert_eq!(family.core.usage().0, 4);
        assert_eq!(plain.value(), 1);
    }

    #[test]
    fn values_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let registry = Registry::new(1);
        let shard = registry.claim(0).unwrap();
        let histogram = registry.histogram("portcullis_test_bytes", "Sizes.", Buckets::plain(&[10, 20])).unwrap();
        for value in [0, 10, 11, 20, 21, 1000] {
            histogram.observe_value(&shard, value);
        }
        let Reading::Distribution(buckets, sum) = histogram.0.read(Kind::Histogram(Buckets::plain(&[10, 20]))) else {
            panic!()
        };
        assert_eq!(buckets, [(10.0, 2), (20.0, 4), (f64::INFINITY, 6)]);
        assert_eq!(sum, 1062.0);
        assert_eq!(histogram.totals(), (6, 1062));
    }

    #[test]
    fn memory_per_series_is_what_the_module_states() {
        let registry = Registry::new(8);
        let counters = registry.counters("portcullis_requests_total", "Requests.", ROUTES, 10_000).unwrap();
        let latencies = registry
            .histograms("portcullis_seconds", "Latency.", [Label::open("route")], 10_000, Buckets::LATENCY)
            .unwrap();
        assert_eq!(counters.core.arena.bytes_per_slot(), 8 * 9);
        assert_eq!(latencies.core.arena.bytes_per_slot(), 128 * 9);
        let around = counters.bytes_per_series(100) - 8 * 9;
        assert!((200..=330).contains(&around), "{around}");
        assert!((1_000_000..=2_100_000).contains(&(5_000 * counters.bytes_per_series(100))));
        assert!((1_200_000..=1_600_000).contains(&(1_000 * latencies.bytes_per_series(100))));
    }
}
