//! A running watch of a cluster.

mod coordinator;
mod places;

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_model::ObjectName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::connect::Client;
use crate::event::Event;
use crate::kinds::KindId;
use crate::selection::Selection;
use crate::statistics::Statistics;
use coordinator::Coordinator;

/// A running watch. It ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    wants: watch::Sender<Wants>,
    statistics: Arc<Statistics>,
    task: JoinHandle<()>,
}

/// What a watch has done for one kind since it began.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KindStatistics {
    /// The kind.
    pub kind: KindId,
    /// Objects that are known now.
    pub objects: u64,
    /// Watches that are open now.
    pub connected: u64,
    /// Changes that a watch told.
    pub events: u64,
    /// Lists, the first included.
    pub lists: u64,
    /// Requests that failed, and watches that broke off.
    pub failures: u64,
    /// Objects that could not be read.
    pub unparsable: u64,
    /// Bodies that were read by name.
    pub reads: u64,
}

/// What is wanted, and by which call.
#[derive(Clone, Debug, Default)]
struct Wants {
    number: u64,
    secrets: Arc<BTreeSet<ObjectName>>,
    config_maps: Arc<BTreeSet<ObjectName>>,
}

/// Events that may wait to be received.
const EVENTS: usize = 64;

impl Watch {
    /// Begins to watch, on the tokio runtime that this is called in. The receiver must be emptied: as long as it is full
    /// nothing more is read.
    pub fn start(client: Client, selection: Selection) -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let (wants, wanted) = watch::channel(Wants::default());
        let statistics = Arc::new(Statistics::default());
        let coordinator = Coordinator::new(client, selection, events, wanted, statistics.clone());
        let task = tokio::spawn(coordinator.run());
        (Self { wants, statistics, task }, receiver)
    }

    /// Says which bodies are wanted from now on, in place of what was said before. They come as `Change`s, again whenever
    /// they change; those that are no longer wanted are forgotten at once. Returns the number which
    /// [`Event::WantedRead`] gives back. Never waits.
    pub fn want(&self, secrets: BTreeSet<ObjectName>, config_maps: BTreeSet<ObjectName>) -> u64 {
        let mut number = 0;
        self.wants.send_modify(|wants| {
            number = wants.number + 1;
            *wants = Wants { number, secrets: Arc::new(secrets), config_maps: Arc::new(config_maps) };
        });
        number
    }

    /// What has been done so far, in the order of kinds.
    pub fn statistics(&self) -> Vec<KindStatistics> {
        self.statistics.read()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
