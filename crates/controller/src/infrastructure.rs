//! The objects of data planes: for each Gateway of ours a Deployment, Services, a ServiceAccount, a ConfigMap with the controller's CA, a
//! PodDisruptionBudget, a NetworkPolicy and perhaps a HorizontalPodAutoscaler, in the Gateway's namespace.
//!
//! In flows what must exist ([`Infrastructure`](portcullis_compile::Infrastructure)), what watches tell of what exists, and what data planes have acknowledged. Out flow server-side
//! applies of what differs, deletes of what is no longer wanted, and [`Problem`]s. Only while this replica leads.
//!
//! | module | what it is |
//! |---|---|
//! | `names` | names and labels |
//! | `address` | which Services there are, from the addresses that are asked for |
//! | `render` | the objects, as they must be |
//! | `known` | the objects, as they are, and whose |
//! | `table` | what is to be done, and when |
//! | `apply` | doing it |
//! | `rights` | what the controller must be allowed to do |
//!
//! A port that is added is shown by the Services when a data plane has acknowledged it ([`Provisioner::acknowledged`]); one that is removed
//! leaves them at once, while data planes serve it, and the NetworkPolicy lets it in, for another while. Ports of a Gateway without a Service
//! are shown at once: its data plane is as new as they are.

pub(crate) mod address;
mod apply;
mod kind;
mod known;
mod names;
mod render;
mod rights;
mod table;
#[cfg(test)]
mod test;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use portcullis_api::{Change, Object};
use portcullis_cluster::{Owned, OwnedKind};
use portcullis_compile::InfrastructureChange;
use portcullis_model::ObjectName;
use portcullis_runtime::metrics::{Kind as MetricKind, Label, MetricError, Registry};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub use apply::{Cause, Problem};
pub use names::{FULL_GATEWAY_NAME, GATEWAY_NAME, Names, names};
pub use render::RenderOptions;
pub use rights::RIGHTS;

use apply::{Api, Job, OUTCOMES, Outcome};
use kind::Kind;
use table::{Fact, Found, Seen, SeenContent, Table, Task};

/// How many Gateways are worked on at a time.
const CONCURRENT_JOBS: usize = 16;

/// Settings of the provisioner.
#[derive(Clone, Debug)]
pub struct InfrastructureOptions {
    /// What is the same for all Gateways. Its `ca_bundle` comes with [`Provisioner::ca_bundle`]; as long as it is empty nothing is made.
    pub render: RenderOptions,
    /// The namespaces in which data planes may be; nothing: all.
    pub namespaces: Option<Vec<String>>,
    /// How long one request may take.
    pub request_limit: Duration,
}

/// Problems of all Gateways that have any.
pub type Problems = Arc<BTreeMap<ObjectName, Vec<Problem>>>;

/// Makes and keeps the objects of data planes. Cloning it shares the work.
#[derive(Clone)]
pub struct Provisioner {
    shared: Arc<Shared>,
    problems: watch::Receiver<Problems>,
}

struct Shared {
    table: Mutex<Table>,
    wake: Notify,
    open: AtomicUsize,
    options: InfrastructureOptions,
}

impl Provisioner {
    /// Starts to work, on the runtime that this is called in.
    ///
    /// # Errors
    /// When the registry has these metrics already.
    pub fn start(
        options: InfrastructureOptions,
        client: kube::Client,
        registry: &Registry,
    ) -> Result<Self, MetricError> {
        let shared =
            Arc::new(Shared { table: Mutex::default(), wake: Notify::new(), open: AtomicUsize::new(0), options });
        let queue = Arc::downgrade(&shared);
        registry.collect(
            "portcullis_infrastructure_queue_gateways",
            "Gateways whose data plane's objects wait to be looked at or are being written.",
            MetricKind::Gauge,
            move |samples| {
                let open = queue.upgrade().map_or(0, |shared| shared.open.load(Ordering::Relaxed));
                samples.add(&[], open as f64);
            },
        )?;
        let requests = registry.counters(
            "portcullis_infrastructure_requests_total",
            "Writes of data planes' objects, and reads that failed, by kind and by what came of it.",
            [Label::closed("kind"), Label::closed("outcome")],
            Kind::ALL.len() * OUTCOMES,
        )?;
        let api = Api { client, request_limit: shared.options.request_limit, requests };
        let (report, problems) = watch::channel(Problems::default());
        if !shared.options.render.ca_bundle.is_empty() {
            shared.table().options(Arc::new(shared.options.render.clone()), Instant::now());
        }
        tokio::spawn(drive(shared.clone(), api, report));
        Ok(Self { shared, problems })
    }

    /// Begins or ends to act. When it begins, all objects are listed, and each Gateway is looked at. What must exist has to be known before:
    /// objects of Gateways of which nothing was ever [`set`](Self::set) are taken for nobody's.
    pub fn lead(&self, leading: bool) {
        self.update(|table, now| table.lead(leading, now));
    }

    /// Says what must exist. The first call names every Gateway, or none if there is none.
    pub fn set(&self, changes: Vec<InfrastructureChange>) {
        self.update(|table, now| table.set(changes, now));
    }

    /// Takes in what the watch tells of Deployments. What another has changed or deleted is put back.
    pub fn owned(&self, owned: &[Owned]) {
        let deployments = owned.iter().filter(|owned| owned.kind == OwnedKind::Deployment);
        let fact = |owned: &Owned| {
            let seen = owned
                .state
                .as_ref()
                .map(|state| Seen { uid: state.uid.clone(), content: SeenContent::Generation(state.generation) });
            Fact { kind: Kind::Deployment, name: owned.name.clone(), seen }
        };
        self.facts(deployments.map(fact).collect());
    }

