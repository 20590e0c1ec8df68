//! What came of the units.
//!
//! What flows in: how long each took, or why it failed. What flows out: the JSON of a run.

use serde_json::{Value, json};
use std::time::Duration;

/// Units that are done, and errors.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Of each unit, in microseconds: at most some millions, so nothing is rounded into classes.
    latencies: Vec<u32>,
    errors: u64,
    error: Option<String>,
}

impl Tally {
    pub(super) fn done(&mut self, latency: Duration) {
        self.latencies.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    pub(super) fn fail(&mut self, problem: String) {
        self.errors += 1;
        self.error.get_or_insert(problem);
    }

    pub(super) fn add(&mut self, mut other: Self) {
        self.latencies.append(&mut other.latencies);
        self.errors += other.errors;
        self.error = self.error.take().or(other.error);
    }

    /// `warm` are the units that were done before.
    pub(super) fn json(mut self, warm: usize, time: Duration) -> Value {
        self.latencies.sort_unstable();
        let at = |permille: usize| {
            let place = (self.latencies.len() * permille).div_ceil(1000).saturating_sub(1);
            self.latencies.get(place).copied()
        };
        json!({
            "units": self.latencies.len(),
            "warmUnits": warm,
            "seconds": time.as_secs_f64(),
            "errors": self.errors,
            "error": self.error,
            "latencyMicroseconds": { "p50": at(500), "p90": at(900), "p99": at(990), "max": at(1000) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use std::time::Duration;

    #[test]
    fn percentiles_are_nearest_ranks_and_the_first_error_is_kept() {
        let mut tally = Tally::default();
        let mut other = Tally::default();
        (1..=100).for_each(|number| tally.done(Duration::from_micros(number)));
        (101..=200).for_each(|number| other.done(Duration::from_micros(number)));
        other.fail("first".to_owned());
        other.fail("second".to_owned());
        tally.add(other);
        let json = tally.json(3, Duration::from_secs(2));
        assert_eq!(json["units"], 200);
        assert_eq!(json["latencyMicroseconds"]["p50"], 100);
        assert_eq!(json["latencyMicroseconds"]["p99"], 198);
        assert_eq!(json["latencyMicroseconds"]["max"], 200);
        assert_eq!((&json["errors"], &json["error"]), (&2.into(), &"first".into()));
        assert!(Tally::default().json(0, Duration::ZERO)["latencyMicroseconds"]["p50"].is_null());
    }
}
