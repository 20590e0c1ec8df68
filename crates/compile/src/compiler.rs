//! The compiler: takes changes of objects in and gives changes of configurations, statuses and findings out.
//!
//! A change marks what depends on it; then each layer is brought up to date in the order in which one depends on the other: Gateways, routes,
//! Services, grants. Each layer keeps what it made of every object, so that an edit of one route costs that route. In the end the results
//! of what was touched are compared with those given out before, and only differences leave. What comes out depends on the objects alone,
//! not on the order of their changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_api::shared::ParentReference;
use portcullis_api::{Change, Foreign, GATEWAY_GROUP, Object, ObjectKey};
use portcullis_model::{
    BackendKey, Config, ConfigDelta, Hostname, ListenerKey, ObjectName, Resource, ResourceKey, Route, RouteKey,
    RouteKind,
};
use serde::Serialize;

use crate::attachment::{self, Attachments, Candidate, Parent};
use crate::backend;
use crate::certificate::Certificates;
use crate::conditions::Observed;
use crate::findings::{Finding, FindingCode};
use crate::gateway::{self, Claim, CompiledGateway};
use crate::gateway_class::{self, ClassState};
use crate::grants::{self, Reference, Referrer, Uses};
use crate::http_route::{self, CompiledRoute};
use crate::index::References;
use crate::infrastructure::{Infrastructure, InfrastructureChange};
use crate::listener;
use crate::other::{Role, gateway_of};
use crate::own_addresses::OwnAddresses;
use crate::parameters;
use crate::secrets::SecretNamespaces;
use crate::served::Served;
use crate::shared::{Place, SharedHostnames};
use crate::small::{Map, count};
use crate::snapshot::{Kind, Snapshot, age, gateway_api_key, in_namespace, name_of, service_of};
use crate::status::{self, ObjectStatus};
use crate::text::{joined, shown};

/// Settings of a compiler.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `controllerName` of GatewayClasses that are ours.
    pub controller_name: String,
    /// The time, in seconds since 1970-01-01T00:00:00Z.
    pub now: i64,
    /// The objects come from a folder, which is not a cluster: a GatewayClass that is named but absent is claimed, Services of type
    /// ExternalName may be backends, and what is named but absent has findings.
    pub standalone: bool,
    /// All Gateways share the ports of one machine: a port that two of them want on the same address goes to the older one.
    pub shared_machine: bool,
    /// What the API server serves; nothing stands for everything that is implemented.
    pub served: Option<Served>,
    /// The cluster's own domain. No name in it may be reached through a Service of type ExternalName.
    pub cluster_domain: String,
    /// Services by which the cluster is controlled: what stands behind them is no upstream for anybody. Their addresses are taken from
    /// the objects.
    pub control_plane: BTreeSet<ObjectName>,
    /// More addresses of the same kind, where those objects may not be read. Port 0 stands for every port.
    pub control_plane_addresses: BTreeSet<SocketAddr>,
    /// Where Secrets may be read.
    pub secrets: SecretNamespaces,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller_name: "portcullis.dev/gateway-controller".to_owned(),
            now: 0,
            standalone: false,
            shared_machine: false,
            served: None,
            cluster_domain: "cluster.local".to_owned(),
            control_plane: BTreeSet::from([ObjectName::new("default", "kubernetes")]),
            control_plane_addresses: BTreeSet::new(),
            secrets: SecretNamespaces::All,
        }
    }
}

/// What changes of objects came to.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Changes of configurations, at most one for each Gateway, in the order of their names.
    pub config: Vec<ConfigDelta>,
    /// Statuses that are new, changed or gone, in the order of their keys.
    pub status: Vec<StatusChange>,
    /// Objects whose findings changed, in the order of their keys.
    pub findings: Vec<FindingsChange>,
    /// Gateways whose data planes must look different, in the order of their names. Empty in standalone mode, where nothing is made.
    pub infrastructure: Vec<InfrastructureChange>,
    /// What is wanted now, if that is something else than before.
    pub wanted: Option<Wanted>,
    /// When time alone will next change something (a certificate's validity): [`Compiler::advance`] is to be called then.
    pub next_change_at: Option<i64>,
}

/// Objects whose bodies are needed, permitted ones alone: whoever reads them one by one need read no others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Secrets.
    pub secrets: BTreeSet<ObjectName>,
    /// ConfigMaps.
    pub config_maps: BTreeSet<ObjectName>,
}

/// A change of an object's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// Whose status.
    pub key: ObjectKey,
    /// The new one; nothing if there is none of ours any more.
    pub status: Option<ObjectStatus>,
}

/// A change of the findings about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingsChange {
    /// About which object.
    pub key: ObjectKey,
    /// All findings about it now.
    pub findings: Vec<Finding>,
}

/// Everything that a snapshot comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Compiled {
    /// The configurations of the Gateways that are served.
    pub configs: BTreeMap<ObjectName, Config>,
    /// The statuses.
    #[serde(skip)]
    pub statuses: BTreeMap<ObjectKey, ObjectStatus>,
    /// The findings, by object.
    #[serde(skip)]
    pub findings: BTreeMap<ObjectKey, Vec<Finding>>,
    /// What the data planes must look like; empty in standalone mode.
    #[serde(skip)]
    pub infrastructure: BTreeMap<ObjectName, Arc<Infrastructure>>,
    /// The objects whose bodies are needed.
    #[serde(skip)]
    pub wanted: Wanted,
    /// When time alone will next change something.
    pub next_change_at: Option<i64>,
}

/// Compiles a snapshot at once. Of two objects with the same key the later one counts.
pub fn compile(snapshot: impl IntoIterator<Item = Object>, options: Options) -> Compiled {
    let mut compiler = Compiler::new(options);
    let delta = compiler.apply(snapshot.into_iter().map(Change::Upsert).collect());
    Compiled {
        configs: compiler.configs,
        statuses: compiler.statuses,
        findings: compiler.findings,
        infrastructure: compiler.infrastructure,
        wanted: compiler.wanted,
        next_change_at: delta.next_change_at,
    }
}

