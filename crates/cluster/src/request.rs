//! One request to an API server: its URL, its answer within time and size, and what its errors mean.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use crate::buffer::Buffer;
use crate::connect::Client;
use crate::error::{Problem, ReadError, chain};
use crate::kinds::{Content, Watched};

/// The objects of one kind in one place.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) watched: &'static Watched,
    pub(crate) version: Arc<str>,
    pub(crate) namespace: Option<Arc<str>>,
}

/// How long to wait for the head of an answer, and for each further piece of a body.
const PATIENCE: Duration = Duration::from_secs(30);
/// The label of what a controller made.
const OWNED_SELECTOR: &str = "app.kubernetes.io/managed-by=portcullis";

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const METADATA_LIST: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json");
const METADATA: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json");

impl Target {
    /// One page of a list, from the beginning or going on from a token.
    pub(crate) async fn list(&self, client: &Client, limit: u32, token: &str) -> Result<Buffer, ReadError> {
        let mut url = self.url();
        let _ = write!(url, "?limit={limit}");
        if !token.is_empty() {
            let _ = write!(url, "&continue={}", Encoded(token));
        }
        self.select(&mut url);
        let accept = if self.metadata_only() { METADATA_LIST } else { JSON };
        let attempt = || self.attempt("list");
        let response = send(client, &url, accept, attempt).await?;
        collect(response, PAGE_LIMIT, self.is_confidential(), attempt).await
    }

    /// The changes since a version, for a while.
    pub(crate) async fn watch(&self, client: &Client, since: &str, lifetime: Duration) -> Result<Body, ReadError> {
        let mut url = self.url();
        let seconds = lifetime.as_secs();
        let _ = write!(
            url,
            "?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            Encoded(since)
        );
        self.select(&mut url);
        let accept = if self.metadata_only() { METADATA } else { JSON };
        Ok(send(client, &url, accept, || self.attempt("watch")).await?.into_body())
    }

    /// One object, whole.
    pub(crate) async fn get(&self, client: &Client, name: &str) -> Result<Buffer, ReadError> {
        let url = format!("{}/{}", self.url(), Encoded(name));
        let attempt = || {
            let namespace = self.namespace.as_deref().unwrap_or_default();
            format!("get {} {namespace}/{name}", self.watched.id)
        };
        let response = send(client, &url, JSON, attempt).await?;
        collect(response, OBJECT_LIMIT, self.is_confidential(), attempt).await
    }

    /// What is to be done, for an error: `list httproutes.gateway.networking.k8s.io in namespace infra`.
    pub(crate) fn attempt(&self, verb: &str) -> String {
        let (group, resource) = (self.watched.id.group, self.watched.resource);
        let dot = if group.is_empty() { "" } else { "." };
        match &self.namespace {
            Some(namespace) => format!("{verb} {resource}{dot}{group} in namespace {namespace}"),
            None => format!("{verb} {resource}{dot}{group}"),
        }
    }

    /// Group and version, as in an object.
    pub(crate) fn api_version(&self) -> String {
        match self.watched.id.group {
            "" => self.version.to_string(),
            group => format!("{group}/{}", self.version),
        }
    }

    fn url(&self) -> String {
        let mut url = match self.watched.id.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if let Some(namespace) = &self.namespace {
            let _ = write!(url, "/namespaces/{}", Encoded(namespace));
        }
        let _ = write!(url, "/{}", self.watched.resource);
        url
    }

    fn select(&self, url: &mut String) {
        if let Content::Owned(_) = self.watched.content {
            let _ = write!(url, "&labelSelector={}", Encoded(OWNED_SELECTOR));
        }
    }

    fn metadata_only(&self) -> bool {
        matches!(self.watched.content, Content::Bodies | Content::Definitions)
    }

    /// Even the metadata of a Secret may hold a copy of its values: kubectl leaves one in an annotation.
    pub(crate) fn is_confidential(&self) -> bool {
        self.watched.content == Content::Bodies
    }
}

/// The most that a page of a list may have; a page that has more is asked for in smaller ones.
const PAGE_LIMIT: usize = 64 << 20;
/// The most that an object may have: more than an API server stores.
pub(crate) const OBJECT_LIMIT: usize = 16 << 20;
/// The most that is read of an error.
const STATUS_LIMIT: usize = 64 << 10;

/// A document that is no object: discovery.
pub(crate) async fn document(client: &Client, path: &str) -> Result<Buffer, ReadError> {
    let attempt = || format!("read {path}");
    let response = send(client, path, JSON, attempt).await?;
    collect(response, PAGE_LIMIT, false, attempt).await
}

