//! What install, uninstall and status ask of an API server, beside what `portcullis-cluster` reads.

use super::resources::{self, HELM_STORES, Resource};
use crate::cli::Cluster;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use kube::core::Status;
use portcullis_api::Foreign;
use portcullis_cluster::{Client, ConnectError, Problem, ReadError, connect, server};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(30);
/// For how long an API server that has no room, or whose storage of a kind is only starting, is asked again.
const BUSY: Duration = Duration::from_secs(60);
/// The most that is waited between two such requests.
const PAUSE: Duration = Duration::from_secs(10);
/// Only name, labels and the like: the content of Secrets is nothing that install or uninstall needs.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// Why it could not be done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no cluster to talk to.
    Connect(ConnectError),
    /// The API server did not do it.
    Request { attempt: String, error: Box<kube::Error> },
    /// There was no answer. Where the API server is, if that is known.
    Unreachable { server: Option<String>, error: ReadError },
    /// What was found does not allow it.
    Refused(String),
    /// This program could not be prepared for it.
    Program(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Request { attempt, error } => match &**error {
                kube::Error::Api(status) => write!(f, "cannot {attempt}: {}", Foreign(&status.message)),
                error => write!(f, "cannot {attempt}: {}", Foreign(&error.to_string())),
            },
            Self::Unreachable { server: Some(server), error } => write!(f, "{}: {error}", Foreign(server)),
            Self::Unreachable { server: None, error } => error.fmt(f),
            Self::Refused(why) | Self::Program(why) => f.write_str(why),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error.problem {
            Problem::Unreachable => Self::Unreachable { server: None, error },
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Connects, and runs a command's work to its end.
pub(crate) fn run<T>(cluster: &Cluster, work: impl AsyncFnOnce(ApiServer) -> Result<T, Failure>) -> Result<T, Failure> {
    // The same provider, installed before, is as good.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Program(format!("the program cannot start: {error}")))?;
    runtime.block_on(async {
        let (kubeconfig, context) = (cluster.kubeconfig.as_deref(), cluster.context.as_deref());
        let client = connect(kubeconfig, context).await.map_err(Failure::Connect)?;
        match work(ApiServer { client }).await {
            Err(Failure::Unreachable { error, .. }) => {
                Err(Failure::Unreachable { server: server(kubeconfig, context).await, error })
            }
            done => done,
        }
    })
}

/// An API server.
pub(crate) struct ApiServer {
    pub(crate) client: Client,
}

impl ApiServer {
    /// The object as it is there, if it is.
    pub(crate) async fn read(&self, object: &Value) -> Result<Option<Value>, Failure> {
        let attempt = || format!("read {}", resources::display(object));
        let answer = self.send(Method::GET, &path(object)?, None, "application/json", attempt).await;
        absent_as_none(answer)
    }

    /// Server-side apply; what others set of the same fields is taken over.
    pub(crate) async fn apply(&self, object: &Value, manager: &str) -> Result<Value, Failure> {
        let path = format!("{}?fieldManager={manager}&force=true", path(object)?);
        let attempt = || format!("apply {}", resources::display(object));
        let body = Some((object, "application/apply-patch+yaml"));
        self.send(Method::PATCH, &path, body, "application/json", attempt).await
    }

    /// Deletes an object, a Deployment after its pods; whether it was there.
    pub(crate) async fn delete(&self, object: &Value) -> Result<bool, Failure> {
        let attempt = || format!("delete {}", resources::display(object));
        let policy = if object["kind"] == "Deployment" { "Foreground" } else { "Background" };
        let options = json!({ "propagationPolicy": policy });
        let body = Some((&options, "application/json"));
        let answer = self.send(Method::DELETE, &path(object)?, body, "application/json", attempt).await;
        Ok(absent_as_none(answer)?.is_some())
    }

    /// Name and metadata of the objects of a kind, if the kind is served.
    pub(crate) async fn list_metadata(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
    ) -> Result<Option<Vec<Value>>, Failure> {
        self.list_as(resource, namespace, METADATA).await
    }

    /// The objects of a kind, if it is served.
    pub(crate) async fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
    ) -> Result<Option<Vec<Value>>, Failure> {
        self.list_as(resource, namespace, "application/json").await
    }

    /// The objects of a kind with these labels, in all namespaces, if the kind is served.
    pub(crate) async fn list_selected(&self, resource: &Resource, labels: &str) -> Result<Option<Vec<Value>>, Failure> {
        self.list_labelled(resource, None, labels, "application/json").await
    }

    /// Whether Helm has a release. Who may not look, is told that it has.
    pub(crate) async fn has_helm_release(&self, namespace: &str, name: &str) -> Result<bool, Failure> {
        let labels = format!("owner=helm,name={name}");
        for resource in HELM_STORES {
            match self.list_labelled(resource, Some(namespace), &labels, METADATA).await {
                Ok(releases) if releases.as_ref().is_none_or(Vec::is_empty) => {}
                Ok(_) | Err(Failure::Request { .. }) => return Ok(true),
                Err(failure) => return Err(failure),
            }
        }
        Ok(false)
    }

    async fn list_labelled(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        labels: &str,
        accept: &str,
    ) -> Result<Option<Vec<Value>>, Failure> {
        let labels = labels.replace('=', "%3D").replace(',', "%2C");
        let path = format!("{}?labelSelector={labels}", resource.path(namespace, None));
        let attempt = || format!("list {}", resource.plural);
        items(self.send(Method::GET, &path, None, accept, attempt).await)
    }

    async fn list_as(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        accept: &str,
    ) -> Result<Option<Vec<Value>>, Failure> {
        let attempt = || format!("list {}", resource.plural);
        items(self.send(Method::GET, &resource.path(namespace, None), None, accept, attempt).await)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&Value, &str)>,
        accept: &str,
        attempt: impl Fn() -> String,
    ) -> Result<Value, Failure> {
        let patience = Instant::now() + BUSY;
        loop {
            let mut request = Request::builder().method(method.clone()).uri(path).header(ACCEPT, accept);
            let body = match body {
                Some((body, content_type)) => {
                    request = request.header(CONTENT_TYPE, content_type);
                    body.to_string().into_bytes()
                }
                None => Vec::new(),
            };
            let request = request.body(body).map_err(|error| Failure::Program(error.to_string()))?;
            match tokio::time::timeout(REQUEST, self.client.request::<Value>(request)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(kube::Error::Api(status)))
                    if busy(&status).is_some_and(|pause| Instant::now() + pause < patience) =>
                {
                    tokio::time::sleep(busy(&status).unwrap_or_default()).await;
                }
                Ok(Err(error @ kube::Error::Service(_))) => {
                    return Err(ReadError::unreachable(attempt(), &error).into());
                }
                Ok(Err(error)) => return Err(Failure::Request { attempt: attempt(), error: Box::new(error) }),
                Err(_) => return Err(ReadError::silent(attempt(), REQUEST).into()),
            }
        }
    }
}

