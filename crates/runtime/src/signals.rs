//! Signals of the operating system.
//!
//! In flow SIGTERM, SIGINT and SIGHUP. Out flow: the first of SIGTERM and SIGINT begins the drain, the second forces it;
//! SIGHUP tells everyone who holds a [`ReloadWatch`] to open files again and to read configuration anew.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::drain::{Drain, Phase};

/// The process's signal handlers. Once installed, signals no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Installs the handlers. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Turns signals into the drain and into reloads, for ever; spawn it on the control thread.
    pub async fn drive(mut self, drain: Drain, grace: Duration, reload: Reload) {
        loop {
            tokio::select! {
                Some(()) = self.terminate.recv() => stop("SIGTERM", &drain, grace),
                Some(()) = self.interrupt.recv() => stop("SIGINT", &drain, grace),
                Some(()) = self.hangup.recv() => {
                    tracing::info!(signal = "SIGHUP", "reload");
                    reload.notify();
                }
                else => return,
            }
        }
    }
}

fn stop(signal: &'static str, drain: &Drain, grace: Duration) {
    if drain.phase() == Phase::Running {
        tracing::info!(signal, grace_seconds = grace.as_secs(), "drain begins; a second signal cuts off what is open");
        drain.begin(grace);
    } else {
        tracing::warn!(signal, open = %drain.open(), "drain forced");
        drain.force();
    }
}

/// Tells watchers to reload. Cloning it shares the watchers.
#[derive(Clone, Debug)]
pub struct Reload {
    count: watch::Sender<u64>,
}

impl Reload {
    /// A reload that nobody has asked for yet.
    pub fn new() -> Self {
        Self { count: watch::Sender::new(0) }
    }

    /// Tells every watcher.
    pub fn notify(&self) {
        self.count.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Watches for reloads from now on.
    pub fn watch(&self) -> ReloadWatch {
        ReloadWatch { count: self.count.subscribe() }
    }
}

impl Default for Reload {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits for reloads. Several that came while nobody waited count as one.
#[derive(Clone, Debug)]
pub struct ReloadWatch {
    count: watch::Receiver<u64>,
}

impl ReloadWatch {
    /// Waits for the next reload; for ever once every [`Reload`] is gone.
    pub async fn requested(&mut self) {
        if self.count.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reloads_reach_every_watcher_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let reload = Reload::new();
            let (mut one, mut two) = (reload.watch(), reload.watch());
            reload.notify();
            reload.notify();
            one.requested().await;
            two.requested().await;
            assert!(!one.count.has_changed().unwrap());
        });
    }

    #[test]
    fn the_first_request_to_stop_drains_and_the_second_forces() {
        let drain = Drain::new();
        stop("SIGTERM", &drain, Duration::from_secs(25));
        assert!(matches!(drain.phase(), Phase::Draining { .. }));
        stop("SIGINT", &drain, Duration::from_secs(25));
        assert_eq!(drain.phase(), Phase::Forced);
    }
}
