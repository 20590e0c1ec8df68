//! What is known of each Gateway beside its objects: Services, pods, streams. No I/O.
//!
//! In flow facts, each about one Gateway; out flow the statuses of the Gateways that they were about, and what the data planes have
//! acknowledged. A fact costs the Gateway that it is about, whatever the number of others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portcullis_api::gateway::{Gateway, GatewayStatus};
use portcullis_api::meta::{ConditionStatus, OwnerReference};
use portcullis_api::service::{Service, ServiceType};
use portcullis_api::{GATEWAY_GROUP, ObjectKey};
use portcullis_cluster::{Owned, OwnedDetails, OwnedKind};
use portcullis_compile::{Infrastructure, ObjectStatus};
use portcullis_model::ObjectName;
use portcullis_xds::{ConfigVersion, UnboundPorts};
use tokio::time::Instant;

use crate::gateway_status::{DataPlanes, Facts, overlay};
use crate::infrastructure::{self, Problem};
use crate::serve::DataPlaneEvent;
use crate::status::News;

/// How long a data plane may take to answer.
const LAG: Duration = Duration::from_secs(5);

/// What came of facts.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Statuses that may be new.
    pub(super) news: Vec<News>,
    /// Gateways whose data planes serve this generation.
    pub(super) served: Vec<(ObjectName, i64)>,
}

/// Every Gateway that is ours or has something of ours.
#[derive(Default)]
pub(super) struct Gateways {
    gateways: BTreeMap<ObjectName, State>,
    /// Which Gateway a Service belongs to.
    services: BTreeMap<ObjectName, ObjectName>,
    /// Which Gateway a pod belongs to.
    pods: BTreeMap<ObjectName, ObjectName>,
    /// Addresses of nodes, best first.
    nodes: BTreeMap<Arc<str>, String>,
    node_addresses: Vec<String>,
    /// Whether pods can be read: without them nobody knows that none is ready.
    pods_listed: bool,
    /// Whether the served schema has `routability`.
    routability: bool,
    changed: BTreeSet<ObjectName>,
    /// When to look whether a data plane has answered.
    checks: BTreeSet<(Instant, ObjectName)>,
}

#[derive(Default)]
struct State {
    /// As the compiler gave it.
    status: Option<GatewayStatus>,
    infrastructure: Option<Arc<Infrastructure>>,
    /// The port of each listener.
    ports: BTreeMap<String, i32>,
    services: BTreeMap<Arc<str>, Arc<Service>>,
    pods: BTreeMap<Arc<str>, Pod>,
    streams: BTreeMap<Arc<str>, Stream>,
    /// What keeps its objects from being made.
    problem: Option<String>,
    /// The last generation that the data planes were seen to serve.
    served: i64,
    /// Whether a pod has been ready.
    was_ready: bool,
    check_scheduled: bool,
}

#[derive(Default)]
struct Pod {
    ready: bool,
    trouble: Option<String>,
    /// It had no stream when the check was scheduled.
    was_missing: bool,
    /// It had none at the check either.
    missing: bool,
}

/// The word of one data plane.
#[derive(Default)]
struct Stream {
    generation: Option<i64>,
    version: Option<ConfigVersion>,
    refused: Option<String>,
    /// Ports that it cannot bind, with what it says.
    unbound: BTreeMap<u16, String>,
    lagging: bool,
    /// Answers so far, and how many of them there were when the check was scheduled.
    answers: u64,
    answers_before: u64,
}

