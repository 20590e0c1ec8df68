//! Problems in the log: each when it is new, and again after a while, however often it is met.

use std::error::Error;
use tokio::time::{Duration, Instant};

const AGAIN: Duration = Duration::from_secs(60);

/// What was told last of one kind of problem.
#[derive(Debug, Default)]
pub(crate) struct Told(Option<(String, Instant)>);

impl Told {
    /// There is a problem.
    pub(crate) fn problem(&mut self, what: &'static str, error: &dyn Error) {
        let error = error.to_string();
        let is_known = self.0.as_ref().is_some_and(|(known, at)| *known == error && at.elapsed() < AGAIN);
        if !is_known {
            tracing::warn!(error, "{what}");
            self.0 = Some((error, Instant::now()));
        }
    }

    /// There is none any more.
    pub(crate) fn nothing(&mut self) {
        self.0 = None;
    }
}
