//! What is to be done, as one entry for each Gateway: the latest word wins, and one job runs at a time for each. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use portcullis_compile::{Infrastructure, InfrastructureChange, TransportProtocol};
use portcullis_model::ObjectName;
use serde_json::Value;
use tokio::time::Instant;

use super::apply::{Job, Objects, Outcome, Problem};
use super::kind::Kind;
use super::known::{Claim, Known, claim, holds, text};
use super::names::names;
use super::render::deployment::shutdown_delay;
use super::render::{RenderOptions, Services};

type Port = (u16, TransportProtocol);

/// How often all objects are listed, to find what no watch tells.
const SURVEY_PERIOD: Duration = Duration::from_secs(300);
/// After how long an object that belongs to no known Gateway is deleted: the garbage collector may be on its way to it.
const UNCLAIMED_GRACE: Duration = Duration::from_secs(30);
/// The least time between two repairs of what others change.
const REPAIR_PAUSE: Duration = Duration::from_secs(5);
/// When something that is about to go is looked at again.
const LEAVING_PAUSE: Duration = Duration::from_millis(250);
/// When a namespace that is about to go is looked at again.
const NAMESPACE_PAUSE: Duration = Duration::from_secs(30);
/// How much longer than data planes serve a port that was removed it is let in: they hear of it later.
const CLOSING_MARGIN: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Everything that is known and wanted.
#[derive(Default)]
pub(crate) struct Table {
    options: Option<Arc<RenderOptions>>,
    leading: bool,
    /// Whether the Gateways are known: without their list nothing is nobody's.
    informed: bool,
    survey: Survey,
    entries: HashMap<ObjectName, Entry>,
    /// Entries that wait, and since which moment they may run.
    due: BTreeSet<(Instant, ObjectName)>,
    /// When ports that were removed are closed for good.
    closing: BTreeSet<(Instant, ObjectName)>,
    /// Highest generations that data planes acknowledged, of Gateways that may not be known yet.
    acknowledged: HashMap<ObjectName, i64>,
    problems: Arc<BTreeMap<ObjectName, Vec<Problem>>>,
}

#[derive(Default)]
struct Survey {
    running: bool,
    /// When this replica began to lead.
    since: Option<Instant>,
    done: bool,
    due: Option<Instant>,
    failures: u32,
}

#[derive(Default)]
struct Entry {
    wanted: Option<Arc<Infrastructure>>,
    /// At which generation each wanted port came.
    ports: BTreeMap<Port, i64>,
    /// Ports that were removed, and until when data planes may still serve them.
    closing: BTreeMap<Port, Instant>,
    known: Objects,
    state: State,
    failures: u32,
    /// Facts that came while a job ran.
    facts: Vec<Fact>,
    repaired: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Idle,
    Due(Instant),
    Running {
        again: bool,
    },
}

/// What a watch tells of an object.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) kind: Kind,
    pub(crate) name: ObjectName,
    /// Nothing: it is gone.
    pub(crate) seen: Option<Seen>,
}

/// An object as a watch tells it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) uid: String,
    pub(crate) content: SeenContent,
}

#[derive(Clone, Debug)]
pub(crate) enum SeenContent {
    /// Counts changes.
    Generation(i64),
    /// The whole object.
    Whole(Arc<Value>),
}

/// An object that a survey found.
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) object: Value,
}

/// What may run now.
pub(crate) enum Task {
    Survey,
    Job(Box<Job>),
}

impl Table {
    /// Sets what is the same for all Gateways; without it nothing is done.
    pub(crate) fn options(&mut self, options: Arc<RenderOptions>, now: Instant) {
        self.options = Some(options);
        self.wake_all(now);
    }

    pub(crate) fn render_options(&self) -> Option<Arc<RenderOptions>> {
        self.options.clone()
    }

    pub(crate) fn lead(&mut self, leading: bool, now: Instant) {
        if leading == self.leading {
            return;
        }
        self.leading = leading;
        self.survey = Survey::default();
        self.due.clear();
        // Another has written since, or will.
        self.entries.retain(|_, entry| entry.wanted.is_some());
        for entry in self.entries.values_mut() {
            let (wanted, ports) = (entry.wanted.take(), std::mem::take(&mut entry.ports));
            *entry = Entry { wanted, ports, ..Entry::default() };
        }
        self.problems = Arc::default();
        if leading {
            self.survey.since = Some(now);
            self.survey.due = Some(now);
            self.wake_all(now);
        }
    }

