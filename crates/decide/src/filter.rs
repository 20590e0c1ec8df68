//! The pure part of filters, one file each; parsed when linking.

use portcullis_model::{BackendKey, Fraction};

/// A filter, ready to run.
#[derive(Debug)]
pub(crate) enum LinkedFilter {
    /// Sends a copy elsewhere.
    Mirror(LinkedMirror),
}

/// Where copies of a request go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedMirror {
    /// The backend that gets the copies; its answers are ignored.
    pub target: BackendKey,
    /// How many of the requests.
    pub fraction: Fraction,
}
