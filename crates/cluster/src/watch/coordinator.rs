//! The one task that knows how everything stands: it gives watchers their orders from what discovery says, and tells
//! events in the order in which they became known, as many changes at once as are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portcullis_api::{Change, Object};
use portcullis_model::ObjectName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Wants;
use super::places::{Kind, Place, Standing, is_everything_listed};
use crate::backoff::Backoff;
use crate::bodies::{Answer, Bodies, Told, Wanted};
use crate::connect::Client;
use crate::decode::{DefinitionNews, Item};
use crate::discovery::{Served, builtin_version, discover};
use crate::error::{Problem, ReadError};
use crate::event::Event;
use crate::kinds::{Content, KindId, Reach, WATCHED, choose_version};
use crate::list::{not_within, read_body, schema, unusable};
use crate::selection::{Places, Selection};
use crate::served::ServedSchema;
use crate::statistics::Statistics;
use crate::watcher::{News, Order, Report, Source, Watcher};

/// Reports that may wait: of a page or a piece of a watch each.
const REPORTS: usize = 16;
/// Reports that are told together.
const TOGETHER: usize = 32;
/// Bodies that are read at the same time.
const READS: usize = 16;
/// How often discovery is asked when nothing says that it changed.
const POLL: Duration = Duration::from_secs(60);
/// When it is asked after something says so: API servers take a moment to serve what has been defined.
const SOON: [Duration; 3] = [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(3)];
/// How often it is asked while it and the definitions disagree, and the least time between two askings.
const DISAGREEMENT: Duration = Duration::from_secs(1);
const LEAST: Duration = Duration::from_millis(200);
/// How often in a row a kind has to be missing if definitions may not be read.
const CERTAIN: u32 = 3;

/// See the module.
pub(super) struct Coordinator {
    client: Client,
    selection: Selection,
    events: mpsc::Sender<Event>,
    told: Vec<Event>,
    wants: watch::Receiver<Wants>,
    statistics: Arc<Statistics>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    watchers: JoinSet<()>,
    kinds: Vec<Kind>,
    /// The namespaces that are chosen by their labels.
    chosen: BTreeSet<Arc<str>>,
    discovery: Discovery,
    definitions: BTreeMap<Box<str>, DefinitionNews>,
    schema: Option<ServedSchema>,
    bodies: Bodies,
    reads: JoinSet<(Wanted, u64, Answer)>,
    /// The last call of `want` that has been answered.
    answered: u64,
    wanted: u64,
    all_listed: bool,
}

/// When discovery is asked, and what it said last.
struct Discovery {
    served: Option<Served>,
    asking: JoinSet<Result<Served, ReadError>>,
    next: Instant,
    last: Option<Instant>,
    /// Which of [`SOON`] comes next.
    soon: usize,
    backoff: Backoff,
}

impl Coordinator {
    pub(super) fn new(
        client: Client,
        selection: Selection,
        events: mpsc::Sender<Event>,
        wants: watch::Receiver<Wants>,
        statistics: Arc<Statistics>,
    ) -> Self {
        Self {
            client,
            selection,
            events,
            told: Vec::new(),
            wants,
            statistics,
            reports: mpsc::channel(REPORTS),
            watchers: JoinSet::new(),
            kinds: WATCHED.iter().map(|_| Kind::new()).collect(),
            chosen: BTreeSet::new(),
            discovery: Discovery {
                served: None,
                asking: JoinSet::new(),
                next: Instant::now(),
                last: None,
                soon: SOON.len(),
                backoff: Backoff::default(),
            },
            definitions: BTreeMap::new(),
            schema: None,
            bodies: Bodies::default(),
            reads: JoinSet::new(),
            answered: 0,
            wanted: 0,
            all_listed: false,
        }
    }

    /// Runs until whoever listens is gone.
    pub(super) async fn run(mut self) {
        self.begin();
        let mut wants = self.wants.clone();
        loop {
            let next = self.settle();
            for event in std::mem::take(&mut self.told) {
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                Some(report) = self.reports.1.recv() => self.take_reports(report),
                Ok(()) = wants.changed() => {
                    let wanted = wants.borrow_and_update().clone();
                    self.want(&wanted);
                }
                Some(Ok((name, number, answer))) = self.reads.join_next() => {
                    self.statistics.of(name.0).reads.add(1);
                    let told = self.bodies.answer(&name, number, answer, Instant::now());
                    self.tell_bodies(told);
                }
                Some(Ok(served)) = self.discovery.asking.join_next() => self.take_served(served),
                () = sleep_until(next) => {}
                () = self.events.closed() => return,
            }
        }
    }

