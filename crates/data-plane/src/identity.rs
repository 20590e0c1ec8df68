//! This pod's certificate: asked for against its token, renewed at half of its life.
//!
//! In flow the token, as the file has it at the time, and the word of whoever finds the certificate unusable. Out flows the
//! certificate that is to be shown, whenever there is a new one. Without a certificate nothing is asked of the controller.

use crate::backoff::Backoff;
use crate::connection::{self, ConnectError};
use crate::key::{Key, KeyError};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::told::Told;
use crate::trust;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use portcullis_runtime::escape;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

const PATH: &str = "/v1/identity";
const TOKEN_LIMIT: u64 = 64 * 1024;
const ANSWER_LIMIT: usize = 64 * 1024;

/// For one request, the connection included: longer than the controller takes at most.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(25);

/// The least time between a certificate and the next, however short it lives or how often it is found unusable.
const SHORTEST: Duration = Duration::from_secs(1);

/// The most: a certificate of the controller lives for an hour. By a clock that is far behind it would seem to live longer, and would end
/// before it is renewed.
const LONGEST: Duration = Duration::from_secs(33 * 60);

/// Between two certificates when the first is found unusable: it is the controller that is away, most of the time.
const UNUSABLE: Duration = Duration::from_secs(10);

/// A certificate of the controller's authority, with its key.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certified: Arc<CertifiedKey>,
    /// Seconds since 1970.
    not_after: i64,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum IdentityError {
    #[error("the token {path}: {error}; is the projected volume mounted?")]
    Token { path: PathBuf, error: io::Error },
    #[error("the token {0} is not text that can be sent")]
    TokenText(PathBuf),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is too large or was cut off")]
    Body,
    #[error("no answer in time")]
    Timeout,
    #[error("refused with {status}: {body}")]
    Refused { status: StatusCode, body: String },
    #[error("the answer is not a certificate for the key that was sent: {0}")]
    Answer(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IdentityRequest<'a> {
    csr: &'a str,
    gateway: String,
    gateway_uid: &'a str,
    pod: &'a str,
}

/// What is trusted comes from the file alone; the bundle in the answer is passed over.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityResponse {
    certificate: String,
    not_after: i64,
}

