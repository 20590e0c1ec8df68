//! The work for one Gateway: what differs is applied, what is no longer wanted is deleted, and nothing that is another's is touched.
//!
//! Server-side apply, so that what others set beside ours stays. An object that was never seen is read first: one that is not ours keeps its
//! name, and the Gateway gets a [`Problem`]; one that is absent is made by POST, which takes nothing over. From then on the UID stands in
//! every write, so that an object that was put in its place by another is never written to.
//!
//! An object of ours without an owner (`kubectl delete --cascade=orphan`) is adopted by a Gateway that wants it, and left alone without one.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use http::Method;
use portcullis_compile::Infrastructure;
use portcullis_model::ObjectName;
use portcullis_runtime::metrics::{Counter, Family};
use serde_json::{Value, json};

use super::kind::Kind;
use super::known::{Claim, Known, claim, is_owned_by, slimmed};
use super::render::{RenderOptions, Rendered, Services, render};
use crate::request::{Failure, send};

/// Who applies.
pub(crate) const FIELD_MANAGER: &str = "portcullis-controller";
/// Who holds a Deployment's number of replicas from when it is no longer ours until an autoscaler has set it.
const REPLICAS_MANAGER: &str = "portcullis-controller-replicas";
/// How often an object may turn out to be another than the one that was read.
const ATTEMPTS: usize = 4;

/// How many objects a page of a list has at first.
const PAGE: usize = 100;

/// Objects by kind and name.
pub(crate) type Objects = BTreeMap<(Kind, String), Known>;

/// What keeps a data plane from being as it must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The kind of the object, as in `Service`.
    pub kind: &'static str,
    /// Its name, in the Gateway's namespace.
    pub name: String,
    /// Why.
    pub cause: Cause,
    /// In words, with the remedy where there is one.
    pub message: String,
}

/// Why an object is not as it must be.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Cause {
    /// Another's object has the name.
    NotOurs,
    /// The API server refuses the object: a quota, an admission policy, a value that it does not take.
    Refused,
    /// The API server cannot be asked, or is busy; this passes.
    Unavailable,
}

/// Work for one Gateway.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) gateway: ObjectName,
    /// Nothing: everything goes.
    pub(crate) wanted: Option<Arc<Infrastructure>>,
    pub(crate) options: Arc<RenderOptions>,
    pub(crate) services: Services,
    pub(crate) known: Objects,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) known: Objects,
    pub(crate) problems: Vec<Problem>,
    /// Whether something is left to be done although there is no problem: an object is about to go.
    pub(crate) unfinished: bool,
    /// Whether the namespace is about to go: then nothing is to be done.
    pub(crate) namespace_goes: bool,
}

/// How the API server is asked.
pub(crate) struct Api {
    pub(crate) client: kube::Client,
    pub(crate) request_limit: Duration,
    pub(crate) requests: Family<Counter, 2>,
}

/// An object that is there, as far as a write has to know it.
struct There {
    uid: String,
    is_orphan: bool,
    was_posted: bool,
}

impl From<&Known> for There {
    fn from(known: &Known) -> Self {
        Self { uid: known.uid.clone(), is_orphan: known.is_orphan, was_posted: known.was_posted }
    }
}

/// What happened to one object.
enum Step {
    Exists(Kind, String, Known),
    Gone,
    Failed(Kind, String, Option<Known>, Fault),
}

enum Fault {
    Problem(Cause, String),
    /// The object is about to go; then it can be made anew.
    Leaving,
    NamespaceGoes,
}

impl Api {
    pub(crate) async fn run(&self, job: &Job) -> Outcome {
        let Some(infrastructure) = &job.wanted else {
            return Outcome::of(join_all(job.known.iter().map(|(key, known)| self.delete(job, key, known))).await);
        };
        let Some(objects) = render(infrastructure, &job.options, &job.services) else {
            return Outcome { known: job.known.clone(), ..Outcome::default() };
        };
        let is_wanted =
            |(kind, name): &(Kind, String)| objects.iter().any(|object| object.kind == *kind && object.name == *name);
        // A Service cannot be without ports: until there is one that can be shown it stays as it is.
        let stays = |kind: Kind| kind == Kind::Service && job.services.ports.is_empty();
        let (kept, unwanted): (Vec<_>, Vec<_>) =
            job.known.iter().filter(|(key, _)| !is_wanted(key)).partition(|(key, _)| stays(key.0));
        let mut steps = self.apply_all(job, infrastructure, &objects).await;
        steps.extend(kept.into_iter().map(|((kind, name), known)| Step::Exists(*kind, name.clone(), known.clone())));
        // Only when what takes their place exists.
        if steps.iter().all(|step| matches!(step, Step::Exists(..))) {
            steps.extend(join_all(unwanted.into_iter().map(|(key, known)| self.delete(job, key, known))).await);
        } else {
            steps.extend(
                unwanted.into_iter().map(|((kind, name), known)| Step::Exists(*kind, name.clone(), known.clone())),
            );
        }
        Outcome::of(steps)
    }

