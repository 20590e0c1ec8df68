//! How long to wait before trying again.

use std::time::Duration;

use crate::error::Problem;

/// Waits that double from try to try, each shortened by up to a half so that not everyone comes back at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// The longest wait that an API server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(30);

impl Backoff {
    /// It worked: the next wait is a short one.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }

    /// The next wait. What the API server asked for is kept.
    pub(crate) fn next(&mut self, problem: Problem) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.tries.min(10)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        let wait = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
        match problem {
            Problem::Busy(Some(asked)) => wait.max(asked.min(LONGEST_ASKED)),
            _ => wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound() {
        let mut backoff = Backoff::default();
        for longest in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let wait = backoff.next(Problem::Unreachable).as_millis();
            assert!((longest / 2..=longest).contains(&wait), "{wait} of {longest}");
        }
        backoff.reset();
        assert!(backoff.next(Problem::Unreachable) <= FIRST);
        assert_eq!(backoff.next(Problem::Busy(Some(Duration::from_secs(3)))), Duration::from_secs(3));
        assert_eq!(backoff.next(Problem::Busy(Some(Duration::from_secs(3000)))), LONGEST_ASKED);
    }
}