    pub(crate) fn is_leading(&self) -> bool {
        self.leading
    }

    pub(crate) fn set(&mut self, changes: Vec<InfrastructureChange>, now: Instant) {
        self.informed = true;
        for change in changes {
            if change.infrastructure.is_none() {
                self.acknowledged.remove(&change.gateway);
                if !self.entries.contains_key(&change.gateway) {
                    continue;
                }
            }
            let entry = self.entries.entry(change.gateway.clone()).or_default();
            self.closing.extend(entry.set(change.infrastructure, now).map(|at| (at, change.gateway.clone())));
            if entry.ports.is_empty() && entry.wanted.is_none() && !self.leading {
                self.entries.remove(&change.gateway);
                continue;
            }
            self.wake(&change.gateway, now);
        }
    }

    /// Data planes of a Gateway have what it said at this generation: the ports that came with it may be shown.
    pub(crate) fn acknowledged(&mut self, gateway: &ObjectName, generation: i64, now: Instant) {
        let before = self.acknowledged.insert(gateway.clone(), generation);
        if before.is_some_and(|before| before > generation) {
            self.acknowledged.extend(before.map(|before| (gateway.clone(), before)));
        }
        let news = before.is_none_or(|before| before < generation);
        let waits = self.entries.get(gateway).is_some_and(|entry| {
            let shown = entry.existing_ports();
            entry.ports.keys().any(|port| !shown.contains(port))
        });
        if news && waits {
            self.wake(gateway, now);
        }
    }

    /// What watches tell. What is as it was applied, or not ours, changes nothing.
    pub(crate) fn facts(&mut self, facts: Vec<Fact>, now: Instant) {
        if !self.leading {
            return;
        }
        for fact in facts {
            let key = (fact.kind, fact.name.name.to_string());
            let known = |entry: &Entry, gateway: &ObjectName| {
                gateway.namespace == fact.name.namespace && (entry.known.contains_key(&key) || entry.is_running())
            };
            let gateways: Vec<ObjectName> = self
                .entries
                .iter()
                .filter(|(gateway, entry)| known(entry, gateway))
                .map(|(gateway, _)| gateway.clone())
                .collect();
            for gateway in gateways {
                self.fact(&gateway, fact.clone(), now);
            }
        }
    }

    fn fact(&mut self, gateway: &ObjectName, fact: Fact, now: Instant) {
        let Some(entry) = self.entries.get_mut(gateway) else { return };
        if entry.is_running() {
            // Perhaps it tells of what the job itself wrote.
            entry.facts.retain(|other| (other.kind, &other.name) != (fact.kind, &fact.name));
            entry.facts.push(fact);
        } else if entry.differs(&fact) {
            let due = entry.repair_at(now);
            self.wake(gateway, due);
        }
    }