    /// Everything at the same time, but the Deployment after what its pods need, and its autoscaler after it.
    async fn apply_all(&self, job: &Job, infrastructure: &Infrastructure, objects: &[Rendered]) -> Vec<Step> {
        let of = |kinds: &'static [Kind]| {
            let chosen = objects.iter().filter(move |object| kinds.contains(&object.kind));
            join_all(chosen.map(|object| self.apply(job, infrastructure, object)))
        };
        let in_turn = async {
            let mut steps = of(&[Kind::ServiceAccount, Kind::ConfigMap]).await;
            if steps.iter().all(|step| matches!(step, Step::Exists(..))) {
                steps.extend(of(&[Kind::Deployment]).await);
                steps.extend(of(&[Kind::HorizontalPodAutoscaler]).await);
            } else {
                let waiting = objects.iter().filter(|object| object.kind >= Kind::Deployment);
                steps.extend(waiting.filter_map(|object| {
                    let known = job.known.get(&(object.kind, object.name.clone()))?;
                    Some(Step::Exists(object.kind, object.name.clone(), known.clone()))
                }));
            }
            steps
        };
        let (mut steps, beside) =
            join(in_turn, of(&[Kind::Service, Kind::NetworkPolicy, Kind::PodDisruptionBudget])).await;
        steps.extend(beside);
        steps
    }

    async fn apply(&self, job: &Job, infrastructure: &Infrastructure, object: &Rendered) -> Step {
        let (kind, name) = (object.kind, &object.name);
        let known = job.known.get(&(kind, name.clone()));
        let hash = hash(&object.body);
        if let Some(known) = known.filter(|known| known.applied == Some(hash)) {
            return Step::Exists(kind, name.clone(), known.clone());
        }
        match self.write(job, infrastructure, object, known).await {
            Ok(written) => {
                let mut known = Known::read(kind, &written);
                known.applied = Some(hash);
                if let Some(service) = &mut known.service {
                    service.body = Some(Arc::new(object.body.clone()));
                }
                Step::Exists(kind, name.clone(), known)
            }
            Err(fault) => Step::Failed(kind, name.clone(), known.cloned(), fault),
        }
    }

    async fn write(
        &self,
        job: &Job,
        infrastructure: &Infrastructure,
        object: &Rendered,
        known: Option<&Known>,
    ) -> Result<Value, Fault> {
        let all = object.kind.path(Some(&job.gateway.namespace));
        let path = format!("{all}/{}", object.name);
        let mut there = known.map(There::from);
        for _ in 0..ATTEMPTS {
            if there.is_none() {
                there = match self.ask(object.kind, Method::GET, &path, None).await {
                    Ok(found) => Some(There::from(&self.own(job, infrastructure, object, &found)?)),
                    Err(Failure::NotFound) => None,
                    Err(failure) => return Err(failure.into()),
                };
            }
            let written = match &there {
                Some(there) => self.update(object, &path, there).await,
                None => self.create(object, &all).await,
            };
            match written {
                Ok(written) if is_leaving(&written) => return Err(Fault::Leaving),
                Ok(written) => return Ok(written),
                // It is not the object that it was.
                Err(Failure::Conflict | Failure::NotFound) if there.is_some() => there = None,
                Err(Failure::NotFound) => return Err(Fault::NamespaceGoes),
                // Another has just made one of this name.
                Err(Failure::Conflict) => {}
                Err(failure @ Failure::Refused { .. }) if there.is_some_and(|there| there.is_orphan) => {
                    let message = format!(
                        "nobody owns the {} {} of this namespace any more, as after kubectl delete --cascade=orphan, and it cannot be \
                         adopted: delete it, and it is made anew ({failure})",
                        object.kind.as_str(),
                        object.name
                    );
                    return Err(Fault::Problem(Cause::NotOurs, message));
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Fault::Problem(Cause::Unavailable, "it changes all the time".to_owned()))
    }

    /// Makes an object that is not there. A server-side apply would take over what another has made in the meantime.
    async fn create(&self, object: &Rendered, all: &str) -> Result<Value, Failure> {
        let path = format!("{all}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict");
        self.ask(object.kind, Method::POST, &path, Some(&object.body)).await
    }

    /// Applies to the very object that is there.
    async fn update(&self, object: &Rendered, path: &str, there: &There) -> Result<Value, Failure> {
        if there.was_posted {
            self.claim_fields(object.kind, path, &there.uid).await?;
        }
        self.leave_replicas(object, path, &there.uid).await?;
        let mut body = object.body.clone();
        body["metadata"]["uid"] = json!(there.uid);
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&force=true&fieldValidation=Strict");
        self.ask(object.kind, Method::PATCH, &path, Some(&body)).await
    }

    /// What was made by POST has its fields from an update, beside which an apply of the same manager would leave whatever it does not
    /// name any more. So the entry becomes one of an apply, as client-go's csaupgrade does it.
    async fn claim_fields(&self, kind: Kind, path: &str, uid: &str) -> Result<(), Failure> {
        let found = self.ask(kind, Method::GET, path, None).await?;
        let Some(index) = super::known::posted_entry(&found) else { return Ok(()) };
        let entry = format!("/metadata/managedFields/{index}");
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": format!("{entry}/manager"), "value": FIELD_MANAGER},
            {"op": "replace", "path": format!("{entry}/operation"), "value": "Apply"},
        ]);
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict");
        // Where another was quicker a test of the patch fails with 422, as does what an admission policy refuses: the next job looks again.
        self.ask(kind, Method::PATCH, &path, Some(&patch)).await.map(|_| ())
    }

    /// A field that is no longer applied falls back to its default: a Deployment that gets an autoscaler would shrink to one pod until that
    /// has looked at it. So its number is handed to a manager of its own first.
    async fn leave_replicas(&self, object: &Rendered, path: &str, uid: &str) -> Result<(), Failure> {
        if object.kind != Kind::Deployment || object.body["spec"].get("replicas").is_some() {
            return Ok(());
        }
        let found = match self.ask(object.kind, Method::GET, path, None).await {
            Ok(found) => found,
            // Found out by the write itself.
            Err(Failure::NotFound) => return Ok(()),
            Err(failure) => return Err(failure),
        };
        let managers = found["metadata"]["managedFields"].as_array().into_iter().flatten();
        let is_ours = managers
            .into_iter()
            .any(|entry| entry["manager"] == FIELD_MANAGER && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some());
        if !is_ours {
            return Ok(());
        }
        let body = json!({
            "apiVersion": object.kind.api_version(), "kind": object.kind.as_str(),
            "metadata": {"name": object.name, "namespace": found["metadata"]["namespace"], "uid": uid},
            "spec": {"replicas": found["spec"]["replicas"]},
        });
        let write = format!("{path}?fieldManager={REPLICAS_MANAGER}&fieldValidation=Strict");
        match self.ask(object.kind, Method::PATCH, &write, Some(&body)).await {
            // Another has just set it, or the object is another: the write itself finds out.
            Ok(_) | Err(Failure::Conflict | Failure::NotFound) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// What is there already, if it may be written to.
    fn own(
        &self,
        job: &Job,
        infrastructure: &Infrastructure,
        object: &Rendered,
        found: &Value,
    ) -> Result<Known, Fault> {
        let ours = is_owned_by(found, &infrastructure.uid)
            || claim(found, &job.options.controller_name) == Claim::Gateway(job.gateway.clone());
        if !ours {
            let message = format!(
                "the {} {} of this namespace is not this Gateway's: delete or rename it, or give the Gateway another name",
                object.kind.as_str(),
                object.name
            );
            return Err(Fault::Problem(Cause::NotOurs, message));
        }
        if is_leaving(found) {
            return Err(Fault::Leaving);
        }
        Ok(Known::read(object.kind, found))
    }

    async fn delete(&self, job: &Job, (kind, name): &(Kind, String), known: &Known) -> Step {
        let path = format!("{}/{name}", kind.path(Some(&job.gateway.namespace)));
        let failed = |failure: Failure| Step::Failed(*kind, name.clone(), Some(known.clone()), failure.into());
        match self.ask(*kind, Method::GET, &path, None).await {
            // Whoever deletes a Gateway with --cascade=orphan wants its objects to stay.
            Ok(found) if Known::read(*kind, &found).is_orphan => return Step::Gone,
            Ok(_) => {}
            Err(Failure::NotFound) => return Step::Gone,
            Err(failure) => return failed(failure),
        }
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": known.uid}, "propagationPolicy": "Background",
        });
        match self.ask(*kind, Method::DELETE, &path, Some(&options)).await {
            // Gone, or another has its name.
            Ok(_) | Err(Failure::NotFound | Failure::Conflict) => Step::Gone,
            Err(failure) => failed(failure),
        }
    }

    /// All objects of a kind that are labelled as ours, page by page, without what is not needed of them. Anybody may write that label on
    /// objects of any size: pages become smaller until they can be read, and nothing large is kept.
    pub(crate) async fn list(&self, kind: Kind, namespace: Option<&str>) -> Result<Vec<Value>, Failure> {
        let mut objects = Vec::new();
        let mut token = String::new();
        let mut limit = PAGE;
        loop {
            let (key, value) = super::names::MANAGED_BY;
            let path = format!(
                "{}?labelSelector={}%3D{value}&limit={limit}{token}",
                kind.path(namespace),
                key.replace('/', "%2F")
            );
            let mut page = match self.ask(kind, Method::GET, &path, None).await {
                Err(Failure::TooLarge) if limit > 1 => {
                    limit = (limit / 8).max(1);
                    continue;
                }
                answer => answer?,
            };
            if let Value::Array(items) = page["items"].take() {
                objects.extend(items.into_iter().map(|item| slimmed(kind, item)));
            }
            match page["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => token = format!("&continue={}", escaped(next)),
                _ => return Ok(objects),
            }
        }
    }

    async fn ask(&self, kind: Kind, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let answer = send(&self.client, method.clone(), path, body, self.request_limit).await;
        // Reading tells nothing that a scrape has to know.
        if method != Method::GET || !matches!(answer, Ok(_) | Err(Failure::NotFound)) {
            let outcome = match &answer {
                Ok(_) if method == Method::DELETE => "deleted",
                Ok(_) => "applied",
                Err(Failure::NotFound) => "absent",
                Err(Failure::Conflict) => "conflict",
                Err(Failure::Refused { .. }) => "refused",
                Err(Failure::Busy { .. }) => "busy",
                Err(Failure::TooLarge | Failure::Unreachable(_)) => "unreachable",
            };
            self.requests.with([kind.as_str(), outcome]).add_shared(1);
        }
        answer
    }
}