    /// Starts a watcher for each kind in each place.
    fn begin(&mut self) {
        for (index, watched) in WATCHED.iter().enumerate() {
            if matches!(watched.content, Content::Owned(_)) && !self.selection.owned {
                continue;
            }
            if let Some(version) = builtin_version(watched.id) {
                self.kinds[index].order = Order::Read(version.into(), 0);
            }
            match self.selection.scope.places(watched.reach) {
                Places::Cluster => self.watch(index, None),
                Places::Namespaces(namespaces) => {
                    for namespace in namespaces {
                        self.watch(index, Some(namespace.into()));
                    }
                }
                Places::Labelled => {}
            }
        }
    }

    fn watch(&mut self, kind: usize, namespace: Option<Arc<str>>) {
        let (orders, ordered) = watch::channel(self.kinds[kind].order.clone());
        let source = Source { kind, namespace: namespace.clone() };
        let watcher =
            Watcher::new(self.client.clone(), source, ordered, self.reports.0.clone(), self.statistics.clone());
        self.watchers.spawn(watcher.run());
        self.kinds[kind].told = false;
        self.kinds[kind].places.insert(namespace, Place { orders, standing: Standing::Pending });
    }

    /// Does what is due, and says when something will be next.
    fn settle(&mut self) -> Instant {
        let now = Instant::now();
        while self.watchers.try_join_next().is_some() {}
        self.ask_discovery(now);
        self.bodies.try_again(now);
        self.read_bodies();
        self.tell_schema();
        let grace = self.tell_all_listed(now);
        if self.answered < self.wanted && self.bodies.is_answered() {
            self.answered = self.wanted;
            self.told.push(Event::WantedRead(self.answered));
        }
        let discovery = if self.discovery.asking.is_empty() { Some(self.discovery.next) } else { None };
        [discovery, self.bodies.next_try(), grace].into_iter().flatten().min().unwrap_or(now + POLL)
    }

    /// Tells that everything has been listed, once. Says when time may make it so.
    fn tell_all_listed(&mut self, now: Instant) -> Option<Instant> {
        if self.all_listed || self.schema.is_none() {
            return None;
        }
        self.tell_kinds_without_places();
        match is_everything_listed(&self.kinds, now) {
            Ok(()) => {
                self.all_listed = true;
                self.told.push(Event::AllListed);
                None
            }
            Err(next) => next,
        }
    }

    /// A kind that is to be read nowhere has been listed. Which places have the right labels is known with the Namespaces.
    fn tell_kinds_without_places(&mut self) {
        let namespaces = self.kind(KindId::NAMESPACE).is_some_and(|kind| kind.told);
        for (index, kind) in self.kinds.iter_mut().enumerate() {
            let watched = &WATCHED[index];
            if namespaces && watched.is_essential() && !watched.is_custom() && kind.places.is_empty() && !kind.told {
                kind.told = true;
                self.told.push(Event::KindListed(watched.id));
            }
        }
    }

    fn kind(&self, id: KindId) -> Option<&Kind> {
        self.kinds.iter().zip(WATCHED).find(|(_, watched)| watched.id == id).map(|(kind, _)| kind)
    }

    // What watchers report.

    fn take_reports(&mut self, first: Report) {
        self.take_report(first);
        for _ in 1..TOGETHER {
            match self.reports.1.try_recv() {
                Ok(report) => self.take_report(report),
                Err(_) => return,
            }
        }
    }

    fn take_report(&mut self, Report { source, news }: Report) {
        match news {
            News::Items(items) => {
                for item in items {
                    self.take_item(source.kind, item);
                }
            }
            News::Listed => {
                if WATCHED[source.kind].content == Content::Bodies {
                    self.bodies.listed(source.kind, source.namespace.as_deref());
                }
                self.take_standing(&source, Standing::Listed);
            }
            News::Absent => self.take_standing(&source, Standing::Absent),
            News::Missing => self.discovery.ask_soon(),
            News::Unreadable(error) => {
                let standing = match error.problem {
                    Problem::Forbidden => Standing::Forbidden(Instant::now()),
                    _ => Standing::Unreadable,
                };
                if self.kinds[source.kind].places.contains_key(&source.namespace) {
                    self.take_standing(&source, standing);
                    let kind = WATCHED[source.kind].id;
                    self.told.push(Event::KindUnreadable { kind, namespace: source.namespace, error });
                }
            }
            News::Ended => {}
        }
    }