impl Gateways {
    /// A Gateway as it is stored: whoever led before may have said that its data planes serve it.
    pub(super) fn gateway(&mut self, gateway: &Gateway) {
        let metadata = &gateway.metadata;
        let name = ObjectName::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_str());
        let Some(state) = self.gateways.get_mut(&name) else { return };
        let ports = gateway.spec.listeners.iter().map(|listener| (listener.name.clone(), listener.port)).collect();
        if state.ports != ports {
            state.ports = ports;
            self.changed.insert(name.clone());
        }
        let Some(served) = gateway.status.as_ref().and_then(|status| served_generation(status, metadata.generation))
        else {
            return;
        };
        if served > state.served {
            state.served = served;
            state.was_ready = true;
            self.changed.insert(name);
        }
    }

    /// The compiler's word about a Gateway.
    pub(super) fn status(&mut self, name: ObjectName, status: Option<GatewayStatus>) {
        self.state(&name).status = status;
        self.changed.insert(name);
    }

    /// What must exist for a Gateway.
    pub(super) fn infrastructure(&mut self, name: ObjectName, infrastructure: Option<Arc<Infrastructure>>) {
        let state = self.state(&name);
        let uid = |infrastructure: &Option<Arc<Infrastructure>>| infrastructure.as_ref().map(|known| known.uid.clone());
        if uid(&state.infrastructure) != uid(&infrastructure) {
            // Another Gateway of the same name begins anew.
            state.served = 0;
            state.was_ready = false;
        }
        state.infrastructure = infrastructure;
        self.changed.insert(name);
    }

    /// A Service is new, changed or gone.
    pub(super) fn service(&mut self, name: ObjectName, service: Option<&Arc<Service>>) {
        let owner = service.and_then(|service| owner(&name.namespace, &service.metadata.owner_references));
        let before = self.services.get(&name).cloned();
        if let Some(before) = before.filter(|before| Some(before) != owner.as_ref()) {
            self.services.remove(&name);
            self.state(&before).services.remove(&name.name);
            self.changed.insert(before);
        }
        if let (Some(owner), Some(service)) = (owner, service) {
            self.services.insert(name.clone(), owner.clone());
            self.state(&owner).services.insert(name.name, service.clone());
            self.changed.insert(owner);
        }
    }

    /// A node is new, changed or gone; its best address.
    pub(super) fn node(&mut self, name: &str, address: Option<String>) {
        let changed = match address {
            Some(address) => self.nodes.insert(name.into(), address.clone()).as_ref() != Some(&address),
            None => self.nodes.remove(name).is_some(),
        };
        if !changed {
            return;
        }
        self.node_addresses = self.nodes.values().cloned().collect();
        let uses_nodes =
            |state: &State| state.services.values().any(|service| service.spec.r#type == Some(ServiceType::NodePort));
        self.changed.extend(self.gateways.iter().filter(|(_, state)| uses_nodes(state)).map(|(name, _)| name.clone()));
    }

    /// Objects that were made for Gateways.
    pub(super) fn owned(&mut self, owned: &[Owned], now: Instant) {
        for owned in owned.iter().filter(|owned| owned.kind == OwnedKind::Pod) {
            let gateway = owned.state.as_ref().and_then(|state| {
                let annotated = state.annotations.get(infrastructure::FULL_GATEWAY_NAME);
                let gateway = annotated.or_else(|| state.labels.get(infrastructure::GATEWAY_NAME))?;
                Some(ObjectName::new(owned.name.namespace.clone(), gateway.as_str()))
            });
            let mut known = None;
            if let Some(before) = self.pods.remove(&owned.name) {
                known = self.state(&before).pods.remove(&owned.name.name);
                self.changed.insert(before);
            }
            if let (Some(gateway), Some(state)) = (gateway, &owned.state)
                && let OwnedDetails::Pod(pod) = &state.details
            {
                let ready = pod.ready && !state.deleting;
                let state = self.state(&gateway);
                state.was_ready |= ready;
                let pod = Pod { ready, trouble: pod.trouble.clone(), ..known.unwrap_or_default() };
                state.pods.insert(owned.name.name.clone(), pod);
                self.pods.insert(owned.name.clone(), gateway.clone());
                self.expect_answers(&gateway, now);
                self.changed.insert(gateway);
            }
        }
    }

    /// What keeps data planes from being as they must be; all Gateways for which there is something.
    pub(super) fn problems(&mut self, problems: &BTreeMap<ObjectName, Vec<Problem>>) {
        for (name, state) in &mut self.gateways {
            let first = problems.get(name).and_then(|problems| problems.first());
            let problem = first.map(|problem| format!("{} {}: {}", problem.kind, problem.name, problem.message));
            if state.problem != problem {
                state.problem = problem;
                self.changed.insert(name.clone());
            }
        }
    }

    /// Whether pods can be read.
    pub(super) fn pods_listed(&mut self, listed: bool) {
        if self.pods_listed != listed {
            self.pods_listed = listed;
            self.changed.extend(self.gateways.keys().cloned());
        }
    }

    /// Whether the served schema has `routability`.
    pub(super) fn routability(&mut self, served: bool) {
        if self.routability != served {
            self.routability = served;
            self.changed.extend(self.gateways.keys().cloned());
        }
    }

    /// The word of a data plane.
    pub(super) fn data_plane(&mut self, event: DataPlaneEvent, now: Instant) {
        let gateway = match event {
            DataPlaneEvent::Connected { gateway, pod } => {
                let state = self.state(&gateway);
                if let Some(pod) = state.pods.get_mut(&pod) {
                    (pod.was_missing, pod.missing) = (false, false);
                }
                state.streams.entry(pod).or_default();
                self.expect_answers(&gateway, now);
                gateway
            }
            DataPlaneEvent::Acknowledged { gateway, pod, gateway_generation, version } => {
                let stream = self.state(&gateway).streams.entry(pod).or_default();
                stream.answers += 1;
                (stream.generation, stream.version) = (Some(gateway_generation), Some(version));
                (stream.refused, stream.lagging) = (None, false);
                stream.unbound.clear();
                gateway
            }
            DataPlaneEvent::Refused { gateway, pod, version, message } => {
                let stream = self.state(&gateway).streams.entry(pod).or_default();
                stream.answers += 1;
                (stream.version, stream.refused, stream.lagging) = (Some(version), Some(message.to_string()), false);
                stream.unbound.clear();
                if let Some(unbound) = UnboundPorts::parse(&message) {
                    // Everything else of it is served.
                    (stream.generation, stream.unbound) = (Some(unbound.gateway_generation), unbound.ports);
                }
                gateway
            }
            DataPlaneEvent::Gone { gateway, pod } => {
                self.state(&gateway).streams.remove(&pod);
                self.expect_answers(&gateway, now);
                gateway
            }
        };
        self.changed.insert(gateway);
    }

    /// New configurations were given out for a Gateway: its data planes should answer soon.
    pub(super) fn published(&mut self, gateway: &ObjectName, now: Instant) {
        if self.gateways.contains_key(gateway) {
            self.expect_answers(gateway, now);
        }
    }

    /// When to call [`Gateways::check`] next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.checks.first().map(|(at, _)| *at)
    }

    /// Looks which data planes have not answered in time. `current` is the version that a Gateway's data planes should serve.
    pub(super) fn check(&mut self, now: Instant, current: impl Fn(&ObjectName) -> Option<ConfigVersion>) {
        while self.checks.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.checks.pop_first() else { return };
            let Some(state) = self.gateways.get_mut(&name) else { continue };
            state.check_scheduled = false;
            let current = current(&name);
            let mut waiting = false;
            for stream in state.streams.values_mut().filter(|stream| current.is_some() && stream.version != current) {
                if stream.answers == stream.answers_before {
                    stream.lagging = true;
                    self.changed.insert(name.clone());
                } else {
                    waiting = true;
                }
            }
            for (pod, known) in state.pods.iter_mut().filter(|(_, pod)| current.is_some() && pod.ready && !pod.missing)
            {
                if state.streams.contains_key(pod) {
                    continue;
                }
                if known.was_missing {
                    known.missing = true;
                    self.changed.insert(name.clone());
                } else {
                    waiting = true;
                }
            }
            if waiting {
                self.expect_answers(&name, now);
            }
        }
    }

    /// Begins to lead: who heard the data planes of the other replicas only from now on may not call any of them missing yet.
    pub(super) fn lead(&mut self, now: Instant) {
        // Their time begins now.
        self.checks.clear();
        for state in self.gateways.values_mut() {
            state.check_scheduled = false;
            state.pods.values_mut().for_each(|pod| (pod.was_missing, pod.missing) = (false, false));
        }
        let names: Vec<_> = self.gateways.keys().cloned().collect();
        names.iter().for_each(|name| self.expect_answers(name, now));
        self.changed.extend(names);
    }

    /// What the facts since the last call came to.
    pub(super) fn effects(&mut self) -> Effects {
        let mut effects = Effects::default();
        for name in std::mem::take(&mut self.changed) {
            let Some(state) = self.gateways.get_mut(&name) else { continue };
            if state.is_empty() {
                self.gateways.remove(&name);
                let key = key(&name);
                effects.news.push(News::Desired(key, None));
                continue;
            }
            if let Some(generation) = state.newly_served() {
                effects.served.push((name.clone(), generation));
            }
            let status = state.overlaid(&self.node_addresses, self.routability, self.pods_listed);
            effects.news.push(News::Desired(key(&name), status.map(ObjectStatus::Gateway)));
        }
        effects
    }

    /// Every Gateway with the generation that its data planes serve, for whoever begins to lead.
    pub(super) fn all_served(&self) -> Vec<(ObjectName, i64)> {
        let served = self.gateways.iter().filter(|(_, state)| state.served > 0);
        served.map(|(name, state)| (name.clone(), state.served)).collect()
    }

    fn state(&mut self, name: &ObjectName) -> &mut State {
        self.gateways.entry(name.clone()).or_default()
    }

    fn expect_answers(&mut self, name: &ObjectName, now: Instant) {
        let Some(state) = self.gateways.get_mut(name) else { return };
        let is_missing = |pod: &Arc<str>, known: &Pod| known.ready && !state.streams.contains_key(pod);
        let some_missing = state.pods.iter().any(|(pod, known)| !known.missing && is_missing(pod, known));
        if state.check_scheduled || (state.streams.is_empty() && !some_missing) {
            return;
        }
        state.check_scheduled = true;
        for (pod, known) in &mut state.pods {
            known.was_missing = known.ready && !state.streams.contains_key(pod);
        }
        for stream in state.streams.values_mut() {
            stream.answers_before = stream.answers;
        }
        self.checks.insert((now + LAG, name.clone()));
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.status.is_none()
            && self.infrastructure.is_none()
            && self.services.is_empty()
            && self.pods.is_empty()
            && self.streams.is_empty()
    }

    /// The generation that the data planes serve now, if it is a new one: one of them does, and none that is ready lags behind.
    fn newly_served(&mut self) -> Option<i64> {
        let generation = self.infrastructure.as_ref()?.generation;
        if self.served >= generation {
            return None;
        }
        let serves = |stream: &Stream| stream.generation.is_some_and(|served| served >= generation);
        let is_ready = |pod: &Arc<str>| self.pods.get(pod).is_some_and(|pod| pod.ready);
        let some = self.streams.values().any(serves);
        if !some || self.streams.iter().any(|(pod, stream)| !serves(stream) && is_ready(pod)) {
            return None;
        }
        self.served = generation;
        Some(generation)
    }

    fn overlaid(&self, nodes: &[String], routability: bool, pods_listed: bool) -> Option<GatewayStatus> {
        let status = self.status.as_ref()?;
        let Some(infrastructure) = &self.infrastructure else { return Some(status.clone()) };
        let is_owned = |service: &&Arc<Service>| {
            service.metadata.owner_references.iter().any(|owner| *owner.uid == *infrastructure.uid)
        };
        let services = self.services.values().filter(is_owned).map(|service| &**service).collect();
        let data_planes = self.data_planes(infrastructure.generation, pods_listed);
        Some(overlay(status, infrastructure, &Facts { services, nodes, routability, data_planes }))
    }

    fn data_planes(&self, generation: i64, pods_listed: bool) -> DataPlanes {
        let is_lost = pods_listed && self.was_ready && self.pods.values().all(|pod| !pod.ready);
        let of_pods = || self.pods.values().find_map(|pod| pod.trouble.clone());
        let trouble = self.problem.clone().or_else(of_pods);
        let refused = self.streams.iter().filter_map(|(pod, stream)| Some((pod.to_string(), stream.refused.clone()?)));
        let silent = self.streams.iter().filter(|(_, stream)| stream.lagging).map(|(pod, _)| pod);
        let missing =
            self.pods.iter().filter(|(pod, known)| known.missing && known.ready && !self.streams.contains_key(*pod));
        let lagging: BTreeSet<_> = silent.chain(missing.map(|(pod, _)| pod)).map(ToString::to_string).collect();
        let unbound = |port: &i32| {
            let port = u16::try_from(*port).ok()?;
            let of_pods = self.streams.iter().filter_map(|(pod, stream)| Some((pod, stream.unbound.get(&port)?)));
            of_pods.map(|(pod, reason)| format!("{reason} (pod {pod})")).next()
        };
        let unbound = self.ports.iter().filter_map(|(listener, port)| Some((listener.clone(), unbound(port)?)));
        DataPlanes {
            programmed: self.served >= generation,
            is_lost,
            trouble,
            refused: refused.collect(),
            lagging: lagging.into_iter().collect(),
            unbound: unbound.collect(),
        }
    }
}

/// The generation for which a stored status says that data planes serve it.
fn served_generation(status: &GatewayStatus, generation: Option<i64>) -> Option<i64> {
    let programmed = status.conditions.iter().find(|condition| condition.r#type == "Programmed")?;
    (programmed.status == ConditionStatus::True && programmed.observed_generation == generation)
        .then_some(generation)
        .flatten()
}

/// The Gateway that owns an object.
fn owner(namespace: &Arc<str>, owners: &[OwnerReference]) -> Option<ObjectName> {
    let is_gateway = |owner: &&OwnerReference| {
        owner.kind == "Gateway" && owner.api_version.split_once('/').is_some_and(|(group, _)| group == GATEWAY_GROUP)
    };
    let owner = owners.iter().filter(|owner| owner.controller == Some(true)).find(is_gateway)?;
    Some(ObjectName::new(namespace.clone(), owner.name.as_str()))
}

fn key(name: &ObjectName) -> ObjectKey {
    ObjectKey::new(GATEWAY_GROUP, "Gateway", &name.namespace, &name.name)
}

#[cfg(test)]
mod tests;
