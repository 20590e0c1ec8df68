//! Config → Linked.
//!
//! Routes that may have changed are compared with those of the previous configuration by reference, then by content. What a changed
//! route touches (the hosts of the listeners that it is or was attached to) is built anew; all else is shared.

mod route;

use crate::host::HostMap;
use crate::shared::SharedMap;
use crate::table::HostTable;
use crate::{LinkProblem, Linked, LinkedListener, LinkedObject, LinkedRoute, Port, TelemetrySlot};
use portcullis_model::{Config, Hostname, Listener, ListenerKey, ListenerProtocol, Route, RouteKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Linked {
    /// Links a configuration. Pieces that did not change since `previous` are shared with it, not rebuilt.
    ///
    /// Never fails as a whole: what cannot be linked fails closed and is listed in [`Linked::problems`].
    pub fn link(config: &Config, previous: Option<&Linked>) -> Linked {
        match previous.filter(|previous| previous.gateway == config.gateway.name) {
            Some(previous) => Self::relink(config, previous, &changed(config, previous)),
            None => link(config, None, config.routes.keys()),
        }
    }

    /// The same where it is known which routes are new, changed or gone since `previous`, which must be the same Gateway's: costs what
    /// these touch, whatever the number of others. Listeners are all compared.
    pub fn relink(config: &Config, previous: &Linked, routes: &BTreeSet<RouteKey>) -> Linked {
        link(config, Some(previous), routes.iter())
    }
}

fn link<'a>(config: &Config, previous: Option<&Linked>, touched: impl Iterator<Item = &'a RouteKey>) -> Linked {
    let (routes, broken, mut changes) = link_routes(config, previous, touched);
    changes.add_new_listeners(config, previous, &routes);
    let listeners = link_listeners(config, previous, &changes);
    let mut problems: Vec<_> = broken.values().flat_map(|route| &route.problems).cloned().collect();
    let ports = link_ports(&listeners, previous, &mut problems);
    Linked { gateway: config.gateway.name.clone(), ports, listeners, routes, broken, problems }
}

/// The routes of which another one was linked.
fn changed(config: &Config, previous: &Linked) -> BTreeSet<RouteKey> {
    let is_same = |key: &RouteKey, source: &Arc<Route>| {
        previous.routes.get(key).is_some_and(|linked| Arc::ptr_eq(&linked.source, source))
    };
    let new = config.routes.iter().filter(|(key, source)| !is_same(key, source)).map(|(key, _)| key);
    let gone = previous.routes.keys().filter(|key| !config.routes.contains_key(key));
    new.chain(gone).cloned().collect()
}

/// What has to be built anew.
#[derive(Default)]
struct Changes {
    /// Routes that changed or are gone.
    routes: BTreeSet<RouteKey>,
    /// Touched hosts, and the changed routes that are attached there now.
    hosts: BTreeMap<ListenerKey, BTreeMap<Hostname, Vec<Arc<LinkedRoute>>>>,
}

impl Changes {
    fn add_gone(&mut self, route: &LinkedRoute) {
        self.routes.insert(route.key.clone());
        for attachment in &route.source.attachments {
            let hosts = self.hosts.entry(attachment.listener.clone()).or_default();
            for hostname in &attachment.hostnames {
                hosts.entry(hostname.route_hostname.clone()).or_default();
            }
        }
    }

    fn add_attached(&mut self, route: &Arc<LinkedRoute>, only: impl Fn(&ListenerKey) -> bool) {
        for attachment in route.source.attachments.iter().filter(|attachment| only(&attachment.listener)) {
            let hosts = self.hosts.entry(attachment.listener.clone()).or_default();
            for hostname in &attachment.hostnames {
                hosts.entry(hostname.route_hostname.clone()).or_default().push(route.clone());
            }
        }
    }

    /// A listener that was not there before takes all of its routes, changed or not.
    fn add_new_listeners(&mut self, config: &Config, previous: Option<&Linked>, routes: &Routes) {
        let is_new = |key: &ListenerKey| {
            config.listeners.contains_key(key) && !previous.is_some_and(|linked| linked.listeners.contains_key(key))
        };
        if previous.is_some() && !config.listeners.keys().any(is_new) {
            return;
        }
        // In the order of their keys, as everything that goes into a host.
        let routes = config.routes.keys().filter_map(|key| routes.get(key));
        routes.for_each(|route| self.add_attached(route, is_new));
    }
}

type Routes = SharedMap<RouteKey, Arc<LinkedRoute>>;
type Broken = BTreeMap<RouteKey, Arc<LinkedRoute>>;

fn link_routes<'a>(
    config: &Config,
    previous: Option<&Linked>,
    touched: impl Iterator<Item = &'a RouteKey>,
) -> (Routes, Broken, Changes) {
    let mut changes = Changes::default();
    let mut linker = route::Linker::default();
    let (mut routes, mut broken) =
        previous.map(|linked| (linked.routes.clone(), linked.broken.clone())).unwrap_or_default();
    for key in touched {
        let old = previous.and_then(|linked| linked.routes.get(key));
        let Some(source) = config.routes.get(key) else {
            if let Some(gone) = old {
                changes.add_gone(gone);
                routes.remove(key);
                broken.remove(key);
            }
            continue;
        };
        if old.is_some_and(|old| Arc::ptr_eq(&old.source, source) || old.source == *source) {
            continue;
        }
        let route = Arc::new(linker.route(source, old.map(|old| &**old)));
        if let Some(old) = old {
            changes.add_gone(old);
        }
        if previous.is_some() {
            changes.add_attached(&route, |_| true);
        }
        match route.problems.is_empty() {
            true => drop(broken.remove(key)),
            false => drop(broken.insert(key.clone(), route.clone())),
        }
        routes.insert(key.clone(), route);
    }
    if previous.is_none() {
        routes.shrink_to_fit();
    }
    (routes, broken, changes)
}

