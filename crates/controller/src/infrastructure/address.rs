//! Which Services a Gateway has, from the addresses that it asks for.
//!
//! In flow the requests and what the existing Services ask for. Out flows one [`Place`] for each Service. The main Service, which bears the
//! plain name, is always there; each request that it does not carry has a Service of its own, whose name follows from the request. So a
//! Service keeps the address that it asks for, whatever else comes and goes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portcullis_api::service::ServiceType;
use portcullis_compile::{AddressKind, AddressRequest, AddressScope, Infrastructure};

use super::names::Names;

/// One Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// Its name.
    pub(crate) name: String,
    /// What it is there for; nothing: the main Service when others carry every request.
    pub(crate) wish: Option<Wish>,
}

/// What address a Service is to have.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Wish {
    /// Inside the cluster only.
    pub(crate) cluster: bool,
    /// This one, or the nth of those that may be any.
    pub(crate) address: WishedAddress,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum WishedAddress {
    Any(usize),
    Ip(IpAddr),
}

/// What an existing Service asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Asked {
    pub(crate) is_cluster_ip: bool,
    pub(crate) load_balancer_ip: Option<IpAddr>,
    pub(crate) cluster_ip: Option<IpAddr>,
}

/// One wish for each entry of `spec.addresses`, in their order; nothing for one that no Service can satisfy.
pub(crate) fn wishes(requests: &[AddressRequest]) -> Vec<Option<Wish>> {
    let mut any = [0, 0];
    let wish = |request: &AddressRequest| {
        if !request.is_satisfiable() {
            return None;
        }
        let cluster = request.scope == AddressScope::Cluster;
        let address = match &request.kind {
            AddressKind::Ip(address) => WishedAddress::Ip(*address),
            AddressKind::Any => {
                let ordinal = &mut any[usize::from(cluster)];
                *ordinal += 1;
                WishedAddress::Any(*ordinal - 1)
            }
            AddressKind::Hostname(_) => return None,
        };
        Some(Wish { cluster, address })
    };
    requests.iter().map(wish).collect()
}

/// The Services of a Gateway, the main one first. `asked` holds its existing Services by name.
pub(crate) fn places(infrastructure: &Infrastructure, names: &Names, asked: &BTreeMap<String, Asked>) -> Vec<Place> {
    let mut wishes: Vec<Wish> = Vec::new();
    for wish in self::wishes(&infrastructure.addresses).into_iter().flatten() {
        if !wishes.contains(&wish) {
            wishes.push(wish);
        }
    }
    if wishes.is_empty() {
        // Nothing is asked for, or nothing that could be given: an address of whatever kind.
        wishes.push(Wish { cluster: false, address: WishedAddress::Any(0) });
    }
    let parameters = infrastructure.parameters.as_deref();
    let r#type = parameters.and_then(|parameters| parameters.service.as_ref()?.r#type.clone());
    let is_cluster_ip = |wish: &Wish| wish.cluster || r#type == Some(ServiceType::ClusterIp);
    let main = asked.get(&names.base);
    let has_own = |wish: &Wish| asked.contains_key(&names.further(&wish.purpose()));
    let chosen = match main {
        None => wishes.iter().position(|wish| !has_own(wish)),
        Some(main) => {
            let held = wishes.iter().position(|wish| wish.is_held_by(main, is_cluster_ip(wish)));
            held.or_else(|| {
                wishes.iter().position(|wish| !has_own(wish) && wish.can_be_taken_by(main, is_cluster_ip(wish)))
            })
        }
    };
    let carried = chosen.map(|index| wishes.remove(index));
    let further = wishes.into_iter().map(|wish| Place { name: names.further(&wish.purpose()), wish: Some(wish) });
    std::iter::once(Place { name: names.base.clone(), wish: carried }).chain(further).collect()
}

impl Wish {
    /// What a Service of its own is named after.
    fn purpose(&self) -> String {
        let scope = if self.cluster { "cluster" } else { "default" };
        match self.address {
            WishedAddress::Any(ordinal) => format!("{scope} any {ordinal}"),
            WishedAddress::Ip(address) => format!("{scope} {address}"),
        }
    }

    /// Whether a Service already asks for this.
    fn is_held_by(&self, asked: &Asked, is_cluster_ip: bool) -> bool {
        if is_cluster_ip != asked.is_cluster_ip {
            return false;
        }
        match self.address {
            WishedAddress::Any(_) => is_cluster_ip || asked.load_balancer_ip.is_none(),
            WishedAddress::Ip(address) if is_cluster_ip => asked.cluster_ip == Some(address),
            WishedAddress::Ip(address) => asked.load_balancer_ip == Some(address),
        }
    }

