//! What is counted about streams.

use portcullis_runtime::metrics::{Counter, Family, Gauge, Kind, Label, MetricError, Registry};

use super::picture::Picture;

/// Counters of the config stream. Cloning it shares them.
#[derive(Clone)]
pub(super) struct Metrics {
    /// Connections that got no further than the handshake, by reason.
    pub(super) rejected: Family<Counter, 1>,
    /// Streams that ended, by reason.
    pub(super) ended: Family<Counter, 1>,
    pub(super) acknowledged: Counter,
    pub(super) refused: Counter,
    pub(super) sent_bytes: Counter,
    pub(super) relaying: Gauge,
}

impl Metrics {
    pub(super) fn register(registry: &Registry, picture: Picture) -> Result<Self, MetricError> {
        registry.collect(
            "portcullis_data_planes_connected",
            "Data planes with a config stream: of this replica, and of all replicas as far as this one knows.",
            Kind::Gauge,
            move |samples| {
                samples.add(&[("replica", "own")], picture.own() as f64);
                samples.add(&[("replica", "any")], picture.all() as f64);
            },
        )?;
        Ok(Self {
            rejected: registry.counters(
                "portcullis_config_rejected_connections_total",
                "Connections to the config stream that were closed before a stream, by reason.",
                [Label::closed("reason")],
                8,
            )?,
            ended: registry.counters(
                "portcullis_config_streams_ended_total",
                "Config streams that ended, by reason.",
                [Label::closed("reason")],
                16,
            )?,
            acknowledged: registry.counter(
                "portcullis_config_acknowledged_total",
                "Configurations that a data plane on this replica said it serves.",
            )?,
            refused: registry.counter(
                "portcullis_config_refused_total",
                "Configurations that a data plane on this replica said it does not serve, or not all of it.",
            )?,
            sent_bytes: registry
                .counter("portcullis_config_sent_bytes_total", "Bytes of messages sent to data planes.")?,
            relaying: registry.gauge(
                "portcullis_relay_connected",
                "Whether this replica tells the holder of the lease what its data planes say: 1, or 0.",
            )?,
        })
    }
}