fn link_listeners(
    config: &Config,
    previous: Option<&Linked>,
    changes: &Changes,
) -> BTreeMap<ListenerKey, Arc<LinkedListener>> {
    let link = |(key, source): (&ListenerKey, &Arc<Listener>)| {
        let old = previous.and_then(|linked| linked.listeners.get(key));
        let touched = changes.hosts.get(key);
        let linked = match old {
            Some(old) if touched.is_none() && old.source == *source => old.clone(),
            _ => Arc::new(link_listener(source, old.map(|old| &**old), touched, &changes.routes)),
        };
        (key.clone(), linked)
    };
    config.listeners.iter().map(link).collect()
}

fn link_listener(
    source: &Arc<Listener>,
    old: Option<&LinkedListener>,
    touched: Option<&BTreeMap<Hostname, Vec<Arc<LinkedRoute>>>>,
    changed: &BTreeSet<RouteKey>,
) -> LinkedListener {
    let mut hosts: HostMap<Arc<HostTable>> = old.map(|old| old.hosts.clone()).unwrap_or_default();
    for (hostname, new) in touched.into_iter().flatten() {
        let kept = hosts.get(hostname).map(|table| &*table.routes).unwrap_or_default();
        let kept = kept.iter().filter(|route| !changed.contains(&route.key));
        let mut routes: Vec<_> = kept.chain(new).cloned().collect();
        routes.sort_by(|a, b| a.key.cmp(&b.key));
        routes.dedup_by(|a, b| a.key == b.key);
        match routes.is_empty() {
            true => hosts.remove(hostname),
            false => hosts.insert(hostname, Arc::new(HostTable::new(routes))),
        }
    }
    if old.is_none() {
        hosts.shrink_to_fit();
    }
    let certificates = source.tls.as_ref().map(|tls| tls.certificates.clone()).unwrap_or_default();
    LinkedListener {
        key: source.key.clone(),
        port: source.port,
        protocol: source.protocol,
        hostname: source.hostname.clone(),
        state: source.state.clone(),
        certificates,
        telemetry: TelemetrySlot::kept(old.map(|old| &old.telemetry)),
        source: source.clone(),
        hosts,
    }
}

fn link_ports(
    listeners: &BTreeMap<ListenerKey, Arc<LinkedListener>>,
    previous: Option<&Linked>,
    problems: &mut Vec<LinkProblem>,
) -> BTreeMap<u16, Arc<Port>> {
    let mut by_port: BTreeMap<u16, Vec<Arc<LinkedListener>>> = BTreeMap::new();
    for listener in listeners.values() {
        by_port.entry(listener.port).or_default().push(listener.clone());
    }
    let mut ports = BTreeMap::new();
    for (number, listeners) in by_port {
        let (port, of_port) = link_port(number, listeners);
        problems.extend(of_port);
        let same = |old: &&Arc<Port>| {
            old.protocol == port.protocol
                && old.listeners.len() == port.listeners.len()
                && old.listeners.iter().zip(&port.listeners).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        let old = previous.and_then(|linked| linked.ports.get(&number)).filter(same);
        ports.insert(number, old.cloned().unwrap_or_else(|| Arc::new(port)));
    }
    ports
}

/// One protocol per port, one listener per hostname; serving ones before invalid ones. The compiler sees to that; what
/// should still conflict is left out and reported.
fn link_port(number: u16, listeners: Vec<Arc<LinkedListener>>) -> (Port, Vec<LinkProblem>) {
    let https = |listener: &Arc<LinkedListener>| listener.protocol == ListenerProtocol::Https;
    let serving = |listener: &Arc<LinkedListener>| listener.state.is_serving();
    let mut serving_ones = listeners.iter().filter(|listener| serving(listener)).peekable();
    let any_https = match serving_ones.peek() {
        Some(_) => serving_ones.any(https),
        None => listeners.iter().any(https),
    };
    let protocol = if any_https { ListenerProtocol::Https } else { ListenerProtocol::Http };
    let mut problems = Vec::new();
    let mut problem = |listener: &LinkedListener, field: &str, message: String| {
        problems.push(LinkProblem {
            object: LinkedObject::Listener(listener.key.clone()),
            field: field.into(),
            message,
        });
    };
    let mut hosts = HostMap::default();
    for wanted in [true, false] {
        for (at, listener) in listeners.iter().enumerate().filter(|(_, listener)| serving(listener) == wanted) {
            if listener.protocol != protocol {
                problem(
                    listener,
                    "protocol",
                    format!("port {number} speaks another protocol; the listener is not served"),
                );
            } else if hosts.get(&listener.hostname).is_some() {
                let message = format!("another listener of port {number} has the hostname; this one is not served");
                problem(listener, "hostname", message);
            } else {
                hosts.insert(&listener.hostname, at);
            }
        }
    }
    (Port { number, protocol, listeners: listeners.into(), hosts }, problems)
}
