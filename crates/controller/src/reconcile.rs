//! The loop: what becomes known goes to the compiler, and what it says to everyone else.
//!
//! In flow events of the cluster, the word of data planes, who leads, and the authority's bundle. Out flow configurations to the streams,
//! statuses and findings to their writers, what must exist to the provisioner, and what is wanted to the watch. Nothing leaves before
//! everything has been listed and what is wanted at first has been read; and when something new is wanted, nothing leaves until that has
//! been read, so that a listener is not without its certificate in between.

mod compiling;
mod gateways;
mod metrics;
mod problems;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis_api::gateway_class::GatewayClassStatus;
use portcullis_api::node::{Node, NodeAddressType};
use portcullis_api::{Change, GATEWAY_GROUP, Object, ObjectKey};
use portcullis_cluster::{Event, KindId, ServedSchema, Watch};
use portcullis_compile::{Definition, InfrastructureChange, ObjectStatus, Options, Served, StatusChange, Wanted};
use portcullis_model::ObjectName;
use portcullis_runtime::drain::DrainWatch;
use portcullis_runtime::metrics::{MetricError, Registry, Shard};
use portcullis_runtime::readiness::Gate;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::clock;
use crate::events::EventWriter;
use crate::identity::Authority;
use crate::infrastructure::{self, Provisioner};
use crate::leader::Leadership;
use crate::serve::{ConfigServer, DataPlaneEvent, LeaderAddress};
use crate::status::{News, StatusWriter};
use compiling::{Compiled, Compiling, Work};
use gateways::Gateways;
use metrics::Metrics;
use problems::Problems;

/// How long a change waits for what is newly wanted: an API server that does not answer must not hold up the others for ever.
const WANTED_LIMIT: Duration = Duration::from_secs(1);

/// The same before the first configuration.
const FIRST_WANTED_LIMIT: Duration = Duration::from_secs(60);

/// The time of day may be set anew while something waits for it.
const CLOCK_CHECK: Duration = Duration::from_secs(600);

/// From where everything comes.
pub(crate) struct Inputs {
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) data_planes: mpsc::Receiver<DataPlaneEvent>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) bundle: watch::Receiver<Arc<str>>,
    pub(crate) problems: watch::Receiver<infrastructure::Problems>,
}

/// Where everything goes.
pub(crate) struct Outputs {
    pub(crate) watch: Arc<Watch>,
    pub(crate) server: ConfigServer,
    pub(crate) provisioner: Provisioner,
    pub(crate) status: StatusWriter,
    pub(crate) events: EventWriter,
    pub(crate) authority: Arc<Authority>,
    /// Opened with the first configuration.
    pub(crate) gate: Gate,
}

/// Why the loop ended although nobody asked for it.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// The compiler's thread cannot be started.
    #[error("the compiler cannot be started: {0}")]
    Start(#[from] std::io::Error),
    /// A metric was registered twice.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The compiler ended: a defect.
    #[error("the compiler ended; this is a defect")]
    Compiler,
    /// The watch ended: a defect.
    #[error("the watch of the cluster ended; this is a defect")]
    Watch,
}

/// The loop's own state.
pub(crate) struct Reconciler {
    outputs: Outputs,
    compiling: Compiling,
    gateways: Gateways,
    problems: Problems,
    metrics: Metrics,
    /// What the compiler said and nobody else knows yet.
    held: Option<Compiled>,
    /// What has to be read before that leaves.
    awaited: Option<Awaited>,
    wanted: Wanted,
    known: BTreeMap<ObjectName, Arc<str>>,
    classes: BTreeMap<ObjectKey, GatewayClassStatus>,
    next_change_at: Option<i64>,
    published: bool,
    leading: bool,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    number: u64,
    until: Instant,
}

impl Reconciler {
    /// Makes the loop and starts the compiler.
    pub(crate) fn new(
        options: Options,
        outputs: Outputs,
        registry: &Registry,
        shard: Option<Shard>,
    ) -> Result<Self, LoopError> {
        let metrics = Metrics::register(registry, shard, &outputs.watch)?;
        Ok(Self {
            problems: Problems::register(registry)?,
            compiling: Compiling::start(options)?,
            outputs,
            metrics,
            gateways: Gateways::default(),
            held: None,
            awaited: None,
            wanted: Wanted::default(),
            known: BTreeMap::new(),
            classes: BTreeMap::new(),
            next_change_at: None,
            published: false,
            leading: false,
        })
    }

    /// Runs until the drain begins. Then this replica writes nothing any more.
    pub(crate) async fn run(mut self, mut inputs: Inputs, drain: DrainWatch) -> Result<(), LoopError> {
        let ended = self.turns(&mut inputs, &drain).await;
        self.outputs.status.lead(false);
        self.outputs.events.lead(false);
        self.outputs.provisioner.lead(false);
        self.outputs.authority.lead(false);
        ended
    }

