//! Sets and maps that mostly hold one or two things, of which there are many: sorted lists without room to spare. A tree has room for eleven
//! in its first node, which at thousands of routes is most of what they would take.

use std::collections::BTreeSet;

/// From how many on a set is a tree, so that a change costs little for any number.
const MANY: usize = 16;

/// An ordered set.
#[derive(Clone, Debug)]
pub(crate) struct Set<T> {
    /// Sorted; empty once there are many.
    few: Vec<T>,
    many: Option<BTreeSet<T>>,
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self { few: Vec::new(), many: None }
    }
}

impl<T: Ord> Set<T> {
    pub(crate) fn insert(&mut self, value: T) {
        if let Some(many) = &mut self.many {
            many.insert(value);
        } else if let Err(index) = self.few.binary_search(&value) {
            self.few.reserve_exact(1);
            self.few.insert(index, value);
            if self.few.len() > MANY {
                self.many = Some(std::mem::take(&mut self.few).into_iter().collect());
            }
        }
    }

    pub(crate) fn remove(&mut self, value: &T) {
        if let Some(many) = &mut self.many {
            many.remove(value);
            if many.len() <= MANY / 2 {
                self.few = std::mem::take(many).into_iter().collect();
                self.many = None;
            }
        } else if let Ok(index) = self.few.binary_search(value) {
            self.few.remove(index);
        }
    }

    pub(crate) fn contains(&self, value: &T) -> bool {
        match &self.many {
            Some(many) => many.contains(value),
            None => self.few.binary_search(value).is_ok(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_none()
    }

    /// In order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.few.iter().chain(self.many.iter().flat_map(|many| many.iter()))
    }
}

impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut set = Self::default();
        values.into_iter().for_each(|value| set.insert(value));
        set
    }
}

/// An ordered map of few entries.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Map<K, V>(Vec<(K, V)>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord + Clone, V: Default> Map<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let index = self.0.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        self.0.get(index).map(|(_, value)| value)
    }

    /// The value of a key, made if there is none.
    pub(crate) fn entry(&mut self, key: &K) -> &mut V {
        let index = match self.0.binary_search_by(|(known, _)| known.cmp(key)) {
            Ok(index) => index,
            Err(index) => {
                self.0.reserve_exact(1);
                self.0.insert(index, (key.clone(), V::default()));
                index
            }
        };
        &mut self.0[index].1
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Ok(index) = self.0.binary_search_by(|(known, _)| known.cmp(key)) {
            self.0.remove(index);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// In order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// In the order of their keys.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

/// How often each key is there: one more or one less.
pub(crate) fn count<K: Ord + Clone>(counts: &mut Map<K, usize>, key: &K, add: bool) -> usize {
    let count = counts.entry(key);
    *count = if add { *count + 1 } else { count.saturating_sub(1) };
    let count = *count;
    if count == 0 {
        counts.remove(key);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn sets_are_as_trees(changes in prop::collection::vec((any::<bool>(), 0u8..40), 0..200)) {
            let (mut set, mut tree) = (Set::default(), BTreeSet::new());
            for (add, value) in changes {
                if add {
                    set.insert(value);
                    tree.insert(value);
                } else {
                    set.remove(&value);
                    tree.remove(&value);
                }
                prop_assert!(set.iter().eq(tree.iter()));
                prop_assert_eq!((set.is_empty(), set.contains(&7)), (tree.is_empty(), tree.contains(&7)));
            }
        }

        #[test]
        fn counts_are_as_in_trees(changes in prop::collection::vec((any::<bool>(), 0u8..8), 0..100)) {
            let (mut map, mut tree) = (Map::default(), BTreeMap::<u8, usize>::new());
            for (add, key) in changes {
                let known = tree.entry(key).or_default();
                *known = if add { *known + 1 } else { known.saturating_sub(1) };
                prop_assert_eq!(count(&mut map, &key, add), *known);
                tree.retain(|_, count| *count > 0);
                prop_assert!(map.iter().eq(tree.iter()));
                prop_assert!(map.keys().eq(tree.keys()) && map.get(&key) == tree.get(&key));
            }
        }
    }
}
