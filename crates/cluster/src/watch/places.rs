//! How each kind stands: in which version it is to be read, and how far that has come in each place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::kinds::{Content, Reach, WATCHED};
use crate::watcher::Order;

/// One kind.
#[derive(Debug)]
pub(super) struct Kind {
    /// What its watchers are to do.
    pub(super) order: Order,
    pub(super) places: BTreeMap<Option<Arc<str>>, Place>,
    /// How often in a row discovery did not name it.
    pub(super) missed: u32,
    /// The `metadata.uid` of its definition, as last seen; and how often it changed.
    pub(super) definition: Option<String>,
    pub(super) definitions: u32,
    /// Whether `KindListed` or `KindAbsent` has been told and still holds.
    pub(super) told: bool,
    /// Whether it has been told that no version of it can be read.
    pub(super) unusable: bool,
}

/// One kind in one place.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) orders: watch::Sender<Order>,
    pub(super) standing: Standing,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// Not read yet.
    Pending,
    /// Told, and watched.
    Listed,
    /// Not permitted, since then.
    Forbidden(Instant),
    /// Not to be read for another reason.
    Unreadable,
    /// Not served.
    Absent,
}

/// How long a right may be missing before the place is left out at the start.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

impl Kind {
    pub(super) fn new() -> Self {
        Self {
            order: Order::Wait,
            places: BTreeMap::new(),
            missed: 0,
            definition: None,
            definitions: 0,
            told: false,
            unusable: false,
        }
    }

    /// Whether all places stand like this.
    pub(super) fn is(&self, standing: Standing) -> bool {
        self.places.values().all(|place| place.standing == standing)
    }

    /// Gives the watchers of the kind an order. Says whether it is a new one.
    pub(super) fn order(&mut self, order: Order) -> bool {
        if self.order == order {
            return false;
        }
        self.order = order.clone();
        self.told = false;
        for place in self.places.values_mut() {
            place.standing = Standing::Pending;
            place.orders.send_replace(order.clone());
        }
        true
    }
}

/// Whether everything has been listed that has to be before anything may be published. Otherwise, when time alone may
/// change that.
///
/// A place in which nothing at all may be read is left out after a while, and so are Secrets and ConfigMaps in a
/// namespace in which they may not be read: what refers to them is closed without them. Anything else that may not be
/// read could be what restricts the rest, and is waited for.
pub(super) fn is_everything_listed(kinds: &[Kind], now: Instant) -> Result<(), Option<Instant>> {
    let mut next = None;
    let mut listed = true;
    for (index, kind) in kinds.iter().enumerate() {
        let watched = &WATCHED[index];
        if !watched.is_essential() {
            continue;
        }
        listed &= kind.order != Order::Wait;
        for (namespace, place) in &kind.places {
            match place.standing {
                Standing::Listed | Standing::Absent => {}
                Standing::Forbidden(since)
                    if namespace.is_some()
                        && (watched.content == Content::Bodies || is_closed(kinds, namespace.as_deref())) =>
                {
                    if now < since + PATIENCE {
                        listed = false;
                        next = next.max(Some(since + PATIENCE));
                    }
                }
                Standing::Pending | Standing::Unreadable | Standing::Forbidden(_) => listed = false,
            }
        }
    }
    if listed { Ok(()) } else { Err(next) }
}

/// Whether none of the objects of a namespace may be read.
fn is_closed(kinds: &[Kind], namespace: Option<&str>) -> bool {
    let mut places = kinds.iter().enumerate().filter_map(|(index, kind)| {
        let watched = &WATCHED[index];
        let counts = watched.reach == Reach::Namespaces && watched.content == Content::Objects;
        let place = kind.places.iter().find(|(place, _)| place.as_deref() == namespace)?.1;
        counts.then_some(place.standing)
    });
    places.all(|standing| matches!(standing, Standing::Forbidden(_) | Standing::Absent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(standing: impl Fn(&str) -> Standing, namespace: Option<&str>) -> Vec<Kind> {
        WATCHED
            .iter()
            .map(|watched| {
                let mut kind = Kind::new();
                kind.order = Order::Read("v1".into(), 0);
                let namespace = namespace.filter(|_| watched.reach != Reach::Cluster).map(Arc::from);
                let place = Place { orders: watch::channel(Order::Wait).0, standing: standing(watched.id.kind) };
                kind.places.insert(namespace, place);
                kind
            })
            .collect()
    }

    #[test]
    fn nothing_is_published_while_something_that_may_restrict_it_is_unknown() {
        let now = Instant::now();
        let long_ago = Standing::Forbidden(now.checked_sub(PATIENCE).unwrap());
        let listed = |kind: &str| !matches!(kind, "Secret" | "ConfigMap");
        let pick = |this: Standing, kinds: &'static [&'static str]| {
            move |kind: &str| if kinds.contains(&kind) { this } else { Standing::Listed }
        };
        for (kinds, expected) in [
            (kinds(|_| Standing::Listed, None), Ok(())),
            (kinds(pick(Standing::Absent, &["TLSRoute"]), None), Ok(())),
            (kinds(pick(Standing::Pending, &["TLSRoute"]), None), Err(None)),
            (kinds(pick(Standing::Unreadable, &["BackendTLSPolicy"]), None), Err(None)),
            (kinds(pick(Standing::Pending, &["Pod", "Deployment", "CustomResourceDefinition"]), None), Ok(())),
            (kinds(pick(long_ago, &["BackendTLSPolicy"]), None), Err(None)),
            (kinds(pick(long_ago, &["Secret"]), None), Err(None)),
            (kinds(pick(long_ago, &["Secret"]), Some("a")), Ok(())),
            (kinds(pick(Standing::Forbidden(now), &["Secret"]), Some("a")), Err(Some(now + PATIENCE))),
            (kinds(pick(long_ago, &["BackendTLSPolicy"]), Some("a")), Err(None)),
        ] {
            assert_eq!(is_everything_listed(&kinds, now), expected);
        }
        let mut closed = kinds(|kind| if listed(kind) { long_ago } else { Standing::Listed }, Some("a"));
        for (index, kind) in closed.iter_mut().enumerate() {
            if WATCHED[index].reach == Reach::Cluster {
                for place in kind.places.values_mut() {
                    place.standing = Standing::Listed;
                }
            }
        }
        assert_eq!(is_everything_listed(&closed, now), Ok(()), "a namespace that is closed as a whole is left out");
        let mut waiting = kinds(|_| Standing::Listed, None);
        waiting[5].order = Order::Wait;
        assert_eq!(is_everything_listed(&waiting, now), Err(None));
    }
}
