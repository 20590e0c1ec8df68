//! What every data plane has: the merged word of this replica's streams and of the other replicas.
//!
//! In flow states of data planes, each from the replica that has its stream. Out flow [`DataPlaneEvent`]s: for each data plane the
//! difference between what was told last and what is so now. A reader that is slow finds fewer events, not more of them waiting: nothing
//! here is larger than the number of data planes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_model::ObjectName;
use portcullis_xds::ConfigVersion;
use tokio::sync::{Notify, mpsc};

use super::DataPlaneEvent;

/// Data planes that are known at most; what replicas tell beyond that ends their relay.
const DATA_PLANES: usize = 65_536;

/// How long the data planes of a replica that cannot be heard count as they did.
const GRACE: Duration = Duration::from_secs(10);

/// A data plane: a Gateway and a pod of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    pub(super) gateway: ObjectName,
    pub(super) pod: Arc<str>,
}

/// What a data plane said on its stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Which stream it is, among those of its replica.
    pub(super) session: u64,
    /// The last configuration that it serves, with the generation of its Gateway.
    pub(super) acknowledged: Option<(i64, ConfigVersion)>,
    /// A later one that it could not take.
    pub(super) refused: Option<(ConfigVersion, Arc<str>)>,
}

/// Who has a data plane's stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Replica {
    /// This one.
    Own,
    /// Another one, by its pod.
    Other(Arc<str>),
}

/// A state with what tells it from others of the same data plane.
#[derive(Clone, Debug)]
struct Entry {
    state: State,
    /// The larger, the newer, over all replicas.
    sequence: u64,
    /// Of which relay connection; 0 for this replica's own.
    epoch: u64,
}

#[derive(Default)]
struct Inner {
    entries: BTreeMap<Name, BTreeMap<Replica, Entry>>,
    /// What the reader of the events knows, and by whose word.
    told: BTreeMap<Name, (Replica, State)>,
    /// Data planes whose events are to be looked at.
    untold: BTreeSet<Name>,
    /// This replica's own ones that the leader does not know yet; `None` when there is none to tell.
    unrelayed: Option<BTreeSet<Name>>,
    /// The relay connection of each other replica.
    epochs: BTreeMap<Arc<str>, u64>,
    sequence: u64,
}

/// The data planes of all replicas. Cloning it shares it.
#[derive(Clone, Default)]
pub(super) struct Picture {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
    relay: Arc<Notify>,
}

impl Picture {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A data plane on a stream of this replica has this state now.
    pub(super) fn set(&self, name: Name, state: State) {
        let mut inner = self.lock();
        inner.put(name.clone(), Replica::Own, state, 0);
        inner.relay_later(name);
        drop(inner);
        self.changed.notify_one();
        self.relay.notify_one();
    }

    /// A stream of this replica has ended. Nothing happens when a newer one of the same data plane has begun.
    pub(super) fn unset(&self, name: &Name, session: u64) {
        let mut inner = self.lock();
        let own = inner.entries.get(name).and_then(|replicas| replicas.get(&Replica::Own));
        if own.is_none_or(|entry| entry.state.session != session) {
            return;
        }
        inner.take(name, &Replica::Own);
        inner.relay_later(name.clone());
        drop(inner);
        self.changed.notify_one();
        self.relay.notify_one();
    }

    /// Data planes with a stream of this replica.
    pub(super) fn own(&self) -> usize {
        let inner = self.lock();
        inner.entries.values().filter(|replicas| replicas.contains_key(&Replica::Own)).count()
    }

    /// Data planes of all replicas, as far as this one knows.
    pub(super) fn all(&self) -> usize {
        self.lock().entries.len()
    }

