//! A map whose copies share what they have in common, so that a copy with one change costs the square root of its size.
//!
//! Entries are in parts, chosen by a key's hash; a copy refers to the same parts, and what is changed afterwards copies its part first.

use crate::host::Map;
use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// Up to this many entries are one part.
const ONE_PART: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct SharedMap<K, V> {
    /// A power of two of them; none while the map is empty.
    parts: Box<[Arc<Map<K, V>>]>,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { parts: Box::default(), len: 0 }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SharedMap<K, V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.parts.get(self.part(key))?.get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.parts.is_empty() {
            self.parts = Box::new([Arc::default()]);
        } else if self.len >= ONE_PART && self.len >= self.parts.len() * self.parts.len() * 2 {
            self.split();
        }
        let at = self.part(&key);
        if Arc::make_mut(&mut self.parts[at]).insert(key, value).is_none() {
            self.len += 1;
        }
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let at = self.part(key);
        let Some(part) = self.parts.get_mut(at).filter(|part| part.contains_key(key)) else { return };
        Arc::make_mut(part).remove(key);
        self.len -= 1;
        if self.len == 0 {
            self.parts = Box::default();
        }
    }

    /// In no order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.parts.iter().flat_map(|part| part.keys())
    }

    /// Gives back what was reserved for growth; copies nothing.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.parts.iter_mut().filter_map(Arc::get_mut).for_each(Map::shrink_to_fit);
    }

    /// Where a key is. Parts are chosen by other bits than those that their own maps begin with.
    fn part<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        match self.parts.len() {
            0 | 1 => 0,
            parts => (Map::<K, V>::default().hasher().hash_one(key) >> 32) as usize & (parts - 1),
        }
    }

    /// Twice as many parts.
    fn split(&mut self) {
        let count = self.parts.len() * 2;
        let before = std::mem::replace(&mut self.parts, (0..count).map(|_| Arc::default()).collect());
        for part in before {
            let entries = Arc::unwrap_or_clone(part);
            for (key, value) in entries {
                let at = self.part(&key);
                Arc::make_mut(&mut self.parts[at]).insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SharedMap;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn it_is_a_map_and_so_are_its_copies(changes in prop::collection::vec((0u32..300, any::<bool>()), 0..1500)) {
            let (mut map, mut model) = (SharedMap::default(), BTreeMap::new());
            let mut copies = Vec::new();
            for (at, (key, is_insert)) in changes.into_iter().enumerate() {
                match is_insert || at < 300 {
                    true => { map.insert(key, at); model.insert(key, at); }
                    false => { map.remove(&key); model.remove(&key); }
                }
                if at % 200 == 0 {
                    copies.push((map.clone(), model.clone()));
                }
            }
            copies.push((map, model));
            for (map, model) in copies {
                prop_assert_eq!(map.len, model.len());
                prop_assert_eq!(map.is_empty(), model.is_empty());
                for key in 0..300 {
                    prop_assert_eq!(map.get(&key), model.get(&key));
                }
            }
        }
    }

    #[test]
    fn a_changed_copy_shares_all_but_one_part() {
        let mut map = SharedMap::default();
        (0..5_000u32).for_each(|key| map.insert(key, key));
        let mut copy = map.clone();
        copy.insert(17, 0);
        let shared = map.parts.iter().zip(&copy.parts).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!((map.parts.len(), shared), (copy.parts.len(), map.parts.len() - 1));
        let largest = map.parts.iter().map(|part| part.len()).max();
        assert!(map.parts.len() <= 128 && largest < Some(256), "{} parts, {largest:?}", map.parts.len());
    }
}