    /// What may run now.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Task> {
        let options = self.options.clone().filter(|_| self.leading)?;
        if self.survey.due.is_some_and(|due| due <= now) && !self.survey.running {
            (self.survey.running, self.survey.due) = (true, None);
            return Some(Task::Survey);
        }
        while self.closing.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, gateway)) = self.closing.pop_first() else { break };
            self.wake(&gateway, now);
        }
        // Before all objects have been listed it is not known what is to be deleted.
        let (at, gateway) = self.due.first().filter(|(at, _)| *at <= now && self.survey.done)?.clone();
        self.due.remove(&(at, gateway.clone()));
        let acknowledged = self.acknowledged.get(&gateway).copied();
        let entry = self.entries.get_mut(&gateway)?;
        entry.state = State::Running { again: false };
        entry.closing.retain(|_, at| *at > now);
        let services = entry.services(&gateway, acknowledged);
        Some(Task::Job(Box::new(Job {
            gateway,
            wanted: entry.wanted.clone(),
            options,
            services,
            known: entry.known.clone(),
        })))
    }

    /// When [`next`](Self::next) has something next; nothing: when there is news.
    pub(crate) fn due(&self) -> Option<Instant> {
        if !self.leading || self.options.is_none() {
            return None;
        }
        let jobs = self.due.first().filter(|_| self.survey.done).map(|(at, _)| *at);
        let closing = self.closing.first().map(|(at, _)| *at);
        jobs.into_iter().chain(self.survey.due).chain(closing).min()
    }

    /// What of the problems of a Gateway was not there before.
    pub(crate) fn new_problems<'a>(&self, gateway: &ObjectName, problems: &'a [Problem]) -> Vec<&'a Problem> {
        let known = self.problems.get(gateway).map(Vec::as_slice).unwrap_or_default();
        problems.iter().filter(|problem| !known.contains(problem)).collect()
    }

    /// A job has ended.
    pub(crate) fn done(&mut self, gateway: &ObjectName, outcome: Outcome, now: Instant) {
        let Some(entry) = self.entries.get_mut(gateway) else { return };
        let State::Running { again } = entry.state else { return };
        entry.state = State::Idle;
        entry.known = outcome.known;
        let mut due = again.then_some(now);
        if outcome.namespace_goes {
            due = due.or(Some(now + NAMESPACE_PAUSE));
        } else if !outcome.problems.is_empty() {
            due = due.or(Some(now + retry(entry.failures)));
            entry.failures += 1;
        } else {
            entry.failures = 0;
            due = due.or_else(|| outcome.unfinished.then_some(now + LEAVING_PAUSE));
        }
        let facts = std::mem::take(&mut entry.facts);
        let differs = facts.iter().filter(|fact| entry.differs(fact)).count() > 0;
        if differs {
            let at = entry.repair_at(now);
            due = Some(due.map_or(at, |due| due.min(at)));
        }
        let is_over = entry.wanted.is_none() && entry.known.is_empty() && due.is_none();
        if is_over {
            self.entries.remove(gateway);
        }
        self.report(gateway, outcome.problems);
        if let Some(due) = due {
            self.wake(gateway, due);
        }
    }

    /// All objects that are labelled as ours have been listed, or could not be.
    pub(crate) fn surveyed(&mut self, found: Option<Vec<Found>>, now: Instant) {
        self.survey.running = false;
        let Some(found) = found else {
            self.survey.due = Some(now + retry(self.survey.failures));
            self.survey.failures += 1;
            return;
        };
        let Some(options) = self.options.clone() else { return };
        (self.survey.failures, self.survey.done, self.survey.due) = (0, true, Some(now + SURVEY_PERIOD));
        let mut by_gateway: HashMap<ObjectName, Objects> = HashMap::new();
        for Found { kind, object } in found {
            let Claim::Gateway(gateway) = claim(&object, &options.controller_name) else { continue };
            if object["metadata"]["deletionTimestamp"].is_null() {
                let name = text(&object["metadata"]["name"]).to_owned();
                by_gateway.entry(gateway).or_default().insert((kind, name), Known::read(kind, &object));
            }
        }
        let gateways: HashSet<ObjectName> = self.entries.keys().chain(by_gateway.keys()).cloned().collect();
        let unclaimed_at = self.survey.since.unwrap_or(now) + UNCLAIMED_GRACE;
        for gateway in gateways {
            let mut objects = by_gateway.remove(&gateway).unwrap_or_default();
            if !self.entries.contains_key(&gateway) {
                if !self.informed {
                    continue;
                }
                // Nobody's: of a Gateway that is gone, or not ours any more. Some were left on purpose.
                objects.retain(|_, known| !known.is_orphan);
                if objects.is_empty() {
                    continue;
                }
                self.entries.insert(gateway.clone(), Entry { known: objects, ..Entry::default() });
                self.wake(&gateway, now.max(unclaimed_at));
                continue;
            }
            let Some(entry) = self.entries.get_mut(&gateway) else { continue };
            if !entry.is_running() && entry.take_stock(objects) {
                let due = entry.repair_at(now);
                self.wake(&gateway, due);
            }
        }
    }

    /// What keeps data planes from being as they must be.
    pub(crate) fn problems(&self) -> Arc<BTreeMap<ObjectName, Vec<Problem>>> {
        self.problems.clone()
    }

    /// How many Gateways wait or are being worked on.
    pub(crate) fn open(&self) -> usize {
        self.entries.values().filter(|entry| entry.state != State::Idle).count()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.open() == 0 && !self.survey.running && (self.survey.done || !self.leading)
    }

    fn report(&mut self, gateway: &ObjectName, problems: Vec<Problem>) {
        let known = self.problems.get(gateway).map(Vec::as_slice).unwrap_or_default();
        if known == problems {
            return;
        }
        let all = Arc::make_mut(&mut self.problems);
        match problems.is_empty() {
            true => _ = all.remove(gateway),
            false => _ = all.insert(gateway.clone(), problems),
        }
    }

    fn wake_all(&mut self, now: Instant) {
        let gateways: Vec<ObjectName> = self.entries.keys().cloned().collect();
        gateways.iter().for_each(|gateway| self.wake(gateway, now));
    }

    fn wake(&mut self, gateway: &ObjectName, at: Instant) {
        let Some(entry) = self.entries.get_mut(gateway) else { return };
        if !self.leading {
            return;
        }
        match &mut entry.state {
            State::Running { again } => *again = true,
            State::Due(due) if *due <= at => {}
            State::Due(due) => {
                self.due.remove(&(*due, gateway.clone()));
                entry.state = State::Due(at);
                self.due.insert((at, gateway.clone()));
            }
            State::Idle => {
                entry.state = State::Due(at);
                self.due.insert((at, gateway.clone()));
            }
        }
    }
}

