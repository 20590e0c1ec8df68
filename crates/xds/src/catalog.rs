//! What there is to send: the encoded pieces of all Gateways, and in which order they changed.

use crate::ConfigVersion;
use crate::name::PieceKey;
use crate::version::PieceVersion;
use bytes::Bytes;
use portcullis_model::{ConfigDelta, ObjectName, Resource, ResourceKey, wire};
use std::collections::BTreeMap;
use std::fmt;

/// How many removed pieces of a Gateway are remembered, beyond as many as there are pieces. A stream that lags by more gets
/// everything anew.
const REMOVED_KEPT: usize = 1024;

/// The encoded pieces of all Gateways, each encoded and hashed once for all streams. A change costs what it touches, for any number
/// of pieces and streams. Buffers are zeroed when the last stream lets go of them.
#[derive(Debug, Default)]
pub struct Catalog {
    gateways: BTreeMap<ObjectName, GatewayPieces>,
    /// Counts the changes of pieces, of all Gateways.
    sequence: u64,
}

/// The pieces of one Gateway.
#[derive(Debug)]
pub(crate) struct GatewayPieces {
    /// The sequence at which the Gateway came. Another one means that it was removed in between.
    pub(crate) born: u64,
    /// The sequence of the last change.
    pub(crate) sequence: u64,
    /// Removals at or before this sequence are no longer known.
    pub(crate) forgotten: u64,
    pub(crate) version: ConfigVersion,
    pub(crate) generation: i64,
    pieces: BTreeMap<PieceKey, Piece>,
    /// The last change of each piece, those that were removed included.
    changes: BTreeMap<u64, PieceKey>,
    removed: BTreeMap<PieceKey, u64>,
}

pub(crate) struct Piece {
    pub(crate) version: PieceVersion,
    /// May hold a private key, and is not shown.
    pub(crate) bytes: Bytes,
    sequence: u64,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} bytes)", self.bytes.len())
    }
}

impl Catalog {
    /// Takes changes in; returns the Gateways whose pieces really changed, sorted.
    ///
    /// As in [`portcullis_model::Config::apply`], a change for an unknown Gateway that does not bring the Gateway itself is
    /// ignored.
    pub fn publish(&mut self, deltas: &[ConfigDelta]) -> Vec<ObjectName> {
        let mut changed = Vec::new();
        for delta in deltas {
            let is_change = match delta {
                ConfigDelta::Remove { gateway } => self.gateways.remove(gateway).is_some(),
                ConfigDelta::Change { gateway, upserted, removed } => self.change(gateway, upserted, removed),
            };
            if is_change {
                changed.push(delta.gateway().clone());
            }
        }
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// The version of a Gateway's configuration; `None` when there is none.
    pub fn version(&self, gateway: &ObjectName) -> Option<ConfigVersion> {
        Some(self.gateways.get(gateway)?.version)
    }

    /// The `metadata.generation` of a Gateway that its configuration was made of.
    pub fn gateway_generation(&self, gateway: &ObjectName) -> Option<i64> {
        Some(self.gateways.get(gateway)?.generation)
    }

    /// The Gateways that have a configuration.
    pub fn gateways(&self) -> impl Iterator<Item = &ObjectName> {
        self.gateways.keys()
    }

    pub(crate) fn pieces(&self, gateway: &ObjectName) -> Option<&GatewayPieces> {
        self.gateways.get(gateway)
    }

    fn change(&mut self, gateway: &ObjectName, upserted: &[Resource], removed: &[ResourceKey]) -> bool {
        if !self.gateways.contains_key(gateway) {
            if !upserted.iter().any(|resource| matches!(resource, Resource::Gateway(_))) {
                return false;
            }
            self.sequence += 1;
            self.gateways.insert(gateway.clone(), GatewayPieces::new(self.sequence));
        }
        let Some(pieces) = self.gateways.get_mut(gateway) else { return false };
        let before = pieces.sequence;
        for key in removed {
            pieces.remove(gateway, PieceKey::Keyed(key.clone()), &mut self.sequence);
        }
        for resource in upserted {
            pieces.put(gateway, resource, &mut self.sequence);
        }
        pieces.forget();
        pieces.sequence != before
    }
}

impl GatewayPieces {
    fn new(born: u64) -> Self {
        Self {
            born,
            sequence: born,
            forgotten: 0,
            version: ConfigVersion::default(),
            generation: 0,
            pieces: BTreeMap::new(),
            changes: BTreeMap::new(),
            removed: BTreeMap::new(),
        }
    }

    /// How many pieces there are.
    pub(crate) fn count(&self) -> usize {
        self.pieces.len()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&PieceKey, &Piece)> {
        self.pieces.iter()
    }

    pub(crate) fn piece(&self, key: &PieceKey) -> Option<&Piece> {
        self.pieces.get(key)
    }

    /// What changed after a sequence: a piece, or `None` for one that is gone.
    pub(crate) fn changes_after(&self, sequence: u64) -> impl Iterator<Item = (&PieceKey, Option<&Piece>)> {
        self.changes.range(sequence + 1..).map(|(_, key)| (key, self.pieces.get(key)))
    }

    fn put(&mut self, gateway: &ObjectName, resource: &Resource, sequence: &mut u64) {
        if let Resource::Gateway(gateway) = resource {
            self.generation = gateway.generation;
        }
        // What cannot be encoded cannot be read either: the data plane names it when it refuses the commit.
        let bytes = wire::encode(resource).unwrap_or_default();
        let version = PieceVersion::of(&bytes);
        let key = resource.key().map_or(PieceKey::Gateway, PieceKey::Keyed);
        let known = self.pieces.get(&key);
        if known.is_some_and(|known| known.version == version) {
            return;
        }
        let name = key.name(gateway);
        *sequence += 1;
        if let Some(known) = known {
            self.version.subtract(&name, &known.version.to_string());
            self.changes.remove(&known.sequence);
        }
        if let Some(removed) = self.removed.remove(&key) {
            self.changes.remove(&removed);
        }
        self.version.add(&name, &version.to_string());
        self.changes.insert(*sequence, key.clone());
        self.sequence = *sequence;
        self.pieces.insert(key, Piece { version, bytes: Bytes::from_owner(bytes), sequence: *sequence });
    }

    fn remove(&mut self, gateway: &ObjectName, key: PieceKey, sequence: &mut u64) {
        let Some(known) = self.pieces.remove(&key) else { return };
        *sequence += 1;
        self.version.subtract(&key.name(gateway), &known.version.to_string());
        self.changes.remove(&known.sequence);
        self.changes.insert(*sequence, key.clone());
        self.removed.insert(key, *sequence);
        self.sequence = *sequence;
    }

    /// Forgets the oldest removals beyond the bound.
    fn forget(&mut self) {
        let bound = REMOVED_KEPT + self.pieces.len();
        // To half of the bound at a time, so that one removal never costs a look at all.
        if self.removed.len() <= 2 * bound {
            return;
        }
        let mut sequences: Vec<_> = self.removed.values().copied().collect();
        sequences.sort_unstable();
        sequences.truncate(self.removed.len() - bound);
        for sequence in sequences {
            if let Some(key) = self.changes.remove(&sequence) {
                self.removed.remove(&key);
            }
            self.forgotten = sequence;
        }
    }
}