    fn take_standing(&mut self, source: &Source, standing: Standing) {
        let kind = &mut self.kinds[source.kind];
        let Some(place) = kind.places.get_mut(&source.namespace) else { return };
        let expected = match kind.order {
            Order::Read(..) => standing != Standing::Absent,
            Order::Absent => standing == Standing::Absent,
            Order::Wait | Order::End => false,
        };
        if !expected {
            return;
        }
        place.standing = match (place.standing, standing) {
            (Standing::Forbidden(since), Standing::Forbidden(_)) => Standing::Forbidden(since),
            (_, standing) => standing,
        };
        let id = WATCHED[source.kind].id;
        if standing == Standing::Listed || standing == Standing::Absent {
            if !kind.told && kind.is(standing) {
                kind.told = true;
                let listed = standing == Standing::Listed;
                self.told.push(if listed { Event::KindListed(id) } else { Event::KindAbsent(id) });
            }
        } else {
            kind.told = false;
        }
        if id == KindId::DEFINITION {
            self.apply_served();
        }
    }

    fn take_item(&mut self, kind: usize, item: Item) {
        match item {
            Item::Change(change) => {
                if WATCHED[kind].id == KindId::NAMESPACE {
                    self.take_namespace(&change);
                }
                self.tell_change(change);
            }
            Item::Unparsable(key, error) => self.told.push(Event::Unparsable { key, error }),
            Item::Owned(owned) => match self.told.last_mut() {
                Some(Event::Owned(last)) => last.push(owned),
                _ => self.told.push(Event::Owned(vec![owned])),
            },
            Item::Body(name, version) => self.bodies.word(&(kind, name), version),
            Item::Definition(name, news) => self.take_definition(name, news),
        }
    }

    fn tell_change(&mut self, change: Change) {
        match self.told.last_mut() {
            Some(Event::Changes(last)) => last.push(change),
            _ => self.told.push(Event::Changes(vec![change])),
        }
    }

    // Bodies.

    fn want(&mut self, wants: &Wants) {
        self.wanted = wants.number;
        let mut wanted = BTreeSet::new();
        for (id, names) in [(KindId::SECRET, &wants.secrets), (KindId::CONFIG_MAP, &wants.config_maps)] {
            let Some(kind) = WATCHED.iter().position(|watched| watched.id == id) else { continue };
            wanted.extend(names.iter().map(|name| (kind, name.clone())));
        }
        let (scope, chosen) = (&self.selection.scope, &self.chosen);
        let told = self.bodies.want(&wanted, |name| within(&scope.places(WATCHED[name.0].reach), chosen, name));
        self.tell_bodies(told);
    }

    fn read_bodies(&mut self) {
        while self.reads.len() < READS {
            let Some((wanted, number)) = self.bodies.next() else { return };
            let client = self.client.clone();
            self.reads.spawn(async move {
                let answer = read_body(&client, &WATCHED[wanted.0], &wanted.1).await;
                (wanted, number, answer)
            });
        }
    }

