//! RequestMirror: where copies of a request go. Sending them, and drawing the share, is the caller's.

use portcullis_model::{BackendKey, BackendTarget, Fraction, Mirror};

/// Where copies of a request go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedMirror {
    /// The backend that gets the copies; its answers are ignored.
    pub target: BackendKey,
    /// How many of the requests.
    pub fraction: Fraction,
}

impl LinkedMirror {
    /// `None` when the target is invalid: the specification drops it, and the request is not touched.
    pub(crate) fn new(mirror: &Mirror) -> Option<Self> {
        match &mirror.target {
            BackendTarget::Backend(target) => Some(Self { target: target.clone(), fraction: mirror.fraction }),
            BackendTarget::Invalid(_) => None,
        }
    }

    /// Whether a request is mirrored, given a number drawn evenly from `0..fraction.denominator`.
    pub fn takes(&self, drawn: u32) -> bool {
        drawn < self.fraction.numerator
    }
}