    async fn turns(&mut self, inputs: &mut Inputs, drain: &DrainWatch) -> Result<(), LoopError> {
        let work = self.compiling.work.clone();
        let (mut leadership_is_watched, mut bundle_is_watched, mut problems_are_watched) = (true, true, true);
        inputs.bundle.mark_changed();
        inputs.leadership.mark_changed();
        loop {
            // Nothing is read that the compiler has no room for.
            let event = async {
                let room = work.reserve().await;
                (room, inputs.events.recv().await)
            };
            let alarm = self.alarm();
            tokio::select! {
                biased;
                () = drain.draining() => return Ok(()),
                compiled = self.compiling.results.recv() => match compiled {
                    Some(compiled) => self.compiled(compiled),
                    None => return Err(LoopError::Compiler),
                },
                changed = inputs.leadership.changed(), if leadership_is_watched => {
                    leadership_is_watched = changed.is_ok();
                    let leadership = inputs.leadership.borrow_and_update().clone();
                    self.leadership(&leadership);
                }
                changed = inputs.bundle.changed(), if bundle_is_watched => {
                    bundle_is_watched = changed.is_ok();
                    self.bundle(&inputs.bundle.borrow_and_update().clone());
                }
                changed = inputs.problems.changed(), if problems_are_watched => {
                    problems_are_watched = changed.is_ok();
                    self.gateways.problems(&inputs.problems.borrow_and_update());
                }
                Some(event) = inputs.data_planes.recv() => self.gateways.data_plane(event, Instant::now()),
                event = event => match event {
                    (Ok(room), Some(event)) => {
                        if let Some(work) = self.event(event) {
                            room.send(work);
                        }
                    }
                    (Err(_), _) => return Err(LoopError::Compiler),
                    (_, None) => return Err(LoopError::Watch),
                },
                () = alarm => self.alarmed(),
            }
            self.flush();
        }
    }

    /// What has become known of the cluster. Gives what the compiler has to know.
    fn event(&mut self, event: Event) -> Option<Work> {
        match event {
            Event::Changes(changes) => {
                self.problems.readable(&changes);
                return Some(Work::Changes(changes, std::time::Instant::now()));
            }
            Event::ServedSchema(schema) => {
                let experimental = schema.kind(GATEWAY_GROUP, "Gateway").is_some_and(|kind| kind.is_experimental());
                self.gateways.routability(experimental);
                return Some(Work::Served(served(&schema)));
            }
            Event::AllListed => {
                tracing::info!("every kind has been listed");
                return Some(Work::Listed);
            }
            Event::WantedRead(number) => return Some(Work::WantedRead(number)),
            Event::Owned(owned) => {
                self.gateways.owned(&owned, Instant::now());
                self.outputs.provisioner.owned(&owned);
            }
            Event::KindListed(kind) => {
                if kind == KindId::POD {
                    self.gateways.pods_listed(true);
                }
                if self.problems.listed(kind) {
                    self.tell_classes();
                }
            }
            Event::KindUnreadable { kind, namespace, error } => {
                if kind == KindId::POD {
                    self.gateways.pods_listed(false);
                }
                if self.problems.unreadable(kind, namespace, &error) {
                    self.tell_classes();
                }
            }
            Event::KindAbsent(kind) => {
                if self.problems.absent(kind) {
                    self.tell_classes();
                }
            }
            Event::KindServed { kind, version } => tracing::debug!(%kind, %version, "this version is read"),
            Event::Unparsable { key, error } => self.problems.unparsable(key, &error),
            Event::NotPermitted { key, error } => self.problems.not_permitted(&key, &error),
        }
        None
    }

    /// What the compiler said: it leaves at once, unless something new is wanted.
    fn compiled(&mut self, mut compiled: Compiled) {
        self.metrics.compiled(compiled.took);
        if let Some(wanted) = compiled.delta.wanted.take() {
            let is_more = !wanted.secrets.is_subset(&self.wanted.secrets)
                || !wanted.config_maps.is_subset(&self.wanted.config_maps);
            let number = self.outputs.watch.want(wanted.secrets.clone(), wanted.config_maps.clone());
            self.wanted = wanted;
            if is_more || self.awaited.is_some() {
                let limit = if self.published { WANTED_LIMIT } else { FIRST_WANTED_LIMIT };
                let until = self.awaited.map_or(Instant::now() + limit, |awaited| awaited.until);
                self.awaited = Some(Awaited { number, until });
            }
        }
        if self.awaited.is_some_and(|awaited| compiled.wanted_read.is_some_and(|read| read >= awaited.number)) {
            self.awaited = None;
        }
        match &mut self.held {
            Some(held) => held.join(compiled),
            None => self.held = Some(compiled),
        }
        if self.awaited.is_none() {
            self.release();
        }
    }

