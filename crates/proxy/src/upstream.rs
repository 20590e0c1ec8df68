//! Backends.

use crate::worker::Snapshot;

/// Backends of one worker.
pub(crate) struct Upstreams;

impl Upstreams {
    /// None yet.
    pub(crate) fn new(_options: &crate::Options) -> Self {
        Self
    }

    /// Follows a new snapshot.
    pub(crate) fn apply(&self, _snapshot: &Snapshot) {}
}