/// Sends a request and waits for the head of a good answer.
async fn send(
    client: &Client,
    url: &str,
    accept: HeaderValue,
    attempt: impl Fn() -> String,
) -> Result<Response<Body>, ReadError> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(url)
        .header(ACCEPT, accept)
        // From Kubernetes 1.37 on a watch would be compressed event by event.
        .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .body(Body::empty())
        .map_err(|error| ReadError::new(Problem::Malformed, attempt(), error))?;
    let response = match timeout(PATIENCE, client.send(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(ReadError::new(Problem::Unreachable, attempt(), chain(&error))),
        Err(_) => return Err(ReadError::new(Problem::Unreachable, attempt(), "no answer in time")),
    };
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = collect(response, STATUS_LIMIT, false, &attempt).await;
    let said: Status = body.ok().and_then(|body| serde_json::from_slice(body.as_slice()).ok()).unwrap_or_default();
    Err(said.into_error(status, retry_after, attempt()))
}

/// The body of an answer, if it is no larger than a limit and comes in time.
async fn collect(
    response: Response<Body>,
    limit: usize,
    confidential: bool,
    attempt: impl Fn() -> String,
) -> Result<Buffer, ReadError> {
    let mut body = response.into_body();
    let mut buffer = Buffer::new(confidential);
    let too_large = || ReadError::new(Problem::Malformed, attempt(), TOO_LARGE);
    while let Some(frame) = next_frame(&mut body, Instant::now() + PATIENCE, &attempt).await? {
        if buffer.len() + frame.len() > limit {
            return Err(too_large());
        }
        buffer.push(&frame);
    }
    Ok(buffer)
}

/// What a [`ReadError`] says of a body beyond its limit.
pub(crate) const TOO_LARGE: &str = "the answer is too large";

/// The next piece of a body; none at its end.
pub(crate) async fn next_frame(
    body: &mut Body,
    deadline: Instant,
    attempt: impl Fn() -> String,
) -> Result<Option<bytes::Bytes>, ReadError> {
    loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(ReadError::new(Problem::Unreachable, attempt(), "nothing came in time")),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(ReadError::new(Problem::Unreachable, attempt(), chain(&error))),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A `v1` Status, as far as it matters.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    code: Option<u16>,
    #[serde(default)]
    details: Option<StatusDetails>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusDetails {
    #[serde(default)]
    retry_after_seconds: Option<u64>,
}

impl Status {
    /// The error of an answer with this status.
    fn into_error(self, status: StatusCode, retry_after: Option<u64>, attempt: String) -> ReadError {
        let retry_after = retry_after.or(self.details.and_then(|details| details.retry_after_seconds));
        let problem = match status {
            StatusCode::UNAUTHORIZED => Problem::Unauthorized,
            StatusCode::FORBIDDEN => Problem::Forbidden,
            StatusCode::NOT_FOUND => Problem::NotFound,
            StatusCode::GONE => Problem::Expired,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Problem::Busy(retry_after.map(Duration::from_secs))
            }
            other => Problem::Refused(other.as_u16()),
        };
        ReadError::new(problem, attempt, self.message.unwrap_or_else(|| status.to_string()))
    }

    /// The error that a watch tells in a line.
    pub(crate) fn into_watch_error(self, attempt: String) -> ReadError {
        let status = self.code.and_then(|code| StatusCode::from_u16(code).ok());
        self.into_error(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), None, attempt)
    }
}

/// A text as a part of a path or query (RFC 3986 section 2.3).
struct Encoded<'a>(&'a str);

impl std::fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    f.write_char(char::from(byte))?
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::WATCHED;

    fn target(kind: &str, namespace: Option<&str>) -> Target {
        let watched = WATCHED.iter().find(|watched| watched.id.kind == kind).unwrap();
        Target { watched, version: "v1".into(), namespace: namespace.map(Arc::from) }
    }

    #[test]
    fn urls_are_those_of_the_api() {
        for (kind, namespace, expected) in [
            ("Secret", None, "/api/v1/secrets"),
            ("Secret", Some("a"), "/api/v1/namespaces/a/secrets"),
            ("HTTPRoute", None, "/apis/gateway.networking.k8s.io/v1/httproutes"),
            ("HTTPRoute", Some("a/../b?"), "/apis/gateway.networking.k8s.io/v1/namespaces/a%2F..%2Fb%3F/httproutes"),
        ] {
            assert_eq!(target(kind, namespace).url(), expected);
        }
        let mut url = String::new();
        target("Pod", None).select(&mut url);
        assert_eq!(url, "&labelSelector=app.kubernetes.io%2Fmanaged-by%3Dportcullis");
    }

    #[test]
    fn an_error_says_what_was_tried_and_what_to_do() {
        let status: Status =
            serde_json::from_str(r#"{"kind":"Status","code":403,"message":"secrets is\u001b forbidden","details":{}}"#)
                .unwrap();
        let error = status.into_error(StatusCode::FORBIDDEN, None, target("Secret", Some("a")).attempt("list"));
        assert_eq!(
            error.to_string(),
            "cannot list secrets in namespace a: secrets is\\u{1b} forbidden; \
             grant this to the ServiceAccount, as the chart's roles do"
        );
        let status: Status =
            serde_json::from_str(r#"{"code":429,"message":"slow","details":{"retryAfterSeconds":3}}"#).unwrap();
        let error = status.into_watch_error("watch pods".to_owned());
        assert_eq!(error.problem, Problem::Busy(Some(Duration::from_secs(3))));
    }
}