/// Compiles objects into configurations, statuses and findings, change by change.
pub struct Compiler {
    options: Options,
    snapshot: Snapshot,
    index: Index,

    certificates: Certificates,
    /// Every Gateway that exists, as a parent.
    parents: BTreeMap<ObjectName, Parent>,
    gateways: BTreeMap<ObjectName, CompiledGateway>,
    routes: BTreeMap<ObjectName, RouteState>,
    /// Routes of kinds that are not supported.
    other_routes: BTreeMap<ObjectKey, Attachments>,
    /// How many accepted routes each listener of a Gateway has.
    attached_routes: BTreeMap<ObjectName, Map<ListenerKey, usize>>,
    /// How many routes of each Gateway's configuration name a backend.
    backend_uses: BTreeMap<BackendKey, Map<ObjectName, usize>>,
    /// How often references are made.
    reference_uses: Uses,
    shared: SharedHostnames,
    own_addresses: OwnAddresses,

    configs: BTreeMap<ObjectName, Config>,
    statuses: BTreeMap<ObjectKey, ObjectStatus>,
    findings: BTreeMap<ObjectKey, Vec<Finding>>,
    infrastructure: BTreeMap<ObjectName, Arc<Infrastructure>>,
    wanted: Wanted,
}

/// Who refers to whom.
#[derive(Default)]
struct Index {
    class_of_gateway: References<ObjectName, Arc<str>>,
    secrets_of_gateway: References<ObjectName, ObjectName>,
    /// Those of them that may be read.
    wanted_of_gateway: References<ObjectName, ObjectName>,
    parameters_of_class: References<Arc<str>, ObjectName>,
    parameters_of_gateway: References<ObjectName, ObjectName>,
    /// Other namespaces that a referrer refers into, whether it is permitted or not.
    crossings: References<(Referrer, ObjectName), Arc<str>>,
    /// Routes of all kinds.
    parents_of_route: References<ObjectKey, ObjectName>,
    services_of_route: References<ObjectName, ObjectName>,
    service_of_slice: References<ObjectName, ObjectName>,
    /// BackendTLSPolicies.
    services_of_policy: References<ObjectKey, ObjectName>,
    /// Everything else that names Services or Gateways and is not supported.
    targets_of_other: References<ObjectKey, ObjectName>,
    /// The referrers that a grant names.
    froms_of_grant: References<ObjectName, (Referrer, Arc<str>)>,
    /// Ports that Gateways want on a shared machine.
    ports_of_gateway: References<ObjectName, u16>,
    claims: BTreeMap<ObjectName, Claim>,
    changes_of_gateway: BTreeMap<ObjectName, i64>,
}

/// What was made of an HTTPRoute.
struct RouteState {
    /// Nothing for a route without parents of ours.
    compiled: Option<CompiledRoute>,
    attachments: Attachments,
    /// For precedence.
    created: Option<i64>,
}

/// What is to be brought up to date.
#[derive(Default)]
struct Dirty {
    gateways: BTreeSet<ObjectName>,
    /// Routes whose rules are to be compiled again.
    rules: BTreeSet<ObjectName>,
    /// Routes that are to be attached again.
    attachments: BTreeSet<ObjectName>,
    others: BTreeSet<ObjectKey>,
    services: BTreeSet<ObjectName>,
    /// Whether the cluster's own addresses may have changed.
    own_addresses: bool,
    /// Gateways whose infrastructure may have changed.
    infrastructure: BTreeSet<ObjectName>,
    configs: BTreeMap<ObjectName, BTreeSet<ResourceKey>>,
    statuses: BTreeSet<ObjectKey>,
    findings: BTreeSet<ObjectKey>,
}

impl Dirty {
    fn resource(&mut self, gateway: &ObjectName, key: ResourceKey) {
        self.configs.entry(gateway.clone()).or_default().insert(key);
    }
}