/// The outcomes that are counted.
pub(crate) const OUTCOMES: usize = 7;

impl Outcome {
    fn of(steps: Vec<Step>) -> Self {
        let mut outcome = Self::default();
        for step in steps {
            match step {
                Step::Exists(kind, name, known) => _ = outcome.known.insert((kind, name), known),
                Step::Gone => {}
                Step::Failed(kind, name, known, fault) => {
                    let leaving = matches!(fault, Fault::Leaving);
                    match fault {
                        Fault::Problem(cause, message) => {
                            outcome.problems.push(Problem { kind: kind.as_str(), name: name.clone(), cause, message });
                        }
                        Fault::Leaving => outcome.unfinished = true,
                        Fault::NamespaceGoes => outcome.namespace_goes = true,
                    }
                    // What became of a write that failed is not known.
                    let known = known.filter(|_| !leaving).map(|known| Known { applied: None, ..known });
                    outcome.known.extend(known.map(|known| ((kind, name), known)));
                }
            }
        }
        if outcome.namespace_goes {
            outcome.problems.clear();
        }
        outcome
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            // Said by the admission of every API server since 1.5, with this reason in words.
            Failure::Refused { code: 403, message } if message.contains("because it is being terminated") => {
                Self::NamespaceGoes
            }
            Failure::Refused { .. } => Self::Problem(Cause::Refused, failure.to_string()),
            _ => Self::Problem(Cause::Unavailable, failure.to_string()),
        }
    }
}

fn is_leaving(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn hash(body: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.to_string().hash(&mut hasher);
    hasher.finish()
}

/// For the query of a URI.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(escape).collect()
}