    fn tell_bodies(&mut self, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Change(change) => self.tell_change(change),
                Told::Unparsable(key, error) => self.told.push(Event::Unparsable { key, error }),
                Told::NotPermitted(key, error) => self.told.push(Event::NotPermitted { key, error }),
            }
        }
    }

    /// A namespace may have become one in which Secrets may be read, or have ceased to be.
    fn take_namespace(&mut self, change: &Change) {
        let scope = &self.selection.scope;
        let (name, chosen) = match change {
            Change::Upsert(Object::Namespace(namespace)) => {
                let metadata = &namespace.metadata;
                (metadata.name.as_str(), scope.chooses(&metadata.name, &metadata.labels))
            }
            Change::Upsert(_) => return,
            Change::Delete(key) => (key.name(), false),
        };
        if chosen == self.chosen.contains(name) {
            return;
        }
        let name: Arc<str> = name.into();
        for (kind, watched) in WATCHED.iter().enumerate() {
            if watched.reach != Reach::SecretNamespaces {
                continue;
            }
            if chosen {
                self.watch(kind, Some(name.clone()));
            } else if let Some(place) = self.kinds[kind].places.remove(&Some(name.clone())) {
                place.orders.send_replace(Order::End);
            }
        }
        if chosen {
            self.chosen.insert(name);
        } else {
            self.chosen.remove(&name);
        }
        let (scope, chosen) = (&self.selection.scope, &self.chosen);
        let told = self.bodies.places_changed(|name| within(&scope.places(WATCHED[name.0].reach), chosen, name));
        self.tell_bodies(told);
    }

    // What is served.

    fn ask_discovery(&mut self, now: Instant) {
        if self.discovery.asking.is_empty() && self.discovery.next <= now {
            self.discovery.last = Some(now);
            let client = self.client.clone();
            self.discovery.asking.spawn(async move { discover(&client).await });
        }
    }

    fn take_served(&mut self, served: Result<Served, ReadError>) {
        let now = Instant::now();
        match served {
            Ok(served) => {
                self.discovery.backoff.reset();
                self.discovery.next = now + self.discovery.pause();
                for (kind, watched) in self.kinds.iter_mut().zip(WATCHED) {
                    let named = served.contains_key(&(watched.id.group.to_owned(), watched.id.kind.to_owned()));
                    kind.missed = if named { 0 } else { kind.missed.saturating_add(1) };
                }
                self.discovery.served = Some(served);
                self.apply_served();
            }
            Err(error) => {
                tracing::debug!(%error, "discovery is asked again");
                self.discovery.next = now + self.discovery.backoff.next(error.problem);
            }
        }
    }

    fn take_definition(&mut self, name: Box<str>, news: Option<DefinitionNews>) {
        let kind = WATCHED.iter().position(|watched| definition_name(watched.id.group, watched.resource) == *name);
        match news {
            Some(news) => {
                if let Some(kind) = kind.map(|kind| &mut self.kinds[kind]) {
                    let anew = kind.definition.as_ref().is_some_and(|uid| *uid != news.uid);
                    kind.definition = Some(news.uid.clone());
                    kind.definitions += u32::from(anew);
                }
                self.definitions.insert(name, news);
            }
            None => {
                self.definitions.remove(&name);
            }
        }
        self.discovery.ask_soon();
        self.apply_served();
    }

    /// Gives orders for what is served, as far as that is certain.
    fn apply_served(&mut self) {
        let Some(served) = &self.discovery.served else { return };
        let known = self.kinds[DEFINITIONS].is(Standing::Listed);
        let readable = !matches!(
            self.kinds[DEFINITIONS].places.values().next().map(|place| place.standing),
            Some(Standing::Forbidden(_) | Standing::Unreadable)
        );
        let mut disagreement = false;
        for (kind, watched) in self.kinds.iter_mut().zip(WATCHED).filter(|(_, watched)| watched.is_custom()) {
            let versions = served.get(&(watched.id.group.to_owned(), watched.id.kind.to_owned()));
            let Some(versions) = versions.map(|served| &served.versions) else {
                let defined = self.definitions.contains_key(&*definition_name(watched.id.group, watched.resource));
                let certain = if known { !defined } else { !readable && kind.missed >= CERTAIN };
                if certain {
                    kind.unusable = false;
                    kind.order(Order::Absent);
                } else {
                    disagreement = true;
                }
                continue;
            };
            match choose_version(watched.id, versions.iter().map(String::as_str)) {
                Some(version) => {
                    let version: Arc<str> = version.into();
                    kind.unusable = false;
                    let is_new = !matches!(&kind.order, Order::Read(current, _) if *current == version);
                    if is_new {
                        self.told.push(Event::KindServed { kind: watched.id, version: version.clone() });
                    }
                    kind.order(Order::Read(version, kind.definitions));
                }
                None => {
                    kind.order(Order::Wait);
                    if !kind.unusable {
                        kind.unusable = true;
                        let error = unusable(watched, versions);
                        self.told.push(Event::KindUnreadable { kind: watched.id, namespace: None, error });
                    }
                }
            }
        }
        if disagreement {
            self.discovery.next = self.discovery.next.min(Instant::now() + DISAGREEMENT);
        }
    }

    /// Tells what is served, if it is known and has changed.
    fn tell_schema(&mut self) {
        let standing = self.kinds[DEFINITIONS].places.values().next().map(|place| place.standing);
        let (Some(served), Some(standing)) = (&self.discovery.served, standing) else { return };
        if standing == Standing::Pending {
            return;
        }
        let schema = schema(served, &self.definitions);
        if self.schema.as_ref() != Some(&schema) {
            self.schema = Some(schema.clone());
            self.told.push(Event::ServedSchema(schema));
        }
    }
}

/// Where the definitions stand in [`WATCHED`].
const DEFINITIONS: usize = 0;
const _: () = assert!(matches!(WATCHED[DEFINITIONS].content, Content::Definitions));

fn definition_name(group: &str, resource: &str) -> String {
    format!("{resource}.{group}")
}

/// Whether a wanted object lies where it may be read.
fn within(places: &Places, chosen: &BTreeSet<Arc<str>>, (kind, name): &(usize, ObjectName)) -> Result<(), ReadError> {
    let within = match places {
        Places::Cluster => true,
        Places::Namespaces(namespaces) => namespaces.iter().any(|namespace| **namespace == *name.namespace),
        Places::Labelled => chosen.contains(&name.namespace),
    };
    if within { Ok(()) } else { Err(not_within(WATCHED[*kind].id, name)) }
}

impl Discovery {
    /// Something says that what is served has changed.
    fn ask_soon(&mut self) {
        let now = Instant::now();
        let soonest = self.last.map_or(now, |last| now.max(last + LEAST));
        self.next = self.next.min(soonest);
        self.soon = 0;
    }

    /// How long to wait after an answer.
    fn pause(&mut self) -> Duration {
        match SOON.get(self.soon) {
            Some(pause) => {
                self.soon += 1;
                *pause
            }
            None => POLL,
        }
    }
}