impl Compiler {
    /// A compiler that knows no objects.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            snapshot: Snapshot::default(),
            index: Index::default(),
            certificates: Certificates::default(),
            parents: BTreeMap::new(),
            gateways: BTreeMap::new(),
            routes: BTreeMap::new(),
            other_routes: BTreeMap::new(),
            attached_routes: BTreeMap::new(),
            backend_uses: BTreeMap::new(),
            reference_uses: Uses::default(),
            shared: SharedHostnames::default(),
            own_addresses: OwnAddresses::default(),
            configs: BTreeMap::new(),
            statuses: BTreeMap::new(),
            findings: BTreeMap::new(),
            infrastructure: BTreeMap::new(),
            wanted: Wanted::default(),
        }
    }

    /// Takes changes in, in their order, and gives out what they came to, as a whole.
    pub fn apply(&mut self, changes: Vec<Change>) -> Delta {
        let mut dirty = Dirty::default();
        for change in changes {
            self.take(change, &mut dirty);
        }
        self.update(dirty)
    }

    /// Sets the time and gives out what that came to.
    pub fn advance(&mut self, now: i64) -> Delta {
        let mut dirty = Dirty::default();
        let before = std::mem::replace(&mut self.options.now, now);
        let due = |at: i64| now < before || at <= now;
        if now < before {
            dirty.gateways.extend(self.gateways.keys().cloned());
        }
        dirty
            .gateways
            .extend(self.index.changes_of_gateway.iter().filter(|(_, at)| due(**at)).map(|(name, _)| name.clone()));
        self.update(dirty)
    }

    /// The configurations of the Gateways that are served.
    pub fn configs(&self) -> &BTreeMap<ObjectName, Config> {
        &self.configs
    }

    /// The status of an object, if it has one of ours.
    pub fn status(&self, key: &ObjectKey) -> Option<&ObjectStatus> {
        self.statuses.get(key)
    }

    /// All statuses.
    pub fn statuses(&self) -> &BTreeMap<ObjectKey, ObjectStatus> {
        &self.statuses
    }

    /// All findings, by object; an object without findings has no entry.
    pub fn findings(&self) -> &BTreeMap<ObjectKey, Vec<Finding>> {
        &self.findings
    }

    /// What the data planes of the Gateways must look like; empty in standalone mode.
    pub fn infrastructure(&self) -> &BTreeMap<ObjectName, Arc<Infrastructure>> {
        &self.infrastructure
    }

    /// The objects whose bodies are needed.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Sets what the API server serves and gives out what that came to: statuses of GatewayClasses.
    pub fn serve(&mut self, served: Served) -> Delta {
        let mut dirty = Dirty::default();
        let served = Some(served);
        if self.options.served != served {
            self.options.served = served;
            dirty.statuses.extend(self.snapshot.gateway_classes.keys().map(|name| class_key(name)));
        }
        self.update(dirty)
    }

    // From here on: changes of objects mark what depends on them.

    fn take(&mut self, change: Change, dirty: &mut Dirty) {
        let (key, object) = match change {
            Change::Upsert(object) => (object.key(), Some(object)),
            Change::Delete(key) => (key, None),
        };
        let name = name_of(&key);
        let service_before = self.snapshot.services.get(&name).filter(|_| Kind::of(&key) == Kind::Service).cloned();
        let changed = match object {
            Some(object) => self.snapshot.upsert(&key, object),
            None => self.snapshot.remove(&key),
        };
        if !changed {
            return;
        }
        match Kind::of(&key) {
            Kind::GatewayClass => self.mark_class(&name.name, dirty),
            Kind::GatewayParameters => {
                dirty.gateways.extend(self.index.parameters_of_gateway.to(&name).cloned());
                for class in self.index.parameters_of_class.to(&name) {
                    dirty.gateways.extend(self.index.class_of_gateway.to(class).cloned());
                    dirty.statuses.insert(class_key(class));
                }
            }
            Kind::Node => dirty.own_addresses = true,
            Kind::Gateway => drop(dirty.gateways.insert(name)),
            Kind::HttpRoute => self.mark_route(name, &key, dirty),
            Kind::ReferenceGrant => self.mark_grant(&name, dirty),
            Kind::Service => self.mark_service(name, service_before.as_deref(), dirty),
            Kind::EndpointSlice => self.mark_slice(&name, dirty),
            Kind::Secret => {
                self.certificates.forget(&name);
                dirty.gateways.extend(self.index.secrets_of_gateway.to(&name).cloned());
            }
            Kind::Namespace => {
                let routes = in_namespace(&self.snapshot.http_routes, &name.name);
                dirty.attachments.extend(routes.map(|(name, _)| name.clone()));
                let others = self.snapshot.others.keys().filter(|key| *key.namespace() == *name.name);
                dirty.others.extend(others.cloned());
                if self.options.secrets.follow_labels() {
                    let secrets = self.index.secrets_of_gateway.referents();
                    for secret in secrets.filter(|secret| secret.namespace == name.name) {
                        dirty.gateways.extend(self.index.secrets_of_gateway.to(secret).cloned());
                    }
                }
            }
            Kind::Other => self.mark_other(&key, dirty),
        }
        dirty.statuses.insert(key.clone());
        dirty.findings.insert(key);
    }

    fn mark_class(&mut self, name: &Arc<str>, dirty: &mut Dirty) {
        let class = self.snapshot.gateway_classes.get(name);
        let parameters = class.and_then(|class| parameters::named_by_class(class));
        self.index.parameters_of_class.set(name, parameters.into_iter().collect());
        dirty.gateways.extend(self.index.class_of_gateway.to(name).cloned());
    }

    fn mark_route(&mut self, name: ObjectName, key: &ObjectKey, dirty: &mut Dirty) {
        let route = self.snapshot.http_routes.get(&name);
        let parents = route.iter().flat_map(|route| &route.spec.parent_refs);
        let parents = parents.filter_map(|parent| gateway_of(parent, &name.namespace)).collect();
        self.index.parents_of_route.set(key, parents);
        dirty.rules.insert(name);
    }

    fn mark_grant(&mut self, name: &ObjectName, dirty: &mut Dirty) {
        for (referrer, referrer_name) in self.index.crossings.to(&name.namespace) {
            match referrer {
                Referrer::Gateway => dirty.gateways.insert(referrer_name.clone()),
                Referrer::HttpRoute => dirty.rules.insert(referrer_name.clone()),
            };
        }
        let froms = self.snapshot.reference_grants.get(name).map(|grant| grants::referrers(grant)).unwrap_or_default();
        self.index.froms_of_grant.set(name, froms);
    }

    fn mark_service(&mut self, name: ObjectName, before: Option<&portcullis_api::service::Service>, dirty: &mut Dirty) {
        let alike = match (before, self.snapshot.services.get(&name)) {
            (Some(before), Some(after)) => backend::resolves_alike(before, after),
            _ => false,
        };
        if !alike {
            dirty.rules.extend(self.index.services_of_route.to(&name).cloned());
        }
        dirty.own_addresses |= self.options.control_plane.contains(&name);
        dirty.services.insert(name);
    }

    fn mark_slice(&mut self, name: &ObjectName, dirty: &mut Dirty) {
        dirty.services.extend(self.index.service_of_slice.of(name).cloned());
        let service: BTreeSet<_> =
            self.snapshot.endpoint_slices.get(name).and_then(|slice| service_of(slice)).into_iter().collect();
        let before = self.index.service_of_slice.of(name);
        dirty.own_addresses |= service.iter().chain(before).any(|service| self.options.control_plane.contains(service));
        dirty.services.extend(service.iter().cloned());
        self.index.service_of_slice.set(name, service);
    }

    fn mark_other(&mut self, key: &ObjectKey, dirty: &mut Dirty) {
        let other = self.snapshot.others.get(key);
        let closed: BTreeSet<_> =
            other.iter().flat_map(|other| other.backend_tls_targets()).map(|target| target.name.clone()).collect();
        for service in self.index.services_of_policy.of(key).chain(&closed) {
            dirty.rules.extend(self.index.services_of_route.to(service).cloned());
        }
        let gateways: BTreeSet<_> = other.iter().flat_map(|other| other.gateways()).collect();
        let services = other.iter().flat_map(|other| other.services()).cloned();
        let targets = gateways.iter().cloned().chain(services).collect();
        self.index.services_of_policy.set(key, closed);
        self.index.targets_of_other.set(key, targets);
        let is_route = other.is_some_and(|other| matches!(other.role, Role::Route(_)));
        self.index.parents_of_route.set(key, if is_route { gateways } else { BTreeSet::new() });
        dirty.others.insert(key.clone());
    }

    // From here on: what is marked is brought up to date.

    fn update(&mut self, mut dirty: Dirty) -> Delta {
        self.update_own_addresses(&mut dirty);
        self.update_claims(&mut dirty);
        for name in std::mem::take(&mut dirty.gateways) {
            self.update_gateway(&name, &mut dirty);
        }
        let rules = std::mem::take(&mut dirty.rules);
        let attachments = std::mem::take(&mut dirty.attachments);
        for name in rules.union(&attachments) {
            self.update_route(name, rules.contains(name), &mut dirty);
        }
        for key in std::mem::take(&mut dirty.others) {
            self.update_other(&key, &mut dirty);
        }
        for service in std::mem::take(&mut dirty.services) {
            self.touch_backends(&service, &mut dirty);
        }
        Delta {
            config: self.config_deltas(&dirty),
            status: self.status_changes(&dirty),
            findings: self.findings_changes(&dirty),
            infrastructure: self.infrastructure_changes(&dirty),
            wanted: self.wanted_change(&dirty),
            next_change_at: self.index.changes_of_gateway.values().copied().min(),
        }
    }

    fn class(&self, name: &str) -> ClassState {
        let class = self.snapshot.gateway_classes.get(name);
        let (snapshot, options) = (&self.snapshot, &self.options);
        gateway_class::state(class.map(Arc::as_ref), snapshot, &options.controller_name, options.standalone)
    }

    /// What is an address of the cluster's own concerns every Gateway; it changes seldom.
    fn update_own_addresses(&mut self, dirty: &mut Dirty) {
        if !dirty.own_addresses || self.options.standalone {
            return;
        }
        let (slices, options) = (&self.index.service_of_slice, &self.options);
        let own = OwnAddresses::of(&self.snapshot, slices, &options.control_plane, &options.control_plane_addresses);
        if self.own_addresses != own {
            self.own_addresses = own;
            dirty.gateways.extend(self.snapshot.gateways.keys().cloned());
        }
    }

    /// On a shared machine, Gateways that want the port of a Gateway that changed are judged again.
    fn update_claims(&mut self, dirty: &mut Dirty) {
        if !self.options.shared_machine {
            return;
        }
        for name in dirty.gateways.clone() {
            let gateway = self.snapshot.gateways.get(&name);
            let gateway = gateway.filter(|gateway| self.class(&gateway.spec.gateway_class_name).is_ours());
            let claim = gateway.map(|gateway| Claim::of(&name, gateway));
            let before = match &claim {
                Some(claim) => self.index.claims.insert(name.clone(), claim.clone()),
                None => self.index.claims.remove(&name),
            };
            if before == claim {
                continue;
            }
            for port in before.iter().chain(&claim).flat_map(|claim| &claim.ports) {
                dirty.gateways.extend(self.index.ports_of_gateway.to(port).cloned());
            }
            self.index.ports_of_gateway.set(&name, claim.map(|claim| claim.ports).unwrap_or_default());
        }
    }

    /// The ports that Gateways before this one took.
    fn taken_ports(&self, name: &ObjectName) -> BTreeMap<u16, ObjectName> {
        let mut taken = BTreeMap::new();
        let Some(claim) = self.index.claims.get(name) else { return taken };
        for port in &claim.ports {
            let others = self.index.ports_of_gateway.to(port).filter_map(|other| self.index.claims.get(other));
            let holder =
                others.filter(|other| other.rank < claim.rank && other.overlaps(claim)).min_by_key(|other| &other.rank);
            if let Some(holder) = holder {
                taken.insert(*port, holder.rank.1.clone());
            }
        }
        taken
    }

    fn update_gateway(&mut self, name: &ObjectName, dirty: &mut Dirty) {
        let gateway = self.snapshot.gateways.get(name).cloned();
        let class_name: Option<Arc<str>> =
            gateway.as_ref().map(|gateway| gateway.spec.gateway_class_name.as_str().into());
        let class = class_name.as_deref().map(|class| self.class(class));
        let ours = gateway.as_ref().zip(class.as_ref()).filter(|(_, class)| class.is_ours());
        let taken_ports = self.taken_ports(name);
        let compiled = ours.map(|(gateway, class)| {
            let surroundings = listener::Surroundings {
                snapshot: &self.snapshot,
                certificates: &mut self.certificates,
                secrets: &self.options.secrets,
                taken_ports: &taken_ports,
                in_pods: !self.options.standalone,
                now: self.options.now,
            };
            let place = gateway::Place { standalone: self.options.standalone, own_addresses: &self.own_addresses };
            gateway::compile(name, gateway, class, &place, surroundings)
        });
        let parent = match (&gateway, &compiled) {
            (None, _) => Parent::Missing,
            (Some(_), None) => Parent::Foreign,
            (Some(_), Some(compiled)) => {
                let admissions = compiled.listeners.iter().map(|listener| listener.admission.clone());
                Parent::Ours(Arc::new(admissions.collect()), compiled.external_names.clone())
            }
        };
        self.index.class_of_gateway.set(name, class_name.into_iter().collect());
        let parameters = gateway.as_ref().and_then(|gateway| parameters::named_by_gateway(name, gateway));
        self.index.parameters_of_gateway.set(name, parameters.into_iter().collect());
        let wanted = compiled.as_ref().map(|compiled| compiled.wanted.clone()).unwrap_or_default();
        self.index.wanted_of_gateway.set(name, wanted);
        dirty.infrastructure.insert(name.clone());
        let references = compiled.as_ref().map(|compiled| compiled.references.clone()).unwrap_or_default();
        let before = self.gateways.get(name).map(|before| before.references.clone()).unwrap_or_default();
        self.update_references((Referrer::Gateway, name.clone()), &before, &references, dirty);
        self.index.secrets_of_gateway.set(name, references.iter().map(|reference| reference.to.clone()).collect());
        match compiled.as_ref().and_then(|compiled| compiled.next_change_at) {
            Some(at) => drop(self.index.changes_of_gateway.insert(name.clone(), at)),
            None => drop(self.index.changes_of_gateway.remove(name)),
        }

        let touched = dirty.configs.entry(name.clone()).or_default();
        for gateway in [self.gateways.get(name), compiled.as_ref()].into_iter().flatten() {
            let keys = gateway.listeners.iter().map(|listener| ResourceKey::Listener(listener.admission.key.clone()));
            touched.extend(keys);
            let certificates = gateway.listeners.iter().flat_map(|listener| &listener.certificates);
            touched.extend(certificates.map(|certificate| ResourceKey::Certificate(certificate.key.clone())));
        }
        let key = listener::gateway_key(name);
        dirty.statuses.insert(key.clone());
        dirty.findings.insert(key);
        match compiled {
            Some(compiled) => drop(self.gateways.insert(name.clone(), compiled)),
            None => drop(self.gateways.remove(name)),
        }
        self.update_parent(name, parent, dirty);
    }

    /// Tells the routes if a Gateway has become another as a parent.
    fn update_parent(&mut self, name: &ObjectName, parent: Parent, dirty: &mut Dirty) {
        let before = match parent {
            Parent::Missing => self.parents.remove(name),
            _ => self.parents.insert(name.clone(), parent.clone()),
        };
        let before = before.unwrap_or(Parent::Missing);
        if before == parent {
            return;
        }
        let resolves_alike = before.external_names() == parent.external_names();
        for key in self.index.parents_of_route.to(name) {
            match Kind::of(key) {
                Kind::HttpRoute if resolves_alike => drop(dirty.attachments.insert(name_of(key))),
                Kind::HttpRoute => drop(dirty.rules.insert(name_of(key))),
                _ => drop(dirty.others.insert(key.clone())),
            }
        }
        dirty.findings.extend(self.index.targets_of_other.to(name).cloned());
    }

    /// Keeps count of references, and of who refers into which other namespace.
    fn update_references(
        &mut self,
        referrer: (Referrer, ObjectName),
        before: &[Reference],
        after: &[Reference],
        dirty: &mut Dirty,
    ) {
        let mut uses_changed = false;
        for gone in beyond(before, after) {
            uses_changed |= self.reference_uses.remove(gone);
        }
        for new in beyond(after, before) {
            uses_changed |= self.reference_uses.add(new);
        }
        if uses_changed {
            let grants = self.index.froms_of_grant.to(&(referrer.0, referrer.1.namespace.clone()));
            dirty.findings.extend(grants.map(|grant| gateway_api_key("ReferenceGrant", grant)));
        }
        let crossings =
            after.iter().filter(|reference| !reference.is_local()).map(|reference| reference.to.namespace.clone());
        self.index.crossings.set(&referrer, crossings.collect());
    }

    fn update_route(&mut self, name: &ObjectName, recompile: bool, dirty: &mut Dirty) {
        let key = gateway_api_key("HTTPRoute", name);
        let before = self.routes.remove(name);
        let after = self.snapshot.http_routes.get(name).cloned().map(|route| {
            let known = before.as_ref().and_then(|before| before.compiled.clone()).filter(|_| !recompile);
            let external_names: Vec<_> = self
                .index
                .parents_of_route
                .of(&key)
                .filter_map(|gateway| Some((gateway.clone(), self.parents.get(gateway)?.external_names()?.clone())))
                .collect();
            let compiled = (!external_names.is_empty()).then(|| {
                known.unwrap_or_else(|| {
                    let surroundings = backend::Surroundings {
                        snapshot: &self.snapshot,
                        backend_tls: &self.index.services_of_policy,
                        external_names: &external_names,
                        cluster_domain: &self.options.cluster_domain,
                    };
                    http_route::compile(&key, &route, &surroundings)
                })
            });
            let attachments = self.attach(
                &key,
                &route.spec.parent_refs,
                compiled.as_ref().map(|compiled| compiled.hostnames.as_slice()),
            );
            let created = Some(age(&route.metadata)).and_then(|(is_unknown, created)| (!is_unknown).then_some(created));
            RouteState { compiled, attachments, created }
        });
        self.count_route(before.as_ref(), false, dirty);
        self.count_route(after.as_ref(), true, dirty);
        self.index_route(name, before.as_ref(), after.as_ref(), dirty);
        let (shared_before, shared_after) = (places(before.as_ref()), places(after.as_ref()));
        for other in self.shared.replace(name, &shared_before, &shared_after) {
            let key = gateway_api_key("HTTPRoute", &other);
            dirty.statuses.insert(key.clone());
            dirty.findings.insert(key);
        }
        let route_key = RouteKey { kind: RouteKind::HttpRoute, name: name.clone() };
        for state in [&before, &after].into_iter().flatten() {
            for gateway in state.attachments.configured.keys() {
                dirty.resource(gateway, ResourceKey::Route(route_key.clone()));
            }
        }
        dirty.statuses.insert(key.clone());
        dirty.findings.insert(key);
        if let Some(after) = after {
            self.routes.insert(name.clone(), after);
        }
    }

    fn attach(
        &self,
        key: &ObjectKey,
        parent_refs: &[portcullis_api::shared::ParentReference],
        hostnames: Option<&[Hostname]>,
    ) -> Attachments {
        let any = [Hostname::Any];
        let candidate =
            Candidate { key, parent_refs, hostnames: hostnames.unwrap_or(&any), standalone: self.options.standalone };
        attachment::attach(&candidate, &self.snapshot, |gateway| {
            self.parents.get(gateway).cloned().unwrap_or(Parent::Missing)
        })
    }

    /// Adds a route to what is counted, or takes it away.
    fn count_route(&mut self, state: Option<&RouteState>, add: bool, dirty: &mut Dirty) {
        let Some((state, compiled)) = state.and_then(|state| Some((state, state.compiled.as_ref()?))) else { return };
        if compiled.refusal.is_none() {
            for (gateway, listeners) in state.attachments.listeners.iter() {
                dirty.statuses.insert(listener::gateway_key(gateway));
                let counts = self.attached_routes.entry(gateway.clone()).or_default();
                for listener in listeners {
                    count(counts, listener, add);
                }
                if counts.is_empty() {
                    self.attached_routes.remove(gateway);
                }
            }
        }
        for backend in &compiled.backends {
            let counts = self.backend_uses.entry(backend.clone()).or_default();
            for gateway in state.attachments.configured.keys() {
                count(counts, gateway, add);
                dirty.resource(gateway, ResourceKey::Backend(backend.clone()));
                dirty.resource(gateway, ResourceKey::Endpoints(backend.clone()));
            }
            if counts.is_empty() {
                self.backend_uses.remove(backend);
            }
            dirty.findings.insert(service_key(&backend.service));
        }
    }

    fn index_route(
        &mut self,
        name: &ObjectName,
        before: Option<&RouteState>,
        after: Option<&RouteState>,
        dirty: &mut Dirty,
    ) {
        let (before, after) = (references(before), references(after));
        if before == after {
            return;
        }
        self.update_references((Referrer::HttpRoute, name.clone()), before, after, dirty);
        for service in beyond(before, after).chain(beyond(after, before)) {
            dirty.findings.extend(self.index.targets_of_other.to(&service.to).cloned());
        }
        let is_service = |reference: &&Reference| reference.group.is_empty() && *reference.kind == *"Service";
        let services = after.iter().filter(is_service).map(|reference| reference.to.clone());
        self.index.services_of_route.set(name, services.collect());
    }

    fn update_other(&mut self, key: &ObjectKey, dirty: &mut Dirty) {
        let attachments = match self.snapshot.others.get(key).map(|other| &other.role) {
            Some(Role::Route(parents)) => Some(self.attach(key, parents, None)),
            _ => None,
        };
        match attachments {
            Some(attachments) => drop(self.other_routes.insert(key.clone(), attachments)),
            None => drop(self.other_routes.remove(key)),
        }
        dirty.statuses.insert(key.clone());
        dirty.findings.insert(key.clone());
    }

    /// Marks what Gateways have of a Service.
    fn touch_backends(&mut self, service: &ObjectName, dirty: &mut Dirty) {
        for (backend, gateways) in self.backends_of(service) {
            for gateway in gateways.keys() {
                dirty.resource(gateway, ResourceKey::Backend(backend.clone()));
                dirty.resource(gateway, ResourceKey::Endpoints(backend.clone()));
            }
        }
        dirty.findings.insert(service_key(service));
    }

    fn backends_of<'a>(
        &'a self,
        service: &'a ObjectName,
    ) -> impl Iterator<Item = (&'a BackendKey, &'a Map<ObjectName, usize>)> {
        let first = BackendKey { service: service.clone(), port: 0 };
        self.backend_uses.range(first..).take_while(move |(backend, _)| backend.service == *service)
    }

    // From here on: what was touched is compared with what was given out before.

    fn config_deltas(&mut self, dirty: &Dirty) -> Vec<ConfigDelta> {
        let mut deltas = Vec::new();
        for (name, touched) in &dirty.configs {
            let served = self.gateways.get(name).and_then(|gateway| gateway.config.clone());
            let delta = match (served, self.configs.contains_key(name)) {
                (None, false) => None,
                (None, true) => Some(ConfigDelta::Remove { gateway: name.clone() }),
                (Some(gateway), true) => self.config_change(name, gateway, touched),
                (Some(gateway), false) => self.config_change(name, gateway, &self.all_resources(name)),
            };
            if let Some(delta) = delta {
                Config::apply(&mut self.configs, &delta);
                deltas.push(delta);
            }
        }
        deltas
    }

    /// The keys of everything that a Gateway could have in its configuration.
    fn all_resources(&self, name: &ObjectName) -> BTreeSet<ResourceKey> {
        let mut keys = BTreeSet::new();
        for listener in self.gateways.get(name).iter().flat_map(|gateway| &gateway.listeners) {
            keys.insert(ResourceKey::Listener(listener.admission.key.clone()));
            keys.extend(
                listener.certificates.iter().map(|certificate| ResourceKey::Certificate(certificate.key.clone())),
            );
        }
        for key in self.index.parents_of_route.to(name).filter(|key| Kind::of(key) == Kind::HttpRoute) {
            let route = name_of(key);
            let Some(state) = self.routes.get(&route) else { continue };
            for backend in state.compiled.iter().flat_map(|compiled| &compiled.backends) {
                keys.extend([ResourceKey::Backend(backend.clone()), ResourceKey::Endpoints(backend.clone())]);
            }
            keys.insert(ResourceKey::Route(RouteKey { kind: RouteKind::HttpRoute, name: route }));
        }
        keys
    }

    fn config_change(
        &self,
        name: &ObjectName,
        gateway: Arc<portcullis_model::Gateway>,
        touched: &BTreeSet<ResourceKey>,
    ) -> Option<ConfigDelta> {
        let current = self.configs.get(name);
        let mut upserted = Vec::new();
        let mut removed = Vec::new();
        if current.is_none_or(|current| current.gateway != gateway) {
            upserted.push(Resource::Gateway(gateway));
        }
        for key in touched {
            let before = current.and_then(|current| resource_in(current, key));
            match (self.resource(name, key), before) {
                (Some(after), before) if before.as_ref() != Some(&after) => upserted.push(after),
                (None, Some(_)) => removed.push(key.clone()),
                _ => {}
            }
        }
        let is_empty = upserted.is_empty() && removed.is_empty();
        (!is_empty).then(|| ConfigDelta::Change { gateway: name.clone(), upserted, removed })
    }

    /// A piece of a Gateway's configuration as it should be.
    fn resource(&self, name: &ObjectName, key: &ResourceKey) -> Option<Resource> {
        match key {
            ResourceKey::Listener(key) => {
                let mut listeners =
                    self.gateways.get(name)?.listeners.iter().filter_map(|listener| listener.config.as_ref());
                listeners.find(|listener| listener.key == *key).cloned().map(Resource::Listener)
            }
            ResourceKey::Certificate(key) => {
                let mut certificates =
                    self.gateways.get(name)?.listeners.iter().flat_map(|listener| &listener.certificates);
                certificates.find(|certificate| certificate.key == *key).cloned().map(Resource::Certificate)
            }
            ResourceKey::Route(key) => {
                let state = self.routes.get(&key.name)?;
                let rules = state.compiled.as_ref()?.rules.clone();
                let attachments = state.attachments.configured.get(name)?.clone();
                Some(Resource::Route(Arc::new(Route { key: key.clone(), created: state.created, attachments, rules })))
            }
            ResourceKey::Backend(key) => {
                self.backend_uses.get(key)?.get(name)?;
                let backend = backend::backend(&self.snapshot, key)?;
                Some(Resource::Backend(Arc::new(backend)))
            }
            ResourceKey::Endpoints(key) => {
                self.backend_uses.get(key)?.get(name)?;
                self.endpoints(key).map(|endpoints| Resource::Endpoints(Arc::new(endpoints)))
            }
        }
    }

    fn endpoints(&self, key: &BackendKey) -> Option<portcullis_model::Endpoints> {
        let slices = self.index.service_of_slice.to(&key.service);
        let slices = slices.filter_map(|slice| self.snapshot.endpoint_slices.get(slice)).map(Arc::as_ref);
        backend::endpoints(&self.snapshot, key, slices)
    }

    fn status_changes(&mut self, dirty: &Dirty) -> Vec<StatusChange> {
        let mut changes = Vec::new();
        for key in &dirty.statuses {
            let status = self.current_status(key);
            if self.statuses.get(key) == status.as_ref() {
                continue;
            }
            match &status {
                Some(status) => drop(self.statuses.insert(key.clone(), status.clone())),
                None => drop(self.statuses.remove(key)),
            }
            changes.push(StatusChange { key: key.clone(), status });
        }
        changes
    }

    fn current_status(&self, key: &ObjectKey) -> Option<ObjectStatus> {
        let name = name_of(key);
        let controller_name = &self.options.controller_name;
        match Kind::of(key) {
            Kind::GatewayClass => {
                let class = self.snapshot.gateway_classes.get(&name.name)?;
                let is_ours = class.spec.controller_name == *controller_name;
                let served = self.options.served.as_ref();
                is_ours.then(|| ObjectStatus::GatewayClass(gateway_class::status(class, &self.snapshot, served)))
            }
            Kind::Gateway => {
                let none = Map::default();
                let attached_routes = self.attached_routes.get(&name).unwrap_or(&none);
                Some(ObjectStatus::Gateway(self.gateways.get(&name)?.status(attached_routes)))
            }
            Kind::HttpRoute => {
                let state = self.routes.get(&name)?;
                let observed = Observed(self.snapshot.http_routes.get(&name)?.metadata.generation);
                let shared = |parent_ref: &ParentReference| self.shared_at(&name, state, parent_ref);
                status::http_route(observed, controller_name, state.compiled.as_ref()?, &state.attachments, shared)
            }
            Kind::Other => {
                let observed = Observed(self.snapshot.others.get(key)?.generation);
                status::unsupported_route(observed, controller_name, self.other_routes.get(key)?)
            }
            _ => None,
        }
    }

    /// What of a route's hostnames at a parent is served from other namespaces, too.
    fn shared_at(&self, name: &ObjectName, state: &RouteState, parent_ref: &ParentReference) -> Option<String> {
        let gateway = gateway_of(parent_ref, &name.namespace)?;
        let Some(Parent::Ours(admissions, _)) = self.parents.get(&gateway) else { return None };
        let section = parent_ref.section_name.as_deref().filter(|section| !section.is_empty());
        self.shared_by(name, state, |of, listener| {
            *of == gateway
                && section.is_none_or(|section| *section == *listener.name)
                && parent_ref.port.is_none_or(|port| {
                    admissions.iter().any(|admission| admission.key == *listener && admission.port == port)
                })
        })
    }

    fn shared_by(
        &self,
        name: &ObjectName,
        state: &RouteState,
        is_meant: impl Fn(&ObjectName, &ListenerKey) -> bool,
    ) -> Option<String> {
        let places = configured(state).filter(|(gateway, listener, _)| is_meant(gateway, listener));
        let shared: Vec<_> = places
            .filter_map(|place| Some((self.shared.others(&place, &name.namespace)?, place)))
            .map(|(others, (gateway, listener, hostname))| {
                let named: Vec<_> = others.named.iter().map(|namespace| Foreign(namespace).to_string()).collect();
                let more = if others.has_more { " and others" } else { "" };
                let hostname = match hostname {
                    Hostname::Any => "Any hostname".to_owned(),
                    hostname => format!("Hostname {hostname}"),
                };
                format!(
                    "{hostname} of listener {} of Gateway {} is also served by routes of namespaces {}{more}",
                    Foreign(&listener.name),
                    shown(&gateway),
                    named.join(", ")
                )
            })
            .collect();
        (!shared.is_empty()).then(|| joined(&shared, "; "))
    }

    fn infrastructure_changes(&mut self, dirty: &Dirty) -> Vec<InfrastructureChange> {
        let mut changes = Vec::new();
        for gateway in &dirty.infrastructure {
            let infrastructure = self.gateways.get(gateway).and_then(|compiled| compiled.infrastructure.clone());
            if self.infrastructure.get(gateway) == infrastructure.as_ref() {
                continue;
            }
            match &infrastructure {
                Some(infrastructure) => drop(self.infrastructure.insert(gateway.clone(), infrastructure.clone())),
                None => drop(self.infrastructure.remove(gateway)),
            }
            changes.push(InfrastructureChange { gateway: gateway.clone(), infrastructure });
        }
        changes
    }

    fn wanted_change(&mut self, dirty: &Dirty) -> Option<Wanted> {
        if dirty.infrastructure.is_empty() {
            return None;
        }
        let secrets: BTreeSet<_> = self.index.wanted_of_gateway.referents().cloned().collect();
        if self.wanted.secrets == secrets {
            return None;
        }
        self.wanted.secrets = secrets;
        Some(self.wanted.clone())
    }

    fn findings_changes(&mut self, dirty: &Dirty) -> Vec<FindingsChange> {
        let mut changes = Vec::new();
        for key in &dirty.findings {
            let mut findings = self.current_findings(key);
            findings.sort();
            findings.dedup();
            if self.findings.get(key).map_or(findings.is_empty(), |before| *before == findings) {
                continue;
            }
            if findings.is_empty() {
                self.findings.remove(key);
            } else {
                self.findings.insert(key.clone(), findings.clone());
            }
            changes.push(FindingsChange { key: key.clone(), findings });
        }
        changes
    }

    fn current_findings(&self, key: &ObjectKey) -> Vec<Finding> {
        let name = name_of(key);
        let mut findings = match Kind::of(key) {
            Kind::Gateway => self.gateway_findings(&name),
            Kind::HttpRoute => self.routes.get(&name).map_or_else(Vec::new, |state| {
                let of_rules = state.compiled.iter().flat_map(|compiled| &compiled.findings);
                let shared = self.shared_by(&name, state, |_, _| true);
                let shared = shared.map(|message| {
                    let remedy = "make sure that all of them are meant to serve it: the most specific match answers, then the oldest route";
                    Finding::new(FindingCode::HostnameShared, key.clone(), "spec.hostnames", message, remedy)
                });
                of_rules.chain(&state.attachments.findings).cloned().chain(shared).collect()
            }),
            Kind::GatewayParameters => {
                let parameters = self.snapshot.gateway_parameters.get(&name).filter(|_| self.options.standalone);
                parameters.and_then(|parameters| parameters::finding_in_a_folder(key, parameters)).into_iter().collect()
            }
            Kind::ReferenceGrant => {
                let grant = self.snapshot.reference_grants.get(&name);
                grant.map_or_else(Vec::new, |grant| grants::findings(&name, grant, &self.reference_uses))
            }
            Kind::Service => self.service_findings(&name),
            Kind::EndpointSlice => {
                let slice = self.snapshot.endpoint_slices.get(&name);
                slice.map_or_else(Vec::new, |slice| backend::slice_findings(key, slice))
            }
            _ => Vec::new(),
        };
        findings.extend(self.unsupported(key));
        findings
    }

    fn gateway_findings(&self, name: &ObjectName) -> Vec<Finding> {
        if let Some(gateway) = self.gateways.get(name) {
            return gateway.findings.clone();
        }
        let Some(gateway) = self.snapshot.gateways.get(name) else { return Vec::new() };
        match self.class(&gateway.spec.gateway_class_name) {
            ClassState::Foreign { controller_name } if self.options.standalone => {
                vec![gateway::foreign_class_finding(name, gateway, &controller_name)]
            }
            _ => Vec::new(),
        }
    }

    fn service_findings(&self, name: &ObjectName) -> Vec<Finding> {
        let Some(service) = self.snapshot.services.get(name) else { return Vec::new() };
        let has_slices = self.index.service_of_slice.is_referred_to(name);
        let empty = self
            .backends_of(name)
            .filter(|(backend, _)| self.endpoints(backend).is_some_and(|endpoints| endpoints.endpoints.is_empty()));
        empty.map(|(backend, _)| backend::no_endpoints(backend, service, has_slices, self.options.standalone)).collect()
    }

    /// The finding about an object of a kind or version that is not supported, if it names something of ours.
    fn unsupported(&self, key: &ObjectKey) -> Option<Finding> {
        let other = self.snapshot.others.get(key)?;
        let kind = portcullis_api::Foreign(key.kind());
        let (message, remedy) = match &other.role {
            Role::Unreadable { api_version } => {
                let version = portcullis_api::Foreign(api_version);
                (
                    format!("{kind} in version {version} is not known: the object is ignored"),
                    "use a version that is served".to_owned(),
                )
            }
            _ => {
                let names_gateway = |name: &ObjectName| matches!(self.parents.get(name), Some(Parent::Ours(..)));
                let named = other.gateways().iter().any(names_gateway)
                    || other.services().any(|service| self.index.services_of_route.is_referred_to(service));
                if !named {
                    return None;
                }
                let effect = match other.role {
                    Role::BackendTls(_) => ": requests to the Services that it targets are answered with 500",
                    _ => ": it has no effect",
                };
                (format!("{kind} is not supported yet{effect}"), String::new())
            }
        };
        Some(Finding::new(FindingCode::NotSupported, key.clone(), "", message, remedy))
    }
}

