//! Hostnames that one listener serves from several namespaces. That is allowed, and each namespace should know of the others: which of their
//! routes answers a request is decided by precedence.
//!
//! Who serves what is kept sorted, so that an edit of a route costs that route. What is said of a hostname names a bounded number of
//! namespaces, and only when one of those comes or goes are the other routes told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_model::{Hostname, ListenerKey, ObjectName};

/// How many other namespaces are named.
const NAMED: usize = 4;

/// A hostname of a listener of a Gateway.
pub(crate) type Place = (ObjectName, ListenerKey, Hostname);

/// The routes that serve each hostname of each listener.
#[derive(Default)]
pub(crate) struct SharedHostnames(BTreeMap<Place, Vec<ObjectName>>);

/// Other namespaces, in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OtherNamespaces {
    /// At most [`NAMED`].
    pub(crate) named: Vec<Arc<str>>,
    /// Whether there are more.
    pub(crate) has_more: bool,
}

impl SharedHostnames {
    /// Says what a route serves instead of what it served before. Gives the other routes for which something has changed by that.
    pub(crate) fn replace(
        &mut self,
        route: &ObjectName,
        before: &BTreeSet<Place>,
        after: &BTreeSet<Place>,
    ) -> Vec<ObjectName> {
        let mut told = Vec::new();
        for place in before.symmetric_difference(after) {
            let routes = self.0.entry(place.clone()).or_default();
            let first_before = first_namespaces(routes);
            match (routes.binary_search(route), after.contains(place)) {
                (Err(index), true) => routes.insert(index, route.clone()),
                (Ok(index), false) => drop(routes.remove(index)),
                _ => {}
            }
            if first_namespaces(routes) != first_before {
                told.extend(routes.iter().filter(|other| *other != route).cloned());
            }
            if routes.is_empty() {
                self.0.remove(place);
            }
        }
        told
    }

    /// The other namespaces that serve what a route of a namespace serves there.
    pub(crate) fn others(&self, place: &Place, namespace: &str) -> Option<OtherNamespaces> {
        let mut named = first_namespaces(self.0.get(place)?);
        named.retain(|other| **other != *namespace);
        let has_more = named.len() > NAMED;
        named.truncate(NAMED);
        (!named.is_empty()).then_some(OtherNamespaces { named, has_more })
    }
}

/// As many namespaces as it takes to name [`NAMED`] others to each, and to know whether there are more.
fn first_namespaces(routes: &[ObjectName]) -> Vec<Arc<str>> {
    let mut namespaces = Vec::new();
    let mut rest = routes;
    while let Some(first) = rest.first().filter(|_| namespaces.len() < NAMED + 2) {
        namespaces.push(first.namespace.clone());
        rest = &rest[rest.partition_point(|route| route.namespace == first.namespace)..];
    }
    namespaces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        (ObjectName::new("infra", "gw"), ListenerKey::of_gateway("http"), Hostname::Any)
    }

    fn add(shared: &mut SharedHostnames, namespace: &str, name: &str) -> usize {
        let route = ObjectName::new(namespace, name);
        shared.replace(&route, &BTreeSet::new(), &BTreeSet::from([place()])).len()
    }

    fn remove(shared: &mut SharedHostnames, namespace: &str, name: &str) -> usize {
        let route = ObjectName::new(namespace, name);
        shared.replace(&route, &BTreeSet::from([place()]), &BTreeSet::new()).len()
    }

    #[test]
    fn others_are_told_when_a_namespace_comes_or_goes_and_only_then() {
        let mut shared = SharedHostnames::default();
        assert_eq!(add(&mut shared, "a", "1"), 0);
        assert_eq!(add(&mut shared, "a", "2"), 0, "the same namespace");
        assert_eq!(shared.others(&place(), "a"), None);
        assert_eq!(add(&mut shared, "b", "1"), 2);
        assert_eq!(add(&mut shared, "b", "2"), 0);
        let others = |names: &[&str], has_more| {
            Some(OtherNamespaces { named: names.iter().map(|name| Arc::from(*name)).collect(), has_more })
        };
        assert_eq!(shared.others(&place(), "a"), others(&["b"], false));
        assert_eq!(shared.others(&place(), "b"), others(&["a"], false));
        assert_eq!(remove(&mut shared, "b", "1"), 0);
        assert_eq!(remove(&mut shared, "b", "2"), 2);
        assert_eq!(shared.others(&place(), "a"), None);
    }

    #[test]
    fn what_is_said_is_bounded_and_what_lies_beyond_tells_nobody() {
        let mut shared = SharedHostnames::default();
        for namespace in ["a", "b", "c", "d", "e", "f"] {
            add(&mut shared, namespace, "1");
        }
        assert_eq!(add(&mut shared, "g", "1"), 0);
        let others = shared.others(&place(), "b").unwrap();
        assert_eq!(others.named.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "c", "d", "e"]);
        assert!(others.has_more);
        assert_eq!(remove(&mut shared, "g", "1"), 0);
        assert_eq!(remove(&mut shared, "a", "1"), 5);
        remove(&mut shared, "b", "1");
        assert!(!shared.others(&place(), "c").unwrap().has_more);
    }

    #[test]
    fn nothing_is_left_behind() {
        let mut shared = SharedHostnames::default();
        add(&mut shared, "a", "1");
        remove(&mut shared, "a", "1");
        assert!(shared.0.is_empty());
    }
}