    /// Takes in what the watch tells of Services, and leaves the rest out. What another has changed or deleted is put back.
    pub fn changed(&self, changes: &[Change]) {
        let fact = |change: &Change| match change {
            Change::Upsert(Object::Service(service)) => {
                let (key, value) = names::MANAGED_BY;
                // One that lost the label is looked at by the next survey.
                if service.metadata.labels.get(key).is_none_or(|label| label != value) {
                    return None;
                }
                let name = ObjectName::new(
                    service.metadata.namespace.as_deref().unwrap_or_default(),
                    service.metadata.name.as_str(),
                );
                let whole = Object::Service(service.clone()).to_value();
                let uid = service.metadata.uid.as_deref().unwrap_or_default().to_owned();
                Some(Fact {
                    kind: Kind::Service,
                    name,
                    seen: Some(Seen { uid, content: SeenContent::Whole(Arc::new(whole)) }),
                })
            }
            Change::Delete(key) if key.kind() == "Service" && key.group().is_empty() => {
                Some(Fact { kind: Kind::Service, name: ObjectName::new(key.namespace(), key.name()), seen: None })
            }
            _ => None,
        };
        self.facts(changes.iter().filter_map(fact).collect());
    }

    /// Data planes of a Gateway have what it said at this generation: ports that came with it may be shown by the Services.
    pub fn acknowledged(&self, gateway: &ObjectName, gateway_generation: i64) {
        self.update(|table, now| table.acknowledged(gateway, gateway_generation, now));
    }

    /// Sets the CA, in PEM. Until it is set nothing is made.
    pub fn ca_bundle(&self, pem: &str) {
        let options = Arc::new(RenderOptions { ca_bundle: pem.to_owned(), ..self.shared.options.render.clone() });
        self.update(|table, now| {
            if table.render_options().is_none_or(|old| old.ca_bundle != options.ca_bundle) {
                table.options(options, now);
            }
        });
    }

    /// What keeps data planes from being as they must be, now and whenever it changes. Empty while this replica does not lead.
    pub fn problems(&self) -> watch::Receiver<Problems> {
        self.problems.clone()
    }

    /// Whether nothing waits and nothing is being written.
    pub fn is_idle(&self) -> bool {
        self.shared.table().is_idle()
    }

    fn facts(&self, facts: Vec<Fact>) {
        if !facts.is_empty() {
            self.update(|table, now| table.facts(facts, now));
        }
    }

    fn update(&self, change: impl FnOnce(&mut Table, Instant)) {
        change(&mut self.shared.table(), Instant::now());
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Done {
    Job(Box<Job>, Outcome),
    Survey(Option<Vec<Found>>),
}

/// Runs what is due, for ever.
async fn drive(shared: Arc<Shared>, api: Api, report: watch::Sender<Problems>) {
    let mut open = FuturesUnordered::new();
    loop {
        let due = {
            let mut table = shared.table();
            if !table.is_leading() && !open.is_empty() {
                // What is under way is given up: whoever leads now looks at everything.
                open = FuturesUnordered::new();
            }
            while open.len() < CONCURRENT_JOBS
                && let Some(task) = table.next(Instant::now())
            {
                open.push(run(&api, task, shared.options.namespaces.as_deref()));
            }
            shared.open.store(table.open(), Ordering::Relaxed);
            publish(&report, table.problems());
            table.due().filter(|_| open.len() < CONCURRENT_JOBS)
        };
        let alarm = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.wake.notified() => {}
            () = alarm => {}
            Some(done) = open.next() => match done {
                Done::Job(job, outcome) => {
                    let mut table = shared.table();
                    tell(&job.gateway, &table.new_problems(&job.gateway, &outcome.problems));
                    table.done(&job.gateway, outcome, Instant::now());
                }
                Done::Survey(found) => shared.table().surveyed(found, Instant::now()),
            },
        }
    }
}

async fn run(api: &Api, task: Task, namespaces: Option<&[String]>) -> Done {
    match task {
        Task::Job(job) => {
            let outcome = api.run(&job).await;
            Done::Job(job, outcome)
        }
        Task::Survey => Done::Survey(survey(api, namespaces).await),
    }
}

/// All objects that are labelled as ours; nothing if one of the lists could not be had.
async fn survey(api: &Api, namespaces: Option<&[String]>) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    let places: Vec<Option<&str>> = match namespaces {
        None => vec![None],
        Some(listed) => listed.iter().map(|namespace| Some(namespace.as_str())).collect(),
    };
    for place in places {
        for (kind, listed) in join_all(Kind::ALL.map(|kind| async move { (kind, api.list(kind, place).await) })).await {
            match listed {
                Ok(objects) => found.extend(objects.into_iter().map(|object| Found { kind, object })),
                Err(failure) => {
                    tracing::warn!(kind = kind.as_str(), error = %failure, "objects of data planes cannot be listed");
                    return None;
                }
            }
        }
    }
    Some(found)
}

/// What keeps being so is told once.
fn tell(gateway: &ObjectName, problems: &[&Problem]) {
    for problem in problems {
        let (kind, name) = (problem.kind, &problem.name);
        tracing::warn!(%gateway, kind, name, problem = %problem.message, "a data plane's object is not as it must be");
    }
}

fn publish(report: &watch::Sender<Problems>, problems: Problems) {
    report.send_if_modified(|known| {
        let news = *known != problems;
        if news {
            *known = problems;
        }
        news
    });
}
