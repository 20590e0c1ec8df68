//! Counters and the access log.

pub(crate) mod connections;

/// One worker's counters.
pub(crate) struct WorkerTelemetry;
