//! What has been told of the objects of one kind in one place: enough to tell a new list from it.

use std::collections::HashMap;

/// The objects that have been told, each with the number of its version.
#[derive(Debug, Default)]
pub(crate) struct Known {
    objects: HashMap<Box<str>, Entry>,
    round: u32,
}

#[derive(Debug)]
struct Entry {
    version: Option<u64>,
    /// The list in which the object was last seen.
    round: u32,
}

/// Namespace and name of an object that is no longer there.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Lost(Box<str>);

impl Lost {
    pub(crate) fn split(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or(("", &self.0))
    }
}

fn key(namespace: &str, name: &str) -> Box<str> {
    format!("{namespace}/{name}").into()
}

impl Known {
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether an object is known in this version. It counts as seen.
    pub(crate) fn is_same(&mut self, namespace: &str, name: &str, version: u64) -> bool {
        let round = self.round;
        self.objects.get_mut(&*key(namespace, name)).is_some_and(|entry| {
            entry.round = round;
            entry.version == Some(version)
        })
    }

    /// Notes an object that is about to be told.
    pub(crate) fn insert(&mut self, namespace: &str, name: &str, version: u64) {
        let entry = Entry { version: Some(version), round: self.round };
        self.objects.insert(key(namespace, name), entry);
    }

    /// Notes that an object is gone. Says whether it was known.
    pub(crate) fn remove(&mut self, namespace: &str, name: &str) -> bool {
        self.objects.remove(&*key(namespace, name)).is_some()
    }

    /// A new list begins.
    pub(crate) fn begin_list(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// The list is complete: what was not seen since it began is gone.
    pub(crate) fn end_list(&mut self) -> Vec<Lost> {
        let round = self.round;
        let mut lost: Vec<_> =
            self.objects.extract_if(|_, entry| entry.round != round).map(|(key, _)| Lost(key)).collect();
        lost.sort();
        lost
    }

    /// Everything is gone.
    pub(crate) fn clear(&mut self) -> Vec<Lost> {
        self.begin_list();
        self.end_list()
    }

    /// What is known is still there, but has to be told again.
    pub(crate) fn forget_versions(&mut self) {
        for entry in self.objects.values_mut() {
            entry.version = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_tells_what_is_new_and_what_is_lost() {
        let mut known = Known::default();
        known.begin_list();
        for (namespace, name, version) in [("a", "x", 1), ("a", "y", 2), ("", "z", 3)] {
            assert!(!known.is_same(namespace, name, version));
            known.insert(namespace, name, version);
        }
        assert!(known.end_list().is_empty());
        known.begin_list();
        assert!(known.is_same("a", "x", 1));
        assert!(!known.is_same("a", "y", 3), "seen, but changed");
        let lost = known.end_list();
        assert_eq!(lost.iter().map(Lost::split).collect::<Vec<_>>(), [("", "z")]);
        known.forget_versions();
        assert!(!known.is_same("a", "x", 1));
        assert!(known.remove("a", "x") && !known.remove("a", "x"));
        assert_eq!(known.clear().len(), 1);
        assert_eq!(known.len(), 0);
    }
}
