//! What the metrics show of the way to the controller.

use portcullis_runtime::metrics::{Kind, MetricError, Registry, Samples};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::SystemTime;

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    connected: AtomicU64,
    /// Seconds since 1970; 0 before the first.
    last_config: AtomicI64,
    reconnects: AtomicU64,
    refused: AtomicU64,
    identity_failures: AtomicU64,
    identity_not_after: AtomicI64,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Arc<Self>, MetricError> {
        let metrics = Arc::new(Self::default());
        let show = |read: fn(&Self) -> Option<f64>| {
            let metrics = metrics.clone();
            move |samples: &mut Samples| {
                read(&metrics).into_iter().for_each(|value| samples.add(&[], value));
            }
        };
        registry.collect(
            "portcullis_controller_connected",
            "1 while configurations come from a controller, 0 while the last one is served without it.",
            Kind::Gauge,
            show(|metrics| Some(count(&metrics.connected))),
        )?;
        registry.collect(
            "portcullis_controller_last_config_timestamp_seconds",
            "When the controller last sent a complete configuration or confirmed the one that is served.",
            Kind::Gauge,
            show(|metrics| time(&metrics.last_config)),
        )?;
        registry.collect(
            "portcullis_controller_reconnects_total",
            "Streams of the controller that ended or could not be opened, and were tried again.",
            Kind::Counter,
            show(|metrics| Some(count(&metrics.reconnects))),
        )?;
        registry.collect(
            "portcullis_controller_refused_configs_total",
            "Configurations that could not be read, or not be served as a whole.",
            Kind::Counter,
            show(|metrics| Some(count(&metrics.refused))),
        )?;
        registry.collect(
            "portcullis_identity_failures_total",
            "Requests for a certificate that failed.",
            Kind::Counter,
            show(|metrics| Some(count(&metrics.identity_failures))),
        )?;
        registry.collect(
            "portcullis_identity_not_after_timestamp_seconds",
            "When the certificate expires that is shown to the controller.",
            Kind::Gauge,
            show(|metrics| time(&metrics.identity_not_after)),
        )?;
        Ok(metrics)
    }

    pub(crate) fn connected(&self, connected: bool) {
        self.connected.store(connected.into(), Ordering::Relaxed);
    }

    pub(crate) fn reconnect(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn config(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last_config.store(now.as_secs().cast_signed(), Ordering::Relaxed);
    }

    pub(crate) fn config_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn identity(&self, not_after: i64) {
        self.identity_not_after.store(not_after, Ordering::Relaxed);
    }

    pub(crate) fn identity_failed(&self) {
        self.identity_failures.fetch_add(1, Ordering::Relaxed);
    }
}

fn count(count: &AtomicU64) -> f64 {
    count.load(Ordering::Relaxed) as f64
}

/// Nothing before the first time.
fn time(seconds: &AtomicI64) -> Option<f64> {
    Some(seconds.load(Ordering::Relaxed)).filter(|seconds| *seconds != 0).map(|seconds| seconds as f64)
}
