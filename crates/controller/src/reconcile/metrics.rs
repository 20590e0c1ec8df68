//! What the loop measures.

use std::sync::Arc;
use std::time::Duration;

use portcullis_cluster::{KindStatistics, Watch};
use portcullis_runtime::metrics::{Buckets, Histogram, Kind, MetricError, Registry, Shard};

pub(super) struct Metrics {
    compiled: Histogram,
    published: Histogram,
    shard: Option<Shard>,
}

impl Metrics {
    pub(super) fn register(registry: &Registry, shard: Option<Shard>, watch: &Arc<Watch>) -> Result<Self, MetricError> {
        register_watch(registry, watch)?;
        Ok(Self {
            compiled: registry.histogram(
                "portcullis_compile_duration_seconds",
                "How long the compiler took for the changes that were there at once.",
                Buckets::LATENCY,
            )?,
            published: registry.histogram(
                "portcullis_publish_duration_seconds",
                "From when a change was read to when the streams of configuration had it.",
                Buckets::LATENCY,
            )?,
            shard,
        })
    }

    pub(super) fn compiled(&self, took: Duration) {
        if let Some(shard) = &self.shard {
            self.compiled.observe(shard, took);
        }
    }

    pub(super) fn published(&self, took: Duration) {
        if let Some(shard) = &self.shard {
            self.published.observe(shard, took);
        }
    }
}

/// Reads a number out of what a watch has done for one kind.
type Read = fn(&KindStatistics) -> u64;

fn register_watch(registry: &Registry, watch: &Arc<Watch>) -> Result<(), MetricError> {
    let metrics: [(&str, &str, Kind, Read); 7] = [
        ("portcullis_watch_objects", "Objects that are known, by kind.", Kind::Gauge, |kind| kind.objects),
        ("portcullis_watch_connections", "Watches that are open, by kind.", Kind::Gauge, |kind| kind.connected),
        ("portcullis_watch_events_total", "Changes that watches told, by kind.", Kind::Counter, |kind| kind.events),
        ("portcullis_watch_lists_total", "Lists that were read, by kind.", Kind::Counter, |kind| kind.lists),
        (
            "portcullis_watch_failures_total",
            "Requests that failed and watches that broke off, by kind.",
            Kind::Counter,
            |kind| kind.failures,
        ),
        (
            "portcullis_watch_unparsable_total",
            "Versions of objects that could not be read, by kind.",
            Kind::Counter,
            |kind| kind.unparsable,
        ),
        ("portcullis_watch_reads_total", "Bodies that were read by name, by kind.", Kind::Counter, |kind| kind.reads),
    ];
    for (name, help, kind, read) in metrics {
        let watch = Arc::downgrade(watch);
        registry.collect(name, help, kind, move |samples| {
            for statistics in watch.upgrade().map(|watch| watch.statistics()).unwrap_or_default() {
                samples.add(&[("kind", statistics.kind.kind)], read(&statistics) as f64);
            }
        })?;
    }
    Ok(())
}