impl Entry {
    /// Takes what is wanted; returns until when ports that are gone with it may still be served.
    fn set(&mut self, wanted: Option<Arc<Infrastructure>>, now: Instant) -> Option<Instant> {
        let same = |a: &Infrastructure, b: &Infrastructure| a.uid == b.uid;
        if !matches!((&self.wanted, &wanted), (Some(old), Some(new)) if same(old, new)) {
            self.ports.clear();
            self.closing.clear();
        }
        let mut closes_at = None;
        if let Some(wanted) = &wanted {
            let delay = wanted.parameters.as_deref().map(shutdown_delay).unwrap_or_default();
            let at = now + delay + CLOSING_MARGIN;
            for port in self.ports.keys().filter(|port| !wanted.ports.contains(port)) {
                self.closing.insert(*port, at);
                closes_at = Some(at);
            }
            self.closing.retain(|port, _| !wanted.ports.contains(port));
            self.ports.retain(|port, _| wanted.ports.contains(port));
            for port in &wanted.ports {
                self.ports.entry(*port).or_insert(wanted.generation);
            }
        } else {
            self.ports.clear();
        }
        self.wanted = wanted;
        self.failures = 0;
        closes_at
    }

    fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    fn existing_ports(&self) -> BTreeSet<Port> {
        self.known
            .values()
            .filter_map(|known| known.service.as_ref())
            .flat_map(|service| service.ports.iter().copied())
            .collect()
    }

    /// The Services as they are, and the ports that they may show: those that they show, and those that data planes have. Before there is any
    /// Service, all of them.
    fn services(&self, gateway: &ObjectName, acknowledged: Option<i64>) -> Services {
        let base = self.wanted.as_ref().map(|wanted| names(gateway, &wanted.gateway_class).base).unwrap_or_default();
        let services = || self.known.iter().filter_map(|((_, name), known)| Some((name, known.service.as_ref()?)));
        let asked = services().map(|(name, service)| (name.clone(), service.asked.clone())).collect();
        // With another class everything is made anew.
        let is_new = !services().any(|(name, _)| *name == base);
        let existing = self.existing_ports();
        let may_be_shown = |port: &Port, since: i64| {
            is_new || existing.contains(port) || acknowledged.is_some_and(|acknowledged| acknowledged >= since)
        };
        let ports = self.ports.iter().filter(|(port, since)| may_be_shown(port, **since)).map(|(port, _)| *port);
        Services { asked, ports: ports.collect(), closing: self.closing.keys().copied().collect() }
    }

    /// Whether something tells that an object is not as it was applied; then it is forgotten, or marked.
    fn differs(&mut self, fact: &Fact) -> bool {
        let key = (fact.kind, fact.name.name.to_string());
        let Some(known) = self.known.get_mut(&key) else { return false };
        let Some(seen) = &fact.seen else {
            self.known.remove(&key);
            return true;
        };
        if seen.uid != known.uid {
            self.known.remove(&key);
            return true;
        }
        let changed = match &seen.content {
            // An older one tells of what we have written over.
            SeenContent::Generation(generation) => known.mark.parse::<i64>().is_ok_and(|mark| *generation > mark),
            SeenContent::Whole(object) => {
                let body = known.service.as_ref().and_then(|service| service.body.clone());
                body.is_some_and(|body| !holds(object, &body))
            }
        };
        if changed {
            known.applied = None;
        }
        changed
    }

