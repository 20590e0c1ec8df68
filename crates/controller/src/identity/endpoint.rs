//! The identity endpoint: `POST /v1/identity` over TLS, for data planes that have no certificate yet.
//!
//! In flow connections of anybody who reaches the port. Out flow certificates, or a class of error (`{"error":"owner"}`) that
//! says no more than the caller could know. The bounds: connections in all, and per address at a time and by time, one request per connection,
//! the size of head and body, the time for all of it, questions to the API server in all, and per address at a time and by time.
//!
//! None of them is by the Gateway that a caller claims: nothing of that is certain before the questions, and whoever reaches the port could
//! use up what is another's.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_model::ObjectName;
use portcullis_runtime::drain::{DrainWatch, Kind};
use portcullis_runtime::metrics::{Counter, Family, Label, MetricError, Registry};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::authority::Authority;
use super::issue::{Claim, IdentityRequest, Issuer, Known, Refusal};
use super::rate::{Lines, Places, Rate, Turns};

/// The only path.
pub const PATH: &str = "/v1/identity";

/// Open connections.
const CONNECTIONS: usize = 1024;
/// Those of one address: many pods may stand behind one address of a node.
const CONNECTIONS_EACH: usize = 64;
/// Requests that ask the API server at a time.
const QUESTIONS: usize = 16;
/// Those of one address.
const QUESTIONS_EACH: usize = 4;
const BODY_LIMIT: usize = 16 * 1024;
const HEAD_LIMIT: usize = 16 * 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For the answer, the turn among the questions included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// For the whole connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// The endpoint, bound to its port.
pub(crate) struct Endpoint {
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    issuer: Issuer,
    connections: Arc<Semaphore>,
    questions: Turns,
    asked: Mutex<Rate>,
    outcomes: Family<Counter, 1>,
    /// Anybody who reaches the port can make refusals: they must not fill the log.
    refusals: Lines,
    /// A data plane can ask as often as it likes: nor must this.
    issued: Lines,
}

/// What came of a connection besides refusals.
enum Outcome {
    Issued,
    Refused(Refusal),
    /// 503: the API server or the authority is away, or too many ask.
    Unavailable,
    /// 429: this address asks more often than its pods could need.
    Throttled,
    /// 401: no bearer token.
    NoToken,
    /// 404, 405, 413: not a request of a data plane.
    NotARequest(StatusCode),
    /// Closed without an answer: a limit of connections.
    Limited,
    /// Closed without an answer: no TLS.
    Handshake,
}

impl Outcome {
    fn label(&self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Refused(refusal) => refusal.label(),
            Self::Unavailable => "unavailable",
            Self::Throttled => "throttled",
            Self::NoToken => "no_token",
            Self::NotARequest(_) => "not_a_request",
            Self::Limited => "limited",
            Self::Handshake => "handshake",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Issued => StatusCode::OK,
            Self::Refused(refusal) => refusal.status(),
            Self::Unavailable | Self::Limited | Self::Handshake => StatusCode::SERVICE_UNAVAILABLE,
            Self::Throttled => StatusCode::TOO_MANY_REQUESTS,
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::NotARequest(status) => *status,
        }
    }
}

impl Endpoint {
    /// Binds the port. `known` says what this controller knows about a Gateway at the moment.
    pub(crate) async fn bind(
        address: SocketAddr,
        client: kube::Client,
        authority: Arc<Authority>,
        known: impl Fn(&ObjectName) -> Known + Send + Sync + 'static,
        registry: &Registry,
    ) -> Result<Self, BindError> {
        let outcomes = registry.counters(
            "portcullis_identity_requests_total",
            "Requests of data planes for a certificate, by outcome: issued, unavailable, or why not.",
            [Label::closed("outcome")],
            24,
        )?;
        let shared = Shared {
            issuer: Issuer { client, authority, known: Box::new(known) },
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            questions: Turns::new(QUESTIONS, QUESTIONS_EACH),
            asked: Mutex::new(Rate::of_questions()),
            outcomes,
            refusals: Lines::default(),
            issued: Lines::default(),
        };
        let listener = TcpListener::bind(address).await.map_err(|error| BindError::Bind { address, error })?;
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// The address that was bound.
    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the drain begins; what is open has its own short time.
    pub(crate) async fn serve(self, drain: DrainWatch) {
        let mut rate = Rate::of_connections();
        let places = Places::new(CONNECTIONS_EACH);
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.draining() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    // Out of descriptors or memory: they come back with time only.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let seat = self.shared.connections.clone().try_acquire_owned();
            let place = places.take(peer.ip());
            match seat.ok().zip(place).filter(|_| rate.allows(peer.ip(), Instant::now())) {
                Some(seat) => {
                    let (shared, guard, drain) = (self.shared.clone(), drain.guard(Kind::Connection), drain.clone());
                    tokio::spawn(async move {
                        let served = tokio::time::timeout(CONNECTION_TIMEOUT, connection(stream, peer.ip(), shared));
                        tokio::select! {
                            _ = served => {}
                            () = drain.forced() => {}
                        }
                        drop((seat, guard));
                    });
                }
                None => self.shared.count(&Outcome::Limited),
            }
        }
    }
}