/// After what time to ask again, if the API server did not do it for want of time: 429, which it also answers while its storage of a kind
/// starts, and 503. Each of our requests may be sent twice.
fn busy(status: &Status) -> Option<Duration> {
    let said = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    matches!(status.code, 429 | 503).then(|| Duration::from_secs(said.max(1).into()).min(PAUSE))
}

fn path(object: &Value) -> Result<String, Failure> {
    let resource = Resource::of(object)
        .ok_or_else(|| Failure::Program(format!("{} is of no kind that is known here", resources::display(object))))?;
    Ok(resource.path(object["metadata"]["namespace"].as_str(), Some(resources::name(object))))
}

/// The items of a list.
fn items(answer: Result<Value, Failure>) -> Result<Option<Vec<Value>>, Failure> {
    let items = absent_as_none(answer)?.map(|mut list| match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    });
    Ok(items)
}

fn absent_as_none(answer: Result<Value, Failure>) -> Result<Option<Value>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Failure::Request { error, .. }) if matches!(&*error, kube::Error::Api(status) if status.code == 404) => {
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_busy_api_server_is_asked_again_when_it_says() {
        let pause = |status: Value| busy(&serde_json::from_value(status).unwrap());
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let initializing = json!({
            "code": 429, "reason": "TooManyRequests", "message": "storage is (re)initializing", "details": { "retryAfterSeconds": 3 }
        });
        assert_eq!(pause(initializing), seconds(3));
        assert_eq!(pause(json!({ "code": 503 })), seconds(1));
        assert_eq!(pause(json!({ "code": 429, "details": { "retryAfterSeconds": 4_000 } })), seconds(10));
        assert_eq!(pause(json!({ "code": 403, "details": { "retryAfterSeconds": 3 } })), None);
    }
}