    /// Tells every change to `events`, until its receiver is gone.
    pub(super) async fn tell(self, events: mpsc::Sender<DataPlaneEvent>) {
        loop {
            let Some(news) = self.lock().news() else {
                tokio::select! {
                    () = self.changed.notified() => continue,
                    () = events.closed() => return,
                }
            };
            for event in news {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The follower's side: this replica's own data planes, for the holder of the lease.
impl Picture {
    /// From now on everything is news for the leader, who knows nothing yet.
    pub(super) fn begin_relay(&self) {
        let mut inner = self.lock();
        let own = inner.entries.iter().filter(|(_, replicas)| replicas.contains_key(&Replica::Own));
        inner.unrelayed = Some(own.map(|(name, _)| name.clone()).collect());
    }

    /// There is no leader to tell.
    pub(super) fn end_relay(&self) {
        self.lock().unrelayed = None;
    }

    /// At most `limit` data planes that the leader does not know as they are; `None` for one that is gone. Empty: it knows all.
    pub(super) fn unrelayed(&self, limit: usize) -> Vec<(Name, Option<State>)> {
        let mut inner = self.lock();
        let Some(mut names) = inner.unrelayed.take() else { return Vec::new() };
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some(name) = names.pop_first() else { break };
            let own = inner.entries.get(&name).and_then(|replicas| replicas.get(&Replica::Own));
            taken.push((name, own.map(|entry| entry.state.clone())));
        }
        inner.unrelayed = Some(names);
        taken
    }

    /// Waits for news for the leader.
    pub(super) async fn relay_changed(&self) {
        self.relay.notified().await;
    }
}

/// The leader's side: the data planes of the other replicas.
impl Picture {
    /// A replica begins to tell. What it told on an earlier connection holds until [`Picture::complete`] or its grace is over.
    pub(super) fn attach(&self, replica: &Arc<str>) -> u64 {
        let mut inner = self.lock();
        inner.sequence += 1;
        let epoch = inner.sequence;
        inner.epochs.insert(replica.clone(), epoch);
        epoch
    }

    /// A replica tells a state; `None`: the data plane's stream with it has ended. False when a newer connection of
    /// that replica has taken over, or there are too many.
    pub(super) fn relayed(&self, replica: &Arc<str>, epoch: u64, name: Name, state: Option<State>) -> bool {
        let mut inner = self.lock();
        let is_full = inner.entries.len() >= DATA_PLANES && !inner.entries.contains_key(&name);
        if inner.epochs.get(replica) != Some(&epoch) || is_full {
            return false;
        }
        match state {
            Some(state) => inner.put(name, Replica::Other(replica.clone()), state, epoch),
            None => inner.take(&name, &Replica::Other(replica.clone())),
        }
        drop(inner);
        self.changed.notify_one();
        true
    }

    /// The replica has told its whole picture on this connection: what it did not tell is gone.
    pub(super) fn complete(&self, replica: &Arc<str>, epoch: u64) {
        self.forget(replica, epoch, |entry| entry.epoch != epoch);
    }

    /// The replica's connection has ended: it may come back within the grace, before its data planes count as gone.
    pub(super) fn detach(&self, replica: Arc<str>, epoch: u64) {
        let picture = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            picture.forget(&replica, epoch, |_| true);
            let mut inner = picture.lock();
            if inner.epochs.get(&replica) == Some(&epoch) {
                inner.epochs.remove(&replica);
            }
        });
    }

    fn forget(&self, replica: &Arc<str>, epoch: u64, gone: impl Fn(&Entry) -> bool) {
        let mut inner = self.lock();
        if inner.epochs.get(replica) != Some(&epoch) {
            return;
        }
        let other = Replica::Other(replica.clone());
        let of_it = inner.entries.iter().filter(|(_, replicas)| replicas.get(&other).is_some_and(&gone));
        let names: Vec<_> = of_it.map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| inner.take(name, &other));
        drop(inner);
        self.changed.notify_one();
    }
}

impl Inner {
    fn put(&mut self, name: Name, replica: Replica, state: State, epoch: u64) {
        self.sequence += 1;
        let entry = Entry { state, sequence: self.sequence, epoch };
        self.untold.insert(name.clone());
        self.entries.entry(name).or_default().insert(replica, entry);
    }

    fn take(&mut self, name: &Name, replica: &Replica) {
        let Some(replicas) = self.entries.get_mut(name) else { return };
        replicas.remove(replica);
        if replicas.is_empty() {
            self.entries.remove(name);
        }
        self.untold.insert(name.clone());
    }

    fn relay_later(&mut self, name: Name) {
        if let Some(unrelayed) = &mut self.unrelayed {
            unrelayed.insert(name);
        }
    }

    /// The events about one data plane; `None` when all is told.
    fn news(&mut self) -> Option<Vec<DataPlaneEvent>> {
        let name = self.untold.pop_first()?;
        // The newest word counts: a data plane that moved to another replica is still known to the first one for a while.
        let newest =
            self.entries.get(&name).and_then(|replicas| replicas.iter().max_by_key(|(_, entry)| entry.sequence));
        let Some((replica, entry)) = newest else {
            let known = self.told.remove(&name).is_some();
            return Some(if known {
                vec![DataPlaneEvent::Gone { gateway: name.gateway, pod: name.pod }]
            } else {
                Vec::new()
            });
        };
        let now = (replica.clone(), entry.state.clone());
        let before = self.told.insert(name.clone(), now.clone());
        Some(difference(name, before, now))
    }
}