    /// Gives out what is held: configurations first, they are what requests wait for.
    fn release(&mut self) {
        let Some(Compiled { changes, since, delta, .. }) = self.held.take() else { return };
        let now = Instant::now();
        let published: Vec<_> = delta.config.iter().map(|delta| delta.gateway().clone()).collect();
        self.forget(&delta.infrastructure);
        if !published.is_empty() || !self.published {
            self.outputs.server.publish(delta.config);
        }
        self.know(&delta.infrastructure);
        if let (Some(since), false) = (since, published.is_empty()) {
            self.metrics.published(since.elapsed());
        }
        for change in &delta.infrastructure {
            self.gateways.infrastructure(change.gateway.clone(), change.infrastructure.clone());
        }
        if !delta.infrastructure.is_empty() || !self.published {
            self.outputs.provisioner.set(delta.infrastructure);
        }
        self.outputs.provisioner.changed(&changes);
        self.outputs.events.update(&changes, delta.findings);
        let mut news = Vec::with_capacity(changes.len() + delta.status.len());
        news.extend(delta.status.into_iter().filter_map(|change| self.status(change)));
        for change in changes {
            self.fact(&change);
            news.push(match change {
                Change::Upsert(object) => News::Seen(object),
                Change::Delete(key) => News::Gone(key),
            });
        }
        published.iter().for_each(|gateway| self.gateways.published(gateway, now));
        // In one update with what is new about Gateways: nobody may see one without the other.
        self.flush_with(news);
        self.next_change_at = delta.next_change_at;
        if !self.published {
            self.published = true;
            tracing::info!(gateways = self.known.len(), "the first configuration is given out");
            self.outputs.gate.open();
            self.write_while_leading();
        }
    }

    /// Ends the streams of Gateways that are gone, or are others under the same name, before anything of those can be had.
    fn forget(&mut self, changes: &[InfrastructureChange]) {
        let before = self.known.len();
        for InfrastructureChange { gateway, infrastructure } in changes {
            let uid = infrastructure.as_ref().map(|infrastructure| &infrastructure.uid);
            if self.known.get(gateway).is_some_and(|known| Some(known) != uid) {
                self.known.remove(gateway);
            }
        }
        if self.known.len() < before {
            self.outputs.server.gateways(Arc::new(self.known.clone()));
        }
    }

    /// Tells the streams which Gateways are served.
    fn know(&mut self, changes: &[InfrastructureChange]) {
        let mut changed = !self.published;
        for InfrastructureChange { gateway, infrastructure } in changes {
            changed |= match infrastructure {
                Some(infrastructure) => {
                    let uid = infrastructure.uid.clone();
                    self.known.insert(gateway.clone(), uid.clone()) != Some(uid)
                }
                None => self.known.remove(gateway).is_some(),
            };
        }
        if changed {
            self.outputs.server.gateways(Arc::new(self.known.clone()));
        }
    }

    /// A status as the compiler gave it, unless it is to be overlaid.
    fn status(&mut self, StatusChange { key, status }: StatusChange) -> Option<News> {
        match (key.group(), key.kind(), status) {
            (GATEWAY_GROUP, "Gateway", status) => {
                let status = match status {
                    Some(ObjectStatus::Gateway(status)) => Some(status),
                    _ => None,
                };
                self.gateways.status(ObjectName::new(key.namespace(), key.name()), status);
                None
            }
            (_, _, Some(ObjectStatus::GatewayClass(status))) => {
                self.classes.insert(key.clone(), status);
                self.class(&key)
            }
            (_, _, status) => {
                self.classes.remove(&key);
                Some(News::Desired(key, status))
            }
        }
    }

    /// A change of an object that plays a part here too.
    fn fact(&mut self, change: &Change) {
        match change {
            Change::Upsert(Object::Gateway(gateway)) => self.gateways.gateway(gateway),
            Change::Upsert(Object::Service(service)) => {
                let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
                self.gateways.service(ObjectName::new(namespace, service.metadata.name.as_str()), Some(service));
            }
            Change::Upsert(Object::Node(node)) => self.gateways.node(&node.metadata.name, address_of(node)),
            Change::Delete(key) if (key.group(), key.kind()) == ("", "Service") => {
                self.gateways.service(ObjectName::new(key.namespace(), key.name()), None);
            }
            Change::Delete(key) if (key.group(), key.kind()) == ("", "Node") => self.gateways.node(key.name(), None),
            Change::Upsert(_) | Change::Delete(_) => {}
        }
    }