    /// Takes what was listed for what is; whether that is not what was known.
    fn take_stock(&mut self, objects: Objects) -> bool {
        let mut news = false;
        let before = std::mem::take(&mut self.known);
        for (key, mut found) in objects {
            match before.get(&key) {
                Some(known) if known.uid == found.uid && known.mark == found.mark => found = known.clone(),
                _ => news = true,
            }
            self.known.insert(key, found);
        }
        news || self.known.len() != before.len()
    }

    /// When what another has changed is put right: at once, but not again and again.
    fn repair_at(&mut self, now: Instant) -> Instant {
        let at = self.repaired.map_or(now, |repaired| now.max(repaired + REPAIR_PAUSE));
        self.repaired = Some(at);
        at
    }
}

fn retry(failures: u32) -> Duration {
    let pause = FIRST_RETRY.saturating_mul(1 << failures.min(10)).min(LAST_RETRY);
    // So that not all ask at the same time.
    pause.mul_f64(0.75 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::test::{infrastructure, options};
    use super::*;

    fn config_map() -> Found {
        let object = json!({"metadata": {
            "name": "edge-portcullis", "namespace": "infra", "uid": "u", "resourceVersion": "1",
            "labels": {"app.kubernetes.io/managed-by": "portcullis"},
            "annotations": {"portcullis.dev/controller-name": options().controller_name, "portcullis.dev/gateway-name": "edge"},
            "ownerReferences": [{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "edge", "uid": "6d2b", "controller": true}],
        }});
        Found { kind: Kind::ConfigMap, object }
    }

    fn leading(now: Instant) -> Table {
        let mut table = Table::default();
        table.options(Arc::new(options()), now);
        table.lead(true, now);
        assert!(matches!(table.next(now), Some(Task::Survey)));
        assert!(table.next(now).is_none(), "one at a time");
        table
    }

    fn job(table: &mut Table, now: Instant) -> Option<Box<Job>> {
        match table.next(now) {
            Some(Task::Job(job)) => Some(job),
            _ => None,
        }
    }

    #[test]
    fn what_is_nobody_s_goes_after_a_while() {
        let now = Instant::now();
        let mut table = leading(now);
        table.set(Vec::new(), now);
        table.surveyed(Some(vec![config_map()]), now);
        assert!(job(&mut table, now).is_none());
        assert_eq!(table.due(), Some(now + UNCLAIMED_GRACE));
        let job = job(&mut table, now + UNCLAIMED_GRACE).unwrap();
        assert_eq!((job.wanted, job.known.len()), (None, 1));
        table.done(&job.gateway, Outcome::default(), now + UNCLAIMED_GRACE);
        assert_eq!(table.open(), 0);
        assert!(table.entries.is_empty());
    }

    #[test]
    fn a_port_that_was_removed_is_let_in_as_long_as_data_planes_serve_it() {
        let now = Instant::now();
        let mut table = leading(now);
        let gateway = infrastructure().gateway;
        let set = |table: &mut Table, ports: &[u16], now| {
            let ports = ports.iter().map(|port| (*port, TransportProtocol::Tcp)).collect();
            let wanted = Some(Arc::new(Infrastructure { ports, ..infrastructure() }));
            table.set(vec![InfrastructureChange { gateway: gateway.clone(), infrastructure: wanted }], now);
        };
        let closing = |table: &mut Table, now| {
            let job = job(table, now).unwrap();
            table.done(&job.gateway, Outcome::default(), now);
            job.services.closing.iter().map(|(port, _)| *port).collect::<Vec<u16>>()
        };
        set(&mut table, &[80, 81, 82], now);
        table.surveyed(Some(Vec::new()), now);
        assert_eq!(closing(&mut table, now), Vec::<u16>::new());
        set(&mut table, &[80], now);
        assert_eq!(closing(&mut table, now), [81, 82]);
        set(&mut table, &[80, 82], now);
        assert_eq!(closing(&mut table, now), [81], "one came back");
        assert_eq!(table.open(), 0, "nothing is to be done meanwhile");
        let end = table.due().unwrap();
        assert!(end >= now + Duration::from_secs(5), "as long as a pod that ends");
        assert_eq!(closing(&mut table, end), Vec::<u16>::new());
        assert!(job(&mut table, end).is_none());
    }

    #[test]
    fn what_was_left_on_purpose_stays() {
        let now = Instant::now();
        let mut table = leading(now);
        table.set(Vec::new(), now);
        let mut orphan = config_map();
        orphan.object["metadata"]["ownerReferences"] = json!([]);
        orphan.object["metadata"]["managedFields"] =
            json!([{"manager": "portcullis-controller", "operation": "Apply"}]);
        table.surveyed(Some(vec![orphan]), now);
        assert!(table.entries.is_empty());
    }

    #[test]
    fn what_is_claimed_in_time_stays() {
        let now = Instant::now();
        let mut table = leading(now);
        table.set(Vec::new(), now);
        table.surveyed(Some(vec![config_map()]), now);
        let wanted = Some(Arc::new(infrastructure()));
        table
            .set(vec![InfrastructureChange { gateway: infrastructure().gateway, infrastructure: wanted.clone() }], now);
        let job = job(&mut table, now).unwrap();
        assert_eq!((job.wanted, job.known.len()), (wanted, 1));
    }

    #[test]
    fn nothing_is_nobody_s_before_the_gateways_are_known() {
        let now = Instant::now();
        let mut table = leading(now);
        table.surveyed(Some(vec![config_map()]), now);
        assert!(table.entries.is_empty());
        assert_eq!(table.due(), Some(now + SURVEY_PERIOD));
    }

    #[test]
    fn objects_of_other_installations_are_theirs() {
        let now = Instant::now();
        let mut table = leading(now);
        table.set(Vec::new(), now);
        let mut other = config_map();
        other.object["metadata"]["annotations"]["portcullis.dev/controller-name"] = json!("other.example/controller");
        table.surveyed(Some(vec![other]), now);
        assert!(table.entries.is_empty());
    }

    #[test]
    fn a_survey_that_failed_is_tried_again_and_nothing_runs_before() {
        let now = Instant::now();
        let mut table = leading(now);
        table.set(
            vec![InfrastructureChange {
                gateway: infrastructure().gateway,
                infrastructure: Some(Arc::new(infrastructure())),
            }],
            now,
        );
        table.surveyed(None, now);
        assert!(table.next(now).is_none());
        let again = table.due().unwrap();
        assert!(again > now);
        assert!(matches!(table.next(again), Some(Task::Survey)));
        table.surveyed(Some(Vec::new()), again);
        assert!(job(&mut table, again).is_some());
    }

    #[test]
    fn what_no_watch_tells_is_found_by_the_survey() {
        let now = Instant::now();
        let mut table = leading(now);
        let gateway = infrastructure().gateway;
        table.set(
            vec![InfrastructureChange { gateway: gateway.clone(), infrastructure: Some(Arc::new(infrastructure())) }],
            now,
        );
        table.surveyed(Some(Vec::new()), now);
        let first = job(&mut table, now).unwrap();
        let known = Known { applied: Some(1), ..Known::read(Kind::ConfigMap, &config_map().object) };
        let known: Objects = [((Kind::ConfigMap, "edge-portcullis".to_owned()), known)].into();
        table.done(&first.gateway, Outcome { known, ..Outcome::default() }, now);
        let later = now + SURVEY_PERIOD;
        // As it was.
        assert!(matches!(table.next(later), Some(Task::Survey)));
        table.surveyed(Some(vec![config_map()]), later);
        assert!(job(&mut table, later).is_none());
        // Changed by another.
        let later = later + SURVEY_PERIOD;
        assert!(matches!(table.next(later), Some(Task::Survey)));
        let mut changed = config_map();
        changed.object["metadata"]["resourceVersion"] = json!("2");
        table.surveyed(Some(vec![changed]), later);
        let job = job(&mut table, later).unwrap();
        assert_eq!(job.known.values().map(|known| known.applied).collect::<Vec<_>>(), [None]);
    }
}