/// Why a port could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken or not of this machine.
    #[error("cannot listen on {address}: {error}; choose another address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// A metric was registered twice.
    #[error(transparent)]
    Metric(#[from] MetricError),
}

async fn connection(stream: TcpStream, peer: IpAddr, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    // Without an authority there is no certificate to show; the data plane comes again.
    let Some(current) = shared.issuer.authority.current() else { return shared.count(&Outcome::Unavailable) };
    let handshake = TlsAcceptor::from(current.identity.clone()).accept(stream);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await else {
        return shared.count(&Outcome::Handshake);
    };
    let service = service_fn(|request: Request<Incoming>| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(shared.answer(request, peer).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_headers(32)
        .max_buf_size(HEAD_LIMIT);
    // A connection that broke has nobody to be told.
    let _ = pin!(builder.serve_connection(TokioIo::new(stream), service)).await;
}

impl Shared {
    fn count(&self, outcome: &Outcome) {
        self.outcomes.with([outcome.label()]).add_shared(1);
    }

    async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Full<Bytes>> {
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, self.outcome(request, peer)).await;
        let (outcome, body) = answered.unwrap_or_else(|_| {
            if let Some(others) = self.refusals.next() {
                tracing::warn!(
                    others,
                    "a data plane waits for its certificate: the API server does not answer in time"
                );
            }
            (Outcome::Unavailable, None)
        });
        self.count(&outcome);
        respond(&outcome, body)
    }

    async fn outcome(&self, request: Request<Incoming>, peer: IpAddr) -> (Outcome, Option<Vec<u8>>) {
        if request.uri().path() != PATH {
            return (Outcome::NotARequest(StatusCode::NOT_FOUND), None);
        }
        if request.method() != Method::POST {
            return (Outcome::NotARequest(StatusCode::METHOD_NOT_ALLOWED), None);
        }
        let Some(token) = bearer(request.headers()) else { return (Outcome::NoToken, None) };
        let Ok(body) = Limited::new(request.into_body(), BODY_LIMIT).collect().await else {
            return (Outcome::NotARequest(StatusCode::PAYLOAD_TOO_LARGE), None);
        };
        let Ok(request) = serde_json::from_slice::<IdentityRequest>(&body.to_bytes()) else {
            return (Outcome::Refused(Refusal::Malformed), None);
        };
        let claim = match Claim::read(&token, &request) {
            Ok(claim) => claim,
            Err(refusal) => return self.refused(&request, refusal),
        };
        if !self.asked.lock().unwrap_or_else(PoisonError::into_inner).allows(peer, Instant::now()) {
            return (Outcome::Throttled, None);
        }
        let Some(_turn) = self.questions.take(peer).await else { return (Outcome::Unavailable, None) };
        match self.issuer.issue(&token, &claim).await {
            Ok(Ok(response)) => {
                if let Some(others) = self.issued.next() {
                    tracing::info!(gateway = %request.gateway, pod = %request.pod, others, "a data plane got its certificate");
                }
                (Outcome::Issued, serde_json::to_vec(&response).ok())
            }
            Ok(Err(refusal)) => self.refused(&request, refusal),
            Err(error) => {
                if let Some(others) = self.refusals.next() {
                    tracing::warn!(%error, others, "a data plane waits for its certificate");
                }
                (Outcome::Unavailable, None)
            }
        }
    }

    fn refused(&self, request: &IdentityRequest, refusal: Refusal) -> (Outcome, Option<Vec<u8>>) {
        if let Some(others) = self.refusals.next() {
            let (gateway, pod) = (request.gateway.to_string(), &request.pod);
            let (gateway, pod) = (portcullis_runtime::escape::line(&gateway), portcullis_runtime::escape::line(pod));
            let reason = refusal.label();
            tracing::warn!(%gateway, %pod, reason, others, "no certificate for who claims to be a data plane");
        }
        (Outcome::Refused(refusal), None)
    }
}

fn bearer(headers: &http::HeaderMap) -> Option<Zeroizing<String>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Zeroizing::new(token.trim().to_owned()))
}

fn respond(outcome: &Outcome, body: Option<Vec<u8>>) -> Response<Full<Bytes>> {
    let body = body.unwrap_or_else(|| format!("{{\"error\":\"{}\"}}\n", outcome.label()).into_bytes());
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = outcome.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match outcome {
        Outcome::Unavailable | Outcome::Throttled => {
            drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")))
        }
        Outcome::NoToken => drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        _ => {}
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_token_is_read() {
        let headers = |values: &[&str]| {
            let mut headers = http::HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(|token| token.to_string())
        };
        assert_eq!(headers(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(headers(&["bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(headers(&[]), None);
        assert_eq!(headers(&["Basic abc"]), None);
        assert_eq!(headers(&["Bearer"]), None);
        assert_eq!(headers(&["Bearer a", "Bearer b"]), None);
    }
}