fn difference(name: Name, before: Option<(Replica, State)>, (replica, now): (Replica, State)) -> Vec<DataPlaneEvent> {
    let Name { gateway, pod } = name;
    let mut events = Vec::new();
    // Another stream is another beginning.
    let before =
        before.filter(|(known, state)| *known == replica && state.session == now.session).map(|(_, state)| state);
    if before.is_none() {
        events.push(DataPlaneEvent::Connected { gateway: gateway.clone(), pod: pod.clone() });
    }
    let before = before.unwrap_or_default();
    if let Some((gateway_generation, version)) =
        now.acknowledged.filter(|now| Some(now) != before.acknowledged.as_ref())
    {
        let (gateway, pod) = (gateway.clone(), pod.clone());
        events.push(DataPlaneEvent::Acknowledged { gateway, pod, gateway_generation, version });
    }
    if let Some((version, message)) = now.refused.filter(|now| Some(now) != before.refused.as_ref()) {
        events.push(DataPlaneEvent::Refused { gateway, pod, version, message });
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pod: &str) -> Name {
        Name { gateway: ObjectName::new("shop", "edge"), pod: pod.into() }
    }

    fn state(session: u64, acknowledged: Option<i64>) -> State {
        let acknowledged = acknowledged.map(|generation| (generation, ConfigVersion::default()));
        State { session, acknowledged, refused: None }
    }

    /// The events that are due, in short.
    fn news(picture: &Picture) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(events) = picture.lock().news() {
            told.extend(events.into_iter().map(|event| match event {
                DataPlaneEvent::Connected { pod, .. } => format!("{pod} connected"),
                DataPlaneEvent::Acknowledged { pod, gateway_generation, .. } => {
                    format!("{pod} has {gateway_generation}")
                }
                DataPlaneEvent::Refused { pod, message, .. } => format!("{pod} refused: {message}"),
                DataPlaneEvent::Gone { pod, .. } => format!("{pod} gone"),
            }));
        }
        told
    }

    #[test]
    fn a_slow_reader_gets_what_is_so_now() {
        let picture = Picture::default();
        for generation in 0..100 {
            picture.set(name("a"), state(1, Some(generation)));
        }
        assert_eq!(news(&picture), ["a connected", "a has 99"]);
        picture.set(name("a"), state(1, Some(99)));
        assert!(news(&picture).is_empty());
        // It came and went between two looks.
        picture.set(name("b"), state(2, None));
        picture.unset(&name("b"), 2);
        assert!(news(&picture).is_empty());
        assert_eq!((picture.own(), picture.all()), (1, 1));
    }

    #[test]
    fn the_end_of_an_older_stream_says_nothing_about_the_newer() {
        let picture = Picture::default();
        picture.set(name("a"), state(1, Some(1)));
        picture.set(name("a"), state(2, None));
        picture.unset(&name("a"), 1);
        assert_eq!(news(&picture), ["a connected"]);
        picture.unset(&name("a"), 2);
        assert_eq!(news(&picture), ["a gone"]);
    }

    #[test]
    fn the_newest_word_of_any_replica_counts() {
        let picture = Picture::default();
        let other: Arc<str> = "controller-1".into();
        let epoch = picture.attach(&other);
        assert!(picture.relayed(&other, epoch, name("a"), Some(state(7, Some(1)))));
        assert_eq!(news(&picture), ["a connected", "a has 1"]);
        // It moves here before the other replica notices.
        picture.set(name("a"), state(1, Some(2)));
        assert_eq!(news(&picture), ["a connected", "a has 2"]);
        assert!(picture.relayed(&other, epoch, name("a"), None));
        assert!(news(&picture).is_empty());
        picture.unset(&name("a"), 1);
        assert_eq!(news(&picture), ["a gone"]);
    }

    #[test]
    fn what_a_new_relay_does_not_tell_is_gone_and_an_old_one_is_not_heard() {
        let picture = Picture::default();
        let other: Arc<str> = "controller-1".into();
        let first = picture.attach(&other);
        for pod in ["a", "b"] {
            assert!(picture.relayed(&other, first, name(pod), Some(state(1, None))));
        }
        assert_eq!(news(&picture), ["a connected", "b connected"]);
        let second = picture.attach(&other);
        assert!(!picture.relayed(&other, first, name("c"), Some(state(2, None))));
        picture.complete(&other, first);
        assert!(picture.relayed(&other, second, name("b"), Some(state(1, None))));
        assert!(news(&picture).is_empty());
        picture.complete(&other, second);
        assert_eq!(news(&picture), ["a gone"]);
    }

    #[test]
    fn the_leader_is_told_everything_once_and_then_what_changes() {
        let picture = Picture::default();
        picture.set(name("a"), state(1, None));
        assert!(picture.unrelayed(10).is_empty(), "there is no leader to tell");
        picture.begin_relay();
        picture.set(name("b"), state(2, None));
        assert_eq!(picture.unrelayed(1), [(name("a"), Some(state(1, None)))]);
        assert_eq!(picture.unrelayed(10), [(name("b"), Some(state(2, None)))]);
        assert!(picture.unrelayed(10).is_empty());
        picture.unset(&name("a"), 1);
        assert_eq!(picture.unrelayed(10), [(name("a"), None)]);
        let other: Arc<str> = "controller-1".into();
        let epoch = picture.attach(&other);
        picture.relayed(&other, epoch, name("c"), Some(state(1, None)));
        assert!(picture.unrelayed(10).is_empty(), "others' data planes are told by themselves");
        picture.end_relay();
        picture.begin_relay();
        assert_eq!(picture.unrelayed(10).len(), 1);
    }
}
