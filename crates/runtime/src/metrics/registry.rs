//! Every metric of the process, by name.
//!
//! In flow registrations at start. Out flow families and handles, and at each scrape one text of all metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::cells::Shard;
use super::family::{Buckets, Core, Counter, Family, Gauge, Histogram, Instrument, Label, labels_text};
use super::process;
use super::text::{self, Format};

/// Samples of one metric that are read when somebody scrapes; what is more is left out.
const COLLECTED_BOUND: usize = 4096;

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts per bucket, and a sum.
    Histogram(Buckets),
    /// Constant facts as labels; its name ends in `_info`, its value is 1.
    Info,
}

impl Kind {
    pub(super) fn buckets(self) -> Option<Buckets> {
        match self {
            Self::Histogram(buckets) => Some(buckets),
            Self::Counter | Self::Gauge | Self::Info => None,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram(_) => "",
        }
    }
}

/// Why a metric was not registered. All of these are mistakes in the code that registers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// The name has the wrong form.
    #[error(
        "metric {0}: a name is lower-case words joined by underscores, begins with portcullis_, ends in _total (counters), _info \
         (infos) or neither, and never in _count, _sum, _bucket or _created"
    )]
    Name(&'static str),
    /// The help text has the wrong form.
    #[error("metric {0}: a help text is printable ASCII on one line, without quotes and backslashes")]
    Help(&'static str),
    /// A label has the wrong form.
    #[error("metric {0}: label {1} must be a lower-case word, not le or quantile, and given once")]
    Label(&'static str, &'static str),
    /// The bounds of a histogram are not rising, or none, or more than 64.
    #[error("metric {0}: histogram bounds must rise; 1 to 64 of them")]
    Buckets(&'static str),
    /// The name is taken.
    #[error("metric {0}: the name is taken by another metric")]
    Duplicate(&'static str),
}

/// The metrics of this process. Cloning it shares them.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    claimed: Arc<[AtomicBool]>,
    /// By the name of the OpenMetrics family, that is without `_total` and `_info`.
    entries: Mutex<BTreeMap<&'static str, Entry>>,
}

#[derive(Clone)]
enum Entry {
    Family(Arc<Core>),
    Collected(Arc<Collected>),
}

struct Collected {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    collect: Box<dyn Fn(&mut Samples) + Send + Sync>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("workers", &self.shared.claimed.len()).finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry for this many workers, with the process's own metrics.
    pub fn new(workers: usize) -> Self {
        let claimed = (0..workers).map(|_| AtomicBool::new(false)).collect();
        let registry = Self { shared: Arc::new(Shared { claimed, entries: Mutex::default() }) };
        process::register(&registry);
        registry.register_usage();
        registry
    }

    /// The shard of this worker (from zero). `None` when it is taken, or there is no such worker.
    pub fn claim(&self, worker: usize) -> Option<Shard> {
        Shard::claim(&self.shared.claimed, worker)
    }

    /// A counter without labels.
    ///
    /// # Errors
    /// When the name or the help text has the wrong form, or the name is taken.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Result<Counter, MetricError> {
        Ok(self.counters(name, help, [], 1)?.with([]))
    }

    /// Counters with labels, at most `bound` series of them.
    ///
    /// # Errors
    /// As for [`Registry::counter`], or when a label has the wrong form.
    pub fn counters<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [Label; N],
        bound: usize,
    ) -> Result<Family<Counter, N>, MetricError> {
        self.family(name, help, Kind::Counter, labels, bound)
    }

    /// A gauge without labels.
    ///
    /// # Errors
    /// As for [`Registry::counter`].
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Result<Gauge, MetricError> {
        Ok(self.gauges(name, help, [], 1)?.with([]))
    }

    /// Gauges with labels, at most `bound` series of them.
    ///
    /// # Errors
    /// As for [`Registry::counters`].
    pub fn gauges<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [Label; N],
        bound: usize,
    ) -> Result<Family<Gauge, N>, MetricError> {
        self.family(name, help, Kind::Gauge, labels, bound)
    }

    /// A histogram without labels.
    ///
    /// # Errors
    /// As for [`Registry::counter`], or when the bounds do not rise.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        buckets: Buckets,
    ) -> Result<Histogram, MetricError> {
        Ok(self.histograms(name, help, [], 1, buckets)?.with([]))
    }

    /// Histograms with labels, at most `bound` series of them.
    ///
    /// # Errors
    /// As for [`Registry::counters`], or when the bounds do not rise.
    pub fn histograms<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [Label; N],
        bound: usize,
        buckets: Buckets,
    ) -> Result<Family<Histogram, N>, MetricError> {
        self.family(name, help, Kind::Histogram(buckets), labels, bound)
    }

    /// A metric whose samples are read when somebody scrapes: the age of a config, counts that are kept elsewhere.
    /// `collect` runs on the thread of the scrape. Histograms cannot be collected.
    ///
    /// # Errors
    /// As for [`Registry::counter`].
    pub fn collect(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        collect: impl Fn(&mut Samples) + Send + Sync + 'static,
    ) -> Result<(), MetricError> {
        check_name(name, kind)?;
        check_help(name, help)?;
        if kind.buckets().is_some() {
            return Err(MetricError::Buckets(name));
        }
        self.insert(name, kind, Entry::Collected(Arc::new(Collected { name, help, kind, collect: Box::new(collect) })))
    }

    /// `portcullis_build_info` with these labels, such as `version` and `revision`.
    ///
    /// # Errors
    /// When it was given before.
    pub fn build_info(&self, facts: &[(&'static str, &str)]) -> Result<(), MetricError> {
        let facts: Vec<_> = facts.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.collect("portcullis_build_info", "The program that runs.", Kind::Info, move |samples| {
            let labels: Vec<_> = facts.iter().map(|(name, value)| (*name, value.as_str())).collect();
            samples.add(&labels, 1.0);
        })
    }

    /// Retires the series of every family that have all of these labels, such as `[("gateway", "edge/public")]`; returns how
    /// many. No labels mean no series.
    pub fn retire(&self, labels: &[(&str, &str)]) -> usize {
        self.families().iter().map(|core| core.retire_matching(labels)).sum()
    }

    /// All metrics as text.
    pub fn render(&self, format: Format) -> String {
        let entries: Vec<_> = self.lock().values().cloned().collect();
        let mut out = String::with_capacity(16 * 1024);
        for entry in entries {
            match entry {
                Entry::Family(core) => {
                    text::head(&mut out, format, core.name, core.kind, core.help);
                    for (labels, series) in core.samples() {
                        text::series(&mut out, core.name, &labels, &series.read(core.kind));
                    }
                }
                Entry::Collected(collected) => {
                    let mut samples = Samples::default();
                    (collected.collect)(&mut samples);
                    if !samples.rows.is_empty() {
                        text::head(&mut out, format, collected.name, collected.kind, collected.help);
                        for (labels, value) in samples.rows {
                            text::sample(&mut out, collected.name, "", &labels, value);
                        }
                    }
                }
            }
        }
        text::end(&mut out, format);
        out
    }

    /// Registers what this crate itself measures; its names need no check.
    pub(super) fn own(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        collect: impl Fn(&mut Samples) + Send + Sync + 'static,
    ) {
        let collected = Collected { name, help, kind, collect: Box::new(collect) };
        let known = self.insert(name, kind, Entry::Collected(Arc::new(collected)));
        debug_assert_eq!(known, Ok(()));
    }

    fn register_usage(&self) {
        let usage = |select: fn((usize, u64)) -> f64| {
            let shared = Arc::downgrade(&self.shared);
            move |samples: &mut Samples| {
                let Some(shared) = Weak::upgrade(&shared) else { return };
                for core in (Self { shared }).families().iter().filter(|core| core.is_labelled()) {
                    samples.add(&[("metric", core.name)], select(core.usage()));
                }
            }
        };
        let series = "Series of each metric that has labels.";
        self.own("portcullis_metrics_series", series, Kind::Gauge, usage(|(series, _)| series as f64));
        let folded = "Look-ups of series that went to the series named other because the metric had reached its bound.";
        self.own("portcullis_metrics_series_folded_total", folded, Kind::Counter, usage(|(_, folded)| folded as f64));
    }

    fn family<I: Instrument, const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        labels: [Label; N],
        bound: usize,
    ) -> Result<Family<I, N>, MetricError> {
        check_name(name, kind)?;
        check_help(name, help)?;
        check_labels(name, &labels)?;
        if kind.buckets().is_some_and(|buckets| !buckets.are_valid()) {
            return Err(MetricError::Buckets(name));
        }
        let core = Arc::new(Core::new(name, help, kind, &labels, bound, self.shared.claimed.len() + 1));
        self.insert(name, kind, Entry::Family(core.clone()))?;
        Ok(Family::new(core))
    }

    fn insert(&self, name: &'static str, kind: Kind, entry: Entry) -> Result<(), MetricError> {
        let mut entries = self.lock();
        let key = base_name(name, kind);
        if entries.contains_key(key) {
            return Err(MetricError::Duplicate(name));
        }
        entries.insert(key, entry);
        Ok(())
    }

    fn families(&self) -> Vec<Arc<Core>> {
        let entries = self.lock();
        let families = entries.values().filter_map(|entry| match entry {
            Entry::Family(core) => Some(core.clone()),
            Entry::Collected(_) => None,
        });
        families.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Entry>> {
        self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the samples of a collected metric.
#[derive(Debug, Default)]
pub struct Samples {
    rows: BTreeMap<String, f64>,
}

impl Samples {
    /// One sample. A second one with the same labels is left out, and so is one whose label names have the wrong form.
    pub fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        if self.rows.len() < COLLECTED_BOUND && labels.iter().all(|(name, _)| is_word(name)) {
            self.rows.entry(labels_text(labels.iter().copied())).or_insert(value);
        }
    }
}

/// The name of the OpenMetrics family that a sample name belongs to.
pub(super) fn base_name(name: &str, kind: Kind) -> &str {
    name.strip_suffix(kind.suffix()).unwrap_or(name)
}

fn check_name(name: &'static str, kind: Kind) -> Result<(), MetricError> {
    const RESERVED: [&str; 6] = ["_total", "_info", "_count", "_sum", "_bucket", "_created"];
    let base = base_name(name, kind);
    let right = name.starts_with("portcullis_")
        && name.ends_with(kind.suffix())
        && is_word(base)
        && !RESERVED.iter().any(|suffix| base.ends_with(suffix));
    if right { Ok(()) } else { Err(MetricError::Name(name)) }
}

fn check_help(name: &'static str, help: &'static str) -> Result<(), MetricError> {
    let right =
        !help.is_empty() && help.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
    if right { Ok(()) } else { Err(MetricError::Help(name)) }
}

fn check_labels(name: &'static str, labels: &[Label]) -> Result<(), MetricError> {
    for (position, label) in labels.iter().enumerate() {
        let repeated = labels[..position].iter().any(|before| before.name == label.name);
        if repeated || !is_word(label.name) || matches!(label.name, "le" | "quantile") {
            return Err(MetricError::Label(name, label.name));
        }
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_registrations_are_named() {
        let registry = Registry::new(1);
        let name = |name| registry.counter(name, "Help.").map(drop);
        for wrong in
            ["requests_total", "portcullis_requests", "portcullis_Requests_total", "portcullis_x_sum_total", "_total"]
        {
            assert_eq!(name(wrong), Err(MetricError::Name(wrong)));
        }
        assert_eq!(name("portcullis_requests_total"), Ok(()));
        assert_eq!(name("portcullis_requests_total"), Err(MetricError::Duplicate("portcullis_requests_total")));
        let gauge = registry.gauge("portcullis_requests", "Same family.").map(drop);
        assert_eq!(gauge, Err(MetricError::Duplicate("portcullis_requests")));
        assert!(registry.gauge("portcullis_other_total", "Help.").is_err());
        for help in ["", "two\nlines", "a \"quote\"", r"back\slash", "ü"] {
            assert_eq!(registry.gauge("portcullis_g", help).map(drop), Err(MetricError::Help("portcullis_g")));
        }
        for label in ["le", "Upper", "with-dash", "1st", ""] {
            let family = registry.gauges("portcullis_g", "Help.", [Label::closed(label)], 1).map(drop);
            assert_eq!(family, Err(MetricError::Label("portcullis_g", label)));
        }
        let twice = [Label::closed("a"), Label::open("a")];
        assert!(registry.gauges("portcullis_g", "Help.", twice, 1).is_err());
        for bounds in [&[][..], &[2, 1], &[1, 1]] {
            let histogram = registry.histogram("portcullis_h", "Help.", Buckets::plain(bounds)).map(drop);
            assert_eq!(histogram, Err(MetricError::Buckets("portcullis_h")));
        }
    }
}
