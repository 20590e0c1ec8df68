//! Which ports are bound, and what has to change when the configurations do.

use super::error::{BindError, BoundPort, PortReport};
use crate::listener;
use crate::options::Options;
use crate::worker::{NewSocket, PortKey};
use portcullis_model::{ListenerProtocol, ObjectName};
use portcullis_runtime::drain::Drain;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What a configuration asks of a port.
pub(super) struct WantedPort {
    pub(super) protocol: ListenerProtocol,
    pub(super) addresses: Vec<SocketAddr>,
}

/// What has to be done, in the order of the fields: told to the workers, then closed, then drained.
#[derive(Default)]
pub(super) struct Changes {
    /// Ports that begin, with the drain of their connections.
    pub(super) ports: Vec<(PortKey, Drain)>,
    /// For each worker.
    pub(super) sockets: Vec<Vec<NewSocket>>,
    /// Sockets to be emptied and closed.
    pub(super) closed_sockets: Vec<u64>,
    /// Ports that are gone.
    pub(super) closed_ports: Vec<PortKey>,
    /// What drains then, and how long it may.
    pub(super) drains: Vec<Leaving>,
}

/// A part whose connections end.
pub(super) struct Leaving {
    pub(super) gateway: ObjectName,
    /// The port, or all of the Gateway.
    pub(super) port: Option<u16>,
    pub(super) drain: Drain,
    pub(super) grace: Duration,
}

impl Changes {
    /// Whether workers have to be told.
    pub(super) fn is_new(&self) -> bool {
        !self.ports.is_empty() || self.sockets.iter().any(|sockets| !sockets.is_empty())
    }
}

/// All ports of all Gateways.
#[derive(Default)]
pub(super) struct Ports {
    gateways: BTreeMap<ObjectName, GatewayPorts>,
    last_socket: u64,
}

struct GatewayPorts {
    drain: Drain,
    ports: BTreeMap<u16, PortState>,
}

struct PortState {
    protocol: ListenerProtocol,
    drain: Drain,
    /// Since it is not wanted any more: when it is closed.
    closes_at: Option<Instant>,
    /// By the address asked for.
    addresses: BTreeMap<SocketAddr, Result<Bound, BindError>>,
}

#[derive(Clone, Copy)]
struct Bound {
    number: u64,
    local: SocketAddr,
}

impl Ports {
    /// Brings the ports to what is wanted. What is bound stays bound; what failed is tried again.
    pub(super) fn reconcile(
        &mut self,
        wanted: &BTreeMap<ObjectName, BTreeMap<u16, WantedPort>>,
        options: &Options,
        workers: usize,
        process: &Drain,
    ) -> Changes {
        let mut changes = Changes { sockets: (0..workers).map(|_| Vec::new()).collect(), ..Changes::default() };
        let open = self.bound_ports();
        self.remove_unwanted(wanted, options, &mut changes);
        for (name, ports) in wanted {
            let gateway = self.gateways.entry(name.clone());
            let gateway = gateway.or_insert_with(|| GatewayPorts { drain: process.child(), ports: BTreeMap::new() });
            for (number, port) in ports {
                gateway.begin(name, *number, port.protocol, options, &mut changes);
            }
        }
        for (name, ports) in wanted {
            for (number, port) in ports {
                for address in &port.addresses {
                    self.bind(&(name.clone(), *number), *address, &open, options, workers, &mut changes);
                }
            }
        }
        changes
    }

    /// The state of every port.
    pub(super) fn report(&self) -> Vec<PortReport> {
        let ports = self.gateways.iter().flat_map(|(name, gateway)| {
            gateway.ports.iter().filter(|(_, port)| port.closes_at.is_none()).map(|(number, port)| PortReport {
                gateway: name.clone(),
                port: *number,
                result: port.result(),
            })
        });
        ports.collect()
    }

    /// Whether something has to be tried again.
    pub(super) fn has_failures(&self) -> bool {
        self.states().any(|port| port.closes_at.is_none() && port.addresses.values().any(Result::is_err))
    }

    /// Whether a port that lingers is to be closed now.
    pub(super) fn has_overdue(&self) -> bool {
        let now = Instant::now();
        self.states().any(|port| port.closes_at.is_some_and(|at| at <= now))
    }

    /// Whether the port is served, or at least wanted.
    pub(super) fn contains(&self, gateway: &ObjectName, port: u16) -> bool {
        self.gateways.get(gateway).is_some_and(|gateway| gateway.ports.contains_key(&port))
    }

    /// Every socket, to close them all.
    pub(super) fn take_sockets(&mut self) -> Vec<u64> {
        let addresses = self.gateways.values_mut().flat_map(|gateway| gateway.ports.values_mut());
        let bound = addresses.flat_map(|port| std::mem::take(&mut port.addresses).into_values());
        bound.flatten().map(|bound| bound.number).collect()
    }

    fn states(&self) -> impl Iterator<Item = &PortState> {
        self.gateways.values().flat_map(|gateway| gateway.ports.values())
    }

    /// The numbers of the ports that this process listens on.
    fn bound_ports(&self) -> Vec<u16> {
        let bound = self.states().flat_map(|port| port.addresses.values().flatten());
        bound.map(|bound| bound.local.port()).collect()
    }

