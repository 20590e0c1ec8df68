//! What there is to send, and who is to get it.
//!
//! In flow changes and the list of Gateways; streams come and go. Out flow wake-ups of the streams of a changed Gateway, and the
//! ends of streams that must not go on. One lock guards all of it: a stream that is entered is either checked against the list of Gateways
//! that is known, or ended by the next one; nothing falls in between.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_model::{ConfigDelta, ObjectName, Resource};
use portcullis_xds::Catalog;
use tokio::sync::{Notify, watch};

use super::metrics::Metrics;
use super::picture::Picture;
use super::stream::Ending;
use crate::identity::issue::Known;
use crate::identity::rate::Lines;
use crate::identity::{DataPlaneIdentity, KnownGateways};

/// Shared by all streams of this replica.
pub(super) struct Hub {
    state: Mutex<State>,
    ready: watch::Sender<bool>,
    deployment_name: fn(&ObjectName, &str) -> String,
    pub(super) picture: Picture,
    pub(super) metrics: Metrics,
    /// Any data plane can be refused, or refuse, as often as it likes: that must not fill the log.
    pub(super) lines: Lines,
}

#[derive(Default)]
struct State {
    catalog: Catalog,
    is_published: bool,
    known: Option<KnownGateways>,
    /// The class of each Gateway in the catalog.
    classes: BTreeMap<ObjectName, Arc<str>>,
    streams: HashMap<ObjectName, HashMap<u64, Arc<Line>>>,
    last_session: u64,
}

/// What others need to reach a stream.
pub(super) struct Line {
    pub(super) identity: DataPlaneIdentity,
    /// Tells this stream from earlier ones of the same data plane.
    pub(super) session: u64,
    /// Its Gateway's configuration changed.
    pub(super) changed: Notify,
    /// It must end, and its connection with it when the data plane has lost its right.
    pub(super) ending: watch::Sender<Option<Ending>>,
}

/// A stream's place in the hub, until it is dropped.
pub(super) struct Seat {
    hub: Arc<Hub>,
    pub(super) line: Arc<Line>,
}

impl Hub {
    pub(super) fn new(picture: Picture, metrics: Metrics, deployment_name: fn(&ObjectName, &str) -> String) -> Self {
        let (state, lines) = (Mutex::default(), Lines::default());
        Self { state, ready: watch::Sender::new(false), deployment_name, picture, metrics, lines }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn publish(&self, deltas: &[ConfigDelta]) {
        let mut state = self.lock();
        deltas.iter().for_each(|delta| state.note_class(delta));
        let changed = state.catalog.publish(deltas);
        for gateway in changed {
            state.streams.get(&gateway).into_iter().flatten().for_each(|(_, line)| line.changed.notify_one());
        }
        state.is_published = true;
        self.ready.send_replace(state.known.is_some());
    }

    pub(super) fn gateways(&self, known: KnownGateways) {
        let mut state = self.lock();
        for (gateway, lines) in &state.streams {
            let uid = known.get(gateway);
            let revoked = lines.values().filter(|line| uid != Some(&line.identity.uid));
            revoked.for_each(|line| drop(line.ending.send_replace(Some(Ending::Revoked))));
        }
        state.known = Some(known);
        self.ready.send_replace(state.is_published);
    }

    /// What is known about a Gateway, for those who ask for a certificate.
    pub(super) fn known(&self, gateway: &ObjectName) -> Known {
        let state = self.lock();
        let Some(known) = &state.known else { return Known::NotYet };
        match (known.get(gateway), state.classes.get(gateway)) {
            (None, _) => Known::No,
            (Some(_), None) => Known::NotYet,
            (Some(uid), Some(class)) => {
                let deployment = (self.deployment_name)(gateway, class).into();
                Known::Gateway { uid: uid.clone(), deployment }
            }
        }
    }

    /// Waits until there is something to send and it is known to whom.
    pub(super) async fn ready(&self) {
        // The sender lives as long as this does.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Looks at the catalog. Not to be held for longer than it takes to gather messages.
    pub(super) fn with_catalog<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        look(&self.lock().catalog)
    }

    /// Looks at the catalog for a data plane; `None` when its Gateway is gone or another one by now.
    pub(super) fn with_catalog_of<T>(
        &self,
        identity: &DataPlaneIdentity,
        look: impl FnOnce(&Catalog) -> T,
    ) -> Option<T> {
        let state = self.lock();
        let uid = state.known.as_ref().and_then(|known| known.get(&identity.gateway));
        (uid == Some(&identity.uid)).then(|| look(&state.catalog))
    }

    /// A place for a stream. An earlier stream of the same data plane ends: one that does not know of its end yet.
    pub(super) fn enter(self: &Arc<Self>, identity: DataPlaneIdentity) -> Result<Seat, Ending> {
        let mut state = self.lock();
        let uid = state.known.as_ref().map(|known| known.get(&identity.gateway));
        if uid.is_some_and(|uid| uid != Some(&identity.uid)) {
            return Err(Ending::Revoked);
        }
        state.last_session += 1;
        let session = state.last_session;
        let gateway = identity.gateway.clone();
        let line = Arc::new(Line { identity, session, changed: Notify::new(), ending: watch::Sender::new(None) });
        let lines = state.streams.entry(gateway).or_default();
        let earlier = lines.values().filter(|earlier| earlier.identity.pod == line.identity.pod);
        earlier.for_each(|earlier| drop(earlier.ending.send_replace(Some(Ending::Superseded))));
        lines.insert(session, line.clone());
        drop(state);
        Ok(Seat { hub: self.clone(), line })
    }
}

impl State {
    fn note_class(&mut self, delta: &ConfigDelta) {
        match delta {
            ConfigDelta::Remove { gateway } => drop(self.classes.remove(gateway)),
            ConfigDelta::Change { gateway, upserted, .. } => {
                let own = upserted.iter().find_map(|resource| match resource {
                    Resource::Gateway(own) => Some(own.gateway_class.clone()),
                    _ => None,
                });
                if let Some(class) = own {
                    self.classes.insert(gateway.clone(), class);
                }
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Line { identity, session, .. } = &*self.line;
        let mut state = self.hub.lock();
        if let Some(lines) = state.streams.get_mut(&identity.gateway) {
            lines.remove(session);
            if lines.is_empty() {
                state.streams.remove(&identity.gateway);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_runtime::metrics::Registry;

    use super::*;

    #[test]
    fn the_catalog_is_for_data_planes_of_gateways_that_are_known_by_their_uid() {
        let metrics = Metrics::register(&Registry::new(1), Picture::default()).unwrap();
        let hub = Hub::new(Picture::default(), metrics, |gateway, _| gateway.to_string());
        let gateway = ObjectName::new("shop", "edge");
        let identity = DataPlaneIdentity::new(gateway.clone(), "gw-1", "edge-portcullis-5d-x").unwrap();
        let may_look = || hub.with_catalog_of(&identity, |_| ()).is_some();
        assert!(!may_look(), "nothing is known yet");
        for (uid, expected) in [(Some("gw-1"), true), (Some("gw-2"), false), (None, false)] {
            hub.gateways(Arc::new(uid.map(|uid| (gateway.clone(), uid.into())).into_iter().collect()));
            assert_eq!(may_look(), expected, "{uid:?}");
        }
    }
}
