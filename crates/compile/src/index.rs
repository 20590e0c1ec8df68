//! Reverse indexes: who refers to whom, kept up to date as referrers change, so that a change costs what it touches.

use std::collections::{BTreeMap, BTreeSet};

use crate::small::Set;

/// Who refers to whom. A referent need not exist.
pub(crate) struct References<From, To> {
    by_referrer: BTreeMap<From, Set<To>>,
    by_referent: BTreeMap<To, Set<From>>,
}

impl<From, To> Default for References<From, To> {
    fn default() -> Self {
        Self { by_referrer: BTreeMap::new(), by_referent: BTreeMap::new() }
    }
}

impl<From: Ord + Clone, To: Ord + Clone> References<From, To> {
    /// Says to whom a referrer refers, in place of what was said before.
    pub(crate) fn set(&mut self, referrer: &From, referents: BTreeSet<To>) {
        let before = self.by_referrer.remove(referrer).unwrap_or_default();
        for gone in before.iter().filter(|before| !referents.contains(before)) {
            if let Some(referrers) = self.by_referent.get_mut(gone) {
                referrers.remove(referrer);
                if referrers.is_empty() {
                    self.by_referent.remove(gone);
                }
            }
        }
        for new in referents.iter().filter(|referent| !before.contains(referent)) {
            self.by_referent.entry(new.clone()).or_default().insert(referrer.clone());
        }
        if !referents.is_empty() {
            self.by_referrer.insert(referrer.clone(), referents.into_iter().collect());
        }
    }

    /// Those that refer to a referent, in order.
    pub(crate) fn to<'a>(&'a self, referent: &To) -> impl Iterator<Item = &'a From> + use<'a, From, To> {
        self.by_referent.get(referent).into_iter().flat_map(Set::iter)
    }

    /// Those to whom a referrer refers, in order.
    pub(crate) fn of<'a>(&'a self, referrer: &From) -> impl Iterator<Item = &'a To> + use<'a, From, To> {
        self.by_referrer.get(referrer).into_iter().flat_map(Set::iter)
    }

    /// All that somebody refers to, in order.
    pub(crate) fn referents(&self) -> impl Iterator<Item = &To> {
        self.by_referent.keys()
    }

    /// Whether anybody refers to a referent.
    pub(crate) fn is_referred_to(&self, referent: &To) -> bool {
        self.by_referent.contains_key(referent)
    }
}