/// Keeps a certificate, for ever.
pub(crate) async fn keep(
    options: Arc<Options>,
    metrics: Arc<Metrics>,
    unusable: Arc<Notify>,
    current: watch::Sender<Option<Arc<Identity>>>,
) {
    let mut backoff = Backoff::new();
    let mut told = Told::default();
    loop {
        let pause = match request(&options).await {
            Ok(identity) => {
                backoff.reset();
                told.nothing();
                metrics.identity(identity.not_after);
                let rest = renewal(identity.not_after, SystemTime::now());
                tracing::info!(
                    not_after = identity.not_after,
                    renewal_seconds = rest.as_secs(),
                    "certificate of the controller's authority"
                );
                current.send_replace(Some(Arc::new(identity)));
                let obtained = Instant::now();
                tokio::select! {
                    () = tokio::time::sleep(rest) => Duration::ZERO,
                    () = unusable.notified() => UNUSABLE.saturating_sub(obtained.elapsed()),
                }
            }
            Err(error) => {
                metrics.identity_failed();
                told.problem("no certificate from the controller; trying again", &error);
                backoff.pause()
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// How long until a certificate that ends then, in seconds since 1970, is to be renewed: half of what is left, a little earlier or later in
/// each pod.
fn renewal(not_after: i64, now: SystemTime) -> Duration {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let left = u64::try_from(not_after).map_or(Duration::ZERO, Duration::from_secs).saturating_sub(now);
    left.mul_f64(0.45 + fastrand::f64() / 10.0).clamp(SHORTEST, LONGEST)
}

async fn request(options: &Options) -> Result<Identity, IdentityError> {
    let token = token(options)?;
    let key = Key::generate()?;
    let csr = key.request()?;
    let body = IdentityRequest {
        csr: &csr,
        gateway: options.gateway.to_string(),
        gateway_uid: &options.gateway_uid,
        pod: &options.pod,
    };
    let body = serde_json::to_vec(&body).map_err(|error| IdentityError::Answer(error.to_string()))?;
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(PATH);
    let headers = request.headers_mut();
    headers.insert(header::AUTHORIZATION, token);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(host) = HeaderValue::try_from(options.identity.to_string()) {
        headers.insert(header::HOST, host);
    }
    let answer = timeout(REQUEST_TIMEOUT, exchange(options, request)).await.map_err(|_| IdentityError::Timeout)??;
    Identity::new(&key, &answer)
}

/// The token as the value of a header that is never shown.
fn token(options: &Options) -> Result<HeaderValue, IdentityError> {
    let path = || options.token_file.clone();
    let token = trust::bounded(&options.token_file, TOKEN_LIMIT);
    let token = Zeroizing::new(token.map_err(|error| IdentityError::Token { path: path(), error })?);
    let text = std::str::from_utf8(&token).map_err(|_| IdentityError::TokenText(path()))?.trim();
    let line = Zeroizing::new(format!("Bearer {text}"));
    let mut value = HeaderValue::from_str(&line).map_err(|_| IdentityError::TokenText(path()))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn exchange(options: &Options, request: Request<Full<Bytes>>) -> Result<IdentityResponse, IdentityError> {
    let stream = connection::open(&options.identity, &options.ca_file, None, b"http/1.1").await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answered = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        Ok::<_, IdentityError>((status, body.map_err(|_| IdentityError::Body)?.to_bytes()))
    };
    let answered = async {
        tokio::pin!(connection);
        tokio::pin!(answered);
        tokio::select! {
            biased;
            answered = &mut answered => answered,
            // What the connection has read until its end may be the whole answer.
            _ = &mut connection => answered.await,
        }
    };
    let (status, body) = answered.await?;
    if status != StatusCode::OK {
        let body = escape::line(&String::from_utf8_lossy(&body)).chars().take(200).collect();
        return Err(IdentityError::Refused { status, body });
    }
    serde_json::from_slice(&body).map_err(|error| IdentityError::Answer(error.to_string()))
}

impl Identity {
    fn new(key: &Key, answer: &IdentityResponse) -> Result<Self, IdentityError> {
        let wrong = |error: &dyn std::fmt::Display| IdentityError::Answer(error.to_string());
        let chain = CertificateDer::pem_slice_iter(answer.certificate.as_bytes());
        let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
        let certified = CertifiedKey::new(chain, key.for_tls()?);
        certified.keys_match().map_err(|error| wrong(&error))?;
        Ok(Self { certified: Arc::new(certified), not_after: answer.not_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60;
    const LIFETIME: i64 = 60 * MINUTE;
    const NOW: i64 = 1_795_000_000;

    /// As the controller's clock says; this pod's own may be wrong.
    fn renewed_at(skew: i64) -> i64 {
        let here = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(NOW + skew).unwrap());
        NOW + renewal(NOW + LIFETIME, here).as_secs() as i64
    }

    #[test]
    fn a_certificate_is_renewed_long_before_its_end_whatever_the_clock_says() {
        for skew in [0, -1, 1, -MINUTE, MINUTE, -5 * MINUTE, 5 * MINUTE, -LIFETIME, -24 * LIFETIME] {
            for _ in 0..100 {
                let at = renewed_at(skew);
                assert!(at < NOW + LIFETIME - 20 * MINUTE, "{skew}: {at}");
                assert!(at > NOW, "{skew}: {at}");
            }
        }
        for skew in [-MINUTE, MINUTE] {
            assert!(renewed_at(skew) > NOW + 25 * MINUTE, "nor much too soon");
        }
        // A clock that is beyond the end asks once a second, no more.
        assert_eq!(renewed_at(2 * LIFETIME), NOW + 1);
    }
}
