//! One status: merge, and write if there is something to write.
//!
//! The cheapest way that is right: what the watch told is merged and written with its resource version as precondition, which is one request.
//! Where parts of the status are not ours, they are read first as they are stored, since types may leave out empty lists of others.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::Method;
use portcullis_api::ObjectKey;
use serde_json::{Value, json};

use super::StatusOptions;
use super::merge::{Around, Merge, canonical, merge};
use super::seen::Seen;
use super::table::{Job, Settled};
use crate::clock;
use crate::request::{Failure, send};

/// How often a write is tried again at once because the object had changed.
const CONFLICTS: usize = 5;

/// Who writes, in `managedFields`.
const FIELD_MANAGER: &str = "portcullis-controller";

/// What came of a look at an object's status.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was written; this is the object now.
    Written(Box<Written>),
    /// There was nothing to write.
    Unchanged,
    /// The object is newer than what we have to say.
    Superseded,
    /// It kept changing.
    Conflict,
    /// The object is gone.
    Gone,
    /// The API server does not accept it.
    Refused(Failure),
    /// The API server could not be asked.
    Failed(Failure),
}

/// What the API server made of a write.
#[derive(Debug)]
pub(crate) struct Written {
    /// The object.
    pub(crate) seen: Seen,
    /// Its status: fields that its schema does not know are gone from it.
    pub(crate) settled: Settled,
}

impl Outcome {
    /// All labels.
    pub(crate) const LABELS: [&'static str; 7] =
        ["written", "unchanged", "superseded", "conflict", "gone", "refused", "failed"];

    /// For the metric.
    pub(crate) fn label(&self) -> &'static str {
        let index = match self {
            Self::Written(_) => 0,
            Self::Unchanged => 1,
            Self::Superseded => 2,
            Self::Conflict => 3,
            Self::Gone => 4,
            Self::Refused(_) => 5,
            Self::Failed(_) => 6,
        };
        Self::LABELS[index]
    }
}

/// Writes statuses, one at a time.
pub(crate) struct Writing {
    client: kube::Client,
    options: StatusOptions,
}

impl Writing {
    pub(crate) fn new(client: kube::Client, options: StatusOptions) -> Self {
        Self { client, options }
    }

    /// Brings one status up to date.
    pub(crate) async fn run(&self, job: &Job) -> Outcome {
        self.try_run(job).await.unwrap_or_else(|failure| match failure {
            Failure::NotFound => Outcome::Gone,
            Failure::Conflict => Outcome::Conflict,
            Failure::Refused { .. } => Outcome::Refused(failure),
            Failure::Busy { .. } | Failure::TooLarge | Failure::Unreachable(_) => Outcome::Failed(failure),
        })
    }

    async fn try_run(&self, job: &Job) -> Result<Outcome, Failure> {
        let desired: Option<Value> = job.desired.as_deref().and_then(|desired| serde_json::from_str(desired).ok());
        let mut seen = job.seen.clone();
        for _ in 0..=CONFLICTS {
            let status = match self.merge(job, &seen, desired.as_ref()) {
                Merge::Unchanged => return Ok(Outcome::Unchanged),
                Merge::Newer => return Ok(Outcome::Superseded),
                Merge::Changed { foreign: true, .. } if !seen.is_as_stored => {
                    seen = self.read(job).await?;
                    continue;
                }
                Merge::Changed { status, .. } => status,
            };
            match self.put(job, &seen, status).await {
                Ok(written) => return Ok(Outcome::Written(Box::new(written))),
                Err(Failure::Conflict) => seen = self.read(job).await?,
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Conflict)
    }

    fn merge(&self, job: &Job, seen: &Seen, desired: Option<&Value>) -> Merge {
        if seen.uid != job.seen.uid {
            // Another object of the same name: the watch will tell of it.
            return Merge::Newer;
        }
        let observed = desired.and_then(observed_generation);
        if let (Some(generation), Some(observed)) = (seen.generation, observed)
            && generation > observed
        {
            return Merge::Newer;
        }
        let status = seen.status();
        if let (Some(settled), Some(status)) = (&job.settled, &status)
            && *settled == settled_as(status)
        {
            return Merge::Unchanged;
        }
        let around = Around {
            controller_name: &self.options.controller_name,
            namespace: job.key.namespace(),
            generation: seen.generation,
            now: &clock::now(),
        };
        merge(status.as_ref(), desired, around)
    }

    async fn read(&self, job: &Job) -> Result<Seen, Failure> {
        let answer = send(&self.client, Method::GET, &path(job), None, self.options.request_limit).await?;
        Ok(Seen::answered(&answer))
    }

    async fn put(&self, job: &Job, seen: &Seen, status: Value) -> Result<Written, Failure> {
        // Nothing but the status is looked at of what is put to the subresource.
        let mut metadata = json!({"name": job.key.name()});
        let namespace = Some(job.key.namespace()).filter(|namespace| !namespace.is_empty());
        let optional =
            [("namespace", namespace), ("uid", seen.uid.as_deref()), ("resourceVersion", seen.resource_version())];
        for (field, value) in optional {
            if let Some(value) = value {
                metadata[field] = json!(value);
            }
        }
        let body = json!({
            "apiVersion": seen.api_version, "kind": job.key.kind(), "metadata": metadata, "status": status,
        });
        let path = format!("{}/status?fieldManager={FIELD_MANAGER}", path(job));
        let answer = send(&self.client, Method::PUT, &path, Some(&body), self.options.request_limit).await?;
        let settled = settled_as(answer.get("status").unwrap_or(&Value::Null));
        Ok(Written { seen: Seen::answered(&answer), settled })
    }
}

fn settled_as(status: &Value) -> Settled {
    let mut settled = Settled::default();
    settled.copy_from_slice(digest(&SHA256, canonical(status).as_bytes()).as_ref());
    settled
}

/// The generation that a status is about.
fn observed_generation(status: &Value) -> Option<i64> {
    let lists = ["parents", "ancestors", "listeners"].map(|list| status[list].as_array());
    let nested = lists.into_iter().flatten().flatten().flat_map(|entry| entry["conditions"].as_array());
    let conditions = status["conditions"].as_array().into_iter().chain(nested).flatten();
    conditions.filter_map(|condition| condition["observedGeneration"].as_i64()).max()
}

/// Where the object is, in the version in which it was served.
fn path(job: &Job) -> String {
    let api_version = &*job.seen.api_version;
    let root = if api_version.contains('/') { "apis" } else { "api" };
    let namespace = match job.key.namespace() {
        "" => String::new(),
        namespace => format!("namespaces/{namespace}/"),
    };
    format!("/{root}/{api_version}/{namespace}{}/{}", resource(&job.key), job.key.name())
}

/// The plural by which a kind is served.
fn resource(key: &ObjectKey) -> String {
    let kind = key.kind().to_ascii_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}

/// How long a request may take when nothing else is said.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_plurals() {
        for (kind, expected) in [
            ("HTTPRoute", "httproutes"),
            ("Gateway", "gateways"),
            ("GatewayClass", "gatewayclasses"),
            ("BackendTLSPolicy", "backendtlspolicies"),
            ("XListenerSet", "xlistenersets"),
        ] {
            assert_eq!(resource(&ObjectKey::new("", kind, "", "")), expected);
        }
    }
}