fn class_key(name: &str) -> ObjectKey {
    ObjectKey::new(GATEWAY_GROUP, "GatewayClass", "", name)
}

/// Every hostname of every listener that a route serves.
fn configured(state: &RouteState) -> impl Iterator<Item = Place> + '_ {
    state.attachments.configured.iter().flat_map(|(gateway, attachments)| {
        attachments.iter().flat_map(move |attachment| {
            let hostnames = attachment.hostnames.iter();
            hostnames.map(move |both| (gateway.clone(), attachment.listener.clone(), both.hostname.clone()))
        })
    })
}

fn references(state: Option<&RouteState>) -> &[Reference] {
    state.and_then(|state| state.compiled.as_ref()).map_or(&[], |compiled| &compiled.references)
}

/// What of a sorted list is not in another.
fn beyond<'a, T: Ord>(list: &'a [T], other: &'a [T]) -> impl Iterator<Item = &'a T> {
    list.iter().filter(|entry| other.binary_search(entry).is_err())
}

fn places(state: Option<&RouteState>) -> BTreeSet<Place> {
    state.into_iter().flat_map(configured).collect()
}

fn service_key(name: &ObjectName) -> ObjectKey {
    ObjectKey::new("", "Service", &name.namespace, &name.name)
}

fn resource_in(config: &Config, key: &ResourceKey) -> Option<Resource> {
    match key {
        ResourceKey::Listener(key) => config.listeners.get(key).cloned().map(Resource::Listener),
        ResourceKey::Route(key) => config.routes.get(key).cloned().map(Resource::Route),
        ResourceKey::Backend(key) => config.backends.get(key).cloned().map(Resource::Backend),
        ResourceKey::Endpoints(key) => config.endpoints.get(key).cloned().map(Resource::Endpoints),
        ResourceKey::Certificate(key) => config.certificates.get(key).cloned().map(Resource::Certificate),
    }
}