    fn remove_unwanted(
        &mut self,
        wanted: &BTreeMap<ObjectName, BTreeMap<u16, WantedPort>>,
        options: &Options,
        changes: &mut Changes,
    ) {
        let now = Instant::now();
        self.gateways.retain(|name, gateway| {
            let wanted = wanted.get(name);
            gateway.ports.retain(|number, port| {
                let is_served = wanted.is_some();
                let wanted = wanted.and_then(|ports| ports.get(number));
                if is_served && wanted.is_none() && port.lingers(now, options.timeouts.port_linger) {
                    return true;
                }
                port.addresses.retain(|address, bound| {
                    let stays = wanted.is_some_and(|wanted| wanted.addresses.contains(address));
                    if let (false, Ok(bound)) = (stays, bound) {
                        changes.closed_sockets.push(bound.number);
                    }
                    stays
                });
                if wanted.is_none() {
                    changes.closed_ports.push((name.clone(), *number));
                    changes.drains.push(Leaving {
                        gateway: name.clone(),
                        port: Some(*number),
                        drain: port.drain.clone(),
                        grace: options.timeouts.port_drain,
                    });
                }
                wanted.is_some()
            });
            if wanted.is_none() {
                changes.drains.push(Leaving {
                    gateway: name.clone(),
                    port: None,
                    drain: gateway.drain.clone(),
                    grace: options.timeouts.gateway_drain,
                });
            }
            wanted.is_some()
        });
    }

    fn bind(
        &mut self,
        key: &PortKey,
        address: SocketAddr,
        open: &[u16],
        options: &Options,
        workers: usize,
        changes: &mut Changes,
    ) {
        let owner = self.owner(address).cloned();
        self.last_socket += 1;
        let number = self.last_socket;
        let Some(port) = self.gateways.get_mut(&key.0).and_then(|gateway| gateway.ports.get_mut(&key.1)) else {
            return;
        };
        if matches!(port.addresses.get(&address), Some(Ok(_))) {
            return;
        }
        let group = match owner {
            Some(owner) => Err(BindError::taken(address, &owner)),
            None => listener::bind(address, workers, options.backlog, open.contains(&address.port()))
                .map_err(|error| error.of_listener_port(key.1)),
        };
        let bound = group.map(|group| {
            for (worker, socket) in changes.sockets.iter_mut().zip(group.sockets) {
                worker.push(NewSocket { number, port: key.clone(), socket });
            }
            Bound { number, local: group.local }
        });
        // The first failure is in the report of the change that asked for the port. What becomes of it later is told here.
        match (port.addresses.get(&address), &bound) {
            (Some(Err(_)), Ok(bound)) => {
                tracing::info!(gateway = %key.0, port = key.1, address = %bound.local, "the port is served now");
            }
            (Some(Err(before)), Err(error)) if before != error => {
                tracing::warn!(gateway = %key.0, port = key.1, %error, "a port is not served");
            }
            _ => {}
        }
        port.addresses.insert(address, bound);
    }

    /// The Gateway that has the very address and port. A more specific address beside a wildcard is no conflict: the kernel
    /// prefers it.
    fn owner(&self, address: SocketAddr) -> Option<&ObjectName> {
        if address.port() == 0 {
            return None;
        }
        let has = |port: &PortState| matches!(port.addresses.get(&address), Some(Ok(_)));
        let owner = self.gateways.iter().find(|(_, gateway)| gateway.ports.values().any(has));
        owner.map(|(name, _)| name)
    }
}

impl GatewayPorts {
    /// A port that is new, or speaks another protocol now: connections of the old one may not go on as they are.
    fn begin(
        &mut self,
        name: &ObjectName,
        number: u16,
        protocol: ListenerProtocol,
        options: &Options,
        changes: &mut Changes,
    ) {
        match self.ports.get_mut(&number) {
            Some(port) if port.protocol == protocol => {
                port.closes_at = None;
                return;
            }
            Some(port) => {
                let old = std::mem::replace(&mut port.drain, self.drain.child());
                (port.protocol, port.closes_at) = (protocol, None);
                changes.drains.push(Leaving {
                    gateway: name.clone(),
                    port: Some(number),
                    drain: old,
                    grace: options.timeouts.port_drain,
                });
            }
            None => {
                let port =
                    PortState { protocol, drain: self.drain.child(), closes_at: None, addresses: BTreeMap::new() };
                self.ports.insert(number, port);
            }
        }
        if let Some(port) = self.ports.get(&number) {
            changes.ports.push(((name.clone(), number), port.drain.clone()));
        }
    }
}

impl PortState {
    /// Whether a port that is not wanted stays open for now.
    fn lingers(&mut self, now: Instant, linger: Duration) -> bool {
        *self.closes_at.get_or_insert(now + linger) > now && self.addresses.values().any(Result::is_ok)
    }

    fn result(&self) -> Result<BoundPort, BindError> {
        let mut addresses = Vec::new();
        for bound in self.addresses.values() {
            addresses.push(bound.clone()?.local);
        }
        Ok(BoundPort { addresses })
    }
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
