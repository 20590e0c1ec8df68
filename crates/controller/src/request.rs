//! One request to the API server, bounded in time and size, and what came of it in the terms that callers act on.

use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::client::Body;
use serde_json::Value;

/// The largest answer that is read. The API server itself stores objects of up to 1.5 MiB.
const ANSWER_LIMIT: usize = 4 << 20;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The object, or its kind, does not exist.
    #[error("it does not exist")]
    NotFound,
    /// It has changed since it was read, or exists already.
    #[error("it was changed by another")]
    Conflict,
    /// Asking again as it is would not help.
    #[error("the API server refuses it with {code}: {message}")]
    Refused {
        /// The code of HTTP.
        code: u16,
        /// What the API server says.
        message: String,
    },
    /// Asking again later may help.
    #[error("the API server is busy ({code}): {message}")]
    Busy {
        /// The code of HTTP.
        code: u16,
        /// What the API server says.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The answer is larger than what is read.
    #[error("the answer of the API server is larger than {} MiB", ANSWER_LIMIT >> 20)]
    TooLarge,
    /// No whole answer came.
    #[error("no answer from the API server: {0}")]
    Unreachable(String),
}

/// Asks the API server and reads its answer as JSON. A patch is a server-side apply, or, where it is a list, a JSON patch.
pub(crate) async fn send(
    client: &kube::Client,
    method: Method,
    path: &str,
    body: Option<&Value>,
    limit: Duration,
) -> Result<Value, Failure> {
    let content_type = match body {
        Some(Value::Array(_)) if method == Method::PATCH => "application/json-patch+json",
        _ if method == Method::PATCH => "application/apply-patch+yaml",
        _ => "application/json",
    };
    let request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
    let request = match body {
        Some(body) => {
            request.header(header::CONTENT_TYPE, content_type).body(Body::from(body.to_string().into_bytes()))
        }
        None => request.body(Body::empty()),
    };
    let request = request.map_err(|error| Failure::Unreachable(error.to_string()))?;
    match tokio::time::timeout(limit, exchange(client, request)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Unreachable(format!("none within {} ms", limit.as_millis()))),
    }
}

async fn exchange(client: &kube::Client, request: Request<Body>) -> Result<Value, Failure> {
    let response = client.send(request).await.map_err(|error| Failure::Unreachable(error.to_string()))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_LIMIT).collect().await;
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| match error.is::<LengthLimitError>() {
        true => Failure::TooLarge,
        false => Failure::Unreachable(error.to_string()),
    };
    let body = body.map_err(broken)?.to_bytes();
    if head.status.is_success() {
        // The text of the error names a place, never the content.
        return serde_json::from_slice(&body).map_err(|error| Failure::Unreachable(format!("not JSON: {error}")));
    }
    let code = head.status.as_u16();
    let message = message(&body);
    Err(match head.status {
        StatusCode::NOT_FOUND => Failure::NotFound,
        StatusCode::CONFLICT => Failure::Conflict,
        StatusCode::TOO_MANY_REQUESTS => Failure::Busy { code, message, retry_after: retry_after(&head.headers) },
        status if status.is_server_error() => Failure::Busy { code, message, retry_after: retry_after(&head.headers) },
        _ => Failure::Refused { code, message },
    })
}

/// What a `Status` object says, as one line.
fn message(body: &[u8]) -> String {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = status["message"].as_str().unwrap_or("without a message");
    portcullis_runtime::escape::line(text).into_owned()
}

fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(u64::min(seconds, 60)))
}
