//! Pauses between tries: longer each time, and never the same for all pods.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The pauses of one kind of try.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    /// The next pause: between half of its length and all of it.
    pub(crate) fn pause(&mut self) -> Duration {
        let length = self.0;
        self.0 = (length * 2).min(LONGEST);
        length.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// A try succeeded.
    pub(crate) fn reset(&mut self) {
        self.0 = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..10).map(|_| backoff.pause()).collect();
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST);
        assert!(pauses[9] >= LONGEST / 2 && pauses[9] <= LONGEST);
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }
}