    /// The status of a class, with what keeps this replica from seeing the cluster as it is.
    fn class(&self, key: &ObjectKey) -> Option<News> {
        let mut status = self.classes.get(key)?.clone();
        let observed = status.conditions.first().and_then(|condition| condition.observed_generation);
        status.conditions.extend(self.problems.condition(observed));
        Some(News::Desired(key.clone(), Some(ObjectStatus::GatewayClass(status))))
    }

    fn tell_classes(&self) {
        let news: Vec<_> = self.classes.keys().filter_map(|key| self.class(key)).collect();
        self.outputs.status.update(news);
    }

    fn flush(&mut self) {
        self.flush_with(Vec::new());
    }

    /// Gives out what has become of Gateways, behind other news.
    fn flush_with(&mut self, mut news: Vec<News>) {
        let effects = self.gateways.effects();
        for (gateway, generation) in effects.served {
            self.outputs.provisioner.acknowledged(&gateway, generation);
        }
        news.extend(effects.news);
        if !news.is_empty() {
            self.outputs.status.update(news);
        }
    }

    fn leadership(&mut self, leadership: &Leadership) {
        let led = std::mem::replace(&mut self.leading, *leadership == Leadership::Leading);
        if self.leading && !led {
            self.gateways.lead(Instant::now());
        }
        match leadership {
            Leadership::Leading => self.outputs.server.follow(None),
            Leadership::Following { address: Some(address), .. } => match address.parse() {
                Ok(address) => self.outputs.server.follow(Some(LeaderAddress(address))),
                Err(_) => tracing::warn!("the lease names no address to which acknowledgements can be relayed"),
            },
            Leadership::Following { address: None, .. } | Leadership::Unknown => {}
        }
        self.outputs.authority.lead(self.leading);
        self.write_while_leading();
    }

    /// Nothing is written before the first configuration: what is not known yet must not look as if it did not exist.
    fn write_while_leading(&self) {
        let writes = self.leading && self.published;
        self.outputs.provisioner.lead(writes);
        self.outputs.status.lead(writes);
        self.outputs.events.lead(writes);
        if writes {
            for (gateway, generation) in self.gateways.all_served() {
                self.outputs.provisioner.acknowledged(&gateway, generation);
            }
        }
    }

    fn bundle(&self, bundle: &Arc<str>) {
        if !bundle.is_empty() {
            self.outputs.provisioner.ca_bundle(bundle);
        }
    }

    /// When something has to happen although nothing comes in.
    fn alarm(&self) -> impl Future<Output = ()> + use<> {
        let time = self.next_change_at.map(|at| {
            let left = u64::try_from(at.saturating_sub(clock::unix())).unwrap_or(0);
            Instant::now() + Duration::from_secs(left).min(CLOCK_CHECK)
        });
        let due = [time, self.gateways.due(), self.awaited.map(|awaited| awaited.until)].into_iter().flatten().min();
        async move {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
    }

    fn alarmed(&mut self) {
        let now = Instant::now();
        if self.awaited.is_some_and(|awaited| awaited.until <= now) {
            tracing::warn!("what is newly referred to has not been read in time; what does not need it goes ahead");
            self.awaited = None;
            self.release();
        }
        if self.next_change_at.is_some_and(|at| at <= clock::unix()) {
            // Without room in the queue other work is about to be done, and this is tried again after it.
            if self.compiling.work.try_send(Work::Advance).is_ok() {
                self.next_change_at = None;
            }
        }
        let server = &self.outputs.server;
        self.gateways.check(now, |gateway| server.version(gateway));
    }
}

/// What the API server serves, in the compiler's words.
fn served(schema: &ServedSchema) -> Served {
    let mut served = Served::default();
    for kind in schema.gateway_api() {
        let definition = match &kind.definition {
            portcullis_cluster::Definition::Unknown => Definition::default(),
            portcullis_cluster::Definition::Known { bundle_version, channel } => Definition {
                bundle_version: bundle_version.as_deref().map(Arc::from),
                channel: channel.as_deref().map(Arc::from),
            },
        };
        served.insert(&kind.group, &kind.kind, definition);
    }
    served
}

/// The address by which a node is best reached from outside.
fn address_of(node: &Node) -> Option<String> {
    let addresses = &node.status.as_ref()?.addresses;
    let of_type = |wanted: NodeAddressType| addresses.iter().find(|address| address.r#type == wanted);
    let best = of_type(NodeAddressType::ExternalIp).or_else(|| of_type(NodeAddressType::InternalIp))?;
    Some(best.address.clone())
}