    /// Whether a Service can be changed to ask for this: its address in the cluster and its address family stay as they are.
    fn can_be_taken_by(&self, asked: &Asked, is_cluster_ip: bool) -> bool {
        match self.address {
            WishedAddress::Any(_) => true,
            WishedAddress::Ip(address) if is_cluster_ip => asked.cluster_ip == Some(address),
            WishedAddress::Ip(address) => asked.cluster_ip.is_none_or(|ours| ours.is_ipv4() == address.is_ipv4()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::infrastructure;
    use super::*;

    fn ip(text: &str) -> AddressKind {
        AddressKind::Ip(text.parse().unwrap())
    }

    /// The wishes of the Services, with `main` where it carries one.
    fn shown(places: &[Place], names: &Names) -> Vec<String> {
        let shown = |place: &Place| {
            let who = if place.name == names.base { "main" } else { "own" };
            match &place.wish {
                Some(wish) => format!("{who}: {}", wish.purpose()),
                None => format!("{who}: -"),
            }
        };
        places.iter().map(shown).collect()
    }

    #[test]
    fn a_service_keeps_what_it_asks_for() {
        let external = |ip: Option<&str>| Asked {
            is_cluster_ip: false,
            load_balancer_ip: ip.map(|ip| ip.parse().unwrap()),
            cluster_ip: Some("10.96.0.1".parse().unwrap()),
        };
        let internal =
            Asked { is_cluster_ip: true, load_balancer_ip: None, cluster_ip: Some("10.96.0.1".parse().unwrap()) };
        let default = AddressScope::Default;
        let cluster = AddressScope::Cluster;
        for (main, own, requests, expected) in [
            (None, None, vec![], vec!["main: default any 0"]),
            (Some(external(None)), None, vec![], vec!["main: default any 0"]),
            (None, None, vec![(AddressKind::Any, &default)], vec!["main: default any 0"]),
            (None, None, vec![(ip("192.0.2.1"), &default)], vec!["main: default 192.0.2.1"]),
            // From any address to this one, and back.
            (Some(external(None)), None, vec![(ip("192.0.2.1"), &default)], vec!["main: default 192.0.2.1"]),
            (Some(external(Some("192.0.2.1"))), None, vec![], vec!["main: default any 0"]),
            // Two addresses; then the first goes: the second stays where it is.
            (
                None,
                None,
                vec![(ip("192.0.2.1"), &default), (ip("192.0.2.2"), &default)],
                vec!["main: default 192.0.2.1", "own: default 192.0.2.2"],
            ),
            (
                Some(external(Some("192.0.2.1"))),
                Some("default 192.0.2.2"),
                vec![(ip("192.0.2.2"), &default)],
                vec!["main: -", "own: default 192.0.2.2"],
            ),
            // The order changes: nothing moves.
            (
                Some(external(Some("192.0.2.1"))),
                Some("default 192.0.2.2"),
                vec![(ip("192.0.2.2"), &default), (ip("192.0.2.1"), &default)],
                vec!["main: default 192.0.2.1", "own: default 192.0.2.2"],
            ),
            // A third takes the place that became free.
            (
                Some(external(Some("192.0.2.1"))),
                Some("default 192.0.2.2"),
                vec![(ip("192.0.2.2"), &default), (ip("192.0.2.3"), &default)],
                vec!["main: default 192.0.2.3", "own: default 192.0.2.2"],
            ),
            // The same address twice is one.
            (
                None,
                None,
                vec![(ip("192.0.2.1"), &default), (ip("192.0.2.1"), &default)],
                vec!["main: default 192.0.2.1"],
            ),
            // Both scopes.
            (None, None, vec![(AddressKind::Any, &cluster)], vec!["main: cluster any 0"]),
            (
                None,
                None,
                vec![(AddressKind::Any, &default), (AddressKind::Any, &cluster), (AddressKind::Any, &default)],
                vec!["main: default any 0", "own: cluster any 0", "own: default any 1"],
            ),
            (Some(external(None)), None, vec![(AddressKind::Any, &cluster)], vec!["main: cluster any 0"]),
            // An address in the cluster cannot be changed: a Service of its own, unless it happens to be the one.
            (
                Some(internal.clone()),
                None,
                vec![(ip("10.96.0.9"), &cluster)],
                vec!["main: -", "own: cluster 10.96.0.9"],
            ),
            (Some(internal.clone()), None, vec![(ip("10.96.0.1"), &cluster)], vec!["main: cluster 10.96.0.1"]),
            // Nor can the family.
            (
                Some(external(None)),
                None,
                vec![(ip("2001:db8::1"), &default)],
                vec!["main: -", "own: default 2001:db8::1"],
            ),
            // What cannot be satisfied has no Service.
            (None, None, vec![(AddressKind::Hostname("a.example".into()), &default)], vec!["main: default any 0"]),
            (
                None,
                None,
                vec![
                    (AddressKind::Any, &AddressScope::Unknown("x/y".into())),
                    (ip("192.0.2.1"), &AddressScope::Sentinel),
                ],
                vec!["main: default 192.0.2.1"],
            ),
        ] {
            let mut infrastructure = infrastructure();
            let request = |(index, (kind, scope)): (usize, (AddressKind, &AddressScope))| AddressRequest {
                index,
                kind,
                scope: scope.clone(),
            };
            infrastructure.addresses = requests.clone().into_iter().enumerate().map(request).collect();
            let names = super::super::names(&infrastructure.gateway, &infrastructure.gateway_class);
            let mut asked = BTreeMap::new();
            asked.extend(main.clone().map(|main| (names.base.clone(), main)));
            asked.extend(own.map(|purpose| (names.further(purpose), external(None))));
            let places = places(&infrastructure, &names, &asked);
            assert_eq!(shown(&places, &names), expected, "{main:?} {own:?} {requests:?}");
        }
    }
}
