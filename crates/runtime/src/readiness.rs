//! Readiness: named gates that must all be open.
//!
//! In flow the parts' word that they can serve (the first complete config, bound listeners). Out flows yes, or the list of
//! reasons why not, for `/readyz`. A drain that has begun means not ready, whatever the gates say.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::drain::DrainWatch;
use crate::escape;

/// The gates of this process. Cloning it shares them.
#[derive(Clone, Debug)]
pub struct Readiness {
    gates: Arc<Mutex<Vec<State>>>,
    drain: DrainWatch,
}

#[derive(Debug)]
struct State {
    name: &'static str,
    closed: Option<String>,
}

impl Readiness {
    /// No gates yet. Add all of them before the telemetry server starts, or it is ready too early.
    pub fn new(drain: DrainWatch) -> Self {
        Self { gates: Arc::default(), drain }
    }

    /// A new gate, closed because of `reason`. Dropping the handle leaves the gate as it is: closed stays closed.
    pub fn gate(&self, name: &'static str, reason: &str) -> Gate {
        let mut gates = self.lock();
        gates.push(State { name, closed: Some(escape::line(reason).into_owned()) });
        Gate { readiness: self.clone(), index: gates.len() - 1 }
    }

    /// Ready, or every reason why not, one line each: `config: waiting for the first complete configuration`.
    ///
    /// # Errors
    /// The reasons, never empty.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        if self.drain.is_draining() {
            reasons.push("drain: this process is draining".to_owned());
        }
        for gate in self.lock().iter() {
            if let Some(reason) = &gate.closed {
                reasons.push(format!("{}: {reason}", gate.name));
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// True when [`Readiness::check`] finds no reason against it.
    pub fn is_ready(&self) -> bool {
        self.check().is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One condition of readiness, held by the part that it is about.
#[derive(Debug)]
pub struct Gate {
    readiness: Readiness,
    index: usize,
}

impl Gate {
    /// This part can serve.
    pub fn open(&self) {
        self.set(None);
    }

    /// This part cannot serve now; `reason` says what is missing.
    pub fn close(&self, reason: &str) {
        self.set(Some(escape::line(reason).into_owned()));
    }

    fn set(&self, closed: Option<String>) {
        if let Some(state) = self.readiness.lock().get_mut(self.index) {
            state.closed = closed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Drain;
    use std::time::Duration;

    #[test]
    fn ready_only_when_every_gate_is_open_and_nothing_drains() {
        let drain = Drain::new();
        let readiness = Readiness::new(drain.watch());
        let config = readiness.gate("config", "waiting for the first complete configuration");
        let listeners = readiness.gate("listeners", "not bound");
        assert_eq!(
            readiness.check().unwrap_err(),
            ["config: waiting for the first complete configuration", "listeners: not bound"]
        );
        config.open();
        assert!(!readiness.is_ready());
        listeners.open();
        assert!(readiness.is_ready());

        listeners.close("port 80 is in use\nby nginx");
        assert_eq!(readiness.check().unwrap_err(), [r"listeners: port 80 is in use\nby nginx"]);
        listeners.open();
        drop(listeners);
        assert!(readiness.is_ready());

        drain.begin(Duration::from_secs(1));
        assert_eq!(readiness.check().unwrap_err(), ["drain: this process is draining"]);
    }
}
